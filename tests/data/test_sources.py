"""Rows as they stand in the files: the real GLUE, its quirks, and every way a file can be wrong."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from adaptertune import paths, tasks
from adaptertune.config import resolve
from adaptertune.data.sources import (
    Source,
    Split,
    _hub_labels,
    _hub_texts,
    fingerprint,
    load_splits,
)
from adaptertune.errors import ConfigError, DataError
from adaptertune.runs.plan import plan
from adaptertune.runs.results import DataFacts
from tests.conftest import CHECKOUT
from tests.hub_server import HubServer
from tests.test_hub_server import GLUE, GLUE_SHA, glue_files, glue_rows, run_client

# As shared/glue/README.md has it: split -> (file, rows, names of the label and the text columns or,
# in a file without header, their positions).
Columns = tuple[str | int | None, tuple[str | int, ...]]
SENTENCES: Columns = ("label", ("sentence1", "sentence2"))
STRINGS: Columns = ("Quality", ("#1 String", "#2 String"))
QUESTIONS: Columns = ("is_duplicate", ("question1", "question2"))
INFERENCE: Columns = ("gold_label", ("sentence1", "sentence2"))
ANSWER: Columns = ("label", ("question", "sentence"))


def unlabelled(columns: Columns) -> Columns:
    return None, columns[1]


REAL: list[tuple[str, str, str, int, Columns]] = [
    ("cola", "train", "CoLA/train.tsv", 8551, (1, (3,))),
    ("cola", "validation", "CoLA/dev.tsv", 1043, (1, (3,))),
    ("cola", "test", "CoLA/test.tsv", 1063, (None, ("sentence",))),
    ("rte", "train", "RTE/train.tsv", 2490, SENTENCES),
    ("rte", "validation", "RTE/dev.tsv", 277, SENTENCES),
    ("rte", "test", "RTE/test.tsv", 3000, unlabelled(SENTENCES)),
    ("mrpc", "train", "MRPC/train.tsv", 3668, STRINGS),
    ("mrpc", "validation", "MRPC/dev.tsv", 408, STRINGS),
    ("mrpc", "test", "MRPC/test.tsv", 1725, unlabelled(STRINGS)),
    ("stsb", "train", "STS-B/train.tsv", 5749, ("score", SENTENCES[1])),
    ("stsb", "validation", "STS-B/dev.tsv", 1500, ("score", SENTENCES[1])),
    ("stsb", "test", "STS-B/test.tsv", 1379, unlabelled(SENTENCES)),
    ("sst2", "train", "SST-2/train.tsv", 67349, ("label", ("sentence",))),
    ("sst2", "validation", "SST-2/dev.tsv", 872, ("label", ("sentence",))),
    ("sst2", "test", "SST-2/test.tsv", 1821, (None, ("sentence",))),
    ("wnli", "train", "WNLI/train.tsv", 635, SENTENCES),
    ("wnli", "validation", "WNLI/dev.tsv", 71, SENTENCES),
    ("wnli", "test", "WNLI/test.tsv", 146, unlabelled(SENTENCES)),
    ("qnli", "train", "QNLI/train_subset.tsv", 6442, ANSWER),
    ("qnli", "validation", "QNLI/dev.tsv", 5463, ANSWER),
    ("qnli", "test", "QNLI/test.tsv", 5463, unlabelled(ANSWER)),
    ("qqp", "train", "QQP/train_subset.tsv", 24044, QUESTIONS),
    ("qqp", "validation", "QQP/dev.tsv", 40430, QUESTIONS),
    ("mnli", "train", "MNLI/train_subset.tsv", 12810, INFERENCE),
    ("mnli", "validation_matched", "MNLI/dev_matched.tsv", 9815, INFERENCE),
    ("mnli", "validation_mismatched", "MNLI/dev_mismatched.tsv", 9832, INFERENCE),
    ("ax", "test", "diagnostic/diagnostic.tsv", 1104, unlabelled(SENTENCES)),
]
# How the official files spell the labels, in the order of nyu-mll/glue.
NUMBERS = ("0", "1")
SPELT = {
    "cola": NUMBERS, "mrpc": NUMBERS, "sst2": NUMBERS, "wnli": NUMBERS, "qqp": NUMBERS,
    "rte": ("entailment", "not_entailment"), "qnli": ("entailment", "not_entailment"),
    "mnli": ("entailment", "neutral", "contradiction"),
}  # fmt: skip


def read_by_csv(path: Path, columns: Columns) -> tuple[list[list[str]], list[str] | None]:
    """Texts by column, and labels, by Python's csv module with quoting off."""
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    label, texts = columns
    header = rows.pop(0) if isinstance(texts[0], str) else []

    def column(name: str | int) -> list[str]:
        at = name if isinstance(name, int) else header.index(name)
        return [row[at] for row in rows]

    return [column(text) for text in texts], None if label is None else column(label)


