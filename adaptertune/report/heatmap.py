"""The heatmap of spans whose adapters were removed: in the terminal, and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adaptertune import stats
from adaptertune.report.tables import (
    METRIC_NAMES,
    count,
    data_note,
    duration,
    percent,
    spread,
    table,
    titled,
)
from adaptertune.runs.results import SpanCell, SpansResult

Colour = tuple[int, int, int]
LOSS, SAME, GAIN = (178, 24, 43), (247, 247, 247), (33, 102, 172)  # ColorBrewer's RdBu
CHART_WIDTH = 460
WIDE = 12  # with more layers the numbers have no decimals, so that a row fits a terminal


def spans(result: SpansResult) -> RenderableType:
    """A heatmap of each metric, the headline first, and what they mean."""
    return Group(*(_terminal(result, metric) for metric in metrics(result)), _summary(result))


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
    largest = 100 * _largest(result, metric)
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
    scale = altair.Scale(
        domain=[-largest, 0, largest], range=[_css(colour) for colour in (LOSS, SAME, GAIN)]
    )
    squares = base.mark_rect().encode(
        color=altair.Color("change:Q", title="change, %", scale=scale)
    )
    is_dark = f"abs(datum.change) > {0.6 * largest}"
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


def _terminal(result: SpansResult, metric: str) -> RenderableType:
    cells = {(cell.first, cell.last): cell for cell in result.cells}
    largest = _largest(result, metric)
    has_deviation = len(result.seeds) > 1
    digits = 1 if len(result.layers) <= WIDE else 0
    grid = Table(box=None, padding=(0, 0), show_edge=False, pad_edge=False)
    grid.add_column("first \\ last ", justify="right")
    for last in result.layers:
        grid.add_column(str(last), justify="center")
    for first in result.layers:
        shown = [
            _square(cells.get((first, last)), metric, largest, digits) for last in result.layers
        ]
        grid.add_row(f"{first} ", *shown)
    seeds = f"mean{' and deviation' if has_deviation else ''} over {_seeds(result)}"
    title = (
        f"Relative change of {METRIC_NAMES[metric]} in per cent, adapters removed from layers first "
        f"to last · {result.task}, {result.split}, {seeds}{data_note(result.data)}"
    )
    return Group(titled(title, ""), grid, "")


def _square(cell: SpanCell | None, metric: str, largest: float, digits: int) -> Text:
    """Number over deviation on the colour of the change; nothing below the diagonal."""
    width = 4 + 2 * (digits > 0) + 1
    if cell is None:
        return Text("")
    change = cell.change[metric]
    if change.mean is None:
        return Text(" –".center(width), style="dim")
    lines = [f"{100 * change.mean:+.{digits}f}"]
    if change.deviation is not None:
        lines.append(f"±{100 * change.deviation:.{digits}f}")
    colour = _colour(change.mean, largest)
    is_dark = sum(colour) < 400
    style = f"{'white' if is_dark else 'black'} on {_css(colour)}"
    return Text("\n".join(line.center(width) for line in lines), style=style)


def _summary(result: SpansResult) -> RenderableType:
    names = metrics(result)
    shown = table(
        "", *(METRIC_NAMES[name] for name in names), right=[METRIC_NAMES[n] for n in names]
    )
    shown.add_row("all adapters", *(spread(result.intact[name]) for name in names))
    whole = result.cells[len(result.layers) - 1]  # from the first to the last layer
    layers = f"{result.layers[0]}-{result.layers[-1]}"
    shown.add_row(f"none in {layers}", *(spread(whole.values[name]) for name in names))
    if result.majority_share is not None:
        shares = [percent(result.majority_share) if n == "accuracy" else "" for n in names]
        shown.add_row("always the majority class", *shares)
    remark = (
        f"LayerNorms and head stay as trained. {count(result.layer_evaluations)} layers computed for "
        f"each of {count(result.num_examples)} examples instead of "
        f"{count(result.layer_evaluations_apart)}; took {duration(result.seconds)}. "
        "± is the sample deviation over seeds."
    )
    return Group(titled("In per cent", shown), Text(remark, style="dim"))


def _seeds(result: SpansResult) -> str:
    return "1 seed" if len(result.seeds) == 1 else f"{len(result.seeds)} seeds"


def _mean(values: Sequence[float | None]) -> float | None:
    return stats.mean([value for value in values if value is not None])


def _in_percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _largest(result: SpansResult, metric: str) -> float:
    """The largest change either way; the colours' end."""
    changes = [abs(cell.change[metric].mean or 0.0) for cell in result.cells]
    return max(changes) or 1.0


def _colour(change: float, largest: float) -> Colour:
    end, share = (LOSS if change < 0 else GAIN), abs(change) / largest
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(SAME, end, strict=True))
    return red, green, blue


def _css(colour: Colour) -> str:
    return f"rgb({colour[0]},{colour[1]},{colour[2]})"
