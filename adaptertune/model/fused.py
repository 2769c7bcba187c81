"""BERT's layers for a CPU, their backward pass written out.

Equal to ``forward.transformer_layer`` (a test holds them together), for exact GELU, and faster: all
layers are one autograd node, a matrix product takes bias and summand along, what is no longer needed
is overwritten, a residual gradient is added by the product that follows, and frozen weights keep no
inputs.
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
Gradients = list[Tensor | None]
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


def transformer_layers(
    layers: Sequence[Any],
    hidden: Tensor,
    bias: Tensor | None,
    dropout: Dropout | None,
    *,
    only_first: bool = False,
) -> Tensor:
    """Layers one above the other: (batch, length, width) -> the same.

    With ``only_first`` the uppermost gives its first position only: (batch, 1, width).
    """
    batch, length, width = hidden.shape
    blocks: list[_Attention | _FeedForward] = []
    for layer in layers:
        queries = 1 if only_first and layer is layers[-1] else length
        blocks.append(_Attention(layer.attention, hidden, bias, queries, dropout))
        blocks.append(_FeedForward(layer, hidden, queries, dropout))
    parameters = [parameter for block in blocks for parameter in block.parameters]
    result: Tensor = _Layers.apply(hidden, blocks, torch.is_grad_enabled(), *parameters)  # type: ignore[no-untyped-call]
    return result.view(batch, -1, width)


class _Layers(torch.autograd.Function):
    """Blocks one above the other: (batch, length, width) -> (rows, width).

    What a block's backward pass needs is kept up to that pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        blocks: Sequence[_Attention | _FeedForward],
        has_backward: bool,
        *parameters: Tensor,
    ) -> Tensor:
        needs_hidden, _, _, *needs = ctx.needs_input_grad
        ctx.shape, ctx.num_parameters, ctx.kept = hidden.shape, len(parameters), []
        hidden = hidden.view(-1, hidden.shape[-1])
        for block in blocks:
            own, needs = needs[: len(block.parameters)], needs[len(block.parameters) :]
            hidden, saved = block.forward(hidden, own)
            if has_backward and (needs_hidden or any(own)):
                ctx.kept.append((block, saved, own, needs_hidden))
                needs_hidden = True
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient: Tensor | None = gradients[0]
        found: Gradients = []
        while ctx.kept:
            block, saved, needs, needs_hidden = ctx.kept.pop()
            gradient, own = block.backward(gradient, saved, needs, needs_hidden)
            found = own + found
        if gradient is not None:
            gradient = gradient.view(ctx.shape)
        below: Gradients = [None] * (ctx.num_parameters - len(found))
        return gradient, None, None, *below, *found


class _Output:
    """``LayerNorm(adapter(dropout(dense(inner))) + residual)`` and its backward pass."""

    def __init__(self, block: Any, hidden: Tensor, queries: int, dropout: Dropout | None) -> None:
        shape = (len(hidden) * queries, hidden.shape[-1])
        self.mask = _mask(dropout, block.dropout, shape, hidden.dtype)
        self.epsilon = block.LayerNorm.eps
        modules = [block.dense, block.LayerNorm]
        if isinstance(block, AdaptedOutput) and not block.removed:
            modules[1:1] = block.adapter.down, block.adapter.up
            self.activation = block.adapter.activation
        self.parameters = _parameters(modules)

    def forward(self, inner: Tensor, residual: Tensor) -> tuple[Tensor, Sequence[Any]]:
        """(rows, inner width) and (rows, width) -> (rows, width), and what backward needs."""
        *own, scale, offset = self.parameters
        weight, shift, *adapter = (parameter.to(inner.dtype) for parameter in own)
        hidden = _product(inner, weight, shift)
        if self.mask is not None:
            scaled_product(hidden, *self.mask, out=hidden)
        saved: tuple[Tensor, ...] = ()
        if adapter:
            down, down_bias, up, up_bias = adapter
            before = _product(hidden, down, down_bias)
            after = ACTIVATIONS[self.activation](before)
            summed = _product(after, up, up_bias, added=hidden + residual)
            saved = hidden, before, after, down, up
        else:
            summed = hidden.add_(residual)
        normed, mean, deviation = torch.native_layer_norm(
            summed, summed.shape[-1:], scale, offset, self.epsilon
        )
        return normed, (weight, summed, mean, deviation, scale, offset, *saved)

    def backward(
        self,
        gradient: Tensor,
        inner: Tensor | None,
        saved: Sequence[Any],
        needs: Sequence[bool],
        *,
        needs_inner: bool,
    ) -> tuple[Tensor | None, Tensor, Gradients]:
        """The gradients of inner (on request), residual and the parameters.

        ``inner`` is there if the dense layer's weight trains.
        """
        weight, summed, mean, deviation, scale, offset, *adapter = saved
        of_summed, *of_norm = _aten.native_layer_norm_backward(
            gradient, summed, summed.shape[-1:], mean, deviation, scale, offset, [True, *needs[-2:]]
        )
        of_hidden, of_inner = of_summed, None
        of_dense: Gradients = [None, None]
        of_adapter: Gradients = []
        if adapter:
            hidden, before, after, down, up = adapter
            of_after = torch.mm(of_summed, up)
            of_before = _BACKWARD[self.activation](of_after, before, after)
            of_adapter += _parameter_gradients(of_before, hidden, needs[2:4])
            of_adapter += _parameter_gradients(of_summed, after, needs[4:6])
            if needs_inner:
                of_hidden = torch.addmm(of_summed, of_before, down)
        if needs_inner:
            if self.mask is not None:
                of_hidden = scaled_product(of_hidden, *self.mask)
            of_inner = torch.mm(of_hidden, weight)
            of_dense = _parameter_gradients(of_hidden, inner, needs)
        return of_inner, of_summed, [*of_dense, *of_adapter, *of_norm]


