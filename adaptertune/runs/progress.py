"""What whoever watches a run is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adaptertune.runs import results

if TYPE_CHECKING:
    from adaptertune.train.loop import EpochRecord

# Of what needs no more: what is being done, how far it is, and of how much.
OnProgress = Callable[[str, int, int], None]


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


Told = tuple[str, tuple[Any, ...], dict[str, Any]]  # a method's name, its arguments and keywords


class Forwarding:
    """A progress for another process: all that it hears goes on as plain values.

    Args:
        tell: takes what was heard.
        should_stop, saved: see :class:`Progress`.
    """

    def __init__(
        self,
        tell: Callable[[Told], None],
        should_stop: Callable[[], bool],
        saved: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._tell, self.should_stop, self.saved = tell, should_stop, saved

    def preparing(self, what: str, done: int, total: int) -> None:
        self._tell(("preparing", (what, done, total), {}))

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        self._tell(("seed_started", (seed,), {"epochs_done": epochs_done, "resumed": resumed}))

    def step(self, seed: int, step: int, mean_loss: float, examples_per_second: float) -> None:
        self._tell(("step", (seed, step, mean_loss, examples_per_second), {}))

    def evaluating(self, seed: int, num_examples: int) -> None:
        self._tell(("evaluating", (seed, num_examples), {}))

    def epoch(self, seed: int, record: EpochRecord) -> None:
        self._tell(("epoch", (seed, record), {}))

    def seed_done(self, result: results.SeedResult, *, reused: bool) -> None:
        self._tell(("seed_done", (result,), {"reused": reused}))

    def failed(self, seed: int, failure: results.Failure) -> None:
        self._tell(("failed", (seed, failure), {}))

    def note(self, text: str) -> None:
        self._tell(("note", (text,), {}))


def repeat(told: Told, progress: Progress) -> None:
    """Tell another progress what a :class:`Forwarding` one heard."""
    name, arguments, keywords = told
    getattr(progress, name)(*arguments, **keywords)
