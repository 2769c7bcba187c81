"""A comparison in sentences: how it was made, what it comes to, what to know of its figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from adaptertune import stats
from adaptertune.report import tables
from adaptertune.report.comparison.columns import first_of_task, has_several_sets, task_names
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Column, Comparison, Entry, Row
from adaptertune.runs import selection

TOO_NARROW = "too narrow for few seeds"  # an interval; stats.mean_interval tells by how much
DIFFERENCES = (
    "Mean over n seeds that both have, each less the other's with the same seed; of "
    f"{stats.FEWEST} pairs or more its 95 % bootstrap interval, {TOO_NARROW}, and p of the Wilcoxon "
    "signed-rank test, two-sided: of five pairs it can't be below 0.0625. Best a : b: of the two seeds "
    "that are best on the selecting split, a examples that only the method's answers rightly, b only "
    "full fine-tuning's, and p of McNemar's exact test. It compares the accuracies of two single runs, "
    "whatever the task's metric is; where the selecting split is the one that is shown, both were "
    "chosen on these very rows. No p is corrected for the number of tests. Higher / lower: sets. "
    "– : nothing of full fine-tuning was trained alike, or no seed with a score is shared."
)
COSTS = (
    "Mean time over finished seeds without evaluation, and the least of their peaks of memory; of those "
    "on the machine that ran most of them. x: "
    "of full fine-tuning's, where one machine ran both alike. Of seeds in one pass a seed's time is its "
    "share, and the memory, that of the pass, is set beside that of as many in one pass alone. All: the "
    "tasks that both ran on one machine (the one with the most of them), one after the other, and the "
    "largest peak."
)


def costs(comparison: Comparison) -> str:
    """What the table of times and memory shows, and on which machines it was measured."""
    once = first_of_task(comparison.columns)
    found: dict[str, dict[str, list[str]]] = {}  # rows by machine and task
    counted: Counter[str] = Counter()
    for name, column in zip(task_names(once), once, strict=True):
        position = comparison.columns.index(column)
        for row in comparison.rows:
            spent = row.places[position].cost
            if spent is not None:
                machine = ", ".join(spent.machines) or "an unknown machine"
                found.setdefault(machine, {}).setdefault(name, []).append(row.label)
                counted[name] += 1
    if not found:
        return COSTS
    usual, *others = sorted(found, key=lambda one: -sum(map(len, found[one].values())))
    told = f"Measured on {usual}"
    for machine in others:
        places = [
            name if len(rows) == counted[name] else f"{' and '.join(rows)} on {name}"
            for name, rows in found[machine].items()
        ]
        told += f"; {', '.join(places)}: {machine}"
    return f"{told}. {COSTS}"


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
    best_of = f"highest mean on {selecting}"
    if by == "best":
        best_of = (
            f"best single run on {selecting}, of the seeds that all candidates have, within each size "
            "and then between sizes"
        )
    chosen = f"A searched method is shown at the settings with the {best_of}"
    optimism = (
        ". The same rows are reported, so figures are optimistic, the more so the more candidates."
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
    """ "Adapters 64 keep 99.4 % of full fine-tuning's score with 2.1 % …", where both were run: of the
    seeds that both have, as their difference is. Rows of the same runs share a sentence.
    """
    found: list[str] = []
    if has_several_sets(columns):
        return found  # a mean over two sets of one task's rows means nothing
    by_runs: dict[tuple[str | None, ...], list[Row]] = {}
    for row in rows:
        runs = (place.entry.run if isinstance(place.entry, Entry) else None for place in row.places)
        by_runs.setdefault(tuple(runs), []).append(row)
    for row, *same in by_runs.values():
        both = [
            (column, place.beside)
            for column, place in zip(columns, row.places, strict=True)
            if place.beside
        ]
        if row.method != "adapter" or not both:
            continue
        if min(min(one.own, one.full) for _, one in both) <= 0:
            continue  # a share of a correlation below 0 means nothing
        own = statistics.fmean(one.own for _, one in both)
        full = statistics.fmean(one.full for _, one in both)
        splits = " and ".join(sorted({column.split.split("_")[0] for column, _ in both}))
        if len(both) > 1:
            over = f"mean of {len(both)} {splits} sets"
        else:
            over = f"{both[0][0].label} on {splits}"
        seeds = [one.difference.n for _, one in both]
        counted = f"{_range(seeds)} seed{'s' * (max(seeds) > 1)}"
        name, _, how = row.label.partition(", ")
        how += "".join(f", here always {other.label}" for other in same)
        name = f"{name[0].upper()}{name[1:]}" + (f" ({how})" if how else "")
        said = (
            f"{name} {'keep' if round(own - full, stats.DIGITS) < 0 else 'reach'} "
            f"{tables.percent(own / full)} % of full fine-tuning's score "
            f"({tables.percent(own)} against {tables.percent(full)}, {over}, {counted}) with "
            f"{tables.percent(row.share_of_encoder_layers)} % of the encoder layers' parameters trained."
        )
        if row.wins + row.losses > 1:
            said += (
                f" Their mean is higher on {tables.plural(row.wins, 'set')}, lower on {row.losses}."
            )
        found.append(f"{said}{_saved(row)}{_searched(row, same)}")
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
    timed = [
        place.cost
        for place in row.places
        if place.cost
        and place.cost.time_of_full is not None
        and place.cost.machines == spent.machines
    ]
    own = [cost.epochs or 0 for cost in timed]
    full = [cost.epochs_of_full or 0 for cost in timed]
    an_epoch = (
        f" ({spent.time_of_full_per_epoch:.2f}x an epoch: {_range(own)} epochs were chosen, of full "
        f"fine-tuning {_range(full)})"
        if own != full and spent.time_of_full_per_epoch is not None
        else ""
    )
    compared = sum(1 for place in row.places if place.beside and place.cost)
    where = (
        f" on {len(timed)} of {tables.plural(compared, 'task')}" if len(timed) < compared else ""
    )
    return f" Training them took {spent.time_of_full:.2f}x its time{where}{an_epoch}{memory}."


def _searched(row: Row, same: Sequence[Row]) -> str:
    """Of how many candidates each is the best, if the numbers differ; the ``same`` rows' too, which had
    fewer to choose from.
    """
    own, full = _candidates(row)
    others = [(other.label, _candidates(other)[0]) for other in same]
    if all(numbers == full for numbers in (own, *(numbers for _, numbers in others))):
        return ""
    fewer = "".join(f" ({label} of {_range(numbers)})" for label, numbers in others)
    times = "; times are without the search" if row.total_cost else ""
    return (
        f" They are the best of {_range(own)} candidates a set{fewer}, full fine-tuning of "
        f"{_range(full)}{times}."
    )


def _candidates(row: Row) -> tuple[list[int], list[int]]:
    """Among how many the row's figure was chosen and full fine-tuning's, on each set that has both."""
    pairs = [
        (place.entry.num_candidates, place.beside.num_candidates)
        for place in row.places
        if place.beside and isinstance(place.entry, Entry)
    ]
    return [own for own, _ in pairs], [full for _, full in pairs]


def untested(comparison: Comparison) -> str | None:
    """Why some best runs are not compared by McNemar's test, where that is so."""
    reasons: dict[str, dict[str, list[str]]] = {}  # and then columns and rows
    for row in comparison.rows:
        for column, place in zip(comparison.columns, row.places, strict=True):
            if place.beside and place.beside.untested:
                by_column = reasons.setdefault(place.beside.untested, {})
                by_column.setdefault(column.label, []).append(row.label)
    if not reasons:
        return None
    compared = Counter(
        column.label
        for row in comparison.rows
        for column, place in zip(comparison.columns, row.places, strict=True)
        if place.beside
    )
    told = []
    for reason, by_column in reasons.items():
        places = [
            label if len(rows) == compared[label] else f"{', '.join(rows)} on {label}"
            for label, rows in by_column.items()
        ]
        told.append(f"{reason} ({'; '.join(places)})")
    return f"No McNemar's test: {'; '.join(told)}."


