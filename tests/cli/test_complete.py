"""Shell completion, asked as bash asks: the words of a line, and which of them is unfinished."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptertune import config
from tests.conftest import CHECKOUT, Finished
from tests.report import records

Cli = Callable[..., Finished]


@pytest.fixture
def complete(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """What is offered for the last word of a line."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_ADAPTERTUNE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        done = cli()
        assert (done.code, done.err) == (0, "")
        return done.out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("adaptertune pru", ["prune"]),
        ("adaptertune train --init-s", ["--init-std"]),
        ("adaptertune train --task m", ["mnli", "mrpc"]),
        ("adaptertune train --task my.y", []),  # the shell goes on with files
        ("adaptertune sweep --tasks rte,m", ["rte,mnli", "rte,mrpc"]),
        ("adaptertune train --method l", ["layernorm", "lora"]),
        ("adaptertune compare --methods full,b", ["full,bitfit"]),
        ("adaptertune train --tracker t", ["tensorboard", "trackio"]),
        ("adaptertune sweep --executor l", ["local"]),
    ],
)
def test_names(complete: Callable[[str], list[str]], line: str, offered: list[str]) -> None:
    assert complete(line) == offered


def test_every_method_is_offered(complete: Callable[[str], list[str]]) -> None:
    methods = {"adapter", "full", "top_layers", "layernorm", "bitfit", "lora", "ia3"}
    assert set(complete("adaptertune train --method ")) == methods
    assert len(config.METHODS) == len(methods)


@pytest.mark.parametrize(
    "command",
    ["show", "prune", "predict", "push", "export --to x", "bundle new", "submit", "ablate spans",
     "train --init-from"],
)  # fmt: skip
def test_runs(complete: Callable[[str], list[str]], tmp_path: Path, command: str) -> None:
    scores = {0: {"validation": {"accuracy": 0.5}}}
    here = records.add(tmp_path / "runs", "rte", scores).path.name
    there = records.add(tmp_path / "store", "sst2", scores).path.name
    assert complete(f"adaptertune {command} ") == [f"rte/{here}"]
    assert complete(f"adaptertune {command} {here[:4]}") == [here]
    assert complete("adaptertune show --output store s") == [f"sst2/{there}"]


def test_in_bash(tmp_path: Path) -> None:
    """The script that ``python -m adaptertune`` prints completes the command of that name."""
    program = tmp_path / "bin" / "adaptertune"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m adaptertune "$@"\n')
    program.chmod(0o755)
    lines = [
        f'script=$({sys.executable} -m adaptertune --show-completion) && eval "$script"',
        "complete -p adaptertune",
        "COMP_WORDS=(adaptertune train --task m) COMP_CWORD=3",
        '_adaptertune_completion adaptertune && echo "${COMPREPLY[@]}"',
    ]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o default -F _adaptertune_completion adaptertune", "mnli mrpc",
    ]  # fmt: skip
