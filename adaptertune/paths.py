"""Where the shipped YAML lies: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(
    (folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()),
    _PACKAGE / "configs",
)


def names(kind: str) -> list[str]:
    """The names of all shipped files of a kind: ``names("tasks")`` gives cola, mnli, …"""
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))
