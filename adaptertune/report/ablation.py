"""What a method's parts and settings do to the score: in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from adaptertune import stats
from adaptertune.report.tables import (
    METRIC_NAMES,
    count,
    data_note,
    number,
    percent,
    setting,
    table,
    titled,
)
from adaptertune.runs.analyses import AblationPoint, AblationResult, AblationScores, AblationTask
from adaptertune.stats import Interval, PairedDifference

AXIS_NAMES = {
    "method.init_std": "init std",
    "method.size": "size",
    "training.learning_rate": "learning rate",
}
# Variants that have a name, by what sets them apart from the paper's adapter.
NAMED: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("batch norm", {"method.norm": "batch"}),
    ("layer norm", {"method.norm": "layer"}),
    ("two layers an adapter", {"method.depth": 2}),
    ("after attention alone", {"method.places": "attention"}),
    ("after the feed-forward part alone", {"method.places": "feedforward"}),
    ("in parallel", {"method.reads": "input", "method.combines": "add"}),
    ("in parallel, multiplied", {"method.reads": "input", "method.combines": "multiply"}),
    ("LayerNorms frozen", {"method.layernorms": "none"}),
    ("Pfeiffer et al.", {"method.places": "feedforward", "method.reads": "normed"}),
    (
        "He et al., scaled parallel",
        {"method.places": "feedforward", "method.reads": "input", "method.scale": 4,
         "method.activation": "relu"},
    ),
)  # fmt: skip
ERROR = "± s.e.m."  # of a difference
STRIP, NARROWEST = 25, 6  # characters of a strip: as many, or with fewer none
COLOURS = {-1: "red", 0: "", 1: "green"}  # of a difference whose interval lies on one side of 0


def ablation(result: AblationResult) -> RenderableType:
    """A table for each task, and how to read it."""
    pieces = [piece for task in result.tasks for piece in _task(result, task)]
    return Group(*pieces, Text(result.protocol, style="dim"), "")


def metrics(task: AblationTask) -> list[str]:
    """The headline metric, and accuracy (the paper's) if that is another one."""
    has_other = task.headline != "accuracy" and "accuracy" in task.points[0].scores
    return [task.headline, *(["accuracy"] if has_other else [])]


def is_few(task: AblationTask) -> bool:
    """Whether no point has the seeds that an interval needs: then the spread is shown that the paper
    shows, the standard error of the mean.
    """
    return all(len(point.scores[task.headline].values) < stats.FEWEST for point in task.points)


def spread_name(task: AblationTask) -> str:
    """What stands after a mean's ±."""
    return "standard error of the mean" if is_few(task) else "deviation"


def method(point: AblationPoint, by: str | None) -> str:
    """A point's method in words: ``adapter-64``, ``top_layers 3``, ``batch norm``."""
    own = {
        key: value
        for key, value in point.chosen.items()
        if key.startswith("method.") and key != "method.name"
    }
    if by is None and own:
        named = next((name for name, settings in NAMED if own == settings), None)
        return named or ", ".join(setting(key, value) for key, value in own.items())
    is_sized = by == "trained" and point.value is not None
    return f"{point.method} {point.value:g}" if is_sized else point.method


def title(point: AblationPoint, result: AblationResult, task: AblationTask) -> str:
    """What sets a point apart from the others of its task."""
    if result.by not in AXIS_NAMES or point.value is None:
        return method(point, result.by)
    several = len({one.method for one in task.points}) > 1
    return f"{point.method} {number(point.value)}" if several else number(point.value)


def beside(result: AblationResult, task: AblationTask) -> str | None:
    """What differences are to: a value, a method, or None."""
    references = [task.points[one] for one in sorted(_references(task))]
    if not references:
        return None
    if result.by in AXIS_NAMES and len({point.value for point in references}) == 1:
        return number(references[0].value)
    return method(references[0], result.by)


def _references(task: AblationTask) -> set[int]:
    return {point.reference for point in task.points if point.reference is not None}


def columns(result: AblationResult, task: AblationTask) -> dict[str, list[str]]:
    """What a table says of each point, by column; what is the same throughout is left out."""
    names, points, few = metrics(task), task.points, is_few(task)
    headline = [point.scores[task.headline] for point in points]
    reference = beside(result, task)
    found = {"method": [method(point, result.by) for point in points]}
    if result.by in AXIS_NAMES:
        found[AXIS_NAMES[result.by]] = [number(point.value) for point in points]
    found["trained"] = [count(point.trained) for point in points]
    found[METRIC_NAMES[names[0]]] = [_score(scores, few=few) for scores in headline]
    for name in names[1:]:
        found[METRIC_NAMES[name]] = [percent(point.scores[name].mean) for point in points]
    if reference is not None:
        found[f"difference to {reference}"] = [_difference(s.difference) for s in headline]
        if few:
            found[ERROR] = [_error(scores.difference) for scores in headline]
        else:
            found["95 %"] = [_interval(scores.difference) for scores in headline]
    found["seeds"] = [str(len(scores.values)) for scores in headline]
    alike = [key for key in ("method", "trained", "seeds") if len(set(found[key])) == 1]
    return {key: values for key, values in found.items() if key not in alike}


def heading(result: AblationResult, task: AblationTask, name: str) -> str:
    """``CoLA, adapter-64: Matthews on validation by size``; ``name`` is the task's."""
    methods = {method(point, result.by) for point in task.points}
    one = f", {methods.pop()}" if len(methods) == 1 else ""
    by = "trained parameters" if result.by == "trained" else AXIS_NAMES.get(result.by or "")
    over = f" by {by}" if by else ""
    return f"{name}{one}: {METRIC_NAMES[task.headline]} on {task.split}{over}"


def _task(result: AblationResult, task: AblationTask) -> list[RenderableType]:
    points, said, few = task.points, columns(result, task), is_few(task)
    bar = f"± 1 {'s.e.m.' if few else 'deviation'}"
    headline = [point.scores[task.headline] for point in points]
    by_column: dict[str, list[RenderableType]] = {}
    for name, texts in said.items():
        if name.startswith("difference"):
            colours = (COLOURS[_side(scores.difference)] for scores in headline)
            shown = [Text(text, style=style) for text, style in zip(texts, colours, strict=True)]
            by_column[name.replace(" to ", "\nto ")] = [*shown]
        else:
            by_column[name] = [Text(text) for text in texts]
        if name == METRIC_NAMES[task.headline]:
            by_column[bar] = [_Strip(scores, headline, few) for scores in headline]
    left = ("method", bar, "95 %")
    made = table(*by_column, right=[name for name in by_column if name not in left])
    for column in made.columns:  # in a narrow terminal the strip gives way, then methods' names
        column.no_wrap = column.header not in ("method", bar)
    references = _references(task)
    for at, (point, *row) in enumerate(zip(points, *by_column.values(), strict=True)):
        if result.by in AXIS_NAMES and at and point.method != points[at - 1].method:
            made.add_section()
        of_others = any(p.reference == at and p.method != point.method for p in points)
        is_own = at in references and (len(references) == 1 or not of_others)
        made.add_row(*row, style="bold" if is_own else None)
    num_seeds = len(headline[0].values)
    over = "" if "seeds" in said else f" over {num_seeds} seed{'s' * (num_seeds != 1)}"
    told = f"{heading(result, task, task.task)}, in per cent, mean ± {spread_name(task)}{over}"
    told += data_note(task.data)
    pieces: list[RenderableType] = [titled(told, made)]
    pieces += [Text(text, style="yellow") for text in remarks(result, task)]
    compared = verdict(result, task)
    return [*pieces, *([Text(compared)] if compared else []), ""]


def _score(scores: AblationScores, *, few: bool) -> str:
    if scores.mean is None:
        return "no score"
    spread = _spread(scores, few=few)
    return f"{percent(scores.mean)}{'' if spread is None else f' ± {percent(spread)}'}"


def _spread(scores: AblationScores, *, few: bool) -> float | None:
    return scores.standard_error if few else scores.deviation


@dataclass(frozen=True)
class _Strip:
    """The mean as a point and its spread as a line, on the scale of all of a curve's points."""

    scores: AblationScores
    beside: Sequence[AblationScores]
    few: bool

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, STRIP)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ends = [end for one in self.beside for end in _ends(one, few=self.few)]
        width = min(STRIP, options.max_width)
        if self.scores.mean is None or width < NARROWEST:
            yield Text("")
            return
        least, extent = min(ends), max(ends) - min(ends)

        def place(value: float) -> int:
            return round((value - least) / extent * (width - 1)) if extent else width // 2

        low, high = map(place, _ends(self.scores, few=self.few))
        drawn = ["─" if low <= at <= high else " " for at in range(width)]
        drawn[place(self.scores.mean)] = "●"
        yield Text("".join(drawn), style="cyan", no_wrap=True)


