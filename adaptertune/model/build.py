"""A model ready to train: backbone, head, and whatever the method inserts."""

from __future__ import annotations

import torch

from adaptertune import config, seeds
from adaptertune.model import backbone
from adaptertune.model.classifier import Classifier
from adaptertune.model.encoder import Encoder
from adaptertune.model.methods import prepare


def load_model(
    located: backbone.Located,
    method: config.Method,
    num_outputs: int,
    *,
    seed: int,
    device: str,
    precision: str,
    is_compiled: bool = False,
) -> Classifier:
    """The backbone with head and whatever the method inserts, on its device, ready to train."""
    bert = Encoder(backbone.load(located))
    stream = torch.Generator().manual_seed(seeds.derive(seed, "head"))
    model = Classifier(bert, num_outputs, stream)
    prepare(model, method, seed)
    model.to(device)  # first: what is laid out below would be moved piece by piece
    model.set_compute_type(torch.bfloat16 if precision == "bf16" else torch.float32)
    model.is_compiled = is_compiled
    return model


def share_frozen(model: Classifier, owner: Classifier) -> None:
    """Let a model hold the tensors of another one where nothing trains in both. Changes the model."""
    theirs = dict(owner.named_parameters())
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and not theirs[name].requires_grad:
            parameter.data = theirs[name].data
