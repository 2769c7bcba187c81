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

from adaptertune import stats
from adaptertune.report import tables, words
from adaptertune.report.comparison import Group
from adaptertune.report.schema import Comparison, Entry, Hole, Missing

NAME_WIDTH = 15


def comparisons(groups: Sequence[Group], console: Console) -> None:
    """Print each comparison: its Table 1, and the differences to full fine-tuning if that is in it."""
    for group in groups:
        console.print(table_1(group.comparison, console))
        compared = differences(group.comparison, console)
        if compared is not None:
            console.print(compared)


def table_1(shown: Comparison, console: Console) -> RenderableType:
    """The paper's Table 1 of a comparison, with what must be said about it.

    On a console that is too narrow for a column a task, a task is a row.
    """
    tasks = [f"{column.label}\n{tables.METRIC_NAMES[column.metric]}" for column in shown.columns]
    averages = ["mean", "GLUE\nrule"]
    head = ["method", *tasks, *averages, f"{shown.num_tasks} tasks\nparams", "trained\n% encoder"]
    rows = [
        [
            row.label,
            *(_entry(entry) for entry in row.entries),
            tables.percent(row.mean),
            tables.percent(row.glue_average),
            f"{row.multiple:.2f}x",
            tables.percent(row.share_of_encoder_layers, 2),
        ]
        for row in shown.rows
    ]
    below: list[RenderableType] = []
    for source in dict.fromkeys(row.source for row in shown.published):
        figures = [row for row in shown.published if row.source == source]
        why = f"not comparable: {figures[0].why_not}" if figures[0].why_not else "comparable"
        lines = [
            [
                row.label,
                *map(tables.percent, row.values),
                tables.percent(row.mean),
                tables.percent(row.glue_average),
            ]
            for row in figures
        ]
        published = _fitting(["method", *tasks, *averages], lines, console)
        below.append(Padding(tables.titled(f"{source} ({why})", published), style="dim"))
    below += [
        Text(remark, style="yellow" if remark.startswith("†") else "dim")
        for remark in words.remarks(shown)
    ]
    below.append(Text(shown.protocol, style="dim"))
    below += [Text(f"\n{sentence}", style="bold") for sentence in shown.sentences]
    title = f"{shown.title}: scores in per cent"
    return Lines("", tables.titled(title, _fitting(head, rows, console)), *below, "")


def differences(shown: Comparison, console: Console) -> RenderableType | None:
    """Each method's difference to full fine-tuning by column; None if there is none."""
    rows = [
        [row.label, *map(_difference, row.differences, row.best_runs)]
        for row in shown.rows
        if any(row.differences)
    ]
    if not rows:
        return None
    made = _fitting(["method", *(column.label for column in shown.columns)], rows, console)
    title = (
        "Difference to full fine-tuning in points, paired over seeds; 95 % interval; Wilcoxon; "
        "best runs: McNemar"
    )
    return tables.titled(title, made)


def holes(found: Sequence[Missing]) -> RenderableType:
    """Missing runs, each with its command."""
    made = tables.table("missing", "command that fills it")
    for one in found:
        made.add_row(escape(one.what), escape(one.command))
    return made


def _entry(entry: Entry | Hole) -> str:
    if isinstance(entry, Hole):
        return "[yellow]missing[/]"
    if entry.mean is None:
        return "[red]no score[/]"
    mark = "†" if entry.collapsed or entry.diverged else ""
    spread = "" if entry.deviation is None else f"\n[dim]± {tables.percent(entry.deviation)}[/]"
    return f"{tables.percent(entry.mean)}{mark}{spread}"


def _difference(found: stats.PairedDifference | None, best_runs: stats.McNemar | None) -> str:
    if found is None:
        return "–"
    text = f"{100 * found.mean:+.1f}"
    if found.interval:
        low, high = 100 * found.interval.low, 100 * found.interval.high
        text += f"\n[dim]{low:+.1f} to {high:+.1f}[/]"
    test = f"p {found.wilcoxon_p:.2g}, " if found.wilcoxon_p is not None else ""
    text += f"\n[dim]{test}n {found.n}[/]"
    return f"{text}\n[dim]best p {best_runs.p:.2g}[/]" if best_runs else text


def _fitting(head: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> Table:
    """A table as it is told, or turned if that is too wide for the console."""
    made = _table(head, rows)
    boundless = console.options.update(max_width=10_000)
    spare = max(0, max(len(row[0]) for row in rows) - NAME_WIDTH)  # names may be broken
    if console.measure(made, options=boundless).maximum - spare <= console.width:
        return made
    flat = [text.replace("\n", " ") for text in head]
    broken = ["\n".join(textwrap.wrap(row[0], 12, break_on_hyphens=False)) for row in rows]
    turned = [[name, *(row[place] for row in rows)] for place, name in enumerate(flat) if place]
    return _table(["task", *broken], [line for line in turned if set(line[1:]) != {"–"}])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = tables.table(*head, right=head[1:])
    for column in made.columns[1:]:
        column.no_wrap = True
    made.columns[0].min_width = NAME_WIDTH
    for row in rows:
        made.add_row(escape(row[0]), *row[1:])
    return made
