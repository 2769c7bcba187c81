"""A task's YAML file drafted from a file of rows or from a dataset of the hub: what each guess rests on
is told, and all are written down, to be mended by hand.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from adaptertune import download, tasks
from adaptertune.data import tables
from adaptertune.data.tables import Bad, Row, Table
from adaptertune.errors import ConfigError, DataError
from adaptertune.files import write_atomically, writing_atomically
from adaptertune.tasks import Columns
from adaptertune.yamlfile import nearest

Kind = Literal["labels", "scores"]

# Column names that say "label", the usual ones first.
LABEL_NAMES = (
    "label", "gold_label", "labels", "class", "category", "target", "score", "rating", "sentiment",
    "intent", "y",
)  # fmt: skip
# … and those that say "text", even where its cells have one word each.
TEXT_NAMES = ("text", "sentence", "content", "message", "query", "utterance", "phrase", "word")
SAMPLE = 500  # rows that the guess of the text columns rests on
MOST_LABELS = 1000
MOST_NUMBERS = 20  # different whole numbers that may be labels without being told so
# What the hub's splits are called, the usual names first.
TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("validation", "valid", "val", "dev")
HELD_OUT = 0.1  # share of the examples that select, where no validation file is given


@dataclass(frozen=True)
class Draft:
    """A task's file that was written, and in words what was decided and why."""

    path: Path
    written: list[Path]  # training and validation files, if the rows had to be divided
    notes: list[str]


def draft(
    train: Path,
    *,
    validation: Path | None = None,
    test: Path | None = None,
    name: str | None = None,
    label: str | None = None,
    first: str | None = None,
    second: str | None = None,
    kind: Kind | None = None,
) -> Draft:
    """Write ``NAME.yaml`` beside a file of labelled rows.

    Without a validation file a tenth of the rows is held out: all go into two new files, by the order
    of the hashes of their texts, so that equal texts stay together.

    Args:
        train: TSV, CSV, JSON Lines or Parquet; the other files in the same folder.
        validation: rows that select.
        test: rows without labels.
        name: of the task; the file's own name unless given.
        label: the column with the labels.
        first: the column with the texts; ``second`` with a pair's second ones.
        second: see ``first``.
        kind: whether the labels are classes or scores.

    Raises:
        DataError: a file can't be read, a row is bad, or a guess can't be made.
        ConfigError: a file is in another folder, or the task's file is there already.
    """
    for other in (validation, test):
        if other is not None and other.absolute().parent != train.absolute().parent:
            raise ConfigError(
                "lies in another folder", where=other, remedy=f"move it beside {train.name}"
            )
    name = _checked(name) or _name(train)
    path = train.with_name(f"{name}.yaml")
    if path.exists():
        raise ConfigError("is there already", where=path, remedy="remove it, or give --name")
    notes: list[str] = []
    columns = _columns(train, label, first, second, notes)
    labelled = [train] if validation is None else [train, validation]
    counts = _count(labelled, columns)
    form = _labels(counts, kind, str(columns.label), train, notes)
    for column, what in ((columns.first, "first"), (columns.second, "second")):
        if isinstance(column, int):
            notes.append(f"the {what} text is column {column} (from 0)")
    written: list[Path] = []
    files = {"train": train, "validation": validation}
    if validation is None:
        written = _divide(train, columns, name, notes)
        files = dict(zip(files, written, strict=True))
        columns = Columns(first="first", second=columns.second and "second", label="label")
    splits: dict[str, Any] = {split: {"file": file.name} for split, file in files.items() if file}
    if test is not None:
        splits["test"] = {"file": test.name}
        with tables.opened(test, tables.format_of(test, None)) as table:
            own = columns.model_copy(update={"label": None})
            if written:
                own = _columns(train, label, first, second, []).model_copy(update={"label": None})
                splits["test"]["columns"] = own.model_dump(exclude_none=True)
            next(table.rows(own))
    task = {
        "name": name,
        "title": name.replace("_", " ").replace("-", " ").capitalize(),
        **form,
        "evaluation": ["validation"],
        **({"test": ["test"]} if test is not None else {}),
        "files": {"columns": columns.model_dump(exclude_none=True), "splits": splits},
    }
    text = _yaml(task, train.name)
    write_atomically(path, text.encode())
    tasks.load(path)
    return Draft(path, written, notes)


