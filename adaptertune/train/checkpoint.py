"""Tensors with their facts in one safetensors file, written atomically. Never a pickle.

Two kinds use it: a checkpoint (what trained, and on which base) and a snapshot (all that a killed
run needs to go on).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from adaptertune.errors import CheckpointError
from adaptertune.files import write_atomically

# One metadata key: the format keeps its keys in no fixed order, and files must be reproducible.
KEY = "adaptertune"


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> None:
    """Write tensors and JSON-able facts to ``path``; the file is either whole or not there."""
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    write_atomically(path, save(plain, {KEY: json.dumps(facts, sort_keys=True)}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the facts of a file written by :func:`write_tensors`.

    Raises:
        CheckpointError: the file is missing, truncated, damaged or not ours.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {})[KEY])
            if not isinstance(facts, dict):
                raise ValueError("its facts are none")
            return {name: stream.get_tensor(name) for name in stream.keys()}, facts  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError("no such file", where=path) from None
    except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as error:
        raise CheckpointError(
            f"damaged, or not a checkpoint of adaptertune ({error})",
            where=path,
            remedy="delete its folder and train again",
        ) from None


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that training changes, by name: parameters, and what batch norms in adapters have counted."""
    found = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return found | {name: b for name, b in model.named_buffers() if ".adapter." in name}


def num_trained(model: nn.Module) -> int:
    """How many parameters train; what batch norms have counted are none."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def load_trained(
    model: nn.Module, path: Path, *, base_sha256: str, labels: tuple[str, ...] | None
) -> dict[str, Any]:
    """Put a checkpoint's parameters into a prepared model; returns the checkpoint's facts.

    Raises:
        CheckpointError: another base model, other labels, other names or shapes, or a damaged file.
            The model is changed only if everything fits.
    """
    tensors, facts = read_tensors(path)
    if facts.get("base_sha256") != base_sha256:
        raise CheckpointError(
            f"trained on another base model ({facts.get('base_name')}, SHA-256 "
            f"{str(facts.get('base_sha256'))[:12]}…; this one has {base_sha256[:12]}…)",
            where=path,
            remedy="load it with the backbone it was trained on",
        )
    stored = facts.get("labels")
    if stored != (None if labels is None else list(labels)):
        raise CheckpointError(f"trained for other labels ({stored})", where=path)
    put_trained(model, tensors, path)
    return facts


def start_from(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    head_rows: Sequence[int] | None,
    where: Path,
) -> None:
    """Give what trains in a prepared model the values that it has in another run's checkpoint.

    Args:
        head_rows: for each output which of theirs it is; None leaves the head as it is.

    Raises:
        CheckpointError: as :func:`put_trained`.
    """
    given = dict(tensors)
    for name, tensor in trained_tensors(model).items():
        if name.startswith("head."):
            given[name] = tensor if head_rows is None else tensors[name][list(head_rows)]
    put_trained(model, given, where)


def put_trained(model: nn.Module, tensors: Mapping[str, torch.Tensor], where: Path) -> None:
    """Give all that trains in a prepared model these values.

    Raises:
        CheckpointError: other names or shapes; the model is changed only if everything fits.
    """
    own = trained_tensors(model)
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())
        raise CheckpointError(
            f"{len(odd)} parameters do not match the method, {odd[0]} for one", where=where
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}",
                where=where,
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
