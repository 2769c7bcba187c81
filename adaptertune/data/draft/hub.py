"""Which files of a dataset on the hub are which split."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from adaptertune.data import tables
from adaptertune.errors import ConfigError, DataError
from adaptertune.yamlfile import nearest

# What the hub's splits are called, the usual names first.
TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("validation", "valid", "val", "dev")


def splits_of(files: Sequence[str], subset: str | None, place: str) -> dict[str, str]:
    """The splits of a dataset by name, each with the pattern that fits its files and no others.

    A file is called after its split, or lies in a folder that is: ``data/train-00000-of-00002.parquet``,
    ``default/train/0000.parquet``, ``train.jsonl``. Parquet goes before other formats.

    Raises:
        ConfigError: rows lie in several folders, or not in the one that ``subset`` names.
        DataError: there are none, or no pattern fits a split's files alone.
    """
    found: dict[str, dict[str, list[str]]] = {}  # by folder of the subset, and name
    for file in files:
        path = PurePosixPath(file)
        is_plain = not set(file) & set("*?[\\") and not any(p.startswith(".") for p in path.parts)
        if not is_plain or tables.ENDINGS.get(path.suffix, "text") == "text":
            continue
        stem, above = re.sub(r"-\d+-of-\d+(-[0-9a-f]+)?$", "", path.stem), path.parent
        if stem.isdecimal() and above.name:
            stem, above = above.name, above.parent
        found.setdefault(str(above), {}).setdefault(stem, []).append(file)
    if subset is not None:
        known = sorted(found)
        found = {above: splits for above, splits in found.items() if above == subset}
        if not found:
            raise ConfigError(f"no folder '{subset}'", where=place, remedy=nearest(subset, known))
    if not found:
        raise DataError(
            f"no files of rows ({', '.join(sorted(set(tables.ENDINGS) - {'.txt'}))})", where=place
        )
    if len(found) > 1:
        raise ConfigError(
            "rows lie in several folders",
            where=place,
            remedy=f"give --subset, of {', '.join(found)}",
        )
    (splits,) = found.values()
    return {split: _pattern(own, files, f"{place}, {split}") for split, own in splits.items()}


def choose_split(
    patterns: Mapping[str, str], given: str | None, usual: Sequence[str], option: str, place: str
) -> str:
    """The split that is named, or that has one of the usual names.

    Raises:
        ConfigError: there is none of the name.
        DataError: none has a usual name.
    """
    if given is not None and given not in patterns:
        raise ConfigError(
            f"no split '{given}'", where=place, remedy=nearest(given, sorted(patterns))
        )
    found = given or next((name for name in usual if name in patterns), None)
    if found is None:
        raise DataError(
            f"no split is called {usual[0]}",
            where=place,
            remedy=f"give {option}, of {', '.join(sorted(patterns))}",
        )
    return found


def _pattern(own: Sequence[str], files: Sequence[str], where: str) -> str:
    """One pattern for a split's files and no others."""
    suffixes = sorted({PurePosixPath(file).suffix for file in own}, key=list(tables.ENDINGS).index)
    suffix = ".parquet" if ".parquet" in suffixes else suffixes[0]
    own = [file for file in own if file.endswith(suffix)]
    if len(own) == 1:
        return own[0]
    prefix = os.path.commonprefix(own)  # noqa: RUF071 (of names, not of folders)
    for short in (prefix.rstrip("0123456789"), prefix):
        folder, _, name = f"{short}*{suffix}".rpartition("/")
        fitting = [
            file
            for file in files
            if file.rpartition("/")[0] == folder and fnmatchcase(file.rpartition("/")[2], name)
        ]
        if sorted(own) == sorted(fitting):
            return f"{short}*{suffix}"
    raise DataError(f"{prefix}*{suffix} fits other files too", where=where)
