"""Which figures a store has material for: points from cells, put into charts with words about them.

To add one, write a function from a group and a column (or from a file of its own) to figures, and name
it in :func:`figures`.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from adaptertune import stats
from adaptertune.report import ablation, charts, heatmap, methods, tables, words
from adaptertune.report.charts import Axis, Bar, Dot, Point, Square, Summary
from adaptertune.report.columns import first_of_task, on_column
from adaptertune.report.comparison import Group, of_full, reference_candidates
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Column, Entry
from adaptertune.runs.results import AblationResult, AblationTask
from adaptertune.runs.store import CellFolder

TRAINED = Axis("trained parameters, without the head", log=True)
AXES = {
    "training.learning_rate": Axis("learning rate", log=True, at_values=True),
    "method.size": Axis("bottleneck size", log=True, at_values=True),
    "method.init_std": Axis("std of the first weights", log=True, at_values=True),
    "trained": TRAINED,
}
RINGS = (
    "A ring is a seed (a cross: one that answers the same for every example), the tick the mean, "
)
DOTS = (
    f"{RINGS}the bar its 95 % bootstrap interval, which needs {stats.FEWEST} seeds and is too narrow "
    "for few."
)
DOTS_OF_FEW = f"{RINGS}the bar ± 1 standard error of it."
ERROR_BARS = "Bars: ± 1 standard error of the mean over seeds; none where there is one seed."
FEWEST_TASKS = 3  # with a median, and percentiles beside it
FEWEST_CANDIDATES = 3  # of a search whose worth is drawn


@dataclass(frozen=True)
class Figure:
    """A chart with all that must be said about it. ``name`` is its file's and its anchor."""

    name: str
    chapter: str
    title: str
    subtitle: tuple[str, ...]
    """For a picture that stands alone, by line: kind of chart; base model, protocol."""
    alt: str
    caption: str
    spec: charts.Spec
    table: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The same in numbers, by column; often empty."""


def figures(group: Group) -> list[Figure]:
    """All figures of a comparison, chapter by chapter."""
    columns = group.comparison.columns
    once = first_of_task(columns)
    found = [*_table_1(group), *_overview(group)]
    for make in (_trade_off, _seed_dots):
        found += [figure for column in columns for figure in make(group, column)]
    for make in (_learning_curves, _search, _heatmaps, _costs):
        found += [figure for column in once for figure in make(group, column)]
    return [*found, *_ablations(group)]


def _table_1(group: Group) -> list[Figure]:
    """The table as a picture, each score on the colour of its difference to full fine-tuning."""
    shown = group.comparison
    squares = []
    for row in shown.rows:
        for column, place in zip(shown.columns, row.places, strict=True):
            entry, found = place.entry, place.beside.difference if place.beside else None
            mean = entry.mean if isinstance(entry, Entry) else None
            spread = entry.deviation if isinstance(entry, Entry) else None
            note = f"{row.label} on {column.label}: {tables.percent(mean)}"
            note += "" if spread is None else f" ± {tables.percent(spread)}"
            note += "" if found is None else f", {100 * found.mean:+.1f} points"
            change = None if found is None else 100 * found.mean
            has_fallen = isinstance(entry, Entry) and (entry.collapsed or entry.diverged)
            text = tables.percent(mean) + "†" * bool(has_fallen)
            squares.append(Square(row.label, _heading(column, shown.columns), text, change, note))
    if len(shown.rows) < 2 or not any(square.change is not None for square in squares):
        return []
    return [
        _figure(
            group,
            "table-1",
            "Table 1",
            "Scores, and what is lost or gained",
            f"Means over seeds in per cent, {_metrics(shown.columns)}. Colour: points above (purple) or "
            "below (orange) full fine-tuning, paired over seeds; grey: nothing to compare with. †: some "
            "seeds collapsed or diverged.",
            [square.note for square in squares],
            charts.matrix(
                squares,
                [row.label for row in shown.rows],
                [_heading(column, shown.columns) for column in shown.columns],
                "points",
            ),
        )
    ]


def _heading(column: Column, columns: Sequence[Column]) -> str:
    """A column's label; with its place where several have the same, of other rows of data."""
    alike = [one for one in columns if one.label == column.label]
    return column.label if len(alike) == 1 else f"{column.label} {alike.index(column) + 1}"


