"""The training loop: the same for every method, resumable at every step.

Whatever is random in step t depends on the seed and t alone (see ``seeds``), so a snapshot is just
parameters, moments, counters and records; fit(4 steps) equals fit(2) + resume(2), bitwise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from adaptertune import seeds
from adaptertune.config import Training
from adaptertune.data.batches import Indices, collate, num_steps, training_batches
from adaptertune.data.encode import Encoded
from adaptertune.metrics import TaskMetric
from adaptertune.model.classifier import Classifier
from adaptertune.tasks import Task
from adaptertune.train import evaluate
from adaptertune.train.checkpoint import trained_tensors
from adaptertune.train.device import clock
from adaptertune.train.gradients import Gradients
from adaptertune.train.optim import of_training

# How often the watcher hears of a step: reading the loss waits for the device.
REPORT_SECONDS = 0.25


class Diverged(Exception):
    """The loss is no longer finite. ``epoch`` counts from 1."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}")
        self.epoch = epoch


class Stopped(Exception):
    """The watcher asked to stop; ``snapshots`` holds everything up to here, by seed."""

    def __init__(self, snapshots: dict[int, Snapshot]) -> None:
        super().__init__("stopped")
        self.snapshots = snapshots


@dataclass(frozen=True)
class EpochRecord:
    """What is known after an epoch. ``values`` are the selecting split's metrics, as fractions."""

    epoch: int  # from 1
    train_loss: float
    values: dict[str, float | None]
    collapsed: bool
    train_seconds: float
    evaluate_seconds: float
    examples_per_second: float


@dataclass(frozen=True)
class Snapshot:
    """All that a resume needs: tensors, and counters and records as plain values."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The kept epoch of a finished training; the model holds its parameters."""

    kept: EpochRecord
    records: tuple[EpochRecord, ...]
    logits: npt.NDArray[np.float32]  # (examples, outputs) of the selecting split, kept epoch


@dataclass(frozen=True)
class Lane:
    """One seed's training: its own model, its own watcher, and where to go on from, if anywhere."""

    seed: int
    model: Classifier
    watcher: Watcher
    resume: Snapshot | None = None


class Watcher(Protocol):
    """Hears what happens to one seed, and may ask to stop."""

    def step(self, step: int, mean_loss: float, examples_per_second: float) -> None:
        """At most every ``REPORT_SECONDS``: steps done so far, the epoch's mean loss and speed."""

    def evaluating(self, num_examples: int) -> None:
        """The evaluation got on by so many examples."""

    def epoch(self, records: Sequence[EpochRecord]) -> None:
        """An epoch and its evaluation are done; the records of all epochs so far."""

    def should_stop(self) -> bool:
        """Asked after every step and every evaluated batch: whether to end with :class:`Stopped`."""


class Saver(Protocol):
    """Keeps snapshots, of all lanes at once: they go on together only from one step."""

    def is_due(self) -> bool:
        """Asked after every step: whether to make and keep snapshots now."""

    def keep(self, snapshots: Mapping[int, Snapshot]) -> None:
        """Keep the lanes' snapshots, by seed."""


def fit(
    lanes: Sequence[Lane],
    task: Task,
    train: Encoded,
    selecting: Encoded,
    training: Training,
    *,
    device: torch.device,
    num_parts: int = 1,
    by_graph: bool = False,
    saver: Saver | None = None,
) -> list[Outcome | Diverged]:
    """Train prepared models and leave them with their kept epochs' parameters.

    Several models train in one pass (see ``model.classifier.logits``), each in its own order of
    examples, and come to what they would come to alone, apart from other dropout masks.

    Args:
        lanes: one a seed; all at the same step.
        selecting: the split that is evaluated after each epoch and selects among epochs.
        num_parts: compute each step's batch in so many parts, one after another, where memory is
            short: the same gradients but for rounding and dropout masks.
        by_graph: whether whole steps are recorded and replayed as CUDA graphs; see ``train.gradients``.
        saver: has snapshots while it trains; without one there are none but those of :class:`Stopped`.

    Returns:
        What became of each lane, in their order; of one whose loss was not finite, when.

    Raises:
        Stopped: a watcher asked to stop.
        DataError: ``drop_last`` leaves no batch.
    """
    fittings = [
        _Fitting(lane, task, train, selecting, training, device, num_parts) for lane in lanes
    ]
    # On CUDA dropout draws from torch's global generator: it is lent for the duration.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _Pass(fittings, by_graph, saver).run()


