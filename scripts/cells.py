"""Cells trained by the command line, for the scripts beside this file that compare them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def upper_half(num_layers: int) -> str:
    """The upper half of the layers, as ``--layers`` takes them."""
    return f"{num_layers // 2}-{num_layers - 1}"


def layers_of(backbone: str) -> int:
    """A backbone's number of layers; ends the script if there is no such backbone."""
    command = [sys.executable, "-m", "adaptertune", "params", "--backbone", backbone, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return int(json.loads(done.stdout)["shape"]["layers"])


@dataclass(frozen=True)
class Cell:
    """What ``train --json`` gave, and each seed's own result and epochs."""

    result: dict[str, Any]
    seeds: tuple[dict[str, Any], ...]
    epochs: tuple[tuple[dict[str, Any], ...], ...]  # by seed

    @property
    def metric(self) -> str:
        """The headline."""
        return str(self.result["headline"])

    @property
    def spread(self) -> dict[str, Any]:
        """The headline on the selecting split, over seeds."""
        found: dict[str, Any] = self.result["scores"][self.result["selecting_split"]][self.metric]
        return found

    @property
    def score(self) -> str:
        """Mean ± sample deviation over seeds, in %."""
        return f"{100 * self.spread['mean']:.1f} ± {100 * (self.spread['deviation'] or 0):.1f}"

    def cost(self, name: str) -> list[Any]:
        """One of the costs, of each seed."""
        return [seed["cost"][name] for seed in self.seeds]

    def epoch(self, number: int, name: str) -> float:
        """What is recorded of an epoch, the median over seeds."""
        return float(statistics.median(records[number][name] for records in self.epochs))


@dataclass(frozen=True)
class Failed:
    """A cell that could not be trained: the exit code, and the last line on standard error."""

    code: int
    reason: str


def train(options: Sequence[str], program: Sequence[str] = ("-m", "adaptertune")) -> Cell | Failed:
    """Train a cell, or go on with it, or read it if it is finished. What it says is passed on."""
    command = [sys.executable, *program, "train", "--json", *options]
    reason = "without a word"
    with tempfile.TemporaryFile("w+") as answer:
        with subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                sys.stderr.write(line)
                reason = line.strip() or reason
        if process.returncode:
            return Failed(process.returncode, reason)
        answer.seek(0)
        result = json.load(answer)
    folders = [Path(seed["folder"]) for seed in result["seeds"]]
    return Cell(
        result,
        tuple(json.loads((folder / "result.json").read_text()) for folder in folders),
        tuple(
            tuple(map(json.loads, (folder / "epochs.jsonl").read_text().splitlines()))
            for folder in folders
        ),
    )
