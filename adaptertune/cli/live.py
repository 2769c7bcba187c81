"""Training as it happens: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from adaptertune import catalogue
from adaptertune.report.tables import METRIC_NAMES, duration, percent, table
from adaptertune.runs import units

if TYPE_CHECKING:
    from adaptertune.config import RunConfig
    from adaptertune.runs.plan import Plan
    from adaptertune.runs.results import Failure, SeedResult
    from adaptertune.train.loop import EpochRecord

SPARKS = "▁▂▃▄▅▆▇█"
SILENCE = 2.0  # seconds between two lines about preparing; most tasks are done before the first


@contextmanager
def looking_up(console: Console, config: RunConfig) -> Iterator[None]:
    """Shows that backbone and data are being looked up; downloads show bars of their own."""
    may_download = not config.offline and (
        config.data.source == "hub" or not catalogue.is_local(config.backbone)
    )
    if may_download or not console.is_terminal or console.quiet:
        yield
        return
    with console.status("Looking up backbone and data …"):
        yield


@contextmanager
def progress(plan: Plan, console: Console, should_stop: Callable[[], bool]) -> Iterator[Lines]:
    """The progress for a console: live on a terminal, lines otherwise."""
    if not console.is_terminal or console.quiet:
        yield Lines(plan, console, should_stop)
        return
    view = LiveTable(plan, console, should_stop)
    with Live(view, console=console, refresh_per_second=4, transient=True):
        yield view


def say(console: Console, text: str, style: str | None = None) -> None:
    """A line without markup: the text may be anybody's. Without a terminal any more, or on a full disk,
    nothing is heard of a training, which goes on.
    """
    with suppress(OSError):
        console.out(text, style=style)


@dataclass
class _SeedState:
    """What is known of a seed so far."""

    state: str = "waiting"
    step: int = 0
    """Of the steps it has, as the bar shows: all of them where it diverged."""
    trained: int = 0
    """The last step that was heard of."""
    mean_loss: float | None = None
    speed: float | None = None
    scores: list[float | None] = field(default_factory=list)
    evaluated: int = 0
    status: str = ""


class Lines:
    """One line an event; also the base of the live table, which shows the same states."""

    def __init__(self, plan: Plan, console: Console, should_stop: Callable[[], bool]) -> None:
        self.plan, self.console, self.should_stop = plan, console, should_stop
        self.seeds = {seed: _SeedState() for seed in plan.config.seeds}
        for seed in units.not_trained_again(plan):  # whatever their order: no time goes into these
            self.seeds[seed] = _SeedState("reused", plan.num_steps)
        self.metric = METRIC_NAMES[plan.task.headline]
        self._started = time.monotonic()
        self._begun: dict[int, int] = {}  # the first step that each seed was heard of
        self._spoke = self._started

    def preparing(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._spoke > SILENCE:
            self._spoke = time.monotonic()
            self.line(f"{what}: {done:,} of {total:,} examples")

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        self.seeds[seed].state = "running"
        if resumed:
            self.line(f"seed {seed}: goes on in epoch {epochs_done + 1}")

    def step(self, seed: int, step: int, mean_loss: float, examples_per_second: float) -> None:
        state = self.seeds[seed]
        if not self._begun:
            self._started = time.monotonic()
        self._begun.setdefault(seed, step)
        state.trained = state.step = step
        state.mean_loss, state.speed = mean_loss, examples_per_second
        state.evaluated = 0

    def evaluating(self, seed: int, num_examples: int) -> None:
        self.seeds[seed].evaluated += num_examples

    def epoch(self, seed: int, record: EpochRecord) -> None:
        state = self.seeds[seed]
        score = record.values[self.plan.task.headline]
        state.scores.append(score)
        remark = ", collapsed to one class" if record.collapsed else ""
        self.line(
            f"seed {seed}, epoch {record.epoch} of {self.plan.config.training.epochs}: "
            f"loss {record.train_loss:.4f}, {self.metric} {percent(score)} on "
            f"{self.plan.selecting_split}{remark}, {record.examples_per_second:.0f} examples/s, "
            f"{self._left()} left"
        )

    def seed_done(self, result: SeedResult, *, reused: bool) -> None:
        state = self.seeds[result.seed]
        state.state, state.step = "reused" if reused else "done", self.plan.num_steps
        score = result.score(self.plan.task.headline)
        state.status = result.status
        how = "finished earlier" if reused else result.status
        self.line(f"seed {result.seed}: {how}, {self.metric} {percent(score)}")
        if reused:
            state.scores = [score]

    def failed(self, seed: int, failure: Failure) -> None:
        self.seeds[seed].state = self.seeds[seed].status = "failed"
        self.note(f"seed {seed}: {failure.error}")

    def saved(self, path: Path) -> None:
        """Of no interest here."""

    def note(self, text: str) -> None:
        say(self.console, text, style="yellow")

    def line(self, text: str) -> None:
        say(self.console, text)

    def _left(self) -> str:
        """Time to the end at the pace so far, evaluation included; of what failed or diverged nothing
        is ahead.
        """
        here = sum(self.seeds[seed].trained - first for seed, first in self._begun.items())
        ahead = sum(
            self.plan.num_steps - state.step
            for state in self.seeds.values()
            if state.state in ("waiting", "running")
        )
        if here <= 0:
            return "–"
        return duration((time.monotonic() - self._started) / here * ahead)


class LiveTable(Lines):
    """A row a seed, refreshed in place."""

    prepared = ("", 0, 0)  # what is being prepared, examples done, and all

    def preparing(self, what: str, done: int, total: int) -> None:
        self.prepared = what, done, total

    def line(self, text: str) -> None:
        """Everything is in the table already."""

    def __rich__(self) -> RenderableType:
        epochs = self.plan.config.training.epochs
        per_epoch = max(1, self.plan.num_steps // epochs)
        shown = table(
            "seed", "epoch", "", "loss", self.metric, "by epoch", "examples/s",
            right=("seed", "epoch", "loss", self.metric, "examples/s"),
        )  # fmt: skip
        for seed, state in self.seeds.items():
            best = max((s for s in state.scores if s is not None), default=None)
            evaluating = f" evaluating {state.evaluated:,}" if state.evaluated else ""
            current = min(epochs, state.step // per_epoch + (state.state == "running"))
            shown.add_row(
                str(seed),
                f"{current}/{epochs}" if state.state != "waiting" else "",
                ProgressBar(total=self.plan.num_steps, completed=state.step, width=24),
                "" if state.mean_loss is None else f"{state.mean_loss:.4f}",
                "" if best is None else percent(best),
                _sparkline(state.scores),
                (f"{state.speed:.0f}{evaluating}" if state.speed else state.state)
                if state.state == "running"
                else state.status or state.state,
                style="dim" if state.state == "waiting" else None,
            )
        total = self.plan.num_steps * len(self.seeds)
        done = sum(state.step for state in self.seeds.values())
        foot = Table.grid(padding=(0, 2))
        what, examples, all_examples = self.prepared
        if examples < all_examples:
            bar = ProgressBar(total=all_examples, completed=examples, width=24)
            foot.add_row(what, bar, f"{examples:,} of {all_examples:,} examples")
        else:
            foot.add_row(
                f"{100 * done / total:.0f} % done",
                f"{self._left()} left",
                "[dim]Ctrl-C stops and saves[/]",
            )
        return Group(shown, foot)


def _sparkline(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(
        " " if value is None else SPARKS[int((value - low) / span * (len(SPARKS) - 1))]
        for value in values[-20:]
    )