def _metrics(columns: Sequence[Column]) -> str:
    """``accuracy on validation (RTE), F1 on validation (MRPC)``."""
    named: dict[str, list[str]] = {}
    for column in columns:
        name = f"{tables.METRIC_NAMES[column.metric]} on {column.split.replace('_', ' ')}"
        named.setdefault(name, []).append(_heading(column, columns))
    return ", ".join(f"{name} ({', '.join(labels)})" for name, labels in named.items())


def _overview(group: Group) -> list[Figure]:
    """The paper's figure 1: the difference to full fine-tuning over tasks, against what trains."""
    columns = group.comparison.columns
    full = of_full(cell for cells in group.candidates.values() for cell in cells)
    base = [column for column in columns if on_column(column, full)]
    if len(base) < FEWEST_TASKS:
        return []
    points = []
    for (family, variant), cells in _methods(group).items():
        series = methods.label(family, [], variant)
        for one, members in _by_size(cells):
            differences, trained = [], []
            for column in base:
                own = on_column(column, members)
                if own:
                    chosen = methods.choose(own)
                    found = _difference(chosen, column, full)
                    if found is not None:
                        differences.append(100 * found.mean)
                        trained.append(chosen.facts.ledger["trained"])
            if len(differences) < len(base):
                continue
            low, *_, high = statistics.quantiles(differences, n=5, method="inclusive")
            middle = statistics.median(differences)
            name = methods.label(family, [] if one is None else [one], variant)
            note = f"{name}: {middle:+.1f} ({low:+.1f} to {high:+.1f})"
            points.append(Point(series, statistics.fmean(trained), middle, low, high, note, series))
    if len({point.series for point in points}) < 2:
        return []
    names = ", ".join(column.label for column in base)
    return [
        _figure(
            group,
            "overview",
            "Score against trained parameters",
            "All tasks",
            f"Difference to full fine-tuning in points over {names}: the median task, bars from the "
            "20th to the 80th percentile of tasks, as in figure 1 of the paper.",
            [point.note for point in points],
            charts.curves(points, TRAINED, Axis("points above full fine-tuning"), _order(group)),
        )
    ]


def _trade_off(group: Group, column: Column) -> list[Figure]:
    """The paper's figures 3 and 4: score against what trains, each size at its best candidate."""
    points = []
    for (family, variant), cells in _methods(group).items():
        series = methods.label(family, [], variant)
        for one, members in _by_size(on_column(column, cells)):
            name = methods.label(family, [] if one is None else [one], variant)
            chosen = methods.choose(members)
            points += _point(series, chosen, column, chosen.facts.ledger["trained"], name, series)
    if len(points) < 2:
        return []
    return [
        _figure(
            group,
            f"{column.label}-parameters",
            "Score against trained parameters",
            f"{column.label}{_note(column)}",
            f"{_metric(column)}, mean over seeds; each size at its best candidate. {ERROR_BARS}",
            [point.note for point in points],
            charts.curves(points, TRAINED, Axis(_metric(column)), _order(group)),
        )
    ]


