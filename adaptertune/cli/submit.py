"""``adaptertune submit``: the zip for the GLUE server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from adaptertune.cli import complete, options


def submit(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs to take instead of the best of their tasks in the store.",
            autocompletion=complete.run,
        ),
    ] = None,
    data_dir: options.DataDir = None,
    to: Annotated[
        Path, typer.Option("--to", help="The zip to write.", rich_help_panel=options.RUN)
    ] = Path("submission.zip"),
    fill: Annotated[
        bool,
        typer.Option(
            "--fill",
            help="Fill files without run with a majority baseline, and name them.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    device: options.Device = None,
    output: options.Output = None,
    offline: options.LocalOnly = False,
    backbone: options.Place = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer GLUE's test sets with the best run of each task, in the form its server takes.

    The diagnostic set (AX) is answered by the MNLI run.
    """
    from adaptertune.cli.bar import progress
    from adaptertune.data.sources import Source
    from adaptertune.errors import BackboneError
    from adaptertune.report import tables
    from adaptertune.report.tables.predictions import submission
    from adaptertune.runs import load
    from adaptertune.share import glue

    talk = tables.console(stderr=True, quiet=quiet)
    source = Source("folder", data_dir) if data_dir else Source("hub", offline=offline)
    chosen = glue.choose_runs(runs or [], output or Path("runs"))
    planned = glue.entries(chosen, source, fill=fill)

    def load_run(run: load.Run) -> load.Loaded:
        # Of runs on several base models the place is that of those that are lost.
        try:
            return load.load(run, device=device or "auto", offline=offline)
        except BackboneError:
            if backbone is None:
                raise
            return load.load(run, device=device or "auto", place=backbone, offline=offline)

    with progress(talk) as on_progress:
        glue.write(to, planned, source, load_run, on_progress)
    if as_json:
        files: list[dict[str, Any]] = [
            {
                "file": entry.file,
                "task": entry.task.name,
                "split": entry.split,
                "rows": entry.num_rows,
                "run": str(entry.run.folder.path) if entry.run else None,
                "score": entry.run.score if entry.run else None,
                "imported": bool(entry.run.result.imported) if entry.run else None,
                "partial_training_set": entry.run.result.data.partial if entry.run else None,
                "filled_with": entry.constant,
                "why_filled": entry.why,
            }
            for entry in planned
        ]
        print(json.dumps({"zip": str(to), "files": files}))
    else:
        tables.console().print(submission(to, planned))
