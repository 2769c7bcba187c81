"""A comparison in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.console import Group as Lines
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adaptertune.report import published, tables, words
from adaptertune.report.comparison import Group
from adaptertune.report.comparison.averages import num_glue
from adaptertune.report.comparison.columns import first_of_task, task_names
from adaptertune.report.schema import Beside, Comparison, Cost, Entry, Hole, Missing

NAME_WIDTH = 15


def comparisons(groups: Sequence[Group], console: Console) -> None:
    """Print each comparison: its Table 1, the differences to full fine-tuning if that is in it, and
    what training took.
    """
    for group in groups:
        if not group.comparison.rows:  # every run is an ablation's
            title = Text(group.comparison.title, style="bold")
            console.print(Lines("", title, *map(Text, words.remarks(group.comparison)), ""))
            continue
        console.print(table_1(group.comparison, console))
        compared = differences(group.comparison, console)
        if compared is not None:
            console.print(compared)
        console.print(spent(group.comparison, console))


def table_1(shown: Comparison, console: Console) -> RenderableType:
    """The paper's Table 1 of a comparison, with what must be said about it.

    On a console that is too narrow for a column a task, a task is a row.
    """
    tasks = [f"{column.label}\n{tables.METRIC_NAMES[column.metric]}" for column in shown.columns]
    tasks_of_glue = num_glue(shown.columns)
    head = [
        "method",
        *tasks,
        "mean",
        *([f"GLUE rule,\n{tables.plural(tasks_of_glue, 'task')}"] if tasks_of_glue else []),
        f"{tables.plural(shown.num_tasks, 'task')}\nparams",
        "trained\n% encoder",
        "trained\n% all",
    ]
    rows = [
        [
            row.label,
            *(_entry(entry) for entry in row.entries),
            tables.percent(row.mean),
            *([tables.percent(row.glue_average)] if tasks_of_glue else []),
            f"{row.multiple:.2f}x",
            tables.percent(row.share_of_encoder_layers, 2),
            tables.percent(row.share_of_all_parameters, 2),
        ]
        for row in shown.rows
    ]
    below: list[RenderableType] = []
    for source in published.by_source(shown):
        rows_there = _fitting(source.head, source.lines, console)
        below.append(Padding(tables.titled(source.title, rows_there), style="dim"))
    below += [
        Text(remark, style="yellow" if remark.startswith("†") else "dim")
        for remark in words.remarks(shown)
    ]
    below.append(Text(shown.protocol, style="dim"))
    below += [Text(f"\n{sentence}", style="bold") for sentence in shown.sentences]
    title = f"{shown.title}: scores in per cent"
    if _width(_table(head, rows), console) > console.width:
        narrower = [line[:-1] for line in rows]
        if _is_wide_enough(head[:-1], narrower, console):  # the paper's denominator alone
            head, rows = head[:-1], narrower
    return Lines("", tables.titled(title, _fitting(head, rows, console)), *below, "")


def differences(shown: Comparison, console: Console) -> RenderableType | None:
    """Each method's difference to full fine-tuning by column; None if there is none."""
    rows = [
        [
            row.label,
            *(_difference(place.beside) for place in row.places),
            f"{row.wins} / {row.losses}",
        ]
        for row in shown.rows
        if any(place.beside for place in row.places)
    ]
    if not rows:
        return None
    head = ["method", *(column.label for column in shown.columns), "higher\n/ lower"]
    made = _fitting(head, rows, console)
    untested = words.untested(shown)
    return Lines(
        tables.titled("Difference to full fine-tuning, in points", made),
        Text(words.DIFFERENCES, style="dim"),
        *([Text(untested, style="dim")] if untested else []),
        "",
    )


def spent(shown: Comparison, console: Console) -> RenderableType:
    """What a seed took to train, by task, and how much of full fine-tuning's that is."""
    once = first_of_task(shown.columns)
    places = [shown.columns.index(column) for column in once]
    head = ["method", *task_names(once)]
    rows = [[row.label, *(_cost(row.places[place].cost) for place in places)] for row in shown.rows]
    if len(once) > 1:
        head.append("all")
        rows = [[*line, _cost(row.total_cost)] for line, row in zip(rows, shown.rows, strict=True)]
    made = _fitting(head, rows, console)
    return Lines(
        tables.titled("Time and memory of training a seed", made),
        Text(words.costs(shown), style="dim"),
        "",
    )


