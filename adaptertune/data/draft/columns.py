"""Which columns of a file hold the label and the texts: as told, or by their names and their content."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptertune.data import tables
from adaptertune.data.tables import Bad, Row, Table
from adaptertune.errors import ConfigError, DataError
from adaptertune.tasks import Columns
from adaptertune.yamlfile import nearest

# Column names that say "label", the usual ones first.
LABEL_NAMES = (
    "label", "gold_label", "labels", "class", "category", "target", "score", "rating", "sentiment",
    "intent", "y",
)  # fmt: skip
# … and those that say "text", even where its cells have one word each.
TEXT_NAMES = ("text", "sentence", "content", "message", "query", "utterance", "phrase", "word")
SAMPLE = 500  # rows that the guess of the text columns rests on


def find_columns(
    path: Path, label: str | None, first: str | None, second: str | None, notes: list[str]
) -> Columns:
    """Where label and texts are: as told, or by the names and the content of the columns.

    What was guessed, and why, is added to ``notes``.

    Raises:
        DataError: the file holds no rows, or lacks a column that was told, or a guess can't be made.
        ConfigError: of columns given by position, one is missing.
    """
    given = [column for column in (label, first, second) if column is not None]
    with tables.opened(path, tables.format_of(path, None)) as table:
        names = table.names
        if table.format == "text":
            raise DataError("a text file has no labels", where=path, remedy="use .tsv, .csv, …")
        rows = list(itertools.islice(_cells(table), SAMPLE))
    if given and table.has_positions and all(column.isdecimal() for column in given):
        if set(given) <= set(names):
            raise DataError(
                f"{', '.join(given)} are positions and what the first line says: a header or a row?",
                where=f"{path}:1",
                remedy="give the file a header line with names",
            )
        if label is None or first is None:
            raise ConfigError("a file without header line needs --label and --first")
        place = None if second is None else int(second)
        notes.append(f"the first line is a row, no header: {', '.join(map(repr, names))}")
        return Columns(first=int(first), second=place, label=int(label))
    if not names or not rows:
        raise DataError("the file holds no rows", where=path, remedy="give one with labelled rows")
    for column in given:
        if column not in names:
            raise DataError(
                f"no column '{column}'", where=f"{path}:1", remedy=nearest(column, names)
            )
    among = ", ".join(map(repr, names))  # quoted, for one may begin with a space
    if label is None:
        known = [name for name in dict.fromkeys(names) if name.lower() in LABEL_NAMES]
        if len(known) != 1:
            what = f"several columns may be the label: {', '.join(known)}" if known else (
                f"no column is called {', '.join(LABEL_NAMES[:4])} or the like"
            )  # fmt: skip
            raise DataError(what, where=path, remedy=f"give --label, of {among}")
        label = known[0]
        notes.append(f"the label is column {label!r}, by its name")
    if first is None:
        if second is not None:
            raise ConfigError("--second goes with --first")
        texts = [name for name in names if name != label and _is_text(name, rows)]
        why = "what else has several words in a cell"
        named = [name for name in names if name != label and name.lower() in TEXT_NAMES]
        if len(named) == 1 and named[0] not in texts:
            texts, why = named, "by its name"
        if not 1 <= len(texts) <= 2:
            found = ", ".join(texts) if texts else "none"
            raise DataError(
                f"which columns hold the text can't be told (with several words: {found})",
                where=path,
                remedy=f"give --first and, for pairs, --second, of {among}",
            )
        first, second = texts[0], texts[1] if len(texts) == 2 else None
        told = " and ".join(map(repr, texts))
        notes.append(f"the text is column {told}: {why}")
    return Columns(first=first, second=second, label=label)


def examples(path: Path, columns: Columns) -> Iterator[Row]:
    """A file's rows.

    Raises:
        DataError: a row is bad.
    """
    with tables.opened(path, tables.format_of(path, None)) as table:
        for row in table.rows(columns):
            if isinstance(row, Bad):
                raise row.error(path)
            yield row


def _cells(table: Table) -> Iterator[Mapping[str, Any]]:
    """The rows' cells by column name.

    Raises:
        DataError: a row is bad.
    """
    for number, record in enumerate(table.records()):
        if isinstance(record, Bad):
            raise record.error(table.name)
        cells = record[1]
        if isinstance(cells, dict):
            yield cells
        elif number:  # behind the header line
            yield dict(zip(table.names, cells, strict=False))


def _is_text(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether most cells of a column have several words."""
    cells = [row.get(name) for row in rows]
    wordy = [cell for cell in cells if isinstance(cell, str) and len(cell.split()) > 1]
    return bool(cells) and len(wordy) > len(cells) / 2
