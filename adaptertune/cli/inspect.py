"""Commands that look without training: tasks, params, runs, show, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptertune.cli import options
from adaptertune.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from adaptertune.catalogue import Shape

DEFAULT_SIZES = "8,64,256"

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


def params(
    method: options.Method = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help=f"Bottleneck sizes, e.g. 64 (default {DEFAULT_SIZES})."),
    ] = None,
    layers: options.Layers = None,
    top_k: options.TopK = None,
    rank: options.Rank = None,
    backbone: options.Backbone = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            metavar="LAYERS,WIDTH,…",
            help="Any Transformer: LAYERS,WIDTH[,INTERMEDIATE[,VOCABULARY[,POSITIONS]]].",
        ),
    ] = None,
    labels: Annotated[int, typer.Option("--labels", min=1, help="Outputs of the head.")] = 2,
    num_tasks: Annotated[int, typer.Option("--tasks", min=1, help="Tasks to store.")] = 9,
    between: Annotated[
        str | None,
        typer.Option(
            "--between", metavar="LOW,HIGH", help="Which sizes train LOW to HIGH per cent?"
        ),
    ] = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
) -> None:
    """Count parameters, without weights: trained, stored and total, each share with its denominator."""
    from adaptertune.model import ledger
    from adaptertune.report import tables
    from adaptertune.report.tables import parameters

    if shape is not None and backbone is not None:
        raise ConfigError("--shape and --backbone exclude each other", remedy="give one of them")
    name, form = _shape(shape, backbone, offline=offline)
    ledgers = [
        ledger.count(form, chosen, labels) for chosen in _methods(method, size, layers, top_k, rank)
    ]
    counts = [one.as_json(num_tasks) for one in ledgers]
    bounds = _bounds(between) if between else None
    found = ledger.sizes_between(form, *bounds) if bounds else None
    if as_json:
        value: dict[str, Any] = {
            "backbone": name, "shape": form.model_dump(), "num_outputs": labels, "ledgers": counts,
        }  # fmt: skip
        if bounds:
            value["between"] = {"low": bounds[0], "high": bounds[1], "sizes": found}
        print(json.dumps(value))
        return
    console = tables.console()
    console.print(f"\n[bold]{name}[/]: {form.layers} layers, {form.width} wide")
    if len(counts) == 1:
        console.print(parameters.ledger(counts[0]))
    else:
        sizes = [int(part) for part in (size or DEFAULT_SIZES).split(",")]
        console.print(parameters.sizes(sizes, counts))
    if bounds:
        low, high = bounds
        encoder = counts[0]["encoder_layers"]
        sought = (
            f"{tables.percent(low)} to {tables.percent(high)} % of the encoder layers "
            f"({low * encoder:,.0f} to {high * encoder:,.0f} parameters)"
        )
        answer = f"sizes {found[0]:,} to {found[1]:,}" if found else "no size"
        console.print(f"[bold]{answer}[/] train {sought}\n")


def list_runs(output: options.Output = None, as_json: options.Json = False) -> None:
    """List the runs of a store."""
    from adaptertune.report import tables
    from adaptertune.report.tables import runs as shown
    from adaptertune.runs import store
    from adaptertune.runs.results import CellResult

    root = output or Path("runs")
    if output is not None and not root.is_dir():
        raise StoreError("no such folder", where=root, remedy="name the store's with --output")
    found: list[tuple[Path, CellResult | StoreError | None]] = []
    for cell in store.cells(root):
        try:
            found.append((cell.path, cell.read_result()))
        except StoreError as error:  # the others can be listed
            found.append((cell.path, error))
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "folder": str(path),
                        "finished": isinstance(one, CellResult),
                        "result": one.model_dump(mode="json")
                        if isinstance(one, CellResult)
                        else None,
                        "error": str(one) if isinstance(one, StoreError) else None,
                    }
                    for path, one in found
                ]
            )
        )
        return
    console = tables.console()
    if not found:
        where = f" --output {root}" if output is not None else ""
        console.print(f"No runs in {root}. Begin with: adaptertune train --task rte{where}")
        return
    console.print(shown.run_list(root, found))


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
        print(result.model_dump_json())
        return
    console = tables.console()
    console.print(f"\n[bold]{cell.path.name}[/]")
    console.print(shown.settings(result), soft_wrap=True)
    console.print(parameters.ledger(result.ledger))
    conclude(result, console)


def schema(
    which: Annotated[
        str,
        typer.Argument(
            help="cell (what train and show print), seed, sweep, ablation, bench, spans, prune or "
            "report."
        ),
    ] = "cell",
) -> None:
    """Print the JSON Schema of the result files and of --json."""
    from pydantic import BaseModel

    from adaptertune.report.schema import Report
    from adaptertune.runs import analyses, results
    from adaptertune.yamlfile import nearest

    models: dict[str, type[BaseModel]] = {
        "cell": results.CellResult, "seed": results.SeedResult, "sweep": results.SweepResult,
        "ablation": analyses.AblationResult, "bench": analyses.BenchResult,
        "spans": analyses.SpansResult, "prune": analyses.PruneResult, "report": Report,
    }  # fmt: skip
    if which not in models:
        raise ConfigError(f"no schema '{which}'", remedy=nearest(which, models))
    print(json.dumps(models[which].model_json_schema(mode="serialization"), indent=2))


def _shape(shape: str | None, backbone: str | None, *, offline: bool) -> tuple[str, Shape]:
    """Name and shape: as given, from the catalogue, or from the model itself."""
    from adaptertune import catalogue

    if shape is not None:
        return f"shape {shape}", catalogue.parse_shape(shape)
    name = backbone or (catalogue.EMBEDDED if offline else catalogue.DEFAULT)
    known = catalogue.known(name)
    if known:
        return catalogue.full_name(name), known.shape
    from adaptertune.model import backbone as loading

    located = loading.locate(name, offline=offline)
    return located.name, located.shape


def _methods(
    method: str | None, size: str | None, layers: str | None, top_k: int | None, rank: int | None
) -> list[Any]:
    """The methods to count: one for each size, or the one asked for."""
    from adaptertune.config import parse_method

    name = method or "adapter"
    common: dict[str, Any] = {"name": name}
    if layers is not None:
        common["layers"] = layers
    if top_k is not None:
        common["k"] = top_k
    if rank is not None:
        common["rank"] = rank
    if name == "lora":
        common["alpha"] = 1.0  # counts do not depend on it
    if name != "adapter":
        return [parse_method(common | ({"size": size} if size is not None else {}))]
    try:
        sizes = [int(part) for part in (size or DEFAULT_SIZES).split(",")]
    except ValueError:
        raise ConfigError(
            f"'{size}' is not a list of sizes", where="--size", remedy="e.g. 8,64"
        ) from None
    return [
        parse_method(common | {"size": each, "init_std": 0.01, "activation": "gelu"})
        for each in sizes
    ]


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part.strip().rstrip("%")) / 100 for part in text.split(","))
        if not 0 < low < high:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"'{text}' is not LOW,HIGH in per cent", where="--between", remedy="e.g. 0.5,8"
        ) from None
    return low, high
