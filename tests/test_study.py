"""The README's results are the study's, and the study's report is what its result files say."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from adaptertune.report import comparison, evidence, holes, page
from adaptertune.report.evidence import Cell
from adaptertune.runs import store
from adaptertune.runs.analyses import SpansResult
from adaptertune.runs.store import CellFolder

CHECKOUT = Path(__file__).parent.parent
STUDY = Path("scripts/study")


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


def test_the_readme_shows_the_report(script: ModuleType) -> None:
    readme = script.README.read_text()
    assert script.with_block(readme, script.block(script.REPORT.read_text())) == readme
    for picture in re.findall(r"\]\((scripts/study/charts/.+?)\)", readme):
        assert (CHECKOUT / picture).is_file(), picture
    assert len(re.findall(r"^\| adapters", readme, re.MULTILINE)) >= 2


def test_the_report_is_that_of_the_result_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CHECKOUT)  # the report names its store as it was given
    root = STUDY / "runs"
    cells, unfinished = evidence.read(root)
    groups = comparison.compare(cells, store.read_ablations(root))
    page.write(groups, holes.missing(groups, unfinished), root, tmp_path, "0")
    made = without_version((tmp_path / "report.md").read_text())
    assert made == without_version((STUDY / "report.md").read_text())
    charts = {path.name for path in (STUDY / "charts").glob("*.png")}
    assert {path.name for path in (tmp_path / "charts").glob("*.png")} == charts


@pytest.fixture(scope="module")
def told() -> str:
    """The README, with its lines joined."""
    return (CHECKOUT / "README.md").read_text().replace("\n", " ")


def test_how_far_adapters_are_from_full_fine_tuning(told: str) -> None:
    long = score(20, 1e-3, "adapter", 64), score(20, 3e-5, "full")
    assert "20 epochs: {:.1f} against {:.1f}, two seeds".format(*long) in told
    behind = [score(epochs, 3e-5, "full") - score(epochs, 1e-3, "adapter", 64) for epochs in (3, 6)]
    assert "three epochs they are {:.1f} points behind, with six {:.1f};".format(*behind) in told
    on_mnli = score(1, 1e-4, "full", task="mnli") - score(1, 1e-3, "adapter", 64, "mnli")
    assert f"of 401 steps) {on_mnli:.1f} points behind on MNLI-m" in told
    on_stsb = score(3, 1e-4, "full", task="stsb") - score(3, 1e-3, "adapter", 64, "stsb")
    assert f"on STS-B (three epochs) {on_stsb:.1f};" in told
    on_sst2 = score(1, 1e-4, "full", task="sst2") - score(1, 1e-3, "adapter", 64, "sst2")
    assert f"on SST-2 (one epoch) {on_sst2:.1f};" in told


def test_why_adapters_are_behind(told: str) -> None:
    kept = [
        seed.kept_epoch or 0
        for cell in (only(20, 1e-3, "adapter", 64), only(20, 3e-5, "full"))
        for seed in cell.seeds
    ]
    assert f"of which the {min(kept)}th to {max(kept)}th are the best" in told
    on_large = [fit(1, 1e-3, 1e-4, task) for task in ("mnli", "sst2")]
    assert "{} on MNLI, {} on SST-2, ".format(*on_large) in told
    assert f"SST-2, {fit(3, 1e-3, 1e-4, 'stsb')} on STS-B" in told
    on_cola = [fit(epochs, 1e-3, 3e-5, "cola") for epochs in (3, 6, 20)]
    assert "CoLA {} with three epochs, {} with six and {} with 20".format(*on_cola) in told
    on_mrpc, on_rte = fit(6, 1e-3, 1e-4, "mrpc"), fit(6, 1e-3, 3e-5, "rte")
    assert f"On MRPC ({on_mrpc}) and RTE ({on_rte})" in told
    higher = [(6, "cola"), (1, "mnli"), (3, "stsb"), (1, "sst2")]
    high = [scores(one_cell(epochs, 3e-3, "adapter", 64, task))[0] for epochs, task in higher]
    chosen = scores(only(1, 1e-3, "adapter", 64, "sst2"))[0]
    told_high = (
        "{:.1f} on CoLA, {:.1f} on MNLI-m, {:.1f} on STS-B, and on SST-2 {:.1f} against {:.1f}"
    )
    assert told_high.format(*high, chosen) in told


def test_less_than_adapters(told: str) -> None:
    rates = {  # of one and three top layers, LayerNorms, adapters 64 and full fine-tuning
        "cola": (3e-4, 3e-4, 3e-3, 1e-3, 3e-5),
        "rte": (3e-5, 3e-4, 3e-3, 1e-3, 3e-5),
        "mrpc": (3e-4, 3e-4, 3e-3, 1e-3, 1e-4),
    }
    less = {
        task: [
            score(6, one, "top_layers", 1, task),
            score(6, three, "top_layers", 3, task),
            score(6, norms, "layernorm", None, task),
            score(6, adapters, "adapter", 64, task),
            score(6, full, "full", None, task),
        ]
        for task, (one, three, norms, adapters, full) in rates.items()
    }
    on_each = "{:.1f} with the top layer, {:.1f} with the top three"
    assert f"CoLA: {on_each.format(*less['cola'])}" in told
    told_less = "{:.1f} with LayerNorms only, against {:.1f} with adapters and {:.1f} with all"
    assert told_less.format(*less["cola"][2:]) in told
    on_each = "{:.1f}, {:.1f} and {:.1f} against {:.1f} and {:.1f}"
    assert f"RTE: {on_each.format(*less['rte'])}, so the top three are ahead" in told
    assert less["rte"][1] > less["rte"][4]
    assert f"MRPC: {on_each.format(*less['mrpc'])}." in told
    assert all(max(without) < adapters for *without, adapters, _ in less.values())
    accuracies = [
        statistics.fmean(only(6, rate, name).values("validation", "accuracy").values())
        for rate, name in ((3e-5, "full"), (3e-3, "layernorm"))
    ]
    assert f"LayerNorms only are {100 * (accuracies[0] - accuracies[1]):.1f} points" in told


def test_the_claims_of_size(told: str) -> None:
    early = [(3e-3, 8), (1e-3, 64), (3e-4, 256)]
    sizes = [score(3, rate, "adapter", size) for rate, size in early]
    assert "with three epochs: {:.1f}, {:.1f} and {:.1f},".format(*sizes) in told
    late = [(1e-3, 8), (1e-3, 64), (3e-4, 256)]
    sizes = [score(6, rate, "adapter", size) for rate, size in late]
    assert "five seeds: {:.1f}, {:.1f} and {:.1f} at 8, 64 and 256".format(*sizes) in told
    on_rte = [scores(only(6, 1e-3, "adapter", size, "rte")) for size in (8, 64, 256)]
    widest = max(statistics.stdev(values) for values in on_rte)
    means = [statistics.fmean(values) for values in on_rte]
    told_rte = "RTE, so searched too: {:.1f}, {:.1f} and {:.1f}, with deviations up to {:.1f}."
    assert told_rte.format(*means, widest) in told
    of_cola = [f"{mean:.1f}" for mean in ablation("size", "cola", "matthews").values()]
    assert "{}, {} and {} at 1, 8 and 64; at 512".format(*of_cola[:3]) in told
    assert of_cola[3:] == ["0.0"]
    sizes_of_mnli = [f"{mean:.1f}" for mean in ablation("size", "mnli", "accuracy").values()]
    assert "{}, {} and {} at 1, 64 and 512".format(*sizes_of_mnli) in told


def test_the_claims_of_single_layers(told: str) -> None:
    cola, mnli = (spans(task) for task in ("cola", "mnli"))
    single = {
        (one.task, metric): 100
        * np.array(
            [cell.change[metric].mean for cell in one.cells if cell.first == cell.last], float
        )
        for one in (cola, mnli)
        for metric in one.cells[0].change
    }
    assert f"the largest drop is {-min(single['cola', 'accuracy']):.1f} % (2 %" in told
    assert f"by Matthews it is {-min(single['cola', 'matthews']):.0f} %" in told
    assert f"on MNLI, where it is {-min(single['mnli', 'accuracy']):.1f} %" in told
    assert [np.argmin(single[task, "accuracy"]) for task in ("cola", "mnli")] == [2, 3]
    assert [np.argmax(single[task, "accuracy"]) for task in ("cola", "mnli")] == [4, 4]
    removed = {
        one.task: cell.values["accuracy"]
        for one in (cola, mnli)
        for cell in one.cells
        if (cell.first, cell.last) == (0, 5)
    }
    assert set(removed["cola"]) == {cola.majority_share}
    assert f"accuracy {100 * (cola.majority_share or 0):.1f} %, that of the majority" in told
    assert f"On MNLI it falls to {100 * np.mean(np.array(removed['mnli'])):.1f} %" in told


def test_the_claims_of_first_values(told: str) -> None:
    inits = ablation("init", "cola", "matthews")
    assert list(inits) == [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]
    below = [f"{value:.1f}" for value in list(inits.values())[:6]]
    assert f"{', '.join(below[:5])} and {below[5]} from 1e-7 to 1e-2" in told
    assert inits[0.1] == inits[1] == 0
    of_mnli = {value: f"{mean:.1f}" for value, mean in ablation("init", "mnli", "accuracy").items()}
    assert list(of_mnli) == [1e-7, 1e-4, 1e-3, 1e-2, 0.1, 1]
    *low, high = list(of_mnli.values())[:4]
    assert f"{', '.join(low)} and {high} at 1e-7, 1e-4, 1e-3 and 1e-2" in told
    assert f"{of_mnli[0.1]} and {of_mnli[1]} on MNLI" in told


PLAIN: dict[str, dict[str, Any]] = {"adapter": {"init_std": 0.01}}  # what an ablation varies


@functools.cache
def study_cells() -> tuple[Cell, ...]:
    return tuple(evidence.read(CHECKOUT / STUDY / "runs")[0])


def only(epochs: int, rate: float, name: str, size: int | None = None, task: str = "cola") -> Cell:
    """The one cell that trained so: a chosen one, with all its seeds."""
    cell = one_cell(epochs, rate, name, size, task)
    assert len(cell.seeds) == (2 if epochs == 20 else 5)
    return cell


def one_cell(epochs: int, rate: float, name: str, size: int | None, task: str) -> Cell:
    (cell,) = [
        cell
        for cell in study_cells()
        if cell.facts.task == task and cell.config["protocol"] == "paper"
        if cell.config["training"]["epochs"] == epochs
        if cell.config["training"]["learning_rate"] == rate
        if cell.config["method"]["name"] == name
        if cell.config["method"].get("size", cell.config["method"].get("k")) == size
        if cell.config["method"].items() >= PLAIN.get(name, {}).items()
    ]
    return cell


def scores(cell: Cell) -> list[float]:
    """Of its seeds, in per cent, by the metric and rows that are reported."""
    values = cell.values(cell.reported[0], cell.headline)
    assert len(values) == len(cell.seeds)
    return [100 * value for value in values.values()]


def score(*which: Any, **more: Any) -> float:
    return statistics.fmean(scores(only(*which, **more)))


def fit(epochs: int, adapters: float, full: float, task: str) -> str:
    """Training loss of the last epoch, mean over seeds, at these learning rates."""
    both = only(epochs, adapters, "adapter", 64, task), only(epochs, full, "full", None, task)
    means = []
    for cell in both:
        files = [CellFolder(cell.folder).seed(one.seed).path for one in cell.seeds]
        last = [(path / "epochs.jsonl").read_text().splitlines()[-1] for path in files]
        means.append(statistics.fmean(json.loads(line)["train_loss"] for line in last))
    return "{:.2f} / {:.2f}".format(*means)


def spans(task: str) -> SpansResult:
    (path,) = (CHECKOUT / STUDY / "runs" / task).glob("*/spans.json")
    return SpansResult.model_validate_json(path.read_bytes())


def ablation(kind: str, task: str, metric: str) -> dict[float, float]:
    """Mean score by the value that an ablation of the study varies, in per cent."""
    (found,) = [
        one
        for result in store.read_ablations(CHECKOUT / STUDY / "runs")
        for one in result.tasks
        if (result.kind, one.task) == (kind, task)
    ]
    return {
        point.value: 100 * mean
        for point in found.points
        if point.value is not None and (mean := point.scores[metric].mean) is not None
    }


def test_nothing_but_results_is_kept() -> None:
    """No models, no logits, no rows of the data, no machine's names."""
    for path in (CHECKOUT / STUDY / "runs").rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".jsonl"), path
            assert not re.search(r"/(work|root|home|tmp|Users)/", path.read_text()), path
