"""A sweep as it happens: one live table of all that runs on a terminal, a line a training elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adaptertune.cli.live import say
from adaptertune.report.tables import METRIC_NAMES, duration, percent, setting, table, varied
from adaptertune.runs.plan import Plan, method_labels

if TYPE_CHECKING:
    from adaptertune.runs.results import Failure, SeedResult
    from adaptertune.runs.sweep import Survey, Sweep
    from adaptertune.runs.units import Unit
    from adaptertune.train.loop import EpochRecord

RECENT = 6  # finished trainings that the table keeps in sight


@contextmanager
def view(
    sweep: Sweep,
    seconds: Callable[[Unit], float],
    console: Console,
    should_stop: Callable[[], bool],
) -> Iterator[SweepLines]:
    """The view for a console: live on a terminal, lines otherwise.

    Args:
        seconds: the forecast of a unit, by which the time left is reckoned.
    """
    if not console.is_terminal or console.quiet:
        yield SweepLines(sweep, seconds, console, should_stop)
        return
    shown = SweepTable(sweep, seconds, console, should_stop)
    with Live(shown, console=console, refresh_per_second=4, transient=True):
        yield shown


def settings(sweep: Sweep) -> dict[str, str]:
    """Each cell in a few words, by its digest: its method, and what else the grid chose for it."""
    keys = varied(sweep.config.grids)
    labels = method_labels(cell.plan.config.method for cell in sweep.cells)
    found = {}
    for cell in sweep.cells:
        others = [
            setting(key, value)
            for key, value in cell.chosen.items()
            if key in keys and not key.startswith("method.")
        ]
        found[cell.plan.digest] = " ".join([labels[cell.plan.config.method], *others])
    return found


@dataclass
class _Running:
    """A training under way."""

    label: str
    seed: int
    num_steps: int
    metric: str
    step: int = 0
    is_resumed: bool = False  # and has not said at which step
    speed: float | None = None
    mean_loss: float | None = None
    score: float | None = None

    @property
    def share(self) -> float:
        return self.step / self.num_steps


class SweepLines:
    """One line a finished training; also the base of the table, which shows the same states."""

    def __init__(
        self,
        sweep: Sweep,
        seconds: Callable[[Unit], float],
        console: Console,
        should_stop: Callable[[], bool],
    ) -> None:
        self.sweep, self.console, self.should_stop = sweep, console, should_stop
        self._seconds = seconds
        self._labels = settings(sweep)
        self._said: set[tuple[str, str]] = set()
        self._cells: dict[str, CellProgress] = {}
        self.running: dict[tuple[str, int], _Running] = {}
        self.recent: deque[str] = deque(maxlen=RECENT)
        self.num_ahead = self.num_done = self.num_failed = 0
        self.stage_name = "trainings"
        self._ahead: dict[tuple[str, int], float] = {}  # seconds of what is not settled yet
        self._later = 0.0  # seconds of the next stage
        self._before: dict[tuple[str, int], float] = {}  # shares that earlier processes did
        self._settled = 0.0  # seconds, without those shares
        self._started = time.monotonic()

    def stage(self, name: str, found: Survey, later: Sequence[Unit]) -> None:
        self.stage_name = name
        self._later = sum(map(self._seconds, later))
        self._ahead = {
            (unit.plan.digest, seed): self._seconds(unit) / len(unit.seeds)
            for unit in found.ahead
            for seed in unit.seeds
        }
        self.num_ahead, self.num_done = len(self._ahead), 0
        self._before, self._settled = {}, 0.0
        self._started = time.monotonic()
        self.num_failed += found.num_failed
        if found.num_done:
            again = f" ({found.num_failed} failed; --retry-failed tries again)"
            settled = (
                "1 training was" if found.num_done == 1 else f"{found.num_done:,} trainings were"
            )
            self.line(f"{settled} settled earlier{again if found.num_failed else ''}")

    def of(self, plan: Plan) -> CellProgress:
        if plan.digest not in self._cells:
            self._cells[plan.digest] = CellProgress(self, plan, self._labels[plan.digest])
        return self._cells[plan.digest]

    def started(self, digest: str, run: _Running) -> None:
        """A training is under way, perhaps once more: its worker died, or it begins anew."""
        key = digest, run.seed
        run.is_resumed = run.is_resumed and key not in self._before
        self._before[key] = min(run.share, self._before.get(key, 1.0))
        self.running[key] = run

    def stepped(self, digest: str, seed: int, step: int) -> _Running | None:
        run = self.running.get((digest, seed))
        if run:
            run.step = step
            if run.is_resumed:  # within an epoch: only now it says where
                self._before[digest, seed], run.is_resumed = run.share, False
        return run

    def settled(self, plan: Plan, seed: int, text: str, *, elsewhere: bool = False) -> None:
        """A training is over, or another process was found to have done it ``elsewhere``."""
        key = plan.digest, seed
        self.running.pop(key, None)
        seconds = self._ahead.pop(key, 0.0)
        if not elsewhere:
            self._settled += seconds * (1 - self._before.get(key, 0.0))
        self.num_done += 1
        self.recent.append(text)
        of = "" if self.stage_name == "trainings" else f"{self.stage_name} "
        self.line(f"[{of}{self.num_done}/{self.num_ahead}] {text}, {self.left()} left")

    def left(self) -> str:
        """Time to the end of all stages, by the forecast corrected by how it has been so far. What
        earlier or other processes did is not ahead, and says nothing of this one's pace.
        """
        ahead, done = sum(self._ahead.values()) + self._later, self._settled
        for key, run in self.running.items():
            seconds = self._ahead.get(key, 0.0)
            ahead -= seconds * run.share
            done += seconds * max(0.0, run.share - self._before[key])
        elapsed = time.monotonic() - self._started
        if done <= 0 or elapsed < 1:
            return "–"
        return duration(elapsed * ahead / done)

    def note(self, task: str, label: str, text: str) -> None:
        """What names no seed is about the task's data, and every cell and worker says it."""
        if not text.startswith("seed"):
            if (task, text) in self._said:
                return
            self._said.add((task, text))
            label = task
        text = f"{label}: {text}"
        say(self.console, text, style="yellow")

    def line(self, text: str) -> None:
        say(self.console, text)