def one(task: str | Path, folder: Path, split: str) -> Split:
    return load_splits(tasks.load(task), Source("folder", folder), [split])[0]


@pytest.mark.parametrize(
    ("name", "split", "file", "num_rows", "columns"), REAL, ids=lambda v: v if isinstance(v, str) else ""
)  # fmt: skip
def test_real_rows_equal_those_of_another_reader(
    glue: Path, name: str, split: str, file: str, num_rows: int, columns: Columns
) -> None:
    found = one(name, glue, split)
    texts, labels = read_by_csv(glue / file, columns)
    assert len(found) == len(texts[0]) == num_rows
    assert found.first == texts[0]
    assert found.second == (texts[1] if len(texts) == 2 else None)
    if labels is None:
        assert found.labels is None
        return
    assert found.labels is not None
    if name == "stsb":
        assert found.labels.dtype == np.float32
        np.testing.assert_array_equal(
            found.labels, np.array([float(x) for x in labels], np.float32)
        )
        assert 0 <= found.labels.min() <= found.labels.max() <= 5
    else:
        assert found.labels.dtype == np.int64
        assert [SPELT[name][number] for number in found.labels] == labels


def test_real_label_shares(glue: Path) -> None:
    """Known of the data sets: label 1 is 'acceptable', 'equivalent', 'duplicate'; RTE's are even."""
    for name, share in (("cola", 0.69), ("mrpc", 0.68), ("qqp", 0.37), ("rte", 0.47)):
        labels = one(name, glue, "validation").labels
        assert labels is not None
        assert labels.mean() == pytest.approx(share, abs=0.01), name


def facts(task: str, folder: Path, tiny_bert: Path) -> DataFacts:
    line = {"task": task, "backbone": str(tiny_bert), "training.max_length": 64,
            "data.source": "folder", "data.folder": str(folder), "offline": True}  # fmt: skip
    return plan(resolve({key: (value, key) for key, value in line.items()})).data


@pytest.mark.parametrize(
    ("task", "num_train", "complete"),
    [("qnli", 6442, 104743), ("qqp", 24044, 363846), ("mnli", 12810, 392702), ("rte", 2490, 2490)],
)
def test_a_part_of_a_training_set_is_called_so(
    glue: Path, tiny_bert: Path, task: str, num_train: int, complete: int
) -> None:
    found = facts(task, glue, tiny_bert)
    assert (found.num_train, found.num_train_complete) == (num_train, complete)
    assert found.partial == (num_train < complete)
    assert not found.sample
    assert found.source == "folder"


def test_a_whole_training_set_goes_before_a_subset(tiny_glue: Path) -> None:
    (tiny_glue / "RTE/train_subset.tsv").write_text(
        "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n"
    )
    task, source = tasks.load("rte"), Source("folder", tiny_glue)
    assert len(one("rte", tiny_glue, "train")) == 16
    whole = fingerprint(task, source, ["train"])
    (tiny_glue / "RTE/train.tsv").unlink()
    assert len(one("rte", tiny_glue, "train")) == 1
    assert fingerprint(task, source, ["train"]) != whole


def test_a_subset_of_an_unknown_number_of_rows_stands_in_for_nothing(
    tiny_glue: Path, tmp_path: Path
) -> None:
    """Nothing could say that it is partial."""
    rte = (paths.CONFIGS / "tasks/rte.yaml").read_text()
    (counted,) = (line for line in rte.splitlines(keepends=True) if line.startswith("rows:"))
    (tmp_path / "own.yaml").write_text(rte.replace(counted, ""))
    (tiny_glue / "RTE/train.tsv").rename(tiny_glue / "RTE/train_subset.tsv")
    assert len(one("rte", tiny_glue, "train")) == 16
    with pytest.raises(DataError, match=r"RTE/train\.tsv: no such file"):
        one(tmp_path / "own.yaml", tiny_glue, "train")


def test_plain_text_has_no_columns(tiny_glue: Path, tmp_path: Path) -> None:
    rte = (paths.CONFIGS / "tasks/rte.yaml").read_text()
    (tmp_path / "own.yaml").write_text(rte.replace("{file: train.tsv}", "{file: train.txt}"))
    (tiny_glue / "RTE/train.tsv").rename(tiny_glue / "RTE/train.txt")
    with pytest.raises(
        DataError, match=r"train\.txt: plain text has lines and no columns; name it"
    ):
        one(tmp_path / "own.yaml", tiny_glue, "train")


@pytest.mark.parametrize("value", ["neg", None, 0.5, True])
def test_a_label_of_the_hub_is_the_number_of_a_class(value: object) -> None:
    with pytest.raises(DataError, match=r"^here, row 1: label .* is not the number of a class"):
        _hub_labels(tasks.load("rte"), [0, value], None, "here")


def test_a_text_of_the_hub_is_text() -> None:
    table = pyarrow.table({"text": ["", "b", None]})
    with pytest.raises(DataError, match=r"^here, row 2: column 'text' holds no text \(NoneType\)"):
        _hub_texts(table, "text", "here")
    assert _hub_texts(table.slice(0, 2), "text", "here") == ["", "b"]


