"""BERT's forward pass over a transformers ``BertModel``'s own parameters, made for training speed.

Equal to transformers' (a test holds them together), but: the hidden states run in the compute type
throughout, query, key and value are one product, the last layer computes its first position only, and
dropout comes from ``dropout.py``. A parameter that trains is fp32 and is cast where it is used; a
frozen one already has the compute type. On a CPU a single model's layers are those of ``fused.py``;
on CUDA ``torch.compile`` may make kernels of :func:`transformer_layer`.

Several models over the same frozen weights run in one pass: their batches lie one behind the other
(models * batch, length, width), what is frozen is one product over all of them, and adapters and
LayerNorms are batched products, each model's over its own rows. Every function takes the models' modules
as a sequence, mostly of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from adaptertune.model import fused
from adaptertune.model.adapter import Adapter, linear, linear_of_each
from adaptertune.model.dropout import Dropout
from adaptertune.model.inject import AdaptedOutput

if TYPE_CHECKING:
    from transformers import BertModel

# Kinds of call that one compiled layer meets: first in the model or not, last or not, adapted or not,
# padded or not, training or not, one model or several. Each is compiled when it first comes up.
COMPILED_KINDS = 64


def set_compute_type(bert: BertModel, dtype: torch.dtype) -> None:
    """Hold the frozen weights of products and tables in ``dtype``, the other parameters in fp32.

    Frozen query, key and value lie one behind the other, so that they are one product as they are.
    """
    for module in bert.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            for parameter in module.parameters(recurse=False):
                held = torch.float32 if parameter.requires_grad else dtype
                parameter.data = parameter.data.to(held)
    for layer in bert.encoder.layer:
        if not fused.covers(layer):
            continue
        block = layer.attention.self
        for kind in ("weight", "bias"):
            parts = [getattr(part, kind) for part in (block.query, block.key, block.value)]
            if not any(part.requires_grad for part in parts):
                joined = torch.cat([part.data for part in parts])
                for part, piece in zip(parts, joined.chunk(3), strict=True):
                    part.data = piece


def trunk(
    berts: Sequence[BertModel],
    tokens: torch.Tensor,
    segments: torch.Tensor,
    mask: torch.Tensor | None,
    dtype: torch.dtype,
    dropout: Dropout | None,
    depth: int,
    *,
    compiled: bool,
) -> torch.Tensor:
    """Embeddings and the ``depth`` lowest layers: (batch, length, width).

    Args:
        tokens: int64 (batch, length); ``segments`` likewise.
        mask: bool (batch, length), True where a token is; None if nothing is padded.
        dtype: the compute type.
        dropout: this step's, or None for none.
        compiled: whether the layers are those of :func:`compiled_layer`.
    """
    hidden = embed(berts, tokens, segments, dtype, dropout)
    bias = attention_bias(mask, dtype)
    return apply_layers(berts, range(depth), hidden, bias, dropout, compiled=compiled)


def pooled(
    berts: Sequence[BertModel],
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: Dropout | None,
    depth: int,
    *,
    compiled: bool,
) -> torch.Tensor:
    """The layers from ``depth`` on and the pooler: ``tanh(pooler([CLS]))``, (batch, width).

    ``hidden``: what :func:`trunk` gives; the others as there.
    """
    upper = range(depth, len(berts[0].encoder.layer))
    bias = attention_bias(mask, hidden.dtype)
    # All that is read of the last layer is its first position, so only that one is computed.
    first = apply_layers(berts, upper, hidden, bias, dropout, compiled=compiled, only_first=True)
    poolers, rows = [bert.pooler.dense for bert in berts], first[:, 0]
    if len(poolers) > 1 and poolers[0].weight.requires_grad:  # each has its own
        return torch.tanh(
            linear_of_each(poolers, rows.view(len(berts), -1, rows.shape[-1])).flatten(0, 1)
        )
    return torch.tanh(linear(poolers[0], rows))


def apply_layers(
    berts: Sequence[BertModel],
    indices: range,
    hidden: torch.Tensor,
    bias: torch.Tensor | None,
    dropout: Dropout | None,
    *,
    compiled: bool,
    only_first: bool = False,
) -> torch.Tensor:
    """Layers one above the other, each by the fastest way that holds: as :func:`transformer_layer`.

    With ``only_first`` the uppermost gives its first position only.
    """

    def is_fused(index: int) -> bool:
        is_plain = len(berts) == 1 and berts[0].config.hidden_act == "gelu" and not compiled
        return (
            is_plain and fused.is_supported(hidden) and fused.covers(berts[0].encoder.layer[index])
        )

    one = compiled_layer() if compiled else transformer_layer
    for in_one_node, group in groupby(indices, is_fused):
        chosen = list(group)
        ends_first = only_first and chosen[-1] == indices[-1]
        if in_one_node:
            layers = [berts[0].encoder.layer[index] for index in chosen]
            hidden = fused.transformer_layers(layers, hidden, bias, dropout, only_first=ends_first)
            continue
        for index in chosen:
            layers = [bert.encoder.layer[index] for bert in berts]
            is_last = ends_first and index == chosen[-1]
            hidden = one(layers, hidden, bias, dropout, only_first=is_last)
    return hidden


@cache
def compiled_layer(backend: str = "inductor") -> Callable[..., torch.Tensor]:
    """:func:`transformer_layer` by ``torch.compile``, for all layers and models of this process.

    A layer is the unit, for a whole model would take its number of layers as long to compile. Batch
    and length are unknowns in it, so neither a new length nor an epoch's short last batch compiles
    anew. On a CPU it only needs longer.
    """
    torch._dynamo.config.recompile_limit = COMPILED_KINDS  # at 8, all others would stay as they are
    return torch.compile(transformer_layer, dynamic=True, fullgraph=True, backend=backend)


def embed(
    berts: Sequence[BertModel],
    tokens: torch.Tensor,
    segments: torch.Tensor,
    dtype: torch.dtype,
    dropout: Dropout | None,
) -> torch.Tensor:
    """int64 (batch, length) twice -> (batch, length, width)."""
    tables = berts[0].embeddings
    hidden = functional.embedding(tokens, tables.word_embeddings.weight)
    hidden = hidden + functional.embedding(segments, tables.token_type_embeddings.weight)
    hidden = hidden + tables.position_embeddings.weight[: tokens.shape[1]]
    hidden = _norm([bert.embeddings.LayerNorm for bert in berts], hidden.to(dtype))
    return hidden if dropout is None else dropout(hidden, tables.dropout.p)


def attention_bias(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """(batch, 1, 1, length): 0 where a token is, the most negative number elsewhere."""
    if mask is None:
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min)[:, None, None, :]


def transformer_layer(
    layers: Sequence[Any],
    hidden: torch.Tensor,
    bias: torch.Tensor | None,
    dropout: Dropout | None,
    *,
    only_first: bool = False,
) -> torch.Tensor:
    """One layer: (batch, length, width) -> the same, or (batch, 1, width) with ``only_first``.

    ``layers``: that of each model.
    """
    shared = layers[0]
    attended = _attention(shared.attention.self, hidden, bias, dropout, only_first)
    residual = hidden[:, :1] if only_first else hidden
    hidden = _output([layer.attention.output for layer in layers], attended, residual, dropout)
    inner = shared.intermediate.intermediate_act_fn(linear(shared.intermediate.dense, hidden))
    return _output([layer.output for layer in layers], inner, hidden, dropout)


def _output(
    blocks: Sequence[Any],
    hidden: torch.Tensor,
    residual: torch.Tensor,
    dropout: Dropout | None,
) -> torch.Tensor:
    """``LayerNorm(adapter(dropout(dense(hidden))) + residual)``; the adapter where there is one."""
    shared = blocks[0]
    hidden = linear(shared.dense, hidden)
    if dropout is not None:
        hidden = dropout(hidden, shared.dropout.p)
    norms = [block.LayerNorm for block in blocks]
    if isinstance(shared, AdaptedOutput) and not shared.removed:
        read = shared.read(hidden, residual, partial(_norm, norms))
        adapters = [block.adapter for block in blocks]
        hidden = Adapter.of_each(adapters, hidden, read, training=dropout is not None)
    return _norm(norms, hidden + residual)


def _attention(
    block: Any,
    hidden: torch.Tensor,
    bias: torch.Tensor | None,
    dropout: Dropout | None,
    only_first: bool,
) -> torch.Tensor:
    """Multi-head self-attention: (batch, length, width) -> (batch, length or 1, width)."""
    heads = block.num_attention_heads
    if only_first:
        (query,) = _split_heads((block.query,), hidden[:, :1], heads)
        key, value = _split_heads((block.key, block.value), hidden, heads)
    else:
        query, key, value = _split_heads((block.query, block.key, block.value), hidden, heads)
    rate = 0.0 if dropout is None else block.dropout.p
    if hidden.device.type == "cpu":  # torch's fused kernel has no dropout of ours
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
        mixed = (weights if dropout is None else dropout(weights, rate)) @ value
    else:
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=rate
        )
    return mixed.transpose(1, 2).flatten(2)


def _split_heads(
    modules: Sequence[nn.Linear], hidden: torch.Tensor, heads: int
) -> tuple[torch.Tensor, ...]:
    """Linear layers, as one product if all are plain; each (batch, heads, length, width / heads)."""
    batch, length, width = hidden.shape
    if not all(isinstance(module, nn.Linear) for module in modules):
        shape = (batch, length, heads, width // heads)
        return tuple(linear(module, hidden).view(shape).transpose(1, 2) for module in modules)
    weight = torch.cat([module.weight.to(hidden.dtype) for module in modules])
    bias = torch.cat([module.bias.to(hidden.dtype) for module in modules])
    joined = functional.linear(hidden, weight, bias)
    split = joined.view(batch, length, len(modules), heads, width // heads)
    return split.permute(2, 0, 3, 1, 4).unbind()


def _norm(modules: Sequence[nn.LayerNorm], hidden: torch.Tensor) -> torch.Tensor:
    """LayerNorm in fp32 inside, whatever the hidden states are; each module over its own rows."""
    module = modules[0]
    shape, epsilon = module.normalized_shape, module.eps
    if len(modules) > 1:
        plain = functional.layer_norm(hidden.float(), shape, eps=epsilon)
        scale = torch.stack([each.weight for each in modules])[:, None]
        offset = torch.stack([each.bias for each in modules])[:, None]
        rows = plain.view(len(modules), -1, hidden.shape[-1])
        return (rows * scale + offset).view(hidden.shape).to(hidden.dtype)
    if hidden.device.type == "cpu":  # takes bf16 with fp32 parameters as it is
        return functional.layer_norm(hidden, shape, module.weight, module.bias, epsilon)
    normed = functional.layer_norm(hidden.float(), shape, module.weight, module.bias, epsilon)
    return normed.to(hidden.dtype)
