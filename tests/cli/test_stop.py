"""What a wish to stop does, whoever may or may not be there to read of it."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from adaptertune.cli import live, live_sweep
from adaptertune.cli.stop import StopRequest
from tests.runs.test_execute import plan
from tests.runs.test_sweep import make


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Gone(io.StringIO):
    """What a terminal, a pipe's reader or a disk that is no longer there makes of a line."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, _: str) -> int:
        raise self.error


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), BrokenPipeError(), RuntimeError("reentrant call inside …")],
)
def test_nothing_that_printing_raises_comes_in_the_middle_of_a_step(error: BaseException) -> None:
    """Rich makes an exit of a reader that has gone."""
    stop = StopRequest(Console(file=Gone(error)))
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_set()


@pytest.mark.usefixtures("handlers")
def test_sigterm_may_come_twice_and_sigint_then_stops_at_once() -> None:
    stop = StopRequest(Console(file=io.StringIO()))
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_set()
    with pytest.raises(SystemExit) as ending:
        os.kill(os.getpid(), signal.SIGINT)
    assert ending.value.code == 130


def test_a_training_goes_on_where_its_terminal_is_gone(tiny_bert: Path, tmp_path: Path) -> None:
    """An error there would count as the training's own."""
    console = Console(file=Gone(OSError(5, "Input/output error")))
    lines = live.Lines(plan(tiny_bert, tmp_path), console, lambda: False)
    lines.note("the pooler was never trained")
    lines.line("seed 0")
    made = make(tiny_bert, tmp_path, seeds=1)
    several = live_sweep.SweepLines(made, lambda _: 1.0, console, lambda: False)
    several.line("1 training")
    several.of(made.cells[0].plan).note("the pooler was never trained")
