"""The embedded sample data: made by scripts/make_sample.py, GLUE-shaped, and without shortcuts."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "adaptertune" / "data" / "sample"

# The header lines of the official files, as tuples of column names.
PAIR = ("index", "sentence1", "sentence2")
MRPC = ("#1 ID", "#2 ID", "#1 String", "#2 String")
STSB = (
    "index", "genre", "filename", "year", "old_index", "source1", "source2",
    "sentence1", "sentence2",
)  # fmt: skip
MNLI = (
    "index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse",
    "sentence1_parse", "sentence2_parse", "sentence1", "sentence2",
)  # fmt: skip
MNLI_DEV = (*MNLI, "label1", "label2", "label3", "label4", "label5", "gold_label")
HEADERS: dict[str, tuple[str, ...]] = {
    "CoLA/train": (),
    "CoLA/dev": (),
    "CoLA/test": ("index", "sentence"),
    "SST-2/train": ("sentence", "label"),
    "SST-2/dev": ("sentence", "label"),
    "SST-2/test": ("index", "sentence"),
    "MRPC/train": ("Quality", *MRPC),
    "MRPC/dev": ("Quality", *MRPC),
    "MRPC/test": ("index", *MRPC),
    "STS-B/train": (*STSB, "score"),
    "STS-B/dev": (*STSB, "score"),
    "STS-B/test": STSB,
    "QQP/train": ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
    "QQP/dev": ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
    "QQP/test": ("id", "question1", "question2"),
    "MNLI/train": (*MNLI, "label1", "gold_label"),
    "MNLI/dev_matched": MNLI_DEV,
    "MNLI/dev_mismatched": MNLI_DEV,
    "MNLI/test_matched": MNLI,
    "MNLI/test_mismatched": MNLI,
    "QNLI/train": ("index", "question", "sentence", "label"),
    "QNLI/dev": ("index", "question", "sentence", "label"),
    "QNLI/test": ("index", "question", "sentence"),
    "RTE/train": (*PAIR, "label"),
    "RTE/dev": (*PAIR, "label"),
    "RTE/test": PAIR,
    "WNLI/train": (*PAIR, "label"),
    "WNLI/dev": (*PAIR, "label"),
    "WNLI/test": PAIR,
    "diagnostic/diagnostic": PAIR,
}
# Where the texts and the label are: column names (CoLA has no header: names given here).
COLA = ("source", "label", "star", "sentence")
COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "CoLA": (("sentence",), "label"),
    "SST-2": (("sentence",), "label"),
    "MRPC": (("#1 String", "#2 String"), "Quality"),
    "STS-B": (("sentence1", "sentence2"), "score"),
    "QQP": (("question1", "question2"), "is_duplicate"),
    "MNLI": (("sentence1", "sentence2"), "gold_label"),
    "QNLI": (("question", "sentence"), "label"),
    "RTE": (("sentence1", "sentence2"), "label"),
    "WNLI": (("sentence1", "sentence2"), "label"),
    "diagnostic": (("sentence1", "sentence2"), ""),
}
# The share of each label, roughly as in the real task.
SHARES = {
    "CoLA": {"1": 0.70, "0": 0.30},
    "SST-2": {"1": 0.50, "0": 0.50},
    "MRPC": {"1": 0.67, "0": 0.33},
    "QQP": {"1": 0.37, "0": 0.63},
    "MNLI": {"entailment": 1 / 3, "neutral": 1 / 3, "contradiction": 1 / 3},
    "QNLI": {"entailment": 0.50, "not_entailment": 0.50},
    "RTE": {"entailment": 0.50, "not_entailment": 0.50},
    "WNLI": {"1": 0.50, "0": 0.50},
}

Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Read one file the plain way: UTF-8, tabs, no quoting."""
    text = (SAMPLE / f"{name}.tsv").read_bytes().decode("utf-8-sig")
    lines = text.removesuffix("\n").split("\n")
    header = tuple(lines.pop(0).split("\t")) if HEADERS[name] else COLA
    assert all(line.count("\t") == len(header) - 1 for line in lines)
    return [dict(zip(header, line.split("\t"), strict=True)) for line in lines]


