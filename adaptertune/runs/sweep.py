"""A sweep from its configuration to its result: plan all cells, settle all units, choose the winners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from adaptertune import config as configuration
from adaptertune import stats, tasks
from adaptertune.errors import ConfigError
from adaptertune.runs import grid, results, selection, store, units
from adaptertune.runs.grid import SweepConfig, SweepSource
from adaptertune.runs.plan import Lookups, Plan, locate, method_labels, plan
from adaptertune.runs.progress import Progress
from adaptertune.runs.summary import conclude, is_concluded, seeds_of, summarise
from adaptertune.runs.units import Settled, Unit


@dataclass(frozen=True)
class Cell:
    """A cell, and the settings that the grid chose for it."""

    plan: Plan
    chosen: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """Cells of one task among which one is chosen: a method's, or those of all its sizes."""

    task: str
    label: str
    cells: tuple[Cell, ...]
    num_seeds: int | None = None  # by which of the first seeds it is chosen; None for all


@dataclass(frozen=True)
class Sweep:
    """All cells of a sweep, each once, in the order of the tasks."""

    config: SweepConfig
    cells: tuple[Cell, ...]

    @cached_property
    def digest(self) -> str:
        """That of everything that decides which runs there are and what is chosen."""
        return configuration.digest(
            {
                "cells": sorted(cell.plan.digest for cell in self.cells),
                "seeds": self.config.seeds,
                "seeds_on": self.config.seeds_on,
            }
        )

    @property
    def output(self) -> Path:
        return self.cells[0].plan.config.output

    @property
    def result(self) -> Path:
        """Where the result is written."""
        return self.output / "sweeps" / f"{self.config.name}-{self.digest[:12]}.json"

    @cached_property
    def methods(self) -> tuple[Row, ...]:
        """A row for each task and method; whatever sets methods apart makes them others."""
        rows: dict[tuple[str, configuration.Method], list[Cell]] = {}
        for cell in self.cells:
            rows.setdefault((cell.plan.task.name, cell.plan.config.method), []).append(cell)
        first = None if self.config.seeds_on == "all" else 1
        return tuple(
            Row(task, self._labels[method], tuple(cells), first)
            for (task, method), cells in rows.items()
        )

    @cached_property
    def _labels(self) -> Mapping[configuration.Method, str]:
        return method_labels(cell.plan.config.method for cell in self.cells)

    @cached_property
    def best_sizes(self) -> tuple[Row, ...]:
        """A row for each task and method of which there are several sizes: all of them together."""
        rows: dict[tuple[str, configuration.Method], list[Cell]] = {}
        for cell in self.cells:
            method = cell.plan.config.method
            if isinstance(method, configuration.Adapter):
                sizeless = method.model_copy(update={"size": 1})
                rows.setdefault((cell.plan.task.name, sizeless), []).append(cell)
        found = []
        for (task, _), cells in rows.items():
            sizes = sorted({_size(cell) for cell in cells})
            if len(sizes) > 1:
                of = self._labels[cells[0].plan.config.method].partition(str(_size(cells[0])))
                label = f"{of[0].rstrip('-')} best of {', '.join(map(str, sizes))}{of[2]}"
                found.append(Row(task, label, tuple(cells)))
        return tuple(found)

    @property
    def statistic(self) -> selection.Statistic:
        return selection.statistic_of(self.config.protocol)


class View(Protocol):
    """Hears how a sweep gets on."""

    def of(self, plan: Plan) -> Progress:
        """The progress of one cell."""

    def stage(self, name: str, found: Survey, later: Sequence[Unit]) -> None:
        """A stage begins, of whose units the store was surveyed.

        ``name``: trainings, or where a cell's first seed decides, first seeds and then other seeds.
        ``later``: what the next stage will take, as far as it is known.
        """


Executor = Callable[[Sequence[Unit], Callable[[Plan], Progress]], Iterator[Settled]]


