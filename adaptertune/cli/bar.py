"""How far a piece of work is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

SILENCE = 2.0  # seconds between two lines where there is no terminal


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for what is being measured; a line from time to time where there is no terminal."""
    if not console.is_terminal or console.quiet:
        spoke = time.monotonic()

        def line(what: str, done: int, total: int) -> None:
            nonlocal spoke
            if time.monotonic() - spoke > SILENCE:
                spoke = time.monotonic()
                console.print(f"{what}: {done:,} of {total:,}")

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        row = bar.add_task("models", total=None)
        yield lambda what, done, total: bar.update(
            row, description=what, completed=done, total=total
        )
