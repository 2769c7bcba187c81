"""Who watches a seed's training: it passes progress on and writes down each epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from adaptertune.files import write_atomically
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import Progress

if TYPE_CHECKING:
    from adaptertune.train.loop import EpochRecord


class Watcher:
    """The training loop's watcher of one seed: passes progress on and writes epochs.

    ``records``: of the epochs done so far, those before this process included.
    """

    def __init__(
        self,
        plan: Plan,
        seed: int,
        micro_batch: int,
        resumed: int,
        records: Sequence[EpochRecord],
        progress: Progress,
    ) -> None:
        self.seed, self.micro_batch, self.resumed = seed, micro_batch, resumed
        self._folder, self._progress, self.records = plan.folder.seed(seed), progress, records

    def step(self, step: int, mean_loss: float, examples_per_second: float) -> None:
        self._progress.step(self.seed, step, mean_loss, examples_per_second)

    def evaluating(self, num_examples: int) -> None:
        self._progress.evaluating(self.seed, num_examples)

    def epoch(self, records: Sequence[EpochRecord]) -> None:
        self.records = records
        lines = [json.dumps(asdict(record), allow_nan=False) + "\n" for record in records]
        write_atomically(self._folder.epochs, "".join(lines).encode())
        self._progress.saved(self._folder.epochs)
        self._progress.epoch(self.seed, records[-1])

    def should_stop(self) -> bool:
        return self._progress.should_stop()
