"""Published rows beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptertune.runs import grid, results
from tests.report.records import add, one_metric, only


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


@pytest.mark.parametrize("name", ["paper-64", "paper-8-256"])
def test_table_1_is_of_the_model_that_the_papers_searches_train(tmp_path: Path, name: str) -> None:
    large = grid.read(name).config.settings["backbone"]
    cased = "google-bert/bert-large-cased"
    for backbone in (large, cased, f"{large}@0123abc"):
        add(tmp_path / backbone, "rte", one_metric(0.7), backbone=backbone)
        assert {row.why_not for row in only(tmp_path / backbone).published} == {
            "there the test server"
        }
    for other in ("google-bert/bert-base-uncased", "minilm"):
        add(tmp_path / other, "rte", one_metric(0.7), backbone=other)
        assert {row.why_not for row in only(tmp_path / other).published} == {
            "there BERT-large, there the test server"
        }


def test_the_report_and_a_runs_own_summary_have_the_same_reasons(tmp_path: Path) -> None:
    name = "google-bert/bert-base-uncased"
    scores = {split: {"accuracy": 0.8} for split in ("validation_matched", "validation_mismatched")}
    plain = add(tmp_path / "plain", "mnli", {0: scores}, backbone=name)
    assert (reasons(tmp_path / "plain"), plain.path.exists()) == ({None}, True)
    facts = results.InitFrom(
        run="qnli/cell/seed-3", task="qnli", seed=3, digest="d" * 64, sha256="c" * 64, head=False
    )
    options = {"init_from": ["a"]}
    add(tmp_path / "begun", "mnli", {0: scores}, backbone=name, options=options, init_from=facts)
    assert reasons(tmp_path / "begun") == {"here started from qnli"}
    both = scores | {"held-out": {"accuracy": 0.8}}
    held = {"protocol": "held-out"}
    add(tmp_path / "held", "mnli", {0: both}, backbone=name, options=held, partial=True)
    assert reasons(tmp_path / "held") == {
        "here a partial training set, here part of the training set held out"
    }


def reasons(root: Path) -> set[str | None]:
    return {row.why_not for row in only(root).published if "3.4" in row.source}