class _Pass:
    """Several trainings under way, step by step together."""

    def __init__(
        self, fittings: Sequence[_Fitting], by_graph: bool, saver: Saver | None = None
    ) -> None:
        self.all, self.by_graph, self.saver = fittings, by_graph, saver
        self.diverged = {f.seed: f.diverged for f in fittings if f.diverged}
        self.active = [f for f in fittings if f.seed not in self.diverged]
        assert len({fitting.step for fitting in fittings}) == 1, "lanes at different steps"
        self.gradients = self._gradients()

    def _gradients(self) -> Gradients:
        first = self.all[0]
        return Gradients(
            [fitting.model for fitting in self.active],
            first.device,
            trunk_dropout=first.training.trunk_dropout,
            by_graph=self.by_graph,
        )

    def run(self) -> list[Outcome | Diverged]:
        while self.active:
            for fitting in self.active:
                if fitting.is_evaluation_due():
                    self._evaluate(fitting)
            if all(fitting.is_done() for fitting in self.active):
                break
            self._train_epoch()
        return [self.diverged.get(fitting.seed) or fitting.outcome() for fitting in self.all]

    def _train_epoch(self) -> None:
        fittings = self.active
        for fitting in fittings:
            fitting.begin_epoch()
        reported = time.perf_counter()
        while not fittings[0].is_evaluation_due():
            start = time.perf_counter()
            self._step(fittings)
            now = time.perf_counter()
            is_report_due = fittings[0].is_evaluation_due() or now - reported > REPORT_SECONDS
            if is_report_due:
                # CUDA is behind with the steps since the last report: the wait is their time.
                reported = now = clock(fittings[0].device)
            for fitting in fittings:
                fitting.train_seconds += (now - start) / len(fittings)
            if is_report_due:
                for fitting in fittings:
                    self._report(fitting)
                going_on = [f for f in fittings if f.seed not in self.diverged]
                # Only then: the others' dropout masks must not depend on when a divergence was seen.
                is_due = fittings[0].is_evaluation_due() or not going_on
                if is_due and going_on != fittings:
                    self.active = going_on
                    self.gradients = self._gradients()
                if not going_on:
                    return
            self._pause()

    def _step(self, fittings: Sequence[_Fitting]) -> None:
        whole = [fitting.next_indices() for fitting in fittings]
        num_parts = min(fittings[0].num_parts, max(map(len, whole)))
        parts = zip(*[np.array_split(indices, num_parts) for indices in whole], strict=True)
        found = []
        for number, part in enumerate(parts):
            weights = [len(some) / len(batch) for some, batch in zip(part, whole, strict=True)]
            # A shorter batch has no rows left for the last parts: one goes along, and weighs nothing.
            indices = [
                some if len(some) else batch[:1] for some, batch in zip(part, whole, strict=True)
            ]
            found.append(self._add_gradients(fittings, number, indices, weights))
        for fitting, value, batch in zip(fittings, sum(found[1:], found[0]), whole, strict=True):
            fitting.update(value, len(batch))

    def _add_gradients(
        self,
        fittings: Sequence[_Fitting],
        part: int,
        indices: Sequence[Indices],
        weights: Sequence[float],
    ) -> torch.Tensor:
        """Of a part of a step; the lanes' shares in the losses, by which gradients are weighted."""
        batches = [collate(f.train, some) for f, some in zip(fittings, indices, strict=True)]
        first, *others = [fitting.seed for fitting in fittings]
        parts = ("part", part) if part else ()
        seed = seeds.derive(first, "dropout", fittings[0].step, *others, *parts)
        return self.gradients.add(batches, seed, weights)

    def _report(self, fitting: _Fitting) -> None:
        try:
            fitting.report()
        except Diverged as diverged:
            # Without its frames, which hold this pass and so the models of all its seeds.
            self.diverged[fitting.seed] = diverged.with_traceback(None)

    def _evaluate(self, fitting: _Fitting) -> None:
        def on_batch(num_examples: int) -> None:
            """Stopped here, the training goes on with this evaluation."""
            fitting.watcher.evaluating(num_examples)
            if fitting.watcher.should_stop():
                raise Stopped(self._snapshots())

        fitting.evaluate_epoch(on_batch)

    def _pause(self) -> None:
        """Let the watchers stop the training, or the saver have snapshots."""
        wishes = [fitting.watcher.should_stop() for fitting in self.active]  # each is asked
        if any(wishes):
            raise Stopped(self._snapshots())
        if self.saver and self.saver.is_due():
            self.saver.keep(self._snapshots())

    def _snapshots(self) -> dict[int, Snapshot]:
        """All lanes': those that diverged in an earlier epoch stand at the others' step, beside them."""
        found = {fitting.seed: fitting.snapshot() for fitting in self.all}
        for fitting in self.all:
            if fitting not in self.active:
                facts = {"step": self.active[0].step, "diverged": self.diverged[fitting.seed].epoch}
                snapshot = found[fitting.seed]
                found[fitting.seed] = replace(snapshot, facts=snapshot.facts | facts)
        return found


