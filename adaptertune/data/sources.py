"""Rows of a task from the hub, from a folder in the official GLUE layout, or from the sample.

All three give the same thing: texts and labels as they stand, in file order, with a fingerprint of
what was read. Nothing is shuffled, cleaned or dropped, but for rows torn in two where the task says
that there are such; any other row that is not what the task says is an error that names its line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from adaptertune import download
from adaptertune.data import tables
from adaptertune.data.tables import Bad
from adaptertune.errors import DataError, HubError, first_line
from adaptertune.files import sha256
from adaptertune.tasks import Columns, Hub, Task, TsvFile
from adaptertune.yamlfile import nearest

if TYPE_CHECKING:
    import pyarrow

SAMPLE = Path(__file__).parent / "sample"


@dataclass(frozen=True)
class Split:
    """One split's rows.

    ``labels``: int64 label numbers, float32 scores for regression, or None for a test split.
    """

    name: str
    first: list[str]
    second: list[str] | None
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Source:
    """Where a task's rows are. ``kind`` is hub, folder or sample; ``folder`` for the latter two."""

    kind: str
    folder: Path | None = None
    offline: bool = False

    def describe(self, task: Task) -> str:
        """One phrase for tables: ``nyu-mll/glue at bcdcba7``, ``folder ../glue/RTE``, ``sample``."""
        if self.kind == "hub" and task.hub:
            part = f" ({task.hub.config})" if task.hub.config else ""
            return f"{task.hub.dataset}{part} at {task.hub.revision[:7]}"
        if self.kind == "sample":
            return "sample (generated text, not GLUE)"
        return f"folder {_task_folder(task, self)}"


def load_splits(task: Task, source: Source, names: Sequence[str]) -> list[Split]:
    """Read the named splits; splits in ``task.test`` come without labels.

    Raises:
        DataError: files, columns, rows or labels are missing or wrong, or the hub can't be reached.
    """
    if source.kind == "hub":
        return _from_hub(task, source, names)
    spelt = task.files.label_values if task.files else None
    return [_split(task, name, files(task, source, name), spelt) for name in names]


def fingerprint(task: Task, source: Source, names: Sequence[str]) -> str:
    """Identifies the rows of the named splits: equal fingerprints mean equal rows.

    A hub dataset at a fixed revision is identified by that; files by the SHA-256 of their bytes.

    Raises:
        DataError: the task is not on the hub, or a file is missing or can't be read.
    """
    if source.kind == "hub":
        wanted = _on_the_hub(task)
        read = wanted.columns.model_dump_json()
        if wanted.splits is not None:
            layout = {name: wanted.splits.get(name) for name in names}
            read += repr((layout, wanted.label_values))
        return f"hub:{wanted.dataset}@{wanted.revision}/{wanted.config}:{read}"
    # How the labels are spelt decides what they mean, as the columns do below.
    digest = hashlib.sha256(repr(task.files.label_values if task.files else None).encode())
    for name, path, columns in _files(task, source, names):
        as_read = "csv:" if _format(path) == "csv" else ""  # the same bytes have other cells as TSV
        digest.update(f"{name}:{columns.model_dump_json()}:{as_read}".encode())
        digest.update(bytes.fromhex(sha256(path, DataError)))
    return f"sha256:{digest.hexdigest()}"


def _task_folder(task: Task, source: Source) -> Path:
    folder = SAMPLE if source.kind == "sample" else source.folder
    assert folder is not None
    assert task.files is not None
    if source.kind == "sample" and not _is_in_sample(task):
        raise DataError(
            f"the sample has no task '{task.name}'",
            remedy="give --data-dir or go without --offline",
        )
    inner = folder / task.files.folder if task.files.folder else folder
    # A user may point at the GLUE folder or at the task's own folder in it.
    is_own = folder.resolve().name == task.files.folder
    return folder if is_own and not _holds(inner, inner.is_dir) else inner


def _is_in_sample(task: Task) -> bool:
    return bool(task.files and task.files.folder and (SAMPLE / task.files.folder).is_dir())


