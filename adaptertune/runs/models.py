"""The models that a plan trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptertune.errors import CheckpointError
from adaptertune.files import sha256
from adaptertune.runs import start
from adaptertune.runs.plan import Plan

if TYPE_CHECKING:
    import torch

    from adaptertune.model.classifier import Classifier


def load_models(plan: Plan, seeds: Sequence[int]) -> dict[int, Classifier]:
    """The models of seeds that train together, with their frozen weights in common, by seed.

    Raises:
        CheckpointError: the weights to start from are no longer those that were planned with.
    """
    from adaptertune.model import forward
    from adaptertune.model.build import load_model, share_frozen
    from adaptertune.train import checkpoint

    tensors: dict[str, torch.Tensor] = {}
    rows = None
    if plan.init_from and plan.initial:
        if sha256(plan.initial, CheckpointError) != plan.init_from.sha256:
            raise CheckpointError(
                "changed since it was looked up", where=plan.initial, remedy="run the command again"
            )
        tensors, facts = checkpoint.read_tensors(plan.initial)
        rows = start.head_rows(plan.task, facts["labels"]) if plan.init_from.head else None

    models: dict[int, Classifier] = {}
    if plan.config.compile:
        method = plan.config.method.model_dump_json()
        kind = plan.located.sha256, method, plan.precision, len(seeds)
        forward.make_room_to_compile(kind)
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
        if plan.initial:
            checkpoint.start_from(model, tensors, rows, plan.initial)
        if models:
            share_frozen(model, models[seeds[0]])
        models[seed] = model
    return models