def _ends(scores: AblationScores, *, few: bool) -> list[float]:
    """Mean less and plus its spread; nothing without a score."""
    if scores.mean is None:
        return []
    spread = _spread(scores, few=few) or 0.0
    return [scores.mean - spread, scores.mean + spread]


def _difference(found: PairedDifference | None) -> str:
    return "" if found is None else f"{100 * found.mean:+.1f}"


def _error(found: PairedDifference | None) -> str:
    """The standard error of a mean difference."""
    if found is None or found.deviation is None:
        return ""
    return f"{100 * found.deviation / math.sqrt(found.n):.1f}"


def _between(found: PairedDifference | None) -> Interval | None:
    """A difference's interval; None of so few seeds as results of earlier versions have one of."""
    return None if found is None or found.n < stats.FEWEST else found.interval


def _interval(found: PairedDifference | None) -> str:
    between = _between(found)
    return "" if between is None else f"{100 * between.low:+.1f} to {100 * between.high:+.1f}"


def _side(found: PairedDifference | None) -> int:
    """-1 or 1 if the interval lies wholly below or above 0, else 0."""
    between = _between(found)
    return 0 if between is None else (between.low > 0) - (between.high < 0)


def verdict(result: AblationResult, task: AblationTask) -> str | None:
    """Which points differ by more than their interval from what they are held against, if anything."""
    reference = beside(result, task)
    if reference is None:
        return None
    differences = [
        (title(point, result, task), point.scores[task.headline].difference)
        for point in task.points
    ]
    if all(_between(found) is None for _, found in differences):
        return f"For an interval of the difference to {reference} it takes {stats.FEWEST} seeds."
    told = []
    for side, word in ((-1, "below"), (1, "above")):
        names = [name for name, found in differences if _side(found) == side]
        told.append(f"{word} 0: {', '.join(names) or 'none'}")
    return (
        f"Whose 95 % interval of the difference to {reference}, too narrow for few seeds, lies wholly "
        f"{'; '.join(told)}."
    )


def remarks(result: AblationResult, task: AblationTask) -> list[str]:
    """What a reader must know of single points."""
    said = []
    for what, remark in (
        ("collapsed", "the same answer for every example, in the mean"),
        ("diverged", "without a score"),
        ("failed", "without a score; --retry-failed tries them again"),
    ):
        found = [(title(p, result, task), len(getattr(p, what))) for p in task.points]
        hit = [f"{name} ({seeds} seed{'s' * (seeds > 1)})" for name, seeds in found if seeds]
        if hit:
            said.append(f"{what.capitalize()} ({remark}): {', '.join(hit)}.")
    return said
