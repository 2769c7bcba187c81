"""The paper's Table 1 from a store's cells: a row a method, a column a task, and what parts them.

Within a comparison everything may be set side by side: one backbone, one protocol, the sample or real
data.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptertune import config as configuration
from adaptertune import stats
from adaptertune.report import words
from adaptertune.report.comparison import costs, methods
from adaptertune.report.comparison.averages import glue_average, plain_mean
from adaptertune.report.comparison.columns import (
    columns_of,
    count_tasks,
    has_several_sets,
    on_column,
)
from adaptertune.report.comparison.fill import fill_command
from adaptertune.report.comparison.methods import SEARCHED, SIZE_KEYS, choose
from adaptertune.report.comparison.published import published_rows
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Beside, Column, Comparison, Cost, Entry, Hole, Place, Row
from adaptertune.runs.analyses import AblationResult, AblationTask


@dataclass(frozen=True)
class Group:
    """A comparison and the cells that it is made of."""

    comparison: Comparison
    cells: tuple[Cell, ...]
    methods: Mapping[tuple[str, str], Sequence[Cell]]
    """Cells by method and by what sets it apart (in words, often empty), in the table's order."""
    candidates: Mapping[tuple[str, str], Sequence[Cell]]
    """Of these, the ones that may stand for a row: without what ran for an ablation alone."""
    ablations: tuple[AblationResult, ...]
    """Those that these cells belong to."""


def compare(cells: Iterable[Cell], ablations: Sequence[AblationResult] = ()) -> list[Group]:
    """Sort cells into comparisons; real data before the sample, the paper's protocol before others.

    Args:
        ablations: what ran for them alone stands there, and in no row.
    """
    apart: dict[tuple[bool, str, bool, str, str], list[Cell]] = {}
    for cell in cells:
        apart.setdefault(_comparable(cell), []).append(cell)
    return [
        _group(members, number, ablations)
        for number, (_, members) in enumerate(sorted(apart.items()), 1)
    ]


def _comparable(cell: Cell) -> tuple[bool, str, bool, str, str]:
    """What parts comparisons, in their order."""
    facts, keep_epoch = cell.facts, cell.config["training"]["keep_epoch"]
    is_another = cell.protocol != "paper"
    return (facts.data.sample, facts.backbone.sha256, is_another, cell.protocol, keep_epoch)


def _group(cells: Sequence[Cell], number: int, ablations: Sequence[AblationResult]) -> Group:
    here = {cell.digest for cell in cells}
    ablations = [one for one in ablations if here.intersection(one.cells)]
    of_ablations = _of_ablations(cells, ablations)
    kept = [cell for cell in cells if cell.digest not in of_ablations]
    facts = cells[0].facts
    columns = columns_of(kept)
    by_method = methods.by_method(cells)
    candidates = {
        key: left
        for key, members in by_method.items()
        if (left := [cell for cell in members if cell.digest not in of_ablations])
    }
    by_row = methods.rows(candidates)
    made = [_row(key, members, columns, kept) for key, members in by_row.items()]
    # A variant on some tasks is somebody's ablation, no call to run it on all, unless there is no other.
    whole = {row.method for row in made if not (row.variant and _has_hole(row))}
    rows, elsewhere = [], []
    for row in made:
        if row.variant and _has_hole(row) and row.method in whole:
            elsewhere.append(row.label)
        else:
            rows.append(row)
    *_, protocol, keep_epoch = _comparable(cells[0])
    title = " · ".join(
        [
            "Sample data, not GLUE" if facts.data.sample else "Real data",
            facts.backbone.name,
            *([f"protocol {protocol}"] if protocol != "paper" else []),
            *(["last epoch kept"] if keep_epoch == "last" else []),
        ]
    )
    comparison = Comparison(
        name=f"{'sample' if facts.data.sample else 'data'}-{number}",
        title=title,
        sample=facts.data.sample,
        backbone=facts.backbone,
        protocol=words.protocol(kept or cells),
        num_tasks=count_tasks(columns),
        columns=columns,
        rows=rows,
        elsewhere=elsewhere,
        of_ablations=[
            label
            for label in _labels(by_method, of_ablations)
            if label not in {row.label for row in rows}
        ],
        published=[] if facts.data.sample else published_rows(columns, kept),
        sentences=words.sentences(columns, rows),
    )
    return Group(comparison, tuple(cells), by_method, candidates, tuple(ablations))


