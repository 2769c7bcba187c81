"""The GPU check's table, and the cells that it is made of: a real, tiny run by the command line."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("gpu_check")


def test_the_table(
    check: ModuleType,
    tiny_bert: Path,
    tiny_glue: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Two ways of the same cell, and one that is refused on a CPU and says why."""
    common = [
        "--task", "rte", "--data-dir", str(tiny_glue), "--backbone", str(tiny_bert), "--size", "8",
        "--max-length", "32", "--epochs", "2", "--seeds", "2", "--device", "cpu",
        "--output", str(tmp_path / "runs"), "--precision", "fp32",
    ]  # fmt: skip
    ways = check.ways(2)
    assert ways["adapters in layers 1-1, those below cached"] == (
        "--stack",
        "off",
        "--layers",
        "1-1",
    )
    chosen = (check.FIRST, "… seeds in one pass", "… compiled")
    cells = {name: check.train([*common, *ways[name]]) for name in chosen}
    assert "seed 1" in capfd.readouterr().err, "what the command says is passed on"
    lines = check.table(cells).splitlines()
    assert lines[0].startswith("|  | precision | examples/s |")
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in rows} == {len(check.HEADER)}
    first, stacked, compiled = rows[2:]
    cell = cells[check.FIRST]
    records = [
        json.loads((Path(seed["folder"]) / "epochs.jsonl").read_text().splitlines()[-1])
        for seed in cell.result["seeds"]
    ]
    speed = sum(record["examples_per_second"] for record in records) / 2
    assert first[:4] == [check.FIRST, "fp32", f"{speed:.0f}", "1.00"]
    spread = cell.result["scores"]["validation"]["accuracy"]
    mean, deviation = 100 * spread["mean"], 100 * spread["deviation"]
    assert first[-1] == f"accuracy {mean:.1f} ± {deviation:.1f}"
    assert stacked[1] == "fp32"
    assert compiled[-1].startswith("error: --compile: ")
    assert compiled[1:-1] == [""] * 5


def test_no_way_finds_the_run_of_another(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the trunk cache and without it is the same run by its digest."""
    given: list[list[str]] = []

    def train(options: list[str]) -> object:
        given.append(options)
        return cells.Failed(1, "not now")

    cells = importlib.import_module("cells")
    monkeypatch.setattr(check, "train", train)
    arguments = ["--device", "cpu", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["gpu_check.py", *arguments])
    check.main()
    folders = {options[options.index("--output") + 1] for options in given}
    assert len(folders) == len(given) == len(check.ways(6))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_check.py"])
    with pytest.raises(SystemExit, match="No GPU was found") as ended:
        check.main()
    assert ended.value.code != 0
