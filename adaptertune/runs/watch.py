"""What a run in progress leaves in its folder: epochs, and snapshots to go on from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from adaptertune.errors import CheckpointError
from adaptertune.files import write_atomically
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import Progress

if TYPE_CHECKING:
    from adaptertune.train.loop import EpochRecord, Snapshot

SNAPSHOT_SECONDS = 20.0  # at most this much work is lost to a kill …
SNAPSHOT_SHARE = 0.05  # … unless saving would take more than this share of the time


class Watcher:
    """The training loop's watcher of one seed: passes progress on, writes epochs and snapshots.

    ``records``: of the epochs done so far, those before this process included. ``num_lanes``: how many
    seeds train in one pass, whose states are saved one after the other.
    """

    def __init__(
        self,
        plan: Plan,
        seed: int,
        micro_batch: int,
        resumed: int,
        records: Sequence[EpochRecord],
        progress: Progress,
        num_lanes: int = 1,
    ) -> None:
        self.seed, self.micro_batch, self.resumed = seed, micro_batch, resumed
        self._plan, self._folder, self._progress = plan, plan.folder.seed(seed), progress
        self.records, self._num_lanes = records, num_lanes
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

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

    def wants_snapshot(self) -> bool:
        wait = max(SNAPSHOT_SECONDS, self._save_seconds / SNAPSHOT_SHARE)
        return time.monotonic() - self._saved_at > wait

    def keep(self, snapshot: Snapshot) -> None:
        from adaptertune.train.checkpoint import write_tensors

        start = time.monotonic()
        facts = snapshot.facts | {
            "digest": self._plan.seed_digest(self.seed),
            "micro_batch": self.micro_batch,
            "resumed": self.resumed,
        }
        write_tensors(self._folder.snapshot, snapshot.tensors, facts)
        self._progress.saved(self._folder.snapshot)
        self._saved_at = time.monotonic()
        self._save_seconds = self._num_lanes * (self._saved_at - start)


def read_snapshots(
    plan: Plan, seeds: Sequence[int], micro_batch: int | None, note: Callable[[str], None]
) -> tuple[list[Snapshot | None], int]:
    """Where killed runs stopped, and how many examples to compute at a time. Of seeds that train
    together, all begin anew if they stand at different steps: a kill came between two files.

    Args:
        micro_batch: None for as many as in a snapshot to go on from, else all of a batch.
    """
    found = [_read_snapshot(plan, seed, note) for seed in seeds]
    known = [int(snapshot.facts["micro_batch"]) for snapshot in found if snapshot]
    if micro_batch is None:
        micro_batch = known[0] if known else plan.config.training.batch_size
    if any(one != micro_batch for one in known):
        return [None] * len(found), micro_batch  # made before memory ran out
    steps = {snapshot.facts["step"] if snapshot else 0 for snapshot in found}
    if len(steps) == 1:
        return found, micro_batch
    note(f"seeds {', '.join(map(str, seeds))} stopped at different steps; they begin anew")
    return [None] * len(found), micro_batch


def _read_snapshot(plan: Plan, seed: int, note: Callable[[str], None]) -> Snapshot | None:
    """The snapshot of a killed run; a damaged or foreign one is dropped, and that is said."""
    from adaptertune.train.checkpoint import read_tensors
    from adaptertune.train.loop import Snapshot

    path = plan.folder.seed(seed).snapshot
    if not path.exists():
        return None
    try:
        tensors, facts = read_tensors(path)
    except CheckpointError as error:
        note(f"seed {seed}: {error.what}: {path}; it begins anew")
        return None
    if facts.get("digest") != plan.seed_digest(seed):
        note(f"seed {seed}: the snapshot is of another configuration; it begins anew")
        return None
    return Snapshot(tensors, facts)
