"""Published rows as tables of their own: what a source gives, and nothing it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptertune.report import tables
from adaptertune.report.schema import Column, Comparison, PublishedRow

NOT_GIVEN = tables.percent(None)


@dataclass(frozen=True)
class PublishedTable:
    """A source's rows in text. Column heads may have several lines."""

    title: str
    """The source, and whether its figures may be compared with ours."""
    head: list[str]
    lines: list[list[str]]

    @property
    def transposed(self) -> list[tuple[str, ...]]:
        """Lines with a task each, the head first."""
        return list(zip(*[["", *self.head[1:]], *self.lines], strict=True))


def by_source(shown: Comparison) -> list[PublishedTable]:
    """A comparison's published rows, a table a source."""
    sources = dict.fromkeys(row.source for row in shown.published)
    return [
        _table(source, [row for row in shown.published if row.source == source], shown.columns)
        for source in sources
    ]


def _table(source: str, rows: Sequence[PublishedRow], columns: Sequence[Column]) -> PublishedTable:
    reasons = ", ".join(dict.fromkeys(row.why_not for row in rows if row.why_not))
    of_tasks = tables.plural(rows[0].num_tasks, "task")
    figures = [
        (f"{column.label}\n{tables.METRIC_NAMES[column.metric]}", [*map(tables.percent, values)])
        for column, values in zip(
            columns, zip(*(row.values for row in rows), strict=True), strict=True
        )
    ]
    averages = [
        ("mean", [tables.percent(row.mean) for row in rows]),
        (f"GLUE rule,\n{of_tasks}", [tables.percent(row.glue_average) for row in rows]),
        (
            f"{of_tasks}\nparams",
            [f"{row.multiple:.1f}x" if row.multiple else NOT_GIVEN for row in rows],
        ),
        ("trained\n% encoder", [tables.percent(row.share) for row in rows]),
    ]
    given = [(name, texts) for name, texts in figures if set(texts) != {NOT_GIVEN}]
    if len(given) == 1:
        del averages[0]  # the mean says the same again
    given += [(name, texts) for name, texts in averages if set(texts) != {NOT_GIVEN}]
    return PublishedTable(
        title=f"{source} ({f'not comparable: {reasons}' if reasons else 'comparable'})",
        head=["method", *(name for name, _ in given)],
        lines=[
            [row.label, *of_row]
            for row, *of_row in zip(rows, *(texts for _, texts in given), strict=True)
        ],
    )
