"""An ablation in the terminal: a table for each task, with a strip of means and their spreads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from adaptertune.report import ablation as words
from adaptertune.report.tables import METRIC_NAMES, data_note, plural, table, titled
from adaptertune.runs.analyses import AblationResult, AblationScores, AblationTask

STRIPS = (25, 13, 9, 0)  # characters of a strip: as many as there is room for, or none
WIDER_THAN_ANY = 1000  # characters
COLOURS = {-1: "red", 0: "", 1: "green"}  # of a difference whose interval lies on one side of 0


def ablation(result: AblationResult) -> RenderableType:
    """A table for each task, and how to read it."""
    pieces = [piece for task in result.tasks for piece in _task(result, task)]
    return Group(*pieces, Text(result.protocol, style="dim"), "")


def _task(result: AblationResult, task: AblationTask) -> list[RenderableType]:
    seeds = len(task.points[0].scores[task.headline].values)
    over = "" if "seeds" in words.columns(result, task) else f" over {plural(seeds, 'seed')}"
    told = (
        f"{words.heading(result, task, task.task)}, in per cent, mean ± {words.spread_name(task)}"
    )
    told += over + data_note(task.data)
    pieces: list[RenderableType] = [titled(told, _Fitting(result, task))]
    pieces += [Text(text, style="yellow") for text in words.remarks(result, task)]
    compared = words.verdict(result, task)
    return [*pieces, *([Text(compared)] if compared else []), ""]


def _table(result: AblationResult, task: AblationTask, strip: int, *, folds: bool = False) -> Table:
    """A row a point, with a strip so many characters wide, or none.

    Args:
        folds: columns are close and cells go on in the next line where there is no room, between words.
    """
    points, few = task.points, words.is_few(task)
    bar = f"± 1\n{'s.e.m.' if few else 'deviation'}"
    headline = [point.scores[task.headline] for point in points]
    by_column: dict[str, list[Text]] = {}
    for name, texts in words.columns(result, task).items():
        colours = [""] * len(points)
        if name.startswith("difference"):
            colours = [COLOURS[words.side(scores.difference)] for scores in headline]
        broken = name.replace(" to ", "\nto ").removesuffix(" fine-tuning")
        by_column[broken.replace("learning ", "learning\n")] = [
            Text(text, style=style) for text, style in zip(texts, colours, strict=True)
        ]
        if name == METRIC_NAMES[task.headline] and strip:
            by_column[bar] = [Text(drawn, style="cyan") for drawn in _strips(headline, few, strip)]
    left = ("method", bar, "95 %")
    made = table(*by_column, right=[name for name in by_column if name not in left])
    made.collapse_padding = folds
    for (name, cells), column in zip(by_column.items(), made.columns, strict=True):
        column.no_wrap = not folds
        if folds:
            words_of = " ".join([name, *map(str, cells)]).split()
            column.min_width = max(map(len, words_of))
    references = words.references(task)
    for at, (point, *row) in enumerate(zip(points, *by_column.values(), strict=True)):
        if result.by in words.AXIS_NAMES and at and point.method != points[at - 1].method:
            made.add_section()
        of_others = any(p.reference == at and p.method != point.method for p in points)
        is_own = at in references and (len(references) == 1 or not of_others)
        made.add_row(*row, style="bold" if is_own else None)
    return made


@dataclass(frozen=True)
class _Fitting:
    """A task's table with the widest strip that a console has room for, or one that folds."""

    result: AblationResult
    task: AblationTask

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.update(width=WIDER_THAN_ANY)
        for strip in STRIPS:
            made = _table(self.result, self.task, strip)
            if Measurement.get(console, room, made).maximum <= options.max_width:
                yield made
                return
        made = _table(self.result, self.task, 0, folds=True)
        if Measurement.get(console, room, made).minimum > options.max_width:
            for column in made.columns:
                column.min_width = None  # words break, for what is cut off would be lost
        yield made


def _strips(scores: Sequence[AblationScores], few: bool, width: int) -> list[str]:
    """Means as points and their spreads as lines, on one scale for all."""
    ends = [end for one in scores for end in _ends(one, few=few)]
    least, extent = min(ends, default=0.0), max(ends, default=0.0) - min(ends, default=0.0)

    def place(value: float) -> int:
        return round((value - least) / extent * (width - 1)) if extent else width // 2

    drawn = []
    for one in scores:
        line = [" "] * width
        if one.mean is not None:
            low, high = map(place, _ends(one, few=few))
            line[low : high + 1] = "─" * (high + 1 - low)
            line[place(one.mean)] = "●"
        drawn.append("".join(line))
    return drawn


def _ends(scores: AblationScores, *, few: bool) -> list[float]:
    """Mean less and plus its spread; nothing without a score."""
    if scores.mean is None:
        return []
    spread = words.spread(scores, few=few) or 0.0
    return [scores.mean - spread, scores.mean + spread]
