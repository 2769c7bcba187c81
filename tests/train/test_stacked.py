"""Several seeds in one pass come to what each comes to alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptertune import config
from adaptertune.data.batches import Batch, join
from adaptertune.model.build import share_frozen
from adaptertune.model.classifier import Classifier, logits
from adaptertune.model.dropout import Dropout
from adaptertune.model.methods import is_stackable
from adaptertune.train.checkpoint import trained_tensors
from adaptertune.train.gradients import Gradients
from adaptertune.train.loop import Diverged, Lane, Outcome, Stopped
from tests.classifiers import build
from tests.train.test_loop import TRAINING, Recorder, assert_same, parameters, run, run_together

METHODS: list[config.Method] = [
    config.Adapter(size=8, init_std=1e-2, activation="gelu"),
    config.Adapter(size=8, init_std=1e-2, activation="relu", layers=(1,)),
    config.LayerNorm(),
    config.Adapter(size=8, init_std=1e-2, activation="gelu", layernorms="none", pooler="trained"),
]
SEEDS = (3, 0, 8)


def without_dropout(model: Classifier) -> Classifier:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.backbone.dropout_rate = 0.0
    return model


def stack(folder: Path, method: config.Method, outputs: int = 2) -> list[Classifier]:
    models = [build(folder, method, outputs=outputs, seed=seed) for seed in SEEDS]
    for model in models[1:]:
        share_frozen(model, models[0])
    return models


@pytest.mark.parametrize("task", ["rte", "stsb"])
@pytest.mark.parametrize("method", METHODS, ids=["adapter", "upper", "layernorm", "pooler"])
def test_each_seed_comes_to_what_it_comes_to_alone(
    tiny_bert: Path, method: config.Method, task: str
) -> None:
    """Own order, own length of batch, the short last batch at another step for each."""
    outputs = 1 if task == "stsb" else 2
    together = [without_dropout(model) for model in stack(tiny_bert, method, outputs)]
    lanes = [Lane(seed, m, Recorder()) for seed, m in zip(SEEDS, together, strict=True)]
    outcomes = run_together(lanes, task=task)
    for seed, model, outcome in zip(SEEDS, together, outcomes, strict=True):
        alone = without_dropout(build(tiny_bert, method, outputs=outputs, seed=seed))
        expected = run(alone, Recorder(), task=task, seed=seed)
        assert isinstance(outcome, Outcome)
        np.testing.assert_allclose(outcome.logits, expected.logits, atol=1e-5, rtol=1e-5)
        theirs = trained_tensors(alone)
        for name, tensor in trained_tensors(model).items():
            torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=1e-5, msg=name)
        assert outcome.kept.epoch == expected.kept.epoch


def test_parts_stay_small_where_another_seeds_batch_is_the_last_short_one(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 44 rows in batches of 21 the last has two, at another step for each seed."""
    training = TRAINING.model_copy(update={"batch_size": 21, "epochs": 2})
    together = [without_dropout(model) for model in stack(tiny_bert, METHODS[0])]
    lanes = [Lane(seed, m, Recorder()) for seed, m in zip(SEEDS, together, strict=True)]
    rows: list[list[int]] = []
    add = Gradients.add

    def counted(self: Gradients, batches: Sequence[Batch], *more: Any) -> torch.Tensor:
        rows.append([len(batch.tokens) for batch in batches])
        return add(self, batches, *more)

    monkeypatch.setattr(Gradients, "add", counted)
    outcomes = run_together(lanes, training, num_parts=7)
    assert {max(part) for part in rows} == {3}
    assert any(min(part) == 1 for part in rows)
    for seed, model, outcome in zip(SEEDS, together, outcomes, strict=True):
        alone = without_dropout(build(tiny_bert, METHODS[0], seed=seed))
        expected = run(alone, Recorder(), training, seed=seed)
        assert isinstance(outcome, Outcome)
        np.testing.assert_allclose(outcome.logits, expected.logits, atol=1e-5, rtol=1e-5)
        theirs = trained_tensors(alone)
        for name, tensor in trained_tensors(model).items():
            torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=1e-5, msg=name)


def test_frozen_weights_are_held_once(tiny_bert: Path) -> None:
    first, *others = stack(tiny_bert, METHODS[0])
    owned = {name: p.data_ptr() for name, p in first.named_parameters()}
    for model in others:
        for name, p in model.named_parameters():
            assert (p.data_ptr() == owned[name]) != p.requires_grad, name


