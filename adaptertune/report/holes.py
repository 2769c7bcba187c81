"""Runs that are missing, each with the command that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from adaptertune.report.commands import train_command
from adaptertune.report.comparison import Group
from adaptertune.report.evidence import Cell, Unfinished
from adaptertune.report.schema import Entry, Hole, Missing


def missing(groups: Sequence[Group], unfinished: Iterable[Unfinished]) -> list[Missing]:
    """All holes with the command that fills each: cells, seeds, and cells without any seed.

    Seeds are missing where a row shows the cell, or where they failed: of a search that gave one seed to
    each candidate, the other candidates are complete.
    """
    found: dict[str, str] = {}  # a command fills a hole in several rows
    rows = [row for group in groups for row in group.comparison.rows]
    shown = {entry.run for row in rows for entry in row.entries if isinstance(entry, Entry)}
    for group in groups:
        for row in group.comparison.rows:
            for column, entry in zip(group.comparison.columns, row.entries, strict=True):
                if isinstance(entry, Hole) and entry.command:
                    found.setdefault(entry.command, f"{row.label} on {column.label}")
        for cell in group.cells:
            if cell.missing and (cell.failed or cell.digest in shown):
                seeds = f"seed{'s' * (len(cell.missing) > 1)} {', '.join(map(str, cell.missing))}"
                what = f"{cell.facts.task}, {cell.folder.name}: {seeds}{_failures(cell.failed)}"
                found[_command(cell)] = what
    for one in unfinished:
        what = f"{one.folder.parent.name}, {one.folder.name}: no seed is finished"
        found[one.command] = what + _failures(one.failed)
    return [Missing(what=what, command=command) for command, what in found.items()]


def _command(cell: Cell) -> str:
    """What trains the missing seeds of a cell; each apart where those that are there did so."""
    if cell.num_lanes > 1 or cell.facts.device == "cpu":
        return train_command(cell.config, cell.origins)
    command = train_command({**cell.config, "seeds": cell.missing}, cell.origins)
    in_one_pass = len(cell.missing) > 1 and "--stack" not in command  # by default, on a GPU
    return f"{command} --stack off" if in_one_pass else command


def _failures(failed: Mapping[int, str]) -> str:
    return "".join(f"; seed {seed} failed: {error}" for seed, error in failed.items())
