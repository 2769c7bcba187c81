"""Which steps are recorded, and that a replay reads its own batch (test_cuda.py has the graphs)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptertune import config
from adaptertune.data import batches as data
from adaptertune.data.batches import Batch
from adaptertune.model.classifier import Classifier
from adaptertune.model.dropout import Dropout
from adaptertune.train import gradients
from adaptertune.train.gradients import Gradients, Placed
from tests.classifiers import build

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ADAPTER = config.Adapter(size=8, init_std=1e-2, activation="gelu")


@dataclass
class Recorded:
    """A graph's stand-in: computes what was recorded from the tensors that it was recorded on."""

    owner: Gradients
    placed: Placed

    def replay(self, placed: Placed) -> torch.Tensor:
        if placed is not self.placed:
            self.placed.copy(placed)
        return self.owner._backward(self.placed, Dropout(0, CPU), [1.0])


def by_graph(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> tuple[Gradients, list[Any]]:
    recorded: list[Any] = []

    def record(self: Gradients, placed: Placed, _: Dropout) -> Recorded:
        recorded.append(placed.key())
        return Recorded(self, placed)

    monkeypatch.setattr(Gradients, "_record", record)
    monkeypatch.setattr(Gradients, "_has_room", lambda _: True)
    return Gradients([model], CPU, trunk_dropout=True, by_graph=True), recorded


def of_lengths(*lengths: int) -> list[Batch]:
    rng = torch.Generator().manual_seed(1)
    found = []
    for length in lengths:
        tokens = torch.randint(5, 50, (4, length), generator=rng)
        found.append(Batch(tokens, torch.zeros_like(tokens), None, tokens[:, 0] % 2))
    return found


def test_a_shape_is_recorded_when_it_comes_again(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, recorded = by_graph(build(tiny_bert, ADAPTER), monkeypatch)
    counts = []
    for batch in of_lengths(12, 16, 12, 12, 16, 20, 16):
        found.add([batch], 0, [1.0])
        counts.append(len(recorded))
    assert counts == [0, 0, 1, 1, 2, 2, 2]
    assert len(set(recorded)) == 2


def test_parts_of_a_step_are_never_recorded(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, recorded = by_graph(build(tiny_bert, ADAPTER), monkeypatch)
    for batch in of_lengths(12, 12, 12):
        found.add([batch], 0, [0.5])
    assert recorded == []


def test_there_are_only_so_many(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "MOST_GRAPHS", 1)
    found, recorded = by_graph(build(tiny_bert, ADAPTER), monkeypatch)
    for batch in of_lengths(12, 12, 16, 16, 16, 12):
        found.add([batch], 0, [1.0])
    assert len(recorded) == 1


def test_a_replay_is_of_its_own_batch(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, masks and tokens: what was recorded on may hold the batch before it."""
    plain, other = (build(tiny_bert, ADAPTER) for _ in range(2))
    graphed, recorded = by_graph(other, monkeypatch)
    launched = Gradients([plain], CPU, trunk_dropout=True, by_graph=False)
    for number, batch in enumerate(of_lengths(12, 12, 12, 12)):
        batch = replace(batch, mask=torch.arange(12).expand(4, 12) < 12 - number)
        values = [each.add([batch], 0, [1.0]).clone() for each in (launched, graphed)]
        assert torch.equal(*values)
    assert len(recorded) == 1
    theirs = dict(other.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, theirs[name].grad), name


@pytest.mark.parametrize(
    ("longest", "num_positions", "length"),
    [(1, 64, 8), (8, 64, 8), (9, 64, 16), (60, 60, 60), (61, 62, 62), (64, 64, 64)],
)
def test_on_a_gpu_lengths_are_few_and_always_masked(
    monkeypatch: pytest.MonkeyPatch, longest: int, num_positions: int, length: int
) -> None:
    for module in (data, gradients):
        monkeypatch.setattr(module, "moved", lambda tensor, device: tensor)
    (batch,) = of_lengths(longest)
    found = Placed.of([batch], CUDA, num_positions).joint
    assert found.tokens.shape == (4, length)
    assert found.mask is not None
    assert found.mask.sum(1).tolist() == [longest] * 4
    assert Placed.of([batch], CPU, num_positions).joint.mask is None


def test_without_memory_for_both_steps_are_launched(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 GB allocated and 10 at most: 6 are activations, of which twelve must be free for two sets."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 4)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 10)
    has_room = Gradients._has_room
    for free, recorded_shapes in ((11, 0), (12, 1)):
        found, recorded = by_graph(build(tiny_bert, ADAPTER), monkeypatch)
        monkeypatch.setattr(Gradients, "_has_room", has_room)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 80))
        for batch in of_lengths(12, 12, 12):
            found.add([batch], 0, [1.0])
        assert len(recorded) == recorded_shapes


def test_where_memory_ends_what_is_recorded_is_replayed(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds its memory anyway."""
    found, recorded = by_graph(build(tiny_bert, ADAPTER), monkeypatch)
    rooms = iter([True, False])
    monkeypatch.setattr(Gradients, "_has_room", lambda _: next(rooms))
    replayed, replay = list[int](), Recorded.replay

    def listening(self: Recorded, placed: Placed) -> torch.Tensor:
        replayed.append(placed.joint.tokens.shape[1])
        return replay(self, placed)

    monkeypatch.setattr(Recorded, "replay", listening)
    for batch in of_lengths(12, 12, 16, 16, 12, 16):
        found.add([batch], 0, [1.0])
    assert len(recorded) == 1
    assert replayed == [12, 12]


def test_memory_that_runs_out_while_recording_is_told_as_such(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending the recording fails then, too, and halving the batch must still be thought of."""

    @contextlib.contextmanager
    def recording(graph: object, pool: object, stream: object) -> Iterator[None]:
        assert stream == "a stream of this GPU"
        try:
            yield
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    def crowded(*_: object) -> None:
        raise torch.OutOfMemoryError

    found = Gradients([build(tiny_bert, ADAPTER)], CPU, trunk_dropout=True, by_graph=True)
    (batch,) = of_lengths(12)
    found.add([batch], 0, [1.0])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(
        torch.cuda, "Stream", lambda device: f"a stream of this {'GPU' * (device == CPU)}"
    )
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(found, "_has_room", lambda: True)
    with pytest.raises(RuntimeError, match="previous error"):
        found.add([batch], 0, [1.0])
    monkeypatch.setattr(found, "_backward", crowded)
    with pytest.raises(torch.OutOfMemoryError):
        found.add([batch], 0, [1.0])
