"""BERT's forward pass over a transformers ``BertModel``'s own parameters, made for training speed.

Equal to transformers' (a test holds them together), but: the hidden states run in the compute type
throughout, query, key and value are one product, the attention's mask and scale are part of its
product, its backward pass is written out, and dropout comes from ``dropout.py``. A parameter that
trains is fp32 and is cast where it is used; a frozen one already has the compute type.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from adaptertune.model.adapter import linear
from adaptertune.model.dropout import Dropout
from adaptertune.model.inject import AdaptedOutput

if TYPE_CHECKING:
    from transformers import BertModel


def set_compute_type(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold the frozen weights of products and tables in ``dtype``, the other parameters in fp32."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            for parameter in module.parameters(recurse=False):
                held = torch.float32 if parameter.requires_grad else dtype
                parameter.data = parameter.data.to(held)


def pooled(
    bert: BertModel,
    tokens: torch.Tensor,
    segments: torch.Tensor,
    mask: torch.Tensor | None,
    dtype: torch.dtype,
    dropout: Dropout | None,
) -> torch.Tensor:
    """The pooled output, ``tanh(pooler([CLS]))``.

    Args:
        tokens: int64 (batch, length); ``segments`` likewise.
        mask: bool (batch, length), True where a token is; None if nothing is padded.
        dtype: the compute type.
        dropout: this step's, or None for evaluation.

    Returns:
        (batch, width)
    """
    hidden = embed(bert, tokens, segments, dtype, dropout)
    bias = attention_bias(mask, dtype)
    for layer in bert.encoder.layer:
        hidden = transformer_layer(layer, hidden, bias, dropout)
    return torch.tanh(linear(bert.pooler.dense, hidden[:, 0]))


def embed(
    bert: BertModel,
    tokens: torch.Tensor,
    segments: torch.Tensor,
    dtype: torch.dtype,
    dropout: Dropout | None,
) -> torch.Tensor:
    """int64 (batch, length) twice -> (batch, length, width)."""
    tables = bert.embeddings
    hidden = functional.embedding(tokens, tables.word_embeddings.weight)
    hidden = hidden + functional.embedding(segments, tables.token_type_embeddings.weight)
    hidden = hidden + tables.position_embeddings.weight[: tokens.shape[1]]
    hidden = _norm(tables.LayerNorm, hidden.to(dtype))
    return hidden if dropout is None else dropout(hidden, tables.dropout.p)


def attention_bias(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """(batch, 1, 1, length): 0 where a token is, the most negative number elsewhere."""
    if mask is None:
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min)[:, None, None, :]


def transformer_layer(
    layer: Any, hidden: torch.Tensor, bias: torch.Tensor | None, dropout: Dropout | None
) -> torch.Tensor:
    """One layer: (batch, length, width) -> the same."""
    attended = _attention(layer.attention.self, hidden, bias, dropout)
    hidden = _output(layer.attention.output, attended, hidden, dropout)
    inner = layer.intermediate.intermediate_act_fn(linear(layer.intermediate.dense, hidden))
    return _output(layer.output, inner, hidden, dropout)


def _output(
    block: Any, hidden: torch.Tensor, residual: torch.Tensor, dropout: Dropout | None
) -> torch.Tensor:
    """``LayerNorm(adapter(dropout(dense(hidden))) + residual)``; the adapter where there is one."""
    hidden = linear(block.dense, hidden)
    if dropout is not None:
        hidden = dropout(hidden, block.dropout.p)
    if isinstance(block, AdaptedOutput) and not block.removed:
        hidden = block.adapter(hidden)
    return _norm(block.LayerNorm, hidden + residual)


def _attention(
    block: Any, hidden: torch.Tensor, bias: torch.Tensor | None, dropout: Dropout | None
) -> torch.Tensor:
    """Multi-head self-attention: (batch, length, width) -> the same."""
    batch, length, width = hidden.shape
    heads = block.num_attention_heads
    parts = (block.query, block.key, block.value)
    weight = torch.cat([part.weight.to(hidden.dtype) for part in parts])
    shift = torch.cat([part.bias.to(hidden.dtype) for part in parts])
    together = functional.linear(hidden, weight, shift)  # (batch, length, 3 * width)
    rate = 0.0 if dropout is None else block.dropout.p
    if hidden.device.type == "cpu":
        keep, factor = None, 1.0
        if dropout is not None and rate > 0:
            square = torch.Size((batch * heads, length, length))
            keep, factor = dropout.mask(square, rate, hidden.dtype)
        mixed: torch.Tensor = _Attend.apply(together, bias, keep, factor, heads)  # type: ignore[no-untyped-call]
        return mixed
    split = together.view(batch, length, 3, heads, width // heads)
    query, key, value = split.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width / heads)
    mixed = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=bias, dropout_p=rate
    )
    return mixed.transpose(1, 2).reshape(batch, length, width)


class _Attend(torch.autograd.Function):
    """``dropout(softmax(q k' / sqrt(d) + bias)) v`` for a CPU, with its backward pass written out.

    At GLUE's lengths this beats torch's fused kernel, which has no dropout on a CPU, and what
    autograd would make of the formula, which keeps and passes over twice as many tensors.
    """

    @staticmethod
    def forward(
        ctx: Any,
        together: torch.Tensor,
        bias: torch.Tensor | None,
        keep: torch.Tensor | None,
        factor: float,
        heads: int,
    ) -> torch.Tensor:
        """(batch, length, 3 * width) -> (batch, length, width).

        ``keep``: (batch * heads, length, length) ones and zeros, or None; what it leaves is scaled by
        ``factor``.
        """
        batch, length, triple = together.shape
        size = triple // 3 // heads
        scale = 1 / math.sqrt(size)
        split = together.view(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4)
        query, key, value = split.reshape(3, batch * heads, length, size)
        if bias is None:
            scores = torch.bmm(query, key.transpose(1, 2)).mul_(scale)
        else:
            added = bias.expand(batch, heads, length, length).reshape(-1, length, length)
            scores = torch.baddbmm(added, query, key.transpose(1, 2), alpha=scale)
        weights = torch.softmax(scores, dim=-1)
        dropped = weights if keep is None else weights * keep
        mixed = torch.baddbmm(value, dropped, value, beta=0, alpha=factor)
        ctx.save_for_backward(query, key, value, weights, dropped, keep)
        ctx.scale, ctx.factor, ctx.heads = scale, factor, heads
        mixed = mixed.view(batch, heads, length, size).transpose(1, 2)
        return mixed.reshape(batch, length, heads * size)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """The gradient of ``together``."""
        query, key, value, weights, dropped, keep = ctx.saved_tensors
        batch, length, width = gradients[0].shape
        size = width // ctx.heads
        split = gradients[0].view(batch, length, ctx.heads, size).transpose(1, 2)
        gradient = split.reshape(-1, length, size)
        found = torch.empty((3, *query.shape), dtype=query.dtype)
        of_query, of_key, of_value = found

        def product(
            left: torch.Tensor, right: torch.Tensor, alpha: float, out: torch.Tensor
        ) -> None:
            torch.baddbmm(out, left, right, beta=0, alpha=alpha, out=out)

        product(dropped.transpose(1, 2), gradient, ctx.factor, of_value)
        of_weights = torch.empty_like(weights)
        product(gradient, value.transpose(1, 2), ctx.factor, of_weights)
        if keep is not None:
            of_weights.mul_(keep)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        product(of_scores, key, ctx.scale, of_query)
        product(of_scores.transpose(1, 2), query, ctx.scale, of_key)
        joined = found.view(3, batch, ctx.heads, length, size).permute(1, 3, 0, 2, 4)
        return joined.reshape(batch, length, 3 * width), None, None, None, None


def _norm(module: nn.LayerNorm, hidden: torch.Tensor) -> torch.Tensor:
    """LayerNorm in fp32 inside, whatever the hidden states are."""
    shape = module.normalized_shape
    if hidden.device.type == "cpu":  # takes bf16 with fp32 parameters as it is
        return functional.layer_norm(hidden, shape, module.weight, module.bias, module.eps)
    normed = functional.layer_norm(hidden.float(), shape, module.weight, module.bias, module.eps)
    return normed.to(hidden.dtype)
