"""``adaptertune train``: one task, one method, several seeds."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from adaptertune.cli import options
from adaptertune.config import flatten

if TYPE_CHECKING:
    from rich.console import Console

    from adaptertune.runs.plan import Plan
    from adaptertune.runs.results import CellResult


def train(
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
    init_from: options.InitFrom = None,
    recipe: options.Recipe = None,
    seeds: options.Seeds = None,
    seed: options.Seed = None,
    learning_rate: options.LearningRate = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    precision: options.Precision = None,
    protocol: options.Protocol = None,
    device: options.Device = None,
    threads: options.Threads = None,
    output: options.Output = None,
    stack: options.Stack = None,
    trunk_cache: options.TrunkCache = None,
    compile: options.Compile = None,
    config: options.Config = None,
    settings: options.Set = None,
    tracker: options.Tracker = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show configuration, ledger and work ahead; train nothing.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a task with several seeds and keep the best on validation.

    A finished run is not run again; an interrupted one goes on where it was.
    """
    given = {
        "task": task, "method": method, "size": size, "layers": layers, "top_k": top_k,
        "init_std": init_std, "activation": activation, "rank": rank,
        "backbone": backbone, "init_from": init_from or None, "recipe": recipe,
        "learning_rate": learning_rate, "epochs": epochs, "batch_size": batch_size,
        "max_length": max_length, "precision": precision, "protocol": protocol, "device": device,
        "threads": threads, "output": output,
        "stack": stack, "trunk_cache": trunk_cache, "compile": compile,
    }  # fmt: skip
    resolved = options.collect(
        given,
        data_dir=data_dir,
        offline=offline,
        seeds=seeds,
        seed=seed,
        config=config,
        settings=settings,
    )
    from adaptertune import trackers
    from adaptertune.cli import live
    from adaptertune.cli.stop import StopRequest
    from adaptertune.executors.serial import run_cell
    from adaptertune.report import tables
    from adaptertune.runs.plan import plan as make_plan

    tools = trackers.chosen(tracker)
    talk = tables.console(stderr=as_json, quiet=quiet)
    with live.looking_up(talk, resolved.config):
        plan = make_plan(resolved)
    if dry_run:
        if as_json:
            print(json.dumps(dry_run_json(plan)))
        else:
            introduce(plan, tables.console(), in_full=True)
        return
    introduce(plan, talk, in_full=False)
    stop = StopRequest(talk)
    with live.progress(plan, talk, stop.is_set) as view, trackers.tracking(tools) as tracking:
        result = run_cell(plan, tracking.of(plan, view))
    if as_json:
        print(result.as_line())
    else:
        console = tables.console()
        conclude(result, console)
        others = set(plan.folder.finished_seeds()) - set(plan.config.seeds)
        if others:
            told = f"seed{'s' * (len(others) > 1)} {', '.join(map(str, sorted(others)))}"
            console.out(f"Also there  {told}; adaptertune show tells of all")
        console.out(f"Next        adaptertune show {shlex.quote(result.folder)}")


def introduce(plan: Plan, console: Console, *, in_full: bool) -> None:
    """What is about to happen: settings with their origins, the ledger, the work ahead."""
    from rich.table import Table
    from rich.text import Text

    from adaptertune.report.tables import parameters, plural
    from adaptertune.runs import start, units

    config, data, done = plan.config, plan.data, units.not_trained_again(plan)
    console.print(Text.assemble("\n", (plan.task.title, "bold"), f" · {plan.folder.path.name}"))
    facts = Table.grid(padding=(0, 2))
    rows = Text(f"{data.num_train:,} training rows")
    if data.partial:
        told = f"partial training set, {data.num_train:,} of {data.num_train_complete:,}"
        rows = Text(told, style="yellow")
    facts.add_row("data", Text.assemble(f"{data.description}, ", rows))
    facts.add_row("backbone", Text(f"{plan.located.name} (SHA-256 {plan.located.sha256[:12]}…)"))
    if not plan.located.shape.has_pooler:
        kind = plan.located.shape.architecture
        facts.add_row("head", f"on the first token itself, for {kind} has no pre-trained pooler")
    if plan.init_from:
        facts.add_row("starts from", Text(start.in_words(plan.init_from)))
    facts.add_row("device", f"{plan.device}, {plan.precision}")
    shown = plan.resolved.origins if in_full else _worth_telling(plan)
    values = dict(flatten(config.model_dump(mode="json")))
    for key, origin in sorted(shown.items()):
        if key == "backbone":  # told above
            continue
        facts.add_row(key, Text(f"{values[key]}  ({origin})"))
    per_seed = f"{plural(plan.num_steps, 'step')} in {plural(config.training.epochs, 'epoch')}"
    told = f", {len(done)} of them finished" if done else ""
    facts.add_row("work", f"{plural(len(config.seeds), 'seed')} of {per_seed}{told}")
    facts.add_row("folder", Text(str(plan.folder.path)))
    console.print(facts)
    console.print()
    console.print(parameters.ledger(plan.ledger.as_json()))


def conclude(result: CellResult, console: Console) -> None:
    """The table of seeds, and where the run lies."""
    from adaptertune.report import tables
    from adaptertune.report.tables import runs

    console.print(runs.run(result))
    if result.imported:
        console.out(f"Imported    from {result.imported.source}, {result.imported.library}")
    console.out(f"Run         {result.folder}")
    console.out(f"Checkpoint  {result.checkpoint or 'none is kept'}")
    took = tables.duration(result.train_seconds + result.evaluate_seconds)
    what = "evaluation" if result.imported else "training and evaluation"
    console.print(f"Took        {took} of {what}")


def dry_run_json(plan: Plan) -> dict[str, object]:
    """What ``--dry-run --json`` prints."""
    from adaptertune.runs import units

    return {
        "config": plan.config.model_dump(mode="json"),
        "origins": dict(plan.resolved.origins),
        "data": plan.data.model_dump(mode="json"),
        "backbone": plan.backbone.model_dump(mode="json"),
        "init_from": plan.init_from.model_dump(mode="json") if plan.init_from else None,
        "precision": plan.precision,
        "device": plan.device,
        "ledger": plan.ledger.as_json(),
        "steps_per_seed": plan.num_steps,
        "seeds": list(plan.config.seeds),
        "finished": units.not_trained_again(plan),
        "digest": plan.digest,
        "folder": str(plan.folder.path),
    }


def _worth_telling(plan: Plan) -> dict[str, str]:
    """Settings that somebody other than the recipe or a plain default decided, and the rate."""
    return {
        key: origin
        for key, origin in plan.resolved.origins.items()
        if key.startswith("training.")
        and (
            not origin.startswith("recipe ") or key in ("training.learning_rate", "training.epochs")
        )
    }
