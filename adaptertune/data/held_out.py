"""A part of the training set that is set aside to select on, so that validation stays untouched."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from adaptertune import seeds
from adaptertune.data.encode import Encoded
from adaptertune.errors import DataError

NAME = "held-out"
# A tenth of the rows, but no more of a large set: 5,000 give an accuracy to within 0.6 points.
SHARE, MOST = 0.1, 5_000
# The same rows for every method, size, learning rate and seed: what is compared is paired.
SEED = 0

Indices = npt.NDArray[np.int64]


def facts() -> dict[str, Any]:
    """What decides which rows are set aside, for a run's identity."""
    return {"share": SHARE, "most": MOST, "seed": SEED}


def num_held_out(num_examples: int) -> int:
    """How many of so many rows are set aside.

    Raises:
        DataError: too few rows to set any aside.
    """
    count = min(round(SHARE * num_examples), MOST)
    if count < 1:
        raise DataError(
            f"{num_examples} training examples are too few to hold some out",
            where="--protocol",
            remedy="use --protocol paper",
        )
    return count


def divide(train: Encoded) -> tuple[Encoded, Encoded]:
    """The rows that stay for training, and those set aside, both in their own order.

    Stratified: each class keeps its share to within one row. Scores (STS-B) are first ranked and cut
    into as many classes as rows are set aside, so that each tenth of the range gives its part.
    """
    assert train.labels is not None
    rng = seeds.generator(SEED, NAME)
    held = stratified(np.asarray(train.labels), num_held_out(len(train)), rng)
    stays = np.ones(len(train), dtype=bool)
    stays[held] = False
    return train.subset(np.flatnonzero(stays)), train.subset(held, NAME)


def stratified(labels: npt.NDArray[Any], count: int, rng: np.random.Generator) -> Indices:
    """``count`` rows, in order: shuffled, sorted by label, and one taken from each even stretch."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    # The middle of each stretch; inside a class the order is random, so the choice is too.
    at = ((np.arange(count) + 0.5) * len(labels) / count).astype(np.int64)
    return np.sort(order[at])
