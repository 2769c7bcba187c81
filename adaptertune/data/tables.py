"""Rows of TSV, CSV, JSON Lines, Parquet and plain text files, one at a time and in their order.

Nothing is guessed but CSV's delimiter, and nothing is cleaned or dropped: what is not a row comes as
:class:`Bad`, with its line, and the reader goes on behind it. A file is never held whole, and no
line of it beyond ``LONGEST``.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, get_args

from adaptertune.errors import DataError, first_line
from adaptertune.tasks import Columns
from adaptertune.yamlfile import nearest

Format = Literal["tsv", "csv", "jsonl", "parquet", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: dict[str, Format] = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}
DELIMITERS = ",;\t|"
# Bytes of a line, and characters of a text: 2,000 times what BERT reads. It bounds the memory.
LONGEST = 1_000_000
PARQUET_BATCH = 1024  # rows that are decoded at a time
AHEAD = 100  # rows of JSON Lines whose keys are the columns
REMEDY = "mend or remove the row"


Cells = Sequence[Any] | Mapping[Any, Any]  # of a row, by position or by name


class Row(NamedTuple):
    """A row whose texts are texts. ``line`` counts from 1, in Parquet rows instead of lines.

    ``label`` is as it stands in the file, or None where no label column was asked for.
    """

    line: int
    first: str
    second: str | None
    label: Any


class Bad(NamedTuple):
    """What stands where a row should be: why it is none, what to do, and its content; of very long
    content the start.
    """

    line: int
    what: str
    remedy: str
    content: str
    is_torn: bool = False  # it has fewer columns than the first line: a line end inside a text?

    def error(self, name: object) -> DataError:
        """It as an error of the file of that name."""
        return DataError(self.what, where=f"{name}:{self.line}", remedy=self.remedy)


Record = tuple[int, Any]  # a line's number and its content: text, cells, or cells by name


def format_of(path: Path, option: str | None) -> Format:
    """The format that a file's ending tells.

    Raises:
        DataError: none does. ``option`` is that which would tell, if there is one.
    """
    found = ENDINGS.get(path.suffix.lower())
    if found is None:
        raise DataError(
            f"no format is known for '{path.suffix or path.name}'",
            where=path,
            remedy=f"name it {', '.join(ENDINGS)}{f', or give {option}' if option else ''}",
        )
    return found


@dataclass(frozen=True)
class Table:
    """An open file of rows, to be read once."""

    name: str  # for messages
    format: Format
    head: Sequence[Any] | Bad  # the column names, or the bad row in their place
    _read: Callable[[Sequence[str] | None], Iterator[Record | Bad]]  # in Parquet, of these columns
    may_lack_second: bool = False  # whether a second text may be empty or missing, and then is None

    @property
    def names(self) -> list[str]:
        """The column names: the first line's cells (whether or not they are a header), or the keys of
        the first rows.

        Raises:
            DataError: that line, or each of those rows, is bad.
        """
        if self.format == "text":
            return []
        if isinstance(self.head, Bad):
            what = f"{self.head.what}, so no columns are known"
            raise DataError(what, where=f"{self.name}:{self.head.line}", remedy=self.head.remedy)
        return [str(name) for name in self.head]

    @property
    def has_positions(self) -> bool:
        """Whether a number may be a column's position; in JSON Lines and Parquet it is a name."""
        return self.format not in ("jsonl", "parquet")

    def records(self) -> Iterator[Record | Bad]:
        """Everything as it stands, a header line included; of Parquet the columns of texts."""
        return self._read(None)

    def rows(self, columns: Columns) -> Iterator[Row | Bad]:
        """All rows, by the columns named. A text file has none: a line is a text or, where there is a
        second one, two with a tab between.

        Raises:
            DataError: a column is not there, there are no rows, or the header line is bad.
        """
        if self.format == "text":
            found = self._by_line(is_pair=columns.second is not None)
        elif self.has_positions:
            found = self._by_position(columns)
        else:
            found = self._by_name(columns)
        row = None
        for row in found:
            yield row
        if row is None:
            raise _no_rows(self.name)

    def _by_line(self, *, is_pair: bool) -> Iterator[Row | Bad]:
        for record in self.records():
            if isinstance(record, Bad):
                yield record
                continue
            line, text = record
            texts = text.split("\t") if is_pair else [text]
            if len(texts) == 1 + is_pair:
                yield self._row(line, text, texts, (0, 1 if is_pair else None, None))
            else:
                yield Bad(line, "not two texts with a tab between", REMEDY, text)

    def _by_position(self, columns: Columns) -> Iterator[Row | Bad]:
        records = self.records()
        for head in records:
            if not isinstance(head, Bad):
                break
            if columns.has_header:
                raise head.error(self.name)
            yield head
        else:
            return
        width = len(head[1])
        wanted = (columns.first, columns.second, columns.label)
        places = tuple(None if c is None else self._position(c, width) for c in wanted)
        for record in records if columns.has_header else chain([head], records):
            if isinstance(record, Bad):
                yield record
                continue
            line, cells = record
            if len(cells) == width:
                yield self._row(line, cells, cells, places)
            elif not any(cells) and len(cells) < 2:
                yield Bad(line, "an empty line", "remove it", "")
            else:
                found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
                what = f"{found} where the first line has {width}"
                inside = "a tab" if self.format == "tsv" else "a delimiter without quotation marks"
                is_torn = len(cells) < width
                remedy = f"{REMEDY} ({'a line end' if is_torn else inside} inside a text?)"
                yield Bad(line, what, remedy, _shown(cells), is_torn)

    def _by_name(self, columns: Columns) -> Iterator[Row | Bad]:
        wanted = (columns.first, columns.second, columns.label)
        for column in wanted:
            if isinstance(column, int):
                what = f"columns of {self.format} have names, not positions ({column})"
                raise DataError(what, where=self.name)
            is_optional = self.may_lack_second and column == columns.second
            if column is not None and not isinstance(self.head, Bad) and not is_optional:
                self._position(column, 0)
        for record in self._read([str(column) for column in wanted if column is not None]):
            if isinstance(record, Bad):
                yield record
                continue
            line, cells = record
            if self.may_lack_second and columns.second is not None:
                cells = {columns.second: None} | cells
            lacking = next((c for c in wanted if c is not None and c not in cells), None)
            if lacking is None:
                yield self._row(line, cells, cells, wanted)
            else:
                yield Bad(line, f"no key '{lacking}'", REMEDY, _shown(cells))

    def _row(self, line: int, content: Any, cells: Cells, columns: Sequence[Any]) -> Row | Bad:
        first, second, label = columns
        if self.may_lack_second and second is not None and cells[second] in (None, ""):
            second = None
        return _checked(line, content, cells, (first, second, label))

    def _position(self, column: str | int, width: int) -> int:
        if isinstance(column, int):
            if not 0 <= column < width:
                raise DataError(
                    f"no column {column} (from 0); the first line has {width}", where=self.name
                )
            return column
        if column not in self.names:
            raise DataError(
                f"no column '{column}'", where=f"{self.name}:1", remedy=nearest(column, self.names)
            )
        if (number := self.names.count(column)) > 1:
            raise DataError(
                f"{number} columns are called '{column}'",
                where=f"{self.name}:1",
                remedy="rename them",
            )
        return self.names.index(column)


