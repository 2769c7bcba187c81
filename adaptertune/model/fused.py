"""A BERT layer for a CPU, its backward pass written out.

Equal to ``forward.transformer_layer`` (a test holds them together), for BERT's own GELU, and faster: a
matrix product takes bias and summand along, what is no longer needed is overwritten, a residual
gradient is added by the product that follows, frozen weights keep no inputs, and there are two
autograd nodes a layer where there were two hundred calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from adaptertune.model.adapter import ACTIVATIONS
from adaptertune.model.dropout import Dropout, scaled_product
from adaptertune.model.inject import AdaptedOutput

Tensor = torch.Tensor
_aten = torch.ops.aten

# Activation -> its derivative times the incoming gradient: (gradient, input, output) -> gradient.
_BACKWARD: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gelu": lambda gradient, before, _: _aten.gelu_backward(gradient, before),
    "gelu_tanh": lambda gradient, before, _: _aten.gelu_backward(
        gradient, before, approximate="tanh"
    ),
    "relu": lambda gradient, before, _: _aten.threshold_backward(gradient, before, 0),
    "tanh": lambda gradient, _, after: _aten.tanh_backward(gradient, after),
    "swish": lambda gradient, before, _: _aten.silu_backward(gradient, before),
}


def is_supported(hidden: Tensor) -> bool:
    """Whether oneDNN is here and takes the type of ``hidden``; else the generic layer serves."""
    if hidden.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return hidden.dtype == torch.float32 or (
        hidden.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def covers(layer: Any) -> bool:
    """Whether a layer has nothing in it but BERT's own modules and plain adapters."""
    attention = layer.attention.self
    products = (
        attention.query, attention.key, attention.value, layer.attention.output.dense,
        layer.intermediate.dense, layer.output.dense,
    )  # fmt: skip
    return all(isinstance(module, torch.nn.Linear) for module in products) and all(
        not isinstance(block, AdaptedOutput) or block.removed or block.adapter.is_plain
        for block in (layer.attention.output, layer.output)
    )


def transformer_layer(
    layer: Any,
    hidden: Tensor,
    bias: Tensor | None,
    dropout: Dropout | None,
    *,
    only_first: bool = False,
) -> Tensor:
    """One layer: (batch, length, width) -> the same, or (batch, 1, width) with ``only_first``."""
    batch, length, _ = hidden.shape
    block = layer.attention.self
    queries = 1 if only_first else length
    parts = (block.query, block.key, block.value)
    keep = None
    if dropout is not None and block.dropout.p > 0:
        square = torch.Size((batch * block.num_attention_heads, queries, length))
        keep = dropout.mask(square, block.dropout.p, hidden.dtype)
    hidden = _AttentionBlock.apply(  # type: ignore[no-untyped-call]
        hidden,
        bias,
        keep,
        block.num_attention_heads,
        only_first,
        _Output.of(layer.attention.output, batch * queries, hidden, dropout),
        torch.cat([part.weight.to(hidden.dtype) for part in parts]),
        torch.cat([part.bias.to(hidden.dtype) for part in parts]),
        *_parameters(layer.attention.output),
    )
    result: Tensor = _FeedForwardBlock.apply(  # type: ignore[no-untyped-call]
        hidden,
        _Output.of(layer.output, batch * queries, hidden, dropout),
        layer.intermediate.dense.weight,
        layer.intermediate.dense.bias,
        *_parameters(layer.output),
    )
    return result


def _parameters(block: Any) -> tuple[Tensor | None, ...]:
    """An output block's: dense, down, up (or None) and LayerNorm; weight and bias of each."""
    if isinstance(block, AdaptedOutput) and not block.removed:
        modules = (block.dense, block.adapter.down, block.adapter.up, block.LayerNorm)
        return tuple(part for module in modules for part in (module.weight, module.bias))
    norm = block.LayerNorm
    return (block.dense.weight, block.dense.bias, None, None, None, None, norm.weight, norm.bias)


