"""The forward pass of BERT and its kin over the pre-trained modules themselves, made for training speed.

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
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from adaptertune.model import fused
from adaptertune.model.adapter import Adapter, linear, linear_of_each
from adaptertune.model.dropout import Dropout
from adaptertune.model.encoder import Encoder
from adaptertune.model.inject import AdaptedOutput

# Kinds of call that one compiled layer meets: first in the model or not, last or not, adapted or not,
# padded or not, training or not, one model or several. Each is compiled when it first comes up.
COMPILED_KINDS = 64
MOST_COMPILED = 4  # methods whose kinds these hold
_compiled_for: set[Hashable] = set()
# Of attention on a GPU: all of torch's but cuDNN's, which newer GPUs would take first. Some of these
# round the share that is dropped to sixteenths (pytorch#174245), and of a row without a token, as there
# is where seeds train in one pass, they can make numbers that are none (pytorch#196678).
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Relative(NamedTuple):
    """DeBERTa's positions in attention.

    ``states``: (models, rows, width), of distances between tokens. ``row_of``: int64 (length, length),
    the row of each query's distance to each key.
    """

    states: torch.Tensor
    row_of: torch.Tensor


def set_compute_type(bert: Encoder, dtype: torch.dtype) -> None:
    """Hold the frozen weights of products and tables in ``dtype``, the other parameters in fp32.

    Frozen query, key and value lie one behind the other, so that they are one product as they are.
    """
    for module in bert.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            for parameter in module.parameters(recurse=False):
                held = torch.float32 if parameter.requires_grad else dtype
                parameter.data = parameter.data.to(held)
    for layer in bert.encoder.layer:
        block = layer.attention.self
        products = block.query, block.key, block.value
        if not all(type(product) is nn.Linear for product in products):
            continue
        for kind in ("weight", "bias"):
            parts = [getattr(product, kind) for product in products]
            if not any(part.requires_grad for part in parts):
                joined = torch.cat([part.data for part in parts])
                for part, piece in zip(parts, joined.chunk(3), strict=True):
                    part.data = piece


def hold_for_answers(bert: Encoder, dtype: torch.dtype) -> None:
    """Hold what trained in products in ``dtype`` as well, in which it would be cast in every pass.

    Logits stay the same, bitwise; the model can no longer train.
    """
    for layer in bert.encoder.layer:
        block = layer.attention.self
        parts = [block.query, block.key, block.value, layer.intermediate.dense]
        for output in (layer.attention.output, layer.output):
            parts.append(output.dense)
            if isinstance(output, AdaptedOutput):
                parts += output.adapter.modules()
        for part in parts:
            if isinstance(part, nn.Linear):  # a stand-in for one has its own ways
                for parameter in part.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)


def trunk(
    berts: Sequence[Encoder],
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
    berts: Sequence[Encoder],
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: Dropout | None,
    depth: int,
    *,
    compiled: bool,
) -> torch.Tensor:
    """The layers from ``depth`` on, and what the head reads of them: (batch, width).

    ``hidden``: what :func:`trunk` gives; the others as there.
    """
    upper = range(depth, len(berts[0].encoder.layer))
    bias = attention_bias(mask, hidden.dtype)
    # All that is read of the last layer is its first position, so only that one is computed.
    first = apply_layers(berts, upper, hidden, bias, dropout, compiled=compiled, only_first=True)
    return pool(berts, first[:, 0])


def pool(berts: Sequence[Encoder], first: torch.Tensor) -> torch.Tensor:
    """``tanh(pooler(first))`` of the first token's states, or these as they are without a pooler."""
    poolers = [bert.pooler.dense for bert in berts if bert.pooler is not None]
    if not poolers:
        return first
    if len(poolers) > 1 and poolers[0].weight.requires_grad:  # each has its own
        rows = first.view(len(berts), -1, first.shape[-1])
        return torch.tanh(linear_of_each(poolers, rows).flatten(0, 1))
    return torch.tanh(linear(poolers[0], first))


