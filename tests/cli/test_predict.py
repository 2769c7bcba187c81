"""The predict command: rows in and out in every format, and what is refused."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adaptertune.runs import predict, store
from tests.conftest import Finished, train_tiny

Cli = Callable[..., Finished]
LABELS = ["entailment", "not_entailment"]
PAIRS = [("word1 word2", "word3"), ("word4", 'word5, "word6"'), ("word7", "猫 word8")]


@pytest.fixture(scope="module")
def rte(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tiny_bert, tmp_path_factory.mktemp("runs"), "rte")


@pytest.fixture(scope="module")
def stsb(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tiny_bert, tmp_path_factory.mktemp("runs"), "stsb")


def test_texts_on_the_command_line(cli: Cli, rte: Path) -> None:
    done = cli("predict", rte, "word1", "word2", "word3", "word4", "--json")
    assert done.code == 0, done.err
    given = json.loads(done.out)
    assert [one["line"] for one in given["predictions"]] == [1, 2]
    for one in given["predictions"]:
        assert list(one["probabilities"]) == LABELS
        assert sum(one["probabilities"].values()) == pytest.approx(1)
        assert one["probabilities"][one["prediction"]] >= 0.5
    assert (given["task"], given["num_rows"], given["num_bad"]) == ("rte", 2, 0)
    assert sum(given["counts"].values()) == 2
    assert "Answered    2 rows" in done.err
    assert "Answered    1 row in" in cli("predict", rte, "word1", "word2").err


def test_scores(cli: Cli, stsb: Path) -> None:
    given = json.loads(cli("predict", stsb, "word1", "word2", "--json").out)
    (one,) = given["predictions"]
    assert set(one) == {"line", "prediction"}
    assert isinstance(one["prediction"], float)
    assert given["counts"] is None
    assert given["headline"] == "pearson"


def rows_file(folder: Path, ending: str) -> Path:
    path = folder / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(
            pa.table({"sentence1": [a for a, _ in PAIRS], "sentence2": [b for _, b in PAIRS]}), path
        )
    elif ending == "jsonl":
        path.write_text(
            "".join(json.dumps({"sentence1": a, "sentence2": b}) + "\n" for a, b in PAIRS)
        )
    elif ending == "csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("sentence1", "sentence2"), *PAIRS])
    elif ending == "tsv":
        path.write_text("".join(f"{a}\t{b}\n" for a, b in [("sentence1", "sentence2"), *PAIRS]))
    else:
        path.write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    return path  # fmt: skip


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet", "txt"])
@pytest.mark.parametrize("out", ["tsv", "csv", "jsonl", "parquet"])
def test_every_format_in_and_out(
    cli: Cli, rte: Path, tmp_path: Path, ending: str, out: str
) -> None:
    texts = [text for pair in PAIRS for text in pair]
    plain = json.loads(cli("predict", rte, *texts, "--json").out)["predictions"]
    start = 2 if ending in ("tsv", "csv") else 1
    path = tmp_path / f"answers.{out}"
    done = cli("predict", rte, "--input", rows_file(tmp_path, ending), "--to", path, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    if out == "parquet":
        found = pq.read_table(path).to_pylist()
    elif out == "jsonl":
        found = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        with path.open(newline="") as stream:
            cells = list(csv.DictReader(stream, delimiter="\t" if out == "tsv" else ","))
        found = [
            {"line": int(row["line"]), "prediction": row["prediction"],
             "probabilities": {label: float(row[f"probability.{label}"]) for label in LABELS}}
            for row in cells
        ]  # fmt: skip
    assert [one["line"] for one in found] == [start, start + 1, start + 2]
    for one, same in zip(found, plain, strict=True):
        assert one["prediction"] == same["prediction"]
        assert one["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)


def test_standard_input_and_output(cli: Cli, rte: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"word1\tword2\nword3\tword4\n")

    monkeypatch.setattr(sys, "stdin", Stdin)
    done = cli("predict", rte, "--input", "-")
    assert done.code == 0, done.err
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert lines[0] == ["line", "prediction", *(f"probability.{label}" for label in LABELS)]
    assert [line[0] for line in lines[1:]] == ["1", "2"]


def test_bad_rows_set_aside(cli: Cli, rte: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_bytes(
        b"sentence1\tsentence2\nword1\tword2\nonly one\ncaf\xe9\tword1\nword3\tword4\n"
        + b"x" * 10_000_000 + b"\ty\n"
    )  # fmt: skip
    command = ("predict", rte, "--input", "rows.tsv", "--to", "out.tsv")
    done = cli(*command)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: rows.tsv:3: 1 column where the first line has 2; mend or remove the row (a line end "
        "inside a text?), or set bad rows aside with --skip-bad FILE\n"
    )
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".part", "out.tsv"))]
    done = cli(*command, "--skip-bad", "bad.jsonl", "--json")
    assert done.code == 0, done.err
    given = json.loads(done.out)
    assert (given["num_rows"], given["num_bad"], given["skip_bad"]) == (2, 3, "bad.jsonl")
    assert "predictions" not in given
    aside = [json.loads(line) for line in Path("bad.jsonl").read_text().splitlines()]
    assert [one["line"] for one in aside] == [3, 4, 6]
    assert max(len(one["content"]) for one in aside) < 100
    assert [line.split("\t")[0] for line in Path("out.tsv").read_text().splitlines()] == [
        "line", "2", "5",
    ]  # fmt: skip


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing to answer": ((), "give either texts or --input"),
    "both": (("a", "b", "--input", "x.tsv"), "give either texts or --input"),
    "half a pair": (("a", "b", "c"), "3 texts where each example has two"),
    "an empty text": (("a", " "), "example:1: the text in column 2 is empty"),
    "no file": (("--input", "x.tsv"), r"x\.tsv: no such file"),
    "an unknown format": (
        ("--input", "x.tsv", "--format", "tvs"), "--format: no format 'tvs'; did you mean tsv",
    ),
    "an unknown ending": (("--input", "x.doc"), r"x\.doc: no format is known for '\.doc'; name it"),
    "an output of no table": (
        ("--input", "x.tsv", "--to", "y.txt"), r"y\.txt: answers are a table; name",
    ),
    "onto itself": (("--input", "x.tsv", "--to", "./x.tsv"), r"x\.tsv: --to is the input itself"),
    "bad rows onto the input": (
        ("--input", "x.tsv", "--skip-bad", "./x.tsv"), r"x\.tsv: --skip-bad is the input itself",
    ),
    "bad rows onto the answers": (
        ("--input", "x.tsv", "--to", "y.tsv", "--skip-bad", "y.tsv"),
        r"y\.tsv: --skip-bad is --to itself",
    ),
    "answers to no file": (
        ("--input", "x.tsv", "--to", "-"), "--to: '-' is no file; leave it out",
    ),
    "bad rows to no file": (
        ("--input", "x.tsv", "--skip-bad", "-"), "--skip-bad: '-' is no file; name a file",
    ),
    "columns without a file": (
        ("a", "b", "--first", "x"), "--format, --first, --second and --skip-bad go",
    ),
    "an unwritable output": (("a", "b", "--to", "/proc/x.tsv"), r"/proc/x\.tsv: cannot be written"),
    "an output that is a folder": (("a", "b", "--to", "f.tsv"), r"f\.tsv: cannot be written \(Is a dir"),
    "an unwritable place for bad rows": (
        ("--input", "pairs.txt", "--skip-bad", "f.tsv"), r"f\.tsv: cannot be written",
    ),
    "an empty file": (("--input", "empty.jsonl", "--skip-bad", "y"), r"empty\.jsonl: the file holds no"),
    "a name and a position": (
        ("--input", "pairs.txt", "--first=-1", "--second", "0"), "--first and --second: one of '-1' and",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_a_line_and_before_a_model_is_loaded(
    cli: Cli, rte: Path, name: str, tmp_path: Path
) -> None:
    (tmp_path / "f.tsv").mkdir()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "pairs.txt").write_text("word1\tword2\n")
    arguments, complaint = WRONG[name]
    done = cli("predict", rte, *arguments, "--backbone", str(tmp_path / "gone"))
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert re.match(f"error: {complaint}", line), line


def test_the_first_row_of_json_lines_is_set_aside_like_others(
    cli: Cli, rte: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"sentence1"\n{"sentence1": "a", "sentence2": "b"}\n')
    done = cli("predict", rte, "--input", "rows.jsonl", "--skip-bad", "bad.jsonl", "--json")
    assert done.code == 0, done.err
    given = json.loads(done.out)
    assert ([one["line"] for one in given["predictions"]], given["num_bad"]) == ([2], 1)
    assert "Set aside   1 bad row\n" in done.err


class Rows(io.BytesIO):
    """Pairs on standard input, with something after them."""

    def __init__(self, num_rows: int, end: bytes | type[BaseException]) -> None:
        super().__init__(b"word1\tword2\n" * num_rows + (end if isinstance(end, bytes) else b""))
        self.end = end

    @property
    def buffer(self) -> Rows:
        return self

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line and isinstance(self.end, type):
            raise self.end
        return line


@pytest.mark.parametrize(
    ("end", "code", "complaint"),
    [
        (b"only one\n", 2, "standard input:6: not two texts with a tab between; mend or remove"),
        (KeyboardInterrupt, 130, "stopped after 4 rows; "),
    ],
)
def test_what_stops_it_midway(
    cli: Cli, rte: Path, monkeypatch: pytest.MonkeyPatch,
    end: bytes | type[BaseException], code: int, complaint: str,
) -> None:  # fmt: skip
    """What is on standard output is valid and says that it isn't all; a file is not written."""
    monkeypatch.setattr(predict, "CHUNK", 2)
    monkeypatch.setattr(sys, "stdin", Rows(5, end))
    done = cli("predict", rte, "--input", "-", "--json")
    assert done.code == code
    (line,) = done.err.splitlines()
    assert line.startswith(f"error: {complaint}")
    given = json.loads(done.out)
    assert list(given) == ["predictions", "error"]
    assert [one["line"] for one in given["predictions"]] == [1, 2, 3, 4]
    assert f"error: {given['error']}" == line
    monkeypatch.setattr(sys, "stdin", Rows(5, end))
    done = cli("predict", rte, "--input", "-", "--to", "out.tsv")
    assert (done.code, done.out) == (code, "")
    assert not [path for path in Path().iterdir() if "out.tsv" in path.name]
    if code == 130:
        assert done.err == "error: stopped after 4 rows; out.tsv is not written\n"


