"""``adaptertune doctor``: whether this machine has what a run needs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from adaptertune.cli import options


def doctor(output: options.Output = None, as_json: options.Json = False) -> None:
    """Look at versions, device, memory, models, data, network and disk, each with a remedy.

    Exit code 2 if something is missing that every run needs.
    """
    from adaptertune import doctor as examining
    from adaptertune.report import tables

    checks = examining.examine(output or Path("runs"))
    if as_json:
        print(json.dumps({"checks": [asdict(check) for check in checks]}))
    else:
        from rich.text import Text

        marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}
        made = tables.table("", "", "")
        made.show_header = False
        for check in checks:
            mark, style = marks[check.level]
            told = Text(check.found)
            if check.remedy:
                told.append(f"\n→ {check.remedy}", style)
            made.add_row(Text(mark, style), check.name, told)
        tables.console().print(made)
    if any(check.level == "error" for check in checks):
        raise typer.Exit(2)