class _Output:
    """``LayerNorm(adapter(dropout(dense(inner))) + residual)`` and its backward pass.

    What an output block's calculation needs beside tensors that have gradients: the dropout mask
    and its factor, the adapter's activation, the LayerNorm's epsilon.
    """

    def __init__(self, keep: Tensor | None, factor: float, activation: str, epsilon: float) -> None:
        self.keep, self.factor = keep, factor
        self.activation, self.epsilon = activation, epsilon

    @classmethod
    def of(cls, block: Any, rows: int, hidden: Tensor, dropout: Dropout | None) -> _Output:
        keep, factor = None, 1.0
        if dropout is not None and block.dropout.p > 0:
            shape = torch.Size((rows, hidden.shape[-1]))
            keep, factor = dropout.mask(shape, block.dropout.p, hidden.dtype)
        activation = block.adapter.activation if isinstance(block, AdaptedOutput) else ""
        return cls(keep, factor, activation, block.LayerNorm.eps)

    def forward(
        self, inner: Tensor, residual: Tensor, parameters: Sequence[Any]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """(rows, inner width) and (rows, width) -> (rows, width), and what backward needs."""
        weight, shift, down, down_bias, up, up_bias, scale, offset = parameters
        hidden = _product(inner, weight, shift)
        if self.keep is not None:
            scaled_product(hidden, self.keep, self.factor, out=hidden)
        before = after = None
        if down is None:
            summed = hidden.add_(residual)
        else:
            before = _product(hidden, down, down_bias)
            after = ACTIVATIONS[self.activation](before)
            summed = _product(after, up, up_bias, added=hidden + residual)
        normed, mean, deviation = torch.native_layer_norm(
            summed, summed.shape[-1:], scale, offset, self.epsilon
        )
        kept_hidden = None if down is None else hidden
        return normed, [inner, kept_hidden, before, after, summed, mean, deviation]

    def backward(
        self,
        gradient: Tensor,
        saved: Sequence[Any],
        parameters: Sequence[Any],
        needs: Sequence[bool],
        *,
        needs_inner: bool = True,
    ) -> tuple[Tensor | None, Tensor, list[Tensor | None]]:
        """The gradients of inner (on request), residual and the parameters."""
        inner, hidden, before, after, summed, mean, deviation = saved
        weight, shift, down, down_bias, up, up_bias, scale, offset = parameters
        of_summed, of_scale, of_offset = _aten.native_layer_norm_backward(
            gradient, summed, summed.shape[-1:], mean, deviation, scale, offset,
            [True, needs[6], needs[7]],
        )  # fmt: skip
        of_hidden = of_summed
        adapter: list[Tensor | None] = [None] * 4
        if down is not None:
            of_after = torch.mm(of_summed, up.to(of_summed.dtype))
            of_before = _BACKWARD[self.activation](of_after, before, after)
            adapter = [
                *_parameter_gradients(of_before, hidden, down, down_bias, needs[2:4]),
                *_parameter_gradients(of_summed, after, up, up_bias, needs[4:6]),
            ]
            if needs_inner:
                of_hidden = torch.addmm(of_summed, of_before, down.to(of_summed.dtype))
        of_inner: Tensor | None = None
        dense: list[Tensor | None] = [None, None]
        if needs_inner:
            if self.keep is not None:
                of_hidden = scaled_product(of_hidden, self.keep, self.factor)
            of_inner = torch.mm(of_hidden, weight.to(of_hidden.dtype))
            dense = _parameter_gradients(of_hidden, inner, weight, shift, needs[0:2])
        return of_inner, of_summed, [*dense, *adapter, of_scale, of_offset]


class _AttentionBlock(torch.autograd.Function):
    """Multi-head self-attention with its output block."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        bias: Tensor | None,
        dropped: tuple[Tensor, float] | None,
        heads: int,
        only_first: bool,
        output: _Output,
        weight: Tensor,
        shift: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        """(batch, length, width) -> (batch, length or 1, width).

        ``dropped``: the mask (batch * heads, queries, length) of ones and zeros, and its factor.
        """
        batch, length, width = hidden.shape
        size = width // heads
        flat = hidden.view(-1, width)
        if only_first:
            residual = hidden[:, 0]
            (query,) = _split(_product(residual, weight[:width], shift[:width]), batch, 1, heads)
            key, value = _split(_product(flat, weight[width:], shift[width:]), batch, 2, heads)
        else:
            residual = flat
            query, key, value = _split(_product(flat, weight, shift), batch, 3, heads)
        scores = _bmm(query, key.transpose(1, 2), 1 / math.sqrt(size))
        if bias is not None:
            scores.view(batch, heads, -1, length).add_(bias)
        weights = torch.softmax(scores, dim=-1)
        keep, factor = dropped or (None, 1.0)
        thinned = weights if keep is None else weights * keep
        mixed = _merge(_bmm(thinned, value, factor), batch)
        normed, saved = output.forward(mixed, residual, parameters)
        ctx.save_for_backward(flat, query, key, value, weights, thinned, keep, *saved)
        ctx.facts = batch, heads, only_first, factor
        ctx.output, ctx.parameters = output, (weight, *parameters)
        return normed.view(batch, -1, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        flat, query, key, value, weights, thinned, keep, *saved = ctx.saved_tensors
        batch, heads, only_first, factor = ctx.facts
        weight, *parameters = ctx.parameters
        width = flat.shape[1]
        scale = 1 / math.sqrt(width // heads)
        # Nothing below the lowest adapter has a gradient.
        needs_inner = any(ctx.needs_input_grad[at] for at in (0, 6, 7, 8, 9))
        of_mixed, of_residual, of_parameters = ctx.output.backward(
            gradients[0].reshape(-1, width),
            saved,
            parameters,
            ctx.needs_input_grad[8:],
            needs_inner=needs_inner,
        )
        if not needs_inner:
            return *[None] * 8, *of_parameters
        (of_mixed,) = _split(of_mixed, batch, 1, heads)
        of_query, of_key, of_value = (torch.empty_like(part) for part in (query, key, value))
        if not only_first:  # side by side, so that one copy lays them out as one product's rows
            joint = torch.empty((3, *query.shape), dtype=query.dtype)
            of_query, of_key, of_value = joint
        _bmm(thinned.transpose(1, 2), of_mixed, factor, out=of_value)
        of_weights = _bmm(of_mixed, value.transpose(1, 2), factor)
        if keep is not None:
            of_weights.mul_(keep)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        _bmm(of_scores, key, scale, out=of_query)
        _bmm(of_scores.transpose(1, 2), query, scale, out=of_key)
        of_hidden = of_weight = of_shift = None
        needs_hidden, needs_weight, needs_shift = (ctx.needs_input_grad[at] for at in (0, 6, 7))
        if only_first:
            first = _merge(of_query, batch)
            rest = _rows(torch.stack((of_key, of_value)), batch)
            if needs_hidden:
                of_hidden = torch.mm(rest, weight[width:]).view(batch, -1, width)
                of_hidden[:, 0] += of_residual.addmm_(first, weight[:width])
            if needs_weight:
                at_first = flat.view(batch, -1, width)[:, 0]
                of_weight = torch.cat([torch.mm(first.t(), at_first), torch.mm(rest.t(), flat)])
            if needs_shift:
                of_shift = torch.cat([first.sum(0), rest.sum(0)])
        else:
            rows = _rows(joint, batch)
            if needs_hidden:
                of_hidden = of_residual.addmm_(rows, weight).view(batch, -1, width)
            if needs_weight:
                of_weight = torch.mm(rows.t(), flat)
            if needs_shift:
                of_shift = rows.sum(0)
        return of_hidden, *[None] * 5, of_weight, of_shift, *of_parameters


class _FeedForwardBlock(torch.autograd.Function):
    """The feed-forward sub-layer with its output block."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        output: _Output,
        weight: Tensor,
        shift: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        """(batch, length, width) -> the same."""
        flat = hidden.view(-1, hidden.shape[-1])
        before = _product(flat, weight, shift)
        normed, saved = output.forward(functional.gelu(before), flat, parameters)
        if not ctx.needs_input_grad[4]:  # the second product's weight: else its input is needed
            saved[0] = None
        ctx.save_for_backward(flat, before, *saved)
        ctx.output, ctx.parameters = output, (weight, shift, *parameters)
        return normed.view(hidden.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        flat, before, *saved = ctx.saved_tensors
        weight, shift, *parameters = ctx.parameters
        needs = ctx.needs_input_grad
        (gradient,) = gradients
        of_inner, of_hidden, of_parameters = ctx.output.backward(
            gradient.reshape(flat.shape), saved, parameters, needs[4:]
        )
        of_before = _aten.gelu_backward(of_inner, before)
        own = _parameter_gradients(of_before, flat, weight, shift, needs[2:4])
        found = None
        if needs[0]:
            found = of_hidden.addmm_(of_before, weight.to(of_before.dtype)).view(gradient.shape)
        return found, None, *own, *of_parameters


def _product(rows: Tensor, weight: Tensor, shift: Tensor, added: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + shift (+ added)`` in the type of ``rows``.

    By oneDNN's own call: torch's writes the bias out for every row before it begins.
    """
    weight, shift = weight.to(rows.dtype), shift.to(rows.dtype)
    operation = torch.ops.mkldnn._linear_pointwise
    if added is None:
        result: Tensor = operation(rows, weight, shift, "none", [], "")
    else:
        result = operation.binary(rows, added, weight, shift, "add")
    return result


def _parameter_gradients(
    gradient: Tensor, rows: Tensor, weight: Tensor, shift: Tensor, needs: Sequence[bool]
) -> list[Tensor | None]:
    """Of a product's weight and bias, in their own types; None for those that are frozen."""
    of_weight = torch.mm(gradient.t(), rows).to(weight.dtype) if needs[0] else None
    return [of_weight, gradient.sum(0).to(shift.dtype) if needs[1] else None]


def _bmm(left: Tensor, right: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """``scale * left @ right`` in one pass: (n, i, j), (n, j, k) -> (n, i, k)."""
    if out is None:
        out = left.new_empty((len(left), left.shape[1], right.shape[2]))
    return torch.baddbmm(out, left, right, beta=0, alpha=scale, out=out)


def _split(rows: Tensor, batch: int, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(batch * length, parts * width) -> parts times (batch * heads, length, width / heads)."""
    size = rows.shape[1] // parts // heads
    split = rows.view(batch, -1, parts, heads, size).permute(2, 0, 3, 1, 4)
    return split.reshape(parts, batch * heads, -1, size).unbind()


def _merge(mixed: Tensor, batch: int) -> Tensor:
    """(batch * heads, length, size) -> (batch * length, heads * size)."""
    return _rows(mixed[None], batch)


def _rows(parts: Tensor, batch: int) -> Tensor:
    """(parts, batch * heads, length, size) -> (batch * length, parts * heads * size)."""
    count, _, length, size = parts.shape
    split = parts.view(count, batch, -1, length, size).permute(1, 3, 0, 2, 4)
    return split.reshape(batch * length, -1)