def remarks(comparison: Comparison) -> list[str]:
    """What a reader must know of single figures: seeds that collapsed or diverged, partial data."""
    collapsed: dict[tuple[str, str], str] = {}  # by run and column: two rows may show one run
    diverged: dict[str, str] = {}
    for row in comparison.rows:
        for column, entry in zip(comparison.columns, row.entries, strict=True):
            if isinstance(entry, Entry):
                where = f"{row.label} on {column.label}"
                if entry.collapsed:
                    told = f"{where} {_seeds(entry.collapsed, entry.num_seeds)}{_others(entry)}"
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
    if has_several_sets(comparison.columns):
        found.append(
            "A task stands there several times where its rows or its definition differ; so there is no "
            "mean."
        )
    searched = {
        row.label: [entry.num_candidates for entry in row.entries if isinstance(entry, Entry)]
        for row in comparison.rows
    }
    if any(max(numbers, default=1) > 1 for numbers in searched.values()):
        told = "; ".join(
            f"{label}: {_range(numbers)}" for label, numbers in searched.items() if numbers
        )
        found.append(f"Candidates among which each figure was chosen: {told}.")
    epochs = _by_column(comparison, lambda entry: entry.settings["training.epochs"])
    seeds = _by_column(comparison, lambda entry: entry.num_seeds)
    if epochs:
        found.append(f"Epochs: {epochs}. Seeds: {seeds}.")
    of_full = [row for row in comparison.rows if row.method == "full"]
    others = [place for row in comparison.rows if row.method != "full" for place in row.places]
    if of_full and others and not any(place.beside for place in others):
        found.append(
            "Nothing is set beside full fine-tuning: none that trains everything was trained alike, "
            "or no seed with a score is shared."
        )
    if narrower := _fewer_sizes(comparison):
        found.append(f"Not all of a method's sizes were tried on every set: {narrower}.")
    if any(row.glue_average is not None for row in comparison.published):
        found.append("The published average by the GLUE rule counts WNLI too, at 65.1.")
    single = any(isinstance(e, Entry) and e.n == 1 for row in comparison.rows for e in row.entries)
    if single:
        found.append("A figure without ± is of one seed: nothing is known of its spread.")
    if comparison.of_ablations:
        number = len(comparison.of_ablations)
        found.append(
            f"Among the ablations, not here: {tables.plural(number, 'method')} (sizes and variants "
            "counted) that ran for them alone."
        )
    if comparison.elsewhere:
        found.append(f"Not on all sets, so only among the runs: {'; '.join(comparison.elsewhere)}.")
    return found


