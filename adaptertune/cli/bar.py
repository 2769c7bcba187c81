"""A bar for work whose amount may be known; lines from time to time where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

SILENCE = 2.0  # seconds between two lines

OnProgress = Callable[[str, int, int | None], None]  # what is done, how much, and of how much


@contextmanager
def progress(console: Console) -> Iterator[OnProgress]:
    """What to call with each piece of progress."""
    if not console.is_terminal or console.quiet:
        spoke = time.monotonic()

        def line(what: str, done: int, total: int | None) -> None:
            nonlocal spoke
            if time.monotonic() - spoke > SILENCE:
                spoke = time.monotonic()
                console.print(f"{what}: {done:,}" + ("" if total is None else f" of {total:,}"))

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        row = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            row, description=what, completed=done, total=total
        )