def draft_from_hub(
    dataset: str,
    folder: Path,
    *,
    subset: str | None = None,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    name: str | None = None,
    label: str | None = None,
    first: str | None = None,
    second: str | None = None,
    kind: Kind | None = None,
) -> Draft:
    """Write ``NAME.yaml`` into a folder for a dataset of the hub, at the commit that it has now.

    Its labelled splits are downloaded, and none of its code is run.

    Args:
        dataset: ``OWNER/NAME``, or with ``@`` and a branch, tag or commit behind it.
        subset: of a dataset with several of them, the folder that is meant.
        train: the split that trains, if not the one that is called so.
        validation: the split that selects, likewise.
        test: a split whose labels, if there are any, are not read.
        name: as for :func:`draft`, like what follows it.
        label: see there.
        first: see there.
        second: see there.
        kind: see there.

    Raises:
        HubError: the dataset can't be had.
        DataError: a file can't be read, a row is bad, or a guess can't be made.
        ConfigError: there is no such subset or split, or the task's file is there already.
    """
    repository, _, revision = dataset.partition("@")
    place = f"dataset {repository}"
    name = _checked(name) or _name(Path(subset or repository.rpartition("/")[2]))
    path = folder / f"{name}.yaml"
    if path.exists():
        raise ConfigError("is there already", where=path, remedy="remove it, or give --name")
    commit, sizes = download.files_of("dataset", repository, revision or None)
    files = sorted(sizes)
    notes = [f"the task keeps to commit {commit[:7]} of {repository}"]
    patterns = _hub_splits(files, subset, place)
    chosen = {
        "train": _hub_split(patterns, train, TRAIN_NAMES, "--train", place),
        "validation": _hub_split(patterns, validation, VALIDATION_NAMES, "--validation", place),
    }
    for split, given in chosen.items():
        notes.append(f"{split} is {patterns[given]}")
    fetched = download.snapshot(
        "dataset", repository, [patterns[given] for given in chosen.values()],
        revision=commit, offline=False,
    )  # fmt: skip
    labelled = [path for given in chosen.values() for path in sorted(fetched.glob(patterns[given]))]
    for file in labelled:
        download.sha256(file)
    columns = _columns(labelled[0], label, first, second, notes)
    counts = _count(labelled, columns)
    classes = None if kind == "scores" else _class_names(labelled[0], str(columns.label))
    spelt: list[str] | None = None
    if classes is not None:
        spelt = [str(number) for number in range(len(classes))]
        odd = next((text for text in counts if text not in spelt), None)
        if odd is not None:
            raise DataError(
                f"'{odd}' is none of the {len(classes)} classes of column '{columns.label}' "
                "(rows without a label have -1)",
                where=place,
                remedy="give a split that has labels with --validation",
            )
        counts = Counter({classes[int(text)]: number for text, number in counts.items()})
        kind = "labels"
    form = _labels(counts, kind, str(columns.label), labelled[0], notes, classes)
    if test is not None:
        chosen["test"] = _hub_split(patterns, test, (), "--test", place)
    task = {
        "name": name,
        "title": name.replace("_", " ").replace("-", " ").capitalize(),
        **form,
        "evaluation": ["validation"],
        **({"test": ["test"]} if test is not None else {}),
        "hub": {
            "dataset": repository,
            "revision": commit,
            "columns": columns.model_dump(exclude_none=True),
            "splits": {split: patterns[given] for split, given in chosen.items()},
            **({"label_values": spelt} if spelt and spelt != form["labels"] else {}),
        },
    }
    write_atomically(path, _yaml(task, f"the hub's {repository}").encode())
    tasks.load(path)
    return Draft(path, [], notes)


