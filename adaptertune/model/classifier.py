"""An encoder with a linear head on its first token, for classification and regression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from adaptertune.model import forward
from adaptertune.model.adapter import linear, linear_of_each
from adaptertune.model.dropout import Dropout
from adaptertune.model.encoder import Encoder

HEAD_INIT_STD = 0.02  # official code


class Classifier(nn.Module):
    """``head(dropout(tanh(pooler([CLS]))))`` on BERT, ``head(dropout([CLS]))`` where there is no pooler.

    The paper has its "final classification layer" on [CLS]; that of its official code reads BERT's
    pooler, which pre-training has made. A pooler that no pre-training made would be one more layer of
    random values to train for each task, or to freeze: there is none.

    Args:
        backbone: the pre-trained part.
        num_outputs: classes, or 1 for regression.
        generator: where the head's initial weights come from.
    """

    def __init__(self, backbone: Encoder, num_outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.compute_type = torch.float32
        self.is_compiled = False  # whether torch.compile makes its layers' kernels
        self.trunk_depth = 0  # of the layers, from the bottom, in which nothing trains
        head = nn.Linear(backbone.config.hidden_size, num_outputs, device="meta")
        self.head = head.to_empty(device="cpu")
        std = HEAD_INIT_STD
        nn.init.trunc_normal_(self.head.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
        nn.init.zeros_(self.head.bias)

    def set_compute_type(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype`` from now on: frozen weights are held in it, trained ones in fp32."""
        self.compute_type = dtype
        forward.set_compute_type(self.backbone, dtype)

    def hold_for_answers(self) -> None:
        """Answer faster from now on, with the same logits; what trained is no longer exact, and can't
        be kept or trained on.
        """
        forward.hold_for_answers(self.backbone, self.compute_type)

    def trunk(
        self,
        tokens: torch.Tensor,
        segments: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """What the layers below the lowest one that trains give: (batch, length, width).

        Never compiled: it is computed once, and is then the same for both kinds of run.
        """
        dtype, depth = self.compute_type, self.trunk_depth
        return forward.trunk(
            [self.backbone], tokens, segments, mask, dtype, None, depth, compiled=False
        )

    def forward(
        self,
        tokens: torch.Tensor,
        segments: torch.Tensor,
        mask: torch.Tensor | None,
        dropout: Dropout | None = None,
        *,
        hidden: torch.Tensor | None = None,
        trunk_dropout: bool = True,
    ) -> torch.Tensor:
        """Logits in fp32: (batch, num_outputs). The arguments are those of :func:`logits`."""
        return logits(
            [self], tokens, segments, mask, dropout, hidden=hidden, trunk_dropout=trunk_dropout
        )[0]


def logits(
    models: Sequence[Classifier],
    tokens: torch.Tensor,
    segments: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: Dropout | None = None,
    *,
    hidden: torch.Tensor | None = None,
    trunk_dropout: bool = True,
) -> torch.Tensor:
    """Logits in fp32, (models, batch, num_outputs), of several models over the same frozen weights.

    What is frozen must be the same in all of them; adapters, LayerNorms and heads may differ.

    Args:
        tokens: int64 (models * batch, length): one model's batch behind the
            other; ``segments`` likewise.
        mask: bool (models * batch, length), True where a token is; None if nothing is padded.
        dropout: this step's, or None for evaluation.
        hidden: what the trunk gives for this batch without dropout, if that is known.
        trunk_dropout: whether dropout is on in a trunk in which nothing trains.
    """
    pooled = _pooled(
        models, tokens, segments, mask, dropout, hidden=hidden, trunk_dropout=trunk_dropout
    )
    return linear_of_each([model.head for model in models], pooled)


def logits_of_each(
    models: Sequence[Classifier],
    tokens: torch.Tensor,
    segments: torch.Tensor,
    mask: torch.Tensor | None,
) -> list[torch.Tensor]:
    """As :func:`logits`, without dropout, of models with different numbers of outputs: a tensor each."""
    pooled = _pooled(models, tokens, segments, mask, None, hidden=None, trunk_dropout=False)
    return [linear(model.head, rows) for model, rows in zip(models, pooled, strict=True)]


def _pooled(
    models: Sequence[Classifier],
    tokens: torch.Tensor,
    segments: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: Dropout | None,
    *,
    hidden: torch.Tensor | None,
    trunk_dropout: bool,
) -> torch.Tensor:
    """What the heads get, in fp32: (models, batch, width)."""
    first = models[0]
    berts, depth = [model.backbone for model in models], first.trunk_depth
    if hidden is None:
        below = None if depth and not trunk_dropout else dropout
        hidden = forward.trunk(
            berts, tokens, segments, mask, first.compute_type, below, depth,
            compiled=first.is_compiled,
        )  # fmt: skip
    pooled = forward.pooled(berts, hidden, mask, dropout, depth, compiled=first.is_compiled).float()
    if dropout is not None:
        pooled = dropout(pooled, first.backbone.dropout_rate)
    return pooled.view(len(models), -1, pooled.shape[-1])


def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, or mean squared error for regression.

    ``logits``: (batch, outputs). ``labels``: (batch,), int64 classes or float32 scores. The squeeze
    matters: (batch, 1) against (batch,) would broadcast to a (batch, batch) loss.
    """
    if labels.dtype.is_floating_point:
        return nn.functional.mse_loss(logits.squeeze(-1), labels)
    return nn.functional.cross_entropy(logits, labels)
