"""Metrics by hand, by the confusion matrix's formulas, and by scikit-learn and scipy."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from adaptertune import metrics, tasks
from adaptertune.metrics import TaskMetric, is_collapsed, missing_as_none, predictions_from
from tests.conftest import CHECKOUT

Array = Any


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


# ---- by hand ----

GIVEN = ints(1, 1, 1, 0, 0, 0, 1, 0)
TRUE = ints(1, 1, 0, 0, 0, 1, 1, 0)  # 3 true positives, 1 false, 1 missed, 3 true negatives


def test_accuracy_by_hand() -> None:
    assert metrics.accuracy(GIVEN, TRUE) == 6 / 8
    assert metrics.accuracy(ints(2, 1, 0), ints(2, 1, 1)) == pytest.approx(2 / 3)
    assert metrics.accuracy(TRUE, TRUE) == 1
    assert metrics.accuracy(1 - TRUE, TRUE) == 0


def test_f1_by_hand() -> None:
    assert metrics.f1(GIVEN, TRUE) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert metrics.f1(ints(1, 1, 1, 1), ints(1, 0, 0, 0)) == pytest.approx(2 / 5)
    # Of label 1, and of it alone: turning the labels round gives another value.
    assert metrics.f1(1 - ints(1, 1, 1, 1), 1 - ints(1, 0, 0, 0)) == 0
    for none in (ints(0, 0), ints(0, 1)):
        assert metrics.f1(ints(0, 0), none) == 0


def test_matthews_by_hand() -> None:
    # (3·3 - 1·1) / sqrt(4·4·4·4)
    assert metrics.matthews(GIVEN, TRUE) == pytest.approx(8 / 16)
    assert metrics.matthews(TRUE, TRUE) == 1
    assert metrics.matthews(1 - TRUE, TRUE) == -1
    # All acceptable: what a model that has learnt nothing says of CoLA.
    assert metrics.matthews(ints(1, 1, 1), ints(1, 0, 1)) == 0
    assert metrics.matthews(ints(1, 0, 1), ints(1, 1, 1)) == 0


def test_correlations_by_hand() -> None:
    # Deviations (-1, 0, 1) and (-2, 1, 1): 3 / sqrt(2 · 6).
    assert metrics.pearson(floats(0, 1, 2), floats(0, 3, 3)) == pytest.approx(3 / math.sqrt(12))
    # Ranks (1, 2, 3) and (1, 3, 2): 1 - 6 · 2 / (3 · 8).
    assert metrics.spearman(floats(1, 20, 300), floats(0, 5, 3)) == pytest.approx(0.5)
    # Rank correlation does not see by how much; the other does.
    assert metrics.spearman(floats(1, 2, 3), floats(0, 0.1, 5)) == pytest.approx(1)
    assert metrics.pearson(floats(1, 2, 3), floats(0, 0.1, 5)) < 0.9
    # Ties share their mean rank: (1, 2.5, 2.5) against (1, 2, 3).
    assert metrics.spearman(floats(1, 2, 2), floats(1, 2, 3)) == pytest.approx(1.5 / math.sqrt(3))


@pytest.mark.parametrize("function", [metrics.pearson, metrics.spearman])
def test_correlation_with_a_constant_is_not_a_number(function: Any) -> None:
    varied = floats(1, 2, 3)
    for predictions, references in (
        (floats(2, 2, 2), varied), (varied, floats(2, 2, 2)), (floats(1), floats(1)),
    ):  # fmt: skip
        assert math.isnan(function(predictions, references))
    assert missing_as_none(function(floats(2, 2, 2), varied)) is None
    # Nearly constant is not constant.
    nearly = np.nextafter(floats(2, 2, 2), floats(3, 3, 9)) * floats(1, 1, 1.001)
    assert -1 <= function(nearly, varied) <= 1


def test_missing_as_none() -> None:
    assert [missing_as_none(x) for x in (0.0, -0.5, math.nan, math.inf, -math.inf)] == [
        0.0, -0.5, None, None, None,
    ]  # fmt: skip


# ---- by others ----

LABELS = st.integers(2, 60).flatmap(
    lambda n: st.tuples(*(arrays.arrays(np.int64, n, elements=st.integers(0, 1)) for _ in range(2)))
)


@given(LABELS)
def test_f1_and_matthews_equal_the_formulas(both: tuple[Array, Array]) -> None:
    predictions, references = both

    def count(given: int, true: int) -> int:
        return int(((predictions == given) & (references == true)).sum())

    tp, fp, fn, tn = count(1, 1), count(1, 0), count(0, 1), count(0, 0)
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    matthews = (tp * tn - fp * fn) / math.sqrt(product) if product else 0.0
    assert metrics.f1(predictions, references) == pytest.approx(f1)
    assert metrics.matthews(predictions, references) == pytest.approx(matthews)
    assert metrics.accuracy(predictions, references) == pytest.approx((tp + tn) / len(references))


def test_classification_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    predictions, references = rng.integers(0, 2, 500), rng.integers(0, 2, 500)
    predictions = np.where(rng.random(500) < 0.6, references, predictions)
    assert metrics.accuracy(predictions, references) == pytest.approx(
        sklearn.metrics.accuracy_score(references, predictions)
    )
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        references, predictions, average="binary"
    )
    assert metrics.f1(predictions, references) == pytest.approx(f1)
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    # For two classes the Matthews coefficient is Pearson's of the labels.
    assert metrics.matthews(predictions, references) == pytest.approx(
        stats.pearsonr(predictions, references).statistic
    )


def test_three_classes_equal_scikit_learn() -> None:
    """The diagnostic set's metric is the Matthews coefficient of three classes."""
    rng = np.random.default_rng(1)
    references = rng.integers(0, 3, 500)
    predictions = np.where(rng.random(500) < 0.5, references, rng.integers(0, 3, 500))
    assert metrics.matthews(predictions, references) == pytest.approx(
        sklearn.metrics.matthews_corrcoef(references, predictions)
    )
    assert metrics.accuracy(predictions, references) == pytest.approx(
        sklearn.metrics.accuracy_score(references, predictions)
    )


