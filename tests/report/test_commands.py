"""The commands that make what a store lacks."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from adaptertune import config as configuration
from adaptertune.cli import options
from adaptertune.config import Resolved, resolve
from adaptertune.errors import ConfigError
from adaptertune.report import commands
from tests.conftest import Finished

Asked = Callable[..., Resolved]


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
    "--trunk-cache 0": "--trunk-cache 0",
    "--method lora --set method.alpha=8 --seed 3": "--set method.alpha=8 --seed 3",
    "--lr 3e-5": "--lr 3e-5",
    "--lr 1.23456789e-4": "--lr 0.000123456789",
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
    command = commands.train_command(typed.config.model_dump(mode="json"), typed.origins)
    assert TYPED[line] in command
    assert ("data.source" in command) == ("data.source" in TYPED[line])
    assert asked(*shlex.split(command)[1:]).config == typed.config


@pytest.mark.parametrize(
    "line", ["--layers all --compile", "--set compile=false --set data.source=sample", "--layers 2"]
)
def test_so_do_the_words_of_a_search(line: str, asked: Asked) -> None:
    typed = asked("train", "--task", "rte", "--size", "8", *shlex.split(line))
    words = commands.words_of(
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
    command = commands.train_command(config, {**chosen.origins, **there.origins})
    assert asked(*shlex.split(command)[1:]).config.data.source == "sample"
