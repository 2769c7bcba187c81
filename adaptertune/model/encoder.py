"""A loaded encoder's modules under one set of names, BERT's, whatever its kind calls them.

All that differs between kinds beyond these names is what an :class:`Encoder` says of itself. Nothing
that computes with one asks which kind it has; ``api.py`` does, which gives transformers' classes back.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


class Encoder(nn.Module):
    """Embeddings, layers and pooler of a pre-trained model, which it takes over: use that no more.

    Names below ``embeddings``: ``word_embeddings``, ``position_embeddings`` and
    ``token_type_embeddings`` (None where there is no such table), ``LayerNorm``, ``dropout``,
    ``projection`` (ELECTRA's, from narrow embeddings to the layers; or None) and ``relative`` (see
    :class:`RelativePositions`; or None). Below ``encoder.layer.N``: ``attention.self.{query, key,
    value, dropout}``, ``attention.output.{dense, dropout, LayerNorm}``, ``intermediate.{dense,
    intermediate_act_fn}`` and ``output.{dense, dropout, LayerNorm}``. ``pooler.dense``, if pre-training
    left one.

    Attributes:
        config: transformers' own.
        first_position: the row of ``position_embeddings`` that an example's first token has.
        activation: the feed-forward's, by its name in transformers.
        dropout_rate: of hidden states, and of what the head gets.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.config: PreTrainedConfig = model.config
        self.first_position = 0
        self.dropout_rate: float = model.embeddings.dropout.p
        self.embeddings: Any = model.embeddings
        projection = relative = pooler = None
        kind = model.config.model_type
        if kind == "distilbert":
            self.activation: str = model.config.activation
            self.embeddings.token_type_embeddings = None
            layers = [_distilbert_layer(layer) for layer in model.transformer.layer]
            self.encoder: Any = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        else:
            self.activation = model.config.hidden_act
            self.encoder = model.encoder
        if kind == "bert":
            pooler = model.pooler
        elif kind == "roberta":
            self.first_position = self.embeddings.padding_idx + 1
        elif kind == "electra" and model.config.embedding_size != model.config.hidden_size:
            projection = model.embeddings_project
        elif kind == "deberta-v2":
            relative = RelativePositions(model.encoder)
            self.encoder = nn.ModuleDict({"layer": model.encoder.layer})
            for layer in self.encoder.layer:
                layer.attention.self = _deberta_attention(layer.attention.self)
        self.embeddings.projection, self.embeddings.relative = projection, relative
        self.pooler: Any = pooler

    @property
    def num_positions(self) -> int:
        """How many tokens an example may have."""
        table = self.embeddings.position_embeddings
        if table is None:  # DeBERTa knows distances only, however long the text
            return int(self.config.max_position_embeddings)
        return len(table.weight) - self.first_position

    @property
    def has_untrained_pooler(self) -> bool:
        """Whether no pre-training made its pooler: then the biases are all 0, as they began. The
        poolers of sentence encoders that take the mean of the tokens are such.
        """
        return self.pooler is not None and not bool(self.pooler.dense.bias.any())


class Attention(nn.Module):
    """The parts of a self-attention under BERT's names.

    ``position_dropout``: of the states of relative positions, where there are any.
    """

    def __init__(
        self,
        parts: tuple[nn.Linear, nn.Linear, nn.Linear],
        dropout: nn.Dropout,
        num_heads: int,
        position_dropout: nn.Dropout | None = None,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value = parts
        self.dropout = dropout
        self.num_attention_heads = num_heads
        self.position_dropout = position_dropout


class RelativePositions(nn.Module):
    """DeBERTa's states for distances between tokens: a table, and the LayerNorm that it goes through.

    Distances that are large share a row (buckets that grow with the logarithm).
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.table: nn.Embedding = encoder.rel_embeddings
        self.LayerNorm: nn.LayerNorm = encoder.LayerNorm
        self._buckets: int = encoder.position_buckets
        self._farthest: int = encoder.max_relative_positions

    def rows(self, length: int, device: torch.device) -> tuple[slice, torch.Tensor]:
        """The rows that an example of this length needs, and which of these each two tokens have.

        The latter is int64 (length, length), by [query, key].
        """
        return _rows(length, self._buckets, self._farthest, device)


@cache
def _rows(
    length: int, buckets: int, farthest: int, device: torch.device
) -> tuple[slice, torch.Tensor]:
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    with torch.inference_mode(False):  # found in an evaluation, it may serve a training
        positions = torch.empty(length, 1)
        found = build_relative_position(positions, positions, buckets, farthest)[0]
        found = (found + buckets).clamp(0, 2 * buckets - 1)
        first = int(found.min())
        return slice(first, int(found.max()) + 1), (found - first).to(device)


def _deberta_attention(block: Any) -> Attention:
    parts = (block.query_proj, block.key_proj, block.value_proj)
    return Attention(parts, block.dropout, block.num_attention_heads, block.pos_dropout)


def _distilbert_layer(layer: Any) -> nn.ModuleDict:
    attention, inner = layer.attention, layer.ffn
    parts = (attention.q_lin, attention.k_lin, attention.v_lin)
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict(
                {
                    "self": Attention(parts, attention.dropout, attention.n_heads),
                    "output": _output(attention.out_lin, nn.Dropout(0.0), layer.sa_layer_norm),
                }
            ),
            "intermediate": nn.ModuleDict(
                {"dense": inner.lin1, "intermediate_act_fn": inner.activation}
            ),
            "output": _output(inner.lin2, inner.dropout, layer.output_layer_norm),
        }
    )


def _output(dense: nn.Module, dropout: nn.Module, norm: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": dense, "dropout": dropout, "LayerNorm": norm})
