"""What a cell's trainings will take, told before the first of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from adaptertune.runs.plan import Plan

if TYPE_CHECKING:
    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier


def announce(
    plan: Plan,
    models: Mapping[int, Classifier],
    train: Encoded,
    evaluation: Sequence[Encoded],
    *,
    steps_done: int,
    finished: Collection[int],
    note: Callable[[str], None],
) -> None:
    """Measure a few steps and tell what the models' seeds and those to train after them will take.

    Says nothing where that is a matter of seconds. The models are as before.

    Args:
        models: by seed; all seeds' if they train in one pass.
        finished: the seeds that are not trained again.
    """
    import torch

    from adaptertune.train import timing

    *_, last = models
    later = plan.config.seeds[plan.config.seeds.index(last) + 1 :]
    num_later = len(set(later).difference(finished))
    num_trainings = num_later + 1 - steps_done / plan.num_steps
    training = plan.config.training
    device = torch.device(plan.device)
    found = timing.measure(
        models, train, evaluation, training, device, num_trainings, by_graph=plan.by_graph
    )
    seconds = num_trainings * found.training(training.epochs)
    if seconds >= timing.WORTH_SECONDS:
        num_seeds = num_later + len(models)
        seeds = "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"
        seeds += " in one pass" if plan.is_stacked else ""
        note(line(seconds, seeds, found.step, found.num_measured))
        if train.hidden is not None:
            ratio = timing.saving_by_known_layers(
                models, train, training, device, by_graph=plan.by_graph
            )
            note(
                f"measured    a step on kept hidden states is {ratio:.2f}x as fast as one that "
                "computes them"
            )


def line(seconds: float, seeds: str, step: float, num_measured: int) -> str:
    """The forecast in words, no more exact than it can be."""
    steps = "step" if num_measured == 1 else "steps"
    return (
        f"forecast    about {roughly(seconds)} for {seeds} "
        f"({step:.2g} s a step; {num_measured} {steps} measured)"
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
