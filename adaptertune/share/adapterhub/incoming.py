"""A folder of AdapterHub's library becomes a run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptertune import download
from adaptertune.errors import CheckpointError, ConfigError, HubError, StoreError
from adaptertune.files import exclusive, write_json
from adaptertune.runs import execute, results, store, units
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import OnProgress
from adaptertune.runs.summary import summarise
from adaptertune.share.adapterhub.files import LARGEST_CONFIG, LARGEST_WEIGHTS, file_of
from adaptertune.share.adapterhub.layout import (
    CONFIG,
    FILES,
    HEAD_CONFIG,
    HEAD_WEIGHTS,
    WEIGHTS,
    Foreign,
)
from adaptertune.tasks import Task

if TYPE_CHECKING:
    from adaptertune.share.adapterhub.files import Tensors

SEED = 0  # stands for the one training that an imported adapter had


def fetch(source: str, *, revision: str | None, offline: bool) -> tuple[Path, results.Imported]:
    """A folder, or the files that matter of a hub repository, and what is known of their origin.

    Raises:
        HubError: the repository can't be had.
        StoreError: there is no such folder.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ConfigError("goes with OWNER/NAME on the hub, not a folder", where="--revision")
        folder, name, commit = Path(source), Path(source).resolve().name, None
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source, re.ASCII) and not Path(source).exists():
        place, mend = f"model {source}", "give what save_adapter wrote"
        wanted = FILES
        if not download.is_off(offline=offline):
            # Fetched by the revision's own name, under which the cache finds it without network.
            _, sizes = download.files_of("model", source, revision)
            # Of weights in both formats the pickle is not read.
            weights = [
                safe if safe in sizes else pickle for safe, pickle in (WEIGHTS, HEAD_WEIGHTS)
            ]
            wanted = [CONFIG, HEAD_CONFIG, *weights]
            for file in wanted:
                largest = LARGEST_WEIGHTS if file in weights else LARGEST_CONFIG
                download.check_size(file, sizes.get(file, 0), largest, place, mend)
        folder = download.snapshot(
            "model", source, wanted, revision=revision, offline=offline, remedy=download.ONLINE
        )
        name, commit = source, folder.name
    else:
        raise StoreError(
            "no such folder", where=source, remedy="give an unpacked folder, or OWNER/NAME"
        )
    there = [name for name in FILES if file_of(folder, name) is not None]
    unread = [pickle for safe, pickle in (WEIGHTS, HEAD_WEIGHTS) if safe in there]
    sha256 = {
        # By the link, whose name of the hub's cache tells what it should be.
        name: download.sha256(folder / name)
        for name in there
        if name not in unread
    }
    if CONFIG not in sha256:
        raise HubError(f"no {CONFIG}", where=source, remedy="give what save_adapter wrote")
    return folder, results.Imported(source=name, commit=commit, library="", sha256=sha256)


