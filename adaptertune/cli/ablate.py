"""``adaptertune ablate``: what the parts of a method are good for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from adaptertune.cli import options
from adaptertune.cli.carry_out import How, carry_out

app = typer.Typer(help="Analyses of the paper: take parts away, or vary them.")
# The ablations that are sweeps.
SWEEPS = {
    "init": "Train with first weights of the adapters from tiny to large (the paper's figure 6).",
    "size": "Train adapters of every size from 1 to 512 (the paper's figure 4).",
    "lr": "Train adapters and all of the model with learning rates from 2e-5 to 1e-3 (appendix B).",
    "depth": "Train adapters, only the top layers, only the LayerNorms: score against parameters.",
    "parts": "Train adapters with frozen LayerNorms, or with the pooler: what trains beside them.",
    "variants": "Train variants of the adapter, LoRA and (IA)3, each with the same budget.",
}


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
    offline: options.LocalOnly = False,
    backbone: options.Place = None,
    output: options.Output = None,
    device: options.Device = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove trained adapters from every span of layers, without retraining, and evaluate.

    LayerNorms and head stay as trained. The result is spans.json in the run's folder.
    """
    from adaptertune.cli import bar
    from adaptertune.report import tables
    from adaptertune.report.tables import spans as shown
    from adaptertune.runs import reopen, store

    chosen = options.layer_list(layers)
    folder = store.find_cell(run, output or Path("runs"))
    finished = folder.finished_result()
    talk = tables.console(stderr=True, quiet=quiet)
    with bar.progress(talk) as on_progress:
        from adaptertune.study import spans as study

        reopened = reopen.reopen(
            folder, finished, device=device, data_dir=data_dir, place=backbone, offline=offline
        )
        result = study.spans(reopened, chosen, on_progress, talk.out)
    if as_json:
        print(result.as_line())
    else:
        tables.console().print(shown.spans(result))


def _command(kind: str) -> Callable[..., None]:
    """The command of one ablation; all take the same options."""

    def command(
        config: Annotated[
            str | None,
            typer.Option(
                "--config",
                help="Another sweep with this axis, as a YAML file (default: the package's own).",
                metavar="FILE",
                rich_help_panel=options.SWEEP,
                show_default=False,
            ),
        ] = None,
        tasks: options.Tasks = None,
        methods: options.Methods = None,
        sizes: options.Sizes = None,
        learning_rates: options.LearningRates = None,
        epochs: options.EpochsList = None,
        grid: options.Grid = None,
        seeds: options.Seeds = None,
        seeds_on: options.SeedsOn = None,
        protocol: options.Protocol = None,
        data_dir: options.DataDir = None,
        offline: options.Offline = False,
        backbone: options.Backbone = None,
        init_from: options.InitFrom = None,
        recipe: options.Recipe = None,
        batch_size: options.BatchSize = None,
        max_length: options.MaxLength = None,
        precision: options.Precision = None,
        device: options.Device = None,
        threads: options.Threads = None,
        output: options.Output = None,
        stack: options.Stack = None,
        trunk_cache: options.TrunkCache = None,
        compile: options.Compile = None,
        settings: options.Set = None,
        executor: options.Executor = "serial",
        workers: options.Workers = None,
        ray_address: options.RayAddress = None,
        gpu_share: options.GpuShare = 1.0,
        retry_failed: options.RetryFailed = False,
        tracker: options.Tracker = None,
        dry_run: options.DryRunSweep = False,
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        how = How(executor, workers, threads, ray_address, gpu_share, retry_failed, tracker)
        short = {
            "method.name": ("--methods", methods), "method.size": ("--sizes", sizes),
            "training.learning_rate": ("--lrs", learning_rates),
            "training.epochs": ("--epochs", epochs),
        }  # fmt: skip
        values = options.grid_values(short, grid)
        base = options.as_settings(
            {
                "backbone": backbone, "init_from": init_from or None,
                "recipe": recipe, "batch_size": batch_size,
                "max_length": max_length, "precision": precision, "device": device,
                "threads": threads, "output": output, "stack": stack, "trunk_cache": trunk_cache,
                "compile": compile,
            },
            data_dir=data_dir,
            offline=offline,
            settings=settings,
        )  # fmt: skip
        from adaptertune.report import tables
        from adaptertune.report.tables import ablation as shown
        from adaptertune.runs import grid as grids
        from adaptertune.study import ablation

        talk = tables.console(stderr=as_json, quiet=quiet)
        source = grids.with_options(
            grids.read(config or kind, "ablations"),
            tasks=options.names(tasks),
            grid=values,
            seeds=seeds,
            seeds_on=seeds_on,
            protocol=protocol,
        )
        ablation.check(kind, source, config or kind)
        carried_out = carry_out(
            source,
            base,
            how,
            talk,
            dry_run=dry_run,
            as_json=as_json,
            in_words=lambda made: ablation.in_words(kind, made),
        )
        if carried_out is None:
            return
        made, _ = carried_out
        result = ablation.summarise(kind, made)
        if as_json:
            print(result.as_line())
            return
        console = tables.console()
        console.print(shown.ablation(result))
        console.out(f"Result      {ablation.path(made, kind)}")

    return command


for _kind, _told in SWEEPS.items():
    app.command(_kind, help=_told)(_command(_kind))
