"""The training loop: the same for every method, resumable at every step.

Whatever is random in step t depends on the seed and t alone (see ``seeds``), so a snapshot is just
parameters, moments, counters and records; fit(4 steps) equals fit(2) + resume(2), bitwise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from adaptertune import seeds
from adaptertune.config import Training
from adaptertune.data.batches import Batch, collate, num_batches, training_batches
from adaptertune.data.encode import Encoded
from adaptertune.errors import DataError
from adaptertune.metrics import TaskMetric
from adaptertune.model.classifier import Classifier, loss
from adaptertune.model.dropout import Dropout
from adaptertune.tasks import Task
from adaptertune.train import evaluate
from adaptertune.train.checkpoint import trained_tensors
from adaptertune.train.optim import AdamW

REPORT_SECONDS = (
    0.25  # how often the watcher hears of a step: reading the loss waits for the device
)


class Diverged(Exception):
    """The loss is no longer finite. ``epoch`` counts from 1."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}")
        self.epoch = epoch


class Stopped(Exception):
    """The watcher asked to stop; ``snapshot`` holds everything up to here."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__("stopped")
        self.snapshot = snapshot


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


class Watcher(Protocol):
    """Hears what happens, keeps snapshots, and may ask to stop."""

    def step(self, step: int, mean_loss: float, examples_per_second: float) -> None:
        """At most every ``REPORT_SECONDS``: steps done so far, the epoch's mean loss and speed."""

    def evaluating(self, num_examples: int) -> None:
        """The evaluation got on by so many examples."""

    def epoch(self, records: Sequence[EpochRecord]) -> None:
        """An epoch and its evaluation are done; the records of all epochs so far."""

    def wants_snapshot(self) -> bool:
        """Asked after every step: whether to make and keep a snapshot now."""

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot."""

    def should_stop(self) -> bool:
        """Asked after every step and every evaluated batch: whether to end with :class:`Stopped`."""


def num_steps(num_examples: int, training: Training) -> int:
    """Optimiser steps of a whole training.

    Raises:
        DataError: ``drop_last`` leaves no batch.
    """
    steps = training.epochs * num_batches(
        num_examples, training.batch_size, drop_last=training.drop_last
    )
    if steps == 0:
        raise DataError(
            f"{num_examples} training examples do not fill one batch of {training.batch_size}",
            remedy="choose a smaller --batch-size, or --set training.drop_last=false",
        )
    return steps


def fit(
    model: Classifier,
    task: Task,
    train: Encoded,
    selecting: Encoded,
    training: Training,
    *,
    seed: int,
    device: torch.device,
    watcher: Watcher,
    resume: Snapshot | None = None,
) -> Outcome:
    """Train a prepared model and leave it with the kept epoch's parameters.

    Args:
        selecting: the split that is evaluated after each epoch and selects among epochs.
        resume: a snapshot of the same training, or None to begin.

    Raises:
        Diverged: the loss is not finite.
        Stopped: the watcher asked to stop.
        DataError: ``drop_last`` leaves no batch.
    """
    fitting = _Fitting(model, task, train, selecting, training, seed, device, watcher)
    if resume:
        fitting.restore(resume)
    # On CUDA dropout draws from torch's global generator: it is lent for the duration.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return fitting.run()


class _Fitting:
    """One training under way: what it works on, and the position in it."""

    def __init__(
        self,
        model: Classifier,
        task: Task,
        train: Encoded,
        selecting: Encoded,
        training: Training,
        seed: int,
        device: torch.device,
        watcher: Watcher,
    ) -> None:
        self.model, self.task, self.train, self.selecting = model, task, train, selecting
        self.training, self.seed, self.watcher = training, seed, watcher
        self.device = device
        self.metric = TaskMetric(task)
        self.per_epoch = num_batches(len(train), training.batch_size, drop_last=training.drop_last)
        self.num_steps = num_steps(len(train), training)
        self.optimizer = AdamW(
            model.named_parameters(),
            learning_rate=training.learning_rate,
            num_steps=self.num_steps,
            warmup=training.warmup,
            weight_decay=training.weight_decay,
            epsilon=training.epsilon,
            clip_norm=training.clip_norm,
            bias_correction=training.bias_correction,
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

    def run(self) -> Outcome:
        while len(self.records) < self.training.epochs:
            self._train_epoch(len(self.records))
            self._evaluate_epoch(len(self.records))
        if self.training.keep_epoch == "best":
            own = trained_tensors(self.model)
            for name, tensor in self.kept_parameters.items():
                own[name].copy_(tensor)
        assert self.kept is not None
        assert self.kept_logits is not None
        return Outcome(self.records[self.kept], tuple(self.records), self.kept_logits)

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
        own, stored = trained_tensors(self.model), part("parameter.")
        for name, tensor in own.items():
            tensor.copy_(stored[name])
        self.optimizer.restore(part("optimizer."), self.step)
        self.kept_parameters = part("kept.")
        if "kept_logits" in snapshot.tensors:
            self.kept_logits = snapshot.tensors["kept_logits"].numpy()

    def _train_epoch(self, epoch: int) -> None:
        order = training_batches(
            self.train.lengths,
            self.training.batch_size,
            seeds.generator(self.seed, "order", epoch),
            drop_last=self.training.drop_last,
        )
        already = self.step - epoch * self.per_epoch
        num_before = num_seen = sum(len(indices) for indices in order[:already])
        seconds_before, start = self.train_seconds, time.perf_counter()
        reported = start
        for number, indices in enumerate(order[already:], already + 1):
            self._step(collate(self.train, indices).to(self.device), len(indices))
            num_seen += len(indices)
            now = time.perf_counter()
            self.train_seconds = seconds_before + now - start
            if number == self.per_epoch or now - reported > REPORT_SECONDS:
                reported = now
                mean_loss = float(self.loss_sum) / num_seen
                if not math.isfinite(mean_loss):
                    raise Diverged(epoch + 1)
                speed = (num_seen - num_before) / (now - start)
                self.watcher.step(self.step, mean_loss, speed)
            self._pause()

    def _step(self, batch: Batch, num_examples: int) -> None:
        assert batch.labels is not None
        dropout = Dropout(seeds.derive(self.seed, "dropout", self.step), self.device)
        logits = self.model(
            batch.tokens,
            batch.segments,
            batch.mask,
            dropout,
            hidden=batch.hidden,
            trunk_dropout=self.training.trunk_dropout,
        )
        value = loss(logits, batch.labels)
        value.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.loss_sum += value.detach() * num_examples
        self.step += 1

    def _evaluate_epoch(self, epoch: int) -> None:
        start = time.perf_counter()
        logits = evaluate.logits(self.model, self.selecting, self.device, self._evaluated)
        scores = evaluate.score(self.task, self.metric, self.selecting, logits)
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
            self.kept, self.kept_logits = epoch, logits
        elif self._is_best(record):
            self.kept, self.kept_logits = epoch, logits
            self.kept_parameters = {
                name: tensor.clone() for name, tensor in trained_tensors(self.model).items()
            }
        self.watcher.epoch(self.records)

    def _evaluated(self, num_examples: int) -> None:
        """Stopped here, the training goes on with this evaluation."""
        self.watcher.evaluating(num_examples)
        if self.watcher.should_stop():
            raise Stopped(self.snapshot())

    def _is_best(self, record: EpochRecord) -> bool:
        """The first of equals; an undefined score is below all others."""
        if self.kept is None:
            return True
        value = record.values[self.task.headline]
        best = self.records[self.kept].values[self.task.headline]
        return value is not None and (best is None or value > best)

    def _pause(self) -> None:
        """Let the watcher stop the training or have a snapshot."""
        if self.watcher.should_stop():
            raise Stopped(self.snapshot())
        if self.watcher.wants_snapshot():
            self.watcher.keep(self.snapshot())
