"""Removals that share what they can against adapters really taken out, one whole pass each."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertOutput, BertSelfOutput

from adaptertune import config
from adaptertune.model import forward, fused, removal
from adaptertune.model.classifier import Classifier
from adaptertune.model.encoder import Encoder
from adaptertune.model.methods import prepare
from tests.conftest import as_transformers

ADAPTER = config.Adapter(size=4, init_std=0.5, activation="gelu")


def build(num_layers: int, method: config.Adapter = ADAPTER) -> Classifier:
    shape = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=num_layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bert = BertModel(shape).eval()
    model = Classifier(Encoder(bert), 3, torch.Generator().manual_seed(0))
    prepare(model, method, 0)
    return model.requires_grad_(False)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = torch.randint(0, 40, (3, 9), generator=torch.Generator().manual_seed(1))
    return tokens, (torch.arange(9) > 4).long().expand(3, 9), torch.arange(9) < torch.tensor(
        [[9], [6], [2]]
    )  # fmt: skip


def really_without(model: Classifier, layers: Any) -> torch.Tensor:
    """transformers' own pass over a copy whose output blocks are plain ones in these layers."""
    plain = copy.deepcopy(model)
    bert = plain.backbone
    for index in layers:
        layer = bert.encoder.layer[index]
        for owner, name, kind in (
            (layer.attention, "output", BertSelfOutput),
            (layer, "output", BertOutput),
        ):
            block = kind(bert.config).eval()
            block.dense, block.LayerNorm = (
                getattr(owner, name).dense,
                getattr(owner, name).LayerNorm,
            )
            setattr(owner, name, block)
    tokens, segments, mask = inputs()
    pooled = as_transformers(bert)(
        tokens, attention_mask=mask, token_type_ids=segments
    ).pooler_output
    logits: torch.Tensor = plain.head(pooled)
    return logits


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (0, 2), (3,)])
@pytest.mark.parametrize("variant", [{}, {"reads": "normed", "places": "feedforward"}], ids=str)
def test_equals_brute_force(
    variant: dict[str, str],
    layers: tuple[int, ...],
    is_fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_fused:
        monkeypatch.setattr(fused, "is_supported", lambda _: False)
    model = build(4, ADAPTER.model_copy(update={"layers": layers, **variant}))
    removals = [
        frozenset(chosen)
        for size in range(len(layers) + 1)
        for chosen in itertools.combinations(layers, size)
    ]
    found = removal.logits(model, removals, *inputs())
    assert found.shape == (len(removals), 3, 3)
    for chosen, one in zip(removals, found, strict=True):
        torch.testing.assert_close(one, really_without(model, chosen), atol=1e-5, rtol=1e-5)
    apart = {tuple(one.flatten().tolist()) for one in found}
    assert len(apart) == len(removals), "each choice must matter"


@pytest.mark.parametrize("num_layers", [1, 2, 6, 12])
def test_counts_what_it_computes(num_layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0
    apply_layers = forward.apply_layers

    def counting(berts: Any, indices: range, hidden: torch.Tensor, *rest: Any, **named: Any) -> Any:
        nonlocal computed
        computed += len(hidden)
        return apply_layers(berts, indices, hidden, *rest, **named)

    monkeypatch.setattr(forward, "apply_layers", counting)
    layers = range(num_layers)
    pairs = removal.spans(layers)
    removals = [frozenset(), *(frozenset(range(first, last + 1)) for first, last in pairs)]
    removal.logits(build(num_layers), removals, *inputs())
    expected = num_layers + num_layers * (num_layers + 1) * (num_layers + 2) // 6
    assert removal.num_layer_evaluations(num_layers, removals) == expected == computed / 3
    assert num_layers != 12 or expected == 376
    assert len(pairs) == num_layers * (num_layers + 1) // 2
    assert removal.most_states(num_layers, removals) == len(removals)


def test_an_exception_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = build(3), inputs()
    before = model(*tokens)
    calls = 0
    apply_layers = forward.apply_layers

    def failing(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:  # inside the block that removes
            raise RuntimeError("on purpose")
        return apply_layers(*given, **named)

    monkeypatch.setattr(forward, "apply_layers", failing)
    with pytest.raises(RuntimeError, match="on purpose"):
        removal.logits(model, [frozenset({0, 1})], *tokens)
    monkeypatch.undo()
    assert torch.equal(model(*tokens), before)
