"""What trainings will take, told before the first of them: a cell's, or all of a sweep's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from adaptertune.data import cache, held_out
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Lookups, Plan, method_label

if TYPE_CHECKING:
    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier
    from adaptertune.train.timing import Pace


def announce(
    plan: Plan,
    models: Mapping[int, Classifier],
    train: Encoded,
    evaluation: Sequence[Encoded],
    *,
    steps_done: int,
    note: Callable[[str], None],
) -> None:
    """Measure a few steps and tell what the models' seeds and the unfinished ones after them will take.

    Says nothing where that is a matter of seconds. The models are as before.

    Args:
        models: by seed; all seeds' if they train in one pass.
    """
    import torch

    from adaptertune.train import timing

    *_, last = models
    later = plan.config.seeds[plan.config.seeds.index(last) + 1 :]
    num_later = sum(not plan.folder.seed(other).result.exists() for other in later)
    num_trainings = num_later + 1 - steps_done / plan.num_steps
    training = plan.config.training
    device = torch.device(plan.device)
    found = timing.measure(models, train, evaluation, training, device, num_trainings)
    seconds = num_trainings * found.training(training.epochs)
    if seconds >= timing.WORTH_SECONDS:
        num_seeds = num_later + len(models)
        seeds = "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"
        seeds += " in one pass" if plan.is_stacked else ""
        note(line(seconds, seeds, found.step, found.num_measured))
        if train.hidden is not None:
            ratio = timing.saving_by_known_layers(models, train, training, device)
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


class Forecaster:
    """Seconds of a sweep's units. Each method is measured once, on the task that comes first, and
    the other tasks are reckoned from their tokens.

    Args:
        tell: hears which method is being measured.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lookups = Lookups()

    def seconds(self, plan: Plan, seeds: Sequence[int]) -> float:
        """Of training these seeds, in one pass if there are several; hidden states of frozen lower
        layers count as not kept, for that depends on what ran before.
        """
        from adaptertune.train import timing

        once, config = self._lookups.once, plan.config
        train, splits = once(
            ("tokens", plan.tokens.key, plan.is_held_out), lambda: self._splits(plan)
        )
        pace = once(
            ("pace", plan.located, config.method, plan.precision, plan.device, len(seeds)),
            lambda: self._pace(plan, seeds, train, splits),
        )
        training = config.training
        found = once(
            ("forecast", pace, plan.tokens.key, training.batch_size, plan.is_held_out),
            lambda: timing.apply(pace, train, splits, training, list(seeds)),
        )
        return found.training(training.epochs)

    def _splits(self, plan: Plan) -> tuple[Encoded, list[Encoded]]:
        self._tell(f"tokenising {plan.task.name}")
        encoded = cache.tokenised(
            plan.tokens, progress=lambda _done, _all: None, note=lambda _text: None
        )
        train, *evaluation = encoded
        if not plan.is_held_out:
            return train, evaluation
        train, selecting = held_out.divide(train)
        return train, [selecting, *evaluation]

    def _pace(
        self, plan: Plan, seeds: Sequence[int], train: Encoded, splits: Sequence[Encoded]
    ) -> Pace:
        import torch

        from adaptertune.train import timing

        self._tell(f"measuring {method_label(plan.config.method)}")
        models = load_models(plan, seeds)
        device = torch.device(plan.device)
        return timing.pace(models, train, splits[0], plan.config.training, device, 1.0)
