"""Floating-point operations of a training step's matrix products, in closed form. Needs no weights.

Counted is what a step cannot do without: an m x k by k x n product is 2mkn operations; in the backward
pass a product costs as much again for its input's gradient, if anything below it trains, and once more
for its weight's, if the weight trains. The last layer is computed at the first position alone, after
its keys and values. What is not a product (LayerNorms, softmax, dropout, look-ups) is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from adaptertune import config
from adaptertune.catalogue import Shape


@dataclass(frozen=True)
class Flops:
    """Operations of one step, in its two passes."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward + self.backward


def training_step(
    shape: Shape,
    method: config.Method,
    num_outputs: int,
    batch: int,
    length: int,
    *,
    known_layers: int = 0,
) -> Flops:
    """The operations of one step on a (batch, length) batch, padding included.

    ``known_layers``: how many layers from the bottom are not computed, for what they give is known.
    """
    lowest = _lowest_trained(shape, method)
    trains_weights = isinstance(method, config.Full | config.TopLayers)
    tuned = method.trained_layernorms if isinstance(method, config.Adapter) else None
    width, intermediate = shape.width, shape.intermediate
    forward = backward = 0

    def product(rows: int, inner: int, outer: int, *, of_input: bool, of_weight: bool) -> None:
        nonlocal forward, backward
        flops = 2 * rows * inner * outer
        forward += flops
        backward += flops * (of_input + of_weight)

    if shape.embedding and not known_layers:
        below, own = lowest < 0, isinstance(method, config.Full)
        product(batch * length, shape.embedding, width, of_input=below, of_weight=own)
    # Rows for the distances between an example's tokens. Large ones share rows (in DeBERTa-v3 from 128
    # on), so longer examples need fewer than this.
    distances = min(2 * length - 1, shape.relative_rows)
    for layer in range(known_layers, shape.layers):
        trains = layer >= lowest  # something in it or below it does
        own = trains and trains_weights
        below = layer > lowest
        # Inside the attention, LoRA trains at query and value, (IA)³ at key and value.
        is_lora, is_ia3 = isinstance(method, config.LoRA), isinstance(method, config.IA3)
        rows = batch * length
        queries = batch if layer == shape.layers - 1 else rows
        # Of query and value, where LoRA trains: how many rows, and whether they have a gradient.
        readers = [(queries, below), (rows, below)]
        if distances:
            readers.append((distances, False))
            product(distances, width, 2 * width, of_input=lowest < 0, of_weight=own)
        product(queries, width, width, of_input=below, of_weight=own)  # query
        product(rows, width, 2 * width, of_input=below, of_weight=own)  # key and value
        if isinstance(method, config.LoRA):
            for reading, has_gradient in readers:
                product(reading, width, method.rank, of_input=has_gradient, of_weight=True)
                product(reading, method.rank, width, of_input=True, of_weight=True)
        moves = below or own
        attends = moves or is_lora or is_ia3  # whether attention has a gradient
        # Whether anything below the second sub-layer trains: not with an adapter behind it alone.
        norms_train = tuned is None or layer in tuned
        is_reached = trains and (below or norms_train or _is_adapted(method, layer, "attention"))
        # Scores and mixing, over all heads: query by key, weights by value.
        product(queries, width, length, of_input=moves or is_lora, of_weight=moves or is_ia3)
        product(queries, width, length, of_input=attends, of_weight=attends)
        if distances:  # content to position, position to content
            of_position = lowest < 0 or own
            product(
                queries,
                width,
                distances,
                of_input=moves or is_lora,
                of_weight=of_position or is_ia3,
            )
            product(
                rows, width, distances, of_input=moves or is_ia3, of_weight=of_position or is_lora
            )
        for place, reached, products in (
            ("attention", attends, [(width, width)]),
            ("feedforward", is_reached, [(width, intermediate), (intermediate, width)]),
        ):
            for inner, outer in products:  # of the sub-layer
                product(queries, inner, outer, of_input=reached, of_weight=own)
            if _is_adapted(method, layer, place):
                size = method.size
                of_read = reached or (method.reads == "normed" and norms_train)
                product(queries, width, size, of_input=of_read, of_weight=True)
                for _ in range(method.depth - 1):
                    product(queries, size, size, of_input=True, of_weight=True)
                product(queries, size, width, of_input=True, of_weight=True)
    if shape.has_pooler:
        own = trains_weights
        if isinstance(method, config.Adapter | config.Full):
            own = method.pooler == "trained"
        product(batch, width, width, of_input=True, of_weight=own)
    product(batch, width, num_outputs, of_input=True, of_weight=True)  # head
    return Flops(forward, backward)


def _is_adapted(method: config.Method, layer: int, place: str) -> TypeGuard[config.Adapter]:
    return (
        isinstance(method, config.Adapter)
        and (method.layers is None or layer in method.layers)
        and method.places in ("both", place)
    )


def _lowest_trained(shape: Shape, method: config.Method) -> int:
    """The lowest layer in which something trains; -1 for the embeddings."""
    if isinstance(method, config.TopLayers):
        return shape.layers - method.k
    if isinstance(method, config.LoRA | config.IA3):
        return 0
    if isinstance(method, config.Adapter):
        tuned = method.trained_layernorms
        if tuned is not None:
            return min((*(method.layers or (0,)), *tuned))
    return -1  # all others train the embeddings' LayerNorm, or its bias
