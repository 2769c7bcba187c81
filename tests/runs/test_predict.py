"""A run as a model that answers: the same logits as in its training, order, chunks, what is refused."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from scipy.special import softmax

from adaptertune.data import tables
from adaptertune.data.encode import load_tokenizer
from adaptertune.data.tables import Bad, Row
from adaptertune.errors import BackboneError, CheckpointError, DataError, StoreError
from adaptertune.model import backbone
from adaptertune.runs import load, predict
from adaptertune.runs.load import Loaded
from adaptertune.tasks import Columns
from tests.conftest import train_tiny
from tests.runs.test_execute import plan


@pytest.fixture(scope="module")
def cell(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cell of two seeds, trained on the sample's RTE."""
    return train_tiny(tiny_bert, tmp_path_factory.mktemp("runs"), "rte")


@pytest.fixture(scope="module")
def loaded(cell: Path) -> Loaded:
    return load.load(load.find(str(cell), cell.parent))


def dev_rows(loaded: Loaded) -> Iterator[Row]:
    """The rows that the run was evaluated on."""
    from adaptertune.data.sources import SAMPLE

    with tables.opened(SAMPLE / "RTE" / "dev.tsv", "tsv") as table:
        columns = predict.choose_columns(loaded.run.task, table, None, None)
        for row in table.rows(columns):
            assert isinstance(row, Row)
            yield row


def ask(loaded: Loaded, rows: Iterator[Row]) -> list[predict.Answer]:
    found: list[predict.Answer] = []
    summary = predict.answer(loaded, rows, found.extend, lambda _: None)
    assert summary.num_rows == len(found)
    return found


def shares(answers: list[predict.Answer]) -> np.ndarray:
    return np.array([one.probabilities for one in answers])


def test_answers_are_those_of_the_training(loaded: Loaded) -> None:
    """The probabilities are scipy's softmax of the logits that the run wrote for these rows."""
    with safe_open(loaded.run.folder.logits, framework="np") as stream:
        logits = stream.get_tensor("logits.validation")
    found = ask(loaded, dev_rows(loaded))
    assert [one.line for one in found] == list(range(2, len(logits) + 2))
    expected = softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(shares(found), expected, atol=1e-6)
    labels = loaded.run.task.labels
    assert labels is not None
    assert [one.prediction for one in found] == [labels[n] for n in logits.argmax(axis=1)]


@pytest.mark.parametrize(("rows", "characters"), [(1, 10**9), (7, 10**9), (10**9, 500)])
def test_chunks_change_nothing(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, rows: int, characters: int
) -> None:
    whole = ask(loaded, dev_rows(loaded))
    monkeypatch.setattr(predict, "CHUNK", rows)
    monkeypatch.setattr(predict, "CHUNK_CHARACTERS", characters)
    parts = ask(loaded, dev_rows(loaded))
    assert [one.line for one in parts] == [one.line for one in whole]
    np.testing.assert_allclose(shares(parts), shares(whole), atol=1e-6)


def test_rows_are_read_only_as_fast_as_they_are_answered(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "CHUNK", 3)
    read = 0
    ahead: list[int] = []

    def rows() -> Iterator[Row]:
        nonlocal read
        for number in range(10):
            read += 1
            yield Row(number, "word1", "word2", None)

    predict.answer(loaded, rows(), lambda done: ahead.append(read), lambda _: None)
    assert ahead == [3, 6, 9, 10]


def test_bad_rows_stop_or_are_set_aside() -> None:
    good = [Row(line, f"word{line}", "word1", None) for line in (2, 4)]
    rows: list[Row | Bad] = [good[0], Bad(3, "is bad", "mend it", "\ud83d<b>"), good[1]]
    complaint = r"^x\.tsv:3: is bad; mend it, or set bad rows aside"
    passing = predict.Sieve("x.tsv", None).good(rows)
    assert next(passing) == good[0]
    with pytest.raises(DataError, match=complaint):
        next(passing)
    with pytest.raises(DataError, match=complaint):  # the first one is told at once
        predict.Sieve("x.tsv", None).good(rows[1:])
    sieve = predict.Sieve("x.tsv", io.BytesIO())
    assert list(sieve.good(rows)) == good
    assert sieve.num_bad == 1
    assert isinstance(sieve.aside, io.BytesIO)
    assert json.loads(sieve.aside.getvalue()) == {"line": 3, "why": "is bad", "content": "?<b>"}


