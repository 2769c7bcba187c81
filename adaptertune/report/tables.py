"""Results and counts as rich tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from adaptertune import stats
from adaptertune.runs.results import CellResult, Choice, DataFacts, SweepResult
from adaptertune.tasks import Task

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
PART_NAMES = {"embeddings": "embeddings", "encoder": "layers less LayerNorms"}


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console for reports; where nobody can tell the width (a pipe, a log) it is 110 columns."""
    made = Console(stderr=stderr, quiet=quiet, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 110
    return made


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the house style; the columns named in ``right`` are aligned right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def titled(title: str, body: RenderableType) -> RenderableType:
    """A title over something; a table's own title would be folded to the table's width."""
    return Group(Text(title, style="bold"), body)


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in per cent; a dash for a missing one."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def spread(values: Sequence[float | None]) -> str:
    """The mean of the known values in per cent, and their deviation if there are several."""
    known = [value for value in values if value is not None]
    deviation = stats.deviation(known)
    mean = percent(stats.mean(known))
    return mean if deviation is None else f"{mean} ± {percent(deviation)}"


def count(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def size(num_bytes: float) -> str:
    """Bytes in the largest decimal unit below them."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as 45 s, 3 min 20 s or 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


def ledger(counts: Mapping[str, Any]) -> RenderableType:
    """Who trains, out of how many: ``counts`` as ``Ledger.as_json`` gives them."""
    parts = table("parameters", "total", "trained", right=("total", "trained"))
    for part in counts["parts"]:
        name = PART_NAMES.get(part["name"], part["name"])
        trained = count(part["trained"]) if part["trained"] else "–"
        parts.add_row(name, count(part["total"]), trained)
    parts.add_section()
    stored = counts["trained"] + counts["head"]
    parts.add_row("all", count(counts["total"]), f"[bold]{count(stored)}[/]")
    num_tasks = counts["num_tasks"]
    full_bytes = counts["stored_bytes"] / stored * (counts["all_parameters"] + counts["head"])
    shares = Table.grid(padding=(0, 2))
    shares.add_row(
        "trained without head",
        f"[bold]{count(counts['trained'])}[/]",
        f"{percent(counts['share_of_encoder_layers'], 2)} % of the encoder layers "
        f"({count(counts['encoder_layers'])}), the paper's denominator",
    )
    shares.add_row(
        "",
        "",
        f"{percent(counts['share_of_all_parameters'], 2)} % of all parameters "
        f"({count(counts['all_parameters'])}), which full fine-tuning trains",
    )
    shares.add_row(
        f"{num_tasks} tasks",
        f"[bold]{counts['multiple_of_encoder_layers']:.2f}x[/]",
        f"by the paper's denominator; {counts['multiple_of_all_parameters']:.2f}x of all parameters; "
        f"full fine-tuning {num_tasks}.00x",
    )
    shares.add_row(
        "on disk per task",
        f"[bold]{size(counts['stored_bytes'])}[/]",
        f"head included, in fp32; full fine-tuning {size(full_bytes)}",
    )
    return Group(titled("Ledger", parts), shares, "")


def sizes(bottlenecks: Sequence[int], all_counts: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Several bottleneck sizes side by side."""
    num_tasks = all_counts[0]["num_tasks"]
    tasks_of_encoder, tasks_of_all = f"{num_tasks} tasks, of encoder", f"{num_tasks} tasks, of all"
    columns = (
        "size",
        "trained",
        "% of encoder",
        "% of all",
        tasks_of_encoder,
        tasks_of_all,
        "on disk",
    )
    shown = table(*columns, right=columns)
    for bottleneck, counts in zip(bottlenecks, all_counts, strict=True):
        shown.add_row(
            str(bottleneck),
            count(counts["trained"]),
            percent(counts["share_of_encoder_layers"], 2),
            percent(counts["share_of_all_parameters"], 2),
            f"{counts['multiple_of_encoder_layers']:.2f}x",
            f"{counts['multiple_of_all_parameters']:.2f}x",
            size(counts["stored_bytes"]),
        )
    first = all_counts[0]
    note = (
        f"encoder: {count(first['encoder_layers'])} parameters of the Transformer layers, the paper's "
        f"denominator; all: {count(first['all_parameters'])}. Trained: without the head "
        f"({count(first['head'])}), which is stored too."
    )
    return Group(shown, Text(note, style="dim"), "")


def cell(result: CellResult) -> RenderableType:
    """A cell's seeds with the best one marked, all metrics, and what they may be set beside."""
    metric = METRIC_NAMES[result.headline]
    title = (
        f"{result.task} · {metric} on {result.selecting_split}, in per cent{data_note(result.data)}"
    )
    seeds = table("seed", metric, "epoch kept", "", right=("seed", metric, "epoch kept"))
    for line in result.seeds:
        remarks = []
        if line.status == "diverged":
            remarks.append("[red]diverged: the loss was not finite[/]")
        if line.collapsed:
            remarks.append("[yellow]collapsed: one class (or score) for everything[/]")
        is_best = line.seed == result.best_seed
        if is_best:
            remarks.insert(0, "[bold green]◂ best[/]" if len(result.seeds) > 1 else "")
        seeds.add_row(
            str(line.seed),
            percent(line.score),
            "–" if line.kept_epoch is None else str(line.kept_epoch),
            " ".join(filter(None, remarks)),
            style="bold" if is_best and len(result.seeds) > 1 else None,
        )
    spreads = table(
        "split", "metric", "mean", "± deviation", "best", "n",
        right=("mean", "± deviation", "best", "n"),
    )  # fmt: skip
    for split, by_metric in result.scores.items():
        for name, spread in by_metric.items():
            is_headline = split == result.selecting_split and name == result.headline
            spreads.add_row(
                split,
                METRIC_NAMES[name],
                percent(spread.mean),
                percent(spread.deviation, 2),
                percent(spread.best),
                str(spread.n),
                style="bold" if is_headline else None,
            )
    pieces: list[RenderableType] = [
        titled(title, seeds),
        titled(f"Over the finished seeds, in per cent{data_note(result.data)}", spreads),
        Text(result.protocol, style="dim"),
        "",
    ]
    if result.num_collapsed:
        advice = "" if result.imported else " A smaller --lr often helps."
        pieces.append(
            f"[yellow]{result.num_collapsed} of {len(result.seeds)} seeds collapsed to one class; they "
            f"are counted, not dropped.{advice}[/]\n"
        )
    if result.num_diverged:
        pieces.append(
            f"[red]{result.num_diverged} of {len(result.seeds)} seeds diverged and have no score.[/]\n"
        )
    if result.published:
        pieces.append(published(result))
    return Group(*pieces)


def sweep_plan(plan: Mapping[str, Any]) -> RenderableType:
    """What a sweep will run and how long it takes: ``plan`` as ``sweep --dry-run --json`` prints it."""
    columns = ("task", "method", "cells", "runs", "ahead", "steps", "forecast", "data")
    shown = table(*columns, right=columns[2:-1])
    rows = plan["rows"]
    for row in rows:
        data = "sample" if row["sample"] else "partial" if row["partial"] else ""
        shown.add_row(
            row["task"],
            row["method"],
            count(row["cells"]),
            count(row["runs"]),
            count(row["runs_ahead"]),
            count(row["steps"]),
            duration(row["seconds"]) if row["runs_ahead"] and row["seconds"] is not None else "–",
            data,
        )
    if len(rows) > 1:
        shown.add_section()
        sums = {
            key: sum(row[key] for row in rows) for key in ("cells", "runs", "runs_ahead", "steps")
        }
        known = [row["seconds"] for row in rows if row["seconds"] is not None]
        total = duration(sum(known)) if known else "–"
        shown.add_row("all", "", *map(count, sums.values()), f"[bold]{total}[/]", "", style="bold")
    title = f"Sweep {plan['name']} · {plan['device']}, {plan['precision']}"
    said = f"{plan['in_words']} The forecast is for one training after another."
    if plan["seeds_on"] == "winner":
        said += " While a winner is not known, its other seeds are counted as the longest cell's."
    for run in sorted({run for row in rows for run in row["init_from"]}):
        methods = dict.fromkeys(row["method"] for row in rows if run in row["init_from"])
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
    filled = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    if len(metrics) == 1:
        filled.remove(columns.index("metric"))
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
        *_remarks(result.choices),
        Text(f"{result.in_words}{_interval_note(result.choices)}", style="dim"),
        "",
    ]
    if result.num_failed or result.num_diverged:
        pieces.append(
            f"[red]{result.num_failed} runs failed and {result.num_diverged} diverged: holes, not "
            "zeros.[/] --retry-failed tries them again.\n"
        )
    return Group(*pieces)


def _interval_note(choices: Sequence[Choice]) -> str:
    has_interval = any(choice.interval for choice in choices)
    return " Intervals: bootstrap, too narrow for few seeds." if has_interval else ""


def _is_one_data(result: SweepResult) -> bool:
    """Whether the same must be said of all data: that they are the sample."""
    return all(choice.data.sample for choice in result.choices)


def setting(key: str, value: Any) -> str:
    """A setting in a word or two: ``lr 3e-4``, ``epochs 20``, ``warmup 0.1``."""
    name = key.rpartition(".")[2].replace("learning_rate", "lr")
    return f"{name} {number(value)}"


def number(value: Any) -> str:
    """A setting's value: 3e-4, 0.1, 64."""
    if isinstance(value, float) and 0 < value < 0.1:
        digits, exponent = f"{value:e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def varied(grids: Sequence[Mapping[str, Sequence[Any]]]) -> set[str]:
    """The keys of a sweep's grids that do not have one value throughout."""
    keys = {key for one in grids for key in one}
    return {key for key in keys if len({str(v) for one in grids for v in one.get(key, ["–"])}) > 1}


def _remarks(choices: Sequence[Choice]) -> list[RenderableType]:
    """What a reader must know of single rows, a line each; "best of" rows would say it again."""
    lines: list[RenderableType] = []
    for choice in choices:
        said = []
        if choice.data.partial:
            said.append("partial training set")
        if choice.num_failed or choice.num_diverged:
            said.append(f"[red]{choice.num_failed + choice.num_diverged} holes[/]")
        if choice.num_collapsed:
            said.append(f"{choice.num_collapsed} collapsed to one answer for everything")
        if said and "best of" not in choice.row:
            about = f"{choice.task} {choice.row}, {choice.num_runs} runs"
            lines.append(f"[yellow]{about}: {', '.join(said)}[/]")
    return [*lines, ""] if lines else []


def _choice(choice: Choice, keys: set[str]) -> Sequence[str]:
    if choice.chosen is None:
        return (choice.task, choice.row, "[red]no run came to a score[/]", *[""] * 6)
    settings = [
        setting(key, value)
        for key, value in choice.chosen.items()
        if key in keys
        and key != "method.name"
        and not (key == "method.size" and "best of" not in choice.row)
    ]
    spread = choice.scores[choice.reported_split][choice.metric]
    low, high = choice.interval or (None, None)
    return (
        choice.task,
        choice.row,
        ", ".join(settings),
        METRIC_NAMES[choice.metric],
        f"{percent(spread.mean)} ± {percent(spread.deviation, 2)}",
        "" if low is None else f"{percent(low)}–{percent(high)}",
        percent(spread.best),
        str(spread.n),
        str(choice.num_cells),
    )


def task_list(tasks: Sequence[Task]) -> RenderableType:
    """Tasks with what they ask, what selects, and how many rows they have."""
    shown = table(
        "task", "title", "labels", "metrics", "train rows", "evaluated on", right=("train rows",)
    )
    for task in tasks:
        low, high = task.range or (0.0, 0.0)
        shown.add_row(
            f"[bold]{task.name}[/]",
            task.title,
            ", ".join(task.labels) if task.labels else f"score {low:g} to {high:g}",
            ", ".join(METRIC_NAMES[name] for name in task.metrics),
            count(task.rows["train"]) if "train" in task.rows else "–",
            ", ".join(task.evaluation) or f"nothing: {task.trained_on} answers it",
        )
    return shown


def run_list(root: Path, found: Sequence[tuple[Path, CellResult | None]]) -> RenderableType:
    """The cells of a store; those without a result are unfinished."""
    columns = ("task", "run", "data", "seeds", "metric", "mean", "± dev.", "best")
    title = f"Runs in {root}: the metric that selects, on validation, in per cent"
    shown = table(*columns, right=("seeds", "mean", "± dev.", "best"))
    shown.columns[1].overflow = "fold"
    for path, result in found:
        if result is None:
            shown.add_row(path.parent.name, path.name, "", "", "[yellow]unfinished[/]")
            continue
        spread = result.scores[result.selecting_split][result.headline]
        data = "sample" if result.data.sample else "partial" if result.data.partial else "complete"
        shown.add_row(
            result.task,
            path.name,
            data,
            str(len(result.seeds)),
            METRIC_NAMES[result.headline],
            percent(spread.mean),
            percent(spread.deviation, 2),
            percent(spread.best),
        )
    return titled(title, shown)


def published(result: CellResult) -> RenderableType:
    """The published figures for this method on this task, each with what keeps it apart from ours."""
    figures = table(
        "published", "row", "split", "metric", "%", "beside ours?", right=("%",),
    )  # fmt: skip
    for figure in result.published:
        figures.add_row(
            f"{figure.source}, {figure.model}",
            figure.row.replace("_", " "),
            figure.split,
            METRIC_NAMES[figure.metric],
            f"{figure.value:.1f}",
            "[green]yes[/]" if figure.comparable else f"[dim]no: {figure.why_not}[/]",
        )
    return titled("What others published", figures)


def data_note(data: DataFacts) -> str:
    """What a reader must know of the data before any figure."""
    if data.sample:
        return " · sample data, not GLUE"
    if data.partial:
        return f" · partial training set, {of_complete(data)}"
    return ""


def of_complete(data: DataFacts) -> str:
    """The rows of a partial training set: ``8,000 of 67,349``."""
    return f"{count(data.num_train)} of {count(data.num_train_complete or 0)}"
