"""What a method inserts and which parameters it trains: exact names, one path for all methods."""

from __future__ import annotations

import importlib.util
import re

import torch
from torch import nn

from adaptertune import config, seeds
from adaptertune.errors import ConfigError
from adaptertune.model.adapter import Adapter
from adaptertune.model.classifier import Classifier
from adaptertune.model.inject import PLACES, insert_adapters, insert_peft
from adaptertune.model.ledger import check_layers


def adapter_layers(method: config.Adapter, num_layers: int) -> tuple[int, ...]:
    """The layers that get adapters."""
    return tuple(range(num_layers)) if method.layers is None else method.layers


def prepare(model: Classifier, method: config.Method, seed: int) -> None:
    """Insert what the method inserts, and let exactly its parameters train. Changes the model.

    Raises:
        ConfigError: the method names layers that the model does not have.
    """
    layers = model.backbone.encoder.layer
    check_layers(method, len(layers))
    if isinstance(method, config.Adapter):
        width = model.backbone.config.hidden_size

        def make(layer: int, place: str) -> Adapter:
            stream = torch.Generator().manual_seed(seeds.derive(seed, "adapters", layer, place))
            return Adapter(
                width,
                method.size,
                init_std=method.init_std,
                activation=method.activation,
                generator=stream,
                depth=method.depth,
                norm=method.norm,
                reads=method.reads,
                multiplies=method.combines == "multiply",
                scale=method.scale,
            )

        chosen = adapter_layers(method, len(layers))
        places = PLACES if method.places == "both" else (method.places,)
        insert_adapters(model.backbone, chosen, make, places)
    elif isinstance(method, config.LoRA | config.IA3):
        insert_peft(model.backbone, method, seeds.derive(seed, method.name))
    names = trained_names(model, method, len(layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    model.trunk_depth = trunk_depth(model)


def is_stackable(method: config.Method) -> bool:
    """Whether several seeds can train in one pass: whether all products of the layers stay frozen."""
    if isinstance(method, config.Adapter):
        return method.norm != "batch"  # whose statistics must be those of one seed's batch
    return isinstance(method, config.LayerNorm)


def check_available(method: config.Method) -> None:
    """Whether what a method needs is installed.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(method, config.LoRA | config.IA3) and importlib.util.find_spec("peft") is None:
        raise ConfigError(
            f"method '{method.name}' needs the package peft",
            where="--method",
            remedy="pip install peft",
        )


def trunk_depth(model: Classifier) -> int:
    """How many layers from the bottom, embeddings included, hold nothing that trains; 0 if the
    embeddings train.
    """
    if any(p.requires_grad for p in model.backbone.embeddings.parameters()):
        return 0
    layers = model.backbone.encoder.layer
    return next(
        (i for i, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())),
        len(layers) - 1,
    )


def trained_names(model: nn.Module, method: config.Method, num_layers: int) -> set[str]:
    """Names of the parameters that train under a method; the head always does."""
    if isinstance(method, config.Adapter):
        # All LayerNorms, the embedding's included, as in the official code; the pooler is frozen. With
        # chosen layers those of these, unless told otherwise: below the lowest nothing trains then.
        pattern = r"\.adapter\."
        norms = method.trained_layernorms
        if norms is None:
            pattern += r"|\.LayerNorm\."
        elif norms:
            chosen = "|".join(map(str, norms))
            pattern += rf"|\.encoder\.layer\.({chosen})\..*\.LayerNorm\."
        if method.pooler == "trained":
            pattern += r"|\.pooler\."
    elif isinstance(method, config.Full):
        pattern = r"" if method.pooler == "trained" else r"^backbone\.(?!pooler\.)"
    elif isinstance(method, config.TopLayers):
        top = "|".join(str(layer) for layer in range(num_layers - method.k, num_layers))
        pattern = rf"\.encoder\.layer\.({top})\.|\.pooler\."
    elif isinstance(method, config.LayerNorm):
        pattern = r"\.LayerNorm\."
    elif isinstance(method, config.LoRA):
        pattern = r"\.lora_[AB]\."
    elif isinstance(method, config.IA3):
        pattern = r"\.ia3_l\."
    else:
        pattern = r"\.bias$"
    return {
        name
        for name, _ in model.named_parameters()
        if name.startswith("head.") or re.search(pattern, name)
    }
