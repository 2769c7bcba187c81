"""A comparison in sentences: how it was made, what it comes to, what to know of its figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from adaptertune import stats
from adaptertune.report import tables
from adaptertune.report.columns import first_of_task
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Column, Comparison, Entry, Row
from adaptertune.runs import selection

TOO_NARROW = "too narrow for few seeds"  # an interval; stats.mean_interval tells by how much
DIFFERENCES = (
    "Mean over n seeds that both have, each less the other's with the same seed; of "
    f"{stats.FEWEST} pairs or more its 95 % bootstrap interval, {TOO_NARROW}, and p of the Wilcoxon "
    "signed-rank test, two-sided: of five pairs it can't be below 0.0625. "
    "Best: McNemar's exact test of the answers of the two seeds that are best on the selecting split. "
    "No p is corrected for the number of tests. Higher / lower: columns."
)
COSTS = (
    "Mean time over seeds without evaluation; the peak of memory, the least of the seeds. x: of full "
    "fine-tuning's, where one machine ran both alike. All: the tasks one after the other, those of "
    "which both were run on one machine, and the largest peak."
)


def in_short(cell: Cell) -> str:
    """What chose and what is shown, for a picture's second line."""
    shown = " and ".join(sorted({split.split("_")[0] for split in cell.reported}))
    if cell.selecting in cell.reported:
        return f"chosen and reported on {shown}"
    return f"chosen on a {cell.selecting} part of the training set, reported on {shown}"


def protocol(cells: Sequence[Cell]) -> str:
    """What was selected on what, and what is shown, in words."""
    cell = cells[0]
    best = cell.config["training"]["keep_epoch"] == "best"
    same = cell.selecting in cell.reported
    selecting = "validation" if same else f"the {cell.selecting} part of the training set"
    epoch = f"its best epoch on {selecting}" if best else "its last epoch"
    by = selection.statistic_of(cell.protocol)
    best_of = "best single run" if by == "best" else "highest mean"
    chosen = (
        f"Where a method was searched, the candidate with the {best_of} on {selecting} is shown"
    )
    optimism = (
        ", which is also what is reported: so figures are optimistic, the more so the more candidates."
        if same
        else "; the validation set, which chose nothing, is reported."
    )
    first = (
        " Candidates were compared by their first seed, and only the best got the others; the first "
        "stays in mean, interval and p, so the mean is slightly optimistic."
        if any(one.search and one.search.by_first_seed for one in cells)
        else ""
    )
    shown = f"Means and sample deviations over seeds. Each seed keeps {epoch}."
    return f"{shown} {chosen}{optimism}{first}"