def test_only_a_training_set_may_be_a_subset(tiny_glue: Path) -> None:
    (tiny_glue / "RTE/dev.tsv").rename(tiny_glue / "RTE/dev_subset.tsv")
    with pytest.raises(DataError, match=r"RTE/dev\.tsv: no such file; split 'validation'"):
        one("rte", tiny_glue, "validation")


def test_the_folder_of_a_task_does_as_well(
    tiny_glue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = one("rte", tiny_glue, "train").first
    assert one("rte", tiny_glue / "RTE", "train").first == rows
    monkeypatch.chdir(tiny_glue / "RTE")
    assert one("rte", Path(), "train").first == rows


# ---- quirks ----

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def put(tiny_glue: Path) -> Write:
    def write(file: str, content: str | bytes) -> Path:
        (tiny_glue / file).parent.mkdir(exist_ok=True)
        (tiny_glue / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tiny_glue

    return write


HEADER = "index\tsentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    "text",
    [
        '"opened and never closed',
        'closed only"',
        'he said ""well"" and \'left\'',
        "a line\u2028separator and a paragraph\u2029separator",
        "next\x85line, vertical\x0btab, form\x0cfeed, file\x1cseparator",
        "a\rcarriage return inside",
        " blanks around ",
        "backslash \\t and \\n stay",
        "# not a comment",
        "NULL",
        "ünï¢ödé 漢字 🙂 e\u0301",
    ],
)
def test_texts_survive_as_they_stand(put: Write, text: str) -> None:
    folder = put(
        "RTE/train.tsv", f"{HEADER}0\t{text}\tb\tentailment\n1\tc\t{text}\tnot_entailment\n"
    )
    found = one("rte", folder, "train")
    assert found.first == [text, "c"]
    assert found.second == ["b", text]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("last", [True, False], ids=["", "no last line end"])
def test_marks_and_line_ends(put: Write, mark: bytes, end: bytes, last: bool) -> None:
    lines = [b"label\tsentence1\tsentence2", b"entailment\ta\tb", b"not_entailment\tc\td"]
    folder = put("RTE/train.tsv", mark + end.join(lines) + (end if last else b""))
    found = one("rte", folder, "train")
    assert (found.first, found.second) == (["a", "c"], ["b", "d"])
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    # The same in a file without header, where the mark stands before the first row.
    folder = put("CoLA/train.tsv", mark + end.join([b"x\t1\t*\ta b", b"y\t0\t\tc d"]))
    found = one("cola", folder, "train")
    assert (found.first, found.second) == (["a b", "c d"], None)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]


def test_columns_go_by_the_header_of_each_file(put: Write) -> None:
    folder = put("RTE/train.tsv", "sentence2\tlabel\tmore\tsentence1\nb\tentailment\tx\ta\n")
    put("RTE/dev.tsv", "label\tsentence1\tsentence2\nnot_entailment\tc\td\n")
    train, dev = load_splits(tasks.load("rte"), Source("folder", folder), ["train", "validation"])
    assert (train.first, train.second, dev.first, dev.second) == (["a"], ["b"], ["c"], ["d"])


def test_torn_rows_and_empty_second_texts_are_qqps_alone(put: Write) -> None:
    """As on the hub: a row that lacks columns is left out, one without a second text is not."""
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    rows = '0\t1\t2\ta\tb\t1\n1\t3\t4\tc "d\n"\te?\t0\n2\t5\t6\tf\t\t0\n'
    found = one("qqp", put("QQP/train.tsv", head + rows), "train")
    assert (found.first, found.second) == (["a", "f"], ["b", ""])
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"dev\.tsv:3: 4 columns where the first line has 6"):
        one("qqp", put("QQP/dev.tsv", head + rows), "validation")
    more = put("QQP/train.tsv", f"{head}{rows}3\t7\t8\tg\th\t0\tmore\n")
    with pytest.raises(DataError, match=r"train\.tsv:6: 7 columns where the first line has 6"):
        one("qqp", more, "train")
    with pytest.raises(DataError, match=r"train\.tsv:3: 2 columns where"):
        one("rte", put("RTE/train.tsv", f"{HEADER}0\ta\tb\tentailment\n1\ta\n"), "train")
    with pytest.raises(DataError, match="the text in column 3 is empty"):
        one("rte", put("RTE/train.tsv", f"{HEADER}0\ta\t\tentailment\n"), "train")


def test_labels_of_a_test_split_are_not_even_looked_at(put: Write, tmp_path: Path) -> None:
    """Neither where the task names no label column for it, nor where it does."""
    rte = (paths.CONFIGS / "tasks/rte.yaml").read_text()
    own = rte.replace("test.tsv, columns: {first: sentence1, second: sentence2}", "test.tsv")
    assert own != rte
    (tmp_path / "own.yaml").write_text(own)
    folder = put("RTE/test.tsv", f"{HEADER}0\ta\tb\tno such label\n")
    for task in ("rte", tmp_path / "own.yaml"):
        found = one(task, folder, "test")
        assert (found.first, found.second, found.labels) == (["a"], ["b"], None)


