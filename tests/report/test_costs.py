"""What training took, beside full fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from adaptertune.report.schema import Cost
from tests.report.records import add, one_metric, only, row

FULL = {"method.name": "full"}


def change(root: Path, method: str, seed: int, costs: Mapping[str, object]) -> None:
    """Rewrite what a seed of the one cell of a method took."""
    (path,) = root.glob(f"*/{method}-*/seed-{seed}/result.json")
    result = json.loads(path.read_text())
    result["cost"] |= costs
    path.write_text(json.dumps(result))


def test_time_is_the_mean_and_memory_the_least_of_seeds_and_both_are_set_beside_full(
    tmp_path: Path,
) -> None:
    add(tmp_path, "rte", one_metric(0.6, 0.6), options=FULL, seconds=20.0)
    add(tmp_path, "rte", one_metric(0.6, 0.6), seconds=9.0)
    change(tmp_path, "adapter-64", 0, {"trunk_seconds": 4.0, "peak_memory_bytes": 700_000_000})
    found = row(only(tmp_path), "adapters 64").costs[0]
    assert found is not None
    assert found.seconds == pytest.approx((9 + 4 + 9) / 2)
    assert found.peak_memory_bytes == 700_000_000
    assert found.time_of_full == pytest.approx(11 / 20)
    assert found.memory_of_full == pytest.approx(0.7)


@pytest.mark.parametrize("other", [{"host": "there"}, {"threads": 2}])
def test_other_machines_or_threads_are_not_set_beside_each_other(
    tmp_path: Path, other: Mapping[str, object]
) -> None:
    add(tmp_path, "rte", one_metric(0.6), options=FULL)
    add(tmp_path, "rte", one_metric(0.6))
    change(tmp_path, "adapter-64", 0, other)
    shown = only(tmp_path)
    found = row(shown, "adapters 64")
    assert found.costs[0] is not None
    assert found.costs[0].time_of_full is None
    assert found.costs[0].memory_of_full is None
    assert found.total_cost is None
    assert "its time" not in shown.sentences[0]


def test_all_tasks_together_count_each_once_and_only_where_both_were_run(tmp_path: Path) -> None:
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    add(tmp_path, "mnli", {0: splits}, options=FULL, seconds=30.0)
    add(tmp_path, "mnli", {0: splits}, seconds=20.0)
    add(tmp_path, "rte", one_metric(0.6), options=FULL, seconds=10.0)
    add(tmp_path, "rte", one_metric(0.6), seconds=4.0)
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}}, seconds=1e6)
    shown = only(tmp_path)
    found = row(shown, "adapters 64")
    assert [None if cost is None else cost.seconds for cost in found.costs] == [1e6, 20, None, 4]
    assert isinstance(found.total_cost, Cost)
    assert found.total_cost.seconds == pytest.approx(24)
    assert found.total_cost.time_of_full == pytest.approx(24 / 40)
    assert row(shown, "full fine-tuning").total_cost is None
    assert "Training them took 0.60x its time" in shown.sentences[0]
