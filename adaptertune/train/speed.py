"""How fast this machine trains and answers, and what of its memory that takes.

Everything is measured on real batches, after a warm-up. What is compared is measured in turn, so that
whatever else the machine does falls on all alike; and a batch's time is the median of its repetitions.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from adaptertune import seeds
from adaptertune.config import Training
from adaptertune.data.batches import Batch, Indices, collate, padded_length, training_batches
from adaptertune.data.encode import Encoded
from adaptertune.model import fused
from adaptertune.model.classifier import Classifier
from adaptertune.model.dropout import Dropout
from adaptertune.model.inject import adapted_outputs, adapters_removed
from adaptertune.train import optim
from adaptertune.train.device import clock
from adaptertune.train.gradients import Gradients, Placed, losses

PRODUCT_REPEATS = 5
MARK = "forward done"  # in the profiler's record
WARM_ROUNDS = 2  # of inference, not counted
# Steps over which the rate rises from 0: it stays near it, so what is measured hardly changes.
LONG_TRAINING = 1_000_000


@dataclass(frozen=True)
class StepTime:
    """Seconds of a training step: its parts, each waited for, and the whole as it runs in a training."""

    batch: float  # making it and bringing it to the device
    forward: float
    backward: float
    optimizer: float
    total: float


@dataclass(frozen=True)
class Memory:
    """Bytes of a model in training, at the largest batch.

    Attributes:
        activations: what the forward pass leaves for the backward pass, dropout masks included.
        peak: weights and moments, and the most that was allocated beside them during a step.
    """

    trained_weights: int
    frozen_weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int


@dataclass(frozen=True)
class Latency:
    """Seconds of each forward pass; ``without``: adapters removed, None if there are none."""

    own: tuple[float, ...]
    without: tuple[float, ...] | None


class Trainee:
    """A model in training, step by step under the clock. The model changes, hardly."""

    def __init__(
        self,
        model: Classifier,
        train: Encoded,
        training: Training,
        device: torch.device,
        *,
        by_graph: bool = False,
    ) -> None:
        self.model, self.device = model, device
        self._train, self._training = train, training
        rising = training.model_copy(update={"warmup": 1.0})
        self._optimizer = optim.of_training(model.named_parameters(), rising, LONG_TRAINING)
        self._gradients = Gradients(
            [model], device, trunk_dropout=training.trunk_dropout, by_graph=by_graph
        )

    def warm_up(self, batches: Sequence[Indices]) -> None:
        """Let memory and kernels be made; on CUDA, graphs too, when a batch comes the second time."""
        is_cuda = self.device.type == "cuda"
        for indices in [*batches, *batches] if is_cuda else [batches[-1], batches[0]]:
            self.step(indices)

    def step(self, indices: Indices) -> StepTime:
        """A timed step. On CUDA it is done twice, for waiting for each part makes it longer."""
        marks = self._step(indices)
        total = marks[-1] - marks[0]
        if self.device.type == "cuda":
            start = clock(self.device)
            self._gradients.add([collate(self._train, indices)], self._optimizer.step_count, [1.0])
            self._optimizer.step()
            total = clock(self.device) - start
        batch, forward, backward, optimizer = (b - a for a, b in itertools.pairwise(marks))
        return StepTime(batch, forward, backward, optimizer, total)

    def _step(self, indices: Indices) -> list[float]:
        marks = [clock(self.device)]
        placed = self._placed(indices)
        marks.append(clock(self.device))
        value = self._loss(placed)
        marks.append(clock(self.device))
        value.backward()  # type: ignore[no-untyped-call]
        marks.append(clock(self.device))
        self._optimizer.step()
        marks.append(clock(self.device))
        return marks

    def _placed(self, indices: Indices) -> Placed:
        positions = self.model.backbone.num_positions
        return Placed.of([collate(self._train, indices)], self.device, positions)

    def _loss(self, placed: Placed) -> torch.Tensor:
        dropout = Dropout(self._optimizer.step_count, self.device)
        (value,) = losses([self.model], placed, dropout, trunk_dropout=self._training.trunk_dropout)
        return value

    def memory(self, indices: Indices) -> Memory:
        """What a step on these examples takes; the steps before it have made the moments."""
        placed = self._placed(indices)
        gradients = 0
        held = sum(p.grad.nbytes for p in self.model.parameters() if p.grad is not None)

        def backward(value: torch.Tensor) -> None:
            nonlocal gradients
            value.backward()  # type: ignore[no-untyped-call]
            gradients = sum(p.grad.nbytes for p in self.model.parameters() if p.grad is not None)
            self._optimizer.step()

        if self.device.type == "cuda":
            found = allocated_on_cuda(lambda: self._loss(placed), backward, self.device)
        else:
            found = allocated_on_cpu(lambda: self._loss(placed), backward)
        activations, growth = found
        weights = {True: 0, False: 0}
        for parameter in self.model.parameters():
            weights[parameter.requires_grad] += parameter.nbytes
        moments = sum(tensor.nbytes for tensor in self._optimizer.state().values())
        return Memory(
            trained_weights=weights[True],
            frozen_weights=weights[False],
            gradients=gradients,
            optimizer=moments,
            activations=activations,
            peak=sum(weights.values()) + moments + held + growth,
        )


def typical_batches(
    lengths: Indices, training: Training, count: int
) -> tuple[list[Indices], Indices]:
    """Some of an epoch's batches, each standing for an equal share of it, and its largest.

    The epoch's batches are sorted by padded tokens and cut into ``count`` runs; each run gives its
    middle one.
    """
    order = training_batches(
        lengths, training.batch_size, seeds.generator(0, "order", 0), drop_last=training.drop_last
    )
    order.sort(key=lambda indices: len(indices) * int(padded_length(lengths[indices]).max()))
    count = min(count, len(order))
    middles = [int((number + 0.5) * len(order) / count) for number in range(count)]
    return [order[middle] for middle in middles], order[-1]


def time_steps(
    trainees: Mapping[str, Trainee],
    batches: Sequence[Indices],
    num_steps: int,
    between: Callable[[int], None],
    on_step: Callable[[int], None],
) -> dict[str, list[StepTime]]:
    """Each trainee's times of each batch: the medians of ``num_steps`` steps, round and round.

    The trainees take their steps in turn. ``between`` is called with a batch's number before they
    do, ``on_step`` with the number of steps done, all trainees' together.
    """
    found: dict[str, list[list[StepTime]]] = {name: [[] for _ in batches] for name in trainees}
    for trainee in trainees.values():
        trainee.warm_up(batches)
    for step in range(num_steps):
        number = step % len(batches)
        between(number)
        for place, (name, trainee) in enumerate(trainees.items(), 1):
            found[name][number].append(trainee.step(batches[number]))
            on_step(step * len(trainees) + place)
    return {
        name: [_by_part(statistics.median, times) for times in by_batch]
        for name, by_batch in found.items()
    }


def mean_step(times: Sequence[StepTime]) -> StepTime:
    """The mean over batches that stand for equal shares of an epoch."""
    return _by_part(statistics.fmean, times)


def _by_part(statistic: Callable[[list[float]], float], times: Sequence[StepTime]) -> StepTime:
    names = [field.name for field in fields(StepTime)]
    return StepTime(*(statistic([getattr(time, name) for time in times]) for name in names))


def product_rate(
    rows: int, inner: int, outer: int, dtype: torch.dtype, device: torch.device
) -> float:
    """Operations a second of this machine's own (rows, inner) by (inner, outer) product."""
    left = torch.randn(rows, inner, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    weight = torch.full((outer, inner), 0.5, dtype=dtype, device=device)
    shift = torch.zeros(outer, dtype=dtype, device=device)
    num_products = 50 if device.type == "cuda" else 1  # launched without a wait in between
    if fused.is_supported(left):  # its operation
        operation = torch.ops.mkldnn._linear_pointwise

        def product() -> None:
            operation(left, weight, shift, "none", [], "")
    else:

        def product() -> None:
            torch.mm(left, weight.t())

    seconds = []
    with torch.inference_mode():
        product()
        for _ in range(PRODUCT_REPEATS):
            start = clock(device)
            for _ in range(num_products):
                product()
            seconds.append((clock(device) - start) / num_products)
    return 2 * rows * inner * outer / statistics.median(seconds)


def median_batch(encoded: Encoded, size: int) -> Batch:
    """A batch of ``size`` examples of the median length, over again if there are not so many."""
    lengths = padded_length(encoded.lengths)
    median = np.sort(lengths)[len(lengths) // 2]
    return collate(encoded, np.resize(np.flatnonzero(lengths == median), size))


def latencies(
    model: Classifier,
    batches: Mapping[int, Batch],
    device: torch.device,
    rounds: int,
    on_round: Callable[[int], None],
    layers: Iterable[int] | None = None,
) -> dict[int, Latency]:
    """``rounds`` forward passes by batch size, in turn with and without the adapters.

    ``on_round`` is called with the number of rounds done, the warm ones included. ``layers``: only
    these layers' adapters are taken away.
    """
    layers = set(layers or (layer for layer, _ in adapted_outputs(model.backbone)))
    own: dict[int, list[float]] = {size: [] for size in batches}
    without: dict[int, list[float]] = {size: [] for size in batches}

    def passes(batch: Batch) -> float:
        start = clock(device)
        model(batch.tokens, batch.segments, batch.mask)
        return clock(device) - start

    on_device = {size: batch.to(device) for size, batch in batches.items()}
    with torch.inference_mode():
        for done in range(1, WARM_ROUNDS + rounds + 1):
            for size, batch in on_device.items():
                own[size].append(passes(batch))
                if layers:
                    with adapters_removed(model.backbone, layers):
                        without[size].append(passes(batch))
            on_round(done)
    return {
        size: Latency(
            tuple(own[size][WARM_ROUNDS:]), tuple(without[size][WARM_ROUNDS:]) if layers else None
        )
        for size in batches
    }


def allocated_on_cuda(
    forward: Callable[[], torch.Tensor],
    backward: Callable[[torch.Tensor], None],
    device: torch.device,
) -> tuple[int, int]:
    """Bytes that ``forward`` leaves allocated, and the most that both had allocated at a time."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    value = forward()
    kept = torch.cuda.memory_allocated(device) - before
    backward(value)
    return kept, torch.cuda.max_memory_allocated(device) - before


def allocated_on_cpu(
    forward: Callable[[], torch.Tensor], backward: Callable[[torch.Tensor], None]
) -> tuple[int, int]:
    """The same on a CPU, where torch tells it to its profiler, and numpy (dropout) to Python's.

    What numpy has when ``forward`` ends counts throughout, so the most is rather too high than low.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it writes on standard error else
    only_numpy = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    tracemalloc.start()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            value = forward()
            with record_function(MARK):
                pass
            traces = tracemalloc.take_snapshot().filter_traces([only_numpy])
            backward(value)
            del value
    finally:
        tracemalloc.stop()
    assert profiler.profiler is not None
    # torch's summary counts what an operation frees at its end, and the layers are one operation:
    # each allocation and each freeing is in the record behind it.
    record = profiler.profiler.kineto_results.events()
    marked = next(event.start_ns() for event in record if event.name() == MARK)
    changes = [(event.start_ns(), event.nbytes()) for event in record if event.name() == "[memory]"]
    by_numpy = sum(trace.size for trace in traces.traces)
    now = kept = peak = 0
    for moment, change in sorted(changes):
        now += change
        peak = max(peak, now)
        if moment <= marked:
            kept = now
    return kept + by_numpy, peak + by_numpy
