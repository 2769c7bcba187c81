"""What one setting does to the score: in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from adaptertune.report.tables import (
    METRIC_NAMES,
    count,
    data_note,
    number,
    percent,
    table,
    titled,
)
from adaptertune.runs.results import (
    AblationCurve,
    AblationResult,
    AblationScores,
)
from adaptertune.stats import PairedDifference

AXIS_NAMES = {"method.init_std": "init std", "method.size": "size"}
STRIP, FEWEST = 25, 6  # characters of a strip: as many, or with fewer none


def ablation(result: AblationResult) -> RenderableType:
    """A table for each curve, and how to read it."""
    pieces = [piece for curve in result.curves for piece in _curve(result, curve)]
    return Group(*pieces, Text(result.protocol, style="dim"), "")


def metrics(curve: AblationCurve) -> list[str]:
    """The headline metric, and accuracy (the paper's) if that is another one."""
    has_other = curve.headline != "accuracy" and "accuracy" in curve.points[0].scores
    return [curve.headline, *(["accuracy"] if has_other else [])]


def _curve(result: AblationResult, curve: AblationCurve) -> list[RenderableType]:
    own, names = AXIS_NAMES[result.axis], metrics(curve)
    headline = [point.scores[curve.headline] for point in curve.points]
    by_column: dict[str, list[RenderableType]] = {
        own: [number(point.value) for point in curve.points],
        "trained": [count(point.trained) for point in curve.points],
        METRIC_NAMES[names[0]]: [_score(scores) for scores in headline],
        "± 1 deviation": [_Strip(scores, headline) for scores in headline],
    }
    for name in names[1:]:
        by_column[METRIC_NAMES[name]] = [percent(p.scores[name].mean) for p in curve.points]
    if curve.reference is not None:
        beside = f"difference\nto {number(curve.reference)}"
        by_column[beside] = [_difference(scores.difference) for scores in headline]
        by_column["95 %"] = [_interval(scores.difference) for scores in headline]
    by_column["seeds"] = [str(len(scores.values)) for scores in headline]
    for name in ("trained", "seeds"):  # what is the same throughout takes no room
        if len(set(map(str, by_column[name]))) == 1:
            del by_column[name]
    shown = table(*by_column, right=[n for n in by_column if n not in ("± 1 deviation", "95 %")])
    for column in shown.columns:  # in a narrow terminal the strip gives way
        column.no_wrap = column.header != "± 1 deviation"
    for point, *row in zip(curve.points, *by_column.values(), strict=True):
        shown.add_row(*row, style="bold" if point.value == curve.reference else None)
    num_seeds = len(headline[0].values)
    over = "" if "seeds" in by_column else f" over {num_seeds} seed{'s' * (num_seeds != 1)}"
    metric = METRIC_NAMES[curve.headline]
    title = (
        f"{curve.task}, {curve.label}: {metric} on {curve.split} by {own}, in per cent, mean ± "
        f"deviation{over}{data_note(curve.data)}"
    )
    pieces: list[RenderableType] = [titled(title, shown)]
    pieces += [Text(text, style="yellow") for text in _remarks(curve)]
    if curve.reference is not None:
        pieces.append(Text(_verdict(curve, number(curve.reference))))
    return [*pieces, ""]


def _score(scores: AblationScores) -> str:
    if scores.mean is None:
        return "[red]no score[/]"
    deviation = "" if scores.deviation is None else f" ± {percent(scores.deviation)}"
    return f"{percent(scores.mean)}{deviation}"


@dataclass(frozen=True)
class _Strip:
    """The mean as a point and its deviation as a line, on the scale of all of a curve's points."""

    scores: AblationScores
    beside: Sequence[AblationScores]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, STRIP)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ends = [end for one in self.beside for end in _ends(one)]
        width = min(STRIP, options.max_width)
        if self.scores.mean is None or width < FEWEST:
            yield Text("")
            return
        least, extent = min(ends), max(ends) - min(ends)

        def place(value: float) -> int:
            return round((value - least) / extent * (width - 1)) if extent else width // 2

        low, high = map(place, _ends(self.scores))
        drawn = ["─" if low <= at <= high else " " for at in range(width)]
        drawn[place(self.scores.mean)] = "●"
        yield Text("".join(drawn), style="cyan", no_wrap=True)


def _ends(scores: AblationScores) -> list[float]:
    """Mean less and plus deviation; nothing without a score."""
    if scores.mean is None:
        return []
    spread = scores.deviation or 0.0
    return [scores.mean - spread, scores.mean + spread]


def _difference(found: PairedDifference | None) -> RenderableType:
    if found is None:
        return ""
    return Text(f"{100 * found.mean:+.1f}", style={-1: "red", 0: "", 1: "green"}[_side(found)])


def _interval(found: PairedDifference | None) -> str:
    if found is None or found.interval is None:
        return ""
    return f"{100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f}"


def _side(found: PairedDifference | None) -> int:
    """-1 or 1 if the interval lies wholly below or above 0, else 0."""
    if found is None or found.interval is None:
        return 0
    return (found.interval.low > 0) - (found.interval.high < 0)


def _verdict(curve: AblationCurve, beside: str) -> str:
    """Which values differ from the recipe's by more than their interval."""
    differences = [
        (number(point.value), point.scores[curve.headline].difference) for point in curve.points
    ]
    if all(found is None or found.interval is None for _, found in differences):
        return f"For an interval of the difference to {beside} it takes three seeds."
    told = []
    for side, word in ((-1, "below"), (1, "above")):
        values = [value for value, found in differences if _side(found) == side]
        told.append(f"{word} 0: {', '.join(values) or 'none'}")
    return f"Whose 95 % interval of the difference to {beside} lies wholly {'; '.join(told)}."


def _remarks(curve: AblationCurve) -> list[str]:
    """What a reader must know of single points."""
    said = []
    for what, remark in (
        ("collapsed", "the same answer for every example, in the mean"),
        ("diverged", "without a score"),
        ("failed", "without a score; --retry-failed tries them again"),
    ):
        found = [(number(point.value), len(getattr(point, what))) for point in curve.points]
        hit = [f"{value} ({seeds} seed{'s' * (seeds > 1)})" for value, seeds in found if seeds]
        if hit:
            said.append(f"{what.capitalize()} ({remark}): {', '.join(hit)}.")
    return said
