"""What is said of a comparison's figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adaptertune.report import words
from tests.report.records import add, entry, one_metric, only, two_metrics


def test_collapsed_seeds_count_diverged_ones_do_not_and_both_are_named(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7, 0.5, None, 0.6), collapsed=[1])
    shown = only(tmp_path)
    found = entry(shown, "adapters 64", "RTE")
    assert found.mean == pytest.approx(0.6)
    assert found.collapsed == [1]
    assert found.diverged == [2]
    remarks = "\n".join(words.remarks(shown))
    assert re.search(
        r"Collapsed.* adapters 64 on RTE 1 of 4 seeds \(1\), the others 65\.0\.", remarks
    )
    assert re.search(r"Diverged.* adapters 64 on RTE 1 of 4 seeds \(2\)\.", remarks)


def test_a_collapsed_seed_without_a_defined_metric_is_counted(tmp_path: Path) -> None:
    scores = {"validation": {"pearson": None, "spearman": None}}
    add(tmp_path, "stsb", {0: scores}, collapsed=[0])
    shown = only(tmp_path)
    assert entry(shown, "adapters 64", "STS-B").mean is None
    assert "1 of 1 seed (0)." in words.remarks(shown)[0]


def test_a_share_of_a_negative_correlation_is_not_told(tmp_path: Path) -> None:
    scores = two_metrics("pearson", "spearman", (-0.3, -0.2))
    add(tmp_path, "stsb", scores, options={"method.name": "full"})
    add(tmp_path, "stsb", two_metrics("pearson", "spearman", (0.4, 0.5)))
    assert only(tmp_path).sentences == []


def test_rows_of_the_same_runs_share_a_sentence(tmp_path: Path) -> None:
    """The best of the sizes is 64 everywhere until size 8 wins one task."""
    for task in ("rte", "qnli"):
        add(tmp_path, task, one_metric(0.6), options={"method.name": "full"})
        add(tmp_path, task, one_metric(0.7))
        add(tmp_path, task, one_metric(0.5), options={"method.size": 8})
    (sentence,) = only(tmp_path).sentences
    assert sentence.startswith("Adapters (best of 8/64, here always adapters 64) reach")
    add(tmp_path, "wnli", one_metric(0.5), options={"method.name": "full"})
    add(tmp_path, "wnli", one_metric(0.4))
    add(tmp_path, "wnli", one_metric(0.5), options={"method.size": 8})
    of_both, of_64 = only(tmp_path).sentences
    assert of_both.startswith("Adapters (best of 8/64) reach")
    assert of_64.startswith("Adapters 64 ")


def test_from_how_many_candidates_each_row_was_chosen_is_said(tmp_path: Path) -> None:
    for rate in (1e-4, 3e-4, 1e-3):
        add(tmp_path, "rte", one_metric(0.6), options={"training.learning_rate": rate})
    add(tmp_path, "rte", one_metric(0.6), options={"method.name": "full"})
    remarks = words.remarks(only(tmp_path))
    told = "full fine-tuning: 1; adapters 64: 3."
    assert f"Candidates among which each figure was chosen: {told}" in remarks


def test_epochs_and_seeds_are_told_with_the_rows_that_had_others(tmp_path: Path) -> None:
    shorter, longer = {"training.epochs": 3}, {"training.epochs": 6}
    for task in ("rte", "qnli", "wnli"):
        options = longer if task == "rte" else shorter
        add(tmp_path, task, one_metric(0.6, 0.7), options=options)
        add(tmp_path, task, one_metric(0.6, 0.7), options=options | {"method.name": "full"})
        add(tmp_path, task, one_metric(0.5), options=shorter | {"method.name": "layernorm"})
    (told,) = (one for one in words.remarks(only(tmp_path)) if "Epochs" in one)
    assert told == (
        "Epochs: 3 on QNLI, WNLI; 6 on RTE (3: LayerNorms only). Seeds: 2 (1: LayerNorms only)."
    )
    add(tmp_path / "other", "rte", one_metric(0.6, 0.7), options=longer)
    assert "Epochs: 6. Seeds: 2." in words.remarks(only(tmp_path / "other"))


def test_partial_training_sets_are_named_once_a_task(tmp_path: Path) -> None:
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    add(tmp_path, "mnli", {0: splits}, partial=True)
    add(tmp_path, "rte", one_metric(0.6))
    remarks = words.remarks(only(tmp_path))
    assert "Partial training sets, in rows: mnli 800 of 392,702." in remarks


def test_a_best_of_sizes_says_where_not_all_of_them_were_tried(tmp_path: Path) -> None:
    for task, sizes in (("rte", (8, 64, 256)), ("qnli", (64,)), ("wnli", (8, 64)), ("sst2", (64,))):
        for size in sizes:
            add(tmp_path, task, one_metric(0.6, 0.7), options={"method.size": size})
    add(tmp_path, "rte", one_metric(0.6, 0.7), options={"method.name": "full"})
    (told,) = [one for one in words.remarks(only(tmp_path)) if "sizes" in one]
    assert told == (
        "Not all of a method's sizes were tried on every set: adapters, best of 8/64/256: "
        "64 alone on SST-2, QNLI, 8/64 on WNLI."
    )
    for task in ("qnli", "wnli", "sst2"):
        for size in (8, 64, 256):
            add(tmp_path, task, one_metric(0.6, 0.7), options={"method.size": size})
    assert not [one for one in words.remarks(only(tmp_path)) if "sizes" in one]
