"""What a trained model answers without some of its adapters, for many choices of them at once.

Up to a layer all choices that agree so far share one hidden state, so it is computed once; and the
different ones go through the next layer as one batch. Exact: no layer is approximated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from adaptertune.model import forward
from adaptertune.model.adapter import linear
from adaptertune.model.classifier import Classifier
from adaptertune.model.inject import adapters_removed

Removal = frozenset[int]  # the layers whose adapters are taken away


def spans(layers: Sequence[int]) -> dict[tuple[int, int], Removal]:
    """Every run of neighbours among some layers, single ones included, by its (first, last)."""
    ends = [(i, j) for i in range(len(layers)) for j in range(i, len(layers))]
    return {(layers[i], layers[j]): Removal(layers[i : j + 1]) for i, j in ends}


def num_layer_evaluations(num_layers: int, removals: Iterable[Removal]) -> int:
    """How many times :func:`logits` computes a layer of one batch.

    At each layer, once for each different choice among the layers up to it. For nothing and all spans
    of L layers: L + L (L + 1) (L + 2) / 6, where each span apart would be L more.
    """
    known = list(removals)
    return sum(len(_prefixes(known, index)) for index in range(num_layers))


def most_states(num_layers: int, removals: Iterable[Removal]) -> int:
    """How many hidden states :func:`logits` holds at most at a time."""
    return len(_prefixes(list(removals), num_layers - 1))


def logits(
    model: Classifier,
    removals: Sequence[Removal],
    tokens: torch.Tensor,
    segments: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Logits in fp32 without the adapters of each choice: (removals, batch, outputs).

    LayerNorms and head stay as trained, as in the paper's figure 6. No dropout. The model is the same
    afterwards, also after an exception.

    Args:
        model: a trained model, in evaluation.
        removals: different choices of layers.
        tokens: int64 (batch, length); ``segments`` likewise.
        mask: bool (batch, length), True where a token is; None if nothing is padded.
    """
    bert, batch = model.backbone, len(tokens)
    num_layers = len(bert.encoder.layer)
    hidden = forward.embed([bert], tokens, segments, model.compute_type, None)
    bias = forward.attention_bias(mask, hidden.dtype)
    states = {Removal(): hidden}  # by what was removed so far
    for index in range(num_layers):
        after: dict[Removal, torch.Tensor] = {}
        prefixes = _prefixes(removals, index)
        for is_removed in (False, True):
            chosen = [prefix for prefix in prefixes if (index in prefix) == is_removed]
            if not chosen:
                continue
            stacked = torch.cat([states[prefix - {index}] for prefix in chosen])
            repeated = None if bias is None else bias.repeat(len(chosen), 1, 1, 1)
            with adapters_removed(bert, [index] if is_removed else []):
                result = forward.apply_layers(
                    [bert],
                    range(index, index + 1),
                    stacked,
                    repeated,
                    None,
                    compiled=False,
                    only_first=index == num_layers - 1,
                )
            after |= zip(chosen, torch.split(result, batch), strict=True)
        states = after
    first = torch.stack([states[removal][:, 0] for removal in removals])  # (removals, batch, width)
    return linear(model.head, forward.pool([bert], first).float())


def _prefixes(removals: Iterable[Removal], index: int) -> list[Removal]:
    """The different choices among the layers up to ``index``."""
    upto = range(index + 1)
    return list(dict.fromkeys(removal.intersection(upto) for removal in removals))
