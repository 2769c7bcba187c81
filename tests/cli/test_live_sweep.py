"""What a sweep's view tells while trainings run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from adaptertune.cli import live_sweep
from adaptertune.runs import sweep
from adaptertune.runs.units import Unit
from tests.runs.test_sweep import make


class Clock:
    """The view's clock, in seconds, which stands until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(live_sweep, "time", made)
    return made


def surveyed(todo: Sequence[Unit]) -> sweep.Survey:
    """A store that has nothing of these."""
    return sweep.Survey((), tuple(todo), 0, 0, None)


def begun(
    bert: Path, output: Path, stage: str, num_later: int = 0
) -> tuple[sweep.Sweep, live_sweep.SweepLines]:
    """A view of four trainings of one epoch, each said to take 100 seconds, and of so many later."""
    made = make(bert, output, seeds=1)
    console = Console(file=io.StringIO(), width=100)
    view = live_sweep.SweepLines(made, lambda unit: 100.0 * len(unit.seeds), console, lambda: False)
    units = sweep.first_units(made)
    view.stage(stage, surveyed(units), units[:num_later])
    return made, view


def test_the_time_left_is_by_the_pace_so_far(tiny_bert: Path, tmp_path: Path, clock: Clock) -> None:
    made, view = begun(tiny_bert, tmp_path, "trainings")
    plan = made.cells[0].plan
    view.of(plan).seed_started(0, epochs_done=0, resumed=False)
    view.of(plan).step(0, plan.num_steps, 0.5, 10.0)
    clock.now = 200.0  # twice as long as forecast
    assert view.left() == "10 min 00 s"


def test_what_an_earlier_process_did_is_not_this_ones_pace(
    tiny_bert: Path, tmp_path: Path, clock: Clock
) -> None:
    """The first goes on within its only epoch, of which 20 of 25 steps were done."""
    made, view = begun(tiny_bert, tmp_path, "trainings")
    plan = made.cells[0].plan
    assert plan.num_steps == 25
    view.of(plan).seed_started(0, epochs_done=0, resumed=True)
    view.of(plan).step(0, 20, 0.5, 10.0)
    clock.now = 20.0
    assert view.left() == "–"
    view.of(plan).step(0, 25, 0.5, 10.0)  # 20 seconds' worth, in as many seconds
    assert view.left() == "5 min 00 s"
    view.settled(plan, 0, "done")
    assert view.left() == "5 min 00 s"


@pytest.mark.parametrize(
    ("resumed", "again_resumed", "step", "now", "left"),
    [
        # Its worker dies after 20 of 25 steps, and another goes on there: 84 of 400 seconds are done.
        (False, True, 21, 84.0, "5 min 16 s"),
        # It went on at step 20, and is out of memory: all of it is ahead once more.
        (True, False, 25, 100.0, "5 min 00 s"),
    ],
)
def test_a_training_that_starts_twice_counts_what_was_done_here(
    tiny_bert: Path, tmp_path: Path, clock: Clock,
    *, resumed: bool, again_resumed: bool, step: int, now: float, left: str,
) -> None:  # fmt: skip
    made, view = begun(tiny_bert, tmp_path, "trainings")
    progress = view.of(made.cells[0].plan)
    progress.seed_started(0, epochs_done=0, resumed=resumed)
    progress.step(0, 20, 0.5, 10.0)
    progress.seed_started(0, epochs_done=0, resumed=again_resumed)
    progress.step(0, step, 0.5, 10.0)
    clock.now = now
    assert view.left() == left


def test_what_another_process_did_is_neither_ahead_nor_this_ones_pace(
    tiny_bert: Path, tmp_path: Path, clock: Clock
) -> None:
    made, view = begun(tiny_bert, tmp_path, "trainings")
    first, second = made.cells[0].plan, made.cells[1].plan
    clock.now = 2.0
    view.settled(first, 0, "done", elsewhere=True)
    assert view.left() == "–"
    view.of(second).seed_started(0, epochs_done=0, resumed=False)
    view.of(second).step(0, 25, 0.5, 10.0)
    clock.now = 100.0
    assert view.left() == "3 min 20 s"  # 100 of 300 seconds are done


def test_the_seeds_that_choose_are_counted_as_such(
    tiny_bert: Path, tmp_path: Path, clock: Clock
) -> None:
    made, view = begun(tiny_bert, tmp_path, "first seeds")
    clock.now = 100.0
    view.settled(made.cells[0].plan, 0, "rte adapter-4, seed 0: accuracy 60.0")
    assert isinstance(view.console.file, io.StringIO)
    told = view.console.file.getvalue()
    assert told == "[first seeds 1/4] rte adapter-4, seed 0: accuracy 60.0, 5 min 00 s left\n"


def test_the_time_left_is_to_the_end_of_all_stages(
    tiny_bert: Path, tmp_path: Path, clock: Clock
) -> None:
    made, view = begun(tiny_bert, tmp_path, "first seeds", num_later=2)
    for number, cell in enumerate(made.cells, start=1):
        clock.now = 100.0 * number
        view.settled(cell.plan, 0, "done")
    assert view.left() == "3 min 20 s"
    clock.now = 0.0
    view.stage("other seeds", surveyed(sweep.first_units(made)[:2]), ())
    clock.now = 100.0
    view.settled(made.cells[0].plan, 0, "done")
    assert view.left() == "1 min 40 s"
