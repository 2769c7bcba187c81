"""What is shown of a cell before its first step."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from adaptertune.cli import live
from tests.runs.test_execute import plan


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
