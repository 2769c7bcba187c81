"""What a shell completes beside commands and options: names of tasks, methods, trackers and runs.

Where none fits, the shell goes on with files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

import typer

from adaptertune import config, tasks
from adaptertune.cli.carry_out import ExecutorName


def one_of(find: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Completes a name, or the last one of several with commas between them."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in find() if name.startswith(last)]

    return complete


task = one_of(tasks.shipped)
method = one_of(config.method_names)
executor = one_of(lambda: get_args(ExecutorName))


def tracker(incomplete: str) -> list[str]:
    """Trackers, as :func:`one_of` completes them."""
    from adaptertune import trackers

    return one_of(lambda: trackers.TOOLS)(incomplete)


def run(context: typer.Context, incomplete: str) -> list[str]:
    """Runs of the store, finished or not: with their tasks, or without where it begins so."""
    from adaptertune.runs import store

    found = [cell.path for cell in store.cells(context.params.get("output") or Path("runs"))]
    names = [f"{path.parent.name}/{path.name}" for path in found]
    return [name for name in names if name.startswith(incomplete)] or [
        path.name for path in found if path.name.startswith(incomplete)
    ]
