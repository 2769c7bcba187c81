"""Every command in the README exists, with the options it is given."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from adaptertune import tasks
from adaptertune.cli import app

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text()
COMMANDS = sorted(
    set(re.findall(r"^(adaptertune [^#\n]+)", README, re.MULTILINE))
    | set(re.findall(r"`(adaptertune [^`]+)`", README))
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    _, *arguments = shlex.split(command)
    name, chosen = "adaptertune", typer.main.get_command(app)
    while isinstance(chosen, typer.core.TyperGroup):
        name, *arguments = arguments
        found = chosen.get_command(typer.Context(chosen), name)
        assert found is not None, name
        chosen = found
    chosen.make_context(name, arguments)


def test_what_is_no_command_does_not_parse() -> None:
    for wrong in ("adaptertune task nwe x.csv", "adaptertune ablate nosuch"):
        with pytest.raises(AssertionError):
            test_commands_parse(wrong)
    with pytest.raises(Exception, match="No such option"):
        test_commands_parse("adaptertune bundle new --wrong x")


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8
    assert any("--dry-run" in command for command in COMMANDS)


def test_scripts_exist() -> None:
    for script in re.findall(r"bash (scripts/\S+)", README):
        assert (CHECKOUT / script).is_file(), script
    for path in re.findall(r"`(configs/[\w/.-]+|scripts/[\w/.-]+)`", README):
        assert (CHECKOUT / path).exists(), path


def test_the_example_task_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(name: .+?)```", README, re.DOTALL)
    path = tmp_path / "tickets.yaml"
    path.write_text(block)
    assert tasks.load(path).labels == ("low", "high")


def test_the_json_keys_it_names_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    app(["params", "--size", "8", "--between", "1,2", "--json"], standalone_mode=False)
    given = json.loads(capsys.readouterr().out)
    (account,) = re.findall(r"`params` the\s+keys (.+?);\s+`train", README, re.DOTALL)
    named = re.findall(r"`(\w+)`", account)
    assert set(named) == set(given) | set(given["between"])
    app(["train", "--task", "rte", "--offline", "--dry-run", "--json"], standalone_mode=False)
    given = json.loads(capsys.readouterr().out)
    (account,) = re.findall(r"--dry-run` the\s+keys (.+?)\.\s+Shares", README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", account)) == set(given)
