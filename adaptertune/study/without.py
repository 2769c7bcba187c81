"""A run's models on validation without some of their adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from adaptertune import config as configuration
from adaptertune.data.batches import collate, evaluation_batches
from adaptertune.data.encode import Encoded
from adaptertune.errors import ConfigError
from adaptertune.model import removal
from adaptertune.model.classifier import Classifier
from adaptertune.model.methods import adapter_layers
from adaptertune.model.removal import Removal
from adaptertune.runs import execute
from adaptertune.runs.progress import OnProgress
from adaptertune.runs.reopen import Reopened

# Tokens that go through a layer at a time, all choices together: more is no faster, and takes memory.
TOKENS = 16384


def chosen_layers(run: Reopened, layers: Sequence[int] | None) -> list[int]:
    """The layers asked for, or all that have adapters.

    Raises:
        ConfigError: the run has no adapters, or not in these layers.
    """
    method = run.plan.config.method
    if not isinstance(method, configuration.Adapter):
        raise ConfigError(
            f"a run with method '{method.name}' has no adapters to remove",
            where=run.folder.path,
            remedy="choose a run with --method adapter",
        )
    adapted = adapter_layers(method, run.plan.located.shape.layers)
    for layer in layers or ():
        if layer not in adapted:
            raise ConfigError(
                f"layer {layer} has no adapters in this run",
                where="--layers",
                remedy=f"choose from {','.join(map(str, adapted))}",
            )
    return list(layers or adapted)


def validation(run: Reopened, on_progress: OnProgress, note: Callable[[str], None]) -> Encoded:
    """The first split that the task evaluates, as tokens.

    Raises:
        DataError: a row is bad.
    """
    _, splits = execute.examples(run.plan, on_progress, note)
    return next(encoded for encoded in splits if encoded.name == run.plan.task.evaluation[0])


def logits(
    model: Classifier,
    removals: Sequence[Removal],
    encoded: Encoded,
    device: torch.device,
    on_examples: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    """A split's logits without the adapters of each choice: (removals, examples, outputs).

    ``on_examples`` is told how many examples are done.
    """
    num_states = removal.most_states(len(model.backbone.encoder.layer), removals)
    size = max(1, TOKENS // (num_states * encoded.longest))
    result = np.empty((len(removals), len(encoded), model.head.out_features), np.float32)
    done = 0
    with torch.inference_mode():
        for indices in evaluation_batches(encoded.lengths, size):
            batch = collate(encoded, indices).to(device)
            found = removal.logits(model, removals, batch.tokens, batch.segments, batch.mask)
            result[:, indices] = found.cpu().numpy()
            done += len(indices)
            on_examples(done)
    return result
