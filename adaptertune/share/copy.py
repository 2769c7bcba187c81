"""A finished run copied out of its store: what is needed to use it, without this machine's paths."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from adaptertune.catalogue import without_revision
from adaptertune.config import parse_runs
from adaptertune.errors import StoreError
from adaptertune.files import write_json
from adaptertune.runs.load import Run, find
from adaptertune.runs.results import UNTOLD, CellResult
from adaptertune.runs.store import CellFolder


def check_empty(folder: Path) -> None:
    """Whether something can be written there.

    Raises:
        StoreError: something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError("is not empty", where=folder, remedy="choose another --to")


def copy_run(run: Run, cell: Path) -> Run:
    """Copy a seed into ``cell`` as a cell with that seed alone, which every command takes as a run.

    The summary over all seeds comes with it. The host's name and all paths of this machine stay here.

    Nothing is written before all of it was read, and nothing stays where not all can be written.

    Raises:
        StoreError: the target can't be written, or the summary is damaged.
        CheckpointError: the checkpoint is damaged.
    """
    from adaptertune.train.checkpoint import read_tensors, write_tensors

    target = CellFolder(cell)
    folder = target.seed(run.result.seed)
    tensors, facts = read_tensors(run.folder.checkpoint)
    summary = run.cell.read_result()
    own: Any = json.loads(run.folder.result.read_text(encoding="utf-8"))
    _strip(own)
    known = json.loads(run.cell.config.read_text(encoding="utf-8"))
    known["task"] = run.task.model_dump(mode="json")
    _strip(known)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_tensors(
            folder.checkpoint, tensors, facts | {"base_name": portable_name(facts["base_name"])}
        )
        own["checkpoint"]["bytes"] = folder.checkpoint.stat().st_size
        own["cost"]["host"] = UNTOLD
        write_json(folder.result, own)
        write_json(target.config, known)
        if summary is not None:
            write_json(target.result, _portable_summary(summary, run))
    except BaseException:  # a part of it would look like a run that is there
        shutil.rmtree(cell, ignore_errors=True)
        raise
    return find(str(folder.path), cell)


def _portable_summary(summary: CellResult, run: Run) -> dict[str, Any]:
    content = summary.model_dump(mode="json")
    _strip(content)
    content["folder"] = run.cell.path.name
    if summary.best_seed is not None:
        content["checkpoint"] = f"seed-{summary.best_seed}/{run.folder.checkpoint.name}"
    for line in content["seeds"]:
        line["folder"] = f"seed-{line['seed']}"
    return content


def _strip(content: dict[str, Any]) -> None:
    """Take the paths out of a result or configuration file: where its parts came from, and went."""
    settings = content["config"]
    settings["output"] = "runs"
    if settings["data"].get("folder") is not None:
        settings["data"]["folder"] = UNTOLD
    settings["task"] = Path(settings["task"]).name
    settings["recipe"] = Path(settings["recipe"]).name
    if settings.get("init_from"):
        settings["init_from"] = [_portable_run(run) for run in parse_runs(settings["init_from"])]
    if content.get("data") and content["data"]["source"] == "folder":
        described = content["data"]["description"].removeprefix("folder ")
        content["data"]["description"] = f"folder {Path(described).name}"
    settings["backbone"] = portable_name(settings["backbone"])
    if content.get("backbone"):
        name = content["backbone"]["name"]
        content["backbone"]["name"] = portable_name(name)
        if content.get("protocol"):  # an imported run's names it, too
            content["protocol"] = content["protocol"].replace(name, portable_name(name))
    for key, origin in (content.get("origins") or {}).items():
        content["origins"][key] = Path(origin).name if "/" in origin else origin


def _portable_run(run: str) -> str:
    """A run's name; of the folder of a seed that of the run's and its own."""
    path = Path(run)
    return f"{path.parent.name}/{path.name}" if re.fullmatch(r"seed-\d+", path.name) else path.name


def portable_name(backbone: str) -> str:
    """A backbone's name on the hub or in the catalogue; of a folder of this machine its last part."""
    is_path = backbone.startswith(("/", ".", "~")) or without_revision(backbone).count("/") > 1
    return Path(backbone).name if is_path else backbone
