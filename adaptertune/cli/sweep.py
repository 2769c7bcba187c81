"""``adaptertune sweep``: tasks times settings times seeds, and what is best for each task."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from adaptertune.cli import options
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import nearest, read_value

if TYPE_CHECKING:
    from rich.console import Console

    from adaptertune.runs.sweep import Book, Executor, Row, Survey, Sweep
    from adaptertune.runs.work import Unit

SWEEP = "Sweep"
ExecutorName = Literal["serial", "local", "ray"]


def _option(name: str, text: str, metavar: str | None = None) -> object:
    return typer.Option(name, help=text, metavar=metavar, rich_help_panel=SWEEP, show_default=False)


def sweep(
    config: Annotated[
        str | None,
        _option("--config", "A sweep that comes with the package, or a sweep's YAML file.", "NAME"),
    ] = None,
    tasks: Annotated[str | None, _option("--tasks", "Tasks, e.g. rte,mrpc.", "NAMES")] = None,
    methods: Annotated[
        str | None, _option("--methods", "Methods, e.g. adapter,full (default: adapter).", "NAMES")
    ] = None,
    sizes: Annotated[
        str | None, _option("--sizes", "Bottleneck sizes, e.g. 8,64,256.", "NUMBERS")
    ] = None,
    learning_rates: Annotated[
        str | None, _option("--lrs", "Learning rates, e.g. 3e-5,3e-4,3e-3.", "NUMBERS")
    ] = None,
    epochs: Annotated[str | None, _option("--epochs", "Epochs, e.g. 3,20.", "NUMBERS")] = None,
    grid: Annotated[
        list[str] | None,
        _option("--grid", "Values of any setting; repeatable.", "KEY=V1,V2"),
    ] = None,
    seeds: Annotated[int | None, _option("--seeds", "Seeds of a cell (default: 5).")] = None,
    seeds_on: Annotated[
        str | None,
        _option(
            "--seeds-on",
            "Whether all cells run with all seeds (default), or only each task and method's winner "
            "does, chosen by the first seed: all or winner.",
            "NAME",
        ),
    ] = None,
    protocol: options.Protocol = None,
    data_dir: options.DataDir = None,
    offline: options.Offline = False,
    backbone: options.Backbone = None,
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
    executor: Annotated[
        str,
        _option("--executor", "serial (default), local (several processes) or ray.", "NAME"),
    ] = "serial",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes of --executor local (default: one a GPU, or up to eight).",
            rich_help_panel=SWEEP,
            show_default=False,
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        _option("--ray-address", "Of a Ray cluster (default: one on this machine).", "ADDRESS"),
    ] = None,
    gpu_share: Annotated[
        float,
        typer.Option(
            "--gpu-share",
            min=0.01,
            max=1.0,
            help="Part of a GPU for each run of --executor ray.",
            rich_help_panel=SWEEP,
        ),
    ] = 1.0,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Try failed and diverged runs again.", rich_help_panel=SWEEP
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the plan and the forecast; train nothing.",
            rich_help_panel=SWEEP,
        ),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train every combination of tasks, settings and seeds, and choose the best for each task.

    Nothing is trained twice, an interrupted sweep goes on, and several processes on one store share
    the work. `train` is the sweep of one cell.
    """
    if executor not in get_args(ExecutorName):
        remedy = nearest(executor, get_args(ExecutorName))
        raise ConfigError(f"no executor '{executor}'", where="--executor", remedy=remedy)
    if workers is not None and executor != "local":
        raise ConfigError(
            "only local processes can be counted", where="--workers", remedy="add --executor local"
        )
    if executor != "ray" and (ray_address is not None or gpu_share != 1.0):
        where = "--gpu-share" if ray_address is None else "--ray-address"
        raise ConfigError("is for Ray alone", where=where, remedy="add --executor ray")
    chosen = {
        "method.name": methods, "method.size": sizes, "training.learning_rate": learning_rates,
        "training.epochs": epochs,
    }  # fmt: skip
    short = {"method.name": "--methods", "method.size": "--sizes",
             "training.learning_rate": "--lrs", "training.epochs": "--epochs"}  # fmt: skip
    values = {
        key: (_values(text, short[key]), short[key])
        for key, text in chosen.items()
        if text is not None
    }
    for text in grid or ():
        key, equals, listed = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"'{text}' is not KEY=V1,V2", where="--grid")
        values[key.strip()] = (_values(listed, f"--grid {key.strip()}"), f"--grid {key.strip()}")
    base = options.as_settings(
        {
            "backbone": backbone, "recipe": recipe, "batch_size": batch_size,
            "max_length": max_length, "precision": precision, "device": device,
            "threads": threads, "output": output, "stack": stack, "trunk_cache": trunk_cache,
            "compile": compile,
        },
        data_dir=data_dir,
        offline=offline,
        settings=settings,
    )  # fmt: skip
    from adaptertune.cli import live_sweep
    from adaptertune.cli.stop import StopRequest
    from adaptertune.report import tables
    from adaptertune.runs import grid as grids
    from adaptertune.runs import sweep as sweeps
    from adaptertune.runs.cluster import RayExecutor

    talk = tables.console(stderr=as_json, quiet=quiet)
    source = grids.with_options(
        grids.read(config) if config else None,
        tasks=None if tasks is None else [name.strip() for name in tasks.split(",")],
        grid=values,
        seeds=seeds,
        seeds_on=seeds_on,
        protocol=protocol,
    )
    lookups = None
    if executor == "ray":
        cluster = RayExecutor(ray_address, gpu_share, retry_failed)
        cluster.connect()
        lookups = cluster.lookups(device or "auto")
    with _bar(talk, "Planning cells", grids.num_cells(source)) as advance:
        made = sweeps.make(source, base, advance, lookups)
    first, book = sweeps.first_units(made), sweeps.Book()
    with _bar(talk, "Reading the store", len(first)) as advance:
        found = sweeps.survey(first, book, retry_failed=retry_failed, on_unit=advance)
    # This machine's pace says nothing about a cluster's.
    seconds = None if executor == "ray" else _forecast(found.ahead, talk)
    plan = _plan_json(made, found, book, seconds)
    if not as_json or not dry_run:
        talk.print(tables.sweep_plan(plan))
    if dry_run:
        if as_json:
            print(json.dumps(plan))
        return
    stop = StopRequest(talk)
    share = seconds or (lambda unit: float(unit.plan.num_steps))
    with live_sweep.view(made, share, talk, stop.is_set) as view:
        run = (
            cluster
            if executor == "ray"
            else _executor(executor, workers, threads, retry_failed=retry_failed)
        )
        result = sweeps.run(made, found, book, run, view, retry_failed=retry_failed)
    if as_json:
        print(result.model_dump_json())
        return
    console = tables.console()
    console.print(tables.sweep(result))
    console.print(f"Result      {made.result}", soft_wrap=True)


