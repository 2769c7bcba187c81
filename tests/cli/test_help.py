"""Help answers at once and for every command; the command line imports nothing heavy."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptertune import __main__ as command_line
from adaptertune import __version__, tasks
from adaptertune.cli import _with_home, app, main
from adaptertune.runs.results import BackboneFacts as Facts
from tests.conftest import CHECKOUT, Finished

Cli = Callable[..., Finished]

COMMANDS = sorted(str(command.name) for command in app.registered_commands)
# What only reports may be asked for JSON; see the design's "Interface".
WITH_JSON = {
    "train", "sweep", "compare", "bench", "tasks", "params", "runs", "show", "prune", "predict",
    "submit", "doctor", "report", "import", "export",
}  # fmt: skip


def plain(text: str) -> str:
    """Without rich's boxes and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(cli: Cli, flag: str) -> None:
    done = cli(flag)
    assert (done.code, done.err) == (0, "")
    assert "Usage: " in done.out
    assert len(COMMANDS) >= 6
    for command in app.registered_commands:
        assert re.search(rf"│ {command.name} ", done.out), command.name
        assert command.callback is not None
        first_line = (command.callback.__doc__ or "").strip().splitlines()[0]
        assert first_line in plain(done.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(cli: Cli, command: str) -> None:
    done = cli(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"adaptertune {command} " in plain(done.out)
    if command in WITH_JSON:
        assert "--json" in done.out


def test_every_option_of_train_is_explained(cli: Cli) -> None:
    """Each option stands on a line of its own with some words after it."""
    shown = cli("train", "--help").out
    lines = [line.strip("│ \n") for line in shown.splitlines()]
    options = {
        match[1]: match[2] for line in lines if (match := re.match(r"(--[a-z-]+)\s+(.*)", line))
    }
    for option in (
        "--task", "--data-dir", "--offline", "--method", "--size", "--layers", "--top-k",
        "--init-std", "--activation", "--backbone", "--recipe", "--seeds", "--seed", "--lr",
        "--epochs", "--batch-size", "--max-length", "--precision", "--device", "--output",
        "--config", "--set", "--dry-run", "--json", "--quiet",
    ):  # fmt: skip
        assert options[option].strip(), option


def test_without_a_command_the_help_is_shown_and_no_error(cli: Cli) -> None:
    done = cli()
    assert "Usage: " in done.out
    assert done.err == ""


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert (done.code, done.out, done.err) == (0, f"{__version__}\n", "")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )


def test_as_a_module() -> None:
    done = run_python("-m", "adaptertune", "--help")
    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert done.stderr == ""


HEAVY = ("torch", "transformers", "datasets", "evaluate", "sklearn", "scipy", "ray", "matplotlib")


@pytest.mark.parametrize(
    "code",
    [
        "import adaptertune, adaptertune.cli",
        "import adaptertune.config, adaptertune.tasks, adaptertune.report.tables\n"
        "import adaptertune.runs.store",
        # What plans or reports needs no torch either.
        "import sys; sys.argv[1:] = ['tasks']; from adaptertune.cli import main\n"
        "try: main()\nexcept SystemExit: pass",
        "import sys; sys.argv[1:] = ['params']; from adaptertune.cli import main\n"
        "try: main()\nexcept SystemExit: pass",
        "import sys; sys.argv[1:] = ['runs']; from adaptertune.cli import main\n"
        "try: main()\nexcept SystemExit: pass",
    ],
    ids=["cli", "planning", "tasks", "params", "runs"],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    done = run_python("-c", f"{code}\nimport sys; print('MODULES', *sorted(sys.modules))")
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.rpartition("MODULES")[2].split())
    assert "adaptertune" in modules
    assert not modules & set(HEAVY)


def test_tasks_lists_them_all(cli: Cli) -> None:
    done = cli("tasks")
    assert (done.code, done.err) == (0, "")
    for name in tasks.shipped():
        assert re.search(rf"^\W*{name}\b", done.out, re.MULTILINE), name


def test_ctrl_c_before_the_command_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it is imported, that is: no traceback, and the code that a shell has for it."""

    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adaptertune.cli.main", stopped)
    with pytest.raises(SystemExit) as exit_:
        command_line.main()
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "error: stopped\n"


def test_a_home_behind_an_equals_sign_is_found_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """bash leaves ``--output=~/runs`` as it is, and a folder called ``~`` would be made here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["adaptertune", "runs", "--output=~/mine"])
    with pytest.raises(SystemExit):
        main()
    assert f"{tmp_path}/mine: no such folder" in capsys.readouterr().err.replace("\n", "")
    assert _with_home("--data-dir=a~/b") == "--data-dir=a~/b"
    assert _with_home("~/text") == "~/text"


def test_no_help_has_a_line_that_breaks_off() -> None:
    """Typer keeps the line ends of all paragraphs but the first."""
    apps = [app, *(group.typer_instance for group in app.registered_groups)]
    commands = [one.callback for each in apps if each for one in each.registered_commands]
    assert len(commands) > len(COMMANDS)
    for callback in commands:
        for paragraph in (inspect.getdoc(callback) or "").split("\n\n")[1:]:
            assert "\n" not in paragraph, callback


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape", "latin-1"])
def test_a_terminal_without_dashes_and_boxes(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adaptertune", "doctor"],
        env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == b""
    assert b"minilm" in done.stdout
    name = "猫"
    done = subprocess.run(
        [sys.executable, "-m", "adaptertune", "tasks", "--json"],
        env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)
    facts = Facts(name=name, sha256="", commit=None)
    assert facts.as_line().isascii()
    assert json.loads(facts.as_line())["name"] == name


@pytest.mark.parametrize(
    ("variables", "is_red"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_the_line_of_an_error_is_red_where_there_are_colours(
    cli: Callable[..., Finished],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    is_red: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli("show", "nosuchrun").err.startswith("\033[31merror: " if is_red else "error: ")
