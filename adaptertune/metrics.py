"""GLUE's metrics: plain functions of numpy arrays, and the ``evaluate.Metric`` made of them.

Nothing is fetched at run time. A metric that is not defined on some predictions (a correlation with a
constant) is NaN there, never 0.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics as sklearn_metrics

from adaptertune.tasks import Task

Array = npt.NDArray[Any]


def accuracy(predictions: Array, references: Array) -> float:
    """Share of equal labels."""
    return float(np.mean(predictions == references))


def f1(predictions: Array, references: Array) -> float:
    """F1 of label 1; 0 if there is neither a predicted nor a true one."""
    return _quietly(sklearn_metrics.f1_score, references, predictions, zero_division=0.0)


def matthews(predictions: Array, references: Array) -> float:
    """Matthews correlation coefficient; 0 for a constant prediction, by its definition."""
    return _quietly(sklearn_metrics.matthews_corrcoef, references, predictions)


def pearson(predictions: Array, references: Array) -> float:
    """Pearson correlation; NaN if either side is constant."""
    return _correlation(stats.pearsonr, predictions, references)


def spearman(predictions: Array, references: Array) -> float:
    """Spearman rank correlation; NaN if either side is constant."""
    return _correlation(stats.spearmanr, predictions, references)


FUNCTIONS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


class TaskMetric(evaluate.Metric):  # type: ignore[misc]
    """All metrics of a task as one ``evaluate.Metric``.

    ``compute(predictions=…, references=…)`` takes label numbers, or scores for regression, and returns
    a dict of metric name to value.
    """

    def __init__(self, task: Task) -> None:
        self._names: Sequence[str] = task.metrics
        self._value = "float32" if task.is_regression else "int64"
        # Everything stays in memory, yet the library insists on making a cache folder.
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(
                config_name=task.name,
                keep_in_memory=True,
                experiment_id="adaptertune",
                cache_dir=folder,
            )

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value(self._value)
        return evaluate.MetricInfo(
            description=f"GLUE metrics: {', '.join(self._names)}",
            citation="Wang et al. 2019, GLUE: A Multi-Task Benchmark and Analysis Platform",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        given, true = np.asarray(predictions), np.asarray(references)
        return {name: FUNCTIONS[name](given, true) for name in self._names}


def predictions_from(task: Task, logits: npt.NDArray[np.float32]) -> Array:
    """(examples, outputs) logits as label numbers, or as scores (examples,) for regression."""
    return logits[:, 0] if task.is_regression else logits.argmax(axis=1).astype(np.int64)


def is_collapsed(task: Task, predictions: Array) -> bool:
    """Whether all predictions are one class, or one score to a thousandth of the task's range."""
    if task.range is not None:
        low, high = task.range
        return bool(np.ptp(predictions) < (high - low) / 1000)
    return len(np.unique(predictions)) == 1


def missing_as_none(value: float) -> float | None:
    """A number that is not finite as None: a missing number stays missing."""
    return value if math.isfinite(value) else None


def _correlation(function: Callable[..., Any], predictions: Array, references: Array) -> float:
    if len(predictions) < 2 or np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return math.nan
    one, other = predictions.astype(np.float64), references.astype(np.float64)
    return _quietly(lambda: function(one, other).statistic)


def _quietly(function: Callable[..., Any], *arguments: Array, **options: float) -> float:
    """A library's value without its warnings: single-class and nearly constant inputs are named by
    :func:`is_collapsed`, and the value is defined all the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(function(*arguments, **options))
