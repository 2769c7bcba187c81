"""What is shown of a cell before its first step."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from adaptertune.cli import live
from adaptertune.executors.serial import run_cell
from adaptertune.report.tables import duration
from adaptertune.runs.results import Failure
from tests.runs.test_execute import Quiet, plan


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tokenising_is_told_when_it_takes_a_while(
    tiny_bert: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = live.Lines(plan(tiny_bert, tmp_path), console, lambda: False)
    lines.preparing("tokenising", 1000, 4000)
    assert shown(console) == ""
    monkeypatch.setattr(live, "SILENCE", 0.0)
    lines.preparing("tokenising", 2000, 4000)
    assert shown(console) == "tokenising: 2,000 of 4,000 examples\n"


def test_tokenising_has_a_bar_on_a_terminal(
    tiny_bert: Path, tmp_path: Path, console: Console
) -> None:
    table = live.LiveTable(plan(tiny_bert, tmp_path), console, lambda: False)
    table.preparing("tokenising", 2000, 4000)
    console.print(table)
    assert "tokenising" in shown(console)
    assert "2,000 of 4,000 examples" in shown(console)
    assert "0 % done" not in shown(console)
    table.preparing("tokenising", 4000, 4000)
    console.print(table)
    assert "0 % done" in shown(console)


def test_seeds_that_are_finished_take_no_more_time(
    tiny_bert: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come later in the list too."""
    run_cell(plan(tiny_bert, tmp_path, seeds=[1, 2, 3]), Quiet())
    made = plan(tiny_bert, tmp_path, seeds=[0, 1, 2, 3])
    lines = live.Lines(made, console, lambda: False)
    moments = iter([0.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    lines.step(0, 0, 0.5, 1.0)
    lines.step(0, made.num_steps // 2, 0.5, 1.0)
    assert lines._left() == "10 s"
    monkeypatch.undo()
    table = live.LiveTable(made, console, lambda: False)
    console.print(table)
    assert "75 % done" in shown(console)


FOREIGN = "RuntimeError: [enforce fail at alloc_cpu.cpp:100:] [/ no memory] in runs[old]"


def test_what_a_failure_says_is_shown_as_it_is(
    tiny_bert: Path, tmp_path: Path, console: Console
) -> None:
    """Brackets are no markup, `:100:` is no emoji, and a log's lines are not broken."""
    lines = live.Lines(plan(tiny_bert, tmp_path), console, lambda: False)
    lines.failed(0, failure(FOREIGN))
    lines.note(FOREIGN)
    lines.line(f"{FOREIGN} {'x' * 100}")
    expected = [f"seed 0: {FOREIGN}", FOREIGN, f"{FOREIGN} {'x' * 100}"]
    assert shown(console).splitlines() == expected


def failure(error: str) -> Failure:
    return Failure(
        seed=0, digest="", error=error, traceback="", attempts=1, failed_at="", host=""
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What it shows now, to be set."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_what_failed_or_diverged_has_nothing_ahead(
    tiny_bert: Path, tmp_path: Path, console: Console, clock: list[float]
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=[0, 1, 2])
    lines, half = live.Lines(made, console, lambda: False), made.num_steps // 2
    assert half * 2 == made.num_steps
    for seed in range(3):
        lines.seed_started(seed, epochs_done=0, resumed=False)
        lines.step(seed, 0, 0.5, 1.0)
    clock[0] = 10.0
    for seed in range(3):
        lines.step(seed, half, 0.5, 1.0)
    assert lines._left() == "10 s"
    lines.failed(0, failure("no memory"))
    assert lines._left() == "7 s"  # two thirds
    # One that diverged is shown as ended, and was not trained to its end.
    lines.seeds[1].state, lines.seeds[1].step = "done", made.num_steps
    assert lines._left() == "3 s"


def test_seeds_that_go_on_together_were_not_trained_now(
    tiny_bert: Path, tmp_path: Path, console: Console, clock: list[float]
) -> None:
    """All of them begin in the middle, not only the first that is heard of."""
    made = plan(tiny_bert, tmp_path, seeds=[0, 1, 2])
    lines, half = live.Lines(made, console, lambda: False), made.num_steps // 2
    for seed in range(3):
        lines.seed_started(seed, epochs_done=1, resumed=True)
        lines.step(seed, half, 0.5, 1.0)
    clock[0] = 10.0
    for seed in range(3):
        lines.step(seed, half + 1, 0.5, 1.0)
    left = 10 * (made.num_steps - half - 1)
    assert lines._left() == duration(left)
