"""A bundle's bytes, and how fast it answers, as rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from adaptertune.report import tables

if TYPE_CHECKING:
    from adaptertune.share.bundle import Bundle, Serving, Sizes


def bundle(bundle: Bundle, sizes: Sizes) -> RenderableType:
    """The tasks with what each takes on disk, and all of it beside full models."""
    made = tables.table(
        "task", "run", "score", "on disk", "of the backbone", right=("score", "on disk")
    )
    for name, run in bundle.runs.items():
        size = sizes.tasks[name]
        metric = tables.METRIC_NAMES[run.task.headline]
        made.add_row(
            name,
            Text(f"{run.cell.path.name}, seed {run.result.seed}"),
            f"{metric} {tables.percent(run.score)}",
            tables.size(size),
            f"{tables.percent(size / sizes.backbone)} %",
        )
    full = f"{tables.size(sizes.full_models)}, {sizes.full_multiple:.2f}x"
    lines = [
        f"Backbone    {tables.size(sizes.backbone)}, once",
        f"Together    {tables.size(sizes.total)}, {sizes.multiple:.2f}x one model",
        f"Instead of  {full}, as {tables.plural(len(bundle.runs), 'full model')}",
        f"Bundle      {bundle.folder}",
    ]
    return Group(made, Text("\n".join(lines)))


def measured(ways: Sequence[Serving], num_rows: int) -> RenderableType:
    """Each way of answering with its pace, its latency and its weights."""
    right = ("rows/s", "one row of each task", "weights in memory")
    made = tables.table("way", *right, right=right)
    for one in ways:
        made.add_row(
            one.way,
            f"{one.rows_per_second:,.0f}",
            f"{1000 * one.latency:.1f} ms",
            tables.size(one.weight_bytes),
        )
    return Group(made, Text(f"{tables.plural(num_rows, 'row')}, three rounds in turn, medians"))