def test_every_task_of_the_tiny_folder(tiny_glue: Path) -> None:
    for name in ("rte", "cola", "stsb", "mrpc", "mnli"):
        task = tasks.load(name)
        source = Source("folder", tiny_glue)
        loaded = load_splits(task, source, ["train", *task.evaluation, *task.test])
        lengths = [16, *[8] * len(task.evaluation), *[4] * len(task.test)]
        assert [len(split) for split in loaded] == lengths
        assert [split.labels is None for split in loaded] == [n == 4 for n in lengths]


def test_the_sample_has_every_task_and_is_called_a_sample() -> None:
    for name in tasks.shipped():
        task, source = tasks.load(name), Source("sample")
        names = ["train", *task.evaluation, *task.test] if task.trainable else list(task.test)
        for split in load_splits(task, source, names):
            assert len(split) > 0
            assert (split.labels is None) == (split.name in task.test)
        assert source.describe(task) == "sample (generated text, not GLUE)"


# ---- fingerprints ----


def test_a_fingerprint_is_that_of_the_rows(tiny_glue: Path) -> None:
    task, source = tasks.load("rte"), Source("folder", tiny_glue)
    names = ["train", "validation"]
    before = fingerprint(task, source, names)
    assert before.startswith("sha256:")
    assert fingerprint(task, source, names) == before
    assert fingerprint(task, source, names[:1]) != before
    moved = tiny_glue.rename(tiny_glue.with_name("moved"))
    assert fingerprint(task, Source("folder", moved), names) == before
    with (moved / "RTE/test.tsv").open("a") as stream:
        stream.write("9\tx\ty\n")
    assert fingerprint(task, Source("folder", moved), names) == before
    dev = moved / "RTE/dev.tsv"
    dev.write_text(dev.read_text().replace("word1", "word2", 1))
    assert fingerprint(task, Source("folder", moved), names) != before


def test_the_same_bytes_in_another_format_are_other_rows(tiny_glue: Path, tmp_path: Path) -> None:
    """A CSV's quotation marks are no part of its texts."""
    found = {}
    for ending in ("tsv", "csv"):
        path = tiny_glue / "RTE" / f"train.{ending}"
        path.write_bytes((tiny_glue / "RTE/train.tsv").read_bytes())
        own = (paths.CONFIGS / "tasks/rte.yaml").read_text().replace("train.tsv", path.name)
        (tmp_path / "own.yaml").write_text(own)
        task = tasks.load(tmp_path / "own.yaml")
        found[ending] = fingerprint(task, Source("folder", tiny_glue), ["train"])
    assert found["tsv"] != found["csv"]
    assert found["tsv"] == fingerprint(tasks.load("rte"), Source("folder", tiny_glue), ["train"])


def test_another_reading_of_the_same_rows_is_another_run(tiny_glue: Path, tmp_path: Path) -> None:
    """Or a corrected task file would be answered with the results of the wrong one."""
    text = (paths.CONFIGS / "tasks/wnli.yaml").read_text()
    (tiny_glue / "WNLI").mkdir()
    for name in ("train", "dev"):
        (tiny_glue / f"WNLI/{name}.tsv").write_text(f"{HEADER}0\ta\tb\t0\n")

    def identity(kind: str, old: str, new: str) -> tuple[object, str]:
        assert text.count(old) >= 1
        path = tmp_path / "own.yaml"
        path.write_text(text.replace(old, new))
        task = tasks.load(path)
        return tasks.canonical(task), fingerprint(task, Source(kind, tiny_glue), ["train"])

    spelt = 'label_values: ["0", "1"]'
    columns = "{first: sentence1, second: sentence2, label: label}"
    turned = "{first: sentence2, second: sentence1, label: label}"
    as_it_is = identity("folder", spelt, spelt)
    assert identity("folder", "title: ", "title: My ") == as_it_is
    assert identity("folder", spelt, 'label_values: ["1", "0"]') != as_it_is
    assert identity("folder", columns, turned) != as_it_is
    assert identity("hub", columns, turned) != identity("hub", columns, columns)


def test_the_hubs_fingerprint_needs_no_network() -> None:
    task = tasks.load("rte")
    assert fingerprint(task, Source("hub"), ["train"]).startswith(f"hub:{GLUE}@{GLUE_SHA}/rte")
    assert Source("hub").describe(task) == f"{GLUE} (rte) at bcdcba7"


# ---- what is wrong is named with its line ----

