"""What can be done with a run, done with runs on encoders besides BERT."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import softmax
from transformers import AutoModel, AutoModelForSequenceClassification

import adaptertune as at
from adaptertune.data.sources import Source, load_splits
from adaptertune.data.tables import Row
from adaptertune.runs import load
from adaptertune.runs.reopen import reopen
from adaptertune.runs.results import CellResult
from adaptertune.runs.store import CellFolder
from adaptertune.share import bundle
from adaptertune.study.spans import spans
from adaptertune.tasks import load as load_task
from tests.kinds import KINDS

Folder = Callable[[str], Path]


def train(folder: Path, output: Path, **changes: Any) -> CellResult:
    """Two seeds of one epoch of the sample's RTE, in fp32."""
    settings: dict[str, Any] = {
        "task": "rte", "backbone": str(folder), "offline": True, "seeds": 2, "method.size": 8,
        "training.epochs": 1, "training.max_length": 40, "training.learning_rate": 1e-2,
        "training.precision": "fp32", "output": str(output), "method.init_std": 0.1,
    } | {key.replace("__", "."): value for key, value in changes.items()}  # fmt: skip
    if settings.get("method.name", "adapter") != "adapter":
        del settings["method.size"], settings["method.init_std"]
    return at.fine_tune(settings)


@pytest.fixture(scope="module")
def cells(
    tiny_kind: Folder, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], CellResult]:
    output = tmp_path_factory.mktemp("runs")
    found: dict[str, CellResult] = {}

    def cell(kind: str) -> CellResult:
        if kind not in found:
            found[kind] = train(tiny_kind(kind), output)
        return found[kind]

    return cell


def validation() -> list[tuple[str, str]]:
    (split,) = load_splits(load_task("rte"), Source("sample"), ["validation"])
    assert split.second is not None
    return list(zip(split.first, split.second, strict=True))


def written(cell: CellResult, seed: int) -> Any:
    """The logits that a seed wrote."""
    path = Path(cell.folder) / f"seed-{seed}" / "logits.safetensors"
    with safe_open(path, framework="np") as stream:
        return stream.get_tensor("logits.validation")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_recorded_which_encoder_it_was(cells: Callable[[str], CellResult], kind: str) -> None:
    cell = cells(kind)
    seed = json.loads((Path(cell.folder) / "seed-0" / "result.json").read_text())
    assert seed["backbone"]["architecture"] == kind
    assert not any(part["name"] == "pooler" for part in seed["ledger"]["parts"])
    stored = load_file(Path(cell.folder) / "seed-0" / "checkpoint.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == seed["ledger"]["stored"]
    assert "backbone.encoder.layer.1.output.adapter.down.weight" in stored


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_gives_the_logits_of_the_training(
    cells: Callable[[str], CellResult], kind: str, tmp_path: Path
) -> None:
    cell = cells(kind)
    run = load.find(cell.folder, tmp_path, 1)
    made = bundle.create([run], tmp_path / "bundle", offline=True)
    models = bundle.load_all(bundle.read(made.folder))
    asked = [Row(n, *texts, "rte") for n, texts in enumerate(validation())]
    answered = [one for part in bundle.answer(models, asked, mixed=True) for one in part]
    found = [one.answer.probabilities or () for one in answered]
    np.testing.assert_allclose(found, softmax(written(cell, 1).astype(float), axis=1), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_gives_the_logits_of_the_training(
    cells: Callable[[str], CellResult], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    monkeypatch.setattr(handler, "emit", heard.append)
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    pipe = at.pipeline(cells(kind).folder, seed=1)
    logger.removeHandler(handler)
    assert [record.getMessage() for record in heard] == []
    texts = [{"text": first, "text_pair": second} for first, second in validation()[:5]]
    found = [[one["score"] for one in sorted(answer, key=lambda one: one["label"])]
             for answer in pipe(texts, top_k=None)]  # fmt: skip
    expected = softmax(written(cells(kind), 1)[:5].astype(float), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_spans_can_be_removed(cells: Callable[[str], CellResult], kind: str) -> None:
    folder = CellFolder(Path(cells(kind).folder))
    opened = reopen(folder, folder.finished_result())
    found = spans(opened, None, lambda *_: None, lambda _: None)
    assert [(cell.first, cell.last) for cell in found.cells] == [(0, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_trunk_changes_no_number(tiny_kind: Folder, kind: str, tmp_path: Path) -> None:
    ways = [
        train(tiny_kind(kind), tmp_path / str(cache), method__layers=[1], trunk_cache=cache)
        for cache in (0, 1)
    ]
    for seed in (0, 1):
        one, other = (written(way, seed) for way in ways)
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_seeds_are_seeds(tiny_kind: Folder, kind: str, tmp_path: Path) -> None:
    """Without dropout, whose masks are others, each comes to what it comes to alone."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_kind(kind).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    none = {name: 0.0 for name in config if "dropout" in name}
    (folder / "config.json").write_text(json.dumps(config | none))
    ways = [train(folder, tmp_path / stack, stack=stack) for stack in ("on", "off")]
    for seed in (0, 1):
        one, other = (written(way, seed) for way in ways)
        np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.parametrize("method", ["full", "top_layers", "layernorm", "bitfit", "lora", "ia3"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_trains(tiny_kind: Folder, kind: str, method: str, tmp_path: Path) -> None:
    more = {"method__k": 1} if method == "top_layers" else {}
    cell = train(tiny_kind(kind), tmp_path, method__name=method, seeds=1, **more)
    stored = load_file(Path(cell.checkpoint or ""))
    located = load.find(cell.folder, tmp_path, 0).locate(offline=True)
    if method == "full":  # everything there is moved away from what was loaded
        before = AutoModel.from_pretrained(located.folder)
        values = [p for name, p in before.named_parameters() if not name.startswith("pooler.")]
        assert len(stored) == len(values) + 2
    assert all(torch.isfinite(tensor).all() for tensor in stored.values())


@pytest.mark.parametrize("kind", ["roberta", "electra", "deberta-v2"])
def test_adapters_in_a_model_of_ones_own(tiny_kind: Folder, kind: str) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_kind(kind), num_labels=3).eval()
    tokens = torch.tensor([[5, 7, 8, 9]])
    with torch.no_grad():
        before = plain(tokens).logits
        base = at.count(plain)
        at.insert_adapters(plain, size=8)
        assert at.count(plain).adapters == 4 * (2 * 8 * 32 + 32 + 8)
        assert at.count(plain).base == base.base
        near = plain(tokens).logits
        assert 0 < (near - before).abs().max() < 0.1
        for name, parameter in plain.named_parameters():
            if ".adapter.up." in name:
                parameter.zero_()
        assert torch.equal(plain(tokens).logits, before)


def test_distilberts_own_class_has_no_place(tiny_kind: Folder) -> None:
    plain = AutoModel.from_pretrained(tiny_kind("distilbert"))
    with pytest.raises(TypeError, match="no BERT, RoBERTa, ELECTRA or DeBERTa-v2 in a DistilBert"):
        at.insert_adapters(plain)