def _by_column(comparison: Comparison, number: Callable[[Entry], object]) -> str:
    """``6 on MRPC, RTE; 20 on CoLA (6: top layers)``: what most methods have on a set, and which have
    another; the number alone if it is the only one, and nothing of no methods.
    """
    told: dict[tuple[str, str], list[str]] = {}
    for position, column in enumerate(comparison.columns):
        rows: dict[str, list[str]] = {}
        for row in comparison.rows:
            entry = row.entries[position]
            if isinstance(entry, Entry):
                rows.setdefault(str(number(entry)), []).append(row.label)
        if not rows:
            continue
        usual, *others = sorted(rows, key=lambda value: -len(rows[value]))
        apart = "; ".join(f"{value}: {' and '.join(rows[value])}" for value in others)
        on = told.setdefault((usual, f" ({apart})" if apart else ""), [])
        if column.label not in on:
            on.append(column.label)
    if len(told) == 1:
        ((usual, apart),) = told
        return f"{usual}{apart}"
    return "; ".join(f"{usual} on {', '.join(on)}{apart}" for (usual, apart), on in told.items())


def _fewer_sizes(comparison: Comparison) -> str:
    """``adapters, best of 8/64/256: 64 alone on MRPC, RTE``; empty if no row chose among fewer."""
    told = []
    for row in comparison.rows:
        by_sizes: dict[tuple[int, ...], list[str]] = {}
        for column, entry in zip(comparison.columns, row.entries, strict=True):
            if isinstance(entry, Entry):
                by_sizes.setdefault(tuple(entry.sizes), []).append(column.label)
        everything = {size for sizes in by_sizes for size in sizes}
        fewer = [
            f"{'/'.join(map(str, sizes))}{' alone' if len(sizes) == 1 else ''} on {', '.join(labels)}"
            for sizes, labels in by_sizes.items()
            if len(sizes) < len(everything)
        ]
        if fewer:
            told.append(f"{row.label}: {', '.join(fewer)}")
    return "; ".join(told)


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _others(entry: Entry) -> str:
    """What the seeds that did not collapse have, which the mean hides."""
    others = [score for seed, score in entry.scores.items() if seed not in entry.collapsed]
    return f", the others {tables.percent(statistics.fmean(others))}" if others else ""


def _seeds(numbers: Sequence[int], total: int) -> str:
    return f"{len(numbers)} of {tables.plural(total, 'seed')} ({', '.join(map(str, numbers))})"
