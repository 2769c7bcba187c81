"""The study's report is what its result files say, and the README shows it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from adaptertune.report import comparison, evidence, holes, page
from adaptertune.runs import store
from tests.results.cells import CHECKOUT, STUDY


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = CHECKOUT / "scripts" / "readme_results.py"
    spec = importlib.util.spec_from_file_location("readme_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_version(report: str) -> str:
    return re.sub(r"^Made by adaptertune \S+", "Made by adaptertune", report, flags=re.MULTILINE)


def test_the_readme_shows_the_study(script: ModuleType) -> None:
    readme = script.README.read_text()
    assert script.with_block(readme, script.block()) == readme
    assert len(re.findall(r"^\|  \| full fine-tuning \| adapters", readme, re.MULTILINE)) >= 2
    assert len(re.findall(r"^\| .* \| .*\b[Hh]eld\b", readme, re.MULTILINE)) >= 4
    for page_of, folder in ((readme, CHECKOUT), ((STUDY / "README.md").read_text(), STUDY)):
        pictures = re.findall(r"^!\[[^\n]+\]\((\S+)\)$", page_of, re.MULTILINE)
        assert len(pictures) >= 4
        for picture in pictures:
            assert (folder / picture).is_file(), picture


def test_the_report_is_that_of_the_result_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CHECKOUT)  # the report names its store as it was given
    root = Path("scripts/study/runs")
    cells, unfinished = evidence.read(root)
    groups = comparison.compare(cells, store.read_ablations(root))
    page.write(groups, holes.missing(groups, unfinished), root, tmp_path, "0")
    made = without_version((tmp_path / "report.md").read_text())
    assert made == without_version((STUDY / "report.md").read_text())
    charts = {path.name for path in (STUDY / "charts").glob("*.png")}
    assert {path.name for path in (tmp_path / "charts").glob("*.png")} == charts


def test_nothing_but_results_is_kept() -> None:
    """No models, no logits, no rows of the data, no machine's names."""
    for path in [*STUDY.glob("runs/**/*"), *STUDY.glob("cuda/**/*"), *STUDY.glob("seeds/**/*")]:
        if path.is_file():
            assert path.suffix in (".json", ".jsonl"), path
            assert not re.search(r"/(work|root|home|tmp|Users)/", path.read_text()), path
