"""Columns and the averages over them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptertune.report import words
from adaptertune.report.comparison import averages
from adaptertune.report.schema import Entry, Hole
from adaptertune.runs.store import CellFolder
from tests.report.records import add, change, one_metric, only, row, two_metrics


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


def test_of_cola_the_leaderboard_counts_matthews_alone(tmp_path: Path) -> None:
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    add(tmp_path, "stsb", two_metrics("pearson", "spearman", (0.9, 0.8)))
    assert row(only(tmp_path), "adapters 64").glue_average == pytest.approx((0.5 + 0.85) / 2)


def test_averages_of_nothing_are_missing() -> None:
    assert averages.plain_mean([]) is None
    assert averages.plain_mean([0.5, None]) is None
    assert averages.glue_average([], []) is None


def test_other_rows_of_a_task_are_another_column(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.5), rows="others", options={"method.name": "full"})
    add(tmp_path, "rte", one_metric(0.6), rows="others")
    add(tmp_path, "rte", one_metric(0.8), options={"method.name": "full"})
    shown = only(tmp_path)
    assert [column.label for column in shown.columns] == [
        "RTE (2,490 rows, ws-rte)",
        "RTE (2,490 rows, rs-rte)",
    ]
    assert [row.mean for row in shown.rows] == [None, None]
    assert shown.sentences == []
    assert any("its rows or its definition differ" in remark for remark in words.remarks(shown))


def test_no_command_makes_a_run_on_rows_that_have_been_changed(tmp_path: Path) -> None:
    """The older column's rows stood where the newer one's are."""
    add(tmp_path, "rte", one_metric(0.7))
    newer = add(tmp_path, "rte", one_metric(0.5), rows="others", options={"method.name": "full"})
    add(
        tmp_path,
        "rte",
        one_metric(0.6),
        partial=True,
        rows="few",
        options={"method.name": "bitfit"},
    )
    change(newer, 0, cost={"finished_at": "2026-11-24T00:00:00+00:00"})
    shown = only(tmp_path)
    labels = {
        "RTE (2,490 rows, ws-rte)": False, "RTE (2,490 rows, rs-rte)": True, "RTE (800 rows)": False,
    }  # fmt: skip
    found = {
        column.label: {
            entry.command is not None
            for entry in (row.entries[at] for row in shown.rows)
            if isinstance(entry, Hole)
        }
        for at, column in enumerate(shown.columns)
    }
    assert found == {label: {can} for label, can in labels.items()}


def redefine(folder: CellFolder, path: str | None = None, **facts: object) -> None:
    """As if the task's file had said something else when this run was made, or were another."""
    described = json.loads(folder.config.read_text())
    described["identity"]["task"].update(facts)
    if path:
        described["config"]["task"] = path
    folder.config.write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("before", "now", "can"),
    [("own/rte", "own/rte", [False, True]), ("own/f1", "own/rte", [True, True])],
)
def test_no_command_makes_a_run_of_a_task_that_has_been_changed(
    tmp_path: Path, before: str, now: str, can: list[bool]
) -> None:
    """However its file was named: an earlier version kept it as it was typed. But two files of one task
    with rows in common are not each other's past.
    """
    older = add(tmp_path, "rte", one_metric(0.7))
    newer = add(tmp_path, "rte", one_metric(0.5), rows="others", options={"method.name": "full"})
    redefine(older, f"{before}.yaml")
    redefine(newer, f"/somewhere/{now}.yaml")
    change(newer, 0, cost={"finished_at": "2026-11-24T00:00:00+00:00"})
    shown = only(tmp_path)
    holes = [one for row in shown.rows for one in row.entries if isinstance(one, Hole)]
    assert sorted(hole.command is not None for hole in holes) == can


def test_another_headline_is_another_column(tmp_path: Path) -> None:
    """A best F1 is not set beside a best accuracy, nor chosen before it."""
    add(tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.9, 0.8)))
    other = add(
        tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.7, 0.6)), options={"training.epochs": 5}
    )
    redefine(other, headline="accuracy")
    shown = only(tmp_path)
    labels = [column.label for column in shown.columns]
    found = dict(zip(labels, row(shown, "adapters 64").entries, strict=True))
    told = {
        label: (entry.mean, entry.num_candidates)
        for label, entry in found.items()
        if isinstance(entry, Entry)
    }
    assert told == {"MRPC (F1)": (0.9, 1), "MRPC (accuracy)": (0.6, 1)}


def test_over_two_definitions_of_a_task_there_is_no_mean(tmp_path: Path) -> None:
    """Of the same rows by another name of their split, too."""
    add(tmp_path, "rte", one_metric(0.8))
    other = add(tmp_path, "rte", {0: {"dev": {"accuracy": 0.4}}}, options={"training.epochs": 5})
    redefine(other, "own/rte.yaml", evaluation=["dev"])
    shown = only(tmp_path)
    assert len({column.label for column in shown.columns}) == 2
    assert [row.mean for row in shown.rows] == [None]
    assert any("its rows or its definition differ" in remark for remark in words.remarks(shown))


def test_labels_in_another_order_are_another_column(tmp_path: Path) -> None:
    """F1 of the one label less F1 of the other is no difference of methods."""
    add(tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.9, 0.8)))
    full = add(
        tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.5, 0.8)), options={"method.name": "full"}
    )
    redefine(full, labels=["yes", "no"], metrics=["f1"])
    shown = only(tmp_path)
    assert len({column.label for column in shown.columns}) == 2
    assert [place.beside for place in row(shown, "adapters 64").places] == [None, None]


def test_a_further_metric_is_no_other_column(tmp_path: Path) -> None:
    add(tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.9, 0.8)))
    full = add(
        tmp_path, "mrpc", two_metrics("f1", "accuracy", (0.5, 0.8)), options={"method.name": "full"}
    )
    redefine(full, metrics=["f1"])
    shown = only(tmp_path)
    assert [column.label for column in shown.columns] == ["MRPC"]
    beside = row(shown, "adapters 64").places[0].beside
    assert beside
    assert beside.difference.mean == pytest.approx(0.4)
