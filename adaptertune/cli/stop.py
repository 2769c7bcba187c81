"""SIGINT and SIGTERM as a wish to stop."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class StopRequest:
    """SIGINT and SIGTERM ask to stop after the current step; then SIGINT stops at once. SIGTERM may come
    twice: a batch system sends it again, at the limit.
    """

    def __init__(self, console: Console) -> None:
        self._set = False
        self._console = console
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)

    def is_set(self) -> bool:
        return self._set

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self._set:
            if number == signal.SIGINT:
                sys.exit(130)
            return
        self._set = True
        # The terminal or a pipe's reader may be gone, or this comes in the middle of another line: an
        # error, raised here in the middle of a step, would lose what is to be saved.
        with suppress(Exception, SystemExit):
            self._console.print("[yellow]stopping after this step …[/]")
