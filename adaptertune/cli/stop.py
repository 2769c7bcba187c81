"""SIGINT and SIGTERM as a wish to stop."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class StopRequest:
    """SIGINT and SIGTERM ask to stop after the current step; a second SIGINT stops at once."""

    def __init__(self, console: Console) -> None:
        self._set = False
        self._console = console
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)

    def is_set(self) -> bool:
        return self._set

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        if self._set:
            sys.exit(130)
        self._set = True
        self._console.print("[yellow]stopping after this step …[/]")
