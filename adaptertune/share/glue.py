"""The GLUE server's submission: eleven files in a zip, one for each test split.

Names and label spellings are facts of the tasks' files (``submission``); the form is ``index`` and
``prediction`` with a tab between, scores with three decimals, as in jiant.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptertune import tasks
from adaptertune.data.sources import SAMPLE, Source, Split, files, load_splits
from adaptertune.data.tables import Row, opened
from adaptertune.errors import ConfigError, DataError, StoreError
from adaptertune.files import writing_atomically
from adaptertune.runs import load, predict, store
from adaptertune.runs.load import Run
from adaptertune.tasks import Columns, Task

OWN = "get GLUE's own file"
HEADER = "index\tprediction"
NEVER = (1980, 1, 1, 0, 0, 0)  # a zip needs a date; the same answers should give the same file


@dataclass(frozen=True)
class Entry:
    """One file of the submission.

    ``run`` answers it; without one it is filled with ``constant``, and ``why`` says why.
    """

    task: Task
    split: str
    run: Run | None = None
    why: str | None = None
    constant: str | None = None

    @property
    def file(self) -> str:
        return self.task.submission[self.split].file

    @property
    def num_rows(self) -> int:
        return self.task.rows[self.split]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels as the server spells them; None for scores."""
        return self.task.submission[self.split].labels or self.task.labels


def glue_tasks() -> list[Task]:
    """The tasks that have a place in a submission."""
    loaded = [tasks.load(name) for name in tasks.shipped()]
    return [task for task in loaded if task.submission]


def choose_runs(named: Sequence[str], output: Path) -> dict[str, Run]:
    """Task name -> run: those named and, of each other task, the best on validation of a store.

    Runs on the embedded sample are never taken.

    Raises:
        StoreError: a named run is not there, not finished, or of the sample; or there is none.
        ConfigError: a named run is not of a GLUE task, or two are of one.
    """
    known = {task.name: tasks.canonical(task) for task in glue_tasks() if task.trainable}
    chosen: dict[str, Run] = {}
    for name in named:
        run = load.find(name, output)
        task = run.task.name
        if known.get(task) != tasks.canonical(run.task):
            raise ConfigError(f"'{task}' is not a task of GLUE", where=name)
        if run.result.data.sample:
            remedy = "train on GLUE"
            raise StoreError("trained on the sample, not on GLUE", where=name, remedy=remedy)
        if task in chosen:
            raise ConfigError(f"two runs of '{task}'", where=name, remedy="name one of them")
        chosen[task] = run
    best: dict[str, Run] = {}
    num_of_sample = 0
    for cell in store.cells(output):
        summary = cell.read_result()
        if summary is None or summary.best_seed is None or summary.checkpoint is None:
            continue
        if summary.data.sample:
            num_of_sample += 1
            continue
        if summary.task not in known or summary.task in chosen:
            continue
        run = load.find(str(cell.path), output)
        if known[summary.task] != tasks.canonical(run.task):
            continue
        if summary.task not in best or _validation(run) > _validation(best[summary.task]):
            best[summary.task] = run
    if not best and not chosen:
        what = "no finished run of a task of GLUE"
        if num_of_sample:
            what += f": those there ({num_of_sample}) were trained on the sample, which is not GLUE"
        remedy = "train on GLUE, e.g. adaptertune train --task rte (--output for another place)"
        raise StoreError(what, where=output, remedy=remedy)
    return best | chosen


def _validation(run: Run) -> float:
    """The headline metric on validation, whatever split chose the run's epoch."""
    score = run.result.scores[run.task.evaluation[0]].values[run.task.headline]
    return -math.inf if score is None else score


def entries(runs: Mapping[str, Run], source: Source, *, fill: bool) -> list[Entry]:
    """All files of a submission, each with the run that answers it.

    A file without a run is refused or, with ``fill``, filled with the most frequent label (for scores,
    the mean) of the split that selects.

    Raises:
        DataError: a run is missing and ``fill`` is off, or a run's test set is missing or not GLUE's.
    """
    if source.folder is not None and source.folder.resolve() == SAMPLE.resolve():
        remedy = "give --data-dir a folder with GLUE's own test sets"
        raise DataError(
            "the sample is generated text, not GLUE", where=source.folder, remedy=remedy
        )
    found: list[Entry] = []
    for task in glue_tasks():
        name = task.trained_on or task.name
        for split in task.submission:
            if name in runs:
                _test_set(task, split, source)
                found.append(Entry(task, split, runs[name]))
            else:
                constant = _constant(task, source) if fill else None
                found.append(Entry(task, split, None, f"no run of {name} on GLUE", constant))
    missing = [entry for entry in found if entry.run is None]
    if missing and not fill:
        told = "; ".join(f"{entry.file}: {entry.why}" for entry in missing)
        raise DataError(
            f"no answers for {len(missing)} of {len(found)} files: {told}",
            remedy="train what is missing, or give --fill for a majority baseline there",
        )
    return found


def _test_set(task: Task, split: str, source: Source) -> tuple[Split, list[int]]:
    """A test split and the index of each of its rows: a file's own, on the hub the rows' places.

    Raises:
        DataError: it is missing or damaged, or is not the whole of GLUE's.
    """
    (rows,) = load_splits(task, source, [split])
    read = files(task, source, split) if source.kind == "folder" else []
    if len(rows) != task.rows[split]:
        raise DataError(
            f"{len(rows):,} rows where GLUE's test set has {task.rows[split]:,}",
            where=read[0][0] if read else f"{source.describe(task)}, {split}",
            remedy=f"{OWN}: its server takes whole test sets only",
        )
    for path, columns in read:  # which is one
        if indices := _indices(path, columns, task.submission[split].index):
            return rows, indices
    return rows, list(range(len(rows)))


