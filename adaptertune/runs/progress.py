"""What whoever watches a run is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adaptertune.runs import results

if TYPE_CHECKING:
    from adaptertune.train.loop import EpochRecord


class Progress(Protocol):
    """Hears what happens in a cell."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """So many of all examples are prepared; silent where an earlier start kept the result."""

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        """A seed's training begins, or goes on."""

    def step(self, seed: int, step: int, mean_loss: float, examples_per_second: float) -> None:
        """A few times a second."""

    def evaluating(self, seed: int, num_examples: int) -> None:
        """So many more examples were evaluated."""

    def epoch(self, seed: int, record: EpochRecord) -> None:
        """An epoch and its evaluation are done."""

    def seed_done(self, result: results.SeedResult, *, reused: bool) -> None:
        """A seed is finished, now or earlier (``reused``)."""

    def note(self, text: str) -> None:
        """A decision or an event worth a line."""

    def failed(self, seed: int, failure: results.Failure) -> None:
        """A seed's training ended with an error, now or earlier."""

    def saved(self, path: Path) -> None:
        """A file of the run was written anew."""

    def should_stop(self) -> bool:
        """Whether the user asked to stop."""