def test_correlations_equal_scipy_and_numpy() -> None:
    rng = np.random.default_rng(2)
    references = np.round(rng.uniform(0, 5, 400), 1).astype(np.float32)  # with ties, as in STS-B
    predictions = (references + rng.normal(0, 1, 400)).astype(np.float32)
    a, b = predictions.astype(np.float64), references.astype(np.float64)
    assert metrics.pearson(predictions, references) == pytest.approx(np.corrcoef(a, b)[0, 1])
    ranks = np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]
    assert metrics.spearman(predictions, references) == pytest.approx(ranks)
    assert metrics.spearman(predictions, references) == pytest.approx(stats.spearmanr(a, b)[0])


# ---- from logits ----


def test_predictions_from_logits() -> None:
    logits = np.array([[0.1, 0.2, -1], [3, 2, 1], [-5, -4, -3]], np.float32)
    found = predictions_from(tasks.load("mnli"), logits)
    assert found.tolist() == [1, 0, 2]
    assert found.dtype == np.int64


def test_scores_keep_one_dimension() -> None:
    """(32, 1) against (32,) once made STS-B 28 instead of 88."""
    rng = np.random.default_rng(3)
    references = rng.uniform(0, 5, 32).astype(np.float32)
    logits = (references + rng.normal(0, 0.5, 32)).astype(np.float32)[:, None]
    task = tasks.load("stsb")
    found = predictions_from(task, logits)
    assert found.shape == (32,)
    values = TaskMetric(task).compute(predictions=found, references=references)
    assert set(values) == {"pearson", "spearman"}
    for name, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        expected = function(logits[:, 0].astype(float), references.astype(float)).statistic
        assert values[name] == pytest.approx(expected)
        assert values[name] > 0.8


def test_collapse() -> None:
    rte, stsb = tasks.load("rte"), tasks.load("stsb")
    assert is_collapsed(rte, ints(1, 1, 1))
    assert not is_collapsed(rte, ints(1, 1, 0))
    assert is_collapsed(stsb, floats(2.5, 2.5001, 2.5049))  # a thousandth of 0 to 5 is 0.005
    assert not is_collapsed(stsb, floats(2.5, 2.5, 2.506))


# ---- as an evaluate.Metric ----


@pytest.mark.parametrize("name", sorted(set(tasks.shipped()) - {"stsb"}))
def test_task_metric_gives_the_tasks_metrics(name: str) -> None:
    task = tasks.load(name)
    rng = np.random.default_rng(4)
    references = rng.integers(0, task.num_outputs, 50)
    predictions = np.where(rng.random(50) < 0.7, references, 0)
    metric = TaskMetric(task)
    assert isinstance(metric, evaluate.Metric)
    values = metric.compute(predictions=predictions, references=references)
    assert tuple(values) == task.metrics
    for each, value in values.items():
        assert value == metrics.FUNCTIONS[each](predictions, references)
    # And once more, with other numbers, in pieces: nothing is left of the first time.
    for part in (slice(0, 20), slice(20, 50)):
        metric.add_batch(predictions=references[part], references=references[part])
    assert metric.compute() == pytest.approx(dict.fromkeys(task.metrics, 1.0))


def test_two_metrics_at_once_do_not_mix() -> None:
    one, other = TaskMetric(tasks.load("rte")), TaskMetric(tasks.load("rte"))
    one.add_batch(predictions=ints(1, 1), references=ints(1, 1))
    other.add_batch(predictions=ints(0, 1), references=ints(1, 1))
    assert one.compute() == {"accuracy": 1.0}
    assert other.compute() == {"accuracy": 0.5}


ALONE = """
import gc, os, socket
def refuse(*address, **more):
    raise SystemExit(f"tried to reach {address}")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse

import numpy as np
from adaptertune import tasks
from adaptertune.metrics import TaskMetric
for name in tasks.shipped():
    metric = TaskMetric(tasks.load(name))
    values = np.array([0, 1, 1, 0]) if name != "stsb" else np.array([0, 1, 2, 3], np.float32)
    print(name, metric.compute(predictions=values, references=values))
    del metric
    gc.collect()
"""


def test_it_needs_no_network_and_leaves_no_files(tmp_path: Path) -> None:
    """In a home folder of its own, and with a warning for anything that is not closed."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    ours = ("HF_", "XDG_", "HUGGING", "DATASETS_", "TRANSFORMERS_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-W", "default::ResourceWarning", "-c", ALONE],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(tasks.shipped())
    assert "ResourceWarning" not in done.stderr
    assert list(home.rglob("*")) == []
    assert list(temporary.iterdir()) == []
