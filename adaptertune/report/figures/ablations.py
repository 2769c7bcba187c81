"""What `ablate` found: a curve or dots for each setting and task, a heatmap for removed spans."""

from __future__ import annotations

from collections.abc import Sequence

from adaptertune import stats
from adaptertune.config import written_layers
from adaptertune.report import ablation, charts, heatmap, tables
from adaptertune.report.charts import Axis, Dot, Point, Summary
from adaptertune.report.comparison import Group
from adaptertune.report.comparison.columns import columns_of, on_column
from adaptertune.report.comparison.methods import in_words
from adaptertune.report.figures.figure import (
    DOTS,
    DRAWN_DOTS,
    DRAWN_ERRORS,
    DRAWN_RINGS,
    ERROR_BARS,
    RINGS,
    TRAINED,
    Figure,
    colours,
    data_note,
    figure,
)
from adaptertune.report.schema import Column
from adaptertune.runs.analyses import AblationPoint, AblationResult, AblationTask
from adaptertune.runs.store import CellFolder

AXES = {
    "training.learning_rate": Axis("learning rate", log=True, at_values=True),
    "method.size": Axis("bottleneck size", log=True, at_values=True),
    "method.init_std": Axis("std of the first weights", log=True, at_values=True),
    "trained": TRAINED,
}
DOTS_OF_FEW = f"{RINGS}the bar ± 1 standard error of it."
DRAWN_DOTS_OF_FEW = f"{DRAWN_RINGS}± 1 standard error"
BLUE, ORANGE, SKY_BLUE = map(charts.COLOURS.index, ("#0072B2", "#E69F00", "#56B4E9"))
BLUES = (BLUE, SKY_BLUE)
HOLLOW = " A white centre: of its seeds some answer the same for every example."


def of_settings(group: Group) -> list[Figure]:
    """A chart and a table for each ablation and task, from the ablations' own result files."""
    names = {(one.task_digest, one.split): one.label for one in columns_of(group.cells)}
    known = {cell.digest: cell.task_digest for cell in group.cells}
    made = []
    for result in group.ablations:
        for task in result.tasks:
            if all(one.scores[task.headline].mean is None for one in task.points):
                continue  # nothing to draw: no training came to a score
            # It outlives its runs.
            here = next((known[one.digest] for one in task.points if one.digest in known), None)
            name = task.task if here is None else names[here, task.split]
            made.append(_ablation(group, result, task, name))
    return made


def _ablation(group: Group, result: AblationResult, task: AblationTask, name: str) -> Figure:
    y = Axis(f"{tables.METRIC_NAMES[task.headline]} on {task.split}, in per cent".replace("_", " "))
    points: list[Point] = []
    seeds: list[Dot] = []
    summaries: list[Summary] = []
    order = _of_points(group, result, task) if result.by is None else _of_series(group, task)
    is_few = ablation.is_few(task)
    for one in task.points:
        scores, title = one.scores[task.headline], ablation.title(one, result, task)
        if scores.mean is None:
            continue
        mean, between, error = 100 * scores.mean, scores.interval, scores.standard_error
        note = (
            f"{title}: {tables.percent(scores.mean)}, {tables.plural(len(scores.values), 'seed')}"
        )
        if result.by is None:
            low, high = (None, None)
            if is_few and error is not None:
                low, high = mean - 100 * error, mean + 100 * error
            elif between and len(scores.values) >= stats.FEWEST:
                low, high = 100 * between.low, 100 * between.high
            summaries.append(Summary(title, mean, low, high, note))
            for seed, value in scores.values.items():
                state = "collapsed" if seed in one.collapsed else "finished"
                seeds.append(Dot(title, 100 * value, str(seed), state))
        else:
            series = in_words(one.method)
            low, high = (None, None) if error is None else (mean - 100 * error, mean + 100 * error)
            x = one.trained if result.by == "trained" else one.value
            fallen = bool(one.collapsed)
            points.append(Point(series, float(x or 0), mean, low, high, note, series, fallen))
    if result.by is None:
        spec = charts.dots(seeds, summaries, y, order)
        bars, drawn = (DOTS_OF_FEW, DRAWN_DOTS_OF_FEW) if is_few else (DOTS, DRAWN_DOTS)
    else:
        drawn = DRAWN_ERRORS
        spec = charts.curves(points, AXES[result.by], y, order)
        bars = ERROR_BARS + HOLLOW * any(point.hollow for point in points)
    spread = f"In the table: mean ± {ablation.spread_name(task)}."
    verdict = ablation.verdict(result, task)
    said = [bars, spread, *ablation.remarks(result, task), verdict, result.protocol]
    note = "" if task.data.sample else tables.data_note(task.data)
    return figure(
        group,
        f"ablate-{result.kind}-{result.digest[:6]}-{task.task}",
        "Ablations",
        ablation.heading(result, task, name) + note,
        f"{drawn} · {_trained_so(group, result, task)}",
        " ".join(filter(None, said)),
        [point.note for point in points] + [one.note for one in summaries],
        spec,
        ablation.columns(result, task),
    )


