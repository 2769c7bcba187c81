"""Choosing among cells by their scores on the selecting split, the only ones that come in here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Statistic = Literal["best", "mean"]


@dataclass(frozen=True)
class Candidate:
    """All that a choice may know of a cell.

    ``scores``: of the finished seeds, on the selecting split. ``num_missing``: seeds that diverged,
    failed or have no defined score.
    """

    digest: str
    scores: tuple[float, ...]
    num_missing: int = 0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)


def statistic_of(protocol: str) -> Statistic:
    """By what a protocol chooses: the paper by the best run there is, held-out by the mean."""
    return "best" if protocol == "paper" else "mean"


def select(candidates: Sequence[Candidate], by: Statistic) -> Candidate | None:
    """The first of the best candidates; None if none has a score.

    By the mean, a cell all of whose seeds came to a score goes before one with missing seeds: what
    sometimes diverges is not what one would choose, and its mean is that of the lucky ones.
    """
    scored = [candidate for candidate in candidates if candidate.scores]
    if by == "best":
        return max(scored, key=lambda candidate: max(candidate.scores), default=None)
    return max(
        scored, key=lambda candidate: (candidate.num_missing == 0, candidate.mean), default=None
    )
