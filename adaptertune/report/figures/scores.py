"""Scores of methods: Table 1 as a picture, score against what trains, seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from adaptertune import stats
from adaptertune.report import charts, tables
from adaptertune.report.charts import Axis, Dot, Point, Square, Summary
from adaptertune.report.comparison import Group, methods, of_full, reference_candidates
from adaptertune.report.comparison.columns import on_column
from adaptertune.report.evidence import Cell
from adaptertune.report.figures.figure import (
    DOTS,
    DRAWN_DOTS,
    DRAWN_ERRORS,
    ERROR_BARS,
    TRAINED,
    Figure,
    colours,
    data_note,
    figure,
    metric_title,
    shown_methods,
)
from adaptertune.report.schema import Column, Entry

FEWEST_TASKS = 3  # with a median, and percentiles beside it


def table_1(group: Group) -> list[Figure]:
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
            squares.append(Square(row.label, column.label, text, change, note))
    if len(shown.rows) < 2 or not any(square.change is not None for square in squares):
        return []
    return [
        figure(
            group,
            "table-1",
            "Table 1",
            "Scores, and what is lost or gained",
            "means over seeds, in per cent; †: some seeds collapsed or diverged",
            f"Means over seeds in per cent, {_metrics(shown.columns)}. Colour: points above (purple) or "
            "below (orange) full fine-tuning, paired over seeds; grey: nothing to compare with. †: some "
            "seeds collapsed or diverged.",
            [square.note for square in squares],
            charts.matrix(
                squares,
                [row.label for row in shown.rows],
                [column.label for column in shown.columns],
                "points above full fine-tuning",
            ),
        )
    ]


def _metrics(columns: Sequence[Column]) -> str:
    """``accuracy on validation (RTE), F1 on validation (MRPC)``."""
    named: dict[str, list[str]] = {}
    for column in columns:
        name = f"{tables.METRIC_NAMES[column.metric]} on {column.split.replace('_', ' ')}"
        named.setdefault(name, []).append(column.label)
    return ", ".join(f"{name} ({', '.join(labels)})" for name, labels in named.items())


def overview(group: Group) -> list[Figure]:
    """The paper's figure 1: the difference to full fine-tuning over tasks, against what trains."""
    columns = group.comparison.columns
    full = of_full(cell for cells in group.candidates.values() for cell in cells)
    base = [column for column in columns if on_column(column, full)]
    if len(base) < FEWEST_TASKS:
        return []
    points = []
    for (family, variant), cells in shown_methods(group).items():
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
        figure(
            group,
            "overview",
            "Score against trained parameters",
            "All tasks: points above full fine-tuning by trained parameters",
            f"median of {len(base)} sets, bars from the 20th to the 80th percentile of sets",
            f"Difference to full fine-tuning in points over {names}: the median task, bars from the "
            "20th to the 80th percentile of tasks, as in figure 1 of the paper.",
            [point.note for point in points],
            charts.curves(points, TRAINED, Axis("points above full fine-tuning"), colours(group)),
        )
    ]


def trade_off(group: Group, column: Column) -> list[Figure]:
    """The paper's figures 3 and 4: score against what trains, each size at its best candidate."""
    found = []
    for (family, variant), cells in shown_methods(group).items():
        for one, members in _by_size(on_column(column, cells)):
            name = methods.label(family, [] if one is None else [one], variant)
            found.append((methods.label(family, [], variant), name, methods.choose(members)))
    trained_for = {int(chosen.config["training"]["epochs"]) for *_, chosen in found}
    epochs = f" · {min(trained_for)} to {max(trained_for)} epochs" if len(trained_for) > 1 else ""
    points = []
    for series, name, chosen in found:
        own, trained = chosen.config["training"]["epochs"], chosen.facts.ledger["trained"]
        lasted = tables.plural(own, "epoch")
        told = f"{name} ({lasted})" if epochs else name
        made = _point(series, chosen, column, trained, told, f"{series}, {lasted}")
        points += [replace(point, beside=f"{own} ep." if epochs else "") for point in made]
    joined = " Lines join what was trained for the same number of epochs." if epochs else ""
    if len(points) < 2:
        return []
    named = column.label
    return [
        figure(
            group,
            f"{named}-parameters",
            "Score against trained parameters",
            f"{named}{epochs}{data_note(column)}",
            f"{DRAWN_ERRORS}; each size at its best candidate",
            f"{metric_title(column)}, mean over seeds; each size at its best candidate.{joined} "
            f"{ERROR_BARS}",
            [point.note for point in points],
            charts.curves(points, TRAINED, Axis(metric_title(column)), colours(group)),
        )
    ]


def seed_dots(group: Group, column: Column) -> list[Figure]:
    """Every seed of every method, with the mean and its interval."""
    position = group.comparison.columns.index(column)
    seeds, summaries, hidden = [], [], []
    for row in group.comparison.rows:
        entry = row.entries[position]
        if not isinstance(entry, Entry):
            continue
        if entry.diverged:
            hidden.append(
                f"{row.label}: {tables.plural(len(entry.diverged), 'seed')} diverged, without a score."
            )
        if entry.mean is None:
            continue
        for seed, score in entry.scores.items():
            state = "collapsed" if seed in entry.collapsed else "finished"
            seeds.append(Dot(row.label, 100 * score, str(seed), state))
        between = entry.interval
        low, high = (100 * between.low, 100 * between.high) if between else (None, None)
        told = f", 95 % interval {low:.1f} to {high:.1f}" if between else ""
        over = tables.plural(len(entry.scores), "seed")
        note = f"{row.label}: mean {tables.percent(entry.mean)}{told}, {over}"
        summaries.append(Summary(row.label, 100 * entry.mean, low, high, note))
    if not summaries:
        return []
    named = column.label
    return [
        figure(
            group,
            f"{named}-seeds",
            "Seeds",
            f"{named}{data_note(column)}",
            DRAWN_DOTS,
            " ".join([DOTS, *hidden]),
            [one.note for one in summaries],
            charts.dots(seeds, summaries, Axis(metric_title(column)), colours(group)),
        )
    ]


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
    note = f"{name}: {tables.percent(mean)}{told}, {tables.plural(len(values), 'seed')}"
    return [Point(series, x, 100 * mean, low, high, note, line)]
