"""What training took, beside full fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from adaptertune.report import comparison, evidence, figures, words
from adaptertune.report.schema import Cost
from adaptertune.runs import results
from tests.report.records import GIGABYTE, add, one_metric, only, row
from tests.report.records import change as records_change

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
    found = row(only(tmp_path), "adapters 64").places[0].cost
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
    assert found.places[0].cost is not None
    assert found.places[0].cost.time_of_full is None
    assert found.places[0].cost.memory_of_full is None
    assert found.total_cost is None
    assert "its time" not in shown.sentences[0]


def test_of_several_machines_the_time_is_that_of_the_one_that_ran_most(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.6, 0.6, 0.6), options=FULL, seconds=20.0)
    add(tmp_path, "rte", one_metric(0.6, 0.6, 0.6), seconds=9.0)
    there = {"host": "there", "train_seconds": 500.0, "peak_memory_bytes": 7}
    change(tmp_path, "adapter-64", 0, there)
    found = row(only(tmp_path), "adapters 64").places[0].cost
    assert found is not None
    assert (found.seconds, found.peak_memory_bytes) == (9, GIGABYTE)
    assert found.time_of_full == pytest.approx(9 / 20)
    change(tmp_path, "adapter-64", 1, there)
    found = row(only(tmp_path), "adapters 64").places[0].cost
    assert found is not None
    assert (found.seconds, found.time_of_full) == (500, None)


def test_nobody_knows_where_copied_runs_were_trained(tmp_path: Path) -> None:
    """So no two of them are set beside each other; and their other seeds are elsewhere, not missing."""
    for options in (FULL, {}):
        add(tmp_path, "rte", one_metric(0.6), options=options, asked=[0, 1])
    assert {len(cell.missing) for cell in evidence.read(tmp_path)[0]} == {1}
    for method in ("full", "adapter-64"):
        change(tmp_path, method, 0, {"host": results.UNTOLD})
    assert {len(cell.missing) for cell in evidence.read(tmp_path)[0]} == {0}
    found = row(only(tmp_path), "adapters 64").places[0].cost
    assert found is not None
    assert (found.seconds, found.machines, found.time_of_full) == (12, [], None)
    (group,) = comparison.compare(evidence.read(tmp_path)[0])
    told = [one.caption for one in figures.figures(group) if one.name.endswith("-time")]
    assert "Measured on unknown machines: machines differ, so compare with care." in told[0]


def test_all_tasks_together_count_each_once_and_only_where_both_were_run(tmp_path: Path) -> None:
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    add(tmp_path, "mnli", {0: splits}, options=FULL, seconds=30.0)
    add(tmp_path, "mnli", {0: splits}, seconds=20.0)
    add(tmp_path, "rte", one_metric(0.6), options=FULL, seconds=10.0)
    add(tmp_path, "rte", one_metric(0.6), seconds=4.0)
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}}, seconds=1e6)
    shown = only(tmp_path)
    found = row(shown, "adapters 64")
    assert [place.cost and place.cost.seconds for place in found.places] == [1e6, 20, None, 4]
    assert isinstance(found.total_cost, Cost)
    assert found.total_cost.seconds == pytest.approx(24)
    assert found.total_cost.time_of_full == pytest.approx(24 / 40)
    assert row(shown, "full fine-tuning").total_cost is None
    assert "Training them took 0.60x its time" in shown.sentences[0]


def test_times_of_two_machines_are_not_added_and_the_table_names_both(tmp_path: Path) -> None:
    for task, device, seconds in (
        ("rte", "cpu", 10.0),
        ("wnli", "cpu", 6.0),
        ("qnli", "cuda", 1.0),
    ):
        for options, times in ((FULL, 2.0), ({}, 1.0)):
            folder = add(tmp_path, task, one_metric(0.6), options=options, seconds=times * seconds)
            records_change(folder, 0, device=device)
    shown = only(tmp_path)
    found = row(shown, "adapters 64").total_cost
    assert found is not None
    assert (found.seconds, found.machines) == (16, ["here (cpu, fp32)"])
    assert "took 0.50x its time on 2 of 3 tasks" in shown.sentences[0]
    told = "Measured on here (cpu, fp32); qnli: here (cuda, fp32). Mean time"
    assert words.costs(shown).startswith(told)


def test_a_seed_that_diverged_at_once_makes_training_no_faster(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.6, None), seconds=10.0)
    records_change(folder, 1, cost={"train_seconds": 0.0, "peak_memory_bytes": 1})
    found = row(only(tmp_path), "adapters 64").places[0].cost
    assert found is not None
    assert found.seconds == 10
    assert found.peak_memory_bytes == GIGABYTE
    add(tmp_path, "wnli", one_metric(None, None))
    assert row(only(tmp_path), "adapters 64").places[1].cost is None


def test_an_epochs_time_and_the_search_are_told_where_they_differ(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.6), options={**FULL, "training.epochs": 3}, seconds=30.0)
    for rate, score in ((1e-4, 0.5), (1e-3, 0.6)):
        options = {"training.learning_rate": rate, "training.epochs": 20}
        add(tmp_path, "rte", one_metric(score), options=options, seconds=120.0)
    (sentence,) = only(tmp_path).sentences
    assert (
        "took 4.00x its time (0.60x an epoch: 20 epochs were chosen, of full fine-tuning 3)"
        in sentence
    )
    assert "the best of 2 candidates a set, full fine-tuning of 1; times are without" in sentence
    add(tmp_path, "wnli", one_metric(0.6), options={**FULL, "training.epochs": 2}, seconds=20.0)
    add(tmp_path, "wnli", one_metric(0.6), options={"training.epochs": 2}, seconds=10.0)
    (sentence,) = only(tmp_path).sentences
    # 130 of 50 seconds; 6 + 5 of 10 + 10 an epoch.
    assert (
        "2.60x its time (0.55x an epoch: 2 to 20 epochs were chosen, of full fine-tuning 2 to 3)"
        in sentence
    )
    assert "the best of 1 to 2 candidates a set, full fine-tuning of 1;" in sentence


def test_a_sentence_over_all_tasks_says_of_how_many_its_times_are(tmp_path: Path) -> None:
    for task in ("rte", "qnli", "wnli"):
        add(tmp_path, task, one_metric(0.6), options=FULL, seconds=10.0)
        folder = add(tmp_path, task, one_metric(0.6), seconds=5.0)
        if task != "rte":
            records_change(folder, 0, cost={"host": "there"})
    (said,) = only(tmp_path).sentences
    assert "mean of 3 validation sets" in said
    assert "Training them took 0.50x its time on 1 of 3 tasks, and" in said


def test_the_memory_of_seeds_in_one_pass_is_beside_nothing_that_trained_apart(
    tmp_path: Path,
) -> None:
    add(tmp_path, "rte", one_metric(0.6, 0.6), options=FULL, seconds=20.0)
    add(tmp_path, "rte", one_metric(0.6, 0.6), seconds=9.0, stacked=True)
    shown = only(tmp_path)
    found = row(shown, "adapters 64")
    for cost in (found.places[0].cost, found.total_cost):
        assert cost is not None
        assert cost.time_of_full == pytest.approx(9 / 20)
        assert cost.memory_of_full is None
    assert "memory" not in shown.sentences[0]
    add(tmp_path / "both", "rte", one_metric(0.6, 0.6), options=FULL, stacked=True)
    add(tmp_path / "both", "rte", one_metric(0.6, 0.6), stacked=True)
    alike = row(only(tmp_path / "both"), "adapters 64").places[0].cost
    assert alike is not None
    assert alike.memory_of_full == 1
