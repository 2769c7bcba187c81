"""A model's logits on a split, and what they score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from adaptertune.data.batches import collate, evaluation_batches
from adaptertune.data.encode import Encoded
from adaptertune.tasks import Task
from adaptertune.train.device import float32_products

if TYPE_CHECKING:
    from adaptertune.metrics import TaskMetric

BATCH_SIZE = 64
LONGEST = 512  # tokens of an example, as far as BERT reads


def batch_size(encoded: Encoded, device: torch.device, num_parts: int = 1) -> int:
    """Examples at a time. On a GPU, where a large batch takes little longer than a small one, as many
    as take the memory of ``BATCH_SIZE`` of the longest that there can be.

    ``num_parts``: in how many parts memory made each training step be computed.
    """
    size = BATCH_SIZE
    if device.type == "cuda":
        size *= max(1, LONGEST // encoded.longest)
    return max(1, size // num_parts)


@dataclass(frozen=True)
class Scores:
    """All metrics on one split. ``collapsed``: every prediction is the same class (or score)."""

    num_examples: int
    values: dict[str, float | None]
    collapsed: bool


def logits(
    model: nn.Module,
    encoded: Encoded,
    device: torch.device,
    num_parts: int = 1,
    on_batch: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    """(examples, outputs) in the split's own order.

    ``num_parts``: as in :func:`batch_size`. ``on_batch`` is told the number of examples done since the
    last call.
    """
    outputs: list[torch.Tensor] = []
    order = evaluation_batches(encoded.lengths, batch_size(encoded, device, num_parts))
    # As exact as outside of a training: `predict` gives what is recorded.
    with torch.inference_mode(), float32_products("highest"):
        for indices in order:
            batch = collate(encoded, indices).to(device)
            outputs.append(model(batch.tokens, batch.segments, batch.mask, hidden=batch.hidden))
            on_batch(len(indices))
    stacked = torch.cat(outputs).cpu().numpy()
    result = np.empty_like(stacked)
    result[np.concatenate(order)] = stacked
    return result


def score(
    task: Task, metric: TaskMetric, encoded: Encoded, values: npt.NDArray[np.float32]
) -> Scores:
    """All of a task's metrics for a split's logits."""
    # Imported where it is needed: with its libraries it takes a second that answers need not wait.
    from adaptertune.metrics import is_collapsed, missing_as_none, predictions_from

    assert encoded.labels is not None, "a split without labels can't be scored"
    predictions = predictions_from(task, values)
    if not np.isfinite(values).all():
        return Scores(len(encoded), dict.fromkeys(task.metrics), False)
    found = metric.compute(predictions=predictions, references=encoded.labels)
    return Scores(
        num_examples=len(encoded),
        values={name: missing_as_none(found[name]) for name in task.metrics},
        collapsed=is_collapsed(task, predictions),
    )