@contextmanager
def opened(
    path: Path | None, format: Format, *, may_lack_second: bool = False
) -> Generator[Table, None, None]:
    """A file's table, or that of standard input (None).

    ``may_lack_second``: whether a row's second text may be empty or missing, and then is None.

    Raises:
        DataError: there is no such file, it can't be read, is empty, or not of the format at all.
    """
    name = "standard input" if path is None else str(path)
    if path is None and format == "parquet":
        raise DataError("Parquet can't be read from standard input", remedy="give the file")
    if path is None:
        yield replace(_table(name, format, sys.stdin.buffer), may_lack_second=may_lack_second)
        return
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise DataError("no such file", where=path, remedy="check the path") from None
    except OSError as error:
        raise _unreadable(error, name) from None
    with stream:
        yield replace(_table(name, format, stream), may_lack_second=may_lack_second)


def given(texts: Sequence[str], *, is_pair: bool) -> Iterator[Row | Bad]:
    """Texts from a command line as rows, of a pair each two of them.

    Raises:
        DataError: one of a pair is missing.
    """
    if is_pair and len(texts) % 2:
        raise DataError(
            f"{len(texts)} text{'s' * (len(texts) != 1)} where each example has two",
            remedy="give both texts of each pair",
        )
    step = 2 if is_pair else 1
    for line, at in enumerate(range(0, len(texts), step), 1):
        cells = texts[at : at + step]
        yield _checked(line, texts[at], cells, (0, 1 if is_pair else None, None))


