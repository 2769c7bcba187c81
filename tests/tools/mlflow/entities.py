"""See the package."""

from __future__ import annotations

from typing import NamedTuple


class Param(NamedTuple):
    key: str
    value: str
