"""A sweep's configuration: tasks times grids of settings, from a YAML file, options, or both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from adaptertune import config as configuration
from adaptertune import paths
from adaptertune.config import METHODS, OPTIONS, Count, Resolved, RunConfig
from adaptertune.errors import ConfigError
from adaptertune.tasks import Name
from adaptertune.yamlfile import Location, Strict, nearest, parse, read_yaml

# The sweep's own keys, and what belongs to a whole sweep and can't differ between its cells.
OWN = {"task": "--tasks", "seeds": "--seeds", "protocol": "--protocol"}
WHOLE = (*OWN, "output")
FIELDS = {method.model_fields["name"].default: method.model_fields for method in METHODS}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


# The values that a setting takes in turn; one value may stand without brackets.
Values = Annotated[tuple[Any, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class SweepConfig(Strict):
    """Which cells a sweep has, and which of their seeds run."""

    name: Name
    # Where the grid comes from, in a sentence.
    source: str = ""
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    # Each maps settings by their dotted keys to the values they take in turn; a cell is a choice of
    # one value for every key of one grid. For method.k "all" is 1 to the backbone's number of layers.
    grids: Annotated[tuple[dict[str, Values], ...], Field(min_length=1)]
    # Settings of all cells, by their dotted keys.
    settings: dict[str, Any] = {}
    seeds: Count = 5
    # Whether every cell runs with all seeds, or with the first one and only the best cell of each task
    # and method with all. The paper does not say which it did.
    seeds_on: Literal["all", "winner"] = "all"
    protocol: Literal["paper", "held-out"] = "paper"


@dataclass(frozen=True)
class SweepSource:
    """A sweep's configuration, and where each part of it was given."""

    config: SweepConfig
    where: Callable[[Location], str | None]


