"""A sweep's plan and what it chose, as rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from adaptertune.report.tables import (
    METRIC_NAMES,
    count,
    data_note,
    duration,
    percent,
    plural,
    setting,
    table,
    titled,
    varied,
)
from adaptertune.runs.results import Choice, SweepResult
from adaptertune.runs.sweep_plan import SweepPlan


def sweep_plan(plan: SweepPlan) -> RenderableType:
    """What a sweep will run and how long it takes."""
    columns = ("task", "method", "cells", "runs", "ahead", "steps", "forecast", "data")
    shown = table(*columns, right=columns[2:-1])
    rows = plan.rows
    for row in rows:
        shown.add_row(
            row.task,
            row.method,
            count(row.cells),
            count(row.runs),
            count(row.runs_ahead),
            count(row.steps),
            duration(row.seconds) if row.runs_ahead and row.seconds is not None else "–",
            "sample" if row.sample else "partial" if row.partial else "",
        )
    if len(rows) > 1:
        shown.add_section()
        sums = (
            sum(row.cells for row in rows),
            sum(row.runs for row in rows),
            sum(row.runs_ahead for row in rows),
            sum(row.steps for row in rows),
        )
        known = [row.seconds for row in rows if row.seconds is not None]
        total = duration(sum(known)) if known else "–"
        shown.add_row("all", "", *map(count, sums), f"[bold]{total}[/]", "", style="bold")
    title = f"Sweep {plan.name} · {plan.device}, {plan.precision}"
    said = f"{plan.in_words} The forecast is for one training after another."
    if plan.seeds_on == "winner":
        said += " While a winner is not known, its other seeds are counted as the longest cell's."
    for run in sorted({run for row in rows for run in row.init_from}):
        methods = dict.fromkeys(row.method for row in rows if run in row.init_from)
        said += f" From the weights of {run} start: {', '.join(methods)}."
    words = Text(said, style="dim")
    return Group(titled(title, shown), words, "")


def sweep(result: SweepResult) -> RenderableType:
    """What a sweep chose for each task and method."""
    columns = (
        "task", "method", "chosen", "metric", "mean ± dev.", "95 %", "best", "n", "cells",
    )  # fmt: skip
    keys = varied(result.config["grids"])
    metrics = {choice.metric for choice in result.choices}
    rows = [_choice(choice, keys) for choice in result.choices]
    # What is empty throughout (an interval of two seeds) or the same (a metric) takes no room.
    filled = [
        at
        for at, name in enumerate(columns)
        if any(row[at] for row in rows) and not (name == "metric" and len(metrics) == 1)
    ]
    numbers = columns[4:]
    shown = table(*(columns[at] for at in filled), right=numbers)
    for column in shown.columns:
        column.no_wrap, column.overflow = column.header in numbers, "fold"
    for number, row in enumerate(rows):
        if number and row[0] != rows[number - 1][0]:
            shown.add_section()
        shown.add_row(*(row[at] for at in filled))
    splits = " and ".join(sorted({choice.reported_split for choice in result.choices}))
    what = f"{METRIC_NAMES[metrics.pop()]} of what was " if len(metrics) == 1 else "what was "
    note = data_note(result.choices[0].data) if _is_one_data(result) else ""
    pieces: list[RenderableType] = [
        titled(f"Sweep {result.name}: {what}chosen, on {splits}, in per cent{note}", shown),
        *_remarks(result.choices, keys),
        Text(f"{result.in_words}{_interval_note(result.choices)}", style="dim"),
        "",
    ]
    if lost := holes(result):
        pieces.append(f"{lost}\n")
    return Group(*pieces)


def holes(result: SweepResult) -> str | None:
    """Runs without a score, marked up; None if there are none."""
    if not (result.num_failed or result.num_diverged):
        return None
    failed = plural(result.num_failed, "run")
    return (
        f"[red]{failed} failed and {result.num_diverged} diverged: holes, not zeros.[/] "
        "--retry-failed tries them again."
    )


def _interval_note(choices: Sequence[Choice]) -> str:
    has_interval = any(choice.interval for choice in choices)
    return " Intervals: bootstrap, too narrow for few seeds." if has_interval else ""


def _is_one_data(result: SweepResult) -> bool:
    """Whether the same must be said of all data: that they are the sample."""
    return all(choice.data.sample for choice in result.choices)


def _remarks(choices: Sequence[Choice], keys: set[str]) -> list[RenderableType]:
    """What a reader must know of single rows, a line each; "best of" rows would say it again."""
    lines: list[RenderableType] = []
    for choice in choices:
        said = []
        if choice.data.partial:
            said.append("partial training set")
        if choice.num_failed or choice.num_diverged:
            said.append(f"[red]{plural(choice.num_failed + choice.num_diverged, 'hole')}[/]")
        if choice.num_collapsed:
            said.append(f"{choice.num_collapsed} collapsed to one answer for everything")
        if choice.next_best:
            seeds = ", ".join(map(str, choice.lost))
            best = _settings(choice.next_best, choice.row, keys)
            said.append(
                f"of the chosen cell seed{'s' * (len(choice.lost) > 1)} {seeds} collapsed or failed; "
                f"the first seed's next best is {best} (--seeds-on all gives it the others)"
            )
        if said and "best of" not in choice.row:
            about = f"{choice.task} {choice.row}, {plural(choice.num_runs, 'run')}"
            lines.append(f"[yellow]{about}: {'; '.join(said)}[/]")
    return [*lines, ""] if lines else []


def _settings(chosen: Mapping[str, Any], row: str, keys: set[str]) -> str:
    """What a grid chose, in a few words, but for what the row is named after."""
    return ", ".join(
        setting(key, value)
        for key, value in chosen.items()
        if key in keys
        and key != "method.name"
        and not (key == "method.size" and "best of" not in row)
    )


def _choice(choice: Choice, keys: set[str]) -> Sequence[str]:
    if choice.chosen is None:
        return (choice.task, choice.row, "[red]no run came to a score[/]", *[""] * 6)
    spread = choice.scores[choice.reported_split][choice.metric]
    low, high = choice.interval or (None, None)
    return (
        choice.task,
        choice.row,
        _settings(choice.chosen, choice.row, keys),
        METRIC_NAMES[choice.metric],
        percent(spread.mean)
        + f" ± {percent(spread.deviation, 2)}" * (spread.deviation is not None),
        "" if low is None else f"{percent(low)} to {percent(high)}",
        percent(spread.best),
        str(spread.n),
        str(choice.num_cells),
    )
