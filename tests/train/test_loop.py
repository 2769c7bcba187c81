"""Training: resumed runs against uninterrupted ones, selection of epochs, divergence."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptertune import config, tasks
from adaptertune.data.encode import Encoded, starts_of
from adaptertune.errors import DataError
from adaptertune.model.classifier import Classifier, loss
from adaptertune.train import evaluate, loop
from adaptertune.train.checkpoint import read_tensors, trained_tensors, write_tensors
from adaptertune.train.device import float32_products
from adaptertune.train.loop import (
    Diverged,
    EpochRecord,
    Lane,
    Outcome,
    Snapshot,
    Stopped,
    _Fitting,
    _Pass,
    fit,
)
from tests.classifiers import build

TRAINING = config.Training(
    learning_rate=1e-2,
    epochs=3,
    batch_size=8,
    max_length=32,
    warmup=0.1,
    weight_decay=0.01,
    epsilon=1e-6,
    clip_norm=1.0,
    bias_correction=True,
    trunk_dropout=False,
    drop_last=False,
    keep_epoch="best",
)
METHODS: list[config.Method] = [
    config.Adapter(size=8, init_std=1e-2, activation="gelu"),
    config.Full(),
    config.LayerNorm(),
]


class Recorder:
    """A watcher that keeps what it hears, and stops at a given step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.asked = 0
        self.records: Sequence[EpochRecord] = ()

    def step(self, step: int, mean_loss: float, examples_per_second: float) -> None:
        assert np.isfinite(mean_loss)

    def evaluating(self, num_examples: int) -> None:
        pass

    def epoch(self, records: Sequence[EpochRecord]) -> None:
        self.records = list(records)

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_at


class SavesEveryStep:
    """A saver that keeps all in memory."""

    def __init__(self) -> None:
        self.kept: list[Mapping[int, Snapshot]] = []

    def is_due(self) -> bool:
        return True

    def keep(self, snapshots: Mapping[int, Snapshot]) -> None:
        self.kept.append(snapshots)


