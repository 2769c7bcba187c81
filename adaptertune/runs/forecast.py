"""What a cell's trainings will take, told before the first of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adaptertune.runs.plan import Plan

if TYPE_CHECKING:
    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier


def announce(
    plan: Plan,
    model: Classifier,
    train: Encoded,
    evaluation: Sequence[Encoded],
    *,
    seed: int,
    steps_done: int,
    note: Callable[[str], None],
) -> None:
    """Measure a few batches and tell what ``seed`` and the unfinished ones after it will take.

    Says nothing where that is a matter of seconds. The model is as before.
    """
    import torch

    from adaptertune.train import forecast

    later = plan.config.seeds[plan.config.seeds.index(seed) + 1 :]
    num_later = sum(not plan.folder.seed(other).result.exists() for other in later)
    num_trainings = num_later + 1 - steps_done / plan.num_steps
    training = plan.config.training
    found = forecast.measure(
        model, train, evaluation, training, torch.device(plan.device), num_trainings
    )
    seconds = num_trainings * found.seed(training.epochs)
    if seconds >= forecast.WORTH_SECONDS:
        note(line(seconds, num_later + 1, found.step, found.num_measured))


def line(seconds: float, num_seeds: int, step: float, num_measured: int) -> str:
    """The forecast in words, no more exact than it can be."""
    seeds = "seed" if num_seeds == 1 else "seeds"
    batches = "batch" if num_measured == 1 else "batches"
    return (
        f"forecast    about {roughly(seconds)} for {num_seeds} {seeds} "
        f"({step:.2g} s a step; {num_measured} {batches} measured)"
    )


def roughly(seconds: float) -> str:
    """Two figures at most: 25 s, 12 min, 2.5 h, 3 days."""
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{round(seconds / 86400)} days"