def spelling(cell: Any) -> str:
    """A cell of JSON or Parquet as it would be spelt in a text file."""
    is_of_json = cell is None or isinstance(cell, (bool, int, float, list, dict))
    return json.dumps(cell, default=str) if is_of_json else str(cell)  # decimals, dates, …


def _table(name: str, format: Format, stream: BinaryIO) -> Table:
    if format == "parquet":
        names, read = _parquet(stream, name)
        return Table(name, format, names, read)
    lines = _Lines(stream, name)
    if format == "jsonl":
        records = _json_lines(lines)
    elif format == "csv":
        records = _separated(lines)
    elif format == "tsv":
        records = _tabs(lines)
    else:
        records = _each(lines)
    begin = list(islice(records, AHEAD if format == "jsonl" else 1))
    if not begin:
        raise _no_rows(name)
    contents = [row[1] for row in begin if not isinstance(row, Bad)]
    head = contents[0] if contents else begin[0]
    if contents and format == "jsonl":  # whose first row may be bad, or lack what others have
        head = list(dict.fromkeys(key for cells in contents for key in cells))
    whole = chain(begin, records)
    return Table(name, format, head, lambda _: whole)


def _no_rows(name: str) -> DataError:
    return DataError("the file holds no rows", where=name, remedy="give one with rows")


def _unreadable(error: OSError, name: str) -> DataError:
    return DataError(f"cannot be read ({error.strerror or error})", where=name)


class _Broken(Exception):
    """A line that is none. ``text``: what can be read of it, if that is all of it."""

    def __init__(self, bad: Bad, text: str | None = None) -> None:
        super().__init__(bad.what)
        self.bad, self.text = bad, text


