"""Commands that look at what is there: tasks, runs, show, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptertune.cli import options
from adaptertune.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from adaptertune.runs.results import ListedRun
    from adaptertune.runs.store import CellFolder

WITH_TITLES = 110  # columns: narrower, the list of tasks goes without them


def list_tasks(as_json: options.Json = False) -> None:
    """List the tasks that come with the package."""
    from adaptertune import tasks
    from adaptertune.report import tables
    from adaptertune.report.tables import data

    loaded = [tasks.load(name) for name in tasks.shipped()]
    if as_json:
        print(json.dumps([task.model_dump(mode="json") for task in loaded]))
        return
    console = tables.console()
    console.print(data.task_list(loaded, with_titles=console.width >= WITH_TITLES))
    console.print("The first metric selects. Your own: --task path/to/task.yaml", style="dim")


def list_runs(output: options.Output = None, as_json: options.Json = False) -> None:
    """List the runs of a store."""
    from adaptertune.report import tables
    from adaptertune.report.tables import runs as shown
    from adaptertune.runs import store

    root = output or Path("runs")
    if output is not None and not root.is_dir():
        raise StoreError("no such folder", where=root, remedy="name the store's with --output")
    found = [_listed(cell) for cell in store.cells(root)]
    if as_json:
        print(json.dumps([one.model_dump(mode="json") for one in found]))
        return
    console = tables.console()
    if not found:
        where = f" --output {root}" if output is not None else ""
        console.out(f"No runs in {root}. Begin with: adaptertune train --task rte{where}")
        return
    console.print(shown.run_list(root, found))


def _listed(cell: CellFolder) -> ListedRun:
    """A run, or what is wrong with it: the others can be listed."""
    from adaptertune.runs.results import ListedRun

    result, wrong = None, None
    try:
        result = cell.read_result()
    except StoreError as error:
        wrong = str(error)
    return ListedRun(folder=str(cell.path), finished=result is not None, result=result, error=wrong)


def show(
    run: options.Run,
    output: options.Output = None,
    as_json: options.Json = False,
) -> None:
    """Show a run: seeds, all metrics, ledger, and where everything lies."""
    from adaptertune.cli.train import conclude
    from adaptertune.report import tables
    from adaptertune.report.tables import parameters
    from adaptertune.report.tables import runs as shown
    from adaptertune.runs import store

    cell = store.find_cell(run, output or Path("runs"))
    result = cell.finished_result()
    if as_json:
        print(result.as_line())
        return
    console = tables.console()
    console.out(f"\n{cell.path.name}", style="bold")
    console.print(shown.settings(result), soft_wrap=True)
    console.print(parameters.ledger(result.ledger))
    conclude(result, console)


def schema(
    which: Annotated[
        str,
        typer.Argument(
            help="cell (what train and show print), seed, sweep, sweep-plan (of --dry-run), ablation, "
            "bench, spans, prune, report or runs (each of the list)."
        ),
    ] = "cell",
) -> None:
    """Print the JSON Schema of the result files and of --json."""
    from pydantic import BaseModel

    from adaptertune.report.schema import Report
    from adaptertune.runs import analyses, results
    from adaptertune.runs.sweep_plan import SweepPlan
    from adaptertune.yamlfile import nearest

    models: dict[str, type[BaseModel]] = {
        "cell": results.CellResult, "seed": results.SeedResult, "sweep": results.SweepResult,
        "sweep-plan": SweepPlan, "ablation": analyses.AblationResult, "bench": analyses.BenchResult,
        "spans": analyses.SpansResult, "prune": analyses.PruneResult, "report": Report,
        "runs": results.ListedRun,
    }  # fmt: skip
    if which not in models:
        raise ConfigError(f"no schema '{which}'", remedy=nearest(which, models))
    print(json.dumps(models[which].model_json_schema(mode="serialization"), indent=2))