def _has_hole(row: Row) -> bool:
    """Whether a column lacks it."""
    return any(isinstance(entry, Hole) for entry in row.entries)


def _of_ablations(cells: Sequence[Cell], ablations: Iterable[AblationResult]) -> set[str]:
    """Digests of cells that ran for an ablation alone: no sweep lists them.

    What an ablation holds its other points against is the method as the recipe has it, and so may
    stand in a row; but not on a task where nothing else ran, which would be a column of holes.
    """
    listed = {digest for one in ablations for digest in one.cells}
    references = {digest for one in ablations for task in one.tasks for digest in _references(task)}
    alone = [cell for cell in cells if cell.search is None and cell.digest in listed]
    digests = {cell.digest for cell in alone}
    compared = {cell.task_digest for cell in cells if cell.digest not in digests}
    return {
        cell.digest
        for cell in alone
        if cell.digest not in references or (compared and cell.task_digest not in compared)
    }


def _references(task: AblationTask) -> set[str]:
    """Digests of the points that others are held against, one a method.

    Full fine-tuning at each learning rate, each beside adapters at the same, is no method as it is
    meant to be used, but what is varied.
    """
    places = {point.reference for point in task.points if point.reference is not None}
    points = [task.points[place] for place in places]
    of_method = Counter(point.method for point in points)
    return {point.digest for point in points if of_method[point.method] == 1}


def _labels(by_method: Mapping[tuple[str, str], Sequence[Cell]], digests: set[str]) -> list[str]:
    """What the cells with these digests are called, each name once."""
    found = [
        methods.label(family, [] if (size := methods.size(cell)) is None else [size], variant)
        for (family, variant), cells in by_method.items()
        for cell in cells
        if cell.digest in digests
    ]
    return list(dict.fromkeys(found))


def _row(
    key: methods.RowKey,
    members: Sequence[Cell],
    columns: Sequence[Column],
    everything: Sequence[Cell],
) -> Row:
    family, sizes, variant = key
    full = [] if family == "full" else of_full(everything)
    places: list[Place] = []
    references: list[Cost | None] = []
    shown: dict[str, Cell] = {}  # by task and its rows: two columns may show one cell
    for column in columns:
        candidates = on_column(column, members)
        beside, expense, reference = None, None, None
        if candidates:
            cell = choose(candidates)
            entry: Entry | Hole = _entry(cell, column, candidates)
            alike = reference_candidates(cell, column, full)
            reference = choose(alike) if alike else None
            beside = _beside(cell, reference, column, len(alike)) if reference else None
            if column.task_digest not in shown:
                shown[column.task_digest], expense = cell, costs.cost(cell, reference)
        else:
            there = on_column(column, everything)
            gone = _is_gone(there, everything)
            entry = Hole(command=None if gone else fill_command(sizes, members, there))
        places.append(Place(entry=entry, beside=beside, cost=expense))
        references.append(costs.cost(reference, None) if reference else None)
    entries = [place.entry for place in places]
    scores = [entry.mean if isinstance(entry, Entry) else None for entry in entries]
    metrics = [entry.means if isinstance(entry, Entry) else {} for entry in entries]
    ledgers = [cell.facts.ledger for cell in shown.values()]
    differences = [place.beside.difference.mean for place in places if place.beside]
    share = statistics.fmean(ledger["share_of_encoder_layers"] for ledger in ledgers)
    num_tasks, several = count_tasks(columns), has_several_sets(columns)
    return Row(
        label=methods.label(family, sizes, variant),
        method=family,
        variant=variant,
        places=places,
        mean=None if several else plain_mean(scores),
        glue_average=None if several else glue_average(columns, metrics),
        trained=statistics.fmean(ledger["trained"] for ledger in ledgers),
        # Full fine-tuning trains all of the encoder, and more: the paper says 100 %.
        share_of_encoder_layers=1.0 if family == "full" else share,
        share_of_all_parameters=statistics.fmean(
            ledger["share_of_all_parameters"] for ledger in ledgers
        ),
        multiple=num_tasks if family == "full" else 1 + num_tasks * share,
        wins=sum(difference > 0 for difference in differences),
        losses=sum(difference < 0 for difference in differences),
        total_cost=costs.total([place.cost for place in places], references),
    )


