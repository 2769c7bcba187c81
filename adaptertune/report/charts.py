"""Chart specifications: one Altair chart serves the page, the PNG and the SVG.

Functions take plain points and know nothing of runs. Colours are six of Okabe and Ito's and a brown,
which all kinds of colour vision tell apart; shapes say the same again. A chart has no theme: the page
gives it the reader's, and its column's width; a file has those below.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt

Spec = dict[str, Any]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#A65628")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
BELOW_SAME_ABOVE = ("#b35806", "#f7f7f7", "#542788")  # ColorBrewer's PuOr, for all colour vision
UNKNOWN = "#d9dde2"
FILE_WIDTH = 460
TITLE_LENGTH = 66  # characters that fit above the chart and its axis
SUBTITLE_LENGTH = 84  # of smaller and lighter ones
HEIGHT = 280
ROW_HEIGHT = 34
MOST_TICKS = 10  # of whole numbers

# Numbers that would touch are left out.
APART: dict[str, Any] = {"labelOverlap": "greedy", "labelSeparation": 6}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def theme(ink: str, grid: str, background: str | None) -> Spec:
    """Vega's configuration for one colour scheme; ``background`` None lets the page shine through."""
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": background,
        "font": FONT,
        "view": {"stroke": None},
        "axis": text | {
            "gridColor": grid, "domainColor": ink, "tickColor": ink, "titleFontWeight": "normal",
            "labelLimit": 220, "titlePadding": 8,
        },
        "legend": text | {
            "orient": "bottom", "columns": 2, "labelLimit": 260, "titleLimit": 300, "symbolSize": 80,
            "title": None, "symbolOpacity": 1,
        },
        "rule": {"color": ink},
        "text": {"color": ink, "fontSize": 12},
    }  # fmt: skip


LIGHT = theme("#1b1f24", "#e3e6ea", "#ffffff")
PAGE_LIGHT = theme("#1b1f24", "#e3e6ea", None)
PAGE_DARK = theme("#e8eaed", "#3a3f46", None)


@dataclass(frozen=True)
class Axis:
    """What an axis shows."""

    title: str
    log: bool = False
    integer: bool = False
    at_values: bool = False  # ticks where the points are, and nowhere else


@dataclass(frozen=True)
class Point:
    """A value of a series; ``low`` and ``high`` are its error bar, None for none."""

    series: str
    x: float
    y: float
    low: float | None
    high: float | None
    note: str  # for the tooltip
    line: str = ""  # points of one series and line are joined
    hollow: bool = False
    beside: str = ""  # written at the point


@dataclass(frozen=True)
class Dot:
    """A seed's score in a row of its own kind."""

    series: str
    x: float
    seed: str
    remark: str  # "finished", "collapsed": gets a shape of its own


@dataclass(frozen=True)
class Summary:
    """A row's mean and its interval, None where there is none."""

    series: str
    mean: float
    low: float | None
    high: float | None
    note: str


@dataclass(frozen=True)
class Bar:
    """A row's amount; low and high as in :class:`Point`."""

    series: str
    amount: float
    note: str
    beside: str = ""  # written at the bar's end


@dataclass(frozen=True)
class Square:
    """A row's value in a column; ``change`` gives its colour, None for none."""

    row: str
    column: str
    text: str
    change: float | None
    note: str


def matrix(
    squares: Sequence[Square], rows: Sequence[str], columns: Sequence[str], key: str
) -> Spec:
    """A table as a picture, its squares coloured by what they are above or below 0.

    ``key``: what the colours mean.
    """
    largest = (
        max((abs(one.change) for one in squares if one.change is not None), default=0.0) or 1.0
    )
    base = alt.Chart(_data(squares)).encode(
        x=alt.X(
            "column:N",
            title=None,
            sort=list(columns),
            axis=alt.Axis(
                orient="top",
                labelAngle=-40,
                labelAlign="left",
                labelOverlap=False,
                domain=False,
                ticks=False,
                grid=False,
            ),
        ),
        y=alt.Y("row:N", title=None, sort=list(rows), axis=_names()),
        tooltip=[
            alt.Tooltip("row:N", title="method"),
            alt.Tooltip("column:N", title="task"),
            alt.Tooltip("note:N", title="value"),
        ],
    )
    scale = alt.Scale(domain=[-largest, 0, largest], range=list(BELOW_SAME_ABOVE))
    known = base.transform_filter("datum.change !== null").mark_rect()
    unknown = base.transform_filter("datum.change === null").mark_rect(color=UNKNOWN)
    is_dark = f"abs(datum.change) > {0.6 * largest}"
    text = base.mark_text(fontSize=12 if len(columns) < 7 else 9).encode(
        text="text:N", color=alt.condition(is_dark, alt.value("white"), alt.value("black"))
    )
    drawn = known.encode(color=alt.Color("change:Q", title=key, scale=scale))
    return _spec(alt.layer(unknown, drawn, text).properties(height=ROW_HEIGHT * len(rows)))


