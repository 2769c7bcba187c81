"""The benchmark against others: its arithmetic and bookkeeping. Nothing is timed here."""

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from adaptertune.data.sources import SAMPLE, Source, load_splits
from adaptertune.errors import ConfigError

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bench_peers")


def measured(bench: ModuleType, arm: str, number: int, seconds: float, **changes: Any) -> Any:
    one = bench.Measurement(
        task="rte", arm=arm, round=number, digest="d", num_examples=120, train_seconds=seconds,
        wall_seconds=seconds + 5, peak_bytes=10**9, score=0.5, precision="fp32", learning_rate=1e-4,
        trained_parameters=7, others_share=0.01,
    )  # fmt: skip
    return replace(one, **changes)


def test_ratios_are_taken_within_a_round(bench: ModuleType) -> None:
    base, ours = "adapterhub-default", "ours-adapter"
    times = {base: (60.0, 30.0, 40.0), ours: (6.0, 6.0, 4.0)}
    all_of = [
        measured(bench, arm, number, seconds)
        for arm, seconds_of in times.items()
        for number, seconds in enumerate(seconds_of, 1)
    ]
    all_of.append(measured(bench, ours, 4, 1.0))  # a round without the base has no ratio
    base_row, row = bench.summarise(all_of, [base, ours])
    assert row.ratios[base] == bench.Spread(10.0, 5.0, 10.0, 3)
    assert base_row.ratios[base] == bench.Spread(1.0, 1.0, 1.0, 3)
    assert row.ratios["adapterhub-dynamic"] is None
    assert row.speed == bench.Spread(25.0, 20.0, 120.0, 4)


def test_each_arm_begins_a_round(bench: ModuleType) -> None:
    arms = ["a", "b", "c"]
    orders = [bench.rotated(arms, number) for number in range(1, 5)]
    assert [order[0] for order in orders] == ["a", "b", "c", "a"]
    assert all(sorted(order) == arms for order in orders)


def test_the_table_shows_what_is_missing_as_missing(bench: ModuleType) -> None:
    rows = bench.summarise([measured(bench, "ours-adapter", 1, 6.0, score=None)], list(bench.ARMS))
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(bench.table("RTE", "accuracy", rows))
    lines = console.export_text().splitlines()
    (own,) = (line.split() for line in lines if "ours, adapters " in line)
    assert own[2:] == ["20", "–", "–", "–", "1000", "11", "0.0001", "fp32"]
    (other,) = (line.split() for line in lines if "AdapterHub, default" in line)
    assert other[2:] == ["–"] * 7


def test_measurements_are_found_again(bench: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    one = measured(bench, "ours-full", 2, 3.0)
    noisy = measured(bench, "ours-full", 3, 9.0, others_share=0.5)
    kept = bench.Measured(path)
    kept.add(one)
    kept.add(noisy)
    again = bench.Measured(path)
    assert again.find("rte", "ours-full", 2, "d") == one
    assert again.find("rte", "ours-full", 2, "another") is None
    assert again.find("rte", "ours-full", 3, "d") is None  # disturbed: to be taken again


@pytest.mark.parametrize("name", ["rte", "mrpc", "cola"])
def test_all_arms_see_the_same_rows(bench: ModuleType, tmp_path: Path, name: str) -> None:
    task = bench.load_task(name)
    data = bench.prepare_data(task, SAMPLE, 10, tmp_path)
    complete = load_splits(task, Source("sample"), ["train", "validation"])
    ours = load_splits(task, Source("folder", data.folder), ["train", "validation"])
    assert data.num_train == 10
    for split, whole in zip(ours, complete, strict=True):
        lines = (data.exported / f"{split.name}.jsonl").read_text("utf-8").splitlines()
        peers = [json.loads(line) for line in lines]
        assert split.labels is not None
        assert whole.labels is not None
        assert [row["first"] for row in peers] == split.first == whole.first[:10]
        assert all(("second" in row) == (split.second is not None) for row in peers)
        assert [row["second"] for row in peers if "second" in row] == (split.second or [])
        assert (
            [row["label"] for row in peers] == split.labels.tolist() == whole.labels[:10].tolist()
        )


def test_regression_is_refused(bench: ModuleType) -> None:
    with pytest.raises(ConfigError, match="not a classification task"):
        bench.load_task("stsb")