def made(name: str, count: int, seed: int, regression: bool = False) -> Encoded:
    """Examples whose label is whether word 10 occurs: learnable, of all lengths from 4 to 20."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 21, count)
    rows = [np.concatenate([[2], rng.integers(5, 50, n - 2), [3]]) for n in lengths]
    labels = rng.integers(0, 2, count)
    for row, label in zip(rows, labels, strict=True):
        row[row == 10] = 11
        if label:
            row[1] = 10
    return Encoded(
        name=name,
        tokens=np.concatenate(rows).astype(np.int32),
        segments=np.zeros(int(lengths.sum()), dtype=np.uint8),
        starts=starts_of(lengths),
        lengths=lengths,
        labels=(labels * 5).astype(np.float32) if regression else labels,
        num_truncated=0,
    )


def run(
    model: Classifier,
    watcher: Recorder,
    training: config.Training = TRAINING,
    task: str = "rte",
    seed: int = 0,
    resume: Snapshot | None = None,
) -> Outcome:
    (outcome,) = run_together([Lane(seed, model, watcher, resume)], training, task)
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


def run_together(
    lanes: Sequence[Lane],
    training: config.Training = TRAINING,
    task: str = "rte",
    saver: SavesEveryStep | None = None,
    num_parts: int = 1,
) -> list[Outcome | Diverged]:
    regression = task == "stsb"
    return fit(
        lanes,
        tasks.load(task),
        made("train", 44, 1, regression),
        made("validation", 20, 2, regression),
        training,
        device=torch.device("cpu"),
        num_parts=num_parts,
        saver=saver,
    )


def parameters(model: Classifier) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def timeless(records: Sequence[EpochRecord]) -> list[EpochRecord]:
    return [replace(r, train_seconds=0, evaluate_seconds=0, examples_per_second=0) for r in records]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("bias_correction", [True, False])
# Asked after each of an epoch's 6 steps and after its evaluation's one batch.
@pytest.mark.parametrize("stop_at", [1, 4, 6, 7, 8, 20, 21])
def test_resumed_equals_uninterrupted_bitwise(
    tiny_bert: Path, tmp_path: Path, method: config.Method, bias_correction: bool, stop_at: int
) -> None:
    training = TRAINING.model_copy(update={"bias_correction": bias_correction})
    whole = build(tiny_bert, method)
    expected = run(whole, Recorder(), training)

    first = build(tiny_bert, method)
    with pytest.raises(Stopped) as stopped:
        run(first, Recorder(stop_at), training)
    (kept,) = stopped.value.snapshots.values()
    write_tensors(tmp_path / "s.safetensors", kept.tensors, kept.facts)
    second = build(tiny_bert, method)
    resumed = run(
        second, Recorder(), training, resume=Snapshot(*read_tensors(tmp_path / "s.safetensors"))
    )

    assert_same(parameters(whole), parameters(second))
    assert timeless(expected.records) == timeless(resumed.records)
    assert expected.kept.epoch == resumed.kept.epoch
    assert np.array_equal(expected.logits, resumed.logits)


def test_snapshots_do_not_disturb_the_training(tiny_bert: Path) -> None:
    quiet, watched = (build(tiny_bert, METHODS[0]) for _ in range(2))
    run(quiet, Recorder())
    saver = SavesEveryStep()
    run_together([Lane(0, watched, Recorder())], saver=saver)
    assert [kept[0].facts["step"] for kept in saver.kept] == list(range(1, 19))
    assert_same(parameters(quiet), parameters(watched))


def test_only_what_trains_changes(tiny_bert: Path) -> None:
    model = build(tiny_bert, METHODS[0])
    before = parameters(model)
    run(model, Recorder())
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(trained_tensors(model))


def test_equal_seeds_are_equal_and_others_differ(tiny_bert: Path) -> None:
    models = [build(tiny_bert, METHODS[0]) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        run(model, Recorder(), seed=seed)
    assert_same(parameters(models[0]), parameters(models[1]))
    assert not torch.equal(models[0].head.weight, models[2].head.weight), "order and dropout differ"


def test_the_global_generator_is_left_as_it_was(tiny_bert: Path) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    run(build(tiny_bert, METHODS[0]), Recorder())
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_learns(tiny_bert: Path) -> None:
    training = TRAINING.model_copy(update={"epochs": 12})
    outcome = run(build(tiny_bert, METHODS[1]), Recorder(), training)
    assert outcome.kept.values["accuracy"] == 1.0
    assert outcome.records[-1].train_loss < 0.5 * outcome.records[0].train_loss


def test_regression_learns(tiny_bert: Path) -> None:
    """A loss of shape (batch, 1) against (batch,) would only learn the mean."""
    training = TRAINING.model_copy(update={"epochs": 12})
    outcome = run(build(tiny_bert, METHODS[1], outputs=1), Recorder(), training, task="stsb")
    pearson = outcome.kept.values["pearson"]
    assert pearson is not None
    assert pearson > 0.9


def test_best_epoch_is_kept_and_its_parameters_are_in_the_model(tiny_bert: Path) -> None:
    from adaptertune.train.evaluate import logits

    training = TRAINING.model_copy(update={"epochs": 6, "learning_rate": 3e-2})
    model = build(tiny_bert, METHODS[0])
    outcome = run(model, Recorder(), training)
    scores = [record.values["accuracy"] or 0.0 for record in outcome.records]
    assert outcome.kept.epoch == 1 + scores.index(max(scores)), "the first of equals"
    again = logits(model, made("validation", 20, 2), torch.device("cpu"))
    assert np.array_equal(again, outcome.logits)


def test_last_epoch_is_kept_on_request(tiny_bert: Path) -> None:
    training = TRAINING.model_copy(update={"keep_epoch": "last"})
    outcome = run(build(tiny_bert, METHODS[0]), Recorder(), training)
    assert outcome.kept == outcome.records[-1]


def test_incomplete_batch_is_dropped_on_request(tiny_bert: Path) -> None:
    training = TRAINING.model_copy(update={"drop_last": True})
    recorder = Recorder()
    run(build(tiny_bert, METHODS[0]), recorder, training)
    assert recorder.asked == 3 * (5 + 1)
    with pytest.raises(DataError, match="do not fill one batch of 64"):
        run(build(tiny_bert, METHODS[0]), recorder, training.model_copy(update={"batch_size": 64}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_divergence_is_named(tiny_bert: Path, precision: str) -> None:
    model = build(tiny_bert, METHODS[0], precision=precision)
    with torch.no_grad():
        model.head.weight.fill_(torch.inf)
    with pytest.raises(Diverged, match="not finite in epoch 1"):
        run(model, Recorder())


def test_a_model_that_diverged_is_given_up(tiny_bert: Path) -> None:
    """With all that its training held, without waiting for the collector: a GPU's memory is little."""
    model = build(tiny_bert, METHODS[0])
    with torch.no_grad():
        model.head.weight.fill_(torch.inf)
    known = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        found = run_together([Lane(0, model, Recorder())])
        del model
        assert isinstance(found[0], Diverged)
        assert known() is None
    finally:
        gc.enable()