GOOD = "0\ta\tb\tentailment\n"
STSB = "index\tsentence1\tsentence2\tscore\n0\ta\tb\t5.000\n"
WRONG: dict[str, tuple[str, str, str | bytes, str]] = {
    "a column too few": (
        "rte", "RTE", f"{HEADER}{GOOD}1\ta\tb\n",
        r"RTE/train\.tsv:3: 3 columns where the first line has 4; mend or remove the row",
    ),
    "a column too many": (
        "rte", "RTE", f"{HEADER}{GOOD}{GOOD}1\ta\tb\tc\tentailment\n", r"train\.tsv:4: 5 columns where",
    ),
    "an empty line": ("rte", "RTE", f"{HEADER}{GOOD}\n{GOOD}", r"train\.tsv:3: an empty line; "),
    "an empty first text": (
        "rte", "RTE", f"{HEADER}{GOOD}1\t\tb\tentailment\n",
        r"train\.tsv:3: the text in column 2 is empty; mend or remove the row",
    ),
    "a blank second text": (
        "rte", "RTE", f"{HEADER}1\ta\t \u00a0\tentailment\n",
        r"train\.tsv:2: the text in column 3 is empty",
    ),
    "an empty text without header": (
        "cola", "CoLA", "x\t1\t\ta\nx\t1\t\t\n", r"CoLA/train\.tsv:2: the text in column 4 is empty",
    ),
    "an unknown label": (
        "rte", "RTE", f"{HEADER}{GOOD}1\ta\tb\tneutral\n",
        r"train\.tsv:3: unknown label 'neutral'; expected entailment, not_entailment",
    ),
    "a label's number for its name": (
        "rte", "RTE", f"{HEADER}0\ta\tb\t0\n", r"train\.tsv:2: unknown label '0'; expected entailment",
    ),
    "a label's name for its number": (
        "cola", "CoLA", "x\t1\t\ta\nx\tacceptable\t\tb\n",
        r"train\.tsv:2: unknown label 'acceptable'; expected 0, 1",
    ),
    "the hub's label of unlabelled rows": (
        "cola", "CoLA", "x\t-1\t\ta\n", r"train\.tsv:1: unknown label '-1'; expected 0, 1",
    ),
    "an empty label": ("rte", "RTE", f"{HEADER}0\ta\tb\t\n", r"train\.tsv:2: unknown label ''"),
    "a score over the range": (
        "stsb", "STS-B", f"{STSB}1\ta\tb\t5.001\n",
        r"STS-B/train\.tsv:3: score '5\.001' is not a number from 0 to 5",
    ),
    "a score under the range": ("stsb", "STS-B", f"{STSB}1\ta\tb\t-0.1\n", r"tsv:3: score '-0\.1'"),
    "a score that is no number": ("stsb", "STS-B", f"{STSB}1\ta\tb\thigh\n", r"tsv:3: score 'high'"),
    "a score that is NaN": ("stsb", "STS-B", f"{STSB}1\ta\tb\tnan\n", r"tsv:3: score 'nan' is not"),
    "an infinite score": ("stsb", "STS-B", f"{STSB}1\ta\tb\tinf\n", r"tsv:3: score 'inf' is not"),
    "a missing text column": (
        "rte", "RTE", "index\tsentence_1\tsentence2\tlabel\n0\ta\tb\tentailment\n",
        r"train\.tsv:1: no column 'sentence1'; did you mean sentence_1\?",
    ),
    "a missing label column": (
        "rte", "RTE", "index\tsentence1\tsentence2\n0\ta\tb\n", r"train\.tsv:1: no column 'label'",
    ),
    "no header at all": (
        "rte", "RTE", f"{GOOD}{GOOD}", r"train\.tsv:1: no column 'sentence1'; choose from: 0, a, b",
    ),
    "too few columns without header": (
        "cola", "CoLA", "x\t1\ta\n", r"train\.tsv: no column 3 \(from 0\); the first line has 3",
    ),
    "not UTF-8": (
        "rte", "RTE", (HEADER + GOOD).encode() + b"1\tcaf\xe9\tb\tentailment\n",
        r"train\.tsv:3: not UTF-8 text; save it as UTF-8",
    ),
    "UTF-16": ("rte", "RTE", (HEADER + GOOD).encode("utf-16"), r"train\.tsv:1: not UTF-8 text"),
    "an empty file": ("rte", "RTE", "", r"train\.tsv: the file holds no rows"),
    "only a header": ("rte", "RTE", HEADER, r"train\.tsv: the file holds no rows"),
    "an empty file without header": ("cola", "CoLA", "", r"train\.tsv: the file holds no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(put: Write, name: str) -> None:
    task, folder, content, complaint = WRONG[name]
    place = put(f"{folder}/train.tsv", content)
    with pytest.raises(DataError, match=complaint) as refusal:
        one(task, place, "train")
    assert "\n" not in str(refusal.value)


def test_what_is_missing_is_named(tiny_glue: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"absent/RTE: no such folder; give --data-dir a folder that"
    ):
        one("rte", tmp_path / "absent", "train")
    with pytest.raises(DataError, match=r"SST-2: no such folder"):
        one("sst2", tiny_glue, "train")
    (tiny_glue / "RTE/train.tsv").unlink()
    with pytest.raises(DataError, match=r"RTE/train\.tsv: no such file"):
        one("rte", tiny_glue, "train")
    (tiny_glue / "RTE/train.tsv").mkdir()
    with pytest.raises(DataError, match=r"RTE/train\.tsv: no such file"):
        one("rte", tiny_glue, "train")
    with pytest.raises(DataError, match="'rte' has no files for split 'train2'"):
        one("rte", tiny_glue, "train2")


def test_own_tasks_without_files_or_hub_or_labels(tiny_glue: Path, tmp_path: Path) -> None:
    rte = (paths.CONFIGS / "tasks/rte.yaml").read_text()
    hub, files = rte.index("hub:"), rte.index("files:")
    submission = rte.index("submission:")
    (tmp_path / "no-files.yaml").write_text(rte[:files] + rte[submission:])
    (tmp_path / "no-hub.yaml").write_text(rte[:hub] + rte[files:])
    (tmp_path / "no-label.yaml").write_text(rte.replace(", label: label}\n  splits", "}\n  splits"))
    with pytest.raises(DataError, match="'rte' does not say how its files look; add 'files'"):
        one(tmp_path / "no-files.yaml", tiny_glue, "train")
    with pytest.raises(DataError, match=r"the network is off; check the network$"):
        load_splits(tasks.load(tmp_path / "no-files.yaml"), Source("hub"), ["train"])
    with pytest.raises(DataError, match="'rte' is not on the hub; give --data-dir"):
        load_splits(tasks.load(tmp_path / "no-hub.yaml"), Source("hub"), ["train"])
    with pytest.raises(DataError, match=r"train\.tsv: no label column is named for split 'train'"):
        one(tmp_path / "no-label.yaml", tiny_glue, "train")


def test_the_sample_of_an_own_task_does_not_exist(tmp_path: Path) -> None:
    rte = (paths.CONFIGS / "tasks/rte.yaml").read_text()
    (tmp_path / "own.yaml").write_text(rte.replace("folder: RTE", "folder: OWN"))
    with pytest.raises(DataError, match="the sample has no task 'rte'; give --data-dir"):
        load_splits(tasks.load(tmp_path / "own.yaml"), Source("sample"), ["train"])
    # Nothing is in the cache.
    with pytest.raises(DataError, match=r"network is off; check the .* give --data-dir FOLDER$"):
        load_splits(tasks.load(tmp_path / "own.yaml"), Source("hub"), ["train"])


# ---- the hub ----

# Runs in a process of its own: what each question (task, splits, offline) gives, as plain values.
ASK = """
    from adaptertune import tasks
    from adaptertune.data.sources import Source, load_splits
    from adaptertune.errors import AdapterTuneError

    def ask(task, names, offline):
        try:
            splits = load_splits(tasks.load(task), Source("hub", offline=offline), names)
        except AdapterTuneError as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:
            return f"a bug: {type(error).__name__}: {error}"
        return [
            [s.name, s.first, s.second]
            + ([None] if s.labels is None else [s.labels.tolist(), str(s.labels.dtype)])
            for s in splits
        ]

    import json
    answer = {name: ask(*question) for name, question in json.loads(QUESTIONS).items()}
"""
Question = tuple[str, list[str], bool]


def ask(hub: HubServer, home: Path, questions: dict[str, Question], **how: Any) -> dict[str, Any]:
    code = ASK.replace("QUESTIONS", repr(json.dumps(questions)))
    found: dict[str, Any] = run_client(hub, home, code, PYTHONPATH=str(CHECKOUT), **how)
    return found


def expected(config: str, texts: tuple[str, str], splits: list[str]) -> list[Any]:
    found = []
    for split in splits:
        rows = glue_rows(config, split)
        kind = "float32" if config == "stsb" else "int64"
        labels = [None] if split.startswith("test") else [rows["label"], kind]
        found.append([split, rows[texts[0]], rows[texts[1]], *labels])
    return found


GOOD_QUESTIONS: dict[str, tuple[str, tuple[str, str], list[str]]] = {
    "rte": ("rte", ("sentence1", "sentence2"), ["train", "validation", "test"]),
    "stsb": ("stsb", ("sentence1", "sentence2"), ["train", "validation", "test"]),
    "mnli": ("mnli", ("premise", "hypothesis"), ["train", "validation_mismatched", "test_matched"]),
    "ax": ("ax", ("premise", "hypothesis"), ["test"]),
}
OTHER_SHA, BROKEN_SHA, NO_SHA = "ab" * 20, "cd" * 20, "ef" * 20


def own_rte(folder: Path, name: str, dataset: str, revision: str, **changes: str) -> str:
    """The path of a task file as RTE's, with another dataset."""
    text = (paths.CONFIGS / "tasks/rte.yaml").read_text()
    text = text.replace(GLUE, dataset).replace(GLUE_SHA, revision)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / f"{name}.yaml").write_text(text)
    return str(folder / f"{name}.yaml")


class Hub:
    """What two processes found: one while the hub was there, and then one without it."""

    def __init__(self, folder: Path) -> None:
        files = glue_files()
        swapped = files["README.md"].replace(
            b"'0': entailment\n          '1': not_entailment",
            b"'0': not_entailment\n          '1': entailment",
        )
        assert swapped != files["README.md"]
        train = "rte/train-00000-of-00001.parquet"
        with HubServer() as server:
            server.add_repo("dataset", GLUE, files, sha=GLUE_SHA)
            server.add_repo("dataset", GLUE, glue_files(mark="newer "), sha=OTHER_SHA)
            server.add_repo(
                "dataset", "own/swapped", files | {"README.md": swapped}, sha=BROKEN_SHA
            )
            unlabelled_train = files | {train: files["rte/test-00000-of-00001.parquet"]}
            server.add_repo("dataset", "own/unlabelled", unlabelled_train, sha=BROKEN_SHA)
            server.add_repo("dataset", "own/garbage", files | {train: b"x" * 999}, sha=BROKEN_SHA)
            server.add_repo("dataset", "own/damaged", files, sha=BROKEN_SHA)
            bare = {path: data for path, data in files.items() if path != "README.md"}
            server.add_repo("dataset", "own/bare", bare, sha=BROKEN_SHA)
            card = b"---\ndataset_info:\n- config_name: rte\n  dataset_size: 1\n---\n"
            server.add_repo("dataset", "own/plain", bare | {"README.md": card}, sha=BROKEN_SHA)
            card = card.replace(b"  data", b"  features:\n  - name: idx\n    dtype: int32\n  data")
            server.add_repo("dataset", "own/other", bare | {"README.md": card}, sha=BROKEN_SHA)
            good: dict[str, Question] = {
                name: (config, splits, False)
                for name, (config, _, splits) in GOOD_QUESTIONS.items()
            }
            bad: dict[str, Question] = {
                name: (own_rte(folder, name, f"own/{name}", BROKEN_SHA), ["train"], False)
                for name in (
                    "swapped",
                    "unlabelled",
                    "garbage",
                    "damaged",
                    "absent",
                    "refused",
                    "bare",
                    "plain",
                    "other",
                )
            }
            column = own_rte(
                folder, "column", GLUE, GLUE_SHA, **{"first: sentence1": "first: sent1"}
            )
            revision = own_rte(folder, "revision", GLUE, NO_SHA)
            bad |= {
                "column": (column, ["train"], False),
                "split": ("rte", ["train", "validation_matched"], False),
                "revision": (revision, ["train"], False),
            }
            server.fail_next(9, status=403, path="own/refused")
            server.corrupt(train)  # the next time it is fetched, which is from own/damaged
            first = {"damaged": bad.pop("damaged")}
            self.online = ask(server, folder / "hf", first | good | bad)
            self.requests = list(server.requests)

            server.stop()
            # A parquet file of the cache changes without changing its length.
            cached = folder / f"hf/hub/datasets--nyu-mll--glue/snapshots/{GLUE_SHA}"
            blob = (cached / "stsb/train-00000-of-00001.parquet").resolve()
            data = bytearray(blob.read_bytes())
            data[len(data) // 2] ^= 1
            blob.chmod(0o644)
            blob.write_bytes(data)
            without = {**good, "flag": ("rte", ["train"], True)}
            without |= {"revision": bad["revision"], "absent": bad["absent"]}
            without |= {"other config": ("mrpc", ["train"], False)}
            self.offline = ask(server, folder / "hf", without, offline=True)
            self.blob = blob


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    return Hub(tmp_path_factory.mktemp("hub"))


def test_hub_rows(hub: Hub) -> None:
    for name, (config, texts, splits) in GOOD_QUESTIONS.items():
        assert hub.online[name] == expected(config, texts, splits), name


def test_a_dataset_need_not_describe_itself(hub: Hub) -> None:
    """No README, one without features, and one that does not know the label column."""
    for name in ("bare", "plain", "other"):
        assert hub.online[name] == expected("rte", ("sentence1", "sentence2"), ["train"]), name


def test_only_the_pinned_revision_of_what_is_needed_is_fetched(hub: Hub) -> None:
    fetched = [r for r in hub.requests if r.startswith("GET /datasets/nyu-mll/glue/")]
    assert fetched
    assert all(GLUE_SHA in request for request in fetched)
    configs_fetched = {request.split("/")[6] for request in fetched} - {"README.md"}
    assert configs_fetched == set(GOOD_QUESTIONS)


def test_hub_rows_from_the_cache_when_there_is_no_network(hub: Hub) -> None:
    for name in ("rte", "mnli", "ax"):
        assert hub.offline[name] == hub.online[name]
    assert hub.offline["flag"] == [hub.online["rte"][0]]


def test_a_damaged_file_of_the_same_length_is_noticed(hub: Hub) -> None:
    """Both as it is fetched and, later, in the cache."""
    for answer in (hub.online["damaged"], hub.offline["stsb"]):
        assert answer.startswith("DataError: ")
        assert "damaged download (its SHA-256 is wrong); delete " in answer
    assert str(hub.blob) in hub.offline["stsb"]


def test_another_revision_is_never_taken_instead(hub: Hub) -> None:
    assert hub.online["revision"].startswith(
        f"DataError: dataset {GLUE}: cannot be had from the hub"
    )
    assert hub.offline["revision"].startswith(
        f"DataError: dataset {GLUE}: is not in the local cache"
    )


def test_no_network_and_nothing_in_the_cache(hub: Hub) -> None:
    for answer, reason in (
        (hub.offline["absent"], "is not in the local cache, and the network is off"),
        (hub.offline["other config"], "is not in the local cache, and the network is off"),
        (hub.online["refused"], "cannot be had from the hub"),
        (hub.online["absent"], "cannot be had from the hub"),
    ):
        assert answer.startswith("DataError: dataset ")
        assert reason in answer
        assert "--data-dir FOLDER" in answer
        assert "\n" not in answer


def test_hub_labels_must_be_the_tasks(hub: Hub) -> None:
    assert hub.online["swapped"] == (
        "DataError: own/swapped (rte), train: labels are not_entailment, entailment "
        "but the task says entailment, not_entailment"
    )
    assert hub.online["unlabelled"] == (
        "DataError: own/unlabelled (rte), train, row 0: label -1 (unlabelled rows have -1)"
    )


def test_hub_columns_and_splits_must_be_there(hub: Hub) -> None:
    assert hub.online["column"] == (
        f"DataError: {GLUE} (rte): no column 'sent1'; did you mean sentence1?"
    )
    assert hub.online["split"] == (
        f"DataError: {GLUE} (rte): no split 'validation_matched'; did you mean validation?"
    )


def test_what_is_no_parquet_is_refused(hub: Hub) -> None:
    assert hub.online["garbage"].startswith("DataError: ")
    assert "cannot be read" in hub.online["garbage"]
    assert "\n" not in hub.online["garbage"]


FILES_TASK = f"""
name: own
title: Files of one's own on the hub
labels: [low, high]
metrics: [accuracy]
headline: accuracy
evaluation: [validation]
hub:
  dataset: own/tickets
  revision: {OTHER_SHA}
  columns: {{first: text, label: urgency}}
  label_values: ["0", "1"]
  splits: {{train: data/part-*.jsonl, validation: dev.csv}}
"""


def test_files_of_any_format_anywhere_in_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(FILES_TASK)
    (tmp_path / "none.yaml").write_text(FILES_TASK.replace("dev.csv", "test.csv"))
    (tmp_path / "bad.yaml").write_text(FILES_TASK.replace("dev.csv", "bad.csv"))
    files = {
        "data/part-1.jsonl": b'{"text": "three", "urgency": 1}\n',
        "data/part-0.jsonl": b'{"text": "one", "urgency": 0}\n{"text": "two", "urgency": 1}\n',
        "dev.csv": b'text,urgency\n"four, five",0\n',
        "bad.csv": b"text,urgency\nsix,2\n",
        "data/other.jsonl": b"not to be read",
    }
    names = ["train", "validation"]
    questions: dict[str, Question] = {
        name: (str(tmp_path / f"{name}.yaml"), names, False) for name in ("own", "none", "bad")
    }
    with HubServer() as server:
        server.add_repo("dataset", "own/tickets", files, sha=OTHER_SHA)
        found = ask(server, tmp_path / "hf", questions)
        assert not any(
            "other.jsonl" in request for request in server.requests if "resolve" in request
        )
    assert found["own"] == [
        ["train", ["one", "two", "three"], None, [0, 1, 1], "int64"],
        ["validation", ["four, five"], None, [0], "int64"],
    ]
    assert "own/tickets: no file of the dataset is called test.csv" in found["none"]
    assert re.search(r"bad\.csv:2: unknown label '2'; expected 0, 1", found["bad"])
    task = tasks.load(tmp_path / "own.yaml")
    assert task.hub is not None
    turned = task.hub.model_copy(update={"label_values": ("1", "0")})
    prints = {
        fingerprint(one, Source("hub"), names)
        for one in (task, task.model_copy(update={"hub": turned}))
    }
    assert len(prints) == 2, "what the labels mean decides the fingerprint"


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../x.csv", "a/../../x.csv", ".hidden", "a\\b"])
def test_no_pattern_leaves_the_dataset(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(FILES_TASK.replace("dev.csv", json.dumps(pattern)))
    with pytest.raises(ConfigError, match=r"'hub\.splits\.validation' "):
        tasks.load(tmp_path / "own.yaml")