class _Attention:
    """Multi-head self-attention with its output block."""

    def __init__(
        self,
        module: Any,
        hidden: Tensor,
        bias: Tensor | None,
        queries: int,
        dropout: Dropout | None,
    ) -> None:
        block = module.self
        self.shape = batch, length, width = hidden.shape
        self.bias, self.queries, self.heads = bias, queries, block.num_attention_heads
        self.scale = 1 / math.sqrt(width // self.heads)
        square = (batch * self.heads, queries, length)
        self.mask = _mask(dropout, block.dropout, square, hidden.dtype)
        self.output = _Output(module.output, hidden, queries, dropout)
        own = _parameters((block.query, block.key, block.value))
        self.parameters = [*own, *self.output.parameters]

    def forward(self, flat: Tensor, needs: Sequence[bool]) -> tuple[Tensor, Sequence[Any]]:
        """(batch * length, width) -> (batch * queries, width), and what backward needs."""
        batch, length, width = self.shape
        weight, shift = (joined(self.parameters[at:6:2]).to(flat.dtype) for at in (0, 1))
        residual = flat
        if self.queries < length:
            residual = flat.view(self.shape)[:, 0]
            (query,) = self._by_head(_product(residual, weight[:width], shift[:width]), 1)
            key, value = self._by_head(_product(flat, weight[width:], shift[width:]), 2)
        else:
            query, key, value = self._by_head(_product(flat, weight, shift), 3)
        scores = _bmm(query, key.transpose(1, 2), self.scale)
        if self.bias is not None:
            scores.view(batch, self.heads, *scores.shape[1:]).add_(self.bias)
        weights = torch.softmax(scores, dim=-1)
        keep, factor, thinned = None, 1.0, weights
        if self.mask is not None:
            keep, factor = self.mask
            thinned = weights * keep
        mixed = self._as_rows(_bmm(thinned, value, factor))
        normed, saved = self.output.forward(mixed, residual)
        inputs = flat if any(needs[0:6:2]) else None, mixed if needs[6] else None
        return normed, (*inputs, weight, query, key, value, weights, thinned, keep, factor, saved)

    def backward(
        self, gradient: Tensor, saved: Sequence[Any], needs: Sequence[bool], needs_hidden: bool
    ) -> tuple[Tensor | None, Gradients]:
        """The gradients of the input and the parameters."""
        flat, mixed, weight, query, key, value, weights, thinned, keep, factor, output = saved
        width = self.shape[2]
        of_mixed, of_residual, of_output = self.output.backward(
            gradient, mixed, output, needs[6:], needs_inner=needs_hidden or any(needs[:8])
        )
        if of_mixed is None:
            return None, [*[None] * 6, *of_output]
        (of_mixed,) = self._by_head(of_mixed, 1)
        of_value = _bmm(thinned.transpose(1, 2), of_mixed, factor)
        of_weights = _bmm(of_mixed, value.transpose(1, 2), factor)
        if keep is not None:
            of_weights.mul_(keep)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_query = _bmm(of_scores, key, self.scale)
        of_key = _bmm(of_scores.transpose(1, 2), query, self.scale)
        needs_weight, needs_shift = any(needs[0:6:2]), any(needs[1:6:2])
        of_hidden: Tensor | None = None
        own: Gradients = [None] * 6
        if self.queries < self.shape[1]:
            first, rest = self._as_rows(of_query), self._as_rows(of_key, of_value)
            if needs_hidden:
                of_hidden = torch.mm(rest, weight[width:])
                of_hidden.view(self.shape)[:, 0] += of_residual.addmm_(first, weight[:width])
            if needs_weight:
                at_first = flat.view(self.shape)[:, 0]
                of_others = torch.mm(rest.t(), flat).chunk(2)
                own[0::2] = [torch.mm(first.t(), at_first), *of_others]
            if needs_shift:
                own[1::2] = [first.sum(0), *rest.sum(0).chunk(2)]
        else:
            rows = self._as_rows(of_query, of_key, of_value)
            if needs_hidden:
                of_hidden = of_residual.addmm_(rows, weight)
            if needs_weight:
                own[0::2] = torch.mm(rows.t(), flat).chunk(3)
            if needs_shift:
                own[1::2] = rows.sum(0).chunk(3)
        return of_hidden, [*own, *of_output]

    def _by_head(self, rows: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(batch * positions, parts * width) -> parts times (batch * heads, positions, size)."""
        batch, _, width = self.shape
        split = rows.view(batch, -1, parts, self.heads, width // self.heads)
        joint = split.permute(2, 0, 3, 1, 4).reshape(parts, batch * self.heads, -1, split.shape[-1])
        return joint.unbind()

    def _as_rows(self, *parts: Tensor) -> Tensor:
        """(batch * heads, positions, size) each -> (batch * positions, parts * width)."""
        _, positions, size = parts[0].shape
        rows = parts[0].new_empty((self.shape[0], positions, len(parts), self.heads, size))
        for place, part in enumerate(parts):
            split = part.view(-1, self.heads, positions, size)
            rows[:, :, place] = split.transpose(1, 2)
        return rows.view(-1, len(parts) * self.shape[2])


class _FeedForward:
    """The feed-forward sub-layer with its output block."""

    def __init__(self, layer: Any, hidden: Tensor, queries: int, dropout: Dropout | None) -> None:
        self.output = _Output(layer.output, hidden, queries, dropout)
        self.parameters = [*_parameters([layer.intermediate.dense]), *self.output.parameters]

    def forward(self, flat: Tensor, needs: Sequence[bool]) -> tuple[Tensor, Sequence[Any]]:
        """(rows, width) -> the same, and what backward needs."""
        weight, shift = (parameter.to(flat.dtype) for parameter in self.parameters[:2])
        before = _product(flat, weight, shift)
        inner = functional.gelu(before)
        normed, saved = self.output.forward(inner, flat)
        inputs = flat if needs[0] else None, inner if needs[2] else None
        return normed, (*inputs, weight, before, saved)

    def backward(
        self, gradient: Tensor, saved: Sequence[Any], needs: Sequence[bool], needs_hidden: bool
    ) -> tuple[Tensor | None, Gradients]:
        """The gradients of the input and the parameters."""
        flat, inner, weight, before, output = saved
        of_inner, of_hidden, of_output = self.output.backward(
            gradient, inner, output, needs[2:], needs_inner=needs_hidden or any(needs[:4])
        )
        if of_inner is None:
            return None, [None, None, *of_output]
        of_before = _aten.gelu_backward(of_inner, before)
        own = _parameter_gradients(of_before, flat, needs)
        if needs_hidden:
            of_hidden.addmm_(of_before, weight)
        return of_hidden, [*own, *of_output]


def _parameters(modules: Sequence[Any]) -> list[Tensor]:
    """Weight and bias of each."""
    return [parameter for module in modules for parameter in (module.weight, module.bias)]


def _mask(
    dropout: Dropout | None, module: Any, shape: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor, float] | None:
    """A mask of ones and zeros and its factor, or None where nothing is dropped."""
    if dropout is None or module.p == 0:
        return None
    return dropout.mask(torch.Size(shape), module.p, dtype)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts one behind the other; a view where they lie so in memory."""
    first = parts[0].detach()
    storage = first.untyped_storage().data_ptr()
    if all(
        part.data_ptr() == first.data_ptr() + place * first.nbytes
        and part.untyped_storage().data_ptr() == storage
        for place, part in enumerate(parts)
    ):
        return first.as_strided((len(parts) * len(first), *first.shape[1:]), first.stride())
    return torch.cat([part.detach() for part in parts])


def _product(rows: Tensor, weight: Tensor, shift: Tensor, added: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + shift (+ added)``.

    By oneDNN's own call: torch's writes the bias out for every row before it begins.
    """
    operation = torch.ops.mkldnn._linear_pointwise
    if added is None:
        result: Tensor = operation(rows, weight, shift, "none", [], "")
    else:
        result = operation.binary(rows, added, weight, shift, "add")
    return result


def _parameter_gradients(gradient: Tensor, rows: Any, needs: Sequence[bool]) -> Gradients:
    """Of a product's weight and bias, which autograd casts to their types; None for frozen ones.

    ``rows``: what was multiplied; not read if the weight is frozen.
    """
    of_weight = torch.mm(gradient.t(), rows) if needs[0] else None
    return [of_weight, gradient.sum(0) if needs[1] else None]


def _bmm(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """``scale * left @ right`` in one pass: (n, i, j), (n, j, k) -> (n, i, k)."""
    out = left.new_empty((len(left), left.shape[1], right.shape[2]))
    return torch.baddbmm(out, left, right, beta=0, alpha=scale, out=out)
