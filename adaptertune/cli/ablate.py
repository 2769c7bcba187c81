"""``adaptertune ablate``: what the parts of a method are good for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptertune.cli import options

app = typer.Typer(help="Analyses of the paper: take parts away, or vary them.")


@app.command("spans")
def spans(
    run: options.Run,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers", help="Only spans of these layers, e.g. 0-5 (default: all with adapters)."
        ),
    ] = None,
    data_dir: options.DataDir = None,
    output: options.Output = None,
    device: options.Device = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove trained adapters from every span of layers, without retraining, and evaluate.

    LayerNorms and head stay as trained. The result is spans.json in the run's folder.
    """
    from adaptertune.cli import bar
    from adaptertune.report import heatmap, tables
    from adaptertune.runs import reopen, store

    chosen = options.layer_list(layers)
    folder = store.find_cell(run, output or Path("runs"))
    finished = folder.finished_result()
    talk = tables.console(stderr=True, quiet=quiet)
    with bar.progress(talk) as on_progress:
        from adaptertune.study import spans as study

        reopened = reopen.reopen(folder, finished, device=device, data_dir=data_dir)
        result = study.spans(reopened, chosen, on_progress, talk.print)
    if as_json:
        print(result.model_dump_json())
    else:
        tables.console().print(heatmap.spans(result))
