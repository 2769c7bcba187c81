"""Where the shipped YAML lies, inside the wheel or beside the package, and the user's cache."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path

from adaptertune.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(
    (folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()),
    _PACKAGE / "configs",
)


@lru_cache  # every cell of a sweep asks
def names(kind: str) -> list[str]:
    """The names of all shipped files of a kind: ``names("tasks")`` gives cola, mnli, …"""
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))


def absolute(path: str | Path, where: str) -> Path:
    """A path that is good from anywhere, its links by their names.

    Raises:
        ConfigError: it begins with a user whom nobody knows, or can't stand in a file; ``where`` is the
            option or key.
    """
    found = Path(os.path.abspath(expanded(path, where)))  # noqa: PTH100
    check_name(found, where)
    return found


def check_name(path: Path, where: str | None) -> None:
    """Whether a path can stand in a YAML or JSON file.

    Raises:
        ConfigError: its name is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        raise ConfigError(
            f"the name of '{shown}' is not UTF-8", where=where, remedy="rename it"
        ) from None


def expanded(path: str | Path, where: str | None) -> Path:
    """A path without ``~``; see :func:`absolute`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"no home folder for '{path}'", where=where, remedy="write it out"
        ) from None


def cache() -> Path:
    """The folder of what can be made again: ``ADAPTERTUNE_CACHE``, or the user's cache folder's own."""
    own = os.environ.get("ADAPTERTUNE_CACHE")
    if own:
        return Path(own)
    try:
        default = Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        default = Path(tempfile.gettempdir())
    return Path(os.environ.get("XDG_CACHE_HOME") or default) / "adaptertune"
