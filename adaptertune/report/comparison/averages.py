"""Averages over a table's columns: the plain mean, and GLUE's leaderboard rule."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from adaptertune.report.schema import Column

# What the leaderboard counts of a task's metrics where that is not all of them: we give CoLA's
# accuracy too, for the paper's heatmap.
COUNTED = {"cola": ("matthews",)}


def num_glue(columns: Sequence[Column]) -> int:
    """How many of GLUE's tasks are there, that is, of how many the leaderboard's rule is taken."""
    return len({column.task for column in columns if column.glue})


def plain_mean(values: Sequence[float | None]) -> float | None:
    """The mean of all columns; None if one is missing."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def glue_average(columns: Sequence[Column], means: Sequence[Mapping[str, float]]) -> float | None:
    """GLUE's leaderboard rule over the columns that are GLUE's: the mean over tasks, each counted by
    the mean of its metrics (F1 and accuracy, Pearson and Spearman) and of its sets (MNLI).

    ``means``: a column's metrics; empty where there is no score, and then there is no average.
    """
    by_task: dict[str, list[float]] = {}
    for column, metrics in zip(columns, means, strict=True):
        if column.glue:
            counted = COUNTED.get(column.task, tuple(metrics))
            if not metrics or not metrics.keys() >= set(counted):
                return None
            found = statistics.fmean(metrics[name] for name in counted)
            by_task.setdefault(column.task, []).append(found)
    if not by_task:
        return None
    return statistics.fmean(statistics.fmean(values) for values in by_task.values())
