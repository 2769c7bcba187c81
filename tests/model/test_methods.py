"""Exactly which parameters train under each method: names written out, not computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptertune import config
from adaptertune.errors import ConfigError
from adaptertune.model import backbone, ledger
from adaptertune.model.build import load_model
from tests.classifiers import build

HEAD = {"head.weight", "head.bias"}
NORMS = {
    f"backbone.{place}.LayerNorm.{kind}"
    for kind in ("weight", "bias")
    for place in (
        "embeddings",
        "encoder.layer.0.attention.output",
        "encoder.layer.0.output",
        "encoder.layer.1.attention.output",
        "encoder.layer.1.output",
    )
}


def adapter_names(layer: int) -> set[str]:
    return {
        f"backbone.encoder.layer.{layer}.{place}.adapter.{projection}.{kind}"
        for place in ("attention.output", "output")
        for projection in ("down", "up")
        for kind in ("weight", "bias")
    }


LAYER_1 = {
    f"backbone.encoder.layer.1.{place}.{kind}"
    for kind in ("weight", "bias")
    for place in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    )
}
LAYER_0 = {name.replace("layer.1", "layer.0") for name in LAYER_1}
POOLER = {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}
EMBEDDINGS = {
    "backbone.embeddings.word_embeddings.weight",
    "backbone.embeddings.position_embeddings.weight",
    "backbone.embeddings.token_type_embeddings.weight",
    "backbone.embeddings.LayerNorm.weight",
    "backbone.embeddings.LayerNorm.bias",
}
EVERYTHING = LAYER_0 | LAYER_1 | POOLER | EMBEDDINGS | HEAD

ADAPTER = config.Adapter(size=8, init_std=1e-2, activation="gelu")
UPPER = config.Adapter(size=8, layers=(1,), init_std=1e-2, activation="gelu")
ATTENTION = ADAPTER.model_copy(update={"places": "attention", "depth": 2, "norm": "batch"})
FROZEN_NORMS = UPPER.model_copy(update={"layernorms": "none", "pooler": "trained"})
SOME_NORMS = UPPER.model_copy(update={"layernorms": (0,)})
ALL_NORMS = UPPER.model_copy(update={"layernorms": "all"})
DEEP = {
    f"backbone.encoder.layer.{layer}.attention.output.adapter.{part}.{kind}"
    for layer in (0, 1)
    for part in ("norm", "down", "inner.0", "up")
    for kind in ("weight", "bias")
}
LORA = {
    f"backbone.encoder.layer.{layer}.attention.self.{part}.lora_{factor}.default.weight"
    for layer in (0, 1)
    for part in ("query", "value")
    for factor in "AB"
}
IA3 = {
    f"backbone.encoder.layer.{layer}.{part}.ia3_l.default"
    for layer in (0, 1)
    for part in ("attention.self.key", "attention.self.value", "output.dense")
}
CASES = [
    (ATTENTION, DEEP | NORMS | HEAD),
    (ALL_NORMS, adapter_names(1) | NORMS | HEAD),
    (SOME_NORMS, adapter_names(1) | {name for name in LAYER_0 if "LayerNorm" in name} | HEAD),
    (FROZEN_NORMS, adapter_names(1) | POOLER | HEAD),
    (config.LoRA(rank=4, alpha=8.0), LORA | HEAD),
    (config.IA3(), IA3 | HEAD),
    (ADAPTER, adapter_names(0) | adapter_names(1) | NORMS | HEAD),
    (UPPER, adapter_names(1) | {name for name in LAYER_1 if "LayerNorm" in name} | HEAD),
    (config.Full(), EVERYTHING),
    (config.Full(pooler="frozen"), EVERYTHING - POOLER),
    (config.TopLayers(k=1), LAYER_1 | POOLER | HEAD),
    (config.TopLayers(k=2), LAYER_0 | LAYER_1 | POOLER | HEAD),
    (config.LayerNorm(), NORMS | HEAD),
    (config.BitFit(), {name for name in EVERYTHING if name.endswith(".bias")} | HEAD),
]


@pytest.mark.parametrize(
    ("method", "expected"), CASES, ids=lambda value: getattr(value, "name", "")
)
def test_trained_names(tiny_bert: Path, method: config.Method, expected: set[str]) -> None:
    model = build(tiny_bert, method, outputs=3)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected


@pytest.mark.parametrize(
    ("method", "expected"), CASES, ids=lambda value: getattr(value, "name", "")
)
def test_ledger_counts_what_trains(
    tiny_bert: Path, method: config.Method, expected: set[str]
) -> None:
    located = backbone.locate(str(tiny_bert), offline=True)
    model = build(tiny_bert, method, outputs=3)
    counts = ledger.count(located.shape, method, 3)
    assert counts.stored == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counts.total == sum(p.numel() for p in model.parameters())


def test_layers_out_of_range_are_refused(tiny_bert: Path) -> None:
    beyond = config.Adapter(size=8, layers=(1, 2), init_std=1e-2, activation="gelu")
    for method, option in ((beyond, "--layers"), (config.TopLayers(k=3), "--top-k")):
        with pytest.raises(ConfigError, match=rf"^{option}: .* 2 layers"):
            build(tiny_bert, method, outputs=3)


def test_a_seed_varies_head_and_adapters_and_nothing_else(tiny_bert: Path) -> None:
    located = backbone.locate(str(tiny_bert), offline=True)

    def parameters(seed: int) -> dict[str, list[float]]:
        model = load_model(located, ADAPTER, 3, seed=seed, device="cpu", precision="fp32")
        return {name: p.flatten().tolist() for name, p in model.named_parameters()}

    zero, again, one = parameters(0), parameters(0), parameters(1)
    assert zero == again
    different = {name for name in zero if zero[name] != one[name]}
    drawn = {name for name in adapter_names(0) | adapter_names(1) if name.endswith("weight")}
    assert different == drawn | {"head.weight"}
    places = [zero[name] for name in sorted(drawn) if name.endswith("down.weight")]
    assert len({tuple(values) for values in places}) == 4, "each adapter has a stream of its own"
