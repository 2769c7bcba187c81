"""Reading a store, and the commands that make what it lacks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptertune import config as configuration
from adaptertune.cli import options
from adaptertune.config import Resolved, resolve
from adaptertune.errors import ConfigError, StoreError
from adaptertune.report import evidence
from tests.conftest import Finished
from tests.report.records import add, one_metric

Asked = Callable[..., Resolved]


def test_a_damaged_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7))
    folder.seed(0).epochs.write_text('{"epoch": 1')
    with pytest.raises(StoreError, match=r"epochs.jsonl: damaged .*; delete .*seed-0"):
        evidence.read(tmp_path)


def test_a_damaged_sweep_is_too(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "one.json").write_text("{")
    with pytest.raises(StoreError, match=r"one\.json: damaged result .*; delete it and run the same"):
        evidence.read(tmp_path)


@pytest.mark.parametrize("content", [{"model_type": "bert"}, [], {"identity": "of a model"}])
def test_a_models_folder_in_a_store_is_no_cell(tmp_path: Path, content: Any) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7))
    model = tmp_path / "models" / "bert" / "config.json"
    model.parent.mkdir(parents=True)
    model.write_text(json.dumps(content))
    cells, unfinished = evidence.read(tmp_path)
    assert [cell.folder for cell in cells] == [folder.path]
    assert not unfinished
    folder.config.write_text(json.dumps(content))  # but a folder with seeds is one
    with pytest.raises(StoreError, match=r"config\.json: damaged \(not a run's.*seeds are kept"):
        evidence.read(tmp_path)
    folder.config.write_text("{")
    with pytest.raises(StoreError, match=r"config\.json: damaged .*; finished seeds are kept"):
        evidence.read(tmp_path)


@pytest.fixture
def asked(cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> Asked:
    """``asked("train", "--task", "rte")``: what the real command line is understood to ask for."""
    found: list[Resolved] = []

    def stop(*arguments: Any) -> Resolved:
        found.append(resolve(*arguments))
        raise ConfigError("far enough")

    def ask(*arguments: str) -> Resolved:
        found.clear()
        done = cli(*arguments)
        assert len(found) == 1, done.err
        return found[0]

    monkeypatch.setattr(options, "resolve", stop)
    monkeypatch.setattr(configuration, "resolve", stop)  # where a sweep looks it up
    return ask


# What was typed -> what of it the command that makes the run says again.
TYPED = {
    "": "",
    "--layers all": "--layers all",
    "--layers 3-5": "--layers 3,4,5",
    "--set method.layers=[]": "--set 'method.layers=[]'",
    "--compile": "--compile",
    "--set compile=false": "--set compile=false",
    "--set threads=null": "--set threads=null",
    "--set init_from=null": "--set init_from=null",
    "--init-from a --init-from b": "--init-from a --init-from b",
    "--set training.drop_last=true": "--set training.drop_last=true",
    "--trunk-cache 0": "--trunk-cache 0.0",
    "--method lora --set method.alpha=8 --seed 3": "--set method.alpha=8.0 --seed 3",
    "--set data.source=sample": "--set data.source=sample",
    "--set data.source=hub": "",
    "--offline": "--offline",
    "--offline --set data.source=sample": "--offline",
    "--offline --set data.source=hub": "--set data.source=hub",
    "--offline --data-dir glue": "--data-dir",
    "--set data.folder=glue": "--data-dir",
}


@pytest.mark.parametrize("line", TYPED)
def test_the_command_of_a_run_makes_that_very_run(line: str, asked: Asked) -> None:
    typed = asked("train", "--task", "rte", *shlex.split(line))
    command = evidence.train_command(typed.config.model_dump(mode="json"), typed.origins)
    assert TYPED[line] in command
    assert ("data.source" in command) == ("data.source" in TYPED[line])
    assert asked(*shlex.split(command)[1:]).config == typed.config


@pytest.mark.parametrize(
    "line", ["--layers all --compile", "--set compile=false --set data.source=sample", "--layers 2"]
)
def test_so_do_the_words_of_a_search(line: str, asked: Asked) -> None:
    typed = asked("train", "--task", "rte", "--size", "8", *shlex.split(line))
    words = evidence.words_of(
        typed.config.model_dump(mode="json"),
        typed.origins,
        {"method.size"},
        only_settings="method.",
    )
    search = ["sweep", "--tasks", "rte", "--sizes", "8"]
    assert asked(*search, *words).config == typed.config


def test_rows_of_the_sample_stay_so_where_offline_was_said_of_other_rows_alone(
    asked: Asked,
) -> None:
    """A hole's command has its rows from one cell and the rest from another."""
    chosen = asked("train", "--task", "cola", "--set", "data.source=sample")
    there = asked("train", "--task", "rte", "--offline")
    rows = there.config.model_dump(mode="json", include={"task", "data"})
    config = chosen.config.model_dump(mode="json") | rows
    command = evidence.train_command(config, {**chosen.origins, **there.origins})
    assert asked(*shlex.split(command)[1:]).config.data.source == "sample"