def apply_layers(
    berts: Sequence[Encoder],
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
    relative = _relative(berts, hidden)

    def is_fused(index: int) -> bool:
        is_single = len(berts) == 1 and not compiled
        return is_single and fused.is_supported(hidden) and has_fused_layer(berts[0], index)

    one = compiled_layer() if compiled else transformer_layer
    with _attention_kernels(hidden.device):
        for in_one_node, group in groupby(indices, is_fused):
            chosen = list(group)
            ends_first = only_first and chosen[-1] == indices[-1]
            if in_one_node:
                layers = [berts[0].encoder.layer[index] for index in chosen]
                hidden = fused.transformer_layers(
                    layers, hidden, bias, dropout, only_first=ends_first
                )
                continue
            for index in chosen:
                layers = [bert.encoder.layer[index] for bert in berts]
                is_last = ends_first and index == chosen[-1]
                hidden = one(layers, hidden, bias, dropout, relative, only_first=is_last)
    return hidden


def _attention_kernels(device: torch.device) -> AbstractContextManager[None]:
    """Those that may compute attention within the block; a CPU's is written out below."""
    return nullcontext() if device.type == "cpu" else sdpa_kernel(KERNELS)


def has_fused_layer(bert: Encoder, index: int) -> bool:
    """Whether ``fused.py`` has what a layer computes."""
    is_plain = bert.activation == "gelu" and bert.embeddings.relative is None
    return is_plain and fused.covers(bert.encoder.layer[index])


@cache
def compiled_layer(backend: str = "inductor") -> Callable[..., torch.Tensor]:
    """:func:`transformer_layer` by ``torch.compile``, for all layers and models of this process.

    A layer is the unit, for a whole model would take its number of layers as long to compile. Batch
    and length are unknowns in it, so neither a new length nor an epoch's short last batch compiles
    anew. On a CPU it only needs longer.
    """
    torch._dynamo.config.recompile_limit = COMPILED_KINDS  # at 8, all others would stay as they are
    return torch.compile(transformer_layer, dynamic=True, fullgraph=True, backend=backend)


def make_room_to_compile(what: Hashable) -> None:
    """Forget what was compiled if this is another method and there are many: their kinds of call add
    up, and past ``COMPILED_KINDS`` torch gives up.
    """
    if what in _compiled_for:
        return
    if len(_compiled_for) == MOST_COMPILED:
        _compiled_for.clear()
        torch._dynamo.reset()
        compiled_layer.cache_clear()
    _compiled_for.add(what)


def embed(
    berts: Sequence[Encoder],
    tokens: torch.Tensor,
    segments: torch.Tensor,
    dtype: torch.dtype,
    dropout: Dropout | None,
) -> torch.Tensor:
    """int64 (batch, length) twice -> (batch, length, width)."""
    tables = berts[0].embeddings
    types, positions = tables.token_type_embeddings, tables.position_embeddings
    hidden = functional.embedding(tokens, tables.word_embeddings.weight)
    if types is not None:
        # RoBERTa has one type for both texts.
        of_token = (
            functional.embedding(segments, types.weight) if len(types.weight) > 1 else types.weight
        )
        hidden = hidden + of_token
    if positions is not None:
        first = berts[0].first_position
        hidden = hidden + positions.weight[first : first + tokens.shape[1]]
    hidden = _norm([bert.embeddings.LayerNorm for bert in berts], hidden.to(dtype))
    if dropout is not None:
        hidden = dropout(hidden, tables.dropout.p)
    return hidden if tables.projection is None else linear(tables.projection, hidden)


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
    relative: Relative | None = None,
    *,
    only_first: bool = False,
) -> torch.Tensor:
    """One layer: (batch, length, width) -> the same, or (batch, 1, width) with ``only_first``.

    ``layers``: that of each model.
    """
    shared = layers[0]
    attended = _attention(shared.attention.self, hidden, bias, dropout, relative, only_first)
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
    relative: Relative | None,
    only_first: bool,
) -> torch.Tensor:
    """Multi-head self-attention: (batch, length, width) -> (batch, length or 1, width)."""
    heads = block.num_attention_heads
    if only_first:
        (query,) = _split_heads((block.query,), hidden[:, :1], heads)
        key, value = _split_heads((block.key, block.value), hidden, heads)
    else:
        query, key, value = _split_heads((block.query, block.key, block.value), hidden, heads)
    size, scale = query.shape[-1], None
    if relative is not None:
        # Three terms are summed: content to content, content to position, position to content.
        size = 3 * size
        scale = 1 / math.sqrt(size)
        added = scale * _relative_scores(block, query, key, relative, dropout)
        bias = added if bias is None else added + bias
    rate = 0.0 if dropout is None else block.dropout.p
    if hidden.device.type == "cpu":  # torch's fused kernel has no dropout of ours
        scores = query @ key.transpose(-1, -2) / math.sqrt(size)
        weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
        mixed = (weights if dropout is None else dropout(weights, rate)) @ value
    else:
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=rate, scale=scale
        )
    return mixed.transpose(1, 2).flatten(2)