def settings(foreign: Foreign, own: Mapping[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """The settings that follow from a folder, with a user's own, for ``config.resolve``:
    key -> (value, origin).

    Raises:
        ConfigError: neither says the base model, and the folder says one that nobody else can have.
    """
    method = foreign.method.model_dump(mode="json", exclude_defaults=True) | {"name": "adapter"}
    found: dict[str, tuple[Any, str]] = {
        f"method.{key}": (value, CONFIG) for key, value in method.items() if key != "init_std"
    }
    found["seeds"] = ([SEED], "one training, elsewhere")
    found["training.precision"] = ("fp32", "that its logits are AdapterHub's")
    if foreign.backbone is not None:
        found["backbone"] = (foreign.backbone, CONFIG)
    elif foreign.model_name and "backbone" not in own:
        raise ConfigError(
            f"its base model was '{foreign.model_name}', which is no name of the hub",
            where=foreign.folder / CONFIG,
            remedy="say with --backbone which model that is",
        )
    return {**found, **own}


def check(foreign: Foreign, plan: Plan) -> Plan:
    """The plan of an imported run, if base model and task fit.

    Raises:
        CheckpointError: the adapters are of a model of another shape.
        ConfigError: the head has other labels than the task, or another number.
    """
    shape, task = plan.located.shape, plan.task
    if shape.architecture != "bert":
        raise CheckpointError(
            f"of a BERT; {plan.located.name} is a {shape.architecture}",
            where=foreign.folder,
            remedy="name its own with --backbone",
        )
    if foreign.width != shape.width:
        raise CheckpointError(
            f"of a model {foreign.width} wide; {plan.located.name} is {shape.width} wide",
            where=foreign.folder,
            remedy="name its own with --backbone",
        )
    expected = [layer for layer in range(shape.layers) if layer not in foreign.left_out]
    if list(foreign.layers) != expected:
        raise CheckpointError(
            f"adapters in {len(foreign.layers)} layers, {foreign.layers[-1]} the last; "
            f"{plan.located.name} has {shape.layers}",
            where=foreign.folder,
            remedy="name its own with --backbone",
        )
    if foreign.num_outputs != task.num_outputs:
        raise ConfigError(
            f"the head has {foreign.num_outputs} outputs, task '{task.name}' {task.num_outputs}",
            where=foreign.folder,
            remedy="choose the --task that it was trained for",
        )
    labels = foreign.labels_as_in(task)
    if labels is not None and set(labels) != set(task.labels or ()):
        raise ConfigError(
            f"the head's labels are {', '.join(labels)}, those of task '{task.name}' "
            f"{', '.join(task.labels or ())}",
            where=foreign.folder / HEAD_CONFIG,
            remedy="choose the --task that it was trained for, or write one with these labels",
        )
    return replace(plan, imported=foreign.facts)


def write_run(
    foreign: Foreign, plan: Plan, on_progress: OnProgress, note: Callable[[str], None]
) -> results.CellResult:
    """Evaluate imported adapters on the task's splits, and put them into the store as a run.

    Raises:
        CheckpointError: tensors do not fit the base model.
        StoreError: the run is there already, or can't be written.
    """
    import torch

    from adaptertune.metrics import TaskMetric  # noqa: F401  (its libraries take seconds to import)
    from adaptertune.train import checkpoint, device, evaluate

    folder = plan.folder.seed(SEED)
    if folder.result.exists():
        raise StoreError(
            "is there already", where=plan.folder.path, remedy="choose another --output"
        )
    if foreign.labels_as_in(plan.task) is None and plan.task.labels:
        note(f"its labels have no names; they are taken as {', '.join(plan.task.labels)}")
    with device.cpu_threads(plan.config.threads):
        model = load_models(plan, [SEED])[SEED]
        checkpoint.put_trained(model, _in_order(foreign, plan.task), foreign.folder)
        _, splits = execute.examples(plan, on_progress, note)
        started = time.perf_counter()
        logits = evaluate.logits(model, splits[0], torch.device(plan.device))
        with exclusive(folder.path):
            write_json(plan.folder.config, units.config_file(plan))
            kept = execute.keep(plan, splits, model, logits, 1, folder)
            seconds = time.perf_counter() - started
            cost = execute.cost_here(plan, train_seconds=0.0, evaluate_seconds=seconds)
            result = execute.seed_result(plan, SEED, cost, kept)
            store.write_result(folder.result, result)
    found = summarise(plan, [result])
    store.write_result(plan.folder.result, found)
    return found


def _in_order(foreign: Foreign, task: Task) -> Tensors:
    """The tensors with the head's rows in the order of the task's labels."""
    labels = foreign.labels_as_in(task)
    if labels is None or task.labels is None:
        return foreign.tensors
    order = [labels.index(label) for label in task.labels]
    own = {name: foreign.tensors[name][order] for name in ("head.weight", "head.bias")}
    return foreign.tensors | own
