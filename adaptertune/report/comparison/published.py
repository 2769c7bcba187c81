"""Published rows beside ours, each with what keeps it apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptertune import tasks
from adaptertune.report.comparison.averages import plain_mean
from adaptertune.report.comparison.columns import GLUE, on_column
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Column, PublishedRow
from adaptertune.runs import summary


@dataclass(frozen=True)
class _PaperRow:
    label: str
    share: float | None
    multiple: float | None
    glue_average: float | None


# Houlsby et al. 2019, Table 1: what its rows say apart from the tasks' figures, which are in the
# tasks' files. Shares are of the encoder layers. The average is the leaderboard's, WNLI included.
PAPER_ROWS: dict[str, _PaperRow] = {
    "full": _PaperRow("full fine-tuning", 1.0, 9.0, 0.804),
    "adapters_8_256": _PaperRow("adapters 8-256", 0.036, 1.3, 0.800),
    "adapters_64": _PaperRow("adapters 64", 0.021, 1.2, 0.796),
    "top_1_layer": _PaperRow("top layer only", None, None, None),
}


def row_label(row: str) -> str:
    """What a published row is called, by its name in the tasks' files."""
    return PAPER_ROWS[row].label if row in PAPER_ROWS else row.replace("_", " ")


TABLE_1 = "Houlsby et al. 2019, Table 1"


def published_rows(columns: Sequence[Column], cells: Sequence[Cell]) -> list[PublishedRow]:
    """The figures in the tasks' files, by source and row.

    Args:
        cells: those that they stand beside.
    """
    reasons: dict[tuple[str, str, str, bool], dict[str, None]] = {}  # an ordered set of each row's
    found: dict[tuple[str, str, str, bool], list[float | None]] = {}  # source, model, row, on test
    for position, column in enumerate(columns):
        if not column.glue:
            continue
        task = tasks.load(column.task)
        place = task.evaluation.index(column.split)
        test = task.test[place] if place < len(task.test) else None
        for published in task.published:
            if published.metric != column.metric or published.split not in (column.split, test):
                continue
            on_test = published.split == test
            for name, value in published.figures.items():
                key = (published.source, published.model, str(name), on_test)
                found.setdefault(key, [None] * len(columns))[position] = value / 100
                own = on_column(column, cells)
                of_row = reasons.setdefault(key, {})
                of_row |= dict.fromkeys(_apart(published.model, published.split, own))
    rows = []
    for (source, model, row, on_test), values in found.items():
        facts = PAPER_ROWS[row]
        in_table = source == TABLE_1
        whole = in_table and {column.task for column in columns} >= set(GLUE) - {"wnli"}
        why_not = ", ".join(reasons[source, model, row, on_test])
        rows.append(
            PublishedRow(
                label=facts.label,
                source=f"{source}, {model}, {'test server' if on_test else 'validation'}",
                values=values,
                mean=plain_mean(values),
                glue_average=facts.glue_average if whole else None,
                share=facts.share if in_table else None,
                multiple=facts.multiple if in_table else None,
                num_tasks=len(GLUE),
                comparable=not why_not,
                why_not=why_not or None,
            )
        )
    return rows


def _apart(model: str, split: str, cells: Sequence[Cell]) -> list[str]:
    """What keeps a published figure apart from all cells of a column."""
    by_cell = [
        summary.apart(
            model,
            split,
            data=cell.facts.data,
            backbone=cell.facts.backbone.name,
            reported=cell.reported,
            held_out=cell.protocol == "held-out",
            init_from=cell.facts.init_from,
        )
        for cell in cells
    ]
    return [reason for reason in by_cell[0] if all(reason in other for other in by_cell)]
