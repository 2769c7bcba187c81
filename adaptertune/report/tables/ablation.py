"""An ablation in the terminal: a table for each task, with a strip of means and their spreads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from adaptertune.report import ablation as words
from adaptertune.report.tables import METRIC_NAMES, data_note, plural, table, titled
from adaptertune.runs.analyses import AblationResult, AblationScores, AblationTask

STRIP, NARROWEST = 25, 6  # characters of a strip: as many, or with fewer none
COLOURS = {-1: "red", 0: "", 1: "green"}  # of a difference whose interval lies on one side of 0


def ablation(result: AblationResult) -> RenderableType:
    """A table for each task, and how to read it."""
    pieces = [piece for task in result.tasks for piece in _task(result, task)]
    return Group(*pieces, Text(result.protocol, style="dim"), "")


def _task(result: AblationResult, task: AblationTask) -> list[RenderableType]:
    points, said, few = task.points, words.columns(result, task), words.is_few(task)
    bar = f"± 1 {'s.e.m.' if few else 'deviation'}"
    headline = [point.scores[task.headline] for point in points]
    by_column: dict[str, list[RenderableType]] = {}
    for name, texts in said.items():
        if name.startswith("difference"):
            colours = (COLOURS[words.side(scores.difference)] for scores in headline)
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
    references = words.references(task)
    for at, (point, *row) in enumerate(zip(points, *by_column.values(), strict=True)):
        if result.by in words.AXIS_NAMES and at and point.method != points[at - 1].method:
            made.add_section()
        of_others = any(p.reference == at and p.method != point.method for p in points)
        is_own = at in references and (len(references) == 1 or not of_others)
        made.add_row(*row, style="bold" if is_own else None)
    over = "" if "seeds" in said else f" over {plural(len(headline[0].values), 'seed')}"
    told = (
        f"{words.heading(result, task, task.task)}, in per cent, mean ± {words.spread_name(task)}"
    )
    told += over + data_note(task.data)
    pieces: list[RenderableType] = [titled(told, made)]
    pieces += [Text(text, style="yellow") for text in words.remarks(result, task)]
    compared = words.verdict(result, task)
    return [*pieces, *([Text(compared)] if compared else []), ""]


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
    spread = words.spread(scores, few=few) or 0.0
    return [scores.mean - spread, scores.mean + spread]
