"""What the labels are: classes and their names, or scores and their range."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from adaptertune.data import tables
from adaptertune.data.check import alike, as_number
from adaptertune.data.draft.columns import examples
from adaptertune.errors import DataError
from adaptertune.tasks import Columns

Kind = Literal["labels", "scores"]

MOST_LABELS = 1000
MOST_NUMBERS = 20  # different whole numbers that may be labels without being told so


def count_labels(paths: Sequence[Path], columns: Columns) -> Counter[str]:
    """How often each label occurs, as it is spelt.

    Raises:
        DataError: a row is bad, or its label can't be one.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        for row in examples(path, columns):
            text = tables.spelling(row.label)
            if row.label is None or not text.strip() or not text.isprintable():
                raise DataError(
                    f"{text[:80]!r} can't be a label",
                    where=f"{path}:{row.line}",
                    remedy="mend or remove the row, or give another --label",
                )
            counts[text] += 1
    return counts


def describe_labels(
    counts: Counter[str],
    kind: Kind | None,
    column: str,
    path: Path,
    notes: list[str],
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The task's labels (in this order, if it is known) or range, its metrics and headline.

    What was decided is added to ``notes``.

    Raises:
        DataError: whether they are classes or scores can't be told, or they are neither.
    """
    numbers = [as_number(text) for text in counts]
    known = [number for number in numbers if number is not None]
    are_numbers = len(known) == len(numbers)
    are_whole = are_numbers and all(number == int(number) for number in known)
    if kind is None and are_whole and len(known) > MOST_NUMBERS:
        raise DataError(
            f"column '{column}' has {len(known)} different whole numbers: classes or scores?",
            where=path,
            remedy="give --kind labels or --kind scores",
        )
    odd = [text for text, number in zip(counts, numbers, strict=True) if number is None]
    are_scores = len(known) > MOST_NUMBERS or any(number != int(number) for number in known)
    if kind is None and odd and are_scores and len(known) > 2 * len(odd):
        raise DataError(
            f"column '{column}' has {len(known)} different numbers and {', '.join(map(repr, odd[:3]))}",
            where=path,
            remedy="mend or remove these rows, or give --kind labels",
        )
    if kind == "scores" and not are_numbers:
        raise DataError(
            f"'{odd[0]}' in column '{column}' is no number",
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
    notes += [f"{one} count as different labels" for one in alike(labels)]
    two = ["accuracy", "f1", "matthews"]
    metrics = two if len(labels) == 2 else ["accuracy", "matthews"]
    if len(labels) == 2:
        notes.append(f"f1 is that of the second label, '{labels[1]}'")
    return {"labels": labels, "metrics": metrics, "headline": "accuracy"}


def stored_names(path: Path, column: str) -> list[str] | None:
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