def _seed_dots(group: Group, column: Column) -> list[Figure]:
    position = group.comparison.columns.index(column)
    seeds, summaries, hidden = [], [], []
    for row in group.comparison.rows:
        entry = row.entries[position]
        if not isinstance(entry, Entry):
            continue
        if entry.diverged:
            hidden.append(
                f"{row.label}: {_count(entry.diverged, 'seed')} diverged, without a score."
            )
        if entry.mean is None:
            continue
        for seed, score in entry.scores.items():
            state = "collapsed" if seed in entry.collapsed else "finished"
            seeds.append(Dot(row.label, 100 * score, str(seed), state))
        between = entry.interval
        low, high = (100 * between.low, 100 * between.high) if between else (None, None)
        told = f", 95 % interval {low:.1f} to {high:.1f}" if between else ""
        note = (
            f"{row.label}: mean {tables.percent(entry.mean)}{told}, {_count(entry.scores, 'seed')}"
        )
        summaries.append(Summary(row.label, 100 * entry.mean, low, high, note))
    if not summaries:
        return []
    return [
        _figure(
            group,
            f"{column.label}-seeds",
            "Seeds",
            f"{column.label}{_note(column)}",
            " ".join([DOTS, *hidden]),
            [one.note for one in summaries],
            charts.dots(seeds, summaries, Axis(_metric(column)), _order(group)),
        )
    ]


def _learning_curves(group: Group, column: Column) -> list[Figure]:
    """The selecting split by epoch: each method's best candidate, its mean and its seeds."""
    means: list[Point] = []
    faint: list[Point] = []
    for (family, variant), cells in _methods(group).items():
        here = on_column(column, cells)
        if not here:
            continue
        cell = methods.choose(here)
        series = methods.label(family, [], variant)
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
            note = f"{series}, epoch {epoch}: {tables.percent(mean)}, {_count(values, 'seed')}"
            means.append(Point(series, epoch, 100 * mean, None, None, note, series))
    if len({point.x for point in means}) < 2:
        return []
    split = on_column(column, group.cells)[0].selecting
    last = {point.series: point.note for point in means}
    return [
        _figure(
            group,
            f"{column.label}-learning",
            "Learning curves",
            f"{column.label}{_note(column)}",
            f"{_metric(column, split)} after each epoch, each method at its best candidate: the mean "
            "over seeds, and the seeds as thin lines.",
            list(last.values()),
            charts.curves(
                means,
                Axis("epoch", integer=True),
                Axis(_metric(column, split)),
                _order(group),
                faint=faint,
            ),
        )
    ]


def _ablations(group: Group) -> list[Figure]:
    """A chart and a table for each ablation and task, from the ablations' own result files."""
    return [_ablation(group, result, task) for result in group.ablations for task in result.tasks]


def _ablation(group: Group, result: AblationResult, task: AblationTask) -> Figure:
    y = Axis(f"{tables.METRIC_NAMES[task.headline]} on {task.split}, in per cent".replace("_", " "))
    points: list[Point] = []
    seeds: list[Dot] = []
    summaries: list[Summary] = []
    order: dict[str, int] = {}
    is_few = ablation.is_few(task)
    for one in task.points:
        scores, name = one.scores[task.headline], ablation.title(one, result, task)
        if scores.mean is None:
            continue
        mean, between, error = 100 * scores.mean, scores.interval, scores.standard_error
        note = f"{name}: {tables.percent(scores.mean)}, {_count(scores.values, 'seed')}"
        if result.by is None:
            order.setdefault(name, len(order))
            low, high = (None, None)
            if is_few and error is not None:
                low, high = mean - 100 * error, mean + 100 * error
            elif between and len(scores.values) >= stats.FEWEST:
                low, high = 100 * between.low, 100 * between.high
            summaries.append(Summary(name, mean, low, high, note))
            for seed, value in scores.values.items():
                state = "collapsed" if seed in one.collapsed else "finished"
                seeds.append(Dot(name, 100 * value, str(seed), state))
        else:
            order.setdefault(one.method, len(order))
            low, high = (None, None) if error is None else (mean - 100 * error, mean + 100 * error)
            x = one.trained if result.by == "trained" else one.value
            points.append(Point(one.method, float(x or 0), mean, low, high, note, one.method))
    if result.by is None:
        spec = charts.dots(seeds, summaries, y, order)
        bars = DOTS_OF_FEW if is_few else DOTS
    else:
        spec, bars = charts.curves(points, AXES[result.by], y, order), ERROR_BARS
    spread = f"In the table: mean ± {ablation.spread_name(task)}."
    verdict = ablation.verdict(result, task)
    said = [bars, spread, *ablation.remarks(result, task), verdict, result.protocol]
    note = "" if task.data.sample else tables.data_note(task.data)
    return _figure(
        group,
        f"ablate-{result.kind}-{result.digest[:6]}-{task.task}",
        "Ablations",
        ablation.heading(result, task) + note,
        " ".join(filter(None, said)),
        [point.note for point in points] + [one.note for one in summaries],
        spec,
        ablation.columns(result, task),
    )


