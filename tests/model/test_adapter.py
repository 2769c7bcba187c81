"""The adapter and the adapted BERT against a forward pass in numpy, written from the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special

from adaptertune.model.adapter import ACTIVATIONS, Adapter

Array = Any


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


FORMULAS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "swish": lambda x: x * sigmoid(x),
}


def make(width: int = 24, size: int = 8, std: float = 0.5, activation: str = "gelu") -> Adapter:
    generator = torch.Generator().manual_seed(0)
    return Adapter(width, size, init_std=std, activation=activation, generator=generator)


def weights(adapter: Adapter) -> dict[str, Array]:
    return {name: p.detach().double().numpy() for name, p in adapter.named_parameters()}


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_adapter_equals_its_formula(activation: str) -> None:
    adapter = make(activation=activation)
    with torch.no_grad():
        for bias in (adapter.down.bias, adapter.up.bias):
            bias.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(2))
    w, given = weights(adapter), x.double().numpy()
    hidden = FORMULAS[activation](given @ w["down.weight"].T + w["down.bias"])
    expected = given + hidden @ w["up.weight"].T + w["up.bias"]
    np.testing.assert_allclose(adapter(x).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("std", [1e-2, 1e-3])
def test_initial_weights_are_a_truncated_gaussian_with_zero_biases(std: float) -> None:
    adapter = make(width=384, size=256, std=std)
    # Standard deviation of a standard normal truncated at two: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
    phi = math.exp(-2) / math.sqrt(2 * math.pi)
    truncated = math.sqrt(1 - 4 * phi / math.erf(2 / math.sqrt(2)))
    for projection in (adapter.down, adapter.up):
        values = projection.weight.detach().numpy() / std
        assert np.abs(values).max() <= 2
        assert np.abs(values).max() > 1.99
        assert abs(values.mean()) < 0.02
        assert abs(values.std() / truncated - 1) < 0.01
        assert not projection.bias.detach().numpy().any()


def test_near_identity_at_first() -> None:
    adapter = make(width=384, size=64, std=1e-2)
    x = torch.randn(64, 384, generator=torch.Generator().manual_seed(3))
    change = (adapter(x) - x).norm() / x.norm()
    assert 0 < change < 0.05


def numpy_bert(model: Any, tokens: Array, segments: Array, mask: Array) -> Array:
    """The pooled output of an adapted BERT in fp64, from the formulas of the two papers."""
    config = model.config
    w = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    heads, width = config.num_attention_heads, config.hidden_size

    def dense(x: Array, name: str) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_eps)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def adapt(x: Array, name: str) -> Array:
        if f"{name}.adapter.down.weight" not in w:
            return x
        return x + dense(gelu(dense(x, f"{name}.adapter.down")), f"{name}.adapter.up")

    def split(x: Array) -> Array:  # (batch, length, width) -> (batch, heads, length, width / heads)
        return x.reshape(*x.shape[:2], heads, width // heads).transpose(0, 2, 1, 3)

    x = (
        w["embeddings.word_embeddings.weight"][tokens]
        + w["embeddings.token_type_embeddings.weight"][segments]
        + w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    )
    x = norm(x, "embeddings.LayerNorm")
    for index in range(config.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        query, key, value = (
            split(dense(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(width // heads)
        scores = np.where(mask[:, None, None, :], scores, -np.inf)
        attention = special.softmax(scores, axis=-1) @ value
        attention = attention.transpose(0, 2, 1, 3).reshape(x.shape)
        attended = f"{layer}.attention.output"
        x = norm(
            adapt(dense(attention, f"{attended}.dense"), attended) + x, f"{attended}.LayerNorm"
        )
        inner = gelu(dense(x, f"{layer}.intermediate.dense"))
        output = f"{layer}.output"
        x = norm(adapt(dense(inner, f"{output}.dense"), output) + x, f"{output}.LayerNorm")
    return np.tanh(dense(x[:, 0], "pooler.dense"))


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(5, 50, (3, 11), generator=generator)
    segments = (torch.arange(11) > 5).long().expand(3, 11).clone()
    mask = torch.arange(11) < torch.tensor([[11], [8], [4]])
    return tokens, segments, mask


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layers", [(), (1,), (0, 1)])
def test_adapted_bert_equals_the_formula(
    tiny_bert: Path, layers: tuple[int, ...], attention: str
) -> None:
    from adaptertune.model import backbone
    from adaptertune.model.inject import insert_adapters

    model = backbone.load(backbone.locate(str(tiny_bert), offline=True), attention=attention)
    insert_adapters(model, layers, lambda layer, place: make(32, 8 + layer, std=0.3))
    tokens, segments, mask = batch()
    with torch.no_grad():
        got = model(tokens, attention_mask=mask, token_type_ids=segments).pooler_output.numpy()
    expected = numpy_bert(model, tokens.numpy(), segments.numpy(), mask.numpy())
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_zero_up_projections_are_bitwise_the_plain_bert(tiny_bert: Path) -> None:
    from adaptertune.model import backbone
    from adaptertune.model.inject import adapted_outputs, insert_adapters

    located = backbone.locate(str(tiny_bert), offline=True)
    plain, adapted = (backbone.load(located, attention="eager") for _ in range(2))
    insert_adapters(adapted, range(2), lambda layer, place: make(32, 8))
    tokens, segments, mask = batch()

    def run(model: Any) -> Any:
        with torch.no_grad():
            return model(tokens, attention_mask=mask, token_type_ids=segments)

    assert not torch.equal(run(adapted).last_hidden_state, run(plain).last_hidden_state)
    for _, block in adapted_outputs(adapted):
        torch.nn.init.zeros_(block.adapter.up.weight)
    assert torch.equal(run(adapted).last_hidden_state, run(plain).last_hidden_state)
    assert torch.equal(run(adapted).pooler_output, run(plain).pooler_output)


def test_removed_adapters_are_bitwise_the_plain_bert_and_come_back(tiny_bert: Path) -> None:
    from adaptertune.model import backbone
    from adaptertune.model.inject import adapters_removed, insert_adapters

    located = backbone.locate(str(tiny_bert), offline=True)
    plain, adapted = (backbone.load(located, attention="eager") for _ in range(2))
    insert_adapters(adapted, range(2), lambda layer, place: make(32, 8))
    tokens, segments, mask = batch()

    def run(model: Any) -> torch.Tensor:
        with torch.no_grad():
            hidden: torch.Tensor = model(tokens, attention_mask=mask, token_type_ids=segments)[0]
        return hidden

    before = run(adapted)
    with adapters_removed(adapted, layers=[0, 1]):
        assert torch.equal(run(adapted), run(plain))
        with adapters_removed(adapted, layers=[1]):
            pass
        assert torch.equal(run(adapted), run(plain)), "an inner block must not bring them back"

    def fail() -> None:
        with adapters_removed(adapted, layers=[0]):
            assert not torch.equal(run(adapted), before)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert torch.equal(run(adapted), before)


def test_near_identity_start_survives_loading(tiny_bert: Path) -> None:
    """transformers re-initialises unknown modules while loading; ours are put in after it."""
    from adaptertune.config import Adapter as AdapterMethod
    from adaptertune.model import backbone
    from adaptertune.model.build import load_model
    from adaptertune.model.methods import prepare

    located = backbone.locate(str(tiny_bert), offline=True)
    method = AdapterMethod(size=16, init_std=1e-4, activation="gelu")
    model = load_model(located, method, 2, seed=0, device="cpu", precision="fp32")
    stds = [p.std().item() for name, p in model.named_parameters() if name.endswith("up.weight")]
    assert len(stds) == 4
    assert max(stds) < 1.1e-4
    with pytest.raises(ValueError, match="has adapters already"):
        prepare(model, method, 0)
