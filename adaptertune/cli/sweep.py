"""``adaptertune sweep``: tasks times settings times seeds, and what is best for each task."""

from __future__ import annotations

from typing import Annotated

import typer

from adaptertune.cli import options
from adaptertune.cli.carry_out import How, carry_out


def sweep(
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            help="A sweep that comes with the package, or a sweep's YAML file.",
            metavar="NAME",
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
    """Train every combination of tasks, settings and seeds, and choose the best for each task.

    Nothing is trained twice, an interrupted sweep goes on, and several processes may share one store.
    """
    how = How(executor, workers, threads, ray_address, gpu_share, retry_failed, tracker)
    short = {
        "method.name": ("--methods", methods), "method.size": ("--sizes", sizes),
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
    from adaptertune.report import tables
    from adaptertune.report.tables import sweep as shown
    from adaptertune.runs import grid as grids

    talk = tables.console(stderr=as_json, quiet=quiet)
    source = grids.with_options(
        grids.read(config) if config else None,
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
    if as_json:
        print(result.as_line())
        return
    console = tables.console()
    console.print(shown.sweep(result))
    console.out(f"Result      {made.result}")