def curves(
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    order: Mapping[str, int],
    *,
    faint: Sequence[Point] = (),
) -> Spec:
    """Points with error bars, joined within a series; ``faint`` ones are thin lines behind them.

    ``order``: the number of each series' colour, the same in every chart of a report.
    """
    padding = 44 if any(point.beside for point in points) else 16
    scale = (
        alt.Scale(type="log", nice=False, padding=padding)
        if x.log
        else alt.Scale(zero=False, nice=not x.integer, padding=padding)
    )
    base = alt.Chart(_data(points)).encode(
        x=alt.X(
            "x:Q",
            title=x.title,
            scale=scale,
            axis=_axis(points, x),
        ),
        color=_colour(order, points),
        detail="line:N",
    )
    shape = alt.Shape("series:N", scale=_scale(order, points, SHAPES))
    score = alt.Y(
        "y:Q",
        title=y.title,
        scale=alt.Scale(zero=False, padding=8),
        axis=alt.Axis(**_ticks(point.y for point in (*points, *faint))),
    )
    tooltip = [
        alt.Tooltip("series:N", title="method"),
        alt.Tooltip("note:N", title="value"),
    ]
    layers = [base.mark_line(strokeWidth=2).encode(y=score)]
    if any(point.low is not None for point in points):
        bar = base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", title=y.title), y2="high:Q")
        layers.append(bar.transform_filter("datum.low != null"))
    layers.append(
        base.mark_point(size=70, filled=True, opacity=1).encode(
            y=score, shape=shape, tooltip=tooltip
        )
    )
    if any(point.hollow for point in points):
        inside = base.mark_point(size=22, filled=True, opacity=1).encode(
            y=score, shape=shape, color=alt.value("white"), tooltip=tooltip
        )
        layers.append(inside.transform_filter("datum.hollow"))
    if any(point.beside for point in points):
        beside = base.mark_text(align="left", dx=8, dy=-8, fontSize=10)
        layers.append(beside.encode(y=score, text="beside:N"))
    if faint:
        behind = (
            alt.Chart(_data(faint))
            .mark_line(strokeWidth=1, opacity=0.35)
            .encode(x="x:Q", y=score, detail="line:N", color=_colour(order, points))
        )
        layers.insert(0, behind)
    return _spec(alt.layer(*layers).properties(height=HEIGHT))


def dots(
    seeds: Sequence[Dot], summaries: Sequence[Summary], x: Axis, order: Mapping[str, int]
) -> Spec:
    """Each seed as a dot, a row for each series, with the mean as a bar and its interval as a line."""
    rows = [name for name in order if any(one.series == name for one in summaries)]
    y = alt.Y("series:N", title=None, sort=rows, axis=_names())
    across = alt.X(
        "x:Q",
        title=x.title,
        scale=alt.Scale(zero=False, padding=12),
        # Names take much of a phone's width: a centred title would be cut off.
        axis=alt.Axis(
            labelFlush=False,
            titleAnchor="end",
            tickCount=5,
            **APART,
            **_ticks(one.x for one in seeds),
        ),
    )
    colour = _colour(order, summaries, legend=False)
    about = alt.Chart(_data(summaries)).encode(y=y, color=colour)
    tooltip = [alt.Tooltip("series:N", title="method"), alt.Tooltip("note:N", title="value")]
    layers = [
        about.mark_tick(thickness=3, size=20).encode(
            x=alt.X("mean:Q", title=x.title), tooltip=tooltip
        ),
        alt.Chart(_data(seeds))
        .mark_point(size=55, filled=False, strokeWidth=1.8, opacity=0.9)
        .encode(
            y=y,
            x=across,
            color=colour,
            shape=alt.Shape(
                "remark:N",
                scale=alt.Scale(domain=["finished", "collapsed"], range=["circle", "cross"]),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("series:N", title="method"),
                alt.Tooltip("seed:N", title="seed"),
                alt.Tooltip("x:Q", title="score", format=".2f"),
                alt.Tooltip("remark:N", title="state"),
            ],
        ),
    ]
    if any(one.low is not None for one in summaries):
        between = about.mark_rule(strokeWidth=3, opacity=0.5).encode(
            x=alt.X("low:Q", title=x.title), x2="high:Q"
        )
        layers.insert(0, between.transform_filter("datum.low != null"))
    return _spec(alt.layer(*layers).properties(height=ROW_HEIGHT * len(rows)))


def bars(amounts: Sequence[Bar], x: Axis, order: Mapping[str, int]) -> Spec:
    """A bar for each series, from 0."""
    rows = [name for name in order if any(bar.series == name for bar in amounts)]
    base = alt.Chart(_data(amounts)).encode(
        y=alt.Y("series:N", title=None, sort=rows, axis=_names()),
        x=alt.X(
            "amount:Q",
            title=x.title,
            axis=alt.Axis(tickCount=5, titleAnchor="end", **APART),
            # Room for what is written at the ends.
            scale=alt.Scale(domainMin=0, domainMax=1.3 * max(bar.amount for bar in amounts))
            if any(bar.beside for bar in amounts)
            else alt.Scale(),
        ),
        tooltip=[alt.Tooltip("series:N", title="method"), alt.Tooltip("note:N", title="amount")],
    )
    drawn = base.mark_bar(height={"band": 0.6}).encode(color=_colour(order, amounts, legend=False))
    beside = base.mark_text(align="left", dx=4).encode(text="beside:N")
    return _spec(alt.layer(drawn, beside).properties(height=ROW_HEIGHT * len(rows)))


