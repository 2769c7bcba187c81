"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from adaptertune.report import comparison, tables
from adaptertune.report.comparison import Comparison, Entry, Hole, Missing


def table_1(shown: Comparison) -> RenderableType:
    """The paper's Table 1 of a comparison, with what must be said about it."""
    numbers = [
        *(f"{column.label}\n{tables.METRIC_NAMES[column.metric]}" for column in shown.columns),
        "\nmean", "GLUE\nrule", f"{shown.num_tasks} tasks\nparams", "trained\n% encoder",
    ]  # fmt: skip
    made = tables.table("method", *numbers, right=numbers)
    made.columns[0].min_width = 14
    for row in shown.rows:
        made.add_row(
            escape(row.label),
            *(_entry(entry) for entry in row.entries),
            tables.percent(row.mean),
            tables.percent(row.glue_average),
            f"{row.multiple:.2f}x",
            tables.percent(row.share_of_encoder_layers, 2),
        )
    if shown.published:
        made.add_section()
    for published in shown.published:
        made.add_row(
            f"{published.label} [{_number(shown, published.source)}]".replace("[", "\\["),
            *(tables.percent(value) for value in published.values),
            tables.percent(published.mean),
            tables.percent(published.glue_average),
            f"{published.multiple:.1f}x" if published.multiple else "–",
            tables.percent(published.share) if published.share else "–",
            style="dim italic",
        )
    below: list[RenderableType] = []
    for source in dict.fromkeys(row.source for row in shown.published):
        why = next(row.why_not for row in shown.published if row.source == source)
        apart = f": not comparable ({why})" if why else ""
        below.append(Text(f"[{_number(shown, source)}] {source}{apart}", style="dim"))
    below += [
        Text(remark, style="yellow" if remark.startswith("†") else "dim")
        for remark in comparison.remarks(shown)
    ]
    below.append(Text(shown.protocol, style="dim"))
    below += [Text(f"\n{sentence}", style="bold") for sentence in shown.sentences]
    title = f"{shown.title}: scores in per cent"
    return Lines("", tables.titled(title, made), *below, "")


def differences(shown: Comparison) -> RenderableType | None:
    """Each method's difference to full fine-tuning by column; None if there is none."""
    rows = [row for row in shown.rows if any(row.differences)]
    if not rows:
        return None
    names = [column.label for column in shown.columns]
    made = tables.table("method", *names, right=names)
    for row in rows:
        fields = []
        for found in row.differences:
            if found is None:
                fields.append("–")
                continue
            text = f"{100 * found.mean:+.1f}"
            if found.interval:
                text += (
                    f"\n[dim]{100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f}[/]"
                )
            if found.wilcoxon_p is not None:
                text += f"\n[dim]p {found.wilcoxon_p:.2g}, n {found.n}[/]"
            fields.append(text)
        made.add_row(escape(row.label), *fields)
    title = "Difference to full fine-tuning in points, paired over seeds; 95 % interval; Wilcoxon"
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
    mark = "†" if entry.collapsed or entry.diverged else " "
    spread = "" if entry.deviation is None else f"\n[dim]± {tables.percent(entry.deviation)}[/] "
    return f"{tables.percent(entry.mean)}{mark}{spread}"


def _number(shown: Comparison, source: str) -> int:
    return list(dict.fromkeys(row.source for row in shown.published)).index(source) + 1