def _relative(berts: Sequence[Encoder], hidden: torch.Tensor) -> Relative | None:
    """The states of all distances that occur; None for models that have no such thing."""
    tables = [bert.embeddings.relative for bert in berts]
    if tables[0] is None:
        return None
    rows, row_of = tables[0].rows(hidden.shape[1], hidden.device)
    states = tables[0].table.weight[rows].to(hidden.dtype)
    return Relative(torch.stack([_norm([table.LayerNorm], states) for table in tables]), row_of)


def _relative_scores(
    block: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    relative: Relative,
    dropout: Dropout | None,
) -> torch.Tensor:
    """Content to position and position to content (He et al. 2021, equation 4), not yet scaled.

    Two times (batch, heads, queries or length, size) -> (batch, heads, queries, length).
    """
    states = relative.states
    if dropout is not None:
        states = dropout(states, block.position_dropout.p)
    models, rows = states.shape[:2]
    heads, size = query.shape[1], query.shape[3]
    of_query, of_key = (
        linear(module, states).view(models, rows, heads, size).transpose(1, 2)[:, None]
        for module in (block.query, block.key)
    )  # (models, 1, heads, rows, size) each
    by_model = (models, -1, heads)
    to_position = query.reshape(*by_model, *query.shape[2:]) @ of_key.mT
    from_position = of_query @ key.reshape(*by_model, *key.shape[2:]).mT
    where = relative.row_of[: query.shape[2]].expand(*query.shape[:2], -1, -1)
    found: torch.Tensor = to_position.flatten(0, 1).gather(-1, where)  # of (…, queries, rows)
    return found + from_position.flatten(0, 1).gather(-2, where)  # of (…, rows, length)


def _split_heads(
    modules: Sequence[nn.Linear], hidden: torch.Tensor, heads: int
) -> tuple[torch.Tensor, ...]:
    """Linear layers, as one product if all are plain; each (batch, heads, length, width / heads)."""
    batch, length, width = hidden.shape
    if not all(isinstance(module, nn.Linear) for module in modules):
        shape = (batch, length, heads, width // heads)
        return tuple(linear(module, hidden).view(shape).transpose(1, 2) for module in modules)
    weight, bias = (
        _joined([getattr(module, kind).to(hidden.dtype) for module in modules])
        for kind in ("weight", "bias")
    )
    joined = functional.linear(hidden, weight, bias)
    split = joined.view(batch, length, len(modules), heads, width // heads)
    return split.permute(2, 0, 3, 1, 4).unbind()


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The parts one behind the other, without a copy where they are frozen and lie so."""
    if torch.compiler.is_compiling() or any(part.requires_grad for part in parts):
        return torch.cat(list(parts))
    return fused.joined(parts)


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