def read(name: str, kind: str = "sweeps") -> SweepSource:
    """A shipped sweep by name, or any by the path of its YAML file.

    Args:
        kind: the folder of the shipped ones: ``sweeps`` or ``ablations``.

    Raises:
        ConfigError: there is none, or the file is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in paths.names(kind):
        path = paths.CONFIGS / kind / f"{name}.yaml"
    else:
        raise ConfigError(
            f"unknown {kind.removesuffix('s')} '{name}'",
            where="--config",
            remedy=f"{nearest(name, paths.names(kind))} (or give the path of a YAML file)",
        )
    document = read_yaml(path)
    return SweepSource(parse(SweepConfig, document.data, document.where), document.where)


def with_options(
    source: SweepSource | None,
    *,
    tasks: Sequence[str] | None,
    grid: Mapping[str, tuple[Sequence[Any], str]],
    seeds: int | None,
    seeds_on: str | None,
    protocol: str | None,
) -> SweepSource:
    """Options over a file, or options alone.

    A key's values from ``grid`` replace those of every grid whose method has such a key; without a
    file there is one grid for each method.

    Args:
        grid: dotted key -> (values, the option that gave them).

    Raises:
        ConfigError: no tasks, a value out of range, or a key that none of the methods has.
    """
    for method in grid.get("method.name", ((), ""))[0]:
        if str(method) not in FIELDS:
            raise ConfigError(
                f"unknown method '{method}'",
                where=grid["method.name"][1],
                remedy=nearest(str(method), FIELDS),
            )
    numbers: list[int] | None = None  # of the grids that are left, as the source counts them
    if source is None:
        if not tasks:
            raise ConfigError("no tasks given", where="--tasks", remedy="e.g. --tasks rte,mrpc")
        methods = grid.get("method.name", (["adapter"], ""))[0]
        data: dict[str, Any] = {
            "name": "sweep",
            "tasks": list(tasks),
            "grids": [{"method.name": [method]} for method in methods],
        }
        inherited: Callable[[Location], str | None] = lambda _: None  # noqa: E731
    else:
        data = source.config.model_dump(mode="json")
        inherited = source.where
        if "method.name" in grid:
            wanted = list(grid["method.name"][0])
            by_number = {
                number: {**g, "method.name": named}
                for number, g in enumerate(data["grids"])
                if (named := [method for method in _methods(g) if method in wanted])
            }
            numbers, kept = list(by_number), list(by_number.values())
            lacking = [method for method in wanted if not any(method in _methods(g) for g in kept)]
            data["grids"] = kept + [{"method.name": [method]} for method in lacking]
    for key, (values, option) in grid.items():
        if key == "method.name":
            continue
        taking = [one for one in data["grids"] if _takes(one, key)]
        if not taking:
            named = sorted({str(name) for one in data["grids"] for name in _methods(one)})
            raise ConfigError(f"unknown key '{key}' of method {', '.join(named)}", where=option)
        for one in taking:
            one[key] = list(values)
    given: dict[str, Any] = {
        "tasks": None if tasks is None else list(tasks),
        "seeds": seeds,
        "seeds_on": seeds_on,
        "protocol": protocol,
    }
    data |= {key: value for key, value in given.items() if value is not None}

    def where(location: Location) -> str | None:
        key = str(location[-1]) if location else ""
        if key in grid:
            return grid[key][1]
        if given.get(key) is not None:
            return f"--{key.replace('_', '-')}"
        if numbers is not None and len(location) > 1 and location[0] == "grids":
            number = int(location[1])
            is_left = number < len(numbers)  # else of a method that the source lacks
            location = ("grids", numbers[number], *location[2:]) if is_left else ("grids",)
        return inherited(location)

    return SweepSource(parse(SweepConfig, data, where), where)


def num_cells(source: SweepSource) -> int:
    """How many cells :func:`cells` gives."""
    sweep = source.config
    return len(sweep.tasks) * sum(math.prod(map(len, one.values())) for one in sweep.grids)


def cells(
    source: SweepSource, base: Mapping[str, tuple[Any, str]]
) -> Iterator[tuple[Resolved, dict[str, Any]]]:
    """Every cell's configuration, and the settings that the grids chose for it.

    Args:
        base: settings of all cells from options: dotted key -> (value, option). They go before the
            file's ``settings``, before which a grid's values go too; none may be in a grid.

    Raises:
        ConfigError: as :func:`adaptertune.config.resolve`, or a key where it may not be.
    """
    common = _common(source, base)
    for number, grid in enumerate(source.config.grids):
        yield from _cells_of(source, base, common, number, grid)


def with_layers(
    source: SweepSource,
    base: Mapping[str, tuple[Any, str]],
    num_layers: Callable[[RunConfig], int],
) -> SweepSource:
    """The source with ``method.k: all`` written out: 1 to as many layers as the backbone has.

    Raises:
        ConfigError: as :func:`cells`, or a grid with it has several backbones.
    """
    grids = list(source.config.grids)
    for number, grid in enumerate(grids):
        if grid.get("method.k") != ("all",):
            continue
        if num_different(grid.get("backbone", ())) > 1:
            raise ConfigError(
                "all layers of several backbones",
                where=source.where(("grids", number, "method.k")),
                remedy="give each backbone a grid of its own",
            )
        one = grid | {"method.k": (1,)}
        resolved, _ = next(_cells_of(source, base, _common(source, base), number, one))
        grids[number] = grid | {"method.k": tuple(range(1, num_layers(resolved.config) + 1))}
    return SweepSource(source.config.model_copy(update={"grids": tuple(grids)}), source.where)


def num_different(values: Sequence[Any]) -> int:
    """How many values there are, equal ones counted once; a list among them is refused later."""
    return sum(value not in values[:number] for number, value in enumerate(values))


def _common(source: SweepSource, base: Mapping[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """Settings of all cells, each with where it was given."""
    sweep, where = source.config, source.where
    for key in (*sweep.settings, *base):
        if key in OWN:
            raise ConfigError(
                f"'{key}' belongs to the sweep, not to its cells",
                where=base[key][1] if key in base else where(("settings", key)),
                remedy=f"use {OWN[key]}",
            )
    common = {
        key: (value, where(("settings", key)) or "settings")
        for key, value in sweep.settings.items()
    } | dict(base)
    common["protocol"] = (sweep.protocol, where(("protocol",)) or "--protocol")
    common["seeds"] = (sweep.seeds, where(("seeds",)) or "--seeds")
    if sweep.seeds_on == "winner":  # seeds that train in one pass can't be run apart
        common.setdefault("stack", ("off", "--seeds-on winner"))
    return common


def _cells_of(
    source: SweepSource,
    base: Mapping[str, tuple[Any, str]],
    common: Mapping[str, tuple[Any, str]],
    number: int,
    grid: Mapping[str, Sequence[Any]],
) -> Iterator[tuple[Resolved, dict[str, Any]]]:
    """The cells of one grid, which has this number."""
    sweep, where = source.config, source.where
    for key in grid:
        if key in WHOLE:
            raise ConfigError(
                f"'{key}' can't be part of a grid",
                where=where(("grids", number, key)),
                remedy="it is a setting of the whole sweep",
            )
        if key in base:
            raise ConfigError(
                f"'{key}' is in the sweep's grid",
                where=base[key][1],
                remedy=f"give its values there, in its file or to sweep as --grid {key}=…",
            )
    origins = {key: where(("grids", number, key)) or OPTIONS.get(key, "the grid") for key in grid}
    for task, values in itertools.product(sweep.tasks, itertools.product(*grid.values())):
        chosen = dict(zip(grid, values, strict=True))
        layer = {key: (value, origins[key]) for key, value in chosen.items()}
        task_layer = {"task": (task, where(("tasks",)) or "--tasks")}
        resolved = configuration.resolve({**common, **task_layer, **layer})
        if sweep.seeds_on == "winner" and resolved.config.stack != "off":
            raise ConfigError(
                "seeds that train in one pass can't wait for a winner",
                where="--stack",
                remedy="use --stack off, or --seeds-on all",
            )
        yield resolved, chosen


def _methods(grid: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
    return grid.get("method.name", ["adapter"])


def _takes(grid: Mapping[str, Sequence[Any]], key: str) -> bool:
    """Whether a grid's methods have a setting."""
    block, _, name = key.partition(".")
    if block != "method":
        return True
    return all(name in FIELDS.get(str(method), {}) for method in _methods(grid))
