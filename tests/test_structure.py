"""The house's rules: imports go one way, planning and reporting need no torch, YAML is shipped."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "adaptertune"

# From the ground up; a module may import from its own storey and from those below it.
STOREYS = [
    {"errors"},
    {"files", "yamlfile", "paths", "seeds", "download"},
    {"tasks", "catalogue"},
    {"config", "metrics", "stats"},
    {"data", "model"},
    {"train"},
    {"runs"},
    {"executors"},
    {"study", "share", "doctor", "trackers"},
    {"report"},
    {"cli"},
    {"__init__", "__main__", "api"},
]
LEVEL = {name: level for level, names in enumerate(STOREYS) for name in names}
# Rooms on one storey that must not know each other.
APART = {("data", "model"), ("model", "data"), ("report", "study"), ("study", "report")}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptertune"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "adaptertune" and len(parts) > 1:
                    found.add(parts[1])
    return found - {"__version__"}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    here = room(path)
    for other in imported(path):
        assert LEVEL[other] <= LEVEL[here], f"{here} must not import {other}"
        assert (here, other) not in APART, f"{here} must not import {other}"


def test_only_execute_opens_a_configuration() -> None:
    """Components take plain values: none of them imports RunConfig or resolves settings."""
    for path in FILES:
        if room(path) in ("data", "model", "train"):
            assert "RunConfig" not in path.read_text(), path


@pytest.mark.parametrize(
    "module",
    ["cli", "config", "tasks", "catalogue", "model.ledger", "model.backbone",
     "model.architecture", "report.tables",
     "report.tables.ablation", "report.tables.comparison",
     "report.tables.runs", "report.tables.data", "report.tables.parameters",
     "report.tables.predictions", "report.tables.pruning", "report.tables.serving",
     "report.tables.spans", "report.tables.speed", "report.tables.sweep",
     "report.heatmap", "report.ablation", "report.evidence", "report.comparison.fill",
     "report.schema", "report.comparison.methods", "report.comparison.columns",
     "report.comparison.averages", "report.comparison.costs",
     "report.comparison.published",
     "report.words", "report.holes", "report.leftovers", "report.comparison", "study.ablation",
     "report.figures", "report.charts", "report.page", "stats", "runs.store",
     "runs.results", "runs.plan", "runs.summary", "runs.execute", "runs.bench", "runs.forecast",
     "runs.reopen", "runs.sweep", "executors.ray", "executors.local",
     "runs.load", "runs.predict", "runs.start",
     "share.glue", "share.bundle", "share.hub", "share.adapterhub",
     "doctor", "trackers"],
)  # fmt: skip
def test_no_torch_for_planning_and_reporting(module: str) -> None:
    code = (
        f"import sys, adaptertune.{module}; "
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate'} & set(sys.modules); "
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