def make(
    source: SweepSource,
    base: Mapping[str, tuple[Any, str]],
    on_cell: Callable[[int, int], None] = lambda *_: None,
    lookups: Lookups | None = None,
) -> Sweep:
    """Plan every cell.

    Args:
        on_cell: is told how many are planned, of how many.
        lookups: what is known already.

    Raises:
        AdapterTuneError: anything that would stop one of them before its first step.
    """
    known = lookups or Lookups()
    source = grid.with_layers(source, base, lambda config: locate(config, known).shape.layers)
    num_cells = grid.num_cells(source)
    cells: dict[str, Cell] = {}
    for number, (resolved, chosen) in enumerate(grid.cells(source, base), start=1):
        made = plan(resolved, known)
        cells.setdefault(made.digest, Cell(made, chosen))
        on_cell(number, num_cells)
    names: dict[str, str] = {}  # of tasks -> as they were given
    for cell in cells.values():
        name, given = cell.plan.task.name, cell.plan.config.task
        if names.setdefault(name, given) != given:
            raise ConfigError(
                f"'{names[name]}' and '{given}' are both named '{name}'",
                where="--tasks",
                remedy="give one of them another name",
            )
    asked = (tasks.from_anywhere(task, "--tasks") for task in source.config.tasks)
    order = {task: number for number, task in enumerate(asked)}
    by_task = sorted(cells.values(), key=lambda cell: order[cell.plan.config.task])
    return Sweep(source.config, tuple(by_task))


def _size(cell: Cell) -> int:
    method = cell.plan.config.method
    return method.size if isinstance(method, configuration.Adapter) else 0


def first_units(sweep: Sweep) -> list[Unit]:
    """What runs whatever comes out: all seeds of all cells, or their first ones."""
    only = slice(None) if sweep.config.seeds_on == "all" else slice(1)
    return [
        unit
        for cell in sweep.cells
        for unit in units.of_cell(cell.plan, cell.plan.config.seeds[only])
    ]


class Outcome(NamedTuple):
    """What became of a seed: as little as selection and counting need."""

    status: str  # finished, diverged or failed
    score: float | None = None  # on the selecting split
    collapsed: bool = False


@dataclass
class Book:
    """What is known of every seed so far."""

    outcomes: dict[str, dict[int, Outcome]] = field(default_factory=dict)  # by cell and seed

    def enter(self, settled: Settled) -> None:
        made = settled.unit.plan
        seeds = self.outcomes.setdefault(made.digest, {})
        for failure in settled.failures:
            seeds[failure.seed] = Outcome("failed")
        for result in settled.done:
            score = result.score(made.task.headline)
            seeds[result.seed] = Outcome(result.status, score, result.is_collapsed)

    def of(self, cell: Cell) -> Mapping[int, Outcome]:
        """A cell's seeds, as far as they are known."""
        return self.outcomes.get(cell.plan.digest, {})

    def candidate(self, cell: Cell, num_seeds: int) -> selection.Candidate:
        """By the first so many of its seeds."""
        first = cell.plan.config.seeds[:num_seeds]
        scores = [outcome.score for seed, outcome in self.of(cell).items() if seed in first]
        known = tuple(score for score in scores if score is not None)
        return selection.Candidate(cell.plan.digest, known, len(scores) - len(known))

    def count(self, cells: Sequence[Cell], status: str | None = None) -> int:
        """Trainings, all or of one status."""
        outcomes = [outcome for cell in cells for outcome in self.of(cell).values()]
        return sum(status in (None, outcome.status) for outcome in outcomes)

    def count_collapsed(self, cells: Sequence[Cell]) -> int:
        return sum(outcome.collapsed for cell in cells for outcome in self.of(cell).values())

    def lost(self, cell: Cell) -> list[int]:
        """Seeds that collapsed, or came to no end."""
        return [
            seed
            for seed, outcome in sorted(self.of(cell).items())
            if outcome.collapsed or outcome.status != "finished"
        ]


@dataclass(frozen=True)
class Survey:
    """What a store has of some units, read once."""

    plans: tuple[Plan, ...]  # of all cells that were looked at
    ahead: tuple[Unit, ...]
    num_done: int  # trainings
    num_failed: int
    retry_before: float | None  # failures from before then count as ahead


