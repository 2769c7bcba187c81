"""Variants of the method as cells: identity, names, checkpoints, and going on bitwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adaptertune import config
from adaptertune.data import cache
from adaptertune.errors import ConfigError, Interrupted
from adaptertune.executors.serial import run_cell
from adaptertune.runs.plan import method_label
from adaptertune.runs.reopen import reopen
from adaptertune.runs.summary import _paper_rows
from adaptertune.train import evaluate
from tests.runs.test_execute import Quiet, assert_equal_cells, plan

PLAIN: dict[str, Any] = {
    "name": "adapter", "size": 64, "layers": None, "init_std": 0.01, "activation": "gelu",
}  # fmt: skip


def method(**keys: Any) -> Any:
    return config.parse_method(PLAIN | keys)


def test_runs_from_before_the_variants_keep_their_identity() -> None:
    """The plain adapter's is what it was, and a default that is written out is no other method."""
    assert config.method_identity(method()) == PLAIN
    assert config.method_identity(method(depth=1, places="both", scale=1.0)) == PLAIN
    assert config.method_identity(method(depth=2)) == PLAIN | {"depth": 2}
    for name, keys in (("full", {}), ("top_layers", {"k": 2}), ("lora", {"rank": 8, "alpha": 8.0})):
        values = {"name": name, **keys}
        assert config.method_identity(config.parse_method(values)) == values


@pytest.mark.parametrize(
    ("keys", "label"),
    [
        ({}, "adapter-64"),
        ({"layers": "3-5"}, "adapter-64-layers-3,4,5"),
        (
            {"places": "feedforward", "reads": "normed"},
            "adapter-64-places-feedforward-reads-normed",
        ),
        ({"layers": [1], "layernorms": "all"}, "adapter-64-layers-1-layernorms-all"),
        ({"layers": [1], "layernorms": "0-1"}, "adapter-64-layers-1-layernorms-0-1"),
        ({"layers": [5], "layernorms": "0,2-5"}, "adapter-64-layers-5-layernorms-0,2-5"),
    ],
)
def test_labels_tell_variants_apart(keys: dict[str, Any], label: str) -> None:
    assert method_label(method(**keys)) == label


def test_a_variant_is_not_the_papers_row(tiny_bert: Path, tmp_path: Path) -> None:
    assert _paper_rows(plan(tiny_bert, tmp_path)) == ("adapters_8_256",)
    assert _paper_rows(plan(tiny_bert, tmp_path, method__reads="input")) == ()
    full = {"method__name": "full"}
    assert _paper_rows(variant_plan(tiny_bert, tmp_path, **full)) == ("full",)
    frozen = variant_plan(tiny_bert, tmp_path, **full, method__pooler="frozen")
    assert _paper_rows(frozen) == ()
    assert method_label(frozen.config.method) == "full-pooler-frozen"


@pytest.mark.parametrize(
    "changes",
    [
        {"method__norm": "batch", "method__depth": 2},
        {"method__places": "feedforward", "method__reads": "input", "method__scale": 4.0},
        {"method__name": "lora", "method__rank": 3},
        {"method__name": "ia3"},
        {"method__name": "full", "method__pooler": "frozen"},
    ],
    ids=["batch", "parallel", "lora", "ia3", "full"],
)
def test_an_interrupted_variant_goes_on_and_ends_equal(
    tiny_bert: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    def made(name: str) -> Any:
        return variant_plan(tiny_bert, tmp_path / name, seeds=1, **changes)

    whole, stopped = made("whole"), made("stopped")
    progress = Quiet()
    run_cell(whole, progress)
    is_generic = any("generic pass" in note for note in progress.notes)
    assert is_generic == (changes.get("method__name") != "full")
    with pytest.raises(Interrupted, match="goes on from here"):
        run_cell(stopped, Quiet(40))
    run_cell(stopped, Quiet())
    assert_equal_cells(whole.folder, stopped.folder)
    kept = whole.folder.seed(0).read_result()
    assert kept is not None
    assert kept.checkpoint is not None
    assert kept.checkpoint.parameters == whole.ledger.stored
    # Opened again, the model scores what it scored.
    result = whole.folder.finished_result()
    again = reopen(whole.folder, result)
    encoded = cache.tokenised(whole.tokens, progress=lambda *_: None, note=lambda _: None)[1]
    found = evaluate.logits(again.load(0), encoded, torch.device("cpu"))
    accuracy = (found.argmax(1) == encoded.labels).mean()
    assert result.scores["validation"]["accuracy"].mean == pytest.approx(accuracy)


def test_what_must_train_alone_is_not_stacked(tiny_bert: Path, tmp_path: Path) -> None:
    for changes in ({"method__name": "lora"}, {"method__norm": "batch"}):
        with pytest.raises(ConfigError, match="--stack"):
            variant_plan(tiny_bert, tmp_path, stack="on", **changes)


def variant_plan(tiny_bert: Path, root: Path, **changes: Any) -> Any:
    """A plan in which LoRA and (IA)³ have no bottleneck size."""
    from adaptertune.runs.plan import plan as make_plan

    made = {"method__size": 8} if "method__name" not in changes else {}
    settings: dict[str, Any] = {
        "task": "rte", "backbone": str(tiny_bert), "data.source": "sample",
        "training.epochs": 2, "training.max_length": 24, "output": str(root),
        "training.learning_rate": 1e-2, "training.precision": "fp32",
    } | {key.replace("__", "."): value for key, value in (made | changes).items()}  # fmt: skip
    return make_plan(config.resolve({key: (value, key) for key, value in settings.items()}))