def sentences(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """ "Adapters 64 keep 99.4 % of full fine-tuning's score with 2.1 % …", where both were run."""
    reference = next((row for row in rows if row.method == "full"), None)
    if reference is None:
        return []
    found = []
    for row in rows:
        both = [
            (column, own, full)
            for column, own, full in zip(columns, row.entries, reference.entries, strict=True)
            if isinstance(own, Entry) and isinstance(full, Entry)
            if own.mean is not None and full.mean is not None
        ]
        pairs = [(own.mean or 0.0, full.mean or 0.0) for _, own, full in both]
        if row.method != "adapter" or not pairs:
            continue
        if min(min(pair) for pair in pairs) <= 0:  # a share of a correlation below 0 means nothing
            continue
        own = statistics.fmean(pair[0] for pair in pairs)
        full = statistics.fmean(pair[1] for pair in pairs)
        splits = " and ".join(sorted({column.split.split("_")[0] for column, _, _ in both}))
        if len(both) > 1:
            over = f"mean of {len(both)} columns on {splits}"
        else:
            over = f"{both[0][0].label} on {splits}"
        seeds = [entry.n for _, *entries in both for entry in entries]
        counted = f"{_range(seeds)} seed{'s' * (max(seeds) > 1)}"
        name, _, how = row.label.partition(", ")
        name = f"{name[0].upper()}{name[1:]}" + (f" ({how})" if how else "")
        said = (
            f"{name} {'keep' if own < full else 'reach'} "
            f"{tables.percent(own / full)} % of full fine-tuning's score "
            f"({tables.percent(own)} against {tables.percent(full)}, {over}, {counted}) with "
            f"{tables.percent(row.share_of_encoder_layers)} % of the encoder layers' parameters trained."
        )
        if row.wins + row.losses > 1:
            said += f" Their mean is higher on {plural(row.wins, 'column')}, lower on {row.losses}."
        found.append(said + _saved(row))
    return found


def _saved(row: Row) -> str:
    """What training costs beside full fine-tuning; nothing where it was not on the same machine."""
    spent = row.total_cost
    if spent is None or spent.time_of_full is None:
        return ""
    memory = (
        f", and the largest peak of memory was {spent.memory_of_full:.2f}x"
        if spent.memory_of_full is not None
        else ""
    )
    return f" Training them took {spent.time_of_full:.2f}x its time{memory}."


def plural(number: int, noun: str) -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def remarks(comparison: Comparison) -> list[str]:
    """What a reader must know of single figures: seeds that collapsed or diverged, partial data."""
    collapsed: dict[tuple[str, str], str] = {}  # by run and column: two rows may show one run
    diverged: dict[str, str] = {}
    for row in comparison.rows:
        for column, entry in zip(comparison.columns, row.entries, strict=True):
            if isinstance(entry, Entry):
                where = f"{row.label} on {column.label}"
                if entry.collapsed:
                    told = f"{where} {_seeds(entry.collapsed, entry.num_seeds)}"
                    collapsed.setdefault((entry.run, column.label), told)
                if entry.diverged:
                    told = f"{where} {_seeds(entry.diverged, entry.num_seeds)}"
                    diverged.setdefault(entry.run, told)
    found = []
    if collapsed:
        found.append(
            "† Collapsed, the same answer for every example; in the mean if the metric is defined: "
            f"{'; '.join(collapsed.values())}."
        )
    if diverged:
        found.append(
            f"† Diverged, without a score, so not in the mean: {'; '.join(diverged.values())}."
        )
    partial = [column for column in first_of_task(comparison.columns) if column.data.partial]
    if partial:
        sets = "; ".join(f"{column.task} {tables.of_complete(column.data)}" for column in partial)
        found.append(f"Partial training sets, in rows: {sets}.")
    if len({(c.task, c.split) for c in comparison.columns}) < len(comparison.columns):
        found.append("A task has several columns where the rows of its data differ.")
    searched = {
        row.label: [entry.num_candidates for entry in row.entries if isinstance(entry, Entry)]
        for row in comparison.rows
    }
    if any(max(numbers, default=1) > 1 for numbers in searched.values()):
        told = "; ".join(
            f"{label}: {_range(numbers)}" for label, numbers in searched.items() if numbers
        )
        found.append(f"Candidates among which a column's figure was chosen: {told}.")
    if any(row.glue_average is not None for row in comparison.published):
        found.append("The published average by the GLUE rule counts WNLI too, at 65.1.")
    single = any(isinstance(e, Entry) and e.n == 1 for row in comparison.rows for e in row.entries)
    if single:
        found.append("A figure without ± is of one seed: nothing is known of its spread.")
    if comparison.of_ablations:
        number = len(comparison.of_ablations)
        found.append(
            f"Among the ablations, not here: {plural(number, 'method')} (sizes and variants counted) "
            "that ran for them alone."
        )
    if comparison.elsewhere:
        found.append(
            f"Not on all columns, so only among the runs: {'; '.join(comparison.elsewhere)}."
        )
    return found


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _seeds(numbers: Sequence[int], total: int) -> str:
    return f"{len(numbers)} of {total} seeds ({', '.join(map(str, numbers))})"
