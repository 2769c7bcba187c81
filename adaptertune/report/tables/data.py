"""Tasks, and what a task's data holds and what is wrong with it, as rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from adaptertune.report import tables
from adaptertune.report.tables import plural
from adaptertune.tasks import Task

if TYPE_CHECKING:
    from adaptertune.data.check import Report

MOST_LABELS = 8  # that are shown of a split, the most frequent ones


def check(heading: str, report: Report, task: Task | None) -> RenderableType:
    """A line a split, then the findings, and the verdict; ``task`` is None if its file can't be read."""
    made = tables.table("split", "rows", "bad", "labels", right=("rows", "bad"))
    for split in report.splits:
        told = ""
        if split.labels:
            most = sorted(split.labels.items(), key=lambda item: -item[1])
            told = ", ".join(f"{label} {number:,}" for label, number in most[:MOST_LABELS])
            told += f", … ({len(most)} labels)" if len(most) > MOST_LABELS else ""
        elif split.scores:
            low, mean, high = split.scores
            told = f"{low:g} to {high:g}, mean {mean:.3g}"
        made.add_row(split.name, f"{split.num_rows:,}", f"{split.num_bad:,}", Text(told))
    lines = []
    for finding in report.findings:
        style = "red" if finding.level == "error" else "yellow"
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        times = f" ({finding.times} times)" if finding.times > 1 else ""
        told = f"{finding.level}: {finding.where}: {finding.what}{remedy}{times}"
        lines.append(Text(told, style=style))
    errors = report.num_errors
    good = "ready to train"
    if task and not task.trainable:
        good = f"no errors; it has no training data, {task.trained_on}'s model answers it"
    verdict = Text(plural(errors, "error"), "red") if errors else Text(good, "green")
    return Group(Text(heading, "bold"), *([made] if report.splits else []), *lines, verdict)


def task_list(tasks: Sequence[Task], *, with_titles: bool) -> RenderableType:
    """Tasks with what they ask, what selects, and how many rows they have."""
    shown = tables.table(
        "task", *(["title"] if with_titles else []), "labels", "metrics", "train\nrows",
        "evaluated on", right=("train\nrows",),
    )  # fmt: skip
    for task in tasks:
        low, high = task.range or (0.0, 0.0)
        shown.add_row(
            Text(task.name, style="bold"),
            *([Text(task.title)] if with_titles else []),
            Text(", ".join(task.labels) if task.labels else f"score {low:g} to {high:g}"),
            "\n".join(tables.METRIC_NAMES[name] for name in task.metrics),
            tables.count(task.rows["train"]) if "train" in task.rows else "–",
            "\n".join(task.evaluation) or f"nothing: {task.trained_on} answers it",
        )
    return shown
