"""A chart with its words, and what all figures share: captions, axes, the order of colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from adaptertune import stats
from adaptertune.report import charts, tables, words
from adaptertune.report.charts import Axis
from adaptertune.report.comparison import Group, methods
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Column

TRAINED = Axis("trained parameters, without the head", log=True)
RINGS = (
    "A ring is a seed (a cross: one that answers the same for every example), the tick the mean, "
)
DOTS = (
    f"{RINGS}the bar its 95 % bootstrap interval, which needs {stats.FEWEST} seeds and is too narrow "
    "for few."
)
ERROR_BARS = "Bars: ± 1 standard error of the mean over seeds; none where there is one seed."
# The same in short, for a picture that stands alone.
DRAWN_RINGS = "rings: seeds; crosses: collapsed; ticks: means; bars: "
DRAWN_DOTS = f"{DRAWN_RINGS}95 % bootstrap intervals"
DRAWN_ERRORS = "means over seeds, ± 1 standard error"


@dataclass(frozen=True)
class Figure:
    """A chart with all that must be said about it. ``name`` is its file's and its anchor."""

    name: str
    chapter: str
    title: str
    subtitle: tuple[str, ...]
    """For a picture that stands alone, by line: kind of chart; base model, protocol; what is drawn."""
    alt: str
    caption: str
    spec: charts.Spec
    table: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The same in numbers, by column; often empty."""


def figure(
    group: Group,
    name: str,
    chapter: str,
    title: str,
    drawn: str,
    caption: str,
    notes: Iterable[str],
    spec: charts.Spec,
    table: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """A chart of a comparison as a figure; its alternative text is its title and its points' notes.

    ``drawn``: of which statistic its marks are, in few words; the caption says it in full.
    """
    marked = f"{title} · sample data, not GLUE" if group.comparison.sample else title
    return Figure(
        name=re.sub(r"[^a-z0-9_-]+", "-", f"{group.comparison.name}-{name}".lower()),
        chapter=chapter,
        title=marked,
        subtitle=(chapter, f"{group.comparison.title} · {words.in_short(group.cells[0])}", drawn),
        alt=f"{marked}. {'; '.join(notes)}.",
        caption=caption.strip(),
        spec=spec,
        table=table or {},
    )


def shown_methods(group: Group) -> dict[tuple[str, str], Sequence[Cell]]:
    """The cells of each method that has a row."""
    shown = {(row.method, row.variant) for row in group.comparison.rows}
    return {key: cells for key, cells in group.candidates.items() if key in shown}


def colours(group: Group) -> dict[str, int]:
    """The number of each series' colour: a method's is the same with and without its sizes."""
    order: dict[str, int] = {}
    number = {key: position for position, key in enumerate(shown_methods(group))}
    for row in group.comparison.rows:
        position = number[row.method, row.variant]
        order[methods.label(row.method, [], row.variant)] = position
        order[row.label] = position
    return order


def metric_title(column: Column, split: str | None = None) -> str:
    """An axis's title and the start of a caption: ``Accuracy on validation, in per cent``."""
    name = tables.METRIC_NAMES[column.metric]
    return f"{name[0].upper()}{name[1:]} on {split or column.split}, in per cent".replace("_", " ")


def data_note(column: Column) -> str:
    """What of the task's data a title must say (a part, other rows); a sample's says it anyway."""
    return "" if column.data.sample else tables.data_note(column.data)
