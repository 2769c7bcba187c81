"""A source's figures stand in a table of their own, with the columns that it gives."""

from __future__ import annotations

from pathlib import Path

from adaptertune.report import page, published
from tests.report.records import add, compared, one_metric, only


def test_a_table_a_source_with_the_columns_that_it_gives(tmp_path: Path) -> None:
    """Of Houlsby et al. 2019: Table 1 has both tasks and what they cost, section 3.4 MNLI-m alone."""
    splits = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.7}}
    add(tmp_path, "mnli", {0: splits}, backbone="google-bert/bert-base-uncased")
    add(tmp_path, "rte", one_metric(0.6), backbone="google-bert/bert-base-uncased")
    in_table, in_text = published.by_source(only(tmp_path))
    assert in_table.title.startswith("Houlsby et al. 2019, Table 1, BERT-large, test server (not ")
    assert in_table.head == [
        "method", "MNLI-m\naccuracy", "MNLI-mm\naccuracy", "RTE\naccuracy", "mean",
        "9 tasks\nparams", "trained\n% encoder",
    ]  # fmt: skip
    assert in_table.lines[2] == ["adapters 64", "85.3", "84.6", "68.8", "79.6", "1.2x", "2.1"]
    assert in_text.title.endswith("bert-base-uncased, validation (comparable)")
    assert in_text.head == ["method", "MNLI-m\naccuracy"]
    assert in_text.lines[0] == ["full fine-tuning", "84.4"]


def test_the_markdown_shows_them_below_ours(tmp_path: Path) -> None:
    add(tmp_path / "runs", "rte", one_metric(0.6))
    page.write(compared(tmp_path / "runs"), [], tmp_path / "runs", tmp_path / "page", "0")
    text = (tmp_path / "page" / "report.md").read_text()
    ours, _, theirs = text.partition("Houlsby et al. 2019, Table 1, BERT-large, test server")
    assert "|  | full fine-tuning | adapters 8-256 | adapters 64 |" in theirs
    assert "| RTE accuracy | 70.1 | 71.5 | 68.8 |" in theirs
    assert "| 9 tasks params | 9.0x | 1.3x | 1.2x |" in theirs
    assert "68.8" not in ours
