"""How long a training will take, from a few of its own batches. Nothing is changed by it.

The model keeps its parameters, its gradients are none again, and the global generators keep their state:
a training is bitwise the same with and without a forecast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from adaptertune import seeds
from adaptertune.config import Training
from adaptertune.data.batches import (
    Indices,
    collate,
    evaluation_batches,
    padded_length,
    training_batches,
)
from adaptertune.data.encode import Encoded
from adaptertune.model.classifier import Classifier
from adaptertune.train import evaluate, optim
from adaptertune.train.device import clock
from adaptertune.train.gradients import Gradients

WORTH_SECONDS = 10.0  # of work: nobody needs to know before less
# What measuring may take: so many seconds, or this share of the training if that is longer.
BUDGET_SECONDS, BUDGET_SHARE = 2.0, 0.02
# The optimiser is measured on at most so many numbers (128 MB with gradients and moments).
OPTIMIZER_NUMBERS = 1 << 23


@dataclass(frozen=True)
class Line:
    """Seconds of a batch: ``fixed + per_token * tokens``, padding included."""

    fixed: float
    per_token: float

    def total(self, tokens: Sequence[int]) -> float:
        """Seconds of several batches."""
        return self.fixed * len(tokens) + self.per_token * sum(tokens)


@dataclass(frozen=True)
class Pace:
    """How fast a method trains on this machine: seconds of its steps and of evaluation batches."""

    step: Line
    evaluation: Line
    num_measured: int  # steps


@dataclass(frozen=True)
class Forecast:
    """Seconds of one training, of one seed or of several in one pass, and what that rests on."""

    epoch: float
    evaluation: float  # of the selecting split, after an epoch; each seed's own
    other_evaluation: float  # of the other splits, at the end
    step: float  # the mean
    num_measured: int  # steps

    def training(self, epochs: int) -> float:
        """Seconds from the first step to the last score."""
        return epochs * (self.epoch + self.evaluation) + self.other_evaluation


def fit_line(points: Sequence[tuple[int, float]]) -> Line:
    """The line through (tokens, seconds) by least squares, neither part below 0."""
    tokens, seconds = np.array(points, dtype=float).T
    if len(set(tokens)) > 1:
        per_token, fixed = np.polyfit(tokens, seconds, 1)
        if per_token < 0:
            return Line(float(seconds.mean()), 0.0)
        if fixed >= 0:
            return Line(float(fixed), float(per_token))
    return Line(0.0, float(seconds @ tokens / (tokens @ tokens)))


def measure(
    models: Mapping[int, Classifier],
    train: Encoded,
    evaluation: Sequence[Encoded],
    training: Training,
    device: torch.device,
    num_trainings: float,
    *,
    by_graph: bool = False,
) -> Forecast:
    """A forecast for models from some of their own steps: :func:`pace` and :func:`apply`.

    Args:
        models: by seed; several train in one pass.
        evaluation: the selecting split, then the others.
        num_trainings: how many are ahead, a begun one as a fraction.
        by_graph: as :func:`~adaptertune.train.loop.fit` takes it.
    """
    found = pace(models, train, evaluation[0], training, device, num_trainings, by_graph=by_graph)
    return apply(found, train, evaluation, training, list(models), device)


def pace(
    models: Mapping[int, Classifier],
    train: Encoded,
    selecting: Encoded,
    training: Training,
    device: torch.device,
    num_trainings: float,
    *,
    by_graph: bool = False,
) -> Pace:
    """What a long, a median and a short step of an epoch take, and a batch of the evaluation.

    Each is timed twice and the shorter time counts, for memory and kernels are made the first time.
    Where the budget does not reach, or there are but seconds of work, fewer are measured: at least
    the long step, once.
    """
    order = _steps(train, training, list(models))
    together = list(models.values())
    to_evaluate = evaluation_batches(selecting.lengths, evaluate.batch_size(selecting, device))
    middle = to_evaluate[len(to_evaluate) // 2]
    step = _Step(together, training, device, by_graph=by_graph)
    if together[0].is_compiled or by_graph:  # what is compiled or recorded now need not be later
        for number in _long_median_short(len(order)) * (2 if by_graph else 1):
            step(train, order[number])
        _forward(together[0], selecting, middle, device)
    started = clock(device)
    optimizer = len(together) * optimizer_seconds(together[0], training, device)
    steps: dict[int, float] = {}
    scored = math.inf
    for turn, number in enumerate(_long_median_short(len(order)) * 2):
        if steps:
            expected = num_trainings * training.epochs * len(order) * min(steps.values())
            budget = max(BUDGET_SECONDS, BUDGET_SHARE * expected)
            if expected < WORTH_SECONDS or clock(device) - started > budget:
                break
        seconds = _seconds(partial(step, train, order[number]), device)
        steps[number] = min(seconds + optimizer, steps.get(number, math.inf))
        if turn < 2:
            seconds = _seconds(partial(_forward, together[0], selecting, middle, device), device)
            scored = min(seconds, scored)
    return Pace(
        fit_line([(_tokens(train, order[number]), seconds) for number, seconds in steps.items()]),
        fit_line([(_tokens(selecting, [middle]), scored)]),
        len(steps),
    )


def apply(
    found: Pace,
    train: Encoded,
    evaluation: Sequence[Encoded],
    training: Training,
    of_seeds: Sequence[int],
    device: torch.device,
) -> Forecast:
    """A forecast for any task from a pace of the same method and backbone.

    Args:
        of_seeds: those that train in one pass, each of which is evaluated by itself.
    """
    steps = [_tokens(train, each) for each in _steps(train, training, of_seeds)]
    epoch = found.step.total(steps)
    selecting, *others = [
        found.evaluation.total(
            [
                _tokens(split, [indices])
                for indices in evaluation_batches(split.lengths, evaluate.batch_size(split, device))
            ]
        )
        for split in evaluation
    ]
    return Forecast(
        epoch=epoch,
        evaluation=len(of_seeds) * selecting,
        other_evaluation=len(of_seeds) * sum(others),
        step=epoch / len(steps),
        num_measured=found.num_measured,
    )


def saving_by_known_layers(
    models: Mapping[int, Classifier],
    train: Encoded,
    training: Training,
    device: torch.device,
    *,
    by_graph: bool = False,
) -> float:
    """How many times as fast a median step is that finds its lower layers' hidden states in ``train``
    as one that computes them: the faster of two each, in turn.
    """
    order = _steps(train, training, list(models))
    middle = order[len(order) // 2]
    step = _Step(list(models.values()), training, device, by_graph=by_graph)

    def seconds(split: Encoded) -> float:
        return _seconds(partial(step, split, middle), device)

    computed = replace(train, hidden=None)
    if by_graph:
        for split in (computed, train) * 2:
            step(split, middle)
    turns = [(seconds(computed), seconds(train)) for _ in range(2)]
    slow, fast = map(min, zip(*turns, strict=True))
    return float(slow / fast)


def _steps(
    train: Encoded, training: Training, of_seeds: Sequence[int]
) -> list[tuple[Indices, ...]]:
    """An epoch's steps, a batch for each seed, in order of their tokens."""
    orders = [
        training_batches(
            train.lengths,
            training.batch_size,
            seeds.generator(seed, "order", 0),
            drop_last=training.drop_last,
        )
        for seed in of_seeds
    ]
    return sorted(zip(*orders, strict=True), key=lambda each: _tokens(train, each))


