"""The heatmap of spans whose adapters were removed, in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adaptertune.config import written_layers
from adaptertune.report import heatmap
from adaptertune.report.tables import (
    METRIC_NAMES,
    count,
    data_note,
    duration,
    percent,
    plural,
    spread,
    table,
    titled,
)
from adaptertune.runs.analyses import SpanCell, SpansResult


def spans(result: SpansResult) -> RenderableType:
    """A heatmap of each metric, the headline first, and what they mean."""
    return Group(
        *(_terminal(result, metric) for metric in heatmap.metrics(result)), _summary(result)
    )


def _terminal(result: SpansResult, metric: str) -> RenderableType:
    cells = {(cell.first, cell.last): cell for cell in result.cells}
    largest = heatmap.largest(result, metric)
    has_deviation = len(result.seeds) > 1
    digits = 1 if len(result.layers) <= heatmap.WIDE else 0
    grid = Table(box=None, padding=(0, 0), show_edge=False, pad_edge=False)
    grid.add_column("first \\ last ", justify="right")
    for last in result.layers:
        grid.add_column(str(last), justify="center")
    for first in result.layers:
        shown = [
            _square(cells.get((first, last)), metric, largest, digits) for last in result.layers
        ]
        grid.add_row(f"{first} ", *shown)
    seeds = (
        f"mean{' and deviation' if has_deviation else ''} over {plural(len(result.seeds), 'seed')}"
    )
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
    style = f"{'white' if is_dark else 'black'} on {heatmap.css(colour)}"
    return Text("\n".join(line.center(width) for line in lines), style=style)


def _summary(result: SpansResult) -> RenderableType:
    names = heatmap.metrics(result)
    shown = table(
        "", *(METRIC_NAMES[name] for name in names), right=[METRIC_NAMES[n] for n in names]
    )
    shown.add_row("all adapters", *(spread(result.intact[name]) for name in names))
    whole = result.cells[len(result.layers) - 1]  # from the first to the last layer
    layers = written_layers(result.layers)
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


def _colour(change: float, largest: float) -> heatmap.Colour:
    end, share = (heatmap.LOSS if change < 0 else heatmap.GAIN), abs(change) / largest
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(heatmap.SAME, end, strict=True))
    return red, green, blue
