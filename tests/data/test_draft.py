"""A task drafted from a file: what is guessed, what is asked, and that the task then loads its rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adaptertune import tasks
from adaptertune.data.draft import draft
from adaptertune.data.sources import Source, load_splits
from adaptertune.errors import ConfigError, DataError
from tests.conftest import Finished

Cli = Callable[..., Finished]
HEADER = ["id", "subject", "body", "class"]


def rows(number: int, labels: Sequence[Any] = ("low", "high")) -> list[list[Any]]:
    return [
        [f"t{n}", f"server {n} is down", f'see "log", line {n % 7}', labels[n % len(labels)]]
        for n in range(number)
    ]


def write(path: Path, table: Sequence[Sequence[Any]], header: Sequence[str] = HEADER) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *table])
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in table)
        )
    else:
        columns = {name: [row[at] for row in table] for at, name in enumerate(header)}
        pq.write_table(pa.table(columns), path)
    return path  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_task_with_a_validation_file(ending: str, tmp_path: Path) -> None:
    train = write(tmp_path / f"tickets.{ending}", rows(40))
    dev = write(tmp_path / f"dev.{ending}", rows(10))
    made = draft(train, validation=dev)
    assert (made.path, made.written) == (tmp_path / "tickets.yaml", [])
    task = tasks.load(made.path)
    assert (task.name, task.labels, task.headline) == ("tickets", ("high", "low"), "accuracy")
    assert task.is_pair
    found, other = load_splits(task, Source("folder", tmp_path), ["train", "validation"])
    assert found.first == [row[1] for row in rows(40)]
    assert found.second == [row[2] for row in rows(40)]
    assert found.labels is not None
    assert task.labels is not None
    assert [task.labels[n] for n in found.labels] == [row[3] for row in rows(40)]
    assert len(other) == 10


def test_without_one_a_tenth_is_held_out(tmp_path: Path) -> None:
    """Every row is in one of the two files; equal texts are in the same."""
    table = rows(300) + rows(300, ["high", "low"])  # the same texts twice, with the other label
    made = draft(write(tmp_path / "train.csv", table), name="t")
    task = tasks.load(made.path)
    found = load_splits(task, Source("folder", tmp_path), ["train", "validation"])
    pairs = [list(zip(split.first, split.second or [], strict=True)) for split in found]
    assert sorted(pairs[0] + pairs[1]) == sorted((row[1], row[2]) for row in table)
    assert not set(pairs[0]) & set(pairs[1])
    assert len(pairs[1]) == 60
    assert [path.name for path in made.written] == ["t.train.jsonl", "t.validation.jsonl"]
    own = write(tmp_path / "own.train.jsonl", rows(40))
    with pytest.raises(ConfigError, match=r"is there already; give --name, or --validation"):
        draft(own)
    assert own.exists()
    with pytest.raises(ConfigError, match=r"t\.yaml: is there already; remove it, or give --name"):
        draft(tmp_path / "train.csv", name="t")


def test_labels_that_are_nearly_the_same_are_told(tmp_path: Path, cli: Cli) -> None:
    """A slip of the hand makes a class of its own."""
    table = rows(60, ["a", "a ", "A", "b", "b c", "bc"])
    made = draft(write(tmp_path / "t.jsonl", table), label="class")
    told = "'A' and 'a' and 'a ' count as different labels"
    assert told in made.notes
    assert not [note for note in made.notes if "'b'" in note and "different" in note]
    done = cli("task", "check", made.path, "--json")
    warnings = [one["what"] for one in json.loads(done.out)["findings"]]
    assert [what for what in warnings if "labels" in what] == [told]
    numbers = draft(
        write(tmp_path / "n.jsonl", rows(60, ["1", "1.0", "01", "2", "nan", "inf"])), label="class"
    )
    told = "'01' and '1' and '1.0' count as different labels"
    assert [note for note in numbers.notes if "different" in note] == [told]


@pytest.mark.parametrize("number", [2, 5, 14, 15, 90, 96, 1234])
def test_the_tenth_is_a_tenth(number: int, tmp_path: Path) -> None:
    """And the same rows, in whatever order they come."""
    held_out = []
    for name, table in (("a", rows(number)), ("b", rows(number)[::-1])):
        made = draft(write(tmp_path / f"{name}.csv", table))
        train, validation = (path.read_text().splitlines() for path in made.written)
        assert len(validation) == max(1, round(number / 10))
        assert len(train) == number - len(validation)
        held_out.append(sorted(validation))
    assert held_out[0] == held_out[1]


def test_a_text_that_many_rows_have_is_not_held_out(tmp_path: Path) -> None:
    made = draft(write(tmp_path / "t.csv", [*rows(30), *[rows(1)[0]] * 70]))
    train, validation = (path.read_text().splitlines() for path in made.written)
    assert (len(train), len(validation)) == (90, 10)
    assert not any("server 0 is" in line for line in validation)


@pytest.mark.parametrize("other", ["n", "author", "first name"])
def test_a_text_of_one_word_is_told_by_its_columns_name(other: str, tmp_path: Path) -> None:
    cells = {"n": "7", "author": "A. Writer", "first name": "Ann"}
    table = [[f"word{n}", cells[other], "ab"[n % 2]] for n in range(30)]
    made = draft(write(tmp_path / "t.csv", table, ["Text", other, "label"]))
    (train,) = load_splits(tasks.load(made.path), Source("folder", tmp_path), ["train"])
    assert set(train.first) < {row[0] for row in table}
    assert train.second is None
    assert "the text is column 'Text': by its name" in made.notes


FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("t.csv", b"", r"t\.csv: the file holds no rows; give one with"),
    "a byte-order mark": ("t.csv", b"\xef\xbb\xbf", r"t\.csv: the file holds no rows; "),
    "blank lines": ("t.csv", b"\n\r\n\n", r"t\.csv: the file holds no rows; "),
    "a header line": ("t.csv", b"text,label\n", r"t\.csv: the file holds no rows; "),
    "no JSON Lines": ("t.jsonl", b"", r"t\.jsonl: the file holds no rows; "),
    "a JSON list": ("t.jsonl", b'[{"text": "a b"}]', r":1: not a JSON object, so .*; write \{"),
    "Latin-1": ("t.csv", "text,label\na caf\xe9,x\n".encode("latin-1"), r"t\.csv:2: not UTF-8 text; "),
    "a Latin-1 header": ("t.csv", "t\xe9xt,label\na b,x\n".encode("latin-1"), r"t\.csv:1: not UTF-8"),
    "UTF-16": ("t.csv", "text,label\na b,x\n".encode("utf-16"), r":1: not UTF-8 text, so .*; save"),
    "a column twice": ("t.csv", b"text,text,label\na b,c d,x\n", r":1: 2 columns are called 'text'; "),
    "a label twice": ("t.csv", b"text,label,label\na b,x,y\n", r":1: 2 columns are called 'label'; "),
    "a space in a name": ("t.csv", b"text, label\na b,x\n", r"give --label, of 'text', ' label'"),
    "a quotation mark": ("t.csv", b'text,label\n"a b,x\nc d,y\n', r":2: not valid CSV up to line 3"),
    "a long line": ("t.csv", b"text,label\n" + b"a " * 5_000_000 + b",x\n", r":2: the line is longer"),
    "a text as label": (
        "t.jsonl", b'{"text": "a b", "label": "' + b"x\\n" * 200_000 + b'"}', r"can't be a label; mend",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none(name: str, tmp_path: Path) -> None:
    file, content, complaint = FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=complaint) as refusal:
        draft(tmp_path / file)
    assert "; " in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("name", ["a/b", "../x", "a b", "-x", ".x"])
def test_a_name_that_no_task_may_have(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows(9))
    with pytest.raises(ConfigError, match=r"--name: '.*' can't be a task's name; use letters"):
        draft(path, name=name)
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_a_single_text_scores_and_a_test_file(tmp_path: Path) -> None:
    header = ["text", "score"]
    table = [[f"text number {n}", n / 4] for n in range(40)]
    made = draft(
        write(tmp_path / "a-train.csv", table, header),
        validation=write(tmp_path / "b.csv", table, header),
        test=write(tmp_path / "c.csv", [["one more text"]], ["text"]),
    )
    task = tasks.load(made.path)
    assert (task.name, task.range, task.headline, task.is_pair) == (
        "a",
        (0.0, 9.75),
        "pearson",
        False,
    )
    (test,) = load_splits(task, Source("folder", tmp_path), ["test"])
    assert (test.first, test.second, test.labels) == (["one more text"], None, None)


def test_nothing_is_written_if_the_test_file_is_bad(tmp_path: Path) -> None:
    path, test = write(tmp_path / "t.csv", rows(40)), tmp_path / "test.csv"
    with pytest.raises(DataError, match=r"test\.csv: no such file"):
        draft(path, test=test)
    test.write_bytes(path.read_bytes().splitlines()[0] + b"\n\xe9,\n")
    with pytest.raises(DataError, match=r"test\.csv:2: not UTF-8 text; save it as UTF-8"):
        draft(path, test=test)
    assert {file.name for file in tmp_path.iterdir()} == {"t.csv", "test.csv"}


def test_labels_that_yaml_would_take_for_something_else(tmp_path: Path) -> None:
    for number, labels in enumerate((("no", "yes"), ("0", "1"), ("null", "1e3"), ("a: b", "<b>#"))):
        path = write(tmp_path / f"t{number}.csv", rows(60, labels))
        found = tasks.load(draft(path).path).labels
        assert found is not None
        assert set(found) == set(labels)


def test_whole_numbers_are_labels_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", rows(60, [10, 9, 1]))
    assert tasks.load(draft(path).path).labels == ("1", "9", "10")
    path = write(tmp_path / "u.jsonl", rows(60, [10, 9, 1]))
    assert tasks.load(draft(path, kind="scores").path).range == (1, 10)


def test_decimals_of_a_database_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", rows(60, [Decimal("0.50"), Decimal("1.25")]))
    task = tasks.load(draft(path, kind="scores").path)
    assert task.range == (0.5, 1.25)
    (found, _) = load_splits(task, Source("folder", tmp_path), ["train", "validation"])
    assert found.labels is not None
    assert set(found.labels) == {0.5, 1.25}


@pytest.mark.parametrize(
    "label", ["? why", "?", ": )", ":", "- a", "yes", "a: b", "#1", "'", "[x", "null", "~"]
)
def test_labels_that_yaml_has_another_meaning_for(label: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", rows(40, [label, "high"]))
    assert set(tasks.load(draft(path).path).labels or ()) == {label, "high"}


def test_a_second_text_may_be_in_the_first_column(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows(60)[1:], rows(60)[0])
    made = draft(path, label="3", first="1", second="0")
    (train,) = load_splits(tasks.load(made.path), Source("folder", tmp_path), ["train"])
    assert set(train.second or ()) < {f"t{n}" for n in range(60)}


def test_positions_where_there_is_no_header(tmp_path: Path) -> None:
    for name in ("t.csv", "dev.csv"):
        path = write(tmp_path / name, rows(60)[1:], rows(60)[0])
    made = draft(tmp_path / "t.csv", validation=path, label="3", first="1")
    (train,) = load_splits(tasks.load(made.path), Source("folder", tmp_path), ["train"])
    assert (len(train), train.first[0], train.second) == (60, "server 0 is down", None)
    assert any(note.startswith("the first line is a row, no header: 't0', ") for note in made.notes)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_numbers_are_names_where_columns_have_names(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"t.{ending}", rows(40), header=["0", "1", "2", "3"])
    dev = write(tmp_path / f"dev.{ending}", rows(10), header=["0", "1", "2", "3"])
    task = tasks.load(draft(path, validation=dev, label="3", first="1", second="2").path)
    (found,) = load_splits(task, Source("folder", tmp_path), ["train"])
    assert found.first == [row[1] for row in rows(40)]


def test_numbers_that_may_be_positions_or_names_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows(60), ["0", "1", "2", "3"])
    with pytest.raises(
        DataError, match=r"t\.csv:1: 3, 1 are positions and what the first line says"
    ):
        draft(path, label="3", first="1")


GUESS = r"hold the text can't be told \(.* none\); give --first"
REFUSED: dict[str, tuple[list[list[Any]], list[str], dict[str, str], str]] = {
    "a gap among scores": (
        rows(60, [1.5, 2, 2.5, "N/A"]), HEADER, {},
        "'class' has 3 different numbers and 'N/A'; mend or remove these rows, or give --kind labels",
    ),
    "a gap among many numbers": (
        rows(200, [*range(60), "NaN"]), HEADER, {}, "'class' has 60 different numbers and 'NaN'; mend",
    ),
    "no label": (rows(9), ["id", "a", "b", "urgency"], {}, "no column is called label, .* 'urgency'"),
    "two labels": (rows(9), ["label", "a", "b", "class"], {}, "several columns .* label, class"),
    "no text": ([["a", "b"]], ["it", "label"], {}, GUESS),
    "a wrong name": (rows(9), HEADER, {"label": "clas"}, r":1: no column 'clas'; did you mean class\?"),
    "one label": (rows(9, ["x"]), HEADER, {}, "one label only: 'x'"),
    "an empty label": (rows(9, ["x", " "]), HEADER, {}, r"t\.csv:3: ' ' can't be a label"),
    "many values": (rows(99, [f"v{n}" for n in range(99)]), HEADER, {}, "99 different values in 99"),
    "many numbers": (rows(99, range(40)), HEADER, {}, "40 different whole numbers"),
    "no scores": (rows(9), HEADER, {"kind": "scores"}, "'low' in column 'class' is no number"),
    "one score": (rows(9, [0.5]), HEADER, {}, r"all scores in column 'class' are 0\.5"),
    "a bad row": ([*rows(9), ["x"]], HEADER, {}, r"t\.csv:11: 1 column where the first line has 4"),
    "too few": (
        [["t", "a b", "c d", label] for label in "xy"], HEADER, {}, "2 rows have too few different",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_asked(name: str, tmp_path: Path) -> None:
    table, header, options, complaint = REFUSED[name]
    path = write(tmp_path / "t.csv", table, header)
    with pytest.raises(DataError, match=complaint):
        draft(path, **options)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_a_file_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    dev = write(tmp_path / "x" / "dev.csv", rows(9))
    with pytest.raises(
        ConfigError, match=r"dev\.csv: lies in another folder; move it beside t\.csv"
    ):
        draft(write(tmp_path / "t.csv", rows(9)), validation=dev)


def test_a_folder_may_have_two_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "real" / "dev.csv", rows(9))
    train = write(tmp_path / "real" / "t.csv", rows(40))
    assert draft(train, validation=tmp_path / "link" / "dev.csv").path.exists()


def test_a_name_that_no_file_may_hold(tmp_path: Path) -> None:
    train = tmp_path / "caf\udce9.csv"  # as Python has a name that is not UTF-8
    write(tmp_path / "t.csv", rows(40)).rename(train)
    with pytest.raises(ConfigError, match=r"the name of '.*/caf\?\.csv' is not UTF-8; rename it"):
        draft(train)
    assert [file.name for file in tmp_path.iterdir()] == [train.name]


def test_from_a_file_to_a_trained_model_and_its_answers(
    cli: Cli, tiny_bert: Path, tmp_path: Path
) -> None:
    write(tmp_path / "tickets.parquet", rows(80, ["low", "high", "none at all"]))
    made = cli("task", "new", "tickets.parquet", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["file"] == "tickets.yaml"
    assert "ready to train" in cli("task", "check", "tickets.yaml").out
    trained = cli(
        "train", "--task", "tickets.yaml", "--backbone", tiny_bert, "--seeds", "1", "--epochs", "1",
        "--size", "4", "--max-length", "24", "--json", "--quiet",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    (tmp_path / "tickets.yaml").unlink()  # the run knows its task
    done = cli("predict", json.loads(trained.out)["folder"], "server down", "see log", "--json")
    assert done.code == 0, done.err
    (answer,) = json.loads(done.out)["predictions"]
    assert set(answer["probabilities"]) == {"low", "high", "none at all"}
