"""AdamW, schedule and clipping against numpy written from the official code's update rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adaptertune.train.optim import AdamW, is_decayed, linear_schedule


def schedule(step: int, num_steps: int, num_warmup: int) -> float:
    """optimization.py of the official code: polynomial decay of power 1, warm-up laid over it."""
    decayed = (1.0 - 0.0) * (1 - step / num_steps)
    return step / num_warmup if step < num_warmup else decayed


@pytest.mark.parametrize("bias_correction", [True, False])
def test_update_equals_the_official_rule(bias_correction: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(generator=generator)
    expected: dict[str, Any] = {
        n: p.detach().double().numpy().copy() for n, p in layer.named_parameters()
    }
    first = {name: np.zeros_like(value) for name, value in expected.items()}
    second = {name: np.zeros_like(value) for name, value in expected.items()}
    num_steps, rate, decay, eps, clip = 20, 1e-2, 0.1, 1e-6, 1.0
    optimizer = AdamW(
        layer.named_parameters(), learning_rate=rate, num_steps=num_steps, warmup=0.2,
        weight_decay=decay, epsilon=eps, clip_norm=clip, bias_correction=bias_correction,
    )  # fmt: skip
    assert [len(flat.named) for flat in optimizer._flats] == [2, 2], "each joins several"
    for step in range(num_steps):
        gradients = {}
        for name, p in layer.named_parameters():
            p.grad = torch.randn(p.shape, generator=generator)
            gradients[name] = p.grad.double().numpy().copy()
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        factor = min(1.0, clip / norm)
        now = rate * schedule(step, num_steps, 4)
        for name, gradient in gradients.items():
            g = gradient * factor
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            m, v = first[name], second[name]
            if bias_correction:
                m, v = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            update = m / (np.sqrt(v) + eps)
            if name.endswith("weight"):
                update = update + decay * expected[name]
            expected[name] = expected[name] - now * update
        optimizer.step()
        for name, p in layer.named_parameters():
            assert p.grad is None
            np.testing.assert_allclose(p.detach().numpy(), expected[name], rtol=2e-5, atol=1e-6)


def test_schedule() -> None:
    factors = [linear_schedule(step, 100, 0.1) for step in range(100)]
    assert factors[:3] == [0.0, 0.1, 0.2]
    assert factors[10] == pytest.approx(0.9)
    assert max(factors) == factors[9] == factors[10]
    assert factors[99] == pytest.approx(0.01)
    assert linear_schedule(0, 10, 0.0) == 1.0, "no warm-up begins at the top"


def test_biases_norms_and_factors_are_not_decayed() -> None:
    decayed = {
        "backbone.encoder.layer.0.output.adapter.down.weight": True,
        "backbone.encoder.layer.0.output.adapter.down.bias": False,
        "backbone.encoder.layer.0.output.LayerNorm.weight": False,
        "backbone.encoder.layer.0.output.adapter.norm.weight": False,
        "backbone.encoder.layer.0.output.dense.ia3_l.default": False,
        "backbone.encoder.layer.0.attention.self.query.lora_A.default.weight": True,
        "head.weight": True,
        "head.bias": False,
    }
    assert {name: is_decayed(name) for name in decayed} == decayed
