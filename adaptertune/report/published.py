"""Published rows beside ours, each with what keeps it apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptertune import tasks
from adaptertune.report.columns import GLUE, plain_mean
from adaptertune.report.schema import Column, PublishedRow


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

TABLE_1 = "Houlsby et al. 2019, Table 1"


def published_rows(columns: Sequence[Column], backbone: str) -> list[PublishedRow]:
    """The figures in the tasks' files, by source and row."""
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
    is_partial = any(column.data.partial for column in columns)
    rows = []
    for (source, model, row, on_test), values in found.items():
        facts = PAPER_ROWS[row]
        in_table = source == TABLE_1
        whole = in_table and {column.task for column in columns} >= set(GLUE) - {"wnli"}
        reasons = [
            *([model] if model != backbone else []),
            *(["test server"] if on_test else []),
            *(["ours: partial training sets"] if is_partial else []),
        ]
        rows.append(
            PublishedRow(
                label=facts.label,
                source=f"{source}, {model}, {'test server' if on_test else 'validation'}",
                values=values,
                mean=plain_mean(values),
                glue_average=facts.glue_average if whole else None,
                share=facts.share if in_table else None,
                multiple=facts.multiple if in_table else None,
                comparable=not reasons,
                why_not=", ".join(reasons) or None,
            )
        )
    return rows
