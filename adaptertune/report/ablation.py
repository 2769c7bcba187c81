"""What a method's parts and settings do to the score, in words: titles, columns, what to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adaptertune import stats
from adaptertune.report.comparison.methods import SIZE_KEYS, in_words
from adaptertune.report.tables import (
    METRIC_NAMES,
    count,
    number,
    percent,
    setting,
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


def method(point: AblationPoint, by: str | None, task: AblationTask) -> str:
    """A point's method in words: ``adapters 64``, ``top 3 layers``, ``batch norm``; where settings alone
    would name another method's point too, ``full fine-tuning, pooler frozen``.
    """
    own = {
        key: value
        for key, value in point.chosen.items()
        if key.startswith("method.") and key != "method.name"
    }
    if by is None and own.keys() - set(SIZE_KEYS):
        named = next((name for name, settings in NAMED if own == settings), None)
        told = named or ", ".join(setting(key, value) for key, value in own.items())
        names = {
            str(one.chosen.get("method.name", ""))
            for one in task.points
            if own == {key: value for key, value in one.chosen.items() if key in own}
        }
        return f"{in_words(str(point.chosen['method.name']))}, {told}" if len(names) > 1 else told
    is_sized = by == "trained" and point.value is not None
    return in_words(point.method, point.value if is_sized else None)


def title(point: AblationPoint, result: AblationResult, task: AblationTask) -> str:
    """What sets a point apart from the others of its task."""
    if result.by not in AXIS_NAMES or point.value is None:
        return method(point, result.by, task)
    several = len({one.method for one in task.points}) > 1
    return f"{in_words(point.method)} {number(point.value)}" if several else number(point.value)


def beside(result: AblationResult, task: AblationTask) -> str | None:
    """What differences are to: a value, a method, or None."""
    held_against = [task.points[one] for one in sorted(references(task))]
    if not held_against:
        return None
    if result.by in AXIS_NAMES and len({point.value for point in held_against}) == 1:
        return number(held_against[0].value)
    return method(held_against[0], result.by, task)


def references(task: AblationTask) -> set[int]:
    """The points that others are held against, by number."""
    return {point.reference for point in task.points if point.reference is not None}


def columns(result: AblationResult, task: AblationTask) -> dict[str, list[str]]:
    """What a table says of each point, by column; what is the same throughout is left out."""
    names, points, few = metrics(task), task.points, is_few(task)
    headline = [point.scores[task.headline] for point in points]
    reference = beside(result, task)
    found = {"method": [method(point, result.by, task) for point in points]}
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
    """``CoLA, adapters 64: Matthews on validation by size``; ``name`` is the task's."""
    methods = {method(point, result.by, task) for point in task.points}
    one = f", {methods.pop()}" if len(methods) == 1 else ""
    by = "trained parameters" if result.by == "trained" else AXIS_NAMES.get(result.by or "")
    over = f" by {by}" if by else ""
    split = task.split.replace("_", " ")
    return f"{name}{one}: {METRIC_NAMES[task.headline]} on {split}{over}"


def _score(scores: AblationScores, *, few: bool) -> str:
    if scores.mean is None:
        return "no score"
    known = spread(scores, few=few)
    return f"{percent(scores.mean)}{'' if known is None else f' ± {percent(known)}'}"


def spread(scores: AblationScores, *, few: bool) -> float | None:
    """The standard error of few seeds, else the sample deviation; a fraction."""
    return scores.standard_error if few else scores.deviation


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


def side(found: PairedDifference | None) -> int:
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
    for sign, word in ((-1, "below"), (1, "above")):
        names = [name for name, found in differences if side(found) == sign]
        told.append(f"{word} 0: {', '.join(names) or 'none'}")
    return (
        f"Whose 95 % interval of the difference to {reference}, too narrow for few seeds, lies wholly "
        f"{'; '.join(told)}."
    )


def remarks(result: AblationResult, task: AblationTask) -> list[str]:
    """What a reader must know of single points."""
    said = []
    for what, remark in (
        ("collapsed", "the same answer for every example, in the mean if the metric is defined"),
        ("diverged", "without a score"),
        ("failed", "without a score; --retry-failed tries them again"),
    ):
        found = [(title(p, result, task), len(getattr(p, what))) for p in task.points]
        hit = [f"{name} ({seeds} seed{'s' * (seeds > 1)})" for name, seeds in found if seeds]
        if hit:
            said.append(f"{what.capitalize()} ({remark}): {', '.join(hit)}.")
    return said
