"""A tenth of a file's rows held out to select, where no validation file is given."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from adaptertune.data import tables
from adaptertune.data.draft.columns import examples
from adaptertune.data.tables import Row
from adaptertune.errors import ConfigError, DataError
from adaptertune.files import writing_atomically
from adaptertune.tasks import Columns

HELD_OUT = 0.1  # share of the examples


def divide(path: Path, columns: Columns, name: str, notes: list[str]) -> list[Path]:
    """The rows in two new files, for training and for validation, beside the first.

    Which rows are held out follows from the order of the hashes of their texts, so equal texts stay
    together. What was done is added to ``notes``.

    Raises:
        ConfigError: one of the files is there already.
        DataError: a row is bad, or there are too few different ones.
    """
    written = [path.with_name(f"{name}.{part}.jsonl") for part in ("train", "validation")]
    for target in written:
        if target.exists():
            is_source = target.samefile(path)
            remedy = "give --name, or --validation" if is_source else "remove it, or give --name"
            raise ConfigError("is there already", where=target, remedy=remedy)
    held_out = _held_out(Counter(_hash(row) for row in examples(path, columns)))
    numbers = [0, 0]
    with writing_atomically(written[0]) as train, writing_atomically(written[1]) as validation:
        for row in examples(path, columns):
            part = _hash(row) in held_out
            value = _texts(row) | {"label": tables.spelling(row.label)}
            line = json.dumps(value, ensure_ascii=False) + "\n"
            (validation if part else train).write(line.encode())
            numbers[part] += 1
        if not all(numbers):
            raise DataError(
                f"{sum(numbers)} rows have too few different texts to hold a tenth out",
                where=path,
                remedy="give a file with --validation",
            )
    held = "1 was" if numbers[1] == 1 else f"{numbers[1]:,} were"
    notes.append(
        f"no --validation: of {sum(numbers):,} rows, {held} held out to select, by the hash of their "
        f"texts ({written[0].name}, {written[1].name})"
    )
    return written


def _texts(row: Row) -> dict[str, str]:
    return {"first": row.first} | ({"second": row.second} if row.second else {})


def _hash(row: Row) -> bytes:
    return hashlib.sha256(json.dumps(_texts(row)).encode()).digest()[:8]


def _held_out(rows: Mapping[bytes, int]) -> set[bytes]:
    """The hashes, lowest first, of a tenth of the rows.

    Args:
        rows: how many rows have each hash. All or none of them are held out, so a hash that too many
            have is passed over.
    """
    wanted = max(1, round(HELD_OUT * sum(rows.values())))
    held_out = set()
    for digest in sorted(rows):
        if rows[digest] <= wanted:
            held_out.add(digest)
            wanted -= rows[digest]
    return held_out
