"""A run with its seeds, and the runs of a store, as rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from adaptertune.report.tables import METRIC_NAMES, data_note, percent, table, titled
from adaptertune.runs.results import CellResult


def run(result: CellResult) -> RenderableType:
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
        if line.status == "failed":
            remarks.append("[red]failed: its failure.json says why[/]")
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


def run_list(root: Path, found: Sequence[tuple[Path, CellResult | None]]) -> RenderableType:
    """The cells of a store under their task, metric and data, so that names have a line's room."""
    title = f"Runs in {root}: the metric that selects, on validation, in per cent"
    if any(result and _is_held_out(result) for _, result in found):
        title += " (held-out: on rows of the training set that did not train)"
    shown = table(
        "run", "seeds", "mean", "± dev.", "best", right=("seeds", "mean", "± dev.", "best")
    )
    shown.columns[0].overflow = "fold"
    groups: dict[str, list[tuple[Path, CellResult | None]]] = {}
    for path, result in found:
        groups.setdefault(_heading(path, result), []).append((path, result))
    for number, (heading, cells) in enumerate(groups.items()):
        if number:
            shown.add_row()
        shown.add_row(f"[bold]{heading}[/]")
        for path, result in cells:
            if result is None:
                shown.add_row(path.name)
                continue
            spread = result.scores[result.selecting_split][result.headline]
            shown.add_row(
                path.name,
                str(len(result.seeds)),
                percent(spread.mean),
                percent(spread.deviation, 2),
                percent(spread.best),
            )
    return titled(title, shown)


def _heading(path: Path, result: CellResult | None) -> str:
    if result is None:
        return f"{path.parent.name} · [yellow]unfinished[/]"
    parts = [result.task, METRIC_NAMES[result.headline]]
    if _is_held_out(result):
        parts.append("held-out")
    if result.imported:
        parts.append("[yellow]imported[/]")
    return " · ".join(parts) + data_note(result.data)


def _is_held_out(result: CellResult) -> bool:
    return bool(result.config.get("protocol") == "held-out")