def _holds(path: Path, what: Callable[[], bool]) -> bool:
    """What a path's method tells; one below a closed folder raises."""
    try:
        return what()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path) from None


def check_folder(task: Task, source: Source) -> Path:
    """The folder of a task's files, if it is there.

    Raises:
        DataError: it is not, or the task does not say how its files look.
    """
    if task.files is None:
        raise DataError(
            f"task '{task.name}' does not say how its files look",
            remedy="add 'files' to its YAML or use the hub",
        )
    folder = _task_folder(task, source)
    if not _holds(folder, folder.is_dir):
        within = task.files.folder
        held = f"{within}/" if within else "the task's files"
        remedy = f"give --data-dir a folder that holds {held}"
        raise DataError("no such folder", where=folder, remedy=remedy)
    return folder


def _files(task: Task, source: Source, names: Sequence[str]) -> list[tuple[str, Path, Columns]]:
    """(split, file, columns) for each name; ``train_subset.tsv`` stands in for a missing train.tsv."""
    folder, layout = check_folder(task, source), task.files
    assert layout is not None
    found = []
    for name in names:
        entry: TsvFile | None = layout.splits.get(name)
        if entry is None:
            raise DataError(f"task '{task.name}' has no files for split '{name}'")
        path = folder / entry.file
        subset = path.with_name(f"{path.stem}_subset{path.suffix}")
        is_counted = name in task.rows  # so that it can be said to be partial
        if name == "train" and is_counted and not _holds(path, path.exists):
            path = subset if subset.exists() else path
        if not _holds(path, path.is_file):
            raise DataError(
                "no such file", where=path, remedy=f"split '{name}' of '{task.name}' needs it"
            )
        found.append((name, path, entry.columns or layout.columns))
    return found


class Example(NamedTuple):
    """A row with its label's number, or its score; None in a test split."""

    line: int
    first: str
    second: str | None
    label: float | None


def files(task: Task, source: Source, name: str) -> list[tuple[Path, Columns]]:
    """The files of a split, and where the columns are in them.

    Raises:
        DataError: the task names no files for it, or they are not there.
    """
    if source.kind == "hub":
        hosted = _on_the_hub(task)
        assert hosted.splits is not None
        return [(path, hosted.columns) for path in _hub_files(task, source, name)]
    return [(path, columns) for _, path, columns in _files(task, source, [name])]


def _format(path: Path) -> tables.Format:
    """TSV unless the ending says otherwise."""
    return tables.ENDINGS.get(path.suffix.lower(), "tsv")


def examples(
    task: Task, path: Path, columns: Columns, name: str, spelt: Sequence[str] | None
) -> Iterator[Example | Bad]:
    """A file's examples in their order; what is none, or has a label that the task does not know, is
    a bad row.

    Args:
        task: says which labels or scores there are.
        path: TSV unless its ending says otherwise.
        columns: where texts and label are.
        name: the split's; the task's test splits come without labels.
        spelt: how the labels are spelt, if not as they are called.

    Raises:
        DataError: the file can't be read at all.
    """
    if name in task.test:
        columns = columns.model_copy(update={"label": None})
    elif columns.label is None:
        raise DataError(f"no label column is named for split '{name}'", where=path)
    numbers = {text: number for number, text in enumerate(spelt or task.labels or ())}
    format = _format(path)
    if format == "text":
        raise DataError(
            "plain text has lines and no columns",
            where=path,
            remedy="name it .tsv, .csv, .jsonl or .parquet, as it is",
        )
    may_be_torn = name == "train" and task.files is not None and task.files.torn
    with tables.opened(path, format, may_lack_second=may_be_torn) as table:
        for row in table.rows(columns):
            if isinstance(row, Bad):
                if not (may_be_torn and row.is_torn):
                    yield row
                continue
            second = "" if columns.second is not None and row.second is None else row.second
            if columns.label is None:
                yield Example(row.line, row.first, second, None)
            else:
                text = tables.spelling(row.label)
                label = _number(task, text, numbers)
                if label is None:
                    what, remedy = _complaint(task, text, numbers)
                    yield Bad(row.line, what, remedy or tables.REMEDY, text)
                else:
                    yield Example(row.line, row.first, second, label)


