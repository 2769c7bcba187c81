"""Tasks as columns, in the paper's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from adaptertune import tasks
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Column

# The columns of GLUE in the paper's order; the leaderboard's average is over these tasks.
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


def columns_of(cells: Sequence[Cell]) -> list[Column]:
    """A column for each split that a task reports, and for each set of rows."""
    found: dict[tuple[str, str, str], Column] = {}
    for cell in cells:
        facts = cell.facts
        for split in cell.reported:
            key = (facts.task, split, facts.data.fingerprint)
            if key not in found:
                is_shipped = cell.config["task"] in tasks.shipped()
                several = f" {split}" if len(cell.reported) > 1 else ""
                found[key] = Column(
                    task=facts.task,
                    label=_column_label(tasks.load(facts.task), split)
                    if is_shipped
                    else f"{facts.task}{several}",
                    split=split,
                    metric=cell.headline,
                    data=facts.data,
                    glue=is_shipped and not facts.data.sample and facts.task in GLUE,
                )

    def order(column: Column) -> tuple[bool, int, str]:
        known = column.task in GLUE
        return (not known, GLUE.index(column.task) if known else 0, column.task)

    return sorted(_told_apart(list(found.values())), key=order)


def _told_apart(columns: Sequence[Column]) -> list[Column]:
    """Where a task has several sets of rows, with their number in the label, or with their digest's end
    too.
    """
    labels = Counter(column.label for column in columns)
    sizes = Counter((column.label, column.data.num_train) for column in columns)

    def label(column: Column) -> str:
        if labels[column.label] == 1:
            return column.label
        is_told = sizes[column.label, column.data.num_train] == 1
        digits = "" if is_told else f", {column.data.fingerprint[-6:]}"
        return f"{column.label} ({column.data.num_train:,} rows{digits})"

    return [column.model_copy(update={"label": label(column)}) for column in columns]


def _column_label(task: tasks.Task, split: str) -> str:
    """``MNLI-m`` for its matched split: the GLUE server's name for it."""
    position = task.evaluation.index(split)
    if position < len(task.test) and task.test[position] in task.submission:
        return task.submission[task.test[position]].file.removesuffix(".tsv")
    return task.name


def on_column(column: Column, cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a column's task and rows."""
    return [
        cell
        for cell in cells
        if cell.facts.task == column.task and cell.facts.data.fingerprint == column.data.fingerprint
    ]


def first_of_task(columns: Sequence[Column]) -> list[Column]:
    """Without the further splits of a task: one column for each task and its rows."""
    return [
        column
        for number, column in enumerate(columns)
        if not number
        or (columns[number - 1].task, columns[number - 1].data) != (column.task, column.data)
    ]


def has_several_sets(columns: Sequence[Column]) -> bool:
    """Whether a task is there with several sets of rows, over which no mean means anything."""
    return len({(column.task, column.split) for column in columns}) < len(columns)


def count_tasks(columns: Sequence[Column]) -> int:
    """How many tasks are compared."""
    return len({column.task for column in columns})
