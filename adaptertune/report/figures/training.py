"""How training went: scores by epoch, what a search is worth, what a seed took."""

from __future__ import annotations

import statistics

from adaptertune import stats
from adaptertune.report import charts, tables
from adaptertune.report.charts import Axis, Bar, Point
from adaptertune.report.comparison import Group, methods
from adaptertune.report.comparison.columns import on_column
from adaptertune.report.figures.figure import (
    Figure,
    colours,
    data_note,
    figure,
    metric_title,
    shown_methods,
)
from adaptertune.report.schema import Column

FEWEST_CANDIDATES = 3  # of a search whose worth is drawn


def learning_curves(group: Group, column: Column) -> list[Figure]:
    """The selecting split by epoch: each method's best candidate, its mean and its seeds."""
    means: list[Point] = []
    faint: list[Point] = []
    order: dict[str, int] = {}
    known = colours(group)
    for (family, variant), cells in shown_methods(group).items():
        here = on_column(column, cells)
        if not here:
            continue
        cell = methods.choose(here)
        size, rate = methods.size(cell), cell.config["training"]["learning_rate"]
        name = methods.label(family, [] if size is None else [size], variant)
        series = f"{name}, rate {tables.number(rate)}"
        order[series] = known[methods.label(family, [], variant)]
        by_epoch: dict[int, list[float]] = {}
        for seed, lines in cell.epochs.items():
            for line in lines:
                value = line.values[cell.headline]
                if value is not None:
                    note = f"seed {seed}, epoch {line.epoch}: {tables.percent(value)}"
                    faint.append(
                        Point(series, line.epoch, 100 * value, None, None, note, f"{series} {seed}")
                    )
                    by_epoch.setdefault(line.epoch, []).append(value)
        for epoch, values in by_epoch.items():
            mean = statistics.fmean(values)
            over = tables.plural(len(values), "seed")
            note = f"{series}, epoch {epoch}: {tables.percent(mean)}, {over}"
            means.append(Point(series, epoch, 100 * mean, None, None, note, series))
    if len({point.x for point in means}) < 2:
        return []
    named = column.label
    split = on_column(column, group.cells)[0].selecting
    last = {point.series: point.note for point in means}
    return [
        figure(
            group,
            f"{named}-learning",
            "Learning curves",
            f"{named}{data_note(column)}",
            "thick lines: means over seeds; thin lines: seeds; each method's best candidate",
            f"{metric_title(column, split)} after each epoch, each method at its best "
            "candidate: the mean over seeds, and the seeds as thin lines.",
            list(last.values()),
            charts.curves(
                means,
                Axis("epoch", integer=True),
                Axis(metric_title(column, split)),
                order,
                faint=faint,
            ),
        )
    ]


def search(group: Group, column: Column) -> list[Figure]:
    """What choosing the best of n candidates is worth, of those that the first seed was tried on."""
    points = []
    for (family, variant), cells in shown_methods(group).items():
        series = methods.label(family, [], variant)
        here = on_column(column, cells)
        first = min((min(cell.config["seeds"]) for cell in here), default=0)
        scores = [
            cell.values(cell.selecting, cell.headline).get(first)
            for cell in here
            if any(result.seed == first for result in cell.seeds)
        ]
        known = [score for score in scores if score is not None]
        if len(known) < FEWEST_CANDIDATES:
            continue
        for number in range(1, len(known) + 1):
            best = stats.expected_maximum(known, number) or 0.0
            counted = tables.plural(number, "candidate")
            note = f"{series}, best of {counted}: {tables.percent(best)}"
            points.append(Point(series, number, 100 * best, None, None, note, series))
    if len({point.series for point in points}) < 2:
        return []
    named = column.label
    split = on_column(column, group.cells)[0].selecting
    last = {point.series: point.note for point in points}
    return [
        figure(
            group,
            f"{named}-search",
            "Settings",
            f"{named}: what a search is worth{data_note(column)}",
            "expected best of so many candidates, one seed",
            f"{metric_title(column, split)} that the best of n candidates (learning rates, "
            "sizes, epochs) is expected to reach with one seed (Dodge et al. 2019): compare methods at "
            "the same n.",
            list(last.values()),
            charts.curves(
                points,
                Axis("candidates tried", integer=True),
                Axis(metric_title(column, split)),
                colours(group),
            ),
        )
    ]


def costs(group: Group, column: Column) -> list[Figure]:
    """What a seed took: seconds of training, and memory."""
    position = group.comparison.columns.index(column)
    times, memories, machines = [], [], set()
    for row in group.comparison.rows:
        spent = row.places[position].cost
        if spent is None:
            continue
        machines |= set(spent.machines or ["unknown machines"])  # of runs that were copied
        epochs = tables.plural(spent.epochs or 0, "epoch")
        note = f"{row.label}: {tables.duration(spent.seconds)}, {epochs}"
        times.append(Bar(row.label, spent.seconds, note, f"{spent.epochs} ep."))
        if spent.peak_memory_bytes is not None:
            note = f"{row.label}: {tables.size(spent.peak_memory_bytes)}"
            memories.append(Bar(row.label, spent.peak_memory_bytes / 1e9, note))
    where = f"Measured on {'; '.join(sorted(machines))}"
    is_one = len(machines) == 1 and "unknown machines" not in machines
    warning = "" if is_one else ": machines differ, so compare with care"
    named = column.label
    made = []
    if times:
        made.append(
            figure(
                group,
                f"{named}-time",
                "Time and memory, task by task",
                f"{named}: training time of a seed{data_note(column)}",
                "means over seeds",
                "Mean over seeds, for the epochs that are written beside the bars; evaluation apart. "
                f"{where}{warning}.",
                [bar.note for bar in times],
                charts.bars(times, Axis("seconds"), colours(group)),
            )
        )
    if memories:
        made.append(
            figure(
                group,
                f"{named}-memory",
                "Time and memory, task by task",
                f"{named}: largest memory{data_note(column)}",
                "peak while a seed trains, the least of its seeds",
                "Peak while a seed trains, the least of its seeds: on a CPU of the whole process, on "
                "CUDA what was allocated there, of seeds in one pass all of them. "
                f"{where}{warning}.",
                [bar.note for bar in memories],
                charts.bars(memories, Axis("GB"), colours(group)),
            )
        )
    return made
