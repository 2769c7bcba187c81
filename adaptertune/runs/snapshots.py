"""What a run in progress saves, so that it goes on from there after a kill, a Ctrl-C or a pause."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from adaptertune.errors import CheckpointError
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import Progress

if TYPE_CHECKING:
    from adaptertune.train.loop import Snapshot

SNAPSHOT_SECONDS = 20.0  # at most this much work is lost to a kill …
SNAPSHOT_SHARE = 0.05  # … unless saving would take more than this share of the time


class Saver:
    """The training loop's saver: writes the states of all seeds of a pass into one file.

    In one each, a process that dies between two of them would leave states of different steps, from
    which the seeds can't go on together.
    """

    def __init__(
        self, plan: Plan, seeds: Sequence[int], num_parts: int, resumed: int, progress: Progress
    ) -> None:
        self._path, self._progress = plan.folder.seed(seeds[0]).snapshot, progress
        self._facts = {
            "digest": plan.seed_digest(seeds[0]),
            "num_parts": num_parts,
            "resumed": resumed,
        }
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    def is_due(self) -> bool:
        wait = max(SNAPSHOT_SECONDS, self._save_seconds / SNAPSHOT_SHARE)
        return time.monotonic() - self._saved_at > wait

    def keep(self, snapshots: Mapping[int, Snapshot]) -> None:
        from adaptertune.train.checkpoint import write_tensors

        start = time.monotonic()
        tensors = {
            f"{seed}.{name}": tensor
            for seed, snapshot in snapshots.items()
            for name, tensor in snapshot.tensors.items()
        }
        lanes = {str(seed): snapshot.facts for seed, snapshot in snapshots.items()}
        write_tensors(self._path, tensors, self._facts | {"lanes": lanes})
        self._progress.saved(self._path)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start


def num_parts_of(snapshot: Snapshot, batch_size: int) -> int:
    """In how many parts the run's batches went when it was saved."""
    if "micro_batch" in snapshot.facts:  # an earlier version's
        return math.ceil(batch_size / int(snapshot.facts["micro_batch"]))
    return int(snapshot.facts["num_parts"])


def read_snapshots(
    plan: Plan, seeds: Sequence[int], note: Callable[[str], None]
) -> dict[int, Snapshot]:
    """Where a killed run's seeds stopped, none if they begin anew; snapshots that can't be read, or are
    of another run, are dropped, and that is said.
    """
    from adaptertune.train.checkpoint import read_tensors
    from adaptertune.train.loop import Snapshot

    path, who = plan.folder.seed(seeds[0]).snapshot, f"seed {', '.join(map(str, seeds))}"
    if not path.exists():
        return {}
    try:
        tensors, facts = read_tensors(path)
    except CheckpointError as error:
        note(f"{who}: {error.what}: {path}; the training begins anew")
        return {}
    if facts.get("digest") != plan.seed_digest(seeds[0]):
        note(f"{who}: the snapshot is of another configuration; the training begins anew")
        return {}
    if "lanes" not in facts:  # an earlier version wrote a file for each seed
        if len(seeds) == 1:
            return {seeds[0]: Snapshot(tensors, facts)}
        note(f"{who}: the snapshot is an earlier version's; the training begins anew")
        return {}
    return {
        seed: Snapshot(
            {
                name.removeprefix(f"{seed}."): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{seed}.")
            },
            facts | facts["lanes"][str(seed)],
        )
        for seed in seeds
    }