def _is_gone(there: Sequence[Cell], everything: Sequence[Cell]) -> bool:
    """Whether these cells' rows or task have been changed since: later ones found others in the same
    place.
    """

    def place(cell: Cell) -> tuple[Any, Any]:
        # An older record has the path of a task's file as it was typed.
        return Path(cell.config["task"]).name, cell.config["data"]

    def last(cells: Iterable[Cell]) -> str:
        return max((seed.cost.finished_at for cell in cells for seed in cell.seeds), default="")

    now = there[0].task_digest
    others = [
        cell for cell in everything if place(cell) == place(there[0]) and cell.task_digest != now
    ]
    return last(others) > last(there)


def of_full(cells: Iterable[Cell]) -> list[Cell]:
    """Full fine-tuning's, everything trained."""
    everything = configuration.Full().model_dump()
    return [cell for cell in cells if cell.config["method"] == everything]


def reference_candidates(cell: Cell, column: Column, full: Sequence[Cell]) -> list[Cell]:
    """Cells of full fine-tuning that a cell may be held against on a column, of which the best one is:
    all that is neither the method's own nor searched is the same.
    """
    return [other for other in on_column(column, full) if methods.alike(cell, other)]


def _beside(cell: Cell, full: Cell, column: Column, num_candidates: int) -> Beside | None:
    own, other = (one.values(column.split, column.metric) for one in (cell, full))
    difference = stats.paired_difference(own, other)
    if difference is None:
        return None
    both = own.keys() & other.keys()
    best_runs, untested = _best_runs(cell, full, column.split)
    return Beside(
        run=full.digest,
        num_candidates=num_candidates,
        own=statistics.fmean(own[seed] for seed in both),
        full=statistics.fmean(other[seed] for seed in both),
        difference=difference,
        best_runs=best_runs,
        untested=untested,
    )


def _entry(cell: Cell, column: Column, candidates: Sequence[Cell]) -> Entry:
    by_seed = cell.values(column.split, column.metric)
    values = list(by_seed.values())
    best = cell.best_seed
    means = {
        metric: stats.mean(list(cell.values(column.split, metric).values()))
        for metric in cell.metrics
    }
    keys = (*SIZE_KEYS, *SEARCHED)
    return Entry(
        run=cell.digest,
        settings={key: cell.settings[key] for key in keys if key in cell.settings},
        num_candidates=len(candidates),
        sizes=sorted({one for other in candidates if (one := methods.size(other)) is not None}),
        num_seeds=len(cell.seeds),
        n=len(values),
        mean=stats.mean(values),
        deviation=stats.deviation(values),
        standard_error=stats.standard_error(values),
        interval=stats.mean_interval(values),
        best=None if best is None else by_seed.get(best),
        expected_best=stats.expected_maximum(values, len(values)) if values else None,
        scores=by_seed,
        means={metric: value for metric, value in means.items() if value is not None},
        diverged=cell.diverged,
        collapsed=cell.collapsed(column.split),
    )


def _best_runs(cell: Cell, other: Cell, split: str) -> tuple[stats.McNemar | None, str | None]:
    """The McNemar test of two cells' best seeds, or why there is none."""
    if cell.is_regression:
        return None, "a score is neither right nor wrong"
    if cell.best_seed is None or other.best_seed is None:
        return None, "no seed came to a score that selects"
    own, beside = cell.labels(cell.best_seed, split), other.labels(other.best_seed, split)
    if own is None or beside is None:
        return None, "the best seeds' answers are not kept"
    if own.true.shape != beside.true.shape or (own.true != beside.true).any():
        return None, "the two answered other examples"
    return stats.mcnemar(own.predicted, beside.predicted, own.true), None
