"""The heatmap of a run: each cell by brute force, statistics by hand, and what refuses."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats as scipy_stats

from adaptertune import config
from adaptertune.errors import AdapterTuneError, ConfigError
from adaptertune.executors.serial import run_cell
from adaptertune.model import backbone
from adaptertune.model.inject import adapted_outputs
from adaptertune.runs import analyses, store
from adaptertune.runs.plan import plan as make_plan
from adaptertune.runs.reopen import Reopened, reopen
from adaptertune.study.spans import relative_change, spans
from adaptertune.train import evaluate
from tests.conftest import tiny_glue_files
from tests.runs.test_execute import Quiet


def silent(*_: Any) -> None:
    pass


def train(tiny_bert: Path, root: Path, **changes: Any) -> store.CellFolder:
    """A trained run on rows whose words the model knows."""
    for path, text in tiny_glue_files().items():
        (root / "glue" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "glue" / path).write_text(text)
    settings: dict[str, Any] = {
        "task": "stsb", "backbone": str(tiny_bert), "data.folder": str(root / "glue"), "seeds": 2,
        "method.size": 8, "training.epochs": 2, "training.max_length": 24, "output": str(root / "runs"),
        "training.learning_rate": 1e-2, "training.precision": "fp32", "method.init_std": 0.5,
        "training.batch_size": 4, "training.keep_epoch": "last",
    } | {key.replace("__", "."): value for key, value in changes.items()}  # fmt: skip
    given = {key: (value, key) for key, value in settings.items() if value is not None}
    made = make_plan(config.resolve(given))
    run_cell(made, Quiet())
    return made.folder


@pytest.fixture(scope="module")
def run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Reopened:
    folder = train(tiny_bert, tmp_path_factory.mktemp("runs"))
    return reopen(folder, folder.finished_result())


def test_every_cell_is_what_the_model_without_these_adapters_scores(run: Reopened) -> None:
    found = spans(run, None, silent, silent)
    assert [(cell.first, cell.last) for cell in found.cells] == [(0, 0), (0, 1), (1, 1)]
    assert (found.layer_evaluations, found.layer_evaluations_apart) == (6, 6)
    (encoded,) = (e for e in _splits(run) if e.name == "validation")
    for number, seed in enumerate(run.seeds):
        kept = run.folder.seed(seed).read_result()
        assert kept is not None
        for name, value in kept.scores["validation"].values.items():
            assert found.intact[name][number] == pytest.approx(value, abs=1e-3)
        for cell in found.cells:
            model = run.load(seed)
            for layer, block in adapted_outputs(model.backbone):
                if cell.first <= layer <= cell.last:  # an adapter of zeros adds nothing
                    torch.nn.init.zeros_(block.adapter.up.weight)
                    torch.nn.init.zeros_(block.adapter.up.bias)
            scores = evaluate.logits(model, encoded, torch.device("cpu"))[:, 0]
            expected = scipy_stats.pearsonr(scores, encoded.labels).statistic
            assert cell.values["pearson"][number] == pytest.approx(expected, abs=1e-3)
    assert found.majority_share is None
    assert len({str(cell.values) for cell in found.cells}) == 3, "removing must matter"


def test_the_majority_share_is_that_of_the_labels(tiny_bert: Path, tmp_path: Path) -> None:
    folder = train(tiny_bert, tmp_path, task="mnli", seeds=1)
    found = spans(reopen(folder, folder.finished_result()), (1,), silent, silent)
    assert found.majority_share == 3 / 8  # of the labels 0 1 2 0 1 2 0 1
    assert set(found.intact) == {"accuracy"}


def _splits(run: Reopened) -> Any:
    from adaptertune.data import cache

    return cache.tokenised(run.plan.tokens, progress=silent, note=silent)


def test_statistics_are_relative_and_over_the_seeds() -> None:
    change = relative_change([0.3, 0.8], [0.6, 0.5])
    changes = [0.3 / 0.6 - 1, 0.8 / 0.5 - 1]
    assert change.mean == pytest.approx(statistics.mean(changes))
    assert change.deviation == pytest.approx(statistics.stdev(changes))
    assert relative_change([0.3], [0.6]).deviation is None
    for values, intact in (([0.1, None], [0.5, 0.5]), ([0.1, 0.1], [0.5, 0.0])):
        assert relative_change(values, intact) == analyses.Change(mean=None, deviation=None)


def test_the_file_is_the_result_and_is_read_again(run: Reopened) -> None:
    notes: list[str] = []
    first = spans(run, None, silent, notes.append)
    content = json.loads(run.folder.spans.read_text())
    assert analyses.SpansResult.model_validate(content) == first
    before = run.folder.spans.stat().st_mtime_ns
    notes.clear()
    assert spans(run, None, silent, notes.append) == first
    assert "computed earlier" in notes[0]
    assert run.folder.spans.stat().st_mtime_ns == before
    narrow = spans(run, (1,), silent, notes.append)
    assert [(cell.first, cell.last) for cell in narrow.cells] == [(1, 1)]
    assert narrow.cells[0] == first.cells[-1]


def test_spans_out_of_range_are_refused(run: Reopened) -> None:
    with pytest.raises(ConfigError, match=r"--layers: layer 2 has no adapters in this run; .*0,1"):
        spans(run, (1, 2), silent, silent)


def test_a_run_without_adapters_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    none = {"method__size": None, "method__init_std": None}
    folder = train(tiny_bert, tmp_path, method__name="layernorm", seeds=1, **none)
    opened = reopen(folder, folder.finished_result())
    with pytest.raises(ConfigError, match="'layernorm' has no adapters"):
        spans(opened, None, silent, silent)


def test_a_run_opens_with_the_commit_that_it_was_trained_on(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's repository may have moved on. What is made of the run has the run's own names."""
    folder = train(tiny_bert, tmp_path, seeds=1)
    result = folder.finished_result()
    facts = result.backbone.model_copy(update={"name": "owner/bert", "commit": "c0ffee"})
    located, asked = backbone.locate(str(tiny_bert), offline=True), []

    def locate(name: str, *, offline: bool) -> backbone.Located:
        asked.append(name)
        return replace(located, name=name, commit="c0ffee", is_own=False)

    monkeypatch.setattr(backbone, "locate", locate)
    opened = reopen(folder, result.model_copy(update={"backbone": facts}))
    assert asked == ["owner/bert@c0ffee"]
    assert opened.plan.located.name == "owner/bert"
    assert opened.plan.config.backbone == str(tiny_bert)


def test_damaged_runs_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = train(tiny_bert, tmp_path, seeds=1)
    result = folder.finished_result()
    opened = reopen(folder, result)
    checkpoint = folder.seed(0).checkpoint
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-50])
    with pytest.raises(AdapterTuneError, match="damaged"):
        spans(opened, None, silent, silent)
    checkpoint.unlink()
    with pytest.raises(AdapterTuneError, match="no such file"):
        spans(opened, None, silent, silent)
    checkpoint.write_bytes(whole)
    assert not folder.spans.exists(), "nothing half done is left"
    foreign = result.backbone.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(AdapterTuneError, match=r"trained on another .* bring back the model"):
        reopen(folder, result.model_copy(update={"backbone": foreign}))
    other = result.data.model_copy(update={"fingerprint": "sha256:0"})
    with pytest.raises(AdapterTuneError, match="no longer those of the run"):
        reopen(folder, result.model_copy(update={"data": other}))
    folder.spans.write_text("{")
    with pytest.raises(AdapterTuneError, match="damaged result"):
        spans(opened, None, silent, silent)
