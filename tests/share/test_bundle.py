"""Many tasks on one backbone: bytes, the same answers in any batch, nothing of this machine."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptertune.data.sources import Source, load_splits
from adaptertune.data.tables import Bad, Row
from adaptertune.errors import AdapterTuneError, CheckpointError, ConfigError, StoreError
from adaptertune.runs import load
from adaptertune.runs.load import Loaded
from adaptertune.share import bundle
from adaptertune.share.bundle import Bundle
from tests.conftest import Finished, train_tiny

Cli = Callable[..., Finished]
TASKS = ("rte", "stsb", "sst2", "mnli")


@pytest.fixture(scope="module")
def store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of four tasks with one, two and three outputs; MNLI's adapters have another size."""
    output = tmp_path_factory.mktemp("runs")
    for task in TASKS:
        train_tiny(tiny_bert, output, task, *(("--size", "4") if task == "mnli" else ()))
    return output


@pytest.fixture(scope="module")
def made(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    runs = [load.find(str(next((store / task).iterdir())), store) for task in TASKS]
    return bundle.create(runs, tmp_path_factory.mktemp("bundles") / "all", offline=True)


@pytest.fixture(scope="module")
def models(made: Bundle) -> dict[str, Loaded]:
    return bundle.load_all(bundle.read(made.folder))


def rows(numbers: dict[str, int]) -> list[Row]:
    """Rows of the sample's validation splits by turns."""
    from adaptertune.tasks import load as load_task

    found = []
    for name, number in numbers.items():
        (split,) = load_splits(load_task(name), Source("sample"), [load_task(name).evaluation[0]])
        for at in range(number):
            second = split.second[at] if split.second else None
            found.append((at, Row(0, split.first[at], second, name)))
    ordered = [row for _, row in sorted(found, key=lambda item: item[0])]
    return [row._replace(line=line) for line, row in enumerate(ordered, 1)]


def test_the_bytes_are_those_on_disk(made: Bundle, tiny_bert: Path) -> None:
    sizes = bundle.sizes(made)
    weights = (tiny_bert / "model.safetensors").stat().st_size
    checkpoints = {
        task: next(made.folder.glob(f"{task}/*/seed-*/checkpoint.safetensors")).stat().st_size
        for task in TASKS
    }
    assert (sizes.backbone, sizes.tasks) == (weights, checkpoints)
    assert sizes.total == sum(p.stat().st_size for p in made.folder.rglob("*") if p.is_file())
    assert len(list(made.folder.rglob("*.safetensors"))) == 1 + len(TASKS)
    assert sizes.multiple == sizes.total / weights
    assert not [path for path in made.folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_all_of_it_is_shared(made: Bundle, models: dict[str, Loaded]) -> None:
    tables = {
        loaded.model.backbone.embeddings.word_embeddings.weight.data_ptr()
        for loaded in models.values()
    }
    assert len(tables) == 1
    trained = {
        name: loaded.model.backbone.embeddings.LayerNorm.weight.data_ptr()
        for name, loaded in models.items()
    }
    assert len(set(trained.values())) == len(TASKS)
    own = bundle.load_all(made, shared=False)
    once, often = bundle._weight_bytes(models), bundle._weight_bytes(own)
    assert often > 3 * once


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(
    "numbers", [{"rte": 1}, {"rte": 5, "stsb": 40, "sst2": 33, "mnli": 3}, dict.fromkeys(TASKS, 2)]
)
def test_answers_are_those_of_each_run_alone(
    store: Path, models: dict[str, Loaded], numbers: dict[str, int], mixed: bool
) -> None:
    asked = rows(numbers)
    answered = [one for part in bundle.answer(models, asked, mixed=mixed) for one in part]
    assert [one.answer.line for one in answered] == [r.line for r in asked]
    for name in numbers:
        alone = load.load(load.find(str(next((store / name).iterdir())), store))
        own = [row for row in asked if row.label == name]
        second = [row.second or "" for row in own] if alone.run.task.is_pair else None
        expected = alone.logits(alone.encode([row.first for row in own], second))
        found: list[Any] = [one.answer for one in answered if one.task == name]
        if name == "stsb":
            given = np.array([[answer.prediction] for answer in found])
            np.testing.assert_allclose(given, expected, atol=1e-5)
        else:
            powers = np.exp(expected - expected.max(axis=1, keepdims=True))
            shares = powers / powers.sum(axis=1, keepdims=True)
            np.testing.assert_allclose([a.probabilities for a in found], shares, atol=1e-5)


def test_rows_of_no_task_and_of_too_many_texts(made: Bundle) -> None:
    asked: list[Row | Bad] = [
        Row(1, "word1", None, "rta"), Row(2, "word1", None, "rte"), Row(3, "word1", "word2", "sst2"),
        Bad(4, "is bad", "mend it", ""), Row(5, "word1", None, ["sst2"]),
        Row(6, "word1", None, "sst2"),
    ]  # fmt: skip
    *bad, good = bundle.checked(made, asked)
    assert [one.what for one in bad if isinstance(one, Bad)] == [
        "no task 'rta' in the bundle", "task 'rte' has two texts", "task 'sst2' has one text", "is bad",
        "no task '['sst2']' in the bundle",
    ]  # fmt: skip
    assert good == asked[-1]


def test_nothing_of_this_machine_is_in_it(made: Bundle, store: Path) -> None:
    import platform

    for path in made.folder.rglob("*.json"):
        text = path.read_text()
        assert str(store) not in text, path
        assert str(store.parent) not in text, path
        if platform.node():
            assert f'"host": "{platform.node()}"' not in text, path


def test_the_commands(
    cli: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [next((store / task).iterdir()) for task in TASKS]
    done = cli("bundle", "new", *runs, "--to", "b", "--offline", "--json")
    assert done.code == 0, done.err
    assert set(json.loads(done.out)["runs"]) == set(TASKS)
    done = cli("bundle", "new", runs[0], "--to", "one", "--offline")
    assert "as 1 full model\n" in done.out
    shutil.move(tmp_path / "b", tmp_path / "elsewhere")
    assert "as 4 full models" in cli("bundle", "show", "elsewhere").out
    done = cli("bundle", "predict", "elsewhere", "sst2", "word1", "word2", "--quiet")
    assert [json.loads(line)["task"] for line in done.out.splitlines()] == ["sst2"] * 2
    (tmp_path / "rows.csv").write_text(
        "task,first,second\nrte,word1,word2\nsst2,word3,\nstsb,a,b\n"
    )
    done = cli("bundle", "predict", "elsewhere", "--input", "rows.csv", "--to", "out.jsonl")
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(one["line"], one["task"]) for one in answers] == [(2, "rte"), (3, "sst2"), (4, "stsb")]
    done = cli("bundle", "predict", "elsewhere", "--input", "rows.csv", "--second", "secnd")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: rows.csv: no column 'secnd'; did you mean second?\n"
    done = cli("bundle", "new", *runs, "--to", store / "all", "--offline")
    assert done.code == 0, done.err
    listed = json.loads(cli("runs", "--output", store, "--json").out)
    shutil.rmtree(store / "all")
    assert not [run for run in listed if run["folder"].endswith("backbone")]
    (tmp_path / "bad.jsonl").write_text(
        '{"task": "rta", "first": "word1"}\n{"task": "sst2", "first": "word1"}\n{"task": "rte"}\n'
    )
    command = ("bundle", "predict", "elsewhere", "--input", "bad.jsonl")
    done = cli(*command)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        "error: bad.jsonl:1: no task 'rta' in the bundle; did you mean rte? Or set bad rows aside"
    )
    done = cli(*command, "--skip-bad", "aside.jsonl")
    assert done.code == 0, done.err
    assert [json.loads(line)["line"] for line in done.out.splitlines()] == [2]
    assert "Set aside   2 bad rows" in done.err
    aside = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert [one["line"] for one in aside] == [1, 3]
    row = {"task": "rta", "first": "word1", "second": None}
    assert json.loads(aside[0]["content"]) == row, "what is set aside can be mended"
    for option in ("--task-column", "--first", "--second"):
        done = cli("bundle", "predict", "elsewhere", "sst2", "word1", option, "x")
        assert (done.code, done.out) == (2, "")
        assert "--second and --skip-bad go with --input" in done.err
    done = cli("bundle", "predict", "elsewhere", "sst2", " ")
    assert (done.code, "--skip-bad" in done.err) == (2, False), done.err
    done = cli("bundle", "predict", "elsewhere", "--input", "-", "--format", "text")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: -: plain text has no column for the task; give --format")
    done = cli("bundle", "predict", "elsewhere", "sst2", "word1", "--to", "out.csv")
    assert done.err == "error: out.csv: answers of many tasks are JSON Lines; name it .jsonl\n"
    assert done.code == 2
    assert not (tmp_path / "out.csv").exists()
    rows = io.TextIOWrapper(io.BytesIO(b'{"task": "sst2", "first": "word1"}\n'))
    monkeypatch.setattr(sys, "stdin", rows)
    done = cli("bundle", "predict", "elsewhere", "--input", "-")
    assert json.loads(done.out)["task"] == "sst2", done.err
    done = cli("bundle", "bench", "elsewhere", "--input", "rows.csv", "--json")
    assert len(json.loads(done.out)["ways"]) == 3
    assert "rte" in cli("runs", "--output", "elsewhere").out, "a bundle is a run store"
    run = next((tmp_path / "elsewhere" / "rte").iterdir())
    done = cli("predict", run, "a", "b", "--json")
    assert done.code == 0, done.err
    shutil.rmtree(tmp_path / "elsewhere" / "backbone")
    done = cli("predict", run, "a", "b", "--offline")
    assert "or name its folder with --backbone" in done.err


def test_a_place_beside_the_working_folder(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rte = load.find(str(next((store / "rte").iterdir())), store)
    bundle.create([rte], Path("../all"), offline=True)
    assert bundle.read(tmp_path / "all").runs["rte"].result.seed == rte.result.seed


@pytest.mark.parametrize("name", ["über", "_mine", "(1)", ".hidden", "a b"])
def test_a_run_whose_folder_was_renamed(store: Path, tmp_path: Path, name: str) -> None:
    renamed = shutil.copytree(next((store / "rte").iterdir()), tmp_path / "rte" / name)
    bundle.create([load.find(str(renamed), tmp_path)], tmp_path / "b", offline=True)
    assert bundle.read(tmp_path / "b").runs["rte"].cell.path.name == name


def test_what_cannot_be_bundled(store: Path, tiny_bert: Path, made: Bundle, tmp_path: Path) -> None:
    rte = load.find(str(next((store / "rte").iterdir())), store)
    with pytest.raises(ConfigError, match="two runs of 'rte'"):
        bundle.create([rte, rte], tmp_path / "b", offline=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("mine")
    with pytest.raises(StoreError, match="is not empty; choose another --to"):
        bundle.create([rte], tmp_path / "b", offline=True)
    full = load.find(str(train_tiny(tiny_bert, tmp_path, "wnli", "--method", "full",
                                    "--seeds", "1")), tmp_path)  # fmt: skip
    with pytest.raises(ConfigError, match="method full changes the backbone itself"):
        bundle.create([full], tmp_path / "c", offline=True)
    assert not (tmp_path / "c").exists()


def test_of_a_bundle_that_could_not_be_made_nothing_stays(store: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(store, tmp_path / "runs")
    found = [load.find(str(next((damaged / task).iterdir())), damaged) for task in ("rte", "stsb")]
    found[1].folder.checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        bundle.create(found, tmp_path / "b", offline=True)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "name", ["backbone/model.safetensors", "rte/*/seed-*/checkpoint.safetensors"]
)
@pytest.mark.parametrize("command", [["show"], ["predict", "rte", "a"]])
def test_a_file_that_is_missing(
    cli: Cli, made: Bundle, tmp_path: Path, name: str, command: list[str]
) -> None:
    copy = shutil.copytree(made.folder, tmp_path / "b")
    (file,) = copy.glob(name)
    file.unlink()
    done = cli("bundle", command[0], copy, *command[1:])
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: {file}: is missing; make the bundle again\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "damaged"),
        ("{", "damaged"),
        ("[" * 200_000, "damaged"),
        ('{"format": 2, "runs": {"rte": "rte/x/seed-0"}}', "format"),
        ('{"format": 1, "runs": {}}', "runs"),
        ('{"format": 1, "runs": {"rte": "../../x/seed-0"}}', "runs"),
        ('{"format": 1, "runs": {"rte": "/etc/x/seed-0"}}', "runs"),
        ('{"format": 1, "runs": {"rte": "rte/../seed-0"}}', "must be TASK/RUN/seed-NUMBER"),
        ('{"format": 1, "runs": {"rte": "../x/seed-0"}}', "must be TASK/RUN/seed-NUMBER"),
        ('{"format": 1, "runs": {"rte": "rte/./seed-0"}}', "must be TASK/RUN/seed-NUMBER"),
        ('{"format": 1, "runs": {"rte": "rte/a/../seed-0"}}', "must be TASK/RUN/seed-NUMBER"),
        ('{"format": 1, "runs": {"rte": "rte/a\\u0000/seed-0"}}', "must be TASK/RUN/seed-NUMBER"),
        ('{"format": 1, "runs": {"rte": "rte/gone/seed-0"}}', "no run"),
    ],
)
def test_a_file_that_is_none(content: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(AdapterTuneError, match=complaint):
        bundle.read(tmp_path)