def labelled(task: str) -> list[str]:
    """Name the files of a task that carry labels."""
    return [n for n in HEADERS if n.startswith(f"{task}/") and "/test" not in n]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "scripts/make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_generator_reproduces_the_files(generator: ModuleType) -> None:
    built: dict[str, bytes] = generator.build()
    assert sorted(built) == sorted(f"{name}.tsv" for name in HEADERS)
    there = {path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*.tsv")}
    assert there == set(built)
    differing = [name for name, content in built.items() if (SAMPLE / name).read_bytes() != content]
    assert differing == []


def test_check_reports_a_difference(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"RTE/train.tsv": b"index\n0\n", "MRPC/dev.tsv": b"Quality\n"}
    monkeypatch.setattr(generator, "build", lambda: files)
    monkeypatch.setattr(generator, "SAMPLE_DIR", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_sample.py", "--check"])
    assert generator.main() == 1
    monkeypatch.setattr(sys, "argv", ["make_sample.py"])
    assert generator.main() == 0
    monkeypatch.setattr(sys, "argv", ["make_sample.py", "--check"])
    assert generator.main() == 0
    (tmp_path / "RTE" / "extra.tsv").write_text("x\n")
    assert generator.main() == 1


@pytest.mark.parametrize("name", HEADERS)
def test_layout(name: str) -> None:
    raw = (SAMPLE / f"{name}.tsv").read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    assert raw.startswith(b"\xef\xbb\xbf") == (name in ("MRPC/train", "MRPC/dev"))
    if HEADERS[name]:
        first = raw.decode("utf-8-sig").partition("\n")[0]
        assert tuple(first.split("\t")) == HEADERS[name]
    expected = 800 if name.endswith("train") else 100 if "diagnostic" in name else 200
    rows = read(name)
    assert len(rows) == expected
    texts, label = COLUMNS[name.partition("/")[0]]
    assert all(row[column].strip() for row in rows for column in texts)
    assert (label in rows[0]) == ("/test" not in name and label != "")


@pytest.mark.parametrize("task", SHARES)
def test_labels(task: str) -> None:
    label = COLUMNS[task][1]
    for name in labelled(task):
        rows = read(name)
        counts = Counter(row[label] for row in rows)
        shares = {value: count / len(rows) for value, count in counts.items()}
        assert shares == pytest.approx(SHARES[task], abs=0.01)


def test_stsb_scores() -> None:
    for name in labelled("STS-B"):
        scores = [row["score"] for row in read(name)]
        assert all(score == f"{float(score):.3f}" and 0 <= float(score) <= 5 for score in scores)
        assert len(set(scores)) > 20
        assert 2 < sum(map(float, scores)) / len(scores) < 3


@pytest.mark.parametrize("task", COLUMNS)
def test_no_repeated_rows(task: str) -> None:
    columns = COLUMNS[task][0]
    names = [name for name in HEADERS if name.startswith(f"{task}/")]
    if task == "diagnostic":
        names += [name for name in HEADERS if name.startswith("MNLI/")]
    seen = Counter(
        frozenset(row[column] for column in columns) for name in names for row in read(name)
    )
    assert [texts for texts, count in seen.items() if count > 1] == []
    assert all(len(texts) == len(columns) for texts in seen)  # the two texts of a pair differ


@pytest.mark.parametrize("task", COLUMNS)
def test_lengths_vary(task: str) -> None:
    columns = COLUMNS[task][0]
    name = "diagnostic/diagnostic" if task == "diagnostic" else f"{task}/train"
    lengths = [sum(len(row[column].split()) for column in columns) for row in read(name)]
    assert max(lengths) <= 100
    assert len(set(lengths)) >= 8


def bag_of_words(task: str, keep: slice) -> list[tuple[str, float]]:
    """Train on words and word pairs of the texts in ``keep``; the score on each labelled dev."""
    columns, label = COLUMNS[task]
    data = {
        name: ([" ".join(row[c] for c in columns[keep]) for row in rows], [r[label] for r in rows])
        for name, rows in ((name, read(name)) for name in labelled(task))
    }
    model = make_pipeline(
        CountVectorizer(ngram_range=(1, 2), min_df=2), LogisticRegression(C=0.3, max_iter=300)
    )
    model.fit(*data.pop(f"{task}/train"))
    return [(name, float(model.score(*rows))) for name, rows in data.items()]


@pytest.mark.parametrize(
    ("task", "bound"), [("MNLI", 0.45), ("QNLI", 0.62), ("RTE", 0.62), ("WNLI", 0.62)]
)
def test_second_sentence_alone_says_little(task: str, bound: float) -> None:
    """The label must not follow from the second sentence alone (chance: 0.33 or 0.5)."""
    for name, score in bag_of_words(task, slice(1, 2)):
        assert score < bound, name


@pytest.mark.parametrize(("task", "bound"), [("MRPC", 0.72), ("QQP", 0.70), ("MNLI", 0.60)])
def test_words_of_a_pair_do_not_suffice(task: str, bound: float) -> None:
    """A bag of the words of both texts stays well below what a model of the pair can reach."""
    for name, score in bag_of_words(task, slice(0, 2)):
        assert score < bound, name


def test_quotation_marks_and_accents_are_there() -> None:
    """Readers must keep quoting off and read UTF-8; the sample shows when they do not."""
    assert any(row["#1 String"].count('"') for row in read("MRPC/train"))
    assert any(not row["sentence"].isascii() for row in read("CoLA/train"))