def _split(
    task: Task,
    name: str,
    paths: Sequence[tuple[Path, Columns]],
    spelt: Sequence[str] | None,
) -> Split:
    """The examples of some files as one split.

    Raises:
        DataError: a row is bad.
    """
    first: list[str] = []
    second: list[str] = []
    labels: list[float | None] = []
    for path, columns in paths:
        for row in examples(task, path, columns, name, spelt):
            if isinstance(row, Bad):
                raise row.error(path)
            first.append(row.first)
            if row.second is not None:
                second.append(row.second)
            labels.append(row.label)
    if name in task.test:
        return Split(name, first, second or None, None)
    if task.is_regression:
        return Split(name, first, second or None, np.array(labels, dtype=np.float32))
    return Split(name, first, second or None, np.array(labels, dtype=np.int64))


def _number(task: Task, text: str, numbers: Mapping[str, int]) -> float | None:
    """A label's number or a score; None if it is none."""
    if task.range is None:
        return numbers.get(text)
    low, high = task.range
    try:
        value = float(text)
    except ValueError:
        return None
    return value if low <= value <= high else None


def _complaint(task: Task, text: str, numbers: Mapping[str, int]) -> tuple[str, str | None]:
    """What is wrong with a label, and the remedy."""
    if task.range is not None:
        low, high = task.range
        return f"score '{text}' is not a number from {low:g} to {high:g}", None
    return f"unknown label '{text}'", f"expected {', '.join(numbers)}"


def _on_the_hub(task: Task) -> Hub:
    if task.hub is None:
        raise DataError(f"task '{task.name}' is not on the hub", remedy="give --data-dir")
    return task.hub


def _downloaded(task: Task, source: Source, patterns: Sequence[str]) -> Path:
    """The dataset's folder with the files of some patterns, whose checksums are verified."""
    wanted = _on_the_hub(task)
    try:
        folder = download.snapshot(
            "dataset",
            wanted.dataset,
            patterns,
            revision=wanted.revision,
            offline=source.offline,
        )
        for pattern in patterns:
            found = sorted(folder.glob(pattern))
            _check_complete(found, wanted.dataset)
            for path in found:
                download.sha256(path)
    except HubError as error:
        raise DataError(
            error.what,
            where=error.where,
            remedy=error.remedy
            or "check the network"
            + (", or give --data-dir FOLDER" if task.files else "")
            + ("; train --offline has a sample" if _is_in_sample(task) else ""),
        ) from None
    return folder


def _check_complete(paths: Sequence[Path], dataset: str) -> None:
    """Whether of files called ``…-00000-of-00002.…`` all are there: what the cache has of a dataset,
    while the hub can't be reached, may be a part.

    Raises:
        HubError: one is missing.
    """
    for path in paths:
        numbered = re.fullmatch(r"(.*-)\d{5}-of-(\d{5})(\..*)", path.name)
        if numbered:
            start, total, end = numbered[1], int(numbered[2]), numbered[3]
            names = [f"{start}{number:05d}-of-{total:05d}{end}" for number in range(total)]
            num_there = sum(path.with_name(name).exists() for name in names)
            if num_there < total:
                raise HubError(
                    f"of {total} files of {start}*{end} the cache has {num_there}",
                    where=dataset,
                    remedy="run the command once while the hub can be reached",
                )


def _hub_files(task: Task, source: Source, name: str) -> list[Path]:
    """The files that the task's pattern names for a split."""
    wanted = _on_the_hub(task)
    patterns = wanted.splits or {}
    if name not in patterns:
        raise DataError(
            f"task '{task.name}' has no files for split '{name}'",
            remedy="add it to 'hub.splits'",
        )
    found = sorted(_downloaded(task, source, [patterns[name]]).glob(patterns[name]))
    if not found:
        raise DataError(
            f"no file of the dataset is called {patterns[name]}",
            where=wanted.dataset,
            remedy=f"mend 'hub.splits.{name}'",
        )
    return found