def _hub_splits(files: Sequence[str], subset: str | None, place: str) -> dict[str, str]:
    """The splits of a dataset by name, each with the pattern that fits its files and no others.

    A file is called after its split, or lies in a folder that is: ``data/train-00000-of-00002.parquet``,
    ``default/train/0000.parquet``, ``train.jsonl``. Parquet goes before other formats.
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


def _hub_split(
    patterns: Mapping[str, str], given: str | None, usual: Sequence[str], option: str, place: str
) -> str:
    """The split that is named, or that has one of the usual names."""
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


def _class_names(path: Path, column: str) -> list[str] | None:
    """What the numbers in a Parquet file's column stand for, by the dataset's own account."""
    if path.suffix != ".parquet":
        return None
    from pyarrow import parquet

    stored = (parquet.read_schema(path).metadata or {}).get(b"huggingface")
    try:
        names = json.loads(stored)["info"]["features"][column]["names"] if stored else None
    except (ValueError, KeyError, TypeError):
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else None


def _checked(name: str | None) -> str | None:
    """The name that was given, if a task may have it."""
    if name and not re.fullmatch(tasks.NAME, name):
        raise ConfigError(
            f"'{name}' can't be a task's name",
            where="--name",
            remedy="use letters, digits, '_', '-' and '.'",
        )
    return name


def _name(path: Path) -> str:
    """A task's name made of a file's; ``train.csv`` is called after its folder."""
    stem = re.sub(r"[-_.]?(train(ing)?|data)$", "", path.stem, flags=re.IGNORECASE)
    for text in (stem, path.absolute().parent.name):
        clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")
        if clean:
            return clean
    return "task"


def _columns(
    path: Path, label: str | None, first: str | None, second: str | None, notes: list[str]
) -> Columns:
    """Where label and texts are: as told, or by the names and the content of the columns."""
    given = [column for column in (label, first, second) if column is not None]
    if given and all(column.isdecimal() for column in given):
        if label is None or first is None:
            raise ConfigError("a file without header line needs --label and --first")
        place = None if second is None else int(second)
        return Columns(first=int(first), second=place, label=int(label))
    with tables.opened(path, tables.format_of(path, None)) as table:
        names = table.names
        if table.format == "text":
            raise DataError("a text file has no labels", where=path, remedy="use .tsv, .csv, …")
        rows = list(itertools.islice(_cells(table), SAMPLE))
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


def _cells(table: Table) -> Iterator[Mapping[str, Any]]:
    """The rows' cells by column name.

    Raises:
        DataError: a row is bad.
    """
    for number, record in enumerate(table.records()):
        if isinstance(record, Bad):
            raise _refusal(table.name, record)
        cells = record[1]
        if isinstance(cells, dict):
            yield cells
        elif number:  # behind the header line
            yield dict(zip(table.names, cells, strict=False))


def _refusal(name: object, bad: Bad) -> DataError:
    return DataError(bad.what, where=f"{name}:{bad.line}", remedy=bad.remedy)


def _is_text(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether most cells of a column have several words."""
    cells = [row.get(name) for row in rows]
    wordy = [cell for cell in cells if isinstance(cell, str) and len(cell.split()) > 1]
    return bool(cells) and len(wordy) > len(cells) / 2


def _examples(path: Path, columns: Columns) -> Iterator[Row]:
    with tables.opened(path, tables.format_of(path, None)) as table:
        for row in table.rows(columns):
            if isinstance(row, Bad):
                raise _refusal(path, row)
            yield row


def _count(paths: Sequence[Path], columns: Columns) -> Counter[str]:
    """How often each label occurs, as it is spelt."""
    counts: Counter[str] = Counter()
    for path in paths:
        for row in _examples(path, columns):
            text = tables.spelling(row.label)
            if row.label is None or not text.strip() or not text.isprintable():
                raise DataError(
                    f"{text[:80]!r} can't be a label",
                    where=f"{path}:{row.line}",
                    remedy="mend or remove the row, or give another --label",
                )
            counts[text] += 1
    return counts


