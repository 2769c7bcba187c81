"""``adaptertune import`` and ``export``: adapters in the format of AdapterHub's library."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptertune import catalogue
from adaptertune.cli import options
from adaptertune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from adaptertune.share.adapterhub.outgoing import Loss
    from adaptertune.tasks import Task


def import_(
    source: Annotated[
        str, typer.Argument(help="A folder that save_adapter wrote, or OWNER/NAME on the hub.")
    ],
    task: options.Task = None,
    data_dir: options.DataDir = None,
    offline: options.Offline = False,
    backbone: options.Backbone = None,
    max_length: options.MaxLength = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="fp32 (default, as theirs) or bf16.", metavar="NAME"),
    ] = None,
    device: options.Device = None,
    threads: options.Threads = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A commit, a tag or a branch of the hub.")
    ] = None,
    output: options.Output = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Take an adapter that AdapterHub's library trained into the store, as a run of a task.

    It is evaluated on the task's data; base model and tokenizer are the recorded ones or --backbone's.
    """
    from adaptertune.cli import bar
    from adaptertune.cli.train import conclude
    from adaptertune.config import resolve
    from adaptertune.report import tables
    from adaptertune.runs.plan import plan as make_plan
    from adaptertune.share.adapterhub import incoming, layout

    talk = tables.console(stderr=True, quiet=quiet)
    foreign = layout.read(*incoming.fetch(source, revision=revision, offline=offline))
    given = {
        "task": task, "backbone": backbone, "max_length": max_length, "precision": precision,
        "device": device, "threads": threads, "output": output,
    }  # fmt: skip
    own = options.as_settings(given, data_dir=data_dir, offline=offline)
    plan = incoming.check(foreign, make_plan(resolve(incoming.settings(foreign, own))))
    with bar.progress(talk) as on_progress:
        result = incoming.write_run(foreign, plan, on_progress, talk.out)
    if as_json:
        print(result.as_line())
        return
    console = tables.console()
    conclude(result, console)
    words = "TEXT TEXT" if plan.task.is_pair else "TEXT"
    console.out(f"Next        adaptertune predict {shlex.quote(result.folder)} {words}")


def export(
    run: options.RunOrSeed,
    to: Annotated[Path, typer.Option("--to", help="Folder to make.")],
    drop_layernorms: Annotated[
        bool,
        typer.Option(
            "--drop-layernorms",
            help="Leave out tuned LayerNorms, which the format can't hold, and measure what that costs.",
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed to write (default: best on validation).")
    ] = None,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    output: options.Output = None,
    offline: options.LocalOnly = False,
    backbone: options.Place = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a run as AdapterHub's library (adapters 1.3.0) reads it: adapters and head, no pickle."""
    from adaptertune.cli import bar
    from adaptertune.report import tables
    from adaptertune.runs import load, reopen
    from adaptertune.share.adapterhub import outgoing
    from adaptertune.share.copy import check_empty

    found = load.find(run, output or Path("runs"), seed)
    method = outgoing.exportable(found, drop_layernorms=drop_layernorms)
    check_empty(to)  # before minutes of evaluation
    loss = None
    if method.layernorms != "none":
        talk = tables.console(stderr=True, quiet=quiet)
        finished = found.cell.finished_result()
        with bar.progress(talk) as on_progress:
            reopened = reopen.reopen(
                found.cell,
                finished,
                device=device,
                data_dir=data_dir,
                place=backbone,
                offline=offline,
            )
            loss = outgoing.loss_without_layernorms(found, reopened, on_progress, talk.out)
    elif data_dir or device:
        where, remedy = "--data-dir" if data_dir else "--device", "leave it out"
        raise ConfigError("nothing is left out, so nothing is measured", where=where, remedy=remedy)
    outgoing.export(found, to, place=backbone, offline=offline, drop_layernorms=drop_layernorms)
    if as_json:
        told = {"folder": str(to), "seed": found.result.seed}
        print(json.dumps(told | {"loss": None if loss is None else asdict(loss)}))
        return
    console = tables.console()
    if loss is not None:
        console.print(_loss(found.task, loss))
    console.out(f"Folder      {to}")
    name, base = str(to), found.result.backbone.model
    if backbone or catalogue.package(base):  # a name of ours, that nobody else knows
        base = str(found.locate(backbone, offline=offline).folder)
    console.out(
        f"Next        model = AutoAdapterModel.from_pretrained({base!r})\n"
        f"            model.load_adapter({name!r}, use_safetensors=True, set_active=True)"
    )


def _loss(task: Task, loss: Loss) -> RenderableType:
    from adaptertune.report import tables

    made = tables.table(
        "split", "metric", "as trained", "as exported", "change",
        right=("as trained", "as exported", "change"),
    )  # fmt: skip
    for split, values in loss.with_own.items():
        for metric in task.metrics:
            before, after = values[metric], loss.without[split][metric]
            change = None if before is None or after is None else after - before
            made.add_row(
                split,
                tables.METRIC_NAMES[metric],
                tables.percent(before),
                tables.percent(after),
                tables.percent(change),
                style="bold" if metric == task.headline else None,
            )
    return tables.titled("Without the tuned LayerNorms, in per cent", made)