def test_logits_that_are_no_numbers_are_no_answer(loaded: Loaded) -> None:
    with pytest.raises(CheckpointError, match="not numbers"):
        predict.from_logits(loaded.run.task, np.array([[0.0, math.nan]], np.float32), [1])


def test_the_seed_is_the_best_the_named_one_or_the_folders(cell: Path) -> None:
    best = json.loads((cell / "result.json").read_text())["best_seed"]
    assert load.find(str(cell), cell.parent).result.seed == best
    assert load.find(cell.name, cell.parent.parent).result.seed == best
    assert load.find(str(cell), cell.parent, 1 - best).result.seed == 1 - best
    assert load.find(str(cell / f"seed-{1 - best}"), cell.parent).result.seed == 1 - best
    with pytest.raises(StoreError, match=r"seed-7: not finished; models there: seed-0, seed-1"):
        load.find(str(cell), cell.parent, 7)


def test_a_cell_without_summary_needs_a_seed(cell: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(cell, tmp_path / "rte" / cell.name)
    (copy / "result.json").unlink()
    with pytest.raises(StoreError, match=r"name the folder of a seed that is \(seed-0, seed-1\)"):
        load.find(str(copy), tmp_path)
    assert load.find(str(copy), tmp_path, 1).result.seed == 1


def test_the_task_is_the_runs_own(cell: Path, tmp_path: Path) -> None:
    """It is kept in the run; a run from before that has it from the task's file, if that is the same."""
    copy = shutil.copytree(cell, tmp_path / "rte" / cell.name)
    content = json.loads((copy / "config.json").read_text())
    kept = load.find(str(copy), tmp_path).task
    del content["task"]
    (copy / "config.json").write_text(json.dumps(content))
    assert load.find(str(copy), tmp_path).task == kept
    content["identity"]["task"]["labels"] = ["yes", "no"]
    (copy / "config.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="task 'rte' is not what it was"):
        load.find(str(copy), tmp_path)
    (copy / "config.json").write_text("{}")
    with pytest.raises(StoreError, match=r"config\.json: damaged"):
        load.find(str(copy), tmp_path)


def test_a_token_that_the_model_lacks_is_told(loaded: Loaded, tiny_bert: Path) -> None:
    larger = load_tokenizer(tiny_bert)
    larger.add_tokens(["other"])
    knows_more = replace(loaded, tokenizer=larger)
    given = (["word1 word2"], ["word3"])
    same = knows_more.encode(*given).tokens.tolist()
    assert same == loaded.encode(*given).tokens.tolist(), "tokens that no row has do no harm"
    with pytest.raises(BackboneError, match="the tokenizer has token 60, the model 60 rows"):
        knows_more.encode(["word1 other"], ["word3"])


def test_another_base_model_is_refused(cell: Path, tiny_bert: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_bert, tmp_path / "other")
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(CheckpointError, match=r"trained on another .*tiny"):
        load.load(load.find(str(cell), cell.parent), place=str(other))


def test_another_tokenizer_or_configuration_is_refused(
    cell: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """The weights are the same, the answers would not be."""
    other = shutil.copytree(tiny_bert, tmp_path / "other")
    found = load.find(str(cell), cell.parent)
    load.load(found, place=str(other))
    shape = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(shape | {"layer_norm_eps": 1e-3}))
    with pytest.raises(
        CheckpointError, match=r"configuration or tokenizer in .* is not what it was"
    ):
        load.load(found, place=str(other))


def test_a_package_or_a_commit_has_a_tokenizer_too(cell: Path, tiny_bert: Path) -> None:
    """Of one commit the cache may have had fewer files before."""
    located = backbone.locate(str(tiny_bert), offline=True)
    facts = load.find(str(cell), cell.parent).result.backbone
    assert facts.files == located.files
    for commit in (None, "c0ffee"):
        other = replace(located, files="another", is_own=False, commit=commit)
        with pytest.raises(CheckpointError, match="configuration or tokenizer"):
            load.check_backbone(facts, other, cell)
        load.check_backbone(facts.model_copy(update={"files": None}), other, cell)
    load.check_backbone(facts.model_copy(update={"commit": "c0ffee"}), other, cell)
    own, packaged = (plan(tiny_bert, cell.parent) for _ in range(2))
    packaged = replace(packaged, located=replace(packaged.located, is_own=False))
    assert packaged.backbone.files == own.backbone.files
    assert "backbone_files" in own.identity
    assert "backbone_files" not in packaged.identity


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"\xff" * 8 + b"{}", b"\xff" * 64])
def test_a_checkpoint_that_is_none_is_refused(cell: Path, tmp_path: Path, content: bytes) -> None:
    """Empty, a pickle, and headers said to be 2^64 - 1 bytes long."""
    copy = shutil.copytree(cell, tmp_path / "rte" / cell.name)
    found = load.find(str(copy), tmp_path)
    found.folder.checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: damaged, or not a check"):
        load.load(found)


