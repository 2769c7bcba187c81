"""Puts adapters into an encoder and takes them away again.

Place (Houlsby et al. 2019, figure 2; official code): after both sub-layers of a Transformer layer,
behind their dense layer and its dropout and before the residual sum and its LayerNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adaptertune import config
from adaptertune.model.adapter import Adapter

if TYPE_CHECKING:
    from adaptertune.model.encoder import Encoder

PLACES = ("attention", "feedforward")  # the sub-layers of a layer


class AdaptedOutput(nn.Module):
    """A sub-layer's output block with an adapter: ``LayerNorm(adapter(dropout(dense(h))) + x)``, where
    x is the sub-layer's input.

    Stands in for transformers' ``BertSelfOutput`` and ``BertOutput`` and their like, and keeps their
    modules under their own names, so every name of the plain model stays valid.
    """

    def __init__(self, plain: Any, adapter: Adapter) -> None:
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
            hidden = self.adapter(hidden, self.read(hidden, input_tensor, self.LayerNorm))
        normed: torch.Tensor = self.LayerNorm(hidden + input_tensor)
        return normed

    def read(
        self,
        hidden: torch.Tensor,
        residual: torch.Tensor,
        norm: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor | None:
        """What the adapter reads, of the block's states; None for ``hidden``, which it changes."""
        if self.adapter.reads == "input":
            return residual
        return norm(hidden + residual) if self.adapter.reads == "normed" else None


def insert_adapters(
    bert: Encoder,
    layers: Iterable[int],
    make: Callable[[int, str], Adapter],
    places: Container[str] = PLACES,
) -> None:
    """Put adapters into each of the given layers. Changes the model in place.

    Insert after loading: transformers re-initialises every module that was not in a checkpoint, and
    the near-identity start would be lost.

    Args:
        bert: an ``Encoder``, or a transformers model whose layers have BERT's names.
        layers: layer numbers from 0.
        make: (layer, place) -> adapter.
        places: "attention", "feedforward" or both: behind which sub-layers.
    """
    chosen = {index: bert.encoder.layer[index] for index in layers}
    for index, layer in chosen.items():  # all of them before any is changed
        if any(isinstance(owner.output, AdaptedOutput) for owner in (layer.attention, layer)):
            raise ValueError(f"layer {index} has adapters already")
    for index, layer in chosen.items():
        for place, owner in (("attention", layer.attention), ("feedforward", layer)):
            if place in places:
                owner.output = AdaptedOutput(owner.output, make(index, place))


def insert_peft(bert: Encoder, method: config.LoRA | config.IA3, seed: int) -> None:
    """Let peft put LoRA or (IA)³ into an encoder. Changes the model in place.

    The places are those of the papers: LoRA's at query and value, without dropout; (IA)³'s at key,
    value and the feed-forward's second product.

    Args:
        seed: decides the initial values.
    """
    import peft

    if isinstance(method, config.LoRA):
        settings = peft.LoraConfig(
            r=method.rank, lora_alpha=method.alpha, target_modules=["query", "value"]
        )
    else:
        # A pattern, for the attention's output block has the same name.
        feedforward = r".*layer\.\d+\.output\.dense"
        settings = peft.IA3Config(
            target_modules=rf".*\.(key|value)|{feedforward}", feedforward_modules=feedforward
        )
    with torch.random.fork_rng(devices=[]):  # peft draws from the CPU's global generator
        torch.default_generator.manual_seed(seed)  # and not the GPUs', as torch.manual_seed does
        peft.inject_adapter_in_model(settings, bert)


def adapted_outputs(bert: Encoder) -> Iterator[tuple[int, AdaptedOutput]]:
    """(layer number, output block) of every adapter, bottom to top."""
    for index, layer in enumerate(bert.encoder.layer):
        for block in (layer.attention.output, layer.output):
            if isinstance(block, AdaptedOutput):
                yield index, block


@contextmanager
def adapters_removed(bert: Encoder, layers: Iterable[int]) -> Iterator[None]:
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
