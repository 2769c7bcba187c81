"""A run becomes a folder that AdapterHub's library reads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptertune import config as configuration
from adaptertune.errors import ConfigError
from adaptertune.files import write_atomically, write_json
from adaptertune.runs import execute
from adaptertune.runs.load import Run
from adaptertune.runs.models import load_models
from adaptertune.runs.progress import OnProgress
from adaptertune.runs.reopen import Reopened
from adaptertune.share.adapterhub.layout import (
    ACTIVATIONS,
    CONFIG,
    HEAD_CONFIG,
    HEAD_WEIGHTS,
    PLACES,
    VERSION,
    WEIGHTS,
    names,
)
from adaptertune.share.copy import check_empty, portable_name

if TYPE_CHECKING:
    import torch

    from adaptertune.model.classifier import Classifier


@dataclass(frozen=True)
class Loss:
    """Scores with the tuned LayerNorms and with the base model's instead: split -> metric -> value."""

    with_own: dict[str, dict[str, float | None]]
    without: dict[str, dict[str, float | None]]


def export(
    run: Run, folder: Path, *, place: str | None = None, offline: bool, drop_layernorms: bool
) -> None:
    """Write a run into a new folder as AdapterHub's library reads it, in safetensors.

    Args:
        place: where the base model is, if it is no longer where the run had it.
        drop_layernorms: leave out tuned LayerNorms; see :func:`loss_without_layernorms`.

    Raises:
        ConfigError: their format has no place for what the run trained.
        CheckpointError: the checkpoint is damaged.
        StoreError: the folder is not empty or can't be written.
    """
    from safetensors.torch import save

    from adaptertune.train.checkpoint import read_tensors

    method = exportable(run, drop_layernorms=drop_layernorms)
    check_empty(folder)
    shape = run.locate(place, offline=offline).shape
    own, _ = read_tensors(run.folder.checkpoint)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", run.task.name)
    layers = method.layers or tuple(range(shape.layers))
    places = list(PLACES) if method.places == "both" else [method.places]
    normed = method.norm == "layer"
    adapters = {
        f"bert.{theirs}": own[ours]
        for layer in layers
        for place in places
        for ours, theirs in names(layer, place, name, normed=normed)
    }
    if normed:  # which is in their files twice
        adapters |= {
            key.replace(".adapter_down.0.", ".adapter_norm_before."): tensor.clone()
            for key, tensor in adapters.items()
            if ".adapter_down.0." in key
        }
    is_deep = method.pooler == "trained"
    parts = {"backbone.pooler.dense": 1, "head": 4} if is_deep else {"head": 1}
    head = {
        f"heads.{name}.{at}.{kind}": own[f"{ours}.{kind}"]
        for ours, at in parts.items()
        for kind in ("weight", "bias")
    }
    described = {
        "name": name,
        "model_type": "bert",
        "model_class": "BertAdapterModel",
        "model_name": portable_name(run.result.backbone.model),
        "hidden_size": shape.width,
        "version": VERSION,
    }
    bottleneck: dict[str, Any] = {
        "mh_adapter": "attention" in places,
        "output_adapter": "feedforward" in places,
        "reduction_factor": reduction_factor(shape.width, method.size),
        "non_linearity": next(
            key for key, ours in ACTIVATIONS.items() if ours == method.activation
        ),
        "original_ln_before": method.reads == "normed",
        "original_ln_after": True,
        "ln_before": normed,
        "ln_after": False,
        "is_parallel": method.reads == "input",
        "scaling": method.scale,
        "residual_before_ln": True,
        "leave_out": [layer for layer in range(shape.layers) if layer not in layers],
    }
    labels = run.task.labels
    classification = {
        "head_type": "classification",
        "num_labels": run.task.num_outputs,
        "layers": 2 if is_deep else 1,
        "activation_function": "tanh",
        "use_pooler": not is_deep,
        "label2id": {label: number for number, label in enumerate(labels)} if labels else None,
        "bias": True,
        "dropout_prob": None,
    }
    try:
        write_atomically(folder / WEIGHTS[0], save(adapters, {"format": "pt"}))
        write_atomically(folder / HEAD_WEIGHTS[0], save(head, {"format": "pt"}))
        write_json(folder / HEAD_CONFIG, described | {"config": classification})
        write_json(folder / CONFIG, described | {"config": bottleneck})
    except BaseException:  # so that it can be tried again
        for name in (WEIGHTS[0], HEAD_WEIGHTS[0], HEAD_CONFIG, CONFIG):
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        raise


def exportable(run: Run, *, drop_layernorms: bool) -> configuration.Adapter:
    """The run's method, if their format can hold what it trained.

    Raises:
        ConfigError: it can't, with what stands in the way.
    """
    method, kind = run.method, run.result.backbone.architecture
    what = None
    if kind != "bert":
        what, remedy = f"a {kind} as we train it", "export a run on a BERT"
    elif not isinstance(method, configuration.Adapter):
        what, remedy = f"method '{method.name}'", "export a run of method adapter"
    elif (method.combines, method.depth) != ("add", 1) or method.norm == "batch":
        what = "this variant of the adapter"
        remedy = "combines add, depth 1 and norm none or layer can be exported"
    elif method.layernorms != "none" and not drop_layernorms:
        what = "tuned LayerNorms"
        remedy = (
            "--drop-layernorms leaves them out and measures what that costs; a run with --set "
            "method.layernorms=none has none"
        )
    if what is not None or not isinstance(method, configuration.Adapter):
        raise ConfigError(
            f"AdapterHub's format has no place for {what}", where=run.folder.path, remedy=remedy
        )
    return method


def loss_without_layernorms(
    run: Run, reopened: Reopened, on_progress: OnProgress, note: Callable[[str], None]
) -> Loss:
    """What a run's seed scores with the base model's LayerNorms instead of its own.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    import torch

    from adaptertune.metrics import TaskMetric
    from adaptertune.train import evaluate

    plan, seed = reopened.plan, run.result.seed
    _, scored = execute.examples(plan, on_progress, note)
    splits = [split for split in scored if split.name in plan.task.evaluation]
    plain = _layernorms(load_models(plan, [seed])[seed])
    model = reopened.load(seed)
    with torch.no_grad():
        for name, tensor in _layernorms(model).items():
            tensor.copy_(plain[name])
    metric, device = TaskMetric(plan.task), torch.device(plan.device)
    without = {
        split.name: evaluate.score(
            plan.task, metric, split, evaluate.logits(model, split, device)
        ).values
        for split in splits
    }
    with_own = {split.name: run.result.scores[split.name].values for split in splits}
    return Loss(with_own, without)


def _layernorms(model: Classifier) -> Mapping[str, torch.Tensor]:
    """The base model's own, not those inside adapters."""
    return {name: p for name, p in model.named_parameters() if ".LayerNorm." in name}


def reduction_factor(width: int, size: int) -> float:
    """What their library makes this size of: ``int(width // factor)``."""
    factor = width / size
    while int(width // factor) < size:  # the quotient was rounded up
        factor = math.nextafter(factor, 0)
    return factor
