"""The heatmap of spans whose adapters were removed, as a chart, and what the one in the terminal
(`report/tables/spans.py`) has of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptertune import stats
from adaptertune.report.tables import METRIC_NAMES
from adaptertune.runs.analyses import SpansResult

Colour = tuple[int, int, int]
LOSS, SAME, GAIN = (178, 24, 43), (247, 247, 247), (33, 102, 172)  # ColorBrewer's RdBu
CHART_WIDTH = 460
WIDE = 12  # with more layers the numbers have no decimals, so that a row fits a terminal


def metrics(result: SpansResult) -> list[str]:
    """The headline metric, and accuracy (the paper's) if that is another one."""
    names = [result.headline]
    if "accuracy" in result.intact and result.headline != "accuracy":
        names.append("accuracy")
    return names


def chart(result: SpansResult, metric: str) -> dict[str, Any]:
    """The heatmap of one metric as a Vega-Lite specification, without title or theme."""
    import altair

    rows = [
        {
            "first": cell.first,
            "last": cell.last,
            "change": _in_percent(cell.change[metric].mean),
            "deviation": _in_percent(cell.change[metric].deviation),
            "value": _in_percent(_mean(cell.values[metric])),
        }
        for cell in result.cells
    ]
    end = 100 * largest(result, metric)
    name = METRIC_NAMES[metric]
    base = altair.Chart(altair.InlineData(values=rows)).encode(
        x=altair.X("last:O", title="last layer without adapters", axis=altair.Axis(labelAngle=0)),
        y=altair.Y("first:O", title="first layer without adapters"),
        tooltip=[
            altair.Tooltip("first:O", title="first layer"),
            altair.Tooltip("last:O", title="last layer"),
            altair.Tooltip("change:Q", title="relative change, %", format="+.2f"),
            altair.Tooltip("deviation:Q", title="deviation over seeds", format=".2f"),
            altair.Tooltip("value:Q", title=f"{name}, %", format=".2f"),
        ],
    )
    colours = {-end: LOSS, 0: SAME, end: GAIN}
    if not any((row["change"] or 0) > 0 for row in rows):  # the usual thing: half a scale is idle
        del colours[end]
    scale = altair.Scale(domain=[*colours], range=[css(colour) for colour in colours.values()])
    squares = base.mark_rect().encode(
        color=altair.Color("change:Q", title="change, %", scale=scale)
    )
    is_dark = f"abs(datum.change) > {0.6 * end}"
    digits = "+.1f" if len(result.layers) <= WIDE else "+.0f"
    numbers = base.transform_filter("datum.change != null").mark_text(fontSize=11)
    numbers = numbers.encode(
        text=altair.Text("change:Q", format=digits),
        color=altair.condition(is_dark, altair.value("white"), altair.value("black")),
    )
    layered = altair.layer(squares, numbers).properties(
        width=CHART_WIDTH, height=CHART_WIDTH * len(result.layers) // (len(result.layers) + 2)
    )
    specification: dict[str, Any] = layered.to_dict()
    del specification["config"]  # Altair's own sizes; the page has a theme
    return specification


def largest(result: SpansResult, metric: str) -> float:
    """The largest change either way; the colours' end."""
    changes = [abs(cell.change[metric].mean or 0.0) for cell in result.cells]
    return max(changes) or 1.0


def css(colour: Colour) -> str:
    """A colour as a page writes it."""
    return f"rgb({colour[0]},{colour[1]},{colour[2]})"


def _mean(values: Sequence[float | None]) -> float | None:
    return stats.mean([value for value in values if value is not None])


def _in_percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