class _Fitting:
    """One training under way: what it works on, and the position in it."""

    def __init__(
        self,
        lane: Lane,
        task: Task,
        train: Encoded,
        selecting: Encoded,
        training: Training,
        device: torch.device,
        num_parts: int,
    ) -> None:
        self.num_parts = num_parts
        self.model, self.seed, self.watcher = lane.model, lane.seed, lane.watcher
        self.task, self.train, self.selecting = task, train, selecting
        self.training, self.device = training, device
        self.metric = TaskMetric(task)
        size, drop_last = training.batch_size, training.drop_last
        self.per_epoch = num_steps(len(train), 1, size, drop_last=drop_last)
        self.optimizer = of_training(
            self.model.named_parameters(),
            training,
            training.epochs * self.per_epoch,
        )
        # The position: steps done, this epoch's loss (a sum over examples) and time, and what the
        # epochs before it left.
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.train_seconds = 0.0
        self.records: list[EpochRecord] = []
        self.kept: int | None = None  # index of a record
        self.kept_parameters: dict[str, torch.Tensor] = {}
        self.kept_logits: npt.NDArray[np.float32] | None = None
        self.diverged: Diverged | None = None  # in an epoch before the one that goes on
        if lane.resume:
            self.restore(lane.resume)
        # This epoch's batches; examples seen of them, and what was seen before this process.
        self.order: list[Indices] = []
        self.num_seen = self.num_before = 0
        self.seconds_before = 0.0

    def is_done(self) -> bool:
        return len(self.records) == self.training.epochs

    def is_evaluation_due(self) -> bool:
        return self.step == (len(self.records) + 1) * self.per_epoch

    def outcome(self) -> Outcome:
        """What became of it; the model gets the kept epoch's parameters."""
        if self.training.keep_epoch == "best":
            own = trained_tensors(self.model)
            for name, tensor in self.kept_parameters.items():
                own[name].copy_(tensor)
        assert self.kept is not None
        assert self.kept_logits is not None
        return Outcome(self.records[self.kept], tuple(self.records), self.kept_logits)

    def begin_epoch(self) -> None:
        """Draw the order of the epoch to come, or of the one that goes on."""
        epoch = len(self.records)
        self.order = training_batches(
            self.train.lengths,
            self.training.batch_size,
            seeds.generator(self.seed, "order", epoch),
            drop_last=self.training.drop_last,
        )
        already = self.order[: self.step - epoch * self.per_epoch]
        self.num_seen = self.num_before = sum(map(len, already))
        self.seconds_before = self.train_seconds

    def next_indices(self) -> Indices:
        """The examples of the step to come."""
        return self.order[self.step - len(self.records) * self.per_epoch]

    def update(self, value: torch.Tensor, num_examples: int) -> None:
        """A step with the gradients as they are; ``value`` is the loss behind them."""
        self.optimizer.step()
        self.loss_sum += value * num_examples
        self.num_seen += num_examples
        self.step += 1

    def report(self) -> None:
        """Tell the watcher how it goes.

        Raises:
            Diverged: the loss is not finite.
        """
        mean_loss = float(self.loss_sum) / self.num_seen
        if not math.isfinite(mean_loss):
            raise Diverged(len(self.records) + 1)
        speed = (self.num_seen - self.num_before) / (self.train_seconds - self.seconds_before)
        self.watcher.step(self.step, mean_loss, speed)

    def snapshot(self) -> Snapshot:
        tensors = {f"parameter.{name}": t for name, t in trained_tensors(self.model).items()}
        tensors |= {f"optimizer.{name}": t for name, t in self.optimizer.state().items()}
        tensors |= {f"kept.{name}": t for name, t in self.kept_parameters.items()}
        if self.kept_logits is not None:
            tensors["kept_logits"] = torch.from_numpy(self.kept_logits)
        facts = {
            "step": self.step,
            "loss_sum": float(self.loss_sum),
            "train_seconds": self.train_seconds,
            "records": [asdict(record) for record in self.records],
            "kept": self.kept,
        }
        return Snapshot(tensors, facts)

    def restore(self, snapshot: Snapshot) -> None:
        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {
                name.removeprefix(prefix): tensor.to(self.device)
                for name, tensor in snapshot.tensors.items()
                if name.startswith(prefix)
            }

        facts = snapshot.facts
        self.step = facts["step"]
        self.loss_sum.fill_(facts["loss_sum"])
        self.train_seconds = facts["train_seconds"]
        self.records = [EpochRecord(**record) for record in facts["records"]]
        self.kept = facts["kept"]
        if "diverged" in facts:
            self.diverged = Diverged(facts["diverged"])
        own, stored = trained_tensors(self.model), part("parameter.")
        for name, tensor in own.items():
            tensor.copy_(stored[name])
        self.optimizer.restore(part("optimizer."), self.step)
        self.kept_parameters = part("kept.")
        if "kept_logits" in snapshot.tensors:
            self.kept_logits = snapshot.tensors["kept_logits"].numpy()

    def evaluate_epoch(self, on_batch: Callable[[int], None]) -> None:
        """Score the epoch, and keep its parameters if it is the best so far."""
        epoch, start = len(self.records), time.perf_counter()
        found = evaluate.logits(
            self.model,
            self.selecting,
            self.device,
            self.num_parts,
            on_batch,
        )
        scores = evaluate.score(self.task, self.metric, self.selecting, found)
        num_examples = len(self.train)
        if self.training.drop_last:
            num_examples -= num_examples % self.training.batch_size
        record = EpochRecord(
            epoch=epoch + 1,
            train_loss=float(self.loss_sum) / num_examples,
            values=scores.values,
            collapsed=scores.collapsed,
            train_seconds=self.train_seconds,
            evaluate_seconds=time.perf_counter() - start,
            examples_per_second=num_examples / self.train_seconds,
        )
        self.records.append(record)
        self.loss_sum.zero_()
        self.train_seconds = 0.0
        if self.training.keep_epoch == "last":
            self.kept, self.kept_logits = epoch, found
        elif self._is_best(record):
            self.kept, self.kept_logits = epoch, found
            self.kept_parameters = {
                name: tensor.clone() for name, tensor in trained_tensors(self.model).items()
            }
        self.watcher.epoch(self.records)

    def _is_best(self, record: EpochRecord) -> bool:
        """The first of equals; an undefined score is below all others."""
        if self.kept is None:
            return True
        value = record.values[self.task.headline]
        best = self.records[self.kept].values[self.task.headline]
        return value is not None and (best is None or value > best)
