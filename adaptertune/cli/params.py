"""The command that counts parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptertune.cli import options
from adaptertune.errors import ConfigError

if TYPE_CHECKING:
    from adaptertune.catalogue import Shape
    from adaptertune.config import Adapter

DEFAULT_SIZES = "8,64,256"


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
    from rich.text import Text

    from adaptertune.model import ledger
    from adaptertune.report import tables
    from adaptertune.report.tables import parameters

    if shape is not None and backbone is not None:
        raise ConfigError("--shape and --backbone exclude each other", remedy="give one of them")
    name, form = _shape(shape, backbone, offline=offline)
    methods = _methods(method, size, layers, top_k, rank)
    counts = [ledger.count(form, chosen, labels).as_json(num_tasks) for chosen in methods]
    bounds = None if between is None else _bounds(between)
    found = ledger.sizes_between(form, _sized(methods[0]), *bounds) if bounds else None
    if as_json:
        value: dict[str, Any] = {
            "backbone": name, "shape": form.model_dump(), "num_outputs": labels, "ledgers": counts,
        }  # fmt: skip
        if bounds:
            value["between"] = {"low": bounds[0], "high": bounds[1], "sizes": found}
        print(json.dumps(value))
        return
    console = tables.console()
    console.print(Text.assemble("\n", (name, "bold"), f": {form.layers} layers, {form.width} wide"))
    if len(counts) == 1:
        console.print(parameters.ledger(counts[0]))
    else:
        console.print(parameters.sizes([one.size for one in methods], counts))
    if bounds:
        low, high = bounds
        encoder = counts[0]["encoder_layers"]
        sought = (
            f"{tables.percent(low)} to {tables.percent(high)} % of the encoder layers "
            f"({low * encoder:,.0f} to {high * encoder:,.0f} parameters)"
        )
        answer = f"sizes {found[0]:,} to {found[1]:,}" if found else "no size"
        console.print(f"[bold]{answer}[/] train {sought}\n")


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
    from adaptertune.config import DEFAULTS, load_recipe, parse_method

    name = method or "adapter"
    given = {"layers": layers, "k": top_k, "rank": rank}
    usual: Mapping[Any, Mapping[str, Any]] = load_recipe(DEFAULTS["recipe"]).method
    common = {"name": name, **usual.get(name, {})}
    common |= {key: value for key, value in given.items() if value is not None}
    if name != "adapter":
        return [parse_method(common | ({"size": size} if size is not None else {}))]
    try:
        sizes = [int(part) for part in (size or DEFAULT_SIZES).split(",")]
    except ValueError:
        raise ConfigError(
            f"'{size}' is not a list of sizes", where="--size", remedy="e.g. 8,64"
        ) from None
    return [parse_method(common | {"size": each}) for each in sizes]


def _sized(method: Any) -> Adapter:
    """The method, if it is one whose size can be sought."""
    from adaptertune.config import Adapter

    if not isinstance(method, Adapter):
        raise ConfigError(
            f"method '{method.name}' has no bottleneck size",
            where="--between",
            remedy="leave --between out, or choose --method adapter",
        )
    return method


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part.strip().rstrip("%")) / 100 for part in text.split(","))
        if not 0 < low < high < math.inf:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"'{text}' is not LOW,HIGH in per cent", where="--between", remedy="e.g. 0.5,8"
        ) from None
    return low, high
