"""``adaptertune bench``: how fast this machine trains and answers."""

from __future__ import annotations

from typing import Annotated

import typer

from adaptertune.cli import options

DEFAULT_STEPS = 18


def bench(
    task: options.Task = None,
    data_dir: options.DataDir = None,
    offline: options.Offline = False,
    method: options.Method = None,
    size: options.Size = None,
    layers: options.Layers = None,
    top_k: options.TopK = None,
    init_std: options.InitStd = None,
    activation: options.Activation = None,
    rank: options.Rank = None,
    backbone: options.Backbone = None,
    recipe: options.Recipe = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    precision: options.Precision = None,
    device: options.Device = None,
    trunk_cache: options.TrunkCache = None,
    compile: options.Compile = None,
    config: options.Config = None,
    settings: options.Set = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            min=1,
            help="Timed training steps of each method.",
            rich_help_panel=options.RUN,
        ),
    ] = DEFAULT_STEPS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure this machine: training beside full fine-tuning, memory, and inference.

    Trains nothing that is kept. Other work on the machine falls on all that is compared, in turn.
    """
    given = {
        "task": task, "method": method, "size": size, "layers": layers, "top_k": top_k,
        "init_std": init_std, "activation": activation, "rank": rank,
        "backbone": backbone, "recipe": recipe,
        "batch_size": batch_size, "max_length": max_length, "precision": precision,
        "device": device, "trunk_cache": trunk_cache, "compile": compile,
    }  # fmt: skip
    resolved = options.collect(
        given, data_dir=data_dir, offline=offline, config=config, settings=settings
    )
    from adaptertune.cli import bar, live
    from adaptertune.report import tables
    from adaptertune.report.tables import speed
    from adaptertune.runs import bench as measuring
    from adaptertune.runs.plan import plan as make_plan

    talk = tables.console(stderr=True, quiet=quiet)
    with live.looking_up(talk, resolved.config):
        plan = make_plan(resolved)
    with bar.progress(talk) as on_progress:
        result = measuring.bench(plan, steps, on_progress, talk.out)
    if as_json:
        print(result.as_line())
    else:
        tables.console().print(speed.bench(result))
