"""A run with its seeds, and the runs of a store, as rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from adaptertune.config import flatten
from adaptertune.report.commands import ELSEWHERE, is_chosen
from adaptertune.report.comparison.published import row_label
from adaptertune.report.evidence import deciding
from adaptertune.report.tables import (
    METRIC_NAMES,
    data_note,
    percent,
    plural,
    setting,
    table,
    titled,
)
from adaptertune.runs.results import CellResult, ListedRun
from adaptertune.runs.store import CellFolder

# Settings that `show` tells of every run, and those that it tells elsewhere or the run's name does.
TOLD = ("training.learning_rate", "training.epochs", "training.batch_size", "training.max_length")
TOLD_ELSEWHERE = ELSEWHERE | {"method.name", "method.size", "method.k"}


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
                escape(split),
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
            f"[yellow]{result.num_collapsed} of {plural(len(result.seeds), 'seed')} collapsed to one "
            f"class; counted, not dropped.{advice}[/]\n"
        )
    if result.num_diverged:
        pieces.append(
            f"[red]{result.num_diverged} of {plural(len(result.seeds), 'seed')} diverged and have no "
            "score.[/]\n"
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
            escape(f"{figure.source}, {figure.model}"),
            escape(row_label(figure.row)),
            escape(figure.split),
            METRIC_NAMES[figure.metric],
            f"{figure.value:.1f}",
            "[green]yes[/]" if figure.comparable else f"[dim]no: {escape(str(figure.why_not))}[/]",
        )
    return titled("What others published", figures)


def settings(result: CellResult) -> RenderableType:
    """What was chosen for a run, and the recipe's most asked for: ``lr 3e-4 · epochs 20``."""
    chosen = [
        (key, value)
        for key, value in flatten(result.config)
        if key in TOLD or (is_chosen(result.origins.get(key)) and key not in TOLD_ELSEWHERE)
    ]
    return Text("Settings    " + " · ".join(setting(key, value) for key, value in chosen))


def run_list(root: Path, found: Sequence[ListedRun]) -> RenderableType:
    """The cells of a store under their task, metric and data, so that names have a line's room; with
    the settings in which cells of one method differ, and what is wrong with a damaged one.
    """
    title = f"Runs in {root}: the metric that selects, on validation, in per cent"
    if any(one.result and _is_held_out(one.result) for one in found):
        title += " (held-out: on rows of the training set that did not train)"
    shown = table(
        "run", "seeds", "mean", "± dev.", "best", right=("seeds", "mean", "± dev.", "best")
    )
    groups: dict[str, list[ListedRun]] = {}
    for one in found:
        groups.setdefault(_heading(one), []).append(one)
    for number, (heading, listed) in enumerate(groups.items()):
        if number:
            shown.add_row()
        shown.add_row(f"[bold]{heading}[/]")
        apart = _apart({one.folder: one.result for one in listed if one.result})
        for one in listed:
            name = escape(Path(one.folder).name)
            if one.result is None:
                shown.add_row(name + (f"\n  [red]{escape(one.error)}[/]" if one.error else ""))
                continue
            spread = one.result.scores[one.result.selecting_split][one.result.headline]
            settings_apart = escape(apart[one.folder])
            state = _state(one.result, CellFolder(Path(one.folder)))
            shown.add_row(
                name
                + (f"\n  [dim]{settings_apart}[/]" if settings_apart else "")
                + (f"\n  [yellow]{state}[/]" if state else ""),
                str(len(one.result.seeds)),
                percent(spread.mean),
                percent(spread.deviation, 2),
                percent(spread.best),
            )
    return titled(title, shown)


def _state(result: CellResult, folder: CellFolder) -> str:
    """What a reader of a run's figures must know of its seeds, and of how it came about."""
    numbers = {
        "collapsed": result.num_collapsed,
        "diverged": result.num_diverged,
        "failed": result.num_failed,
    }
    told = [f"{number} {name}" for name, number in numbers.items() if number]
    if folder.prune.exists():
        told.append("pruned by the scores on half of validation")
    return ", ".join(told)


def _apart(cells: Mapping[str, CellResult]) -> dict[str, str]:
    """By folder, a cell's settings that differ among those whose names differ by the digest alone."""
    alike: dict[str, dict[str, dict[str, Any]]] = {}
    for folder, result in cells.items():
        name = Path(folder).name.rpartition("-")[0]
        settings = deciding(result.config) | {"training.precision": result.precision}
        settings["init_from"] = settings.get("init_from") or "–"
        alike.setdefault(name, {})[folder] = settings
    told = {}
    for group in alike.values():
        keys = dict.fromkeys(key for values in group.values() for key in values)
        differing = [key for key in keys if len({str(v.get(key, "–")) for v in group.values()}) > 1]
        for folder, values in group.items():
            told[folder] = " · ".join(setting(key, values.get(key, "–")) for key in differing)
    return told


def _heading(one: ListedRun) -> str:
    if one.result is None:
        state = "[red]damaged[/]" if one.error else "[yellow]unfinished[/]"
        return f"{escape(Path(one.folder).parent.name)} · {state}"
    parts = [one.result.task, METRIC_NAMES[one.result.headline]]
    if _is_held_out(one.result):
        parts.append("held-out")
    if one.result.imported:
        parts.append("[yellow]imported[/]")
    return " · ".join(parts) + data_note(one.result.data)


def _is_held_out(result: CellResult) -> bool:
    return bool(result.config.get("protocol") == "held-out")