def _search(group: Group, column: Column) -> list[Figure]:
    """What choosing the best of n candidates is worth, of those that the first seed was tried on."""
    points = []
    for (family, variant), cells in _methods(group).items():
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
            counted = words.plural(number, "candidate")
            note = f"{series}, best of {counted}: {tables.percent(best)}"
            points.append(Point(series, number, 100 * best, None, None, note, series))
    if len({point.series for point in points}) < 2:
        return []
    split = on_column(column, group.cells)[0].selecting
    last = {point.series: point.note for point in points}
    return [
        _figure(
            group,
            f"{column.label}-search",
            "Settings",
            f"{column.label}: what a search is worth{_note(column)}",
            f"{_metric(column, split)} that the best of n candidates (learning rates, sizes, epochs) is "
            "expected to reach with one seed (Dodge et al. 2019): compare methods at the same n.",
            list(last.values()),
            charts.curves(
                points,
                Axis("candidates tried", integer=True),
                Axis(_metric(column, split)),
                _order(group),
            ),
        )
    ]


def _heatmaps(group: Group, column: Column) -> list[Figure]:
    """What trained adapters are good for, layer by layer, of runs of which `ablate spans` was asked."""
    made = []
    for cell in on_column(column, group.cells):
        result = CellFolder(cell.folder).read_spans()
        if result is None:
            continue
        for metric in heatmap.metrics(result):
            name = tables.METRIC_NAMES[metric]
            made.append(
                _figure(
                    group,
                    f"spans-{cell.folder.name}-{metric}",
                    "Without the adapters of a span of layers",
                    f"{column.label}: {name} without some layers' adapters, {cell.folder.name}",
                    f"Relative change of {name} on {result.split} when the trained adapters of all "
                    "layers from first to last are removed and nothing is trained again; LayerNorms "
                    f"and head stay. Mean over {_count(result.seeds, 'seed')}.",
                    [
                        f"layers {one.first} to {one.last}: {tables.percent(one.change[metric].mean)} %"
                        for one in result.cells
                    ],
                    heatmap.chart(result, metric),
                )
            )
    return made


def _costs(group: Group, column: Column) -> list[Figure]:
    """What a seed took: seconds of training, and memory."""
    position = group.comparison.columns.index(column)
    times, memories, machines = [], [], set()
    for row in group.comparison.rows:
        spent = row.places[position].cost
        if spent is None:
            continue
        machines |= set(spent.machines)
        epochs = words.plural(spent.epochs or 0, "epoch")
        note = f"{row.label}: {tables.duration(spent.seconds)}, {epochs}"
        times.append(Bar(row.label, spent.seconds, note, epochs))
        if spent.peak_memory_bytes is not None:
            note = f"{row.label}: {tables.size(spent.peak_memory_bytes)}"
            memories.append(Bar(row.label, spent.peak_memory_bytes / 1e9, note))
    where = f"Measured on {'; '.join(sorted(machines))}"
    warning = "" if len(machines) < 2 else ": machines differ, so compare with care"
    made = []
    if times:
        made.append(
            _figure(
                group,
                f"{column.label}-time",
                "Time and memory, task by task",
                f"{column.label}: training time of a seed{_note(column)}",
                "Mean over seeds, for the epochs that are written beside the bars; evaluation apart. "
                f"{where}{warning}.",
                [bar.note for bar in times],
                charts.bars(times, Axis("seconds"), _order(group)),
            )
        )
    if memories:
        made.append(
            _figure(
                group,
                f"{column.label}-memory",
                "Time and memory, task by task",
                f"{column.label}: largest memory{_note(column)}",
                "Peak while a seed trains, the least of its seeds: on a CPU of the whole process, on "
                f"CUDA what was allocated there. {where}{warning}.",
                [bar.note for bar in memories],
                charts.bars(memories, Axis("GB"), _order(group)),
            )
        )
    return made


