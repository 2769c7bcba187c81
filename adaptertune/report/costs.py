"""What a seed takes to train, beside full fine-tuning."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Cost


def cost(cell: Cell, full: Cell | None) -> Cost:
    """What the seeds of a cell took, and how much that is of another's where one machine ran both."""
    own = _alone(cell)
    other = None if full is None else _alone(full)
    if other is None or own.machines != other.machines or len(own.machines) > 1:
        return own
    shares = {"time_of_full": own.seconds / other.seconds if other.seconds else None}
    if own.peak_memory_bytes and other.peak_memory_bytes:
        shares["memory_of_full"] = own.peak_memory_bytes / other.peak_memory_bytes
    return own.model_copy(update=shares)


def total(own: Sequence[Cost | None], full: Sequence[Cost | None]) -> Cost | None:
    """Of tasks one after the other, where both were run on one machine: seconds added, the largest
    memory; None if there is no such task.
    """
    pairs = [
        (one, other)
        for one, other in zip(own, full, strict=True)
        if one is not None and other is not None and one.time_of_full is not None
    ]
    if not pairs:
        return None
    seconds, beside = (sum(pair[side].seconds for pair in pairs) for side in (0, 1))
    memory, largest = (_largest([pair[side] for pair in pairs]) for side in (0, 1))
    return Cost(
        seconds=seconds,
        epochs=None,
        peak_memory_bytes=memory,
        machines=sorted({name for one, _ in pairs for name in one.machines}),
        time_of_full=seconds / beside,
        memory_of_full=memory / largest if memory and largest else None,
    )


def _alone(cell: Cell) -> Cost:
    costs = [result.cost for result in cell.seeds]
    peaks = [one.peak_memory_bytes for one in costs if one.peak_memory_bytes is not None]
    return Cost(
        seconds=statistics.fmean(one.train_seconds + one.trunk_seconds for one in costs),
        epochs=max(result.num_epochs for result in cell.seeds),
        peak_memory_bytes=min(peaks, default=None),
        machines=sorted({_machine(cell, number) for number in range(len(costs))}),
    )


def _machine(cell: Cell, number: int) -> str:
    result = cell.seeds[number]
    threads = result.cost.threads
    counted = f", {threads} thread{'s' * (threads != 1)}" if threads else ""
    return f"{result.cost.host} ({result.device}{counted}, {result.precision})"


def _largest(costs: Sequence[Cost]) -> int | None:
    """The most memory of all; None if one is not known."""
    peaks = [one.peak_memory_bytes for one in costs]
    known = [peak for peak in peaks if peak is not None]
    return max(known) if len(known) == len(peaks) else None
