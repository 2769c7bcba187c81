"""``adaptertune push`` and ``pull``: runs on the Hugging Face Hub."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from adaptertune.cli import options

Repository = Annotated[str, typer.Argument(help="OWNER/NAME of a model repository.")]


def push(
    run: options.RunOrSeed,
    repository: Repository,
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    license: Annotated[
        str, typer.Option("--license", help="Licence of what trained, as the hub calls it.")
    ] = "apache-2.0",
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed to upload (default: best on validation).")
    ] = None,
    output: options.Output = None,
    as_json: options.Json = False,
) -> None:
    """Upload a run to the hub: what trained as safetensors, its facts, and a model card.

    The base model, the data, and this machine's name and paths stay here.
    """
    from adaptertune.runs import load
    from adaptertune.share import hub

    found = load.find(run, output or Path("runs"), seed)
    address = hub.push(found, repository, private=private, license=license)
    print(json.dumps({"repository": repository, "address": address}) if as_json else address)


def pull(
    repository: Repository,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A commit, a tag or a branch.")
    ] = None,
    output: options.Output = None,
    offline: options.LocalOnly = False,
    as_json: options.Json = False,
) -> None:
    """Fetch a run from the hub, check all of it, and put it into the store."""
    from adaptertune.share import hub

    run = hub.pull(repository, output or Path("runs"), revision=revision, offline=offline)
    folder = str(run.cell.path)
    if as_json:
        print(json.dumps({"repository": repository, "folder": folder, "task": run.task.name}))
        return
    print(f"Run         {folder}")
    words = "TEXT TEXT" if run.task.is_pair else "TEXT"
    base = "" if hub.can_be_fetched(run.result.backbone) else " --backbone FOLDER"
    print(f"Next        adaptertune predict {shlex.quote(folder)} {words}{base}")