def _figure(
    group: Group,
    name: str,
    chapter: str,
    title: str,
    caption: str,
    notes: Iterable[str],
    spec: charts.Spec,
    table: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    marked = f"{title} · sample data, not GLUE" if group.comparison.sample else title
    return Figure(
        name=re.sub(r"[^a-z0-9-]+", "-", f"{group.comparison.name}-{name}".lower()),
        chapter=chapter,
        title=marked,
        subtitle=(chapter, f"{group.comparison.title} · {words.in_short(group.cells[0])}"),
        alt=f"{marked}. {'; '.join(notes)}.",
        caption=caption.strip(),
        spec=spec,
        table=table or {},
    )


def _methods(group: Group) -> dict[tuple[str, str], Sequence[Cell]]:
    """The cells of each method that has a row."""
    shown = {(row.method, row.variant) for row in group.comparison.rows}
    return {key: cells for key, cells in group.candidates.items() if key in shown}


def _order(group: Group) -> dict[str, int]:
    """The number of each series' colour: a method's is the same with and without its sizes."""
    order: dict[str, int] = {}
    number = {key: position for position, key in enumerate(_methods(group))}
    for row in group.comparison.rows:
        position = number[row.method, row.variant]
        order[methods.label(row.method, [], row.variant)] = position
        order[row.label] = position
    return order


def _by_size(cells: Sequence[Cell]) -> list[tuple[int | None, list[Cell]]]:
    found: dict[int | None, list[Cell]] = {}
    for cell in cells:
        found.setdefault(methods.size(cell), []).append(cell)
    return sorted(found.items(), key=lambda item: item[0] or 0)


def _difference(cell: Cell, column: Column, full: Sequence[Cell]) -> stats.PairedDifference | None:
    """To full fine-tuning that is trained alike, which is 0 for that itself; None without any."""
    alike = reference_candidates(cell, column, full)
    if not alike:
        return None
    reference = methods.choose(alike)
    own, other = (one.values(column.split, column.metric) for one in (cell, reference))
    return stats.paired_difference(own, other)


def _point(series: str, cell: Cell, column: Column, x: float, name: str, line: str) -> list[Point]:
    """The cell's mean with its standard error; nothing without a score."""
    values = list(cell.values(column.split, column.metric).values())
    mean, error = stats.mean(values), stats.standard_error(values)
    if mean is None:
        return []
    low, high = (None, None) if error is None else (100 * (mean - error), 100 * (mean + error))
    told = "" if error is None else f" ± {100 * error:.1f}"
    note = f"{name}: {tables.percent(mean)}{told}, {_count(values, 'seed')}"
    return [Point(series, x, 100 * mean, low, high, note, line)]


def _metric(column: Column, split: str | None = None) -> str:
    name = tables.METRIC_NAMES[column.metric]
    return f"{name[0].upper()}{name[1:]} on {split or column.split}, in per cent".replace("_", " ")


def _note(column: Column) -> str:
    return "" if column.data.sample else tables.data_note(column.data)


def _count(things: Collection[object], noun: str) -> str:
    return words.plural(len(things), noun)