def test_predictions_are_as_exact_as_records(tiny_bert: Path) -> None:
    """A training in bf16 on a GPU has its fp32 products in TF32; `predict` has no such setting."""
    model, asked = build(tiny_bert, METHODS[0]), []
    with float32_products("high"):
        model.register_forward_hook(lambda *_: asked.append(torch.get_float32_matmul_precision()))
        evaluate.logits(model, made("validation", 20, 2), torch.device("cpu"))
        assert torch.get_float32_matmul_precision() == "high"
    assert set(asked) == {"highest"}


def test_collapse_is_named(tiny_bert: Path) -> None:
    training = TRAINING.model_copy(update={"learning_rate": 1e-12})
    model = build(tiny_bert, METHODS[0])
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([5.0, -5.0]))
    outcome = run(model, Recorder(), training)
    assert outcome.kept.collapsed


def test_loss_is_the_mean_over_the_batch() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = np.mean([np.log(1 + np.exp(-2.0)), np.log(1 + np.exp(1.0))])
    assert loss(logits, torch.tensor([0, 0])).item() == pytest.approx(expected, rel=1e-6)
    scores = loss(torch.tensor([[1.0], [4.0]]), torch.tensor([2.0, 4.0]))
    assert scores.item() == pytest.approx(0.5)


def test_bf16_follows_fp32(tiny_bert: Path) -> None:
    """What trains stays fp32; computing in bf16 changes the first epoch's loss in the third digit."""
    models = [build(tiny_bert, METHODS[0], precision=precision) for precision in ("fp32", "bf16")]
    losses = [run(model, Recorder()).records[0].train_loss for model in models]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    types = {
        (p.requires_grad, p.dtype)
        for n, p in models[1].named_parameters()
        if "dense" in n or "up" in n
    }
    assert types == {(True, torch.float32), (False, torch.bfloat16)}


def test_a_step_looks_at_no_number(tiny_bert: Path) -> None:
    """On CUDA each look would wait for the device: here it is one whose tensors have no numbers."""
    meta = torch.device("meta")
    models = [build(tiny_bert, METHODS[0], seed=seed).to(meta) for seed in (0, 1)]
    splits = made("train", 44, 1), made("validation", 20, 2)
    fittings = [
        _Fitting(Lane(seed, model, Recorder()), tasks.load("rte"), *splits, TRAINING, meta, 2)
        for seed, model in enumerate(models)
    ]
    for fitting in fittings:
        fitting.begin_epoch()
    together = _Pass(fittings, by_graph=False)
    for _ in range(3):
        together._step(fittings)
    assert [fitting.step for fitting in fittings] == [3, 3]
    with pytest.raises((RuntimeError, NotImplementedError)):
        fittings[0].report()  # this one looks


def test_what_a_device_still_has_to_do_is_part_of_the_time(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA only queues a step: whoever then waits for it, the wait belongs to the training."""
    monkeypatch.setattr(loop, "clock", lambda device: time.perf_counter() + 1000)
    watcher = Recorder()
    run(build(tiny_bert, METHODS[0]), watcher)
    assert all(record.train_seconds >= 1000 for record in watcher.records)
    assert all(record.examples_per_second <= 44 / 1000 for record in watcher.records)