class _Lines:
    """The lines of a stream as text, their ends included. One that is no text raises; the next goes on.

    Only LF ends a line: not CR, U+2028 and their kin inside sentences.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream, self.name, self.number = stream, name, 0
        self.again: str | None = None  # a line put back

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self.again is not None:
            again, self.again = self.again, None
            return again
        line = self._read(LONGEST + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > LONGEST:
            start = line[:80].decode(errors="replace")
            while line and not line.endswith(b"\n"):
                line = self._read(LONGEST)
            what = f"the line is longer than {LONGEST:,} bytes"
            raise _Broken(Bad(self.number, what, "shorten or remove it", f"{start}…"))
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            content = line[:80].decode(errors="backslashreplace")
            bad = Bad(self.number, "not UTF-8 text", "save it as UTF-8", content)
            raise _Broken(bad, line.decode(errors="replace")) from None

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.readline(size)
        except OSError as error:
            raise _unreadable(error, self.name) from None


class _ForCsv:
    """Lines for a ``csv.reader``, which forgets at an exception that it is inside quotation marks, so
    that the rest of a record would count as a row. ``bads``: lines that are no text, given to it all the
    same.
    """

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines
        self.bads: list[Bad] = []

    def __iter__(self) -> _ForCsv:
        return self

    def __next__(self) -> str:
        try:
            return next(self.lines)
        except _Broken as broken:
            if broken.text is None:
                raise
            self.bads.append(broken.bad)
            return broken.text


def _each(lines: _Lines) -> Iterator[Record | Bad]:
    """Numbered lines without their ends."""
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except _Broken as broken:
            yield broken.bad
        else:
            yield lines.number, line.removesuffix("\n").removesuffix("\r")


def _tabs(lines: _Lines) -> Iterator[Record | Bad]:
    """Tab-separated cells; quotation marks are plain characters, as GLUE has them."""
    for line in _each(lines):
        yield line if isinstance(line, Bad) else (line[0], line[1].split("\t"))


def _separated(lines: _Lines) -> Iterator[Record | Bad]:
    """CSV with quotation marks (RFC 4180). Its delimiter is that of ``DELIMITERS`` of which the first
    good line has most.
    """
    csv.field_size_limit(LONGEST)  # the module's own, for all readers
    while lines.again is None:
        try:
            lines.again = next(lines)
        except StopIteration:
            return
        except _Broken as broken:
            yield broken.bad
    bare = re.sub(r'"[^"]*"', "", lines.again)  # those inside quotation marks separate nothing
    given = _ForCsv(lines)
    reader = csv.reader(given, delimiter=max(DELIMITERS, key=bare.count), strict=True)
    while True:
        start, found = lines.number + (lines.again is None), list[Record | Bad]()
        try:
            found.append((start, next(reader)))  # which goes on behind an exception
        except StopIteration:
            return
        except _Broken as broken:
            given.bads.append(broken.bad)
        except csv.Error as error:
            what = f"not valid CSV up to line {lines.number} ({error})"
            found.append(Bad(start, what, REMEDY, ""))
        yield from given.bads or found
        given.bads.clear()


def _json_lines(lines: _Lines) -> Iterator[Record | Bad]:
    """One JSON object a line."""
    for line in _each(lines):
        if isinstance(line, Bad):
            yield line
            continue
        number, text = line
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            yield Bad(number, "not valid JSON", REMEDY, _shown(text))
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            yield Bad(number, "not a JSON object", 'write {"column": "text"}', _shown(text))


def _parquet(
    stream: BinaryIO, name: str
) -> tuple[list[str], Callable[[Sequence[str] | None], Iterator[Record | Bad]]]:
    import pyarrow
    from pyarrow import parquet, types

    # Python has no date for some of Arrow's, as for the end of time.
    errors = (pyarrow.ArrowException, OSError, ValueError, OverflowError)
    try:
        file = parquet.ParquetFile(stream)
    except errors as error:
        raise DataError(f"cannot be read as Parquet ({first_line(error)})", where=name) from None

    def is_text(kind: pyarrow.DataType) -> bool:
        if types.is_dictionary(kind):
            return is_text(kind.value_type)
        return bool(
            types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        )

    def read(columns: Sequence[str] | None) -> Iterator[Record | Bad]:
        """What else is in the file is not decoded: it may be wide, or nothing for Python."""
        if columns is None:
            columns = [field.name for field in file.schema_arrow if is_text(field.type)]
        number = 0
        try:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=columns):
                for cells in batch.to_pylist():
                    number += 1
                    yield number, cells
        except errors as error:
            where = f"{name}:{number + 1}"
            raise DataError(
                f"cannot be read as Parquet ({first_line(error)})", where=where
            ) from None

    return list(file.schema_arrow.names), read


def _checked(line: int, content: Any, cells: Cells, columns: Sequence[Any]) -> Row | Bad:
    """The row, if its texts are texts. ``columns``: of the two texts and the label, in ``cells``."""
    for column in columns[:2]:
        what = None if column is None else _fault(cells[column])
        if what:
            place = f"column {column + 1}" if isinstance(column, int) else f"column '{column}'"
            return Bad(line, f"the text in {place} {what}", REMEDY, _shown(content))
    first, second, label = (None if column is None else cells[column] for column in columns)
    assert isinstance(first, str)
    return Row(line, first, second, label)


def _fault(text: Any) -> str | None:
    """Why something is no text to classify, if it is none."""
    if not isinstance(text, str):
        return f"is no text ({type(text).__name__})"
    if not text.strip():
        return "is empty"
    if len(text) > LONGEST:
        return f"is longer than {LONGEST:,} characters"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is broken Unicode (half a surrogate pair)"
    return None


def _shown(content: Any) -> str:
    """A row's content; of more than a million characters the first 80."""
    if isinstance(content, list):
        text = "\t".join(map(str, content))
    else:
        text = content if isinstance(content, str) else json.dumps(content, default=str)
    return text if len(text) <= LONGEST else f"{text[:80]}…"
