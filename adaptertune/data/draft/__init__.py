"""A task's YAML file drafted from a file of rows or from a dataset of the hub: what each guess rests on
is told, and all are written down, to be mended by hand.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from adaptertune import download, paths, tasks
from adaptertune.data import tables
from adaptertune.data.draft.columns import find_columns
from adaptertune.data.draft.hold_out import divide
from adaptertune.data.draft.hub import TRAIN_NAMES, VALIDATION_NAMES, choose_split, splits_of
from adaptertune.data.draft.labels import Kind, count_labels, describe_labels, stored_names
from adaptertune.errors import ConfigError, DataError
from adaptertune.files import write_atomically
from adaptertune.tasks import Columns


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
        ConfigError: a file is none or in another folder, or the task's file is there already.
    """
    if not train.name:
        raise ConfigError("is no file", where=train, remedy="name the file with the rows")
    paths.check_name(train.absolute(), None)
    for other in (validation, test):
        if other is not None and _folder(other) != _folder(train):
            raise ConfigError(
                "lies in another folder", where=other, remedy=f"move it beside {train.name}"
            )
    name = _checked(name) or _name(train)
    path = train.with_name(f"{name}.yaml")
    if path.exists():
        raise ConfigError("is there already", where=path, remedy="remove it, or give --name")
    notes: list[str] = []
    columns = find_columns(train, label, first, second, notes)
    labelled = [train] if validation is None else [train, validation]
    counts = count_labels(labelled, columns)
    form = describe_labels(counts, kind, str(columns.label), train, notes)
    for column, what in ((columns.first, "first"), (columns.second, "second")):
        if isinstance(column, int):
            notes.append(f"the {what} text is column {column} (from 0)")
    written: list[Path] = []
    if test is not None:
        without_label = columns.model_copy(update={"label": None})
        with tables.opened(test, tables.format_of(test, None)) as table:
            for row in islice(table.rows(without_label), 1):
                if isinstance(row, tables.Bad):
                    raise row.error(test)
    files = {"train": train, "validation": validation}
    if validation is None:
        written = divide(train, columns, name, notes)
        files = dict(zip(files, written, strict=True))
        second = None if columns.second is None else "second"
        columns = Columns(first="first", second=second, label="label")
    splits: dict[str, Any] = {split: {"file": file.name} for split, file in files.items() if file}
    if test is not None:
        splits["test"] = {"file": test.name}
        if written:  # the others have columns of our own now
            splits["test"]["columns"] = without_label.model_dump(exclude_none=True)
    files_at = {"columns": columns.model_dump(exclude_none=True), "splits": splits}
    _write(path, form, {"files": files_at}, train.name, has_test=test is not None)
    return Draft(path, written, notes)


def _folder(file: Path) -> Path:
    return file.absolute().parent.resolve()


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
    patterns = splits_of(files, subset, place)
    chosen = {
        "train": choose_split(patterns, train, TRAIN_NAMES, "--train", place),
        "validation": choose_split(patterns, validation, VALIDATION_NAMES, "--validation", place),
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
    columns = find_columns(labelled[0], label, first, second, notes)
    counts = count_labels(labelled, columns)
    classes = None if kind == "scores" else stored_names(labelled[0], str(columns.label))
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
    form = describe_labels(counts, kind, str(columns.label), labelled[0], notes, classes)
    if test is not None:
        chosen["test"] = choose_split(patterns, test, (), "--test", place)
    hub_at = {
        "dataset": repository,
        "revision": commit,
        "columns": columns.model_dump(exclude_none=True),
        "splits": {split: patterns[given] for split, given in chosen.items()},
        **({"label_values": spelt} if spelt and spelt != form["labels"] else {}),
    }
    _write(path, form, {"hub": hub_at}, f"the hub's {repository}", has_test=test is not None)
    return Draft(path, [], notes)


def _write(
    path: Path, form: Mapping[str, Any], rows: Mapping[str, Any], source: str, *, has_test: bool
) -> None:
    """Write the task that the file is called after, and read it as every command will.

    ``form``: its labels or range and its metrics. ``rows``: where they are, ``files`` or ``hub``.
    """
    task = {
        "name": path.stem,
        "title": path.stem.replace("_", " ").replace("-", " ").capitalize(),
        **form,
        "evaluation": ["validation"],
        **({"test": ["test"]} if has_test else {}),
        **rows,
    }
    write_atomically(path, _yaml(task, source).encode())
    tasks.load(path)


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


def _yaml(task: Mapping[str, Any], source: str) -> str:
    """The task as YAML, small lists and mappings in a line each."""

    def laid_out(value: Any) -> Any:
        if isinstance(value, list):
            made = CommentedSeq(map(laid_out, value))
            made.fa.set_flow_style()
            return made
        if isinstance(value, str) and value.startswith(("?", ":")):
            return DoubleQuotedScalarString(value)  # which ruamel takes for a key when it reads it
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
