"""``adaptertune compare``: what it asks for, what it ends with, and a second run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from adaptertune.report.schema import Entry, Report
from adaptertune.runs.results import SweepResult
from tests.conftest import Finished


def test_it_ends_with_the_page_of_all_its_candidates_and_runs_nothing_twice(
    tiny_glue: Path, tiny_bert: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    line = [
        "compare", "--full", "--tasks", "rte", "--sizes", "4,8", "--epochs", "1", "--seeds", "2",
        "--data-dir", tiny_glue, "--backbone", tiny_bert, "--max-length", "32",
        "--output", tmp_path / "out", "--to", tmp_path / "page",
    ]  # fmt: skip
    done = cli(*line)
    assert done.code == 0, done.err
    page = tmp_path / "page" / "report.html"
    assert done.out.splitlines()[-1] == page.as_uri()
    for text in ("full fine-tuning", "adapters, best of 4/8", "Difference to full fine-tuning"):
        assert text in " ".join(done.out.split())
    # Two sizes and full fine-tuning at three rates each, and the best of each with a second seed.
    results = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("seed-*/result.json")
    }
    assert len(results) == 9 + 3
    runs = set(re.findall(r'id="run-(\w+)"', page.read_text()))
    assert len(runs) == 9

    found = Report.model_validate_json(cli(*line, "--json").out)
    assert {path: path.stat().st_mtime_ns for path in results} == results
    (comparison,) = found.comparisons
    entries = {row.label: row.entries[0] for row in comparison.rows}
    numbers = {
        label: (entry.num_candidates, entry.num_seeds)
        for label, entry in entries.items()
        if isinstance(entry, Entry)
    }
    assert numbers["full fine-tuning"] == (3, 2)
    assert numbers["adapters, best of 4/8"] == (6, 2)
    assert found.missing == []
    # What was chosen, by the sweep's own account, is what is shown.
    (sweep,) = (tmp_path / "out" / "sweeps").glob("*.json")
    result = SweepResult.model_validate_json(sweep.read_text())
    assert len(result.cells) == 9
    chosen = {choice.row: choice.digest for choice in result.choices}
    names = {"full fine-tuning": "full", "adapters, best of 4/8": "adapter best of 4, 8"}
    for label, name in names.items():
        entry = entries[label]
        assert isinstance(entry, Entry)
        assert entry.run == chosen[name]
    assert "compared by their first seed" in comparison.protocol


def test_its_grids_are_changed_as_a_sweeps_are(
    tiny_glue: Path, tiny_bert: Path, cli: Callable[..., Finished]
) -> None:
    line = [
        "compare", "--full", "--tasks", "rte", "--lrs", "1e-3", "--grid", "training.warmup=0,0.1",
        "--data-dir", tiny_glue, "--backbone", tiny_bert, "--max-length", "32", "--stack", "off",
        "--dry-run", "--json",
    ]  # fmt: skip
    done = cli(*line)
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]
    assert [(row["method"], row["cells"]) for row in rows] == [
        ("adapter-8", 2), ("adapter-64", 2), ("adapter-256", 2), ("full", 2),
    ]  # fmt: skip
    again = cli(*line, "--grid", "method.name=bitfit")
    assert "--grid method.name: gives the values of --methods again" in again.err


def test_adapters_alone_are_no_comparison(cli: Callable[..., Finished]) -> None:
    done = cli("compare", "--tasks", "rte")
    assert done.code == 2
    assert "--full" in done.err
