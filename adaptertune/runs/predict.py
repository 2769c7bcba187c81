"""Answers of a trained model to rows of text: streaming, in the rows' order, in bounded memory."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from adaptertune.data.tables import Bad, Format, Row, Table
from adaptertune.errors import AdapterTuneError, CheckpointError, DataError
from adaptertune.files import writing_atomically
from adaptertune.runs.load import Loaded
from adaptertune.tasks import Columns, Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Rows, and characters, that are in memory at a time: enough to sort them by length.
CHUNK = 4096
CHUNK_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Answer:
    """What the model says of a row.

    ``prediction``: a label's name, or the score as the model gives it, which may lie outside the
    task's range. ``probabilities``: of each label in the task's order; None for a score.
    """

    line: int
    prediction: str | float
    probabilities: tuple[float, ...] | None


@dataclass(frozen=True)
class Summary:
    """What became of all rows. ``num_truncated`` were longer than the run's maximal length.

    ``counts``: predictions by label; None for scores.
    """

    num_rows: int
    num_truncated: int
    counts: dict[str, int] | None
    seconds: float


@dataclass
class Sieve:
    """Lets good rows pass; sets bad ones aside and counts them or, without a place for them, stops.

    ``name``: what their lines are lines of, for messages. ``aside`` takes them as JSON Lines of
    ``line``, ``why`` and ``content``. ``is_file``: whether rows can be set aside at all.
    """

    name: str
    aside: BinaryIO | None
    is_file: bool = True
    num_bad: int = 0

    def good(self, rows: Iterable[Row | Bad]) -> Iterator[Row]:
        """The good rows in their order. The first is read at once: what is wrong with a file is known
        before a model is loaded for it.

        Raises:
            DataError: a row is bad, and there is nowhere to set it aside.
        """
        passing = self._passing(rows)
        return chain(list(islice(passing, 1)), passing)

    def _passing(self, rows: Iterable[Row | Bad]) -> Iterator[Row]:
        for row in rows:
            if isinstance(row, Row):
                yield row
                continue
            if self.aside is None:
                otherwise = " Or" if row.remedy.endswith("?") else ", or"
                or_aside = f"{otherwise} set bad rows aside with --skip-bad FILE"
                raise DataError(
                    row.what,
                    where=f"{self.name}:{row.line}",
                    remedy=row.remedy + (or_aside if self.is_file else ""),
                )
            self.num_bad += 1
            told = {"line": row.line, "why": row.what, "content": row.content}
            text = json.dumps(told, ensure_ascii=False)
            self.aside.write(text.encode(errors="replace") + b"\n")


def answer(
    loaded: Loaded,
    rows: Iterable[Row],
    put: Callable[[list[Answer]], None],
    on_rows: Callable[[int], None],
) -> Summary:
    """Answer rows in their order, some thousand at a time.

    Args:
        loaded: the model.
        rows: as a sieve lets them pass.
        put: takes the answers, chunk by chunk.
        on_rows: is told how many rows are answered so far.

    Raises:
        CheckpointError: the model's answers are not numbers.
    """
    task, started = loaded.run.task, time.monotonic()
    counts: Counter[str] = Counter(dict.fromkeys(task.labels or (), 0))
    num_rows = num_truncated = 0
    for chunk in chunks(rows):
        second = [row.second or "" for row in chunk] if task.is_pair else None
        encoded = loaded.encode([row.first for row in chunk], second)
        found = from_logits(task, loaded.logits(encoded), [row.line for row in chunk])
        put(found)
        num_rows += len(found)
        num_truncated += encoded.num_truncated
        if task.labels is not None:
            counts.update(str(one.prediction) for one in found)
        on_rows(num_rows)
    by_label = None if task.labels is None else dict(counts)
    return Summary(num_rows, num_truncated, by_label, time.monotonic() - started)


def from_logits(task: Task, logits: npt.NDArray[np.float32], lines: Sequence[int]) -> list[Answer]:
    """Logits (examples, outputs) as answers; probabilities are their softmax.

    Raises:
        CheckpointError: a logit is not a number.
    """
    import numpy as np

    if not np.isfinite(logits).all():
        raise CheckpointError("the model's answers are not numbers", remedy="train it again")
    if task.labels is None:
        scores = logits[:, 0].tolist()
        return [Answer(line, score, None) for line, score in zip(lines, scores, strict=True)]
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares = (powers / powers.sum(axis=1, keepdims=True)).tolist()
    chosen = logits.argmax(axis=1).tolist()
    return [
        Answer(line, task.labels[label], tuple(share))
        for line, label, share in zip(lines, chosen, shares, strict=True)
    ]


def choose_columns(task: Task, table: Table, first: str | None, second: str | None) -> Columns:
    """The columns with the texts: those named (a number is a position, from 0, and then there is no
    header line; but in JSON Lines and Parquet a name), else those of the task's own files or hub
    dataset that are there.

    Raises:
        DataError: none of these is there, there are more or fewer than the task has texts, or one is
            a name and the other a position.
    """
    options = "--first and --second" if task.is_pair else "--first"
    if first is not None:
        if (second is not None) != task.is_pair:
            what = f"task '{task.name}' has {'two texts' if task.is_pair else 'one text'}"
            raise DataError(what, remedy=f"give {options}")
        columns = _column(first, table), None if second is None else _column(second, table)
        if second is not None and len(set(map(type, columns))) > 1:
            what = f"one of '{first}' and '{second}' is a name, the other a position"
            raise DataError(what, where=options, remedy="give two names, or two positions from 0")
        return Columns(first=columns[0], second=columns[1])
    if second is not None:
        raise DataError("--second goes with --first")
    if table.format == "text":
        return Columns(first=0, second=1 if task.is_pair else None)
    known: list[Columns] = []
    if task.files is not None:
        known += [split.columns for split in task.files.splits.values() if split.columns]
        known.append(task.files.columns)
    if task.hub is not None:
        known.append(task.hub.columns)
    texts = [
        [str(column) for column in (columns.first, columns.second) if column is not None]
        for columns in known
        if columns.has_header
    ]
    for wanted in texts:
        if all(column in table.names for column in wanted):
            return Columns(first=wanted[0], second=wanted[1] if task.is_pair else None)
    expected = " or ".join(dict.fromkeys(" and ".join(wanted) for wanted in texts))
    raise DataError(
        f"no column {expected or 'is known'}",
        where=f"{table.name}:1",
        remedy=f"name the columns with {options}, of {', '.join(table.names)[:200] or 'those there'}"
        " (positions from 0, if there is no header line)",
    )


def _column(name: str, table: Table) -> str | int:
    return int(name) if name.isdecimal() and table.has_positions else name


Out = Format | Literal["json"]


@contextmanager
def writing(
    path: Path | None, format: Out, task: Task, stdout: BinaryIO
) -> Generator[Callable[[list[Answer]], None], None, None]:
    """Write answers to a file, which is there when all are written, or to standard output.

    TSV and CSV have the columns ``line``, ``prediction`` and, for labels, ``probability.NAME`` each;
    JSON Lines and Parquet the same with the probabilities as one object. "json" is the beginning of
    an object whose first key, "predictions", is the list of them; an error's message ends it.
    """
    if path is None:
        is_json = format == "json"
        with (
            _beginning(stdout, task)
            if is_json
            else nullcontext(_writer(stdout, format, task)) as put
        ):
            yield put
            put([])  # where no row was good, what precedes them
        stdout.flush()
        return
    with writing_atomically(path) as stream:
        if format != "parquet":
            put = _writer(stream, format, task)
            yield put
            put([])
            return
        import pyarrow
        from pyarrow import parquet

        columns = [("line", pyarrow.int64())]
        if task.labels is None:
            columns += [("prediction", pyarrow.float64())]
        else:
            shares = pyarrow.struct([(label, pyarrow.float64()) for label in task.labels])
            columns += [("prediction", pyarrow.string()), ("probabilities", shares)]
        schema = pyarrow.schema(columns)
        with parquet.ParquetWriter(stream, schema) as rows:
            yield lambda done: rows.write_table(
                pyarrow.Table.from_pylist([as_json(task, one) for one in done], schema=schema)
            )


def as_json(task: Task, one: Answer) -> dict[str, Any]:
    """An answer as plain values; probabilities by label."""
    value: dict[str, Any] = {"line": one.line, "prediction": one.prediction}
    if one.probabilities is not None:
        assert task.labels is not None
        value["probabilities"] = dict(zip(task.labels, one.probabilities, strict=True))
    return value


@contextmanager
def _beginning(
    stdout: BinaryIO, task: Task
) -> Generator[Callable[[list[Answer]], None], None, None]:
    """Write answers as the first key of an object, whose others are to follow. An error after the
    first of them becomes the last key, so that what is there is JSON that doesn't pass for complete.
    """
    before = start = '{"predictions": ['

    def put(done: list[Answer]) -> None:
        nonlocal before
        for one in done:
            stdout.write((before + json.dumps(as_json(task, one), ensure_ascii=False)).encode())
            before = ", "

    try:
        yield put
    except AdapterTuneError as error:
        if before != start:
            stdout.write(f'], "error": {json.dumps(str(error))}}}\n'.encode())
        raise
    stdout.write(b"]" if before != start else f"{start}]".encode())


def _writer(stream: BinaryIO, format: Out, task: Task) -> Callable[[list[Answer]], None]:
    """Writes answers to a stream as text, each chunk at once; what precedes them with the first."""
    is_first = True

    def rows(done: list[Answer]) -> Iterator[list[Any]]:
        nonlocal is_first
        if is_first:
            yield ["line", "prediction", *(f"probability.{label}" for label in task.labels or ())]
            is_first = False
        for one in done:
            if one.probabilities is None:
                yield [one.line, f"{one.prediction:.6f}"]
            else:
                yield [one.line, one.prediction, *(f"{p:.6f}" for p in one.probabilities)]

    def put(done: list[Answer]) -> None:
        text = io.StringIO()
        if format == "jsonl":
            text.writelines(
                f"{json.dumps(as_json(task, one), ensure_ascii=False)}\n" for one in done
            )
        else:
            dialect: dict[str, Any] = {"lineterminator": "\n"}
            if format == "tsv":
                # In which quotation marks are plain characters, as in those that are read.
                dialect |= {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
            csv.writer(text, **dialect).writerows(rows(done))
        stream.write(text.getvalue().encode())

    return put


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows, some thousand at a time."""
    chunk: list[Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row.first) + len(row.second or "")
        if len(chunk) == CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