def _data(rows: Sequence[Point | Dot | Summary | Bar | Square]) -> alt.InlineData:
    return alt.InlineData(values=[asdict(row) for row in rows])


def _present(order: Mapping[str, int], rows: Sequence[Point | Summary | Bar]) -> list[str]:
    names = {row.series for row in rows}
    return [name for name in order if name in names]


def _scale(
    order: Mapping[str, int], rows: Sequence[Point | Summary | Bar], values: Sequence[str]
) -> alt.Scale:
    """A series keeps its colour and shape in every chart; the legend names those that are there.

    Colours begin anew after the last; each time round the shapes are other ones, so that no two series
    have both in common.
    """
    here = _present(order, rows)
    rounds = [order[name] // len(values) if values is SHAPES else 0 for name in here]
    places = [
        (order[name] + round_) % len(values) for name, round_ in zip(here, rounds, strict=True)
    ]
    return alt.Scale(domain=here, range=[values[place] for place in places])


def _colour(
    order: Mapping[str, int], rows: Sequence[Point | Summary | Bar], *, legend: bool = True
) -> alt.Color:
    scale = _scale(order, rows, COLOURS)
    if legend:
        return alt.Color("series:N", scale=scale)
    return alt.Color("series:N", scale=scale, legend=None)


def _axis(points: Sequence[Point], x: Axis) -> alt.Axis:
    if x.integer:
        least, most = int(min(point.x for point in points)), int(max(point.x for point in points))
        steps = (base * 10**power for power in itertools.count() for base in (1, 2, 5))
        step = next(step for step in steps if (most - least) // step < MOST_TICKS)
        # Vega's own would begin before the first, for a scale is wider than its points.
        whole = [one for one in range(least, most + 1) if one % step == 0] or [least]
        return alt.Axis(values=whole, format="d", grid=False, **APART)
    if x.at_values:
        values = sorted({point.x for point in points})
        # 3e-3 and 0.1 as tables have them; d3's g would write 0.003.
        as_written = "format(datum.value, datum.value < 0.1 ? '.3~e' : '.6~g')"
        return alt.Axis(values=values, labelExpr=as_written, grid=False, **APART)
    if x.log:
        return alt.Axis(tickCount=5, format="~s", grid=False, **APART, labelBound=True)
    return alt.Axis(grid=False)


def _ticks(values: Iterable[float]) -> dict[str, Any]:
    """Of a scale of no length, where all values are one, Vega knows no format but that of whole
    numbers.
    """
    found = set(values)
    return {"values": [*found], "format": ".4~g"} if len(found) == 1 else {}


def _names() -> alt.Axis:
    """Rows' names, a little shorter than in a table: a phone is narrow."""
    return alt.Axis(domain=False, ticks=False, labelExpr="replace(datum.label, ', best of', '')")


def _spec(chart: alt.LayerChart | alt.FacetChart | alt.Chart) -> Spec:
    made: Spec = chart.properties(width=FILE_WIDTH).to_dict()
    made.pop("config", None)  # Altair's default size; the theme is given when it is drawn
    return made


def png(spec: Mapping[str, Any], title: str, subtitle: Sequence[str]) -> bytes:
    """The chart as a picture, on white, at twice the size."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(_titled(spec, title, subtitle), config=LIGHT, scale=2))


def svg(spec: Mapping[str, Any], title: str, subtitle: Sequence[str]) -> str:
    """The chart as a drawing, on white."""
    import vl_convert

    drawn = str(vl_convert.vegalite_to_svg(_titled(spec, title, subtitle), config=LIGHT))
    # Vega counts a legend's gradients over the whole process; the same chart shall give the same file.
    return re.sub(r"\bgradient_\d+", "gradient", drawn)


def script() -> str:
    """Vega, Vega-Lite and vega-embed as one script for a page that works without a network."""
    import vl_convert

    return str(vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;"))


def _titled(spec: Mapping[str, Any], title: str, subtitle: Sequence[str]) -> Spec:
    """A file stands alone: the page says around a chart what is in its lines here."""
    return {
        **spec,
        "title": {
            "text": _lines(title),
            "subtitle": [
                part for line in subtitle for part in textwrap.wrap(line, SUBTITLE_LENGTH)
            ],
            "anchor": "start",
            "fontSize": 13,
            "subtitleFontSize": 11,
            "offset": 12,
        },
    }


def _lines(title: str) -> list[str]:
    """A title in lines that do not widen the picture, broken at its middle dots before elsewhere."""
    parts = [title] if len(title) <= TITLE_LENGTH else title.split(" · ")
    return [line for part in parts for line in textwrap.wrap(part, TITLE_LENGTH)]
