from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptertune.data import held_out
from adaptertune.data.encode import Encoded, starts_of
from adaptertune.errors import DataError


def split(labels: np.ndarray) -> Encoded:
    lengths = np.full(len(labels), 3)
    return Encoded(
        name="train",
        tokens=np.arange(3 * len(labels), dtype=np.int32),
        segments=np.zeros(3 * len(labels), np.uint8),
        starts=starts_of(lengths),
        lengths=lengths,
        labels=labels,
        num_truncated=0,
    )


@given(st.lists(st.integers(5, 400), min_size=2, max_size=4))
def test_every_row_is_in_one_part_and_classes_keep_their_share(sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    train = split(np.random.default_rng(0).permutation(labels))
    stays, held = held_out.divide(train)
    assert held.name == "held-out"
    assert len(held) == round(0.1 * len(train))
    assert sorted([*stays.starts, *held.starts]) == train.starts.tolist()
    assert stays.labels is not None
    assert held.labels is not None
    assert len(stays.labels) == len(stays)
    for label, size in enumerate(sizes):
        expected = size * len(held) / len(train)
        assert abs(int((held.labels == label).sum()) - expected) <= 1
    # Labels went with their texts.
    for part in (stays, held):
        assert part.labels is not None
        assert train.labels is not None
        assert part.labels.tolist() == train.labels[part.starts // 3].tolist()


def test_scores_are_spread_over_the_range() -> None:
    scores = np.random.default_rng(1).uniform(0, 5, 1000).astype(np.float32)
    _, held = held_out.divide(split(scores))
    assert held.labels is not None
    ranks = np.searchsorted(np.sort(scores), held.labels)
    assert np.histogram(ranks, 10, (0, 1000))[0].tolist() == [10] * 10


def test_the_same_rows_every_time_and_a_random_choice_within_a_class() -> None:
    labels = np.repeat([0, 1], 500)
    _, first = held_out.divide(split(labels))
    _, again = held_out.divide(split(labels))
    assert first.starts.tolist() == again.starts.tolist()
    rows = first.starts[:50] // 3
    assert len(set(np.diff(rows))) > 10  # not every tenth row


def test_a_large_set_gives_no_more_than_it_must() -> None:
    assert held_out.num_held_out(392_702) == 5_000
    assert held_out.num_held_out(635) == 64
    with pytest.raises(DataError, match="too few"):
        held_out.num_held_out(4)
