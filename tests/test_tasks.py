"""The shipped tasks against the GLUE benchmark's own tables, and what an own task file may say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from adaptertune import tasks
from adaptertune.config import resolve
from adaptertune.errors import ConfigError

# From the GLUE paper (Wang et al. 2019, table 1), gluebenchmark.com/tasks and the columns of the
# official files: kind, labels, metrics with the selecting one first, texts in an example.
GLUE: dict[str, tuple[str, int, tuple[str, ...], int]] = {
    "ax": ("classes", 3, ("matthews",), 2),
    "cola": ("classes", 2, ("matthews", "accuracy"), 1),
    "mnli": ("classes", 3, ("accuracy",), 2),
    "mrpc": ("classes", 2, ("f1", "accuracy"), 2),
    "qnli": ("classes", 2, ("accuracy",), 2),
    "qqp": ("classes", 2, ("f1", "accuracy"), 2),
    "rte": ("classes", 2, ("accuracy",), 2),
    "sst2": ("classes", 2, ("accuracy",), 1),
    "stsb": ("scores", 1, ("pearson", "spearman"), 2),
    "wnli": ("classes", 2, ("accuracy",), 2),
}
# The order in which nyu-mll/glue numbers them: label 1 is the positive one of F1.
LABELS = {
    "ax": ("entailment", "neutral", "contradiction"),
    "cola": ("unacceptable", "acceptable"),
    "mnli": ("entailment", "neutral", "contradiction"),
    "mrpc": ("not_equivalent", "equivalent"),
    "qnli": ("entailment", "not_entailment"),
    "qqp": ("not_duplicate", "duplicate"),
    "rte": ("entailment", "not_entailment"),
    "sst2": ("negative", "positive"),
    "stsb": None,
    "wnli": ("not_entailment", "entailment"),
}
# Rows of the hub's splits, train / validation / test.
ROWS: dict[str, dict[str, int]] = {
    "ax": {"test": 1104},
    "cola": {"train": 8551, "validation": 1043, "test": 1063},
    "mnli": {
        "train": 392702,
        "validation_matched": 9815,
        "validation_mismatched": 9832,
        "test_matched": 9796,
        "test_mismatched": 9847,
    },
    "mrpc": {"train": 3668, "validation": 408, "test": 1725},
    "qnli": {"train": 104743, "validation": 5463, "test": 5463},
    "qqp": {"train": 363846, "validation": 40430, "test": 390965},
    "rte": {"train": 2490, "validation": 277, "test": 3000},
    "sst2": {"train": 67349, "validation": 872, "test": 1821},
    "stsb": {"train": 5749, "validation": 1500, "test": 1379},
    "wnli": {"train": 635, "validation": 71, "test": 146},
}
# Test split -> the file's name on the GLUE server (as jiant writes them), and how labels are spelt.
NUMBERS = ("0", "1")
SUBMISSIONS: dict[str, dict[str, tuple[str, tuple[str, ...] | None]]] = {
    "ax": {"test": ("AX.tsv", None)},
    "cola": {"test": ("CoLA.tsv", NUMBERS)},
    "mnli": {"test_matched": ("MNLI-m.tsv", None), "test_mismatched": ("MNLI-mm.tsv", None)},
    "mrpc": {"test": ("MRPC.tsv", NUMBERS)},
    "qnli": {"test": ("QNLI.tsv", None)},
    "qqp": {"test": ("QQP.tsv", NUMBERS)},
    "rte": {"test": ("RTE.tsv", None)},
    "sst2": {"test": ("SST-2.tsv", NUMBERS)},
    "stsb": {"test": ("STS-B.tsv", None)},
    "wnli": {"test": ("WNLI.tsv", NUMBERS)},
}
# Houlsby et al. 2019, table 1: task and split, then full fine-tuning, adapters 8-256, adapters 64.
TABLE_1 = """
cola  test             matthews  60.5  59.5  56.9
sst2  test             accuracy  94.9  94.0  94.2
mrpc  test             f1        89.3  89.5  89.6
stsb  test             pearson   87.6  86.9  87.3
qqp   test             f1        72.1  71.8  71.8
mnli  test_matched     accuracy  86.7  84.9  85.3
mnli  test_mismatched  accuracy  85.9  85.1  84.6
qnli  test             accuracy  91.1  90.7  91.4
rte   test             accuracy  70.1  71.5  68.8
"""


def test_the_shipped_tasks_are_the_nine_and_the_diagnostic_set() -> None:
    assert tasks.shipped() == sorted(GLUE) == sorted(LABELS) == sorted(ROWS) == sorted(SUBMISSIONS)


@pytest.mark.parametrize("name", sorted(GLUE))
def test_labels_metrics_and_texts(name: str) -> None:
    task = tasks.load(name)
    kind, num_outputs, metrics, num_texts = GLUE[name]
    assert task.is_regression == (kind == "scores")
    assert task.num_outputs == num_outputs
    assert task.labels == LABELS[name]
    assert task.range == ((0.0, 5.0) if name == "stsb" else None)
    assert task.metrics == metrics
    assert task.headline == metrics[0]
    assert task.files is not None
    assert (task.files.columns.second is not None) == (num_texts == 2)
    assert task.hub is not None
    assert task.files is not None
    for columns in (task.hub.columns, task.files.columns):
        assert (columns.second is not None) == (num_texts == 2)


@pytest.mark.parametrize("name", sorted(GLUE))
def test_splits_and_their_rows(name: str) -> None:
    task = tasks.load(name)
    assert task.rows == ROWS[name]
    assert task.trainable == ("train" in ROWS[name])
    evaluated = tuple(split for split in ROWS[name] if split.startswith("validation"))
    assert task.evaluation == evaluated
    assert task.test == tuple(split for split in ROWS[name] if split.startswith("test"))
    assert task.files is not None
    assert set(task.files.splits) == set(ROWS[name])


def test_every_task_is_on_the_hub_at_one_pinned_revision() -> None:
    found = {name: tasks.load(name).hub for name in tasks.shipped()}
    assert {hub.dataset for hub in found.values() if hub} == {"nyu-mll/glue"}
    revisions = {hub.revision for hub in found.values() if hub}
    assert revisions == {"bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"}
    assert {name: hub.config for name, hub in found.items() if hub} == {name: name for name in GLUE}


@pytest.mark.parametrize("name", sorted(GLUE))
def test_submission_files(name: str) -> None:
    task = tasks.load(name)
    found = {split: (file.file, file.labels) for split, file in task.submission.items()}
    assert found == SUBMISSIONS[name]
    for _, labels in found.values():
        assert labels is None or len(labels) == task.num_outputs


def test_the_diagnostic_set_is_answered_by_the_mnli_model() -> None:
    ax, mnli = tasks.load("ax"), tasks.load("mnli")
    assert ax.trained_on == "mnli"
    assert ax.labels == mnli.labels


def test_published_figures_are_those_of_table_1() -> None:
    """Each against a line of the table, and no figure of a test set that is not in it."""
    expected = set()
    for line in TABLE_1.split("\n")[1:-1]:
        name, split, metric, full, best, sixty_four = line.split()
        expected.add((name, split, metric, float(full), float(best), float(sixty_four)))
    found = {
        (name, p.split, p.metric, *(p.figures[row] for row in ("full", "adapters_8_256", "adapters_64")))
        for name in tasks.shipped()
        for p in tasks.load(name).published
        if "Table 1" in p.source
    }  # fmt: skip
    assert found == expected
    for name in tasks.shipped():
        for p in tasks.load(name).published:
            if "Table 1" in p.source:
                assert p.model == "BERT-large"
                assert p.metric == tasks.load(name).headline
            else:  # figures on validation data are of BERT-base, and belong to an evaluated split
                assert p.model == "google-bert/bert-base-uncased"
                assert p.split in tasks.load(name).evaluation


def test_the_other_published_figures() -> None:
    """§3.4 of the paper (figures 3 and 4), and the README of the official code."""
    mnli = {p.split: p for p in tasks.load("mnli").published}["validation_matched"]
    assert mnli.figures == {"full": 84.4, "adapters_64": 83.7, "top_1_layer": 77.8}
    mrpc = {p.split: p for p in tasks.load("mrpc").published}["validation"]
    assert (mrpc.metric, mrpc.figures) == ("accuracy", {"adapters_64": 85.78})


# ---- own task files ----

Own = dict[str, Any]
Edit = Callable[[Own], object]


def own_task() -> Own:
    columns = {"first": "a", "second": "b", "label": "l"}
    return {
        "name": "mine",
        "title": "Mine",
        "labels": ["no", "yes"],
        "metrics": ["f1", "accuracy"],
        "headline": "f1",
        "evaluation": ["dev"],
        "files": {
            "columns": columns,
            "label_values": ["0", "1"],
            "splits": {"train": {"file": "train.tsv"}, "dev": {"file": "dev.tsv"}},
        },
    }


def write(path: Path, content: Own) -> Path:
    YAML(typ="safe", pure=True).dump(content, path)
    return path


def test_an_own_task_file_works(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", own_task())
    task = tasks.load(path)
    assert (task.name, task.num_outputs, task.trainable) == ("mine", 2, True)
    found = resolve({"task": (str(path), "--task")})
    assert found.task == task
    assert found.config.data.folder == tmp_path
    assert found.config.task == str(path)


def test_an_own_task_is_found_by_a_relative_path_and_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mine.yaml", own_task())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tasks.load("mine.yaml") == tasks.load("./mine.yaml") == tasks.load("~/mine.yaml")


def test_an_own_regression_task_works(tmp_path: Path) -> None:
    own = own_task() | {"range": [-1.0, 1], "metrics": ["spearman"], "headline": "spearman"}
    del own["labels"], own["files"]["label_values"]
    task = tasks.load(write(tmp_path / "mine.yaml", own))
    assert (task.is_regression, task.range, task.num_outputs) == (True, (-1.0, 1.0), 1)


def files(own: Own) -> Own:
    found: Own = own["files"]
    return found


INCONSISTENT: dict[str, tuple[Edit, str]] = {
    "labels and range": (
        lambda own: own.update(range=[0.0, 1.0]),
        "needs either 'labels' (classification) or 'range' (regression)",
    ),
    "neither labels nor range": (
        lambda own: own.pop("labels"),
        "needs either 'labels' (classification) or 'range' (regression)",
    ),
    "one label": (
        lambda own: own.update(labels=["yes"]), "'labels' must hold at least two different names",
    ),
    "a label twice": (
        lambda own: own.update(labels=["yes", "yes"]), "must hold at least two different names",
    ),
    "a regression metric": (
        lambda own: own.update(metrics=["f1", "pearson"]),
        "metric 'pearson' is not for classification; choose from accuracy, f1, matthews",
    ),
    "a classification metric": (
        lambda own: (own.pop("labels"), own.update(range=[0.0, 1.0])),
        "metric 'f1' is not for regression; choose from pearson, spearman",
    ),
    "F1 of three labels": (
        lambda own: own.update(labels=["a", "b", "c"]), "metric 'f1' is that of the second of two",
    ),
    "an unknown metric": (lambda own: own.update(metrics=["f2"]), "'metrics.0' should be 'accuracy'"),
    "no metric": (lambda own: own.update(metrics=[]), "'metrics'"),
    "a headline that is no metric": (
        lambda own: own.update(headline="matthews"), "headline 'matthews' is not among the metrics",
    ),
    "no rows anywhere": (
        lambda own: own.pop("files"), "needs 'files' or 'hub' to know where its rows are",
    ),
    "nothing to evaluate": (
        lambda own: own.update(evaluation=[]), "'evaluation' must name at least one split",
    ),
    "training rows that evaluate": (
        lambda own: own.update(evaluation=["dev", "train"]), "'evaluation' names 'train', which trains",
    ),
    "unlabelled rows that evaluate": (
        lambda own: own.update(test=["dev"]), "'evaluation' names 'dev', which has no labels",
    ),
    "a split twice": (
        lambda own: own.update(evaluation=["dev", "dev"]), "'evaluation' names something twice",
    ),
    "no training file": (
        lambda own: files(own)["splits"].pop("train"), "'files.splits' lacks 'train'",
    ),
    "no evaluation file": (
        lambda own: own.update(evaluation=["dev", "dev2"]), "'files.splits' lacks 'dev2'",
    ),
    "a split without the second text": (
        lambda own: files(own)["splits"]["dev"].update(columns={"first": "a", "label": "l"}),
        "'files.columns' and those of 'files.splits.dev', which take their place, differ in whether",
    ),
    "too few spellings": (
        lambda own: files(own).update(label_values=["0"]),
        "'files.label_values' must match 'labels' one to one",
    ),
    "a spelling too many": (
        lambda own: files(own).update(label_values=["0", "1", "1"]), "'files.label_values'",
    ),
    "a spelling twice": (
        lambda own: files(own).update(label_values=["1", "1"]), "'files.label_values'",
    ),
    "names and positions": (
        lambda own: files(own)["columns"].update(label=2),
        "must be all names (a header line) or all positions (none)",
    ),
    "a path as file": (
        lambda own: files(own)["splits"]["dev"].update(file="../dev.tsv"),
        "'files.splits.dev.file' must be a name without a path, not '../dev.tsv'",
    ),
    "a folder above": (
        lambda own: files(own).update(folder=".."), "'files.folder' must be a name without a path",
    ),
    "a hidden pattern": (
        lambda own: own.update(
            hub={"dataset": "a/b", "revision": "0" * 40, "columns": {"first": "x", "second": "y"},
                 "splits": {"train": "../*.csv"}}
        ),
        "'hub.splits.train' must be a path inside the dataset, no part of which begins with '.', not",
    ),
    "a range backwards": (
        lambda own: (
            files(own).pop("label_values"),
            own.pop("labels"),
            own.update(range=[5.0, 0.0], metrics=["pearson"], headline="pearson"),
        ),
        "'range'",
    ),
    "a name with a slash": (
        lambda own: own.update(name="a/b"),
        "'name' must be a name of letters, digits, '_', '-' and '.', not 'a/b'",
    ),
    "an unknown key": (
        lambda own: own.update(metric="f1"), "unknown key 'metric'; did you mean metrics?",
    ),
    "an unknown inner key": (
        lambda own: files(own)["columns"].update(labels="l"),
        "unknown key 'files.columns.labels'; did you mean label?",
    ),
    "a missing key": (lambda own: own.pop("headline"), "key 'headline' is missing"),
    "a branch as revision": (
        lambda own: own.update(
            hub={"dataset": "a/b", "revision": "main", "config": "c", "columns": {"first": "x"}}
        ),
        "'hub.revision' must be a commit, of 40 hexadecimal digits, not 'main'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INCONSISTENT)
def test_an_inconsistent_task_file_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    edit, reason = INCONSISTENT[name]
    own = own_task()
    edit(own)
    path = write(tmp_path / "mine.yaml", own)
    with pytest.raises(ConfigError, match=re.escape(reason)) as refusal:
        tasks.load(path)
    assert str(refusal.value).startswith(f"{path}")


def test_the_place_of_a_mistake_in_a_task_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    YAML(typ="safe", pure=True).dump(own_task(), path)
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines, 1) if line.startswith("headline"))
    path.write_text(path.read_text().replace("headline: f1", "headline: f2"))
    with pytest.raises(ConfigError, match=rf"^{path}:{at}: 'headline' should be"):
        tasks.load(path)


def test_no_such_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--task: unknown task 'mnil'; did you mean mnli\?"):
        tasks.load("mnil")
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        tasks.load(tmp_path / "absent.yaml")


# ---- what decides a result ----


def test_only_what_decides_a_result_is_canonical() -> None:
    task = tasks.load("mnli")
    assert set(tasks.canonical(task)) == {
        "name", "labels", "range", "metrics", "headline", "evaluation", "trained_on",
    }  # fmt: skip
    retitled = task.model_copy(update={"title": "x", "published": (), "submission": {}, "rows": {}})
    assert tasks.canonical(retitled) == tasks.canonical(task)
    assert task.labels is not None
    turned = task.model_copy(update={"labels": task.labels[::-1]})
    assert tasks.canonical(turned) != tasks.canonical(task)