def test_masks_differ_from_seed_to_seed(tiny_bert: Path) -> None:
    """The same model twice on the same rows: without dropout the same logits, with it others."""
    model = build(tiny_bert, METHODS[0])
    tokens = torch.arange(5, 12).repeat(6, 1)
    segments = torch.zeros_like(tokens)
    one, other = logits([model, model], tokens, segments, None)
    torch.testing.assert_close(one, other)
    one, other = logits([model, model], tokens, segments, None, Dropout(1, torch.device("cpu")))
    assert not torch.allclose(one, other, atol=1e-4)


def test_a_diverging_seed_does_not_touch_the_others(tiny_bert: Path) -> None:
    models = [without_dropout(model) for model in stack(tiny_bert, METHODS[0])]
    with torch.no_grad():
        models[1].head.weight.fill_(torch.inf)
    lanes = [Lane(seed, m, Recorder()) for seed, m in zip(SEEDS, models, strict=True)]
    one, bad, other = run_together(lanes)
    assert isinstance(bad, Diverged)
    for seed, outcome in ((SEEDS[0], one), (SEEDS[2], other)):
        alone = without_dropout(build(tiny_bert, METHODS[0], seed=seed))
        expected = run(alone, Recorder(), seed=seed)
        assert isinstance(outcome, Outcome)
        np.testing.assert_allclose(outcome.logits, expected.logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stop_at", [1, 4, 6, 7, 8, 15, 20])
def test_resumed_together_equals_uninterrupted_bitwise(tiny_bert: Path, stop_at: int) -> None:
    """Dropout on; the stop comes after steps and inside any seed's evaluation."""
    whole = stack(tiny_bert, METHODS[0])
    run_together([Lane(s, m, Recorder()) for s, m in zip(SEEDS, whole, strict=True)])
    first = stack(tiny_bert, METHODS[0])
    for asked in range(len(SEEDS)):
        lanes = [
            Lane(seed, model, Recorder(stop_at if number == asked else None))
            for number, (seed, model) in enumerate(zip(SEEDS, first, strict=True))
        ]
        with pytest.raises(Stopped) as stopped:
            run_together(lanes)
        again = stack(tiny_bert, METHODS[0])
        kept = stopped.value.snapshots
        run_together([Lane(s, m, Recorder(), kept[s]) for s, m in zip(SEEDS, again, strict=True)])
        for one, other in zip(whole, again, strict=True):
            assert_same(parameters(one), parameters(other))
        first = stack(tiny_bert, METHODS[0])


@pytest.mark.parametrize("stop_at", [4, 6, 10])
def test_resumed_beside_one_that_diverged_equals_uninterrupted_bitwise(
    tiny_bert: Path, stop_at: int
) -> None:
    """Stopped in the epoch in which it diverges, at its very end, and in the one after it."""

    def spoilt() -> list[Classifier]:
        models = stack(tiny_bert, METHODS[0])
        with torch.no_grad():
            models[0].head.weight.fill_(torch.inf)
        return models

    whole, first, again = spoilt(), spoilt(), spoilt()
    expected = run_together([Lane(s, m, Recorder()) for s, m in zip(SEEDS, whole, strict=True)])
    lanes = [
        Lane(seed, model, Recorder(stop_at if seed == SEEDS[1] else None))
        for seed, model in zip(SEEDS, first, strict=True)
    ]
    with pytest.raises(Stopped) as stopped:
        run_together(lanes)
    kept = stopped.value.snapshots
    assert len({kept[seed].facts["step"] for seed in SEEDS}) == 1
    found = run_together(
        [Lane(s, m, Recorder(), kept[s]) for s, m in zip(SEEDS, again, strict=True)]
    )
    assert isinstance(expected[0], Diverged)
    assert isinstance(found[0], Diverged)
    assert found[0].epoch == expected[0].epoch == 1
    for one, other in zip(whole[1:], again[1:], strict=True):
        assert_same(parameters(one), parameters(other))


def test_join_pads_rows_and_columns() -> None:
    ones = torch.ones(2, 3, dtype=torch.int64)
    short = Batch(2 * ones[:1, :2], ones[:1, :2], None, None)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    joined = join([Batch(ones, ones, mask, None), short])
    assert joined.tokens.tolist() == [[1, 1, 1], [1, 1, 1], [2, 2, 0], [0, 0, 0]]
    assert joined.mask is not None
    assert joined.mask.tolist() == [
        [True, True, True],
        [True, False, False],
        [True, True, False],
        [False, False, False],
    ]
    full = Batch(ones, ones, None, None)
    assert join([full, full]).mask is None
    assert join([full]) is full


def test_only_methods_with_frozen_products_are_stackable() -> None:
    assert all(is_stackable(method) for method in METHODS)
    for method in (config.Full(), config.TopLayers(k=1), config.BitFit()):
        assert not is_stackable(method)