def _long_median_short(count: int) -> tuple[int, int, int]:
    """Which of ``count`` batches in order of their tokens; the outermost twentieths are odd ones."""
    return count - 1 - count // 20, count // 2, count // 20


def optimizer_seconds(model: nn.Module, training: Training, device: torch.device) -> float:
    """Seconds of an optimiser's step, measured on stand-ins for what trains."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    total = sum(parameter.numel() for _, parameter in trained)
    room = OPTIMIZER_NUMBERS
    stand_ins = []
    for name, parameter in trained:
        size = min(parameter.numel(), room)
        room -= size
        if size:
            stand_ins.append((name, nn.Parameter(torch.zeros(size, device=device))))
    optimizer = optim.of_training(stand_ins, training, num_steps=10)

    def step() -> float:
        for _, parameter in stand_ins:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return _seconds(optimizer.step, device)

    step()  # makes the moments
    return min(step(), step()) * total / (OPTIMIZER_NUMBERS - room)


class _Step:
    """A step without its end: the gradients are made and forgotten, and so is what batch norms count."""

    def __init__(
        self,
        models: Sequence[Classifier],
        training: Training,
        device: torch.device,
        *,
        by_graph: bool,
    ) -> None:
        self._models, self._device = models, device
        self._gradients = Gradients(
            models, device, trunk_dropout=training.trunk_dropout, by_graph=by_graph
        )

    def __call__(self, train: Encoded, indices: Sequence[Indices]) -> None:
        buffers = [buffer for model in self._models for buffer in model.buffers()]
        before = [buffer.clone() for buffer in buffers]
        is_cuda = self._device.type == "cuda"
        with torch.random.fork_rng(devices=[self._device] if is_cuda else []):
            batches = [collate(train, each) for each in indices]
            self._gradients.add(batches, 0, [1.0] * len(batches))
        for model in self._models:
            for parameter in model.parameters():
                parameter.grad = None
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def _forward(model: Classifier, split: Encoded, indices: Indices, device: torch.device) -> None:
    with torch.inference_mode():
        batch = collate(split, indices).to(device)
        model(batch.tokens, batch.segments, batch.mask, hidden=batch.hidden)


def _tokens(split: Encoded, batches: Sequence[Indices]) -> int:
    """Of the padded batches, joined to go through in one pass."""
    rows = max(len(indices) for indices in batches)
    length = max(int(padded_length(split.lengths[indices]).max()) for indices in batches)
    return len(batches) * rows * length


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    start = clock(device)
    work()
    return clock(device) - start
