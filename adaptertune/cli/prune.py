"""``adaptertune prune``: a smaller run from a trained one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from adaptertune.cli import options


def prune(
    run: options.Run,
    max_drop: Annotated[
        float,
        typer.Option(
            "--max-drop",
            min=0,
            max=100,
            help="Most points of the headline metric (its mean over the seeds) that may be lost.",
        ),
    ] = 0.5,
    data_dir: options.DataDir = None,
    offline: options.LocalOnly = False,
    backbone: options.Place = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Run store in which a name is looked up (default: runs), and to which the smaller run "
            "goes (default: the run's own).",
            rich_help_panel=options.RUN,
            show_default=False,
        ),
    ] = None,
    device: options.Device = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Take away the adapters that matter least, and write a smaller run. Nothing is trained.

    Chosen on one half of validation; the score on the other half is reported.
    """
    from adaptertune.cli import bar
    from adaptertune.report import tables
    from adaptertune.report.tables import pruning
    from adaptertune.runs import reopen, store

    folder = store.find_cell(run, output or Path("runs"))
    finished = folder.finished_result()
    talk = tables.console(stderr=True, quiet=quiet)
    with bar.progress(talk) as on_progress:
        from adaptertune.study import prune as study

        reopened = reopen.reopen(
            folder, finished, device=device, data_dir=data_dir, place=backbone, offline=offline
        )
        result = study.prune(reopened, max_drop / 100, on_progress, talk.out, output)
    if as_json:
        print(result.as_line())
        return
    console = tables.console()
    console.print(pruning.pruning(result))
    if result.pruned:
        console.out(f"Next        adaptertune show {shlex.quote(result.pruned)}")
