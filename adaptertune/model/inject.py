"""Puts adapters into a BERT and takes them away again.

Place (Houlsby et al. 2019, figure 2; official code): after both sub-layers of a Transformer layer,
behind their dense layer and its dropout and before the residual sum and its LayerNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from adaptertune.model.adapter import Adapter

if TYPE_CHECKING:
    from transformers import BertModel
    from transformers.models.bert.modeling_bert import BertOutput, BertSelfOutput


class AdaptedOutput(nn.Module):
    """A sub-layer's output block with an adapter: ``LayerNorm(adapter(dropout(dense(h))) + x)``.

    Stands in for transformers' ``BertSelfOutput`` and ``BertOutput`` and keeps their modules under
    their own names, so every name of the plain model stays valid.
    """

    def __init__(self, plain: BertSelfOutput | BertOutput, adapter: Adapter) -> None:
        super().__init__()
        self.dense = plain.dense
        self.dropout = plain.dropout
        self.adapter = adapter
        self.LayerNorm = plain.LayerNorm
        self.removed = False  # see adapters_removed

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        """(batch, length, intermediate or width) and (batch, length, width) -> the latter."""
        hidden = self.dropout(self.dense(hidden_states))
        if not self.removed:
            hidden = self.adapter(hidden)
        normed: torch.Tensor = self.LayerNorm(hidden + input_tensor)
        return normed


def insert_adapters(
    bert: BertModel, layers: Iterable[int], make: Callable[[int, str], Adapter]
) -> None:
    """Put two adapters into each of the given layers of a ``BertModel``. Changes the model in place.

    Insert after loading: transformers re-initialises every module that was not in a checkpoint, and
    the near-identity start would be lost.

    Args:
        bert: a transformers ``BertModel``.
        layers: layer numbers from 0.
        make: (layer, place) -> adapter; the place is "attention" or "feedforward".
    """
    for index in layers:
        layer = bert.encoder.layer[index]
        if isinstance(layer.output, AdaptedOutput):
            raise ValueError(f"layer {index} has adapters already")
        layer.attention.output = AdaptedOutput(layer.attention.output, make(index, "attention"))
        layer.output = AdaptedOutput(layer.output, make(index, "feedforward"))


def adapted_outputs(bert: BertModel) -> Iterator[tuple[int, AdaptedOutput]]:
    """(layer number, output block) of every adapter, bottom to top."""
    for index, layer in enumerate(bert.encoder.layer):
        for block in (layer.attention.output, layer.output):
            if isinstance(block, AdaptedOutput):
                yield index, block


@contextmanager
def adapters_removed(bert: BertModel, layers: Iterable[int]) -> Iterator[None]:
    """Within the block the adapters of the given layers do nothing; LayerNorms stay as trained."""
    chosen = set(layers)
    blocks = [block for index, block in adapted_outputs(bert) if index in chosen]
    before = [block.removed for block in blocks]
    try:
        for block in blocks:
            block.removed = True
        yield
    finally:
        for block, value in zip(blocks, before, strict=True):
            block.removed = value
