"""Choosing by hand-worked cases; and that nothing but the selecting split can have a say."""

from __future__ import annotations

from dataclasses import fields

import pytest

from adaptertune.runs.selection import Candidate, Statistic, select, statistic_of


def chosen(by: Statistic, *candidates: Candidate) -> str | None:
    found = select(candidates, by)
    return found.digest if found else None


STEADY = Candidate("steady", (0.70, 0.72, 0.71))  # mean 0.71, best 0.72
LUCKY = Candidate("lucky", (0.50, 0.90, 0.52))  # mean 0.64, best 0.90
HOLED = Candidate("holed", (0.95,), num_missing=2)
LOST = Candidate("lost", (), num_missing=3)


def test_protocols_choose_by_different_statistics() -> None:
    assert (statistic_of("paper"), statistic_of("held-out")) == ("best", "mean")
    assert chosen("best", STEADY, LUCKY) == "lucky"
    assert chosen("mean", STEADY, LUCKY) == "steady"


def test_missing_seeds() -> None:
    """The paper's statistic is the best run; by the mean, two lost seeds of three weigh more."""
    assert chosen("best", STEADY, HOLED) == "holed"
    assert chosen("mean", STEADY, HOLED, LUCKY) == "steady"
    assert chosen("mean", HOLED, LOST) == "holed", "better than nothing"


def test_nothing_to_choose_from() -> None:
    for by in ("best", "mean"):
        assert chosen(by) is chosen(by, LOST) is None
        assert chosen(by, LOST, STEADY) == "steady"


@pytest.mark.parametrize("by", ["best", "mean"])
def test_the_first_of_equals(by: Statistic) -> None:
    twin = Candidate("twin", tuple(reversed(STEADY.scores)))
    assert chosen(by, STEADY, twin) == "steady"
    assert chosen(by, twin, STEADY) == "twin"


def test_negative_scores_are_scores() -> None:
    """Matthews and the correlations go below 0."""
    worse, bad = Candidate("worse", (-0.2,)), Candidate("bad", (-0.1,))
    assert chosen("best", worse, bad) == chosen("mean", worse, bad) == "bad"


def test_a_candidate_has_no_other_split() -> None:
    assert [field.name for field in fields(Candidate)] == ["digest", "scores", "num_missing"]
