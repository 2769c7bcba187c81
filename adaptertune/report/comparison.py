"""The paper's Table 1 from a store's cells: a row a method, a column a task, and what parts them.

Within a comparison everything may be set side by side: one backbone, one protocol, the sample or real
data.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adaptertune import stats
from adaptertune.report import costs, methods, words
from adaptertune.report.columns import columns_of, glue_average, on_column, plain_mean
from adaptertune.report.evidence import Cell, train_command
from adaptertune.report.methods import SEARCHED, SIZE_KEYS, choose
from adaptertune.report.published import published_rows
from adaptertune.report.schema import Column, Comparison, Cost, Entry, Hole, Row
from adaptertune.runs.results import AblationResult


@dataclass(frozen=True)
class Group:
    """A comparison and the cells that it is made of."""

    comparison: Comparison
    cells: tuple[Cell, ...]
    methods: Mapping[tuple[str, str], Sequence[Cell]]
    """Cells by method and by what sets it apart (in words, often empty), in the table's order."""
    ablations: tuple[AblationResult, ...]
    """Those that these cells belong to."""


def compare(cells: Iterable[Cell], ablations: Sequence[AblationResult] = ()) -> list[Group]:
    """Sort cells into comparisons; real data before the sample.

    Args:
        ablations: variants that ran for them alone have no row.
    """
    apart: dict[tuple[bool, str, str, str], list[Cell]] = {}
    for cell in cells:
        apart.setdefault(_comparable(cell), []).append(cell)
    return [
        _group(members, number, ablations)
        for number, (_, members) in enumerate(sorted(apart.items()), 1)
    ]


def _comparable(cell: Cell) -> tuple[bool, str, str, str]:
    training = cell.config["training"]
    protocol = str(cell.config.get("protocol", "paper"))
    facts = cell.facts
    return (facts.data.sample, facts.backbone.sha256, protocol, training["keep_epoch"])


def _group(cells: Sequence[Cell], number: int, ablations: Sequence[AblationResult]) -> Group:
    here = {cell.digest for cell in cells}
    ablations = [one for one in ablations if here.intersection(one.cells)]
    ablated = {digest for one in ablations for digest in one.cells}
    facts = cells[0].facts
    columns = columns_of(cells)
    by_method = methods.by_method(cells)
    by_row = methods.rows(by_method)
    reference = next((key for key in by_row if key[0] == "full"), None)
    rows, elsewhere, of_ablations = [], [], []
    for key, members in by_row.items():
        if key[-1] and ablated.issuperset(cell.digest for cell in members):
            of_ablations.append(methods.label(*key))
            continue
        full = [] if reference is None or key == reference else by_row[reference]
        row = _row(key, members, columns, full, cells)
        has_hole = any(isinstance(entry, Hole) for entry in row.entries)
        if row.variant and has_hole:  # somebody's ablation on one task: no call to run it on all
            elsewhere.append(row.label)
        else:
            rows.append(row)
    _, _, protocol, keep_epoch = _comparable(cells[0])
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
        protocol=words.protocol(cells),
        num_tasks=facts.ledger["num_tasks"],
        columns=columns,
        rows=rows,
        elsewhere=elsewhere,
        of_ablations=of_ablations,
        published=[] if facts.data.sample else published_rows(columns, facts.backbone.name),
        sentences=words.sentences(columns, rows),
    )
    return Group(comparison, tuple(cells), by_method, tuple(ablations))


def _row(
    key: methods.RowKey,
    members: Sequence[Cell],
    columns: Sequence[Column],
    reference: Sequence[Cell],
    everything: Sequence[Cell],
) -> Row:
    family, sizes, variant = key
    entries: list[Entry | Hole] = []
    differences: list[stats.PairedDifference | None] = []
    best_runs: list[stats.McNemar | None] = []
    expenses: list[Cost | None] = []
    of_full: list[Cost | None] = []
    shown: dict[tuple[str, str], Cell] = {}  # by task and its rows: two columns may show one cell
    for column in columns:
        candidates, other = on_column(column, members), on_column(column, reference)
        full = choose(other) if other else None
        difference, best_run, expense = None, None, None
        if candidates:
            cell = choose(candidates)
            entries.append(_entry(cell, column, len(candidates)))
            place = column.task, column.data.fingerprint
            if place not in shown:
                shown[place], expense = cell, costs.cost(cell, full)
            if full:
                difference = stats.paired_difference(
                    cell.values(column.split, column.metric),
                    full.values(column.split, column.metric),
                )
                best_run = _best_runs(cell, full, column.split)
        else:
            entries.append(_hole(members[0], on_column(column, everything)[0]))
        differences.append(difference)
        best_runs.append(best_run)
        expenses.append(expense)
        of_full.append(costs.cost(full, None) if full else None)
    scores = [entry.mean if isinstance(entry, Entry) else None for entry in entries]
    metrics = [entry.means if isinstance(entry, Entry) else {} for entry in entries]
    ledgers = [cell.facts.ledger for cell in shown.values()]

    def over_tasks(name: str) -> float:
        return statistics.fmean(ledger[name] for ledger in ledgers)

    return Row(
        label=methods.label(family, sizes, variant),
        method=family,
        variant=variant,
        entries=entries,
        mean=plain_mean(scores),
        glue_average=glue_average(columns, metrics),
        trained=over_tasks("trained"),
        # Full fine-tuning trains all of the encoder, and more: the paper says 100 %.
        share_of_encoder_layers=1.0 if family == "full" else over_tasks("share_of_encoder_layers"),
        share_of_all_parameters=over_tasks("share_of_all_parameters"),
        multiple=over_tasks("multiple_of_encoder_layers"),
        differences=differences,
        best_runs=best_runs,
        wins=sum(found.mean > 0 for found in differences if found),
        losses=sum(found.mean < 0 for found in differences if found),
        costs=expenses,
        total_cost=costs.total(expenses, of_full),
    )


def _entry(cell: Cell, column: Column, num_candidates: int) -> Entry:
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
        num_candidates=num_candidates,
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


def _best_runs(cell: Cell, other: Cell, split: str) -> stats.McNemar | None:
    """The McNemar test of two cells' best seeds; None without labels of both."""
    if cell.best_seed is None or other.best_seed is None:
        return None
    own, beside = cell.labels(cell.best_seed, split), other.labels(other.best_seed, split)
    if own is None or beside is None:
        return None
    return stats.mcnemar(own.predicted, beside.predicted, own.true)


def _hole(like: Cell, there: Cell) -> Hole:
    """For a cell like one, on the task and data of another."""
    moved = {key: there.config[key] for key in ("task", "data")}
    origins = {key: origin for key, origin in like.origins.items() if not key.startswith("data.")}
    origins |= {key: origin for key, origin in there.origins.items() if key.startswith("data.")}
    return Hole(command=train_command({**like.config, **moved}, origins))
