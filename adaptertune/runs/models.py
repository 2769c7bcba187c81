"""The models that a plan trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptertune.runs.plan import Plan

if TYPE_CHECKING:
    from adaptertune.model.classifier import Classifier


def load_models(plan: Plan, seeds: Sequence[int]) -> dict[int, Classifier]:
    """The models of seeds that train together, with their frozen weights in common, by seed."""
    from adaptertune.model.build import load_model, share_frozen

    models: dict[int, Classifier] = {}
    for seed in seeds:
        model = load_model(
            plan.located,
            plan.config.method,
            plan.task.num_outputs,
            seed=seed,
            device=plan.device,
            precision=plan.precision,
            is_compiled=plan.config.compile,
        )
        if models:
            share_frozen(model, models[seeds[0]])
        models[seed] = model
    return models
