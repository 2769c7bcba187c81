"""The closed form against torch's own count of every product that a step does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adaptertune import catalogue, config
from adaptertune.model import backbone, fused
from adaptertune.model.build import load_model
from adaptertune.model.classifier import loss
from adaptertune.model.flops import training_step
from tests.kinds import KINDS

BATCH, LENGTH = 3, 7
METHODS: list[config.Method] = [
    config.Adapter(size=5, init_std=1e-2, activation="gelu"),
    config.Adapter(size=5, init_std=1e-2, activation="gelu", layers=(1,)),
    config.Full(),
    config.Full(pooler="frozen"),
    config.TopLayers(k=1),
    config.TopLayers(k=2),
    config.LayerNorm(),
    config.BitFit(),
    config.LoRA(rank=3, alpha=3.0),
    config.IA3(),
    config.Adapter(size=5, init_std=1e-2, activation="gelu", depth=2, places="attention"),
    config.Adapter(size=5, init_std=1e-2, activation="gelu", layers=(1,), reads="normed"),
    config.Adapter(size=5, init_std=1e-2, activation="gelu", places="feedforward", reads="input"),
    config.Adapter(size=5, init_std=1e-2, activation="gelu", layernorms="none", pooler="trained"),
    config.Adapter(
        size=5,
        init_std=1e-2,
        activation="gelu",
        layernorms="none",
        places="feedforward",
        reads="normed",
    ),
    config.Adapter(
        size=5, init_std=1e-2, activation="gelu", layernorms="none", places="attention", layers=(1,)
    ),
    config.Adapter(size=5, init_std=1e-2, activation="gelu", layernorms=(0,), layers=(1,)),
    config.Adapter(size=5, init_std=1e-2, activation="gelu", layernorms=(1,), layers=(0,)),
]


@pytest.mark.parametrize("kind", ["bert", *KINDS])
@pytest.mark.parametrize(
    ("method", "known_layers"), [*((method, 0) for method in METHODS), (METHODS[1], 1)], ids=str
)
def test_as_torch_counts(
    tiny_bert: Path,
    tiny_kind: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    method: config.Method,
    known_layers: int,
) -> None:
    # torch does not look into the fused layers' oneDNN calls; the generic ones do the same products.
    monkeypatch.setattr(fused, "is_supported", lambda _: False)
    folder = tiny_bert if kind == "bert" else tiny_kind(kind)
    located = backbone.locate(str(folder), offline=True)
    model = load_model(located, method, 3, seed=0, device="cpu", precision="fp32")
    tokens = torch.from_numpy(np.random.default_rng(0).integers(5, 50, (BATCH, LENGTH)))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, 4:] = False
    segments = torch.zeros_like(tokens)
    hidden = model.trunk(tokens, segments, mask) if known_layers else None
    assert model.trunk_depth >= known_layers
    with FlopCounterMode(display=False) as counted:
        value = loss(model(tokens, segments, mask, hidden=hidden), torch.tensor([0, 1, 2]))
        in_forward = counted.get_total_flops()
        value.backward()  # type: ignore[no-untyped-call]
    flops = training_step(located.shape, method, 3, BATCH, LENGTH, known_layers=known_layers)
    assert flops.forward == in_forward
    assert flops.total == counted.get_total_flops()


def test_full_fine_tuning_of_bert_base_is_about_six_operations_a_weight_and_token() -> None:
    """The rule of thumb; attention adds to it and the last layer's single position takes away."""
    shape = catalogue.known_backbones()[catalogue.DEFAULT].shape
    weights = shape.layers * (4 * shape.width**2 + 2 * shape.width * shape.intermediate)
    flops = training_step(shape, config.Full(), 2, 32, 128)
    assert 0.92 < flops.total / (6 * weights * 32 * 128) < 1.0
