"""What a seed takes to train, beside full fine-tuning."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Cost
from adaptertune.runs.results import UNTOLD, SeedResult


def cost(cell: Cell, full: Cell | None) -> Cost | None:
    """What the finished seeds of a cell took, and how much that is of another's where one machine ran
    both; None if no seed is finished.
    """
    own = _alone(cell)
    other = None if full is None else _alone(full)
    if own is None or other is None or own.machines != other.machines or not own.machines:
        return own
    shares: dict[str, float | int | None] = {"epochs_of_full": other.epochs}
    if other.seconds and own.epochs and other.epochs:
        shares["time_of_full"] = own.seconds / other.seconds
        shares["time_of_full_per_epoch"] = own.seconds / own.epochs * other.epochs / other.seconds
    # A pass's memory is that of all its seeds: beside one seed's it would say nothing of a method.
    are_alike = full is not None and cell.num_lanes == full.num_lanes
    if are_alike and own.peak_memory_bytes and other.peak_memory_bytes:
        shares["memory_of_full"] = own.peak_memory_bytes / other.peak_memory_bytes
    return own.model_copy(update=shares)


def total(own: Sequence[Cost | None], full: Sequence[Cost | None]) -> Cost | None:
    """Of tasks one after the other, where both were run on one machine, and of several machines on that
    of the most tasks: seconds added, the largest memory; None if there is no such task.
    """
    by_machine: dict[str, list[tuple[Cost, Cost]]] = {}
    for one, other in zip(own, full, strict=True):
        if one is not None and other is not None and one.time_of_full is not None:
            by_machine.setdefault(one.machines[0], []).append((one, other))
    if not by_machine:
        return None
    machine, pairs = max(by_machine.items(), key=lambda item: len(item[1]))
    seconds, beside = (sum(pair[side].seconds for pair in pairs) for side in (0, 1))
    of_epoch, beside_epoch = (
        sum(pair[side].seconds / (pair[side].epochs or 1) for pair in pairs) for side in (0, 1)
    )
    memory, largest = (_largest([pair[side] for pair in pairs]) for side in (0, 1))
    are_alike = all(one.memory_of_full is not None for one, _ in pairs)
    return Cost(
        seconds=seconds,
        epochs=None,
        peak_memory_bytes=memory,
        machines=[machine],
        time_of_full=seconds / beside,
        time_of_full_per_epoch=of_epoch / beside_epoch,
        memory_of_full=memory / largest if are_alike and memory and largest else None,
    )


def _alone(cell: Cell) -> Cost | None:
    """Of the machine that ran the most of its seeds, for a mean over several is nobody's."""
    # One that diverged may have stopped in its first epoch, or before: no training's time.
    finished = [result for result in cell.seeds if result.status == "finished"]
    if not finished:
        return None
    by_machine: dict[str, list[SeedResult]] = {}
    for result in finished:
        by_machine.setdefault(_machine(result), []).append(result)
    machine = max(by_machine, key=lambda name: len(by_machine[name]))
    costs = [result.cost for result in by_machine[machine]]
    peaks = [one.peak_memory_bytes for one in costs if one.peak_memory_bytes is not None]
    return Cost(
        seconds=statistics.fmean(one.train_seconds + one.trunk_seconds for one in costs),
        epochs=max(result.num_epochs for result in finished),
        peak_memory_bytes=min(peaks, default=None),
        machines=[machine] if costs[0].host != UNTOLD else [],
    )


def _machine(result: SeedResult) -> str:
    threads = result.cost.threads
    counted = f", {threads} thread{'s' * (threads != 1)}" if threads else ""
    return f"{result.cost.host} ({result.device}{counted}, {result.precision})"


def _largest(costs: Sequence[Cost]) -> int | None:
    """The most memory of all; None if one is not known."""
    peaks = [one.peak_memory_bytes for one in costs]
    known = [peak for peak in peaks if peak is not None]
    return max(known) if len(known) == len(peaks) else None