def holes(found: Sequence[Missing]) -> RenderableType:
    """Missing runs, each with its command on a line of its own, however long: it can be copied."""
    lines: list[RenderableType] = []
    for one in found:
        lines.append(Text(f"{one.what}:"))
        lines.append(Text(f"  {one.command}", style="yellow", no_wrap=True, overflow="ignore"))
    return tables.titled("Missing, and the command that fills it", Lines(*lines, ""))


def _entry(entry: Entry | Hole) -> str:
    if isinstance(entry, Hole):
        return "[yellow]missing[/]"
    if entry.mean is None:
        return "[red]no score[/]"
    mark = "†" if entry.collapsed or entry.diverged else ""
    spread = "" if entry.deviation is None else f"\n[dim]± {tables.percent(entry.deviation)}[/]"
    return f"{tables.percent(entry.mean)}{mark}{spread}"


def _difference(beside: Beside | None) -> str:
    if beside is None:
        return "–"
    found, runs = beside.difference, beside.best_runs
    text = f"{100 * found.mean:+.1f}"
    if found.interval:
        low, high = 100 * found.interval.low, 100 * found.interval.high
        text += f"\n[dim]{low:+.1f} to {high:+.1f}[/]"
    test = f"p {found.wilcoxon_p:.3g}, " if found.wilcoxon_p is not None else ""
    text += f"\n[dim]{test}n {found.n}[/]"
    if runs:
        text += f"\n[dim]best {runs.only_first} : {runs.only_second},\np {runs.p:.2g}[/]"
    return text


def _cost(found: Cost | None) -> str:
    if found is None:
        return "–"
    time = tables.duration(found.seconds)
    memory = "–" if found.peak_memory_bytes is None else tables.size(found.peak_memory_bytes)
    if found.time_of_full is not None:
        time += f" {found.time_of_full:.2f}x"
    if found.memory_of_full is not None:
        memory += f" {found.memory_of_full:.2f}x"
    epochs = f"\n[dim]{tables.plural(found.epochs, 'epoch')}[/]" if found.epochs else ""
    return f"{time}\n{memory}{epochs}"


def _fitting(
    head: Sequence[str], rows: Sequence[Sequence[str]], console: Console
) -> RenderableType:
    """A table as it is told; turned, if that is too wide for the console; or else in pieces."""
    if _is_wide_enough(head, rows, console):
        return _table(head, rows)
    flat = [text.replace("\n", " ") for text in head]
    broken = ["\n".join(textwrap.wrap(row[0], 12, break_on_hyphens=False)) for row in rows]
    turned = [[name, *(row[place] for row in rows)] for place, name in enumerate(flat) if place]
    made = _table(["task", *broken], [line for line in turned if set(line[1:]) != {"–"}])
    if _width(made, console) <= console.width:
        return made
    return _in_pieces(head, rows, console)


def _is_wide_enough(head: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> bool:
    """Whether a console has room for a table as it is told."""
    spare = max(0, max(len(row[0]) for row in rows) - NAME_WIDTH)  # names may be broken
    return _width(_table(head, rows), console) - spare <= console.width


def _in_pieces(
    head: Sequence[str], rows: Sequence[Sequence[str]], console: Console
) -> RenderableType:
    """Tables one below the other, each with the first column and as many others as fit."""
    names = ["\n".join(textwrap.wrap(row[0], 20, break_on_hyphens=False)) for row in rows]
    pieces: list[Table] = []
    start = 1
    while start < len(head):
        end = start + 1
        piece = _piece(head, names, rows, start, end)
        while end < len(head):
            wider = _piece(head, names, rows, start, end + 1)
            if _width(wider, console) > console.width:
                break
            piece, end = wider, end + 1
        pieces.append(piece)
        start = end
    return Lines(*pieces)


def _piece(
    head: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]], start: int, end: int
) -> Table:
    lines = [[name, *row[start:end]] for name, row in zip(names, rows, strict=True)]
    return _table([head[0], *head[start:end]], lines)


def _width(made: Table, console: Console) -> int:
    boundless = console.options.update(max_width=10_000)
    return console.measure(made, options=boundless).maximum


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = tables.table(*head, right=head[1:])
    for column in made.columns[1:]:
        column.no_wrap = True
    made.columns[0].min_width = NAME_WIDTH
    for row in rows:
        made.add_row(escape(row[0]), *row[1:])
    return made