def _labels(
    counts: Counter[str],
    kind: Kind | None,
    column: str,
    path: Path,
    notes: list[str],
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The task's labels (in this order, if it is known) or range, its metrics and headline."""
    numbers = [_as_number(text) for text in counts]
    known = [number for number in numbers if number is not None]
    are_numbers = len(known) == len(numbers)
    are_whole = are_numbers and all(number == int(number) for number in known)
    if kind is None and are_whole and len(known) > MOST_NUMBERS:
        raise DataError(
            f"column '{column}' has {len(known)} different whole numbers: classes or scores?",
            where=path,
            remedy="give --kind labels or --kind scores",
        )
    if kind == "scores" and not are_numbers:
        odd = next(text for text, number in zip(counts, numbers, strict=True) if number is None)
        raise DataError(
            f"'{odd}' in column '{column}' is no number",
            where=path,
            remedy="mend or remove its rows",
        )
    if kind == "scores" or (kind is None and are_numbers and not are_whole):
        low, high = min(known), max(known)
        if low == high:
            raise DataError(
                f"all scores in column '{column}' are {low:g}",
                where=path,
                remedy="give another --label",
            )
        notes.append(f"scores from {low:g} to {high:g}, the smallest and the largest there are")
        metrics = ["pearson", "spearman"]
        return {"range": [low, high], "metrics": metrics, "headline": "pearson"}
    if len(counts) < 2:
        raise DataError(
            f"column '{column}' has one label only: {next(iter(counts))!r}",
            where=path,
            remedy="give another --label, or rows of another class",
        )
    total = sum(counts.values())
    if len(counts) > MOST_LABELS or (len(counts) > MOST_NUMBERS and len(counts) > total / 2):
        raise DataError(
            f"column '{column}' has {len(counts):,} different values in {total:,} rows: no labels",
            where=path,
            remedy="give another --label",
        )
    labels = list(order or sorted(counts, key=float if are_numbers else str))
    notes.append(f"{len(labels)} labels: {', '.join(labels[:8])}{', …' if len(labels) > 8 else ''}")
    two = ["accuracy", "f1", "matthews"]
    metrics = two if len(labels) == 2 else ["accuracy", "matthews"]
    if len(labels) == 2:
        notes.append(f"f1 is that of the second label, '{labels[1]}'")
    return {"labels": labels, "metrics": metrics, "headline": "accuracy"}


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None  # (which is no NaN either)


def _divide(path: Path, columns: Columns, name: str, notes: list[str]) -> list[Path]:
    """The rows in two new files, for training and for validation."""
    written = [path.with_name(f"{name}.{part}.jsonl") for part in ("train", "validation")]
    for target in written:
        if target.exists():
            raise ConfigError("is there already", where=target, remedy="remove it, or give --name")
    held_out = _held_out(Counter(_hash(row) for row in _examples(path, columns)))
    numbers = [0, 0]
    with writing_atomically(written[0]) as train, writing_atomically(written[1]) as validation:
        for row in _examples(path, columns):
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
    notes.append(
        f"no --validation: of {sum(numbers):,} rows, {numbers[1]:,} were held out to select, by the "
        f"hash of their texts ({written[0].name}, {written[1].name})"
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


def _yaml(task: Mapping[str, Any], source: str) -> str:
    """The task as YAML, small lists and mappings in a line each."""

    def laid_out(value: Any) -> Any:
        if isinstance(value, list):
            made = CommentedSeq(value)
            made.fa.set_flow_style()
            return made
        if not isinstance(value, dict):
            return value
        mapping = CommentedMap({key: laid_out(inner) for key, inner in value.items()})
        if not any(isinstance(inner, dict) for inner in value.values()):
            mapping.fa.set_flow_style()
        return mapping

    document = laid_out(dict(task))
    document.yaml_set_start_comment(f"Drafted from {source}; see README.md, 'Your own task'.")
    writer = YAML()
    writer.width = 10_000
    stream = io.StringIO()
    writer.dump(document, stream)
    return stream.getvalue()
