"""What all trainings of a sweep will take, told before the first of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adaptertune.errors import is_out_of_memory
from adaptertune.runs import execute
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Lookups, Plan, method_label

if TYPE_CHECKING:
    from adaptertune.data.encode import Encoded
    from adaptertune.train.timing import Pace


class Forecaster:
    """Seconds of a sweep's units. Each method is measured once, on the task that comes first, and
    the other tasks are reckoned from their tokens.

    Args:
        tell: hears which method is being measured.

    Attributes:
        too_large: the methods of which not even one example fits into memory. Their trainings fail, and
            count as none here.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.too_large: list[str] = []
        self._tell = tell
        self._lookups = Lookups()

    def seconds(self, plan: Plan, seeds: Sequence[int]) -> float:
        """Of training these seeds, in one pass if there are several; hidden states of frozen lower
        layers count as not kept, for that depends on what ran before.
        """
        import torch

        from adaptertune.train import timing

        once, config = self._lookups.once, plan.config
        train, splits = once(
            ("tokens", plan.tokens.key, plan.is_held_out), lambda: self._splits(plan)
        )
        on_what = plan.precision, plan.device, config.threads
        pace = once(
            ("pace", plan.located, config.method, *on_what, len(seeds)),
            lambda: self._pace(plan, seeds, train, splits),
        )
        if pace is None:
            return 0.0
        training = config.training
        found = once(
            ("forecast", pace, plan.tokens.key, training.batch_size, plan.is_held_out),
            lambda: timing.apply(
                pace, train, splits, training, list(seeds), torch.device(plan.device)
            ),
        )
        return found.training(training.epochs)

    def _splits(self, plan: Plan) -> tuple[Encoded, list[Encoded]]:
        self._tell(f"tokenising {plan.task.name}")
        return execute.examples(plan, lambda *_: None, lambda _: None)

    def _pace(
        self, plan: Plan, seeds: Sequence[int], train: Encoded, splits: Sequence[Encoded]
    ) -> Pace | None:
        """As the runs will be trained; where memory runs out, of batches half as long, for a pace is a
        line over tokens. None if one example is too much.
        """
        import torch

        from adaptertune.train import device as devices
        from adaptertune.train import timing

        self._tell(f"measuring {method_label(plan.config.method)}")
        device, training = torch.device(plan.device), plan.config.training
        while True:
            try:
                with devices.computing(device, plan.precision, plan.config.threads):
                    models = load_models(plan, seeds)
                    return timing.pace(
                        models, train, splits[0], training, device, 1.0, by_graph=plan.by_graph
                    )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if training.batch_size == 1:
                    self.too_large.append(method_label(plan.config.method))
                    return None
            finally:
                models = {}
                devices.free_memory(device)
            training = training.model_copy(update={"batch_size": (training.batch_size + 1) // 2})
