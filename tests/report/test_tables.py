"""How numbers are written, and tables of results that lack some."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from adaptertune.report import tables
from adaptertune.report.tables import sweep
from adaptertune.runs import results
from tests.report.records import swept

DATA = results.DataFacts(
    source="folder", description="", fingerprint="", num_train=5, num_train_complete=5,
    partial=False, sample=False,
)  # fmt: skip


def shown(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (119.7, "2 min 00 s"),
     (200.0, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500.0, "2 h 05 min")],
)  # fmt: skip
def test_no_duration_has_sixty_seconds(seconds: float, told: str) -> None:
    assert tables.duration(seconds) == told


@pytest.mark.parametrize(
    ("num_bytes", "told"),
    [(999, "999 B"), (1000, "1.0 kB"), (999_940, "999.9 kB"), (999_960, "1.0 MB"),
     (2_500_000_000, "2.5 GB")],
)  # fmt: skip
def test_no_size_has_a_thousand_of_its_unit(num_bytes: int, told: str) -> None:
    assert tables.size(num_bytes) == told


def test_a_sweep_of_which_no_run_came_to_a_score(tmp_path: Path) -> None:
    choice = results.Choice(
        task="rte", row="full", metric="accuracy", selecting_split="validation",
        reported_split="validation", data=DATA, num_cells=2, num_runs=2, num_failed=0,
        num_diverged=2, num_collapsed=0, cell=None, digest=None, chosen=None, scores={},
        best_seed=None, interval=None, expected_best_cell={}, expected_best_seed={},
    )  # fmt: skip
    made = swept(tmp_path, seeds=1).model_copy(update={"choices": [choice], "num_diverged": 2})
    made = made.model_copy(update={"config": made.config | {"grids": [{}]}})
    text = shown(sweep.sweep(made))
    assert "no run came to a score" in text
    assert "2 diverged: holes" in text
