"""``adaptertune task``: tasks of one's own."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, get_args

import typer

from adaptertune.cli import options
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import nearest

app = typer.Typer(help="Write and check the YAML file of a task of your own.", no_args_is_help=True)


@app.command("new")
def new(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Labelled rows: TSV, CSV, JSON Lines or Parquet; or hub:OWNER/NAME[@REVISION].",
        ),
    ],
    validation: Annotated[
        str | None,
        typer.Option(
            "--validation",
            help="Rows that select; else a tenth of the file is held out. Of the hub a split.",
            metavar="FILE",
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", help="Rows without labels. Of the hub a split.", metavar="FILE"),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option("--train", help="Of the hub: the split that trains.", metavar="SPLIT"),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option("--subset", help="Of the hub: the dataset's folder.", metavar="FOLDER"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The task's name (default: after the file).")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column with the labels.", metavar="COLUMN")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--first", help="Column with the texts.", metavar="COLUMN")
    ] = None,
    second: Annotated[
        str | None, typer.Option("--second", help="Column with a pair's second.", metavar="COLUMN")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="labels or scores (default: by the values).")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write a task's YAML file beside a file of rows, or here for a dataset of the hub, telling what
    each guess rests on.

    Columns may be positions (from 0) where there is no header line.
    """
    from adaptertune.data.draft import draft, draft_from_hub
    from adaptertune.data.draft.labels import Kind
    from adaptertune.report import tables

    given = next((known for known in get_args(Kind) if known == kind), None)
    if kind is not None and given is None:
        raise ConfigError(f"no kind '{kind}'", where="--kind", remedy=nearest(kind, get_args(Kind)))
    if source.startswith("hub:"):
        made = draft_from_hub(
            source.removeprefix("hub:"), Path(), subset=subset, train=train, validation=validation,
            test=test, name=name, label=label, first=first, second=second, kind=given,
        )  # fmt: skip
    elif train is not None or subset is not None:
        option = "--subset" if train is None else "--train"
        raise ConfigError("is for a dataset of the hub", where=option, remedy="hub:OWNER/NAME")
    else:
        made = draft(
            Path(source), validation=Path(validation) if validation else None,
            test=Path(test) if test else None, name=name, label=label, first=first, second=second,
            kind=given,
        )  # fmt: skip
    if as_json:
        written = [str(path) for path in made.written]
        print(json.dumps({"file": str(made.path), "written": written, "notes": made.notes}))
        return
    console = tables.console()
    for note in made.notes:
        console.out(f"· {note}")
    console.out(f"\n{made.path.read_text(encoding='utf-8')}")
    console.out(f"Task        {made.path}")
    console.out(f"Next        adaptertune task check {shlex.quote(str(made.path))}")


@app.command("check")
def check(
    task: Annotated[str, typer.Argument(help="A task's YAML file, or the name of a GLUE task.")],
    data_dir: options.DataDir = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
) -> None:
    """Read a task's file and all its rows, and tell everything that is wrong. Exit code 2 if it is."""
    from adaptertune import tasks
    from adaptertune.cli.bar import progress
    from adaptertune.data import check as checking
    from adaptertune.report import tables
    from adaptertune.report.tables import data as shown

    name, heading, loaded = task, task, None
    report = checking.Report()
    for fault in tasks.faults(task):
        report.error(fault.where, fault.what, fault.remedy)
    if not report.findings:
        loaded, path = tasks.load_with_path(task, None)
        source = checking.source_of(path, loaded, data_dir, offline=offline)
        with progress(tables.console(stderr=True)) as on_progress:
            report = checking.check(
                loaded, source, lambda part, rows: on_progress(part, rows, None)
            )
        name, heading = loaded.name, f"{loaded.title} · {source.describe(loaded)}"
    if as_json:
        print(json.dumps({"task": name, "errors": report.num_errors, **asdict(report)}))
    else:
        tables.console().print(shown.check(heading, report, loaded))
    if report.num_errors:
        raise typer.Exit(2)
