"""Whether ``scripts/study.sh`` asks for what ``scripts/study/runs`` keeps, and for nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from typer.testing import CliRunner

from adaptertune.cli import app
from adaptertune.runs import sweep as sweeps
from adaptertune.runs.sweep import Book, Sweep
from tests.results.cells import CHECKOUT, STUDY

# Stands in for the command: notes down what it is asked, and tells of a cell whose heatmap is there.
STUB = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if "--json" in sys.argv:
    cell = {cell!r}
    print(json.dumps({{"choices": [{{"row": "adapter-64", "cell": cell}}],
                       "tasks": [{{"points": [{{"reference": None, "cell": cell}}]}}]}}))
"""
PYTHON = """#!/bin/sh
[ "$1" = -c ] && exec {python} "$@"
exit 0
"""


@pytest.fixture(scope="module")
def requests(glue: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The sweeps and ablations that the script types, by their arguments."""
    folder = tmp_path_factory.mktemp("study")
    commands, log, cell = folder / ".venv" / "bin", folder / "log.jsonl", folder / "cell"
    commands.mkdir(parents=True)
    (folder / "scripts").mkdir()
    cell.mkdir()
    (cell / "spans.json").touch()
    shutil.copyfile(CHECKOUT / "scripts" / "study.sh", folder / "scripts" / "study.sh")
    (folder / "scripts" / "environment.sh").write_text(f"set -euo pipefail\ncd {folder}\n")
    texts = {
        "adaptertune": STUB.format(python=sys.executable, log=str(log), cell=str(cell)),
        "python": PYTHON.format(python=sys.executable),
    }
    for name, text in texts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    environment = {"PATH": os.environ["PATH"]}
    script = ["bash", str(folder / "scripts" / "study.sh"), str(glue)]
    subprocess.run(script, check=True, env=environment, capture_output=True)
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    return [one for one in asked if one[0] in ("sweep", "ablate") and one[1] != "spans"]


@pytest.fixture(scope="module")
def asked(
    requests: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[int]]:
    """The seeds of each cell that they lead to, by its folder: winners are the kept results'."""
    store = tmp_path_factory.mktemp("store") / "runs"
    shutil.copytree(STUDY / "runs", store)  # planning may write
    found: dict[str, set[int]] = defaultdict(set)
    planned: list[Sweep] = []
    with pytest.MonkeyPatch.context() as patch:
        make = sweeps.make

        def only_plan(*arguments: object, **named: object) -> NoReturn:
            planned.append(make(*arguments, **named))  # type: ignore[arg-type]
            raise typer.Exit

        patch.setattr(sweeps, "make", only_plan)
        for one in requests:
            arguments = [str(store) if part == "runs/study" else part for part in one]
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, (one, done.output, done.exception)
    for sweep in planned:
        book = Book()
        units = sweeps.first_units(sweep)
        sweeps.survey(units, book, retry_before=None)
        for row in sweep.methods:
            best = sweeps.chosen(row, book, sweep) if row.num_seeds else None
            units += sweeps.others(best) if best else []
        for unit in units:
            found[str(unit.plan.folder.path.relative_to(store))].update(unit.seeds)
    return found


def test_the_script_asks_for_what_is_kept(asked: dict[str, set[int]]) -> None:
    there = defaultdict(set)
    for path in (STUDY / "runs").glob("*/*/seed-*/result.json"):
        cell, seed = path.parents[1].relative_to(STUDY / "runs"), path.parent.name
        there[str(cell)].add(int(seed.removeprefix("seed-")))
    assert there == asked


def test_its_environment_has_what_the_variants_need() -> None:
    """LoRA and (IA)³ come through peft, which the tests' environment has in any case."""
    script = (CHECKOUT / "scripts" / "study.sh").read_text()
    (extras,) = re.findall(r"^source .*/environment\.sh\" (\S+)", script, re.MULTILINE)
    assert {"embedded", "peft"} <= set(extras.split(","))
