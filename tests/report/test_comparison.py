"""Table 1 from a store of records: rows, columns, averages, choices, holes."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adaptertune.errors import StoreError
from adaptertune.report import comparison, evidence
from adaptertune.report.comparison import Comparison, Entry, Group, Hole, Row
from adaptertune.runs.results import Failure
from adaptertune.runs.store import write_result
from tests.conftest import Finished
from tests.report.records import add, one_metric, two_metrics


def compared(root: Path) -> list[Group]:
    return comparison.compare(evidence.read(root)[0])


def only(root: Path) -> Comparison:
    (group,) = compared(root)
    return group.comparison


def row(shown: Comparison, label: str) -> Row:
    (found,) = [row for row in shown.rows if row.label == label]
    return found


def entry(shown: Comparison, label: str, column: str) -> Entry:
    names = [column.label for column in shown.columns]
    found = row(shown, label).entries[names.index(column)]
    assert isinstance(found, Entry)
    return found


def test_rows_and_columns_are_the_papers(tmp_path: Path) -> None:
    for method in ("full", "layernorm", "bitfit"):
        add(tmp_path, "rte", one_metric(0.6, 0.7), options={"method.name": method})
    top = {"method.name": "top_layers", "method.k": 1}
    add(tmp_path, "rte", one_metric(0.6), options=top)
    for size, score in ((8, 0.62), (64, 0.61), (256, 0.60)):
        add(tmp_path, "rte", one_metric(score), options={"method.size": size})
    shown = only(tmp_path)
    assert [row.label for row in shown.rows] == [
        "full fine-tuning",
        "adapters, best of 8/64/256",
        "adapters 64",
        "top layer",
        "LayerNorms only",
        "biases only (BitFit)",
    ]
    assert entry(shown, "adapters, best of 8/64/256", "RTE").mean == 0.62
    assert entry(shown, "adapters, best of 8/64/256", "RTE").settings["method.size"] == 8
    assert entry(shown, "adapters 64", "RTE").mean == 0.61


def test_columns_have_the_servers_names_in_the_papers_order(tmp_path: Path) -> None:
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    add(tmp_path, "rte", one_metric(0.6))
    add(tmp_path, "mnli", {0: splits})
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    assert [column.label for column in only(tmp_path).columns] == [
        "CoLA",
        "MNLI-m",
        "MNLI-mm",
        "RTE",
    ]


def test_averages_by_the_plain_mean_and_by_the_leaderboards_rule(tmp_path: Path) -> None:
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    add(tmp_path, "mnli", {0: splits})
    add(tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.9, 0.84), (0.88, 0.82)))
    add(tmp_path, "rte", one_metric(0.6, 0.5))
    found = row(only(tmp_path), "adapters 64")
    # The columns: F1 0.89, 0.8, 0.7, 0.55.
    assert found.mean == pytest.approx((0.89 + 0.8 + 0.7 + 0.55) / 4)
    # By task: MRPC (0.89 + 0.83) / 2 = 0.86, MNLI 0.75, RTE 0.55.
    assert found.glue_average == pytest.approx((0.86 + 0.75 + 0.55) / 3)


def test_a_row_with_a_hole_has_no_average_and_the_hole_its_command(
    tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    add(tmp_path / "runs", "rte", one_metric(0.6, 0.5))
    options = {"method.name": "top_layers", "method.k": 2, "training.learning_rate": 3e-5}
    add(tmp_path / "runs", "rte", one_metric(0.6, 0.5), options=options)
    add(tmp_path / "runs", "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    shown = only(tmp_path / "runs")
    found = row(shown, "top 2 layers")
    assert found.mean is None
    assert found.glue_average is None
    hole = found.entries[0]
    assert isinstance(hole, Hole)
    # The command makes just such a run, of the task that lacks it.
    command = shlex.split(hole.command)
    assert command[:2] == ["adaptertune", "train"]
    given = dict(itertools.pairwise(command))
    assert given["--task"] == "cola"
    assert given["--method"] == "top_layers"
    assert given["--top-k"] == "2"
    assert float(given["--lr"]) == 3e-5
    assert given["--seeds"] == "2"
    assert given["--data-dir"] == "glue"
    assert "--offline" in command
    done = cli(*command[1:], "--dry-run")  # the real command line takes it, and asks for the data
    assert done.code == 2
    assert "glue" in done.err


def test_means_deviations_and_differences_are_over_seeds(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.70, 0.72, 0.77), options={"method.name": "full"})
    add(tmp_path, "rte", one_metric(0.69, 0.70, 0.71))
    shown = only(tmp_path)
    found = entry(shown, "adapters 64", "RTE")
    assert found.mean == pytest.approx(0.70)
    assert found.deviation == pytest.approx(statistics.stdev([0.69, 0.70, 0.71]))
    assert found.best == 0.71
    assert found.n == 3
    (difference,) = row(shown, "adapters 64").differences
    assert difference is not None
    assert difference.mean == pytest.approx(-0.03)
    assert (difference.wins, difference.losses) == (0, 3)
    assert row(shown, "full fine-tuning").differences == [None]
    (sentence,) = shown.sentences
    assert "keep 95.9 % of full fine-tuning's score" in sentence
    assert "5.7 % of the encoder's parameters" in sentence


def test_of_one_seed_nothing_is_told_but_its_score(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    found = entry(only(tmp_path), "adapters 64", "RTE")
    assert found.mean == 0.7
    assert found.deviation is None
    assert found.interval is None
    assert found.standard_error is None


def test_the_best_runs_labels_are_compared(tmp_path: Path) -> None:
    true = np.array([0, 1] * 5)
    full = add(tmp_path, "rte", one_metric(0.70, 0.60), options={"method.name": "full"})
    ours = add(tmp_path, "rte", one_metric(0.60, 0.70))
    # The best seeds are 0 and 1: seven examples that only the first gets right, one the other way.
    for folder, seed, wrong in ((full, 0, [0]), (ours, 1, [1, 2, 3, 4, 5, 6, 7])):
        labels = true.copy()
        labels[wrong] = 1 - labels[wrong]
        logits = np.eye(2, dtype=np.float32)[labels]
        path = folder.seed(seed).logits
        save_file({"logits.validation": logits, "labels.validation": true}, path)
    shown = only(tmp_path)
    (found,) = row(shown, "adapters 64").best_runs
    assert found is not None
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.p == pytest.approx(2 * (1 + 8) / 2**8)
    assert row(shown, "full fine-tuning").best_runs == [None]
    ours.seed(1).logits.write_bytes(b"cut off")
    with pytest.raises(StoreError, match=r"logits.safetensors: damaged"):
        only(tmp_path)
    ours.seed(1).logits.unlink()
    assert row(only(tmp_path), "adapters 64").best_runs == [None]


def test_parameters_and_shares_are_those_of_the_ledger(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.7), options={"method.name": "full"})
    shown = only(tmp_path)
    found = row(shown, "adapters 64")
    # MiniLM: 595,200 in adapters, 9,984 in LayerNorms, of 10,646,784 in the encoder layers.
    assert found.trained == 605_184
    assert found.share_of_encoder_layers == pytest.approx(605_184 / 10_646_784)
    assert found.multiple == pytest.approx(1 + 9 * 605_184 / 10_646_784)
    full = row(shown, "full fine-tuning")
    assert (full.multiple, full.share_of_encoder_layers, full.share_of_all_parameters) == (9, 1, 1)


def test_candidates_differ_in_rate_and_epochs_and_the_best_mean_is_shown(tmp_path: Path) -> None:
    for rate, scores in ((1e-4, (0.6, 0.8)), (1e-3, (0.71, 0.73)), (3e-3, (0.5, 0.9))):
        add(tmp_path, "rte", one_metric(*scores), options={"training.learning_rate": rate})
    add(tmp_path, "rte", one_metric(0.6, 0.6), options={"training.epochs": 2})
    found = entry(only(tmp_path), "adapters 64", "RTE")
    assert found.num_candidates == 4
    assert found.settings["training.learning_rate"] == 1e-3
    assert found.mean == pytest.approx(0.72)


def test_one_lucky_seed_does_not_beat_three(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.9), options={"training.learning_rate": 1e-4})
    add(tmp_path, "rte", one_metric(0.7, 0.7, 0.7), options={"training.learning_rate": 1e-3})
    add(tmp_path, "rte", one_metric(*[0.6] * 5), options={"training.learning_rate": 3e-3})
    assert entry(only(tmp_path), "adapters 64", "RTE").mean == pytest.approx(0.7)


def test_selection_never_sees_the_split_that_is_reported_when_part_of_train_is_held_out(
    tmp_path: Path,
) -> None:
    for rate, held_out, validation in ((1e-4, 0.8, 0.6), (1e-3, 0.7, 0.9)):
        scores = {"held-out": {"accuracy": held_out}, "validation": {"accuracy": validation}}
        add(
            tmp_path,
            "rte",
            {0: scores},
            options={"training.learning_rate": rate, "protocol": "held-out"},
        )
    shown = only(tmp_path)
    found = entry(shown, "adapters 64", "RTE")
    assert found.settings["training.learning_rate"] == 1e-4
    assert found.mean == 0.6
    assert "held-out" in shown.title
    assert "chose nothing" in shown.protocol
    assert "optimistic" not in shown.protocol


def test_collapsed_seeds_count_diverged_ones_do_not_and_both_are_named(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7, 0.5, None, 0.6), collapsed=[1])
    shown = only(tmp_path)
    found = entry(shown, "adapters 64", "RTE")
    assert found.mean == pytest.approx(0.6)
    assert found.collapsed == [1]
    assert found.diverged == [2]
    remarks = "\n".join(comparison.remarks(shown))
    assert re.search(r"Collapsed.* adapters 64 on RTE 1 of 4 seeds \(1\)\.", remarks)
    assert re.search(r"Diverged.* adapters 64 on RTE 1 of 4 seeds \(2\)\.", remarks)


def test_a_method_whose_seeds_all_diverged_has_no_score_and_no_average(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(None, None))
    shown = only(tmp_path)
    assert entry(shown, "adapters 64", "RTE").mean is None
    assert row(shown, "adapters 64").mean is None
    assert row(shown, "adapters 64").glue_average is None


def test_sample_and_glue_backbones_and_kept_epochs_are_never_in_one_table(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.9), sample=True)
    add(tmp_path, "rte", one_metric(0.8), backbone="bert-tiny")
    add(tmp_path, "rte", one_metric(0.6), options={"recipe": "official-code"})
    shown = [group.comparison for group in compared(tmp_path)]
    assert [(one.title, one.rows[0].mean) for one in shown] == [
        ("Real data · bert-tiny", 0.8),
        ("Real data · minilm", 0.7),
        ("Real data · minilm · last epoch kept", 0.6),
        ("Sample data, not GLUE · minilm", 0.9),
    ]
    assert all(one.published for one in shown if not one.sample)
    assert not shown[-1].published
    assert shown[-1].rows[0].glue_average is None


def test_other_rows_of_a_task_are_another_column(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.5), rows="others", options={"method.name": "full"})
    shown = only(tmp_path)
    assert [column.label for column in shown.columns] == ["RTE", "RTE"]
    assert all(
        isinstance(row.entries[0], Hole) != isinstance(row.entries[1], Hole) for row in shown.rows
    )
    assert any("rows of its data differ" in remark for remark in comparison.remarks(shown))


def test_what_sets_a_row_apart_is_named_and_what_the_recipe_says_is_not(tmp_path: Path) -> None:
    for std in (1e-2, 1e-1):
        add(tmp_path, "rte", one_metric(0.7), options={"method.init_std": std})
    add(tmp_path, "rte", one_metric(0.7), options={"method.layers": "3-5"})
    add(tmp_path, "rte", one_metric(0.7), options={"training.batch_size": 16})
    assert [row.label for row in only(tmp_path).rows] == [
        "adapters 64",
        "adapters 64, batch size 16",
        "adapters 64, init std 0.1",
        "adapters 64, layers 3,4,5",
    ]


def test_tasks_may_ask_for_different_lengths_within_a_row(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7), options={"training.max_length": 256})
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    assert [row.label for row in only(tmp_path).rows] == ["adapters 64"]


def test_a_variant_on_some_tasks_only_is_no_row_but_is_mentioned(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.7), options={"method.init_std": 0.1})
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    shown = only(tmp_path)
    assert [row.label for row in shown.rows] == ["adapters 64"]
    assert shown.elsewhere == ["adapters 64, init std 0.1"]
    assert any("init std 0.1" in remark for remark in comparison.remarks(shown))


def test_published_rows_stand_beside_with_what_keeps_them_apart(tmp_path: Path) -> None:
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    add(tmp_path, "mnli", {0: splits}, backbone="bert-base")
    add(tmp_path, "rte", one_metric(0.6), backbone="bert-base", partial=True)
    published = only(tmp_path).published
    table_1 = {row.label: row for row in published if "Table 1" in row.source}
    assert table_1["full fine-tuning"].values == pytest.approx([0.867, 0.859, 0.701])
    assert table_1["full fine-tuning"].mean == pytest.approx((0.867 + 0.859 + 0.701) / 3)
    assert table_1["full fine-tuning"].multiple == 9
    assert table_1["adapters 64"].share == 0.021
    # The leaderboard's average of the paper is over all of GLUE, and this table is not.
    assert table_1["adapters 64"].glue_average is None
    assert not table_1["adapters 64"].comparable
    assert "test server" in str(table_1["adapters 64"].why_not)


def test_the_papers_validation_figures_are_comparable_with_the_same_model_on_complete_data(
    tmp_path: Path,
) -> None:
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    name = "google-bert/bert-base-uncased"
    add(tmp_path / "complete", "mnli", {0: splits}, backbone=name)
    add(tmp_path / "partial", "mnli", {0: splits}, backbone=name, partial=True)

    def comparable(root: Path) -> dict[str, bool]:
        return {row.label: row.comparable for row in only(root).published if "3.4" in row.source}

    assert set(comparable(tmp_path / "complete").values()) == {True}
    assert "top layer only" in comparable(tmp_path / "complete")
    assert set(comparable(tmp_path / "partial").values()) == {False}


def test_missing_seeds_and_cells_without_any_are_holes_with_commands(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7), asked=[0, 1, 2])
    add(tmp_path, "cola", {}, asked=[0, 1])
    cells, unfinished = evidence.read(tmp_path)
    found = comparison.missing(comparison.compare(cells), unfinished)
    assert [one.what.partition(":")[2] for one in found] == [" seeds 1, 2", " no seed is finished"]
    assert all(one.command.startswith("adaptertune train --task ") for one in found)


def test_a_hole_of_ones_own_task_names_its_file_and_its_data(tmp_path: Path) -> None:
    own = tmp_path / "own task.yaml"
    own.write_text(
        "name: tickets\ntitle: T\nlabels: [low, high]\nmetrics: [f1]\nheadline: f1\n"
        "evaluation: [validation]\nfiles:\n  columns: {first: a, label: b}\n  splits:\n"
        "    train: {file: train.tsv}\n    validation: {file: dev.tsv}\n"
    )
    add(tmp_path / "runs", str(own), {0: {"validation": {"f1": 0.5}}})
    own.unlink()  # reading results needs no task files
    add(tmp_path / "runs", "rte", one_metric(0.6), options={"method.name": "full"})
    shown = only(tmp_path / "runs")
    assert [column.label for column in shown.columns] == ["RTE", "tickets"]
    hole = row(shown, "full fine-tuning").entries[1]
    assert isinstance(hole, Hole)
    assert f"--task '{own}'" in hole.command
    assert not shown.columns[1].glue


def test_a_collapsed_seed_without_a_defined_metric_is_counted(tmp_path: Path) -> None:
    scores = {"validation": {"pearson": None, "spearman": None}}
    add(tmp_path, "stsb", {0: scores}, collapsed=[0])
    shown = only(tmp_path)
    assert entry(shown, "adapters 64", "STS-B").mean is None
    assert "1 of 1 seeds (0)" in comparison.remarks(shown)[0]


def test_a_failed_seed_is_missing_with_its_error(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7), asked=[0, 1])
    failure = Failure(
        seed=1,
        digest="d",
        error="out of memory",
        traceback="…",
        attempts=1,
        failed_at="2026-11-23T04:07:08+00:00",
        host="here",
    )
    write_result(folder.seed(1).failure, failure)
    cells, unfinished = evidence.read(tmp_path)
    (found,) = comparison.missing(comparison.compare(cells), unfinished)
    assert found.what.endswith(": seeds 1; seed 1 failed: out of memory")


def test_other_candidates_of_a_search_by_one_seed_are_no_holes(tmp_path: Path) -> None:
    """What a sweep with ``--seeds-on winner`` leaves."""
    rates = {1e-4: (0.6,), 1e-3: (0.7, 0.7, 0.7), 3e-3: (0.5,)}
    for rate, values in rates.items():
        options = {"training.learning_rate": rate}
        add(tmp_path, "rte", one_metric(*values), asked=[0, 1, 2], options=options)
    cells, unfinished = evidence.read(tmp_path)
    assert comparison.missing(comparison.compare(cells), unfinished) == []


def test_runs_from_before_a_setting_came_are_not_another_variant(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.6))
    old = add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.7}}})
    described = json.loads(old.config.read_text())
    described["config"]["method"] = {
        key: described["config"]["method"][key]
        for key in ("name", "size", "layers", "init_std", "activation")
    }
    old.config.write_text(json.dumps(described))
    (alone,) = only(tmp_path).rows
    assert (alone.label, alone.variant) == ("adapters 64", "")
    assert all(isinstance(one, Entry) for one in alone.entries)


def test_of_two_candidates_the_one_that_never_diverges_is_chosen(tmp_path: Path) -> None:
    risky = one_metric(0.8, 0.8, 0.8, None)
    add(tmp_path, "rte", risky, options={"training.learning_rate": 3e-3})
    add(tmp_path, "rte", one_metric(0.7, 0.7, 0.7), options={"training.learning_rate": 1e-3})
    assert entry(only(tmp_path), "adapters 64", "RTE").mean == pytest.approx(0.7)


def test_a_share_of_a_negative_correlation_is_not_told(tmp_path: Path) -> None:
    scores = two_metrics("pearson", "spearman", (-0.3, -0.2))
    add(tmp_path, "stsb", scores, options={"method.name": "full"})
    add(tmp_path, "stsb", two_metrics("pearson", "spearman", (0.4, 0.5)))
    assert only(tmp_path).sentences == []


def test_a_damaged_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7))
    folder.seed(0).epochs.write_text('{"epoch": 1')
    with pytest.raises(StoreError, match=r"epochs.jsonl: damaged .*; delete .*seed-0"):
        evidence.read(tmp_path)


def test_averages_of_nothing_are_missing() -> None:
    assert comparison.plain_mean([]) is None
    assert comparison.plain_mean([0.5, None]) is None
    assert comparison.glue_average([], []) is None