@pytest.mark.parametrize("command", [("tasks",), ("tasks", "--json"), ("predict",)])
def test_a_pipe_without_reader_ends_it_quietly(rte: Path, command: tuple[str, ...]) -> None:
    if command == ("predict",):
        command = ("predict", str(rte), "word1", "word2")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "adaptertune", *command, *(["--quiet"] * (command[0] == "predict"))],
        stdout=writer, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_full_disk_behind_standard_output() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "adaptertune", "tasks"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == ("error: standard output: cannot be written (No space left on device)\n")


def test_a_folder_that_may_not_be_entered(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the superuser, who may enter all, only so."""

    def closed(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "closed/runs")

    monkeypatch.setattr(store, "cells", closed)
    done = cli("predict", "digest", "a")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: closed/runs: Permission denied; choose another place, or change its rights\n"
    )


def test_an_unknown_run(cli: Cli) -> None:
    done = cli("predict", "nosuchrun", "a")
    assert done.code == 2
    assert done.err.startswith("error: runs: no run 'nosuchrun'")


def test_a_run_of_one_seed_tells_that_others_are_there(
    cli: Cli, rte: Path, tiny_bert: Path
) -> None:
    done = cli(
        "train", "--task", "rte", "--offline", "--backbone", tiny_bert, "--size", "8", "--seed", "1",
        "--epochs", "1", "--max-length", "24", "--lr", "1e-2", "--precision", "fp32", "--quiet",
        "--output", rte.parent.parent,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Also there  seed 0; adaptertune show tells of all\n" in done.out
    assert "Also there" not in cli("show", rte).out
