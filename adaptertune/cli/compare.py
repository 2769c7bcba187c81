"""``adaptertune compare``: what adapters lose and save against full fine-tuning and other methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptertune.cli import complete, options
from adaptertune.cli.carry_out import How, carry_out
from adaptertune.cli.report import publish
from adaptertune.errors import ConfigError


def compare(
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Beside adapters, full fine-tuning.", rich_help_panel=options.SWEEP
        ),
    ] = False,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Further methods, e.g. top_layers,layernorm,bitfit.",
            metavar="NAMES",
            autocompletion=complete.method,
            rich_help_panel=options.SWEEP,
            show_default=False,
        ),
    ] = None,
    tasks: options.Tasks = None,
    sizes: options.Sizes = None,
    learning_rates: options.LearningRates = None,
    epochs: options.EpochsList = None,
    grid: options.Grid = None,
    config: Annotated[
        str,
        typer.Option(
            "--config",
            help="A sweep with a grid for each method, by name or as a YAML file.",
            metavar="NAME",
            rich_help_panel=options.SWEEP,
        ),
    ] = "compare",
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
    to: options.ReportFolder = Path("report"),
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
    """Run adapters beside full fine-tuning (or reuse their runs), and print the paper's Table 1.

    Each method searches its learning rates by one seed; the best get all. Ends with `report`.
    """
    further = options.names(methods or None) or []
    wanted = list(dict.fromkeys(["adapter", *(["full"] if full else []), *further]))
    if len(wanted) == 1:
        raise ConfigError(
            "adapters need something beside them",
            remedy="add --full for full fine-tuning, or --methods",
        )
    how = How(executor, workers, threads, ray_address, gpu_share, retry_failed, tracker)
    short = {
        "method.name": ("--methods", ",".join(wanted)), "method.size": ("--sizes", sizes),
        "training.learning_rate": ("--lrs", learning_rates), "training.epochs": ("--epochs", epochs),
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
    from adaptertune.report import comparison, evidence, holes, tables
    from adaptertune.report.tables import sweep as shown
    from adaptertune.runs import grid as grids

    talk = tables.console(stderr=as_json, quiet=quiet)
    source = grids.with_options(
        grids.read(config),
        tasks=options.names(tasks),
        grid=values,
        seeds=seeds,
        seeds_on=seeds_on,
        protocol=protocol,
    )
    carried_out = carry_out(source, base, how, talk, dry_run=dry_run, as_json=as_json)
    if carried_out is None:
        return
    made, result = carried_out
    talk.out(f"What was chosen among what: {made.result}", style="dim")
    if lost := shown.holes(result):
        talk.print(lost)
    cells, unfinished = evidence.read(made.output)
    places = {cell.plan.digest: place for place, cell in enumerate(made.cells)}
    folders = {cell.plan.folder.path for cell in made.cells}
    # As this sweep asked for them, whatever others in the store did: what it chose is what is shown.
    by_first = made.config.seeds_on == "winner"
    asked = [
        evidence.as_asked(cell, evidence.Search(made.config.seeds, by_first, places[cell.digest]))
        for cell in cells
        if cell.digest in places
    ]
    groups = comparison.compare(cell for cell in asked if cell is not None)
    missing = holes.missing(groups, [one for one in unfinished if one.folder in folders])
    publish(groups, missing, made.output, to, talk, as_json=as_json)