def _indices(path: Path, columns: Columns, column: str) -> list[int]:
    """The rows' own index, the numbers from 0, each once; none if the file has no such column."""
    lines: dict[str, int] = {}
    with opened(path, "tsv") as table:
        if column not in table.names:
            return []
        for row in table.rows(columns.model_copy(update={"label": column})):
            assert isinstance(row, Row)  # it has been read before
            if row.label in lines:
                what = f"{column} {row.label} is that of line {lines[row.label]} too"
                raise DataError(what, where=f"{path}:{row.line}", remedy=OWN)
            lines[row.label] = row.line
    for index in map(str, range(len(lines))):
        if index not in lines:
            raise DataError(f"no row has {column} {index}", where=path, remedy=OWN)
    return [int(index) for index in lines]


def write(
    path: Path,
    planned: Sequence[Entry],
    source: Source,
    load_run: Callable[[Run], load.Loaded],
    on_rows: Callable[[str, int, int], None],
) -> None:
    """Answer all test sets and write the zip, read back and checked before it gets its name.

    Args:
        path: of the zip.
        planned: what :func:`entries` gives.
        source: where the test sets are.
        load_run: loads a run's model.
        on_rows: is told a file, how many rows of it are answered, and of how many.
    """
    with writing_atomically(path) as stream:  # now, for it may be that it can't be written
        stream.write(_zipped(planned, source, load_run, on_rows))


def _zipped(
    planned: Sequence[Entry],
    source: Source,
    load_run: Callable[[Run], load.Loaded],
    on_rows: Callable[[str, int, int], None],
) -> bytes:
    answered: dict[str, str] = {}
    loaded: load.Loaded | None = None
    for entry in sorted(planned, key=lambda entry: entry.run.task.name if entry.run else ""):
        if entry.run is None:
            assert entry.constant is not None
            answered[entry.file] = _text([entry.constant] * entry.num_rows)
            continue
        if loaded is None or loaded.run != entry.run:
            loaded = load_run(entry.run)
        answered[entry.file] = _text(_answers(entry, loaded, source, on_rows))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in planned:
            archive.writestr(zipfile.ZipInfo(entry.file, NEVER), answered[entry.file])
    check(content, planned)
    return content.getvalue()


def check(archive: Path | io.BytesIO, planned: Iterable[Entry]) -> None:
    """Check a submission: names, headers, row counts, indices and predictions.

    Raises:
        DataError: with the file and line of what is wrong.
    """
    with zipfile.ZipFile(archive) as opened:
        expected = {entry.file: entry for entry in planned}
        if sorted(opened.namelist()) != sorted(expected):
            odd = sorted(set(opened.namelist()) ^ set(expected))
            raise DataError(f"the files are not the eleven of GLUE: {', '.join(odd)}")
        for name, entry in expected.items():
            header, *rows = opened.read(name).decode().removesuffix("\n").split("\n")
            if header != HEADER:
                raise DataError(f"the header is {header!r}", where=f"{name}:1")
            if len(rows) != entry.num_rows:
                what = f"{len(rows):,} rows where the test set has {entry.num_rows:,}"
                raise DataError(what, where=name)
            for number, row in enumerate(rows):
                index, _, prediction = row.partition("\t")
                if index != str(number) or not _is_valid(entry, prediction):
                    raise DataError(f"{row!r} is no answer", where=f"{name}:{number + 2}")


def _answers(
    entry: Entry, loaded: load.Loaded, source: Source, on_rows: Callable[[str, int, int], None]
) -> list[str]:
    split, indices = _test_set(entry.task, entry.split, source)
    second: Sequence[str | None] = split.second or [None] * len(split)
    texts = zip(indices, split.first, second, strict=True)
    rows = (Row(index, first, other, None) for index, first, other in texts)
    found: list[predict.Answer] = []
    predict.answer(loaded, rows, found.extend, lambda done: on_rows(entry.file, done, len(split)))
    found.sort(key=lambda one: one.line)
    return [_spelling(entry, one.prediction) for one in found]


def _spelling(entry: Entry, prediction: str | float) -> str:
    """A prediction as the server wants it; scores within the task's range, with three decimals."""
    if entry.task.range is not None:
        low, high = entry.task.range
        return f"{min(max(float(prediction), low), high):.3f}"
    assert entry.task.labels is not None
    assert entry.labels is not None
    return entry.labels[entry.task.labels.index(str(prediction))]


def _is_valid(entry: Entry, prediction: str) -> bool:
    if entry.labels is not None:
        return prediction in entry.labels
    assert entry.task.range is not None
    whole, point, decimals = prediction.partition(".")
    is_number = whole.isdecimal() and point == "." and decimals.isdecimal() and len(decimals) == 3
    return is_number and entry.task.range[0] <= float(prediction) <= entry.task.range[1]


def _constant(task: Task, source: Source) -> str:
    """The most frequent label of the split that selects, or the mean score."""
    asked = task if task.trainable else tasks.load(task.trained_on or "")
    (split,) = load_splits(asked, source, asked.evaluation[:1])
    assert split.labels is not None
    entry = Entry(task, next(iter(task.submission)))
    if task.is_regression:
        return _spelling(entry, float(split.labels.mean()))
    assert task.labels is not None
    (number, _) = Counter(split.labels.tolist()).most_common(1)[0]
    return _spelling(entry, task.labels[int(number)])


def _text(predictions: Sequence[str]) -> str:
    rows = (f"{index}\t{prediction}" for index, prediction in enumerate(predictions))
    return "\n".join([HEADER, *rows]) + "\n"