class CellProgress:
    """One cell's progress, told to the sweep's view."""

    def __init__(self, view: SweepLines, plan: Plan, label: str) -> None:
        self._view, self._plan = view, plan
        self._label = f"{plan.task.name} {label}"
        self._metric = METRIC_NAMES[plan.task.headline]

    def preparing(self, what: str, done: int, total: int) -> None:
        """Of no interest among many trainings."""

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        steps = self._plan.num_steps
        done = steps * epochs_done // self._plan.config.training.epochs
        run = _Running(self._label, seed, steps, self._metric, step=done, is_resumed=resumed)
        self._view.started(self._plan.digest, run)
        if resumed:
            self._view.line(f"{self._label}, seed {seed}: goes on in epoch {epochs_done + 1}")

    def step(self, seed: int, step: int, mean_loss: float, examples_per_second: float) -> None:
        run = self._view.stepped(self._plan.digest, seed, step)
        if run:
            run.mean_loss, run.speed = mean_loss, examples_per_second

    def evaluating(self, seed: int, num_examples: int) -> None:
        """Of no interest among many trainings."""

    def epoch(self, seed: int, record: EpochRecord) -> None:
        run = self._view.running.get((self._plan.digest, seed))
        score = record.values[self._plan.task.headline]
        if run and score is not None:
            run.score = score if run.score is None else max(score, run.score)

    def seed_done(self, result: SeedResult, *, reused: bool) -> None:
        score = percent(result.score(self._plan.task.headline))
        told = f"{self._metric} {score} on {self._plan.selecting_split}"
        text = f"{self._label}, seed {result.seed}: "
        text += told if result.status == "finished" else result.status
        text += ", collapsed" if result.is_collapsed else ""
        self._view.settled(self._plan, result.seed, text, elsewhere=reused)

    def failed(self, seed: int, failure: Failure) -> None:
        self._view.num_failed += 1
        text = f"{self._label}, seed {seed}: failed: {failure.error}"
        self._view.settled(self._plan, seed, text)

    def saved(self, path: Path) -> None:
        """Of no interest here."""

    def note(self, text: str) -> None:
        self._view.note(self._plan.task.name, self._label, text)

    def should_stop(self) -> bool:
        return self._view.should_stop()


class SweepTable(SweepLines):
    """What runs, what was finished last, and how far all of it is."""

    def line(self, text: str) -> None:
        """Everything is in the table already."""

    def __rich__(self) -> RenderableType:
        shown = table(
            "running", "seed", "", "loss", "best so far", "examples/s",
            right=("seed", "loss", "best so far", "examples/s"),
        )  # fmt: skip
        for run in list(self.running.values()):
            shown.add_row(
                run.label,
                str(run.seed),
                ProgressBar(total=run.num_steps, completed=run.step, width=12),
                "" if run.mean_loss is None else f"{run.mean_loss:.4f}",
                "" if run.score is None else f"{run.metric} {percent(run.score)}",
                "" if run.speed is None else f"{run.speed:.0f}",
            )
        recent = Table.grid(padding=(0, 2))
        for text in self.recent:
            recent.add_row(Text(text, style="dim"))
        foot = Table.grid(padding=(0, 2))
        failed = [f"[red]{self.num_failed} failed[/]"] if self.num_failed else []
        foot.add_row(
            ProgressBar(total=max(1, self.num_ahead), completed=self.num_done, width=16),
            f"{self.num_done} of {self.num_ahead} {self.stage_name}",
            f"{self.left()} left",
            *failed,
            "[dim]Ctrl-C stops and saves[/]",
        )
        return Group(shown, recent, "", foot)
