"""Statistics against cases worked by hand, and against simulation."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from adaptertune import stats

FIVE = [0.60, 0.62, 0.64, 0.66, 0.73]


def test_mean_deviation_and_standard_error_by_hand() -> None:
    # mean 4, squared distances 4 + 0 + 4 = 8, over n - 1 = 2 gives 4
    assert stats.mean([2, 4, 6]) == 4
    assert stats.deviation([2, 4, 6]) == 2
    assert stats.standard_error([2, 4, 6]) == pytest.approx(2 / math.sqrt(3))


def test_nothing_is_made_up_from_too_few_values() -> None:
    assert stats.mean([]) is None
    assert stats.expected_maximum([], 3) is None
    assert stats.deviation([0.7]) is None
    assert stats.standard_error([0.7]) is None
    for few in ([], [0.7], [0.7, 0.8], FIVE[:4]):
        assert stats.mean_interval(few) is None
        assert stats.wilcoxon_p(few) is None
    assert stats.paired_difference({0: 0.5}, {1: 0.4}) is None
    one = stats.paired_difference({0: 0.5}, {0: 0.4, 1: 0.9})
    assert one is not None
    assert one.n == 1
    assert one.deviation is None
    assert one.interval is None
    assert one.wilcoxon_p is None


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_expected_maximum_is_the_mean_over_all_draws(n: int) -> None:
    values = [0.3, 0.9, 0.5]
    every_draw = [max(draw) for draw in itertools.product(values, repeat=n)]
    assert stats.expected_maximum(values, n) == pytest.approx(sum(every_draw) / len(every_draw))


def test_expected_maximum_of_one_is_the_mean_and_n_must_be_positive() -> None:
    assert stats.expected_maximum(FIVE, 1) == pytest.approx(stats.mean(FIVE))
    with pytest.raises(ValueError, match="at least 1"):
        stats.expected_maximum(FIVE, 0)


def test_interval_of_five_values_by_hand() -> None:
    # A draw's mean is how often it has the 5, with p 1/5 at each of five times: at most twice in 94.2 %
    # of draws, at most three times in 99.3 %.
    found = stats.mean_interval([0, 0, 0, 0, 5])
    assert found == stats.Interval(0.0, 3.0, 0.95)


def test_interval_against_all_draws() -> None:
    means = sorted(sum(draw) / 5 for draw in itertools.product(FIVE, repeat=5))
    found = stats.mean_interval(FIVE, level=0.9)
    assert found is not None
    assert found.low == pytest.approx(np.quantile(means, 0.05), abs=0.004)
    assert found.high == pytest.approx(np.quantile(means, 0.95), abs=0.004)


def test_interval_is_the_same_for_the_same_seed_only() -> None:
    values = [0.1, 0.52, 0.533, 0.57, 0.61, 0.9, 0.97]
    assert stats.mean_interval(values) == stats.mean_interval(values, seed=0)
    assert stats.mean_interval(values, seed=0) != stats.mean_interval(values, seed=1)


def test_equal_values_have_an_interval_without_width() -> None:
    found = stats.mean_interval([0.5] * 5)
    assert found is not None
    assert found.low == found.high == 0.5


@pytest.mark.parametrize(("n", "share"), [(5, 0.82), (10, 0.90)])
def test_the_coverage_that_the_docstring_tells(n: int, share: float) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        found = stats.mean_interval(rng.normal(size=n).tolist())
        assert found is not None
        hits += found.low <= 0 <= found.high
    assert hits / 300 == pytest.approx(share, abs=0.06)


def test_paired_difference_by_hand() -> None:
    first = {0: 0.70, 1: 0.72, 2: 0.74, 3: 0.71, 4: 0.75, 9: 0.10}
    second = {0: 0.69, 1: 0.70, 2: 0.71, 3: 0.67, 4: 0.70, 8: 0.99}
    found = stats.paired_difference(first, second)
    assert found is not None
    # Seeds 8 and 9 have no partner. Differences 1, 2, 3, 4, 5 points.
    assert (found.n, found.wins, found.losses, found.ties) == (5, 5, 0, 0)
    assert found.mean == pytest.approx(0.03)
    assert found.deviation == pytest.approx(math.sqrt(10 / 4) / 100)
    # All five of one sign: 2 of the 2 ** 5 ways to give signs are as extreme.
    assert found.wilcoxon_p == found.smallest_p == 2 / 32
    assert found.interval is not None
    assert 0.01 < found.interval.low < 0.03 < found.interval.high < 0.05


def test_pairs_and_not_single_values_are_drawn() -> None:
    # Seeds differ widely, the methods by one point on each: the interval has no width.
    second = dict(enumerate([0.2, 0.5, 0.9, 0.4, 0.7]))
    found = stats.paired_difference({seed: one + 0.01 for seed, one in second.items()}, second)
    assert found is not None
    assert found.interval is not None
    assert found.interval.low == pytest.approx(0.01)
    assert found.interval.high == pytest.approx(0.01)


def test_what_is_left_of_equal_scores_in_floating_point_is_a_tie() -> None:
    first = {0: 0.1 + 0.2, 1: 0.3, 2: 0.3 + 1e-9}
    found = stats.paired_difference(first, dict.fromkeys(range(3), 0.3))
    assert found is not None
    assert (found.wins, found.losses, found.ties) == (1, 0, 2)
    # 0.1 + 0.2 - 0.3 is not 0, and would have a rank.
    rest = 0.1 + 0.2 - 0.3
    assert stats.wilcoxon_p([rest, 1, 2, 3, -4]) == stats.wilcoxon_p([0, 1, 2, 3, -4])


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, -5], 20 / 32),  # ranks 1 to 5: 10 of the 32 subsets have a sum of at most 5
        ([1, 1, -1, 2, 3], 8 / 32),  # tied ranks 2, 2, 2, 4, 5: sums <= 2 are {} and the three 2s
        ([0] * 5, 1),
    ],
)
def test_wilcoxon_by_hand(differences: list[float], p: float) -> None:
    assert stats.wilcoxon_p(differences) == pytest.approx(p)


def test_mcnemar_by_hand() -> None:
    references = np.array([1, 1, 1, 1, 1, 1, 0, 0])
    first = np.array([1, 1, 1, 1, 1, 0, 0, 1])
    second = np.array([0, 0, 0, 0, 0, 1, 0, 1])
    found = stats.mcnemar(first, second, references)
    # Five that only the first gets right, one that only the second does: 2 * (1 + 6) / 2 ** 6.
    assert (found.only_first, found.only_second) == (5, 1)
    assert found.p == pytest.approx(14 / 64)


def test_mcnemar_of_equal_predictions_and_of_unlike_shapes() -> None:
    labels = np.array([0, 1, 1])
    assert stats.mcnemar(labels, labels, labels) == stats.McNemar(0, 0, 1.0)
    with pytest.raises(ValueError, match="shapes differ"):
        stats.mcnemar(labels, labels[:2], labels)


def test_importing_it_loads_neither_scipy_nor_numpy() -> None:
    code = "import sys, adaptertune.stats; sys.exit(bool({'scipy', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