def _trained_so(group: Group, result: AblationResult, task: AblationTask) -> str:
    """``3 seeds, 6 epochs, rates 1e-4 to 1e-3``, of the runs that are there; without a varied rate."""
    digests = {one.digest for one in task.points}
    training = [one.config["training"] for one in group.cells if one.digest in digests]
    seeds = sorted({len(one.scores[task.headline].values) for one in task.points})
    epochs = sorted({int(one["epochs"]) for one in training})
    rates = sorted({float(one["learning_rate"]) for one in training})
    told = [_between(seeds, "seed"), _between(epochs, "epoch")]
    if rates and result.by != "training.learning_rate":
        ends = " to ".join(tables.number(rate) for rate in dict.fromkeys((rates[0], rates[-1])))
        told.append(f"rate{'s' * (len(rates) > 1)} {ends}")
    return ", ".join(filter(None, told))


def _between(counts: Sequence[int], what: str) -> str:
    """``3 seeds``, ``1 to 3 seeds``; nothing of none."""
    if not counts:
        return ""
    lowest = "" if len(counts) == 1 else f"{counts[0]} to "
    return f"{lowest}{tables.plural(counts[-1], what)}"


def _of_series(group: Group, task: AblationTask) -> dict[str, int]:
    """The number of each series' colour: a method's is that of the other charts."""
    known = colours(group)
    order: dict[str, int] = {}
    for one in task.points:
        series = in_words(one.method)
        if series in order:
            continue
        number = known.get(series, known.get(_family(one)))
        if number is None or number in order.values():
            number = 1 + max([*known.values(), *order.values()], default=-1)
        order[series] = number
    return order


def _of_points(group: Group, result: AblationResult, task: AblationTask) -> dict[str, int]:
    """The number of each point's colour: its method's of what the others are held against, and for all
    these one that is far from it.
    """
    known = colours(group)
    reference = next((one for one in task.points if one.reference is None), task.points[0])
    number = known.get(_family(reference), 1 + max(known.values(), default=-1))
    others = ORANGE if number % len(charts.COLOURS) in BLUES else SKY_BLUE
    return {
        ablation.title(one, result, task): number if one.reference is None else others
        for one in task.points
    }


def _family(point: AblationPoint) -> str:
    return in_words(point.method.partition("-")[0])


def heatmaps(group: Group, column: Column) -> list[Figure]:
    """What trained adapters are good for, layer by layer, of runs of which `ablate spans` was asked."""
    found = {
        cell.folder.name: result
        for cell in on_column(column, group.cells)
        if (result := CellFolder(cell.folder).read_spans())
    }
    made = []
    for run, result in found.items():
        which = f", {run}" if len(found) > 1 else ""
        for metric in heatmap.metrics(result):
            name = tables.METRIC_NAMES[metric]
            made.append(
                figure(
                    group,
                    f"spans-{run}-{metric}",
                    "Without the adapters of a span of layers",
                    f"{column.label}: {name} without some layers' adapters{which}"
                    f"{data_note(column)}",
                    f"relative change, mean over {tables.plural(len(result.seeds), 'seed')}",
                    f"Relative change of {name} on {result.split.replace('_', ' ')} when the trained "
                    "adapters of the layers from first to last (of "
                    f"{written_layers(result.layers)}) are removed and nothing is trained again; "
                    "LayerNorms and head stay. Mean over "
                    f"{tables.plural(len(result.seeds), 'seed')}.",
                    [
                        f"layers {one.first} to {one.last}: {tables.percent(one.change[metric].mean)} %"
                        for one in result.cells
                    ],
                    heatmap.chart(result, metric),
                )
            )
    return made
