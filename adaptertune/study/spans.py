"""Trained adapters removed from every span of layers (Houlsby et al. 2019, figure 6). No retraining.

LayerNorms and head stay as trained, so with all adapters gone this is not the pre-trained model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from adaptertune import stats
from adaptertune.metrics import TaskMetric
from adaptertune.model import removal
from adaptertune.model.removal import Removal
from adaptertune.runs import analyses, store
from adaptertune.runs.progress import OnProgress
from adaptertune.runs.reopen import Reopened
from adaptertune.study import without
from adaptertune.train import evaluate


def spans(
    run: Reopened,
    layers: Sequence[int] | None,
    on_progress: OnProgress,
    note: Callable[[str], None],
) -> analyses.SpansResult:
    """Evaluate a run without the adapters of every span, and write the result into its folder.

    A result that is there for the same seeds and layers is read instead.

    Args:
        layers: only spans of these; None for all layers that have adapters.

    Raises:
        ConfigError: the run has no adapters, or not in these layers.
        CheckpointError: a checkpoint is damaged.
        StoreError: the result can't be written, or the one that is there is damaged.
    """
    chosen = without.chosen_layers(run, layers)
    earlier = run.folder.read_spans()
    wanted = (run.result.digest, list(run.seeds), chosen)
    if earlier is not None and (earlier.digest, earlier.seeds, earlier.layers) == wanted:
        note(f"computed earlier: {run.folder.spans}")
        return earlier
    started = time.perf_counter()
    plan, task = run.plan, run.plan.task
    encoded = without.validation(run, on_progress, note)
    assert encoded.labels is not None
    pairs = removal.spans(chosen)
    removals = [Removal(), *pairs.values()]
    metric, device = TaskMetric(task), torch.device(plan.device)
    values: list[list[Mapping[str, float | None]]] = []  # by seed, then removal
    for seed in run.seeds:
        found = without.logits(
            run.load(seed),
            removals,
            encoded,
            device,
            lambda done, seed=seed: on_progress(f"seed {seed}", done, len(encoded)),  # type: ignore[misc]
        )
        values.append([evaluate.score(task, metric, encoded, one).values for one in found])
    by_removal = [
        {name: [of_seed[at][name] for of_seed in values] for name in task.metrics}
        for at in range(len(removals))
    ]
    intact = by_removal[0]
    num_layers = plan.located.shape.layers
    majority = None
    if not task.is_regression:
        majority = float(np.bincount(encoded.labels.astype(np.int64)).max() / len(encoded))
    result = analyses.SpansResult(
        task=task.name,
        digest=run.result.digest,
        folder=str(run.folder.path),
        data=run.result.data,
        backbone=run.result.backbone,
        precision=plan.precision,
        device=plan.device,
        split=encoded.name,
        num_examples=len(encoded),
        headline=task.headline,
        seeds=list(run.seeds),
        num_layers=num_layers,
        layers=chosen,
        intact=intact,
        majority_share=majority,
        cells=[
            analyses.SpanCell(
                first=first,
                last=last,
                values=of_cell,
                change={name: relative_change(of_cell[name], intact[name]) for name in of_cell},
            )
            for (first, last), of_cell in zip(pairs, by_removal[1:], strict=True)
        ],
        layer_evaluations=removal.num_layer_evaluations(num_layers, removals),
        layer_evaluations_apart=num_layers * len(pairs),
        seconds=time.perf_counter() - started,
    )
    store.write_result(run.folder.spans, result)
    return result


def relative_change(
    values: Sequence[float | None], intact: Sequence[float | None]
) -> analyses.Change:
    """``value / intact - 1`` over the seeds; null if there is a seed without value, or not above 0."""
    changes = [
        value / whole - 1
        for value, whole in zip(values, intact, strict=True)
        if value is not None and whole is not None and whole > 0
    ]
    if len(changes) < len(values):
        return analyses.Change(mean=None, deviation=None)
    return analyses.Change(mean=stats.mean(changes), deviation=stats.deviation(changes))
