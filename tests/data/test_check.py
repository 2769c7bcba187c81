"""Everything that is wrong with a task's data is told, each with its line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from adaptertune import tasks
from adaptertune.data.check import Report, check, source_of
from adaptertune.data.sources import Source
from adaptertune.report.tables import data
from tests.conftest import Finished

Cli = Callable[..., Finished]

TASK = """
name: t
title: T
labels: [low, high]
metrics: [accuracy]
headline: accuracy
evaluation: [validation]
files:
  columns: {first: text, label: label}
  splits:
    train: {file: train.csv}
    validation: {file: dev.jsonl}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.yaml").write_text(TASK)
    lines = [f"text {n},{'low' if n % 2 else 'high'}" for n in range(20)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    rows = [{"text": f"other {n}", "label": "low" if n % 3 else "high"} for n in range(9)]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(folder: Path) -> Report:
    return check(tasks.load(folder / "t.yaml"), Source("folder", folder), lambda *_: None)


def add(path: Path, *lines: str) -> None:
    with path.open("a") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def test_nothing_is_wrong(folder: Path) -> None:
    report = run(folder)
    assert not report.findings
    assert [(facts.name, facts.num_rows, facts.labels) for facts in report.splits] == [
        ("train", 20, {"low": 10, "high": 10}), ("validation", 9, {"low": 6, "high": 3}),
    ]  # fmt: skip


def test_all_bad_rows_are_told_and_the_rest_is_counted(folder: Path) -> None:
    add(folder / "train.csv", "a,b,c", "text,middle", ",low", "good one,low")
    add(folder / "dev.jsonl", "{", *["[]"] * 15)
    report = run(folder)
    told = [(Path(one.where).name, one.what) for one in report.findings]
    assert told[:4] == [
        ("train.csv:22", "3 columns where the first line has 2"),
        ("train.csv:23", "unknown label 'middle'"),
        ("train.csv:24", "the text in column 1 is empty"),
        ("dev.jsonl:10", "not valid JSON"),
    ]
    assert told[-1] == ("dev.jsonl", "6 more bad rows")
    assert len(told) == 14
    assert report.num_errors == 19  # six of them are in one line
    assert [(facts.num_rows, facts.num_bad) for facts in report.splits] == [(21, 3), (9, 16)]


def test_what_is_worth_knowing(folder: Path) -> None:
    add(folder / "train.csv", "text 0,high", "text 1,high", *[f"more {n},low" for n in range(400)])
    (folder / "dev.jsonl").write_text('{"text": "text 3", "label": "low"}\n')
    assert {(one.level, one.where, one.what) for one in run(folder).findings} == {
        ("warning", "train", "2 of 422 rows repeat the texts of another"),
        ("warning", "train", "1 rows have the texts of another and another label"),
        ("warning", "train", "97.2 % of the rows are 'low', so accuracy says little"),
        ("warning", "validation", "no row has the label 'high'"),
        ("warning", "validation", "100.0 % of the rows are 'low', so accuracy says little"),
        ("warning", "validation", "1 of its 1 texts are in the training set too"),
    }


def test_a_missing_file_hides_nothing_else(folder: Path) -> None:
    (folder / "train.csv").unlink()
    add(folder / "dev.jsonl", "{")
    assert [one.what for one in run(folder).findings] == ["no such file", "not valid JSON"]


def test_scores(folder: Path) -> None:
    text = TASK.replace("labels: [low, high]", "range: [0, 5]").replace("accuracy", "pearson")
    (folder / "t.yaml").write_text(text.replace("train.csv", "s.csv").replace("dev.jsonl", "s.csv"))
    (folder / "s.csv").write_text("text,label\na,0.5\nb,4\nc,5.5\nd,nan\n")
    report = run(folder)
    assert report.splits[0].scores == (0.5, 2.25, 4.0)
    errors = [one for one in report.findings if one.level == "error"]
    assert [(one.where[-1], one.times) for one in errors] == [("4", 2), ("5", 2)]
    assert report.num_errors == 2


def test_the_command(cli: Cli, folder: Path) -> None:
    done = cli("task", "check", "t.yaml")
    assert (done.code, done.err) == (0, "")
    assert "ready to train" in done.out
    (folder / "diagnostic").mkdir()
    (folder / "diagnostic" / "diagnostic.tsv").write_text(
        "index\tsentence1\tsentence2\n0\ta b\tc\n"
    )
    done = cli("task", "check", "ax", "--data-dir", folder)
    assert "ready to train" not in done.out
    assert "has no training data, mnli's model answers it" in done.out, done.out
    add(folder / "train.csv", "x,<b>")
    done = cli("task", "check", "t.yaml", "--json")
    assert done.code == 2
    given = json.loads(done.out)
    assert given["errors"] == 1
    assert given["findings"][0]["what"] == "unknown label '<b>'"
    done = cli("task", "check", "t.yaml")
    assert "train.csv:22: unknown label '<b>'; expected low, high" in done.out
    (folder / "t.yaml").write_text(TASK.replace("headline: accuracy", "headline: f1"))
    done = cli("task", "check", "t.yaml")
    assert (done.code, done.err) == (2, "")
    assert "error: t.yaml: headline 'f1' is not among the metrics\n1 error\n" in done.out


def test_all_faults_of_the_file_are_told_at_once(cli: Cli, folder: Path) -> None:
    text = TASK.replace("title: T", "titel: T").replace("train.csv", "rows/train.csv")
    text += "    a/b: {file: x}\n"
    (folder / "t.yaml").write_text(text.replace("[accuracy]", "[acuracy]"))
    done = cli("task", "check", "t.yaml", "--json")
    assert (done.code, done.err) == (2, "")
    given = json.loads(done.out)
    assert (given["task"], given["errors"], given["splits"]) == ("t.yaml", 5, [])
    assert {(one["where"], one["what"]) for one in given["findings"]} == {
        ("t.yaml", "key 'title' is missing"),
        ("t.yaml:3", "unknown key 'titel'"),
        ("t.yaml:5", "'metrics.0' should be 'accuracy', 'f1', 'matthews', 'pearson' or 'spearman', "
         "not 'acuracy'"),
        ("t.yaml:11", "'files.splits.train.file' must be a name without a path, not 'rows/train.csv'"),
        ("t.yaml:13", "'files.splits.a/b' must be a name of letters, digits, '_', '-' and '.', "
         "not 'a/b'"),
    }  # fmt: skip
    text = TASK.replace("headline: accuracy", "headline: f1").replace("[low, high]", "[low, low]")
    (folder / "t.yaml").write_text(text.replace("    validation: {file: dev.jsonl}\n", ""))
    done = cli("task", "check", "t.yaml")
    assert (done.code, done.err) == (2, "")
    assert done.out.splitlines() == [
        "t.yaml",
        "error: t.yaml: 'labels' must hold at least two different names",
        "error: t.yaml: headline 'f1' is not among the metrics",
        "error: t.yaml: 'files.splits' lacks 'validation'",
        "3 errors",
    ]
    for content, complaint in (("a: [", "t.yaml:1: not valid YAML"), ("- a", "`key: value` lines")):
        (folder / "t.yaml").write_text(content)
        done = cli("task", "check", "t.yaml")
        assert (done.code, done.out) == (2, "")
        assert complaint in done.err


def test_what_is_wrong_with_every_split_is_told_once(folder: Path) -> None:
    text = TASK.replace("train.csv", "dev.tsv").replace("dev.jsonl", "dev.tsv")
    (folder / "t.yaml").write_text(text)
    (folder / "dev.tsv").write_text("text\tlabels\nx\tlow\n")
    (finding,) = run(folder).findings
    assert (finding.what, finding.times) == ("no column 'label'", 2)
    shown = Console(file=io.StringIO(), width=300)
    shown.print(data.check("T", run(folder), None))
    assert isinstance(shown.file, io.StringIO)
    assert shown.file.getvalue().splitlines()[1:] == [
        f"error: {folder / 'dev.tsv'}:1: no column 'label'; did you mean labels? (2 times)", "1 error",
    ]  # fmt: skip


def test_a_long_or_unprintable_label_is_told_in_a_short_line(folder: Path) -> None:
    add(folder / "train.csv", f"x,{'y' * 500_000}", "x,\x1b[2J\x07")
    long, odd = run(folder).findings
    assert len(long.what) < 1_100
    assert odd.what == r"unknown label '\x1b[2J\x07'"


def test_where_the_rows_are(folder: Path) -> None:
    """As a training has it, without a network too."""
    own, (rte, shipped) = tasks.load(folder / "t.yaml"), tasks.load_with_path("rte", None)
    path = folder / "t.yaml"
    assert source_of(path, own, None, offline=False) == Source("folder", folder)
    assert source_of(path, own, Path("x"), offline=False) == Source("folder", Path("x"))
    assert source_of(path, rte, None, offline=False) == Source("hub")
    assert source_of(shipped, rte, None, offline=True) == Source("sample", offline=True)
    assert source_of(path, rte, None, offline=True) == Source("folder", folder, offline=True)
    on_hub = rte.model_copy(update={"files": None})
    assert source_of(path, on_hub, None, offline=True) == Source("hub", offline=True)


def test_scores_that_are_all_one(folder: Path) -> None:
    """With which no answers correlate; of the training set it is only odd."""
    scored = TASK.replace("labels: [low, high]", "range: [0, 5]").replace("accuracy", "pearson")
    (folder / "t.yaml").write_text(scored)
    for name, score in (("dev.csv", 2.5), ("train.csv", 1.0)):
        lines = [f"text {name} {n},{score}" for n in range(9)]
        (folder / name).write_text("\n".join(["text,label", *lines]) + "\n")
    (folder / "t.yaml").write_text(scored.replace("dev.jsonl", "dev.csv"))
    (finding,) = run(folder).findings
    assert (finding.level, finding.where) == ("error", "validation")
    assert finding.what == "all rows have one score, with which nothing correlates"
