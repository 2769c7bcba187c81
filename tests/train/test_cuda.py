"""What only a GPU can show; without one these tests are left out.

pytest tests/train/test_cuda.py
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptertune import config, tasks
from adaptertune.model import forward
from adaptertune.model.build import share_frozen
from adaptertune.model.classifier import Classifier
from adaptertune.model.dropout import Dropout
from adaptertune.train import evaluate, loop, timing, trunk
from adaptertune.train.checkpoint import trained_tensors
from adaptertune.train.gradients import Gradients, Placed, _Graph
from adaptertune.train.loop import Lane, Outcome, Snapshot, Stopped
from tests import classifiers
from tests.train.test_loop import TRAINING, Recorder, assert_same, made, parameters
from tests.train.test_stacked import SEEDS, without_dropout

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
ADAPTER = config.Adapter(size=8, init_std=1e-2, activation="gelu")
UPPER = ADAPTER.model_copy(update={"layers": (1,)})
NORMED = ADAPTER.model_copy(update={"norm": "batch"})
METHODS: list[config.Method] = [
    ADAPTER, UPPER, NORMED, config.Full(), config.LayerNorm(), config.LoRA(rank=4, alpha=8)
]  # fmt: skip
build = partial(classifiers.build, device=str(GPU))
KINDS = ("roberta", "distilbert", "electra", "deberta-v2")

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _compiles_anew() -> Iterator[None]:
    yield
    torch._dynamo.reset()
    forward.compiled_layer.cache_clear()


def train(
    lanes: Sequence[Lane], device: torch.device = GPU, *, by_graph: bool = True
) -> list[Outcome]:
    found = loop.fit(
        lanes,
        tasks.load("rte"),
        made("train", 44, 1),
        made("validation", 20, 2),
        TRAINING,
        device=device,
        by_graph=by_graph and device.type == "cuda",
    )
    outcomes = [one for one in found if isinstance(one, Outcome)]
    assert len(outcomes) == len(lanes)
    return outcomes


def alone(model: Classifier, resume: Snapshot | None = None, **how: Any) -> Outcome:
    return train([Lane(0, model, Recorder(), resume)], **how)[0]


def assert_close(one: Classifier, other: Classifier, tolerance: float = 1e-4) -> None:
    theirs = trained_tensors(other)
    for name, tensor in trained_tensors(one).items():
        torch.testing.assert_close(
            tensor.cpu(), theirs[name].cpu(), atol=tolerance, rtol=tolerance, msg=name
        )


@pytest.mark.parametrize(
    "method",
    [method for method in METHODS if method != NORMED],  # its statistics count padding: more here
    ids=lambda method: method.name,
)
def test_a_training_comes_to_what_it_comes_to_on_a_cpu(
    tiny_bert: Path, method: config.Method
) -> None:
    here, there = (without_dropout(build(tiny_bert, method, device=str(on))) for on in (CPU, GPU))
    expected, found = alone(here, device=CPU), alone(there)
    np.testing.assert_allclose(found.logits, expected.logits, atol=2e-4, rtol=1e-3)
    assert_close(there, here, 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_come_to_what_they_come_to_on_a_cpu(
    tiny_kind: Callable[[str], Path], kind: str
) -> None:
    here, there = (
        without_dropout(build(tiny_kind(kind), ADAPTER, device=str(on))) for on in (CPU, GPU)
    )
    expected, found = alone(here, device=CPU), alone(there)
    np.testing.assert_allclose(found.logits, expected.logits, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_replayed_steps_are_the_launched_ones_bitwise(
    tiny_bert: Path, method: config.Method, precision: str
) -> None:
    """Dropout on: the same masks too."""
    plain, graphed = (build(tiny_bert, method, precision=precision) for _ in range(2))
    expected, found = alone(plain, by_graph=False), alone(graphed)
    assert_same(parameters(plain), parameters(graphed))
    assert np.array_equal(expected.logits, found.logits)


def test_steps_are_replayed(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed: list[torch.cuda.CUDAGraph] = []
    replay = _Graph.replay

    def heard(self: _Graph, placed: Placed) -> torch.Tensor:
        replayed.append(self.graph)
        return replay(self, placed)

    monkeypatch.setattr(_Graph, "replay", heard)
    alone(build(tiny_bert, ADAPTER))
    assert len(set(map(id, replayed))) > 1
    assert len(replayed) > 8  # of 18


@pytest.mark.parametrize("by_graph", [True, False])
@pytest.mark.parametrize("stop_at", [1, 4, 7, 11, 20])
@pytest.mark.parametrize("method", [ADAPTER, config.Full()], ids=lambda method: method.name)
def test_resumed_equals_uninterrupted_bitwise(
    tiny_bert: Path, method: config.Method, stop_at: int, by_graph: bool
) -> None:
    whole, first, second = (build(tiny_bert, method, precision="bf16") for _ in range(3))
    expected = alone(whole, by_graph=by_graph)
    with pytest.raises(Stopped) as stopped:
        train([Lane(0, first, Recorder(stop_at))], by_graph=by_graph)
    found = alone(second, stopped.value.snapshots[0], by_graph=by_graph)
    assert_same(parameters(whole), parameters(second))
    assert np.array_equal(expected.logits, found.logits)


@pytest.mark.parametrize("is_compiled", [False, True])
def test_seeds_in_one_pass_come_to_what_they_come_to_alone(
    tiny_bert: Path, is_compiled: bool
) -> None:
    stack = [
        without_dropout(build(tiny_bert, ADAPTER, seed=seed, is_compiled=is_compiled))
        for seed in SEEDS
    ]
    for model in stack[1:]:
        share_frozen(model, stack[0])
    train([Lane(seed, model, Recorder()) for seed, model in zip(SEEDS, stack, strict=True)])
    for seed, model in zip(SEEDS, stack, strict=True):
        single = without_dropout(build(tiny_bert, ADAPTER, seed=seed))
        train([Lane(seed, single, Recorder())])
        assert_close(model, single, 1e-3)


def test_seeds_in_one_pass_come_to_an_end_in_bf16_with_dropout(tiny_bert: Path) -> None:
    """Where one has the short last batch of an epoch, rows without a token stand beside the others."""
    stack = [build(tiny_bert, ADAPTER, seed=seed, precision="bf16") for seed in SEEDS]
    for model in stack[1:]:
        share_frozen(model, stack[0])
    train([Lane(seed, model, Recorder()) for seed, model in zip(SEEDS, stack, strict=True)])


@pytest.mark.parametrize(
    "method", [ADAPTER, config.Full(), config.LoRA(rank=4, alpha=8)], ids=lambda method: method.name
)
def test_compiled_layers_are_the_layers(tiny_bert: Path, method: config.Method) -> None:
    plain = without_dropout(build(tiny_bert, method))
    compiled = without_dropout(build(tiny_bert, method, is_compiled=True))
    expected, found = alone(plain), alone(compiled)
    np.testing.assert_allclose(found.logits, expected.logits, atol=2e-4, rtol=1e-3)
    assert_close(compiled, plain, 1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", [ADAPTER, config.Full()], ids=lambda method: method.name)
def test_a_step_waits_for_nothing_on_the_host(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, method: config.Method, precision: str
) -> None:
    """torch raises where the host would wait. Recording is left out, which happens once a shape."""
    step, record = loop._Pass._step, Gradients._record

    @contextlib.contextmanager
    def mode(name: str) -> Iterator[None]:
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode(name)
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def watched(self: Any, fittings: Any) -> None:
        with mode("error"):
            step(self, fittings)

    def unwatched(self: Any, *arguments: Any) -> Any:
        with mode("default"):
            return record(self, *arguments)

    monkeypatch.setattr(loop._Pass, "_step", watched)
    monkeypatch.setattr(Gradients, "_record", unwatched)
    for by_graph in (False, True):
        alone(build(tiny_bert, method, precision=precision), by_graph=by_graph)


def test_hidden_states_of_frozen_layers_are_kept_and_serve(tiny_bert: Path, tmp_path: Path) -> None:
    model = build(tiny_bert, UPPER, precision="bf16")
    splits = [made("train", 44, 1), made("validation", 20, 2)]
    found = trunk.with_hidden(
        model, splits, trunk.Place(tmp_path, 1e9, "d"), GPU, lambda _done, _all: None, pytest.fail
    )
    assert found is not None
    for known, split in zip(found[0], splits, strict=True):
        ours, theirs = (evaluate.logits(model, each, GPU) for each in (known, split))
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answers_are_those_of_a_cpu(tiny_bert: Path, precision: str) -> None:
    split = made("validation", 20, 2)
    ours, theirs = (
        evaluate.logits(build(tiny_bert, ADAPTER, device=str(on), precision=precision), split, on)
        for on in (GPU, CPU)
    )
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    np.testing.assert_allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_its_share_and_the_mean(rate: float) -> None:
    count = 1 << 22
    found = Dropout(3, GPU)(torch.ones(count, device=GPU), rate)
    share = float((found == 0).float().mean())
    assert abs(share - rate) < 5 * (rate * (1 - rate) / count) ** 0.5
    torch.testing.assert_close(
        found[found != 0], torch.full_like(found[found != 0], 1 / (1 - rate))
    )


def test_a_forecast_changes_nothing(tiny_bert: Path) -> None:
    plain, measured = (build(tiny_bert, NORMED) for _ in range(2))
    splits = made("train", 44, 1), [made("validation", 20, 2)]
    found = timing.measure({0: measured}, *splits, TRAINING, GPU, 1.0, by_graph=True)
    assert found.step > 0
    assert all(parameter.grad is None for parameter in measured.parameters())
    alone(plain)
    alone(measured)
    assert_same(parameters(plain), parameters(measured))


def test_where_memory_runs_out_batches_are_halved(
    tiny_bert: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    """Adapters of 8,192 numbers a token do not fit into the 300 MB that are lent here."""
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3e8 / total)
    try:
        done = cli(
            "train", "--task", "rte", "--offline", "--backbone", tiny_bert, "--size", "8192",
            "--seeds", "1", "--epochs", "1", "--max-length", "64", "--device", "cuda",
            "--precision", "fp32", "--batch-size", "64",
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert done.code == 0, done.err
    assert "out of memory; they begin anew with" in " ".join((done.out + done.err).split())
