"""Tasks as columns, in the paper's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from adaptertune import tasks
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Column
from adaptertune.report.tables import METRIC_NAMES

# The columns of GLUE in the paper's order; the leaderboard's average is over these tasks.
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


def columns_of(cells: Sequence[Cell]) -> list[Column]:
    """A column for each split that a task reports, for each set of rows and definition of the task."""
    found: dict[tuple[str, str], Column] = {}
    for cell in cells:
        facts = cell.facts
        for split in cell.reported:
            key = (cell.task_digest, split)
            if key not in found:
                is_shipped = cell.config["task"] in tasks.shipped()
                several = f" {split}" if len(cell.reported) > 1 else ""
                found[key] = Column(
                    task=facts.task,
                    task_digest=cell.task_digest,
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
    """Where a task is there several times, with what tells it from the others in its label: the metric,
    the number of rows, the end of their digest, or that of all that defines it.
    """
    lines = [_wordings(column) for column in columns]
    told: list[Column] = []
    for number, column in enumerate(columns):
        others = lines[:number] + lines[number + 1 :]
        label = next(
            (
                wording
                for place, wording in enumerate(lines[number])
                if wording not in [other[place] for other in others]
            ),
            lines[number][-1],
        )
        told.append(column.model_copy(update={"label": label}))
    return told


def _wordings(column: Column) -> list[str]:
    """A column's label, and ever longer ones."""
    rows = f"{column.data.num_train:,} rows"
    of_rows = f"{rows}, {column.data.fingerprint[-6:]}"
    metric = METRIC_NAMES[column.metric]
    kinds = (metric, rows, of_rows, f"{rows}, {metric}", f"{of_rows}, {column.task_digest[:6]}")
    return [column.label, *(f"{column.label} ({kind})" for kind in kinds)]


def _column_label(task: tasks.Task, split: str) -> str:
    """``MNLI-m`` for its matched split: the GLUE server's name for it."""
    position = task.evaluation.index(split)
    if position < len(task.test) and task.test[position] in task.submission:
        return task.submission[task.test[position]].file.removesuffix(".tsv")
    return task.name


def on_column(column: Column, cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a column's task and rows."""
    return [cell for cell in cells if cell.task_digest == column.task_digest]


def first_of_task(columns: Sequence[Column]) -> list[Column]:
    """Without the further splits of a task: one column for each task and its rows."""
    return [
        column
        for number, column in enumerate(columns)
        if not number or columns[number - 1].task_digest != column.task_digest
    ]


def task_names(columns: Sequence[Column]) -> list[str]:
    """Of :func:`first_of_task`: the tasks' names, or labels of those that are there several times."""
    times = Counter(column.task for column in columns)
    return [column.label if times[column.task] > 1 else column.task for column in columns]


def has_several_sets(columns: Sequence[Column]) -> bool:
    """Whether a task is there with several sets of rows or definitions, over which no mean means
    anything.
    """
    return count_tasks(columns) < len({column.task_digest for column in columns})


def count_tasks(columns: Sequence[Column]) -> int:
    """How many tasks are compared."""
    return len({column.task for column in columns})