def _from_hub(task: Task, source: Source, names: Sequence[str]) -> list[Split]:
    wanted = _on_the_hub(task)
    if wanted.splits is not None:
        return [
            _split(task, name, files(task, source, name), wanted.label_values) for name in names
        ]
    assert wanted.config is not None
    place = f"{wanted.dataset} ({wanted.config})"
    folder = _downloaded(task, source, ["README.md", f"{wanted.config}/*"])
    import datasets
    import pyarrow

    stored_in = folder / wanted.config
    parts = {name: sorted(map(str, stored_in.glob(f"{name}-*.parquet"))) for name in names}
    for name, found in parts.items():
        if not found:
            known = {path.name.split("-")[0] for path in stored_in.glob("*.parquet")}
            raise DataError(f"no split '{name}'", where=place, remedy=nearest(name, sorted(known)))
    has_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:  # streaming reads the downloaded Parquet itself and makes no second copy in another cache
        loaded = datasets.load_dataset("parquet", data_files=parts, streaming=True)
        rows = {
            name: pyarrow.concat_tables(loaded[name].with_format("arrow").iter(batch_size=100_000))
            for name in names
        }
        # The dataset's own account of its columns, if its README gives one.
        described = datasets.info.DatasetInfosDict.from_directory(str(folder)).get(wanted.config)
    except Exception as error:  # each format and fault has a class of its own
        raise DataError(
            f"cannot be read ({type(error).__name__}: {first_line(error)})",
            where=folder,
            remedy="delete the folder and run the command again",
        ) from None
    finally:
        if has_bars:
            datasets.enable_progress_bars()
    columns = wanted.columns
    splits = []
    for name in names:
        table = rows[name]
        for column in (columns.first, columns.second, columns.label):
            if column is not None and column not in table.column_names:
                raise DataError(
                    f"no column '{column}'",
                    where=place,
                    remedy=nearest(str(column), table.column_names),
                )
        labels = None
        if name not in task.test:
            features = (described and described.features) or loaded[name].features or {}
            stored = getattr(features.get(columns.label), "names", None)
            values = table[columns.label].to_pylist()
            labels = _hub_labels(task, values, stored, f"{place}, {name}")
        first, second = (
            None if column is None else _hub_texts(table, column, f"{place}, {name}")
            for column in (columns.first, columns.second)
        )
        assert first is not None
        splits.append(Split(name, first, second, labels))
    return splits


def _hub_texts(table: pyarrow.Table, column: str | int, place: str) -> list[str]:
    """A column's texts, of which empty ones are left: GLUE has such."""
    values: list[Any] = table[column].to_pylist()
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(
                f"column '{column}' holds no text ({type(value).__name__})",
                where=f"{place}, row {row}",
            )
    return values


def _hub_labels(task: Task, values: Sequence[Any], stored: Sequence[str] | None, place: str) -> Any:
    """Label numbers as stored; the dataset's own label names must be the task's, in its order."""
    if task.labels is not None and stored is not None and tuple(stored) != task.labels:
        raise DataError(
            f"labels are {', '.join(stored)} but the task says {', '.join(task.labels)}",
            where=place,
        )
    if task.range is not None:
        for row, value in enumerate(values):
            if _number(task, str(value), {}) is None:
                what, remedy = _complaint(task, str(value), {})
                raise DataError(what, where=f"{place}, row {row}", remedy=remedy)
        return np.array(values, dtype=np.float32)
    for row, value in enumerate(values):
        if type(value) is not int:
            raise DataError(
                f"label {value!r} is not the number of a class",
                where=f"{place}, row {row}",
                remedy="read the files by 'hub.splits', with 'label_values'",
            )
    labels = np.asarray(values, dtype=np.int64)
    outside = np.flatnonzero((labels < 0) | (labels >= task.num_outputs))
    if outside.size:
        raise DataError(
            f"label {labels[outside[0]]} (unlabelled rows have -1)",
            where=f"{place}, row {outside[0]}",
        )
    return labels
