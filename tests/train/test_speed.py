"""What the measuring counts, against counts by other means. No test depends on how fast anything is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptertune import config
from adaptertune.data.batches import Indices, padded_length
from adaptertune.model.dropout import Dropout
from adaptertune.model.inject import adapted_outputs
from adaptertune.train import speed
from tests.classifiers import build
from tests.train.test_loop import METHODS, TRAINING, made

CPU = torch.device("cpu")
TRAIN = made("train", 40, seed=0)
LARGEST = np.arange(8)


def trainee(tiny_bert: Path, method: config.Method, precision: str = "fp32") -> speed.Trainee:
    return speed.Trainee(build(tiny_bert, method, precision=precision), TRAIN, TRAINING, CPU)


def test_allocations_are_those_of_torch_and_of_numpy() -> None:
    start = torch.ones(250_000, requires_grad=True)
    by_numpy = []

    def forward() -> torch.Tensor:
        by_numpy.append(np.ones(500_000, dtype=np.uint8))
        for _ in range(3):
            start.detach() + 1  # a megabyte each that is not kept
        return start.exp()  # keeps its result, a megabyte

    def backward(value: torch.Tensor) -> None:
        # two more: the one given and the one found
        torch.autograd.grad(value, start, torch.ones_like(value))

    kept, peak = speed.allocated_on_cpu(forward, backward)
    assert kept == pytest.approx(1_500_000, rel=0.01)
    assert peak == pytest.approx(3_500_000, rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_memory_against_parameters_and_saved_tensors(
    tiny_bert: Path, method: config.Method, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = trainee(tiny_bert, method, precision)
    learner.step(LARGEST)
    found = learner.memory(LARGEST)
    parameters = list(learner.model.parameters())
    trained = 4 * sum(p.numel() for p in parameters if p.requires_grad)
    assert (found.trained_weights, found.gradients) == (trained, trained)
    assert found.optimizer == 2 * trained
    assert found.trained_weights + found.frozen_weights == sum(p.nbytes for p in parameters)
    # Autograd's own account, what the fused layers keep beside it, and the masks.
    storages: dict[int, int] = {}

    def account(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    draw = Dropout.mask
    masks = []

    def mask(self: Dropout, *arguments: object) -> tuple[torch.Tensor, float]:
        keep, factor = draw(self, *arguments)  # type: ignore[arg-type]
        masks.append(keep)
        return keep, factor

    monkeypatch.setattr(Dropout, "mask", mask)
    placed = learner._placed(LARGEST)
    with torch.autograd.graph.saved_tensors_hooks(account, lambda tensor: tensor):
        value = learner._loss(placed)
    for tensor in [*masks, *kept_by_the_layers(value)]:
        account(tensor)
    for parameter in parameters:
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    for given in placed.tensors():  # there before
        if given is not None:
            storages.pop(given.untyped_storage().data_ptr(), None)
    assert found.activations == pytest.approx(sum(storages.values()), rel=0.005)
    assert found.peak > sum(p.nbytes for p in parameters) + found.optimizer + found.activations
    del value


def kept_by_the_layers(value: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that the fused layers' node in a loss's graph keeps."""
    nodes: list[Any] = [value.grad_fn]
    while not hasattr(nodes[0], "kept"):
        nodes += [node for node, _ in nodes.pop(0).next_functions if node is not None]
    found = list(nodes[0].kept)
    while found:
        part = found.pop()
        if isinstance(part, torch.Tensor):
            yield part
        elif isinstance(part, tuple | list):
            found += part


def test_typical_batches_stand_for_the_epoch() -> None:
    lengths = np.random.default_rng(0).lognormal(3.3, 0.6, 3000).astype(np.int64).clip(4, 128)
    batches, largest = speed.typical_batches(lengths, TRAINING, 12)

    def tokens(indices: Indices) -> int:
        return len(indices) * int(padded_length(lengths[indices]).max())

    everything, _ = speed.typical_batches(lengths, TRAINING, 10**6)
    assert sorted(np.concatenate(everything)) == list(range(3000))
    assert tokens(largest) == max(map(tokens, everything))
    mean = np.mean([tokens(indices) for indices in everything])
    assert len(batches) == 12
    assert np.mean([tokens(indices) for indices in batches]) == pytest.approx(mean, rel=0.05)
    assert tokens(batches[0]) < mean < tokens(batches[-1])


def test_the_contenders_take_turns(tiny_bert: Path) -> None:
    trainees = {str(method): trainee(tiny_bert, method) for method in METHODS[:2]}
    batches, _ = speed.typical_batches(TRAIN.lengths, TRAINING, 3)
    heard: list[str] = []
    times = speed.time_steps(
        trainees,
        batches,
        5,
        lambda number: heard.append(f"batch {number}"),
        lambda done: heard.append(f"step {done}"),
    )
    assert heard == [
        "batch 0", "step 1", "step 2", "batch 1", "step 3", "step 4", "batch 2", "step 5", "step 6",
        "batch 0", "step 7", "step 8", "batch 1", "step 9", "step 10",
    ]  # fmt: skip
    assert list(times) == list(trainees)
    for by_batch in times.values():
        assert len(by_batch) == 3
        # The last batch had one step, so its parts are those of that step.
        assert sum(astuple(by_batch[2])[:-1]) == pytest.approx(by_batch[2].total)


def test_the_mean_step() -> None:
    times = [speed.StepTime(1, 2, 3, 4, 10), speed.StepTime(3, 2, 1, 0, 8)]
    assert speed.mean_step(times) == speed.StepTime(2, 2, 2, 2, 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_rate_is_a_rate(dtype: torch.dtype) -> None:
    assert 1e5 < speed.product_rate(64, 32, 64, dtype, CPU) < 1e15


def test_the_product_rate_where_torch_has_no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Mac."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    assert 1e5 < speed.product_rate(64, 32, 64, torch.float32, CPU) < 1e15


def test_a_batch_of_the_median_length() -> None:
    batch = speed.median_batch(TRAIN, 32)
    median = int(np.sort(TRAIN.lengths)[20])
    assert batch.tokens.shape == (32, padded_length(np.array([median]))[0])


def test_latency_with_and_without_adapters(tiny_bert: Path) -> None:
    inputs = {size: speed.median_batch(TRAIN, size) for size in (1, 4)}
    for method in METHODS:
        model = build(tiny_bert, method)
        passes: list[list[bool]] = []
        model.register_forward_hook(
            lambda module, *_, passes=passes: passes.append(
                [block.removed for _, block in adapted_outputs(module.backbone)]
            )
        )
        rounds: list[int] = []
        found = speed.latencies(model, inputs, CPU, 3, rounds.append)
        assert rounds == [1, 2, 3, 4, 5]
        assert list(found) == [1, 4]
        for latency in found.values():
            assert len(latency.own) == 3
            assert min(latency.own) > 0
            if isinstance(method, config.Adapter):
                assert len(latency.without or ()) == 3
            else:
                assert latency.without is None
        if isinstance(method, config.Adapter):
            assert passes == [[False] * 4, [True] * 4] * 10
            assert not any(block.removed for _, block in adapted_outputs(model.backbone))