CHOICES = [
    # the header's names, --first, --second, what is chosen
    (
        ["index", "sentence1", "sentence2"],
        None,
        None,
        Columns(first="sentence1", second="sentence2"),
    ),
    (["x", "y"], "x", "y", Columns(first="x", second="y")),
    (["x", "y"], "1", "0", Columns(first=1, second=0)),
]


@pytest.mark.parametrize(("names", "first", "second", "chosen"), CHOICES)
def test_columns_are_the_tasks_or_those_named(
    loaded: Loaded, names: list[str], first: str | None, second: str | None, chosen: Columns
) -> None:
    table = tables.Table("x.tsv", "tsv", names, lambda _: iter(()))
    assert predict.choose_columns(loaded.run.task, table, first, second) == chosen


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_number_may_be_a_columns_name(loaded: Loaded, format: Any) -> None:
    """As pandas calls columns without one."""
    table = tables.Table("x", format, ["0", "1"], lambda _: iter([(1, {"0": "a", "1": "b"})]))
    columns = predict.choose_columns(loaded.run.task, table, "0", "1")
    assert list(table.rows(columns)) == [Row(1, "a", "b", None)]


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        (None, None, r"x\.tsv:1: no column sentence1 and sentence2; name the columns with --first and "
         r"--second, of x, y"),
        ("x", None, "task 'rte' has two texts; give --first and --second"),
        (None, "y", "--second goes with --first"),
        ("0", "y", "one of '0' and 'y' is a name, the other a position; give two names, or two"),
        ("-1", "0", "one of '-1' and '0' is a name, the other a position"),
    ],
)  # fmt: skip
def test_columns_that_are_not_there(
    loaded: Loaded, first: str | None, second: str | None, complaint: str
) -> None:
    table = tables.Table("x.tsv", "tsv", ["x", "y"], lambda _: iter(()))
    with pytest.raises(DataError, match=complaint):
        predict.choose_columns(loaded.run.task, table, first, second)


def test_tsv_is_written_as_it_is_read(loaded: Loaded, tmp_path: Path) -> None:
    """Quotation marks are plain characters in it."""
    path = tmp_path / "answers.tsv"
    task = loaded.run.task.model_copy(update={"labels": ('say "hi"', "no")})
    with predict.writing(path, "tsv", task, io.BytesIO()) as put:
        put([predict.Answer(2, 'say "hi"', (0.75, 0.25))])
    with tables.opened(path, "tsv") as table:
        (row,) = table.rows(Columns(first="prediction", label='probability.say "hi"'))
    assert row == Row(2, 'say "hi"', None, "0.750000")


@pytest.mark.parametrize("format", ["tsv", "csv"])
@pytest.mark.parametrize("to_file", [True, False])
def test_the_columns_are_named_where_no_row_was_good(
    loaded: Loaded, tmp_path: Path, format: predict.Out, to_file: bool
) -> None:
    path, stdout = tmp_path / "answers", io.BytesIO()
    with predict.writing(path if to_file else None, format, loaded.run.task, stdout):
        pass
    text = (path.read_bytes() if to_file else stdout.getvalue()).decode()
    assert text.splitlines()[0].startswith("line\tprediction" if format == "tsv" else "line,pred")
