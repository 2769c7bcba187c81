"""Shell completion, asked as bash asks: the words of a line, and which of them is unfinished."""

from __future__ import annotations

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
    offered = complete("adaptertune train --method ")
    assert len(offered) == len(config.METHODS) == 7
    for name in offered:
        assert config.parse_method({"name": name}).name == name


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
    first, *rest = command.split(" ")
    elsewhere = " ".join([first, *rest[:-1], "--output store", *rest[-1:]])
    if first not in ("ablate", "bundle"):  # groups, whose commands come first
        assert complete(f"adaptertune {elsewhere} s") == [f"sst2/{there}"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    "how", [["-m", "adaptertune"], ["-c", "from adaptertune.cli import main; main()"]]
)
def test_the_script_is_for_the_command(how: list[str], shell: str) -> None:
    """Also where it is printed by ``python -m adaptertune``, which no shell can complete."""
    done = subprocess.run(
        [sys.executable, *how, "--show-completion", shell],
        cwd=CHECKOUT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"_ADAPTERTUNE_COMPLETE=complete_{shell}" in done.stdout
    assert " -m " not in done.stdout