def survey(
    todo: Sequence[Unit],
    book: Book,
    *,
    retry_before: float | None,
    on_unit: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Enter into the book what the store has of units, and find what is ahead.

    Args:
        on_unit: is told how many were looked at.

    Raises:
        StoreError: a result is damaged, or is not of its configuration.
    """
    ahead, num_done, num_failed = [], 0, 0
    for number, unit in enumerate(todo, start=1):
        found = units.earlier(unit, lambda _: None, retry_before=retry_before)
        if found is None:
            ahead.append(unit)
        else:
            book.enter(found)
            num_done += len(unit.seeds)
            num_failed += len(found.failures)
        on_unit(number)
    plans = {unit.plan.digest: unit.plan for unit in todo}
    return Survey(tuple(plans.values()), tuple(ahead), num_done, num_failed, retry_before)


def others(cell: Cell) -> list[Unit]:
    """All seeds of a cell but the first, where that one alone decided."""
    return units.of_cell(cell.plan, cell.plan.config.seeds[1:])


def after_choice(sweep: Sweep, row: Row, book: Book, found: Survey) -> Sequence[Unit]:
    """What is ahead of a winner's other seeds; while it is not known, those of the longest cell."""
    candidates = {cell.plan.digest for cell in row.cells}
    if any(unit.plan.digest in candidates for unit in found.ahead):
        return others(max(row.cells, key=lambda cell: cell.plan.num_steps))
    best = chosen(row, book, sweep)
    if best is None:
        return ()
    return survey(others(best), Book(), retry_before=found.retry_before).ahead


def run(
    sweep: Sweep,
    found: Survey,
    book: Book,
    executor: Executor,
    view: View,
) -> results.SweepResult:
    """Settle all units, choose among cells, and write the sweep's result.

    Args:
        found: the survey of :func:`first_units`, which filled the book.

    Raises:
        Interrupted: the user stopped it; all states are saved.
        StoreError: the store can't be written, or holds something else.
    """
    if sweep.config.seeds_on == "all" or sweep.config.seeds == 1:
        _settle("trainings", found, book, executor, view)
    else:
        later = [unit for row in sweep.methods for unit in after_choice(sweep, row, book, found)]
        _settle("first seeds", found, book, executor, view, later)
        best = [chosen(row, book, sweep) for row in sweep.methods]
        rest = [unit for cell in best if cell is not None for unit in others(cell)]
        others_found = survey(rest, book, retry_before=found.retry_before)
        _settle("other seeds", others_found, book, executor, view)
    result = _summary(sweep, book)
    store.write_result(sweep.result, result)
    return result


def _settle(
    name: str,
    found: Survey,
    book: Book,
    executor: Executor,
    view: View,
    later: Sequence[Unit] = (),
) -> None:
    """Have all units settled that are ahead, and each cell summarised when its last one is."""
    num_open = Counter(unit.plan.digest for unit in found.ahead)
    view.stage(name, found, later)
    for made in found.plans:
        if not num_open[made.digest] and not is_concluded(made):
            conclude(made)
    for settled in executor(found.ahead, view.of):
        made = settled.unit.plan
        book.enter(settled)
        settled.tell(view.of(made))
        num_open[made.digest] -= 1
        if not num_open[made.digest]:
            conclude(made)


def _candidates(row: Row, book: Book, sweep: Sweep) -> list[selection.Candidate]:
    """A row's cells as the choice among them may know them."""
    return [book.candidate(cell, row.num_seeds or sweep.config.seeds) for cell in row.cells]


def chosen(row: Row, book: Book, sweep: Sweep) -> Cell | None:
    """The best of a row's cells, as far as the book knows; None if none has a score."""
    best = selection.select(_candidates(row, book, sweep), sweep.statistic)
    return next((c for c in row.cells if best and c.plan.digest == best.digest), None)


def _next_best(row: Row, best: Cell, book: Book, sweep: Sweep) -> Cell | None:
    """What the choice would have been without the best; None where all seeds had a say in it."""
    rest = tuple(cell for cell in row.cells if cell is not best)
    return chosen(replace(row, cells=rest), book, sweep) if row.num_seeds and rest else None


def _summary(sweep: Sweep, book: Book) -> results.SweepResult:
    best_sizes = sweep.best_sizes
    if sweep.config.seeds_on == "winner":  # among the sizes' winners, which all have all seeds
        winners = [chosen(row, book, sweep) for row in sweep.methods]
        digests = {cell.plan.digest for cell in winners if cell}
        won = [tuple(c for c in row.cells if c.plan.digest in digests) for row in best_sizes]
        # Where no size has a winner all are told, without a choice.
        best_sizes = tuple(
            replace(row, cells=cells or row.cells)
            for row, cells in zip(best_sizes, won, strict=True)
        )
    tasks = list(dict.fromkeys(cell.plan.task.name for cell in sweep.cells))
    rows = sorted([*sweep.methods, *best_sizes], key=lambda row: tasks.index(row.task))
    cells = sweep.cells
    return results.SweepResult(
        name=sweep.config.name,
        digest=sweep.digest,
        config=sweep.config.model_dump(mode="json"),
        protocol=sweep.config.protocol,
        statistic=sweep.statistic,
        in_words=in_words(sweep.config),
        num_cells=len(cells),
        num_runs=book.count(cells),
        num_failed=book.count(cells, "failed"),
        num_diverged=book.count(cells, "diverged"),
        num_collapsed=book.count_collapsed(cells),
        choices=[_choice(row, book, sweep) for row in rows],
        cells=[cell.plan.digest for cell in cells],
    )


def _choice(row: Row, book: Book, sweep: Sweep) -> results.Choice:
    """What was chosen in a row, and how it scores."""
    best = chosen(row, book, sweep)
    task, made = row.cells[0].plan.task, row.cells[0].plan
    trials = [
        candidate.mean if sweep.statistic == "mean" else max(candidate.scores)
        for candidate in _candidates(row, book, sweep)
        if candidate.scores
    ]
    done, failed = seeds_of(best.plan) if best else ([], [])
    summary = summarise(best.plan, done, failed) if best else None
    reported = task.evaluation[0]
    values = [
        result.scores[reported].values[task.headline]
        for result in done
        if reported in result.scores
    ]
    scores = [value for value in values if value is not None]
    interval = stats.mean_interval(scores)
    lost = book.lost(best) if best else []
    following = _next_best(row, best, book, sweep) if best and lost else None
    return results.Choice(
        task=row.task,
        row=row.label,
        metric=task.headline,
        selecting_split=made.selecting_split,
        reported_split=reported,
        data=made.data,
        num_cells=len(row.cells),
        num_runs=book.count(row.cells),
        num_failed=book.count(row.cells, "failed"),
        num_diverged=book.count(row.cells, "diverged"),
        num_collapsed=book.count_collapsed(row.cells),
        cell=str(best.plan.folder.path) if best else None,
        digest=best.plan.digest if best else None,
        chosen=dict(best.chosen) if best else None,
        scores=summary.scores if summary else {},
        best_seed=summary.best_seed if summary else None,
        interval=None if interval is None else (interval.low, interval.high),
        expected_best_cell=_expected_best(trials),
        expected_best_seed=_expected_best(scores),
        lost=lost,
        next_best=dict(following.chosen) if following else None,
    )


def _expected_best(values: Sequence[float]) -> dict[int, float]:
    """Of 1, 2, 4, 8, … values, and of as many as there are."""
    numbers = {1 << power for power in range(len(values).bit_length())} | {len(values)}
    found = {n: stats.expected_maximum(values, n) for n in sorted(numbers - {0})}
    return {n: value for n, value in found.items() if value is not None}


def in_words(config: SweepConfig) -> str:
    """How the choices were made, so that nobody takes one figure for another."""
    seeds = f"{config.seeds} seeds" if config.seeds > 1 else "one seed"
    on = (
        f"Every cell ran with {seeds}"
        if config.seeds_on == "all"
        else f"Every cell ran with one seed, the best of each task and method with {seeds}"
    )
    if config.protocol == "paper":
        return (
            f"Protocol paper: {on}; the run that is best on validation chose the settings, and is "
            "reported on the same validation set, so 'best' is optimistic. Mean and deviation are "
            "over the seeds of the chosen cell."
        )
    return (
        f"Protocol held-out: {on}; the mean over seeds on held-out rows of the training set chose the "
        "settings, and the best seed. Validation was only scored; mean and deviation are over the "
        "seeds of the chosen cell."
    )