def _values(text: str, where: str) -> list[Any]:
    """``8,64`` as numbers, ``rte,mrpc`` as text; each value as ``--set`` reads it."""
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise ConfigError(f"an empty value in '{text}'", where=where, remedy="e.g. 8,64")
    return [read_value(part, where) for part in parts]


def _executor(
    name: str, workers: int | None, threads: int | None, *, retry_failed: bool
) -> Executor:
    from adaptertune.runs import local, work

    if name == "serial":
        return lambda todo, hear: work.serial(todo, hear, retry_failed=retry_failed)
    import torch

    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shares = local.shares(
        workers, threads, num_cores=num_cores or 1, num_gpus=torch.cuda.device_count()
    )
    return local.LocalExecutor(shares, retry_failed)


@contextmanager
def _bar(talk: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, gone when it is over; it is told how many are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=talk, transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


def _forecast(ahead: Sequence[Unit], talk: Console) -> Callable[[Unit], float]:
    """Seconds of each unit, measured for those that are ahead, and for others when asked."""
    from adaptertune.runs.forecast import Forecaster

    known: dict[tuple[str, int], float] = {}
    with talk.status("Measuring …") as status:
        forecaster = Forecaster(lambda what: status.update(f"Forecast: {what} …"))

        def seconds(unit: Unit) -> float:
            key = unit.plan.digest, len(unit.seeds)
            if key not in known:
                known[key] = forecaster.seconds(unit.plan, unit.seeds)
            return known[key]

        for unit in ahead:
            seconds(unit)
    return seconds


def _later(made: Sweep, row: Row, book: Book, *, is_known: bool) -> Sequence[Unit]:
    """What is ahead of a winner's other seeds; while it is not known, those of the longest cell."""
    from adaptertune.runs import sweep as sweeps

    if not is_known:
        return sweeps.others(max(row.cells, key=lambda cell: cell.plan.num_steps))
    best = sweeps.chosen(row, book, made)
    if best is None:
        return ()
    return sweeps.survey(sweeps.others(best), sweeps.Book(), retry_failed=False).ahead


def _plan_json(
    made: Sweep, found: Survey, book: Book, seconds: Callable[[Unit], float] | None
) -> dict[str, Any]:
    """What ``--dry-run --json`` prints."""
    from adaptertune.runs import sweep as sweeps

    of_cell: dict[str, list[Unit]] = {}
    for unit in found.ahead:
        of_cell.setdefault(unit.plan.digest, []).append(unit)
    rows = []
    for row in made.methods:
        ahead = [unit for cell in row.cells for unit in of_cell.get(cell.plan.digest, ())]
        num_runs = len(row.cells) * (row.num_seeds or made.config.seeds)
        if row.num_seeds:
            num_runs += made.config.seeds - row.num_seeds
            ahead += _later(made, row, book, is_known=not ahead)
        rows.append(
            {
                "task": row.task,
                "method": row.label,
                "cells": len(row.cells),
                "runs": num_runs,
                "runs_ahead": sum(len(unit.seeds) for unit in ahead),
                "steps": sum(unit.plan.num_steps * len(unit.seeds) for unit in ahead),
                "seconds": sum(map(seconds, ahead)) if seconds else None,
                "partial": row.cells[0].plan.data.partial,
                "sample": row.cells[0].plan.data.sample,
            }
        )
    return {
        "name": made.config.name,
        "digest": made.digest,
        "in_words": sweeps.in_words(made.config),
        "seeds_on": made.config.seeds_on,
        "device": made.cells[0].plan.device,
        "precision": made.cells[0].plan.precision,
        "rows": rows,
        "result": str(made.result),
    }
