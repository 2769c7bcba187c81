"""What a sweep has before it, row by row: what ``--dry-run --json`` prints."""

from __future__ import annotations

from collections.abc import Callable

from adaptertune.runs import sweep as sweeps
from adaptertune.runs.results import Record
from adaptertune.runs.sweep import Book, Survey, Sweep
from adaptertune.runs.units import Unit


class PlannedRow(Record):
    """The cells of a task and method."""

    task: str
    method: str
    cells: int
    runs: int
    """Trainings, a seed each."""
    runs_ahead: int
    """Of these the ones that the store has not."""
    steps: int
    """Optimiser steps of the runs ahead."""
    seconds: float | None
    """Forecast for the runs ahead, one after another; null on a cluster."""
    partial: bool
    """Whether the training set is only a part of the complete one."""
    sample: bool
    """Whether the rows are the embedded sample's."""
    init_from: list[str]
    """The runs from whose weights they start."""


class SweepPlan(Record):
    """What a sweep runs, how it chooses, and how much of it is ahead."""

    name: str
    digest: str
    in_words: str
    seeds_on: str
    device: str
    precision: str
    rows: list[PlannedRow]
    result: str
    """Where the result will be written."""


def make(
    sweep: Sweep, found: Survey, book: Book, seconds: Callable[[Unit], float] | None, in_words: str
) -> SweepPlan:
    """The plan of a sweep of whose first units the store was surveyed.

    Args:
        seconds: forecast of a unit; None where there is none.
        in_words: how choices are made and what is reported.
    """
    of_cell: dict[str, list[Unit]] = {}
    for unit in found.ahead:
        of_cell.setdefault(unit.plan.digest, []).append(unit)
    rows = []
    for row in sweep.methods:
        ahead = [unit for cell in row.cells for unit in of_cell.get(cell.plan.digest, ())]
        num_runs = len(row.cells) * (row.num_seeds or sweep.config.seeds)
        if row.num_seeds:
            num_runs += sweep.config.seeds - row.num_seeds
            ahead += sweeps.after_choice(sweep, row, book, found)
        data = row.cells[0].plan.data
        sources = {cell.plan.init_from.run for cell in row.cells if cell.plan.init_from}
        rows.append(
            PlannedRow(
                task=row.task,
                method=row.label,
                cells=len(row.cells),
                runs=num_runs,
                runs_ahead=sum(len(unit.seeds) for unit in ahead),
                steps=sum(unit.plan.num_steps * len(unit.seeds) for unit in ahead),
                seconds=sum(map(seconds, ahead)) if seconds else None,
                partial=data.partial,
                sample=data.sample,
                init_from=sorted(sources),
            )
        )
    first = sweep.cells[0].plan
    return SweepPlan(
        name=sweep.config.name,
        digest=sweep.digest,
        in_words=in_words,
        seeds_on=sweep.config.seeds_on,
        device=first.device,
        precision=first.precision,
        rows=rows,
        result=str(sweep.result),
    )
