"""What a run is: layered settings, resolved strictly into one frozen, canonical configuration.

Command line over ``--config`` file over task over backbone over recipe over defaults; each value
remembers which of them it came from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from adaptertune import backbones, configs, tasks
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import Document, Location, Plain, Strict, nearest, parse, read_yaml

Activation = Literal["gelu", "gelu_tanh", "relu", "tanh", "swish"]
MethodName = Literal["adapter", "full", "top_layers", "layernorm", "bitfit"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def parse_layers(value: Any) -> Any:
    """``"3-5"``, ``"0,2,4-5"`` or a list of layer numbers (from 0) as a sorted list; "all" as None."""
    if value is None or value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    layers: set[int] = set()
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not match:
            raise ValueError("must look like 3-5 or 0,2,4")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"has an empty span {first}-{last}")
        if last > 10_000:
            raise ValueError(f"has no layer {last}")
        layers.update(range(first, last + 1))
    return sorted(layers)


class Adapter(Strict):
    """Houlsby adapters after both sub-layers of each chosen layer; LayerNorms and head train too."""

    name: Literal["adapter"] = "adapter"
    size: Count
    # Layers that get adapters, from 0; null for all.
    layers: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...] | None, BeforeValidator(parse_layers)
    ] = None
    init_std: Positive
    activation: Activation


class Full(Strict):
    """Full fine-tuning: everything trains."""

    name: Literal["full"] = "full"


class TopLayers(Strict):
    """The top ``k`` layers and what lies above them (pooler, head) train."""

    name: Literal["top_layers"] = "top_layers"
    k: Count


class LayerNorm(Strict):
    """All LayerNorms, the embedding's included, and the head train."""

    name: Literal["layernorm"] = "layernorm"


class BitFit(Strict):
    """All biases and the head train (Ben Zaken et al. 2022)."""

    name: Literal["bitfit"] = "bitfit"


Method = Annotated[Adapter | Full | TopLayers | LayerNorm | BitFit, Field(discriminator="name")]


class Data(Strict):
    """Where the rows come from; ``folder`` belongs to the source of that name."""

    source: Literal["hub", "folder", "sample"]
    folder: Path | None = None

    @model_validator(mode="after")
    def _folder_given(self) -> Data:
        if (self.source == "folder") != (self.folder is not None):
            raise ValueError("'data.folder' goes with source 'folder', and only with it")
        return self


class Training(Strict):
    """How a run trains, in the terms of the paper's protocol."""

    learning_rate: Positive
    epochs: Count
    batch_size: Count
    max_length: Annotated[int, Field(ge=8, le=512)]
    # Share of all steps in which the learning rate rises linearly, before it falls linearly to 0.
    warmup: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    epsilon: Positive
    clip_norm: Positive
    bias_correction: bool
    drop_last: bool
    # Which epoch's weights a seed keeps: the best on validation, or the last.
    keep_epoch: Literal["best", "last"]
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class RunConfig(Strict):
    """One cell: a task, a method and settings, trained once for each seed."""

    task: str
    recipe: str
    method: Method
    backbone: str
    data: Data
    training: Training
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    offline: bool = False
    output: Path = Path("runs")

    @model_validator(mode="after")
    def _seeds_differ(self) -> RunConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("'seeds' must differ from one another")
        return self


class _MethodOnly(Strict):
    method: Method


class Recipe(Strict):
    """Settings that belong together, by name. ``method`` and ``learning_rate`` are per method."""

    name: str
    source: str
    method: dict[MethodName, dict[str, int | float | str]] = {}
    training: dict[str, bool | int | float | str]
    learning_rate: dict[MethodName, Positive]


@dataclass(frozen=True)
class Resolved:
    """A configuration, the task it is about, and where each of its values came from."""

    config: RunConfig
    task: tasks.Task
    origins: Mapping[str, str]


DEFAULTS: Plain = {"recipe": "paper", "method": {"name": "adapter"}, "seeds": 5}
ONLINE: Plain = {"backbone": backbones.DEFAULT}
OFFLINE: Plain = {"backbone": backbones.EMBEDDED}


def resolve(command_line: Mapping[str, tuple[Any, str]], file: Path | None = None) -> Resolved:
    """Layer all settings into one configuration.

    Args:
        command_line: dotted key -> (value, the option as the user typed it).
        file: a YAML file with any of the configuration's keys.

    Raises:
        ConfigError: with the place (option, or file and line) of whatever is wrong.
    """
    document = read_yaml(file) if file else None
    stack = _Stack(command_line, document)
    stack.add(DEFAULTS, "default")
    offline = bool(stack.chosen("offline"))
    stack.add(OFFLINE if offline else ONLINE, "--offline" if offline else "default")

    task_name = stack.chosen("task")
    if not task_name:
        raise ConfigError(
            "no task given", where="--task", remedy=f"choose from: {', '.join(tasks.shipped())}"
        )
    task, task_path = tasks.load_with_path(_text(task_name, "task"))
    if not task.trainable:
        raise ConfigError(
            f"'{task.name}' has no training data",
            where="--task",
            remedy=f"train --task {task.trained_on}; its model answers {task.name}",
        )

    method = _text(stack.chosen("method.name"), "method.name")
    if method not in get_args(MethodName):
        raise ConfigError(
            f"unknown method '{method}'",
            where=stack.where(("method", "name")),
            remedy=nearest(method, get_args(MethodName)),
        )
    stack.drop_other_method(method)
    recipe = load_recipe(_text(stack.chosen("recipe"), "recipe"))
    suggestions = backbones.suggestions(_text(stack.chosen("backbone"), "backbone"))

    stack.add(
        _for_method(recipe.method, recipe.training, recipe.learning_rate, method),
        f"recipe {recipe.name}",
    )
    stack.add(
        _for_method({}, suggestions.training, suggestions.learning_rate, method),
        f"suggested by backbone {stack.chosen('backbone')}",
    )
    stack.add({"training": task.training.model_dump(exclude_none=True)}, f"task {task.name}")
    stack.add(
        {"data": _default_data(task, task_path, offline)}, "--offline" if offline else "default"
    )
    stack.finish()
    stack.values["seeds"] = _seed_list(stack.values["seeds"])
    if "folder" in stack.values["data"] and "data.source" not in command_line:
        stack.values["data"].setdefault("source", "folder")
    stack.values["data"] = {k: v for k, v in stack.values["data"].items() if v is not None}
    config = parse(RunConfig, stack.values, stack.where)
    return Resolved(
        config, task, {key: stack.origins[key] for key in _leaves(config) if key in stack.origins}
    )


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or any by the path of its YAML file."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in configs.names("recipes"):
        path = configs.CONFIGS / "recipes" / f"{name}.yaml"
    else:
        raise ConfigError(
            f"unknown recipe '{name}'",
            where="--recipe",
            remedy=nearest(name, configs.names("recipes")),
        )
    document = read_yaml(path)
    return parse(Recipe, document.data, document.where)


def parse_method(values: Plain) -> Adapter | Full | TopLayers | LayerNorm | BitFit:
    """A method from plain values.

    Raises:
        ConfigError: an unknown method, a key that it does not have, or a value out of range.
    """
    return parse(_MethodOnly, {"method": values}, lambda at: f"--{at[-1]}" if at else None).method


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, shortest floats."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class _Stack:
    """Layers under construction: values so far, and the origin of each."""

    def __init__(
        self, command_line: Mapping[str, tuple[Any, str]], document: Document | None
    ) -> None:
        self.values: Plain = {}
        self.origins: dict[str, str] = {}
        self._document = document
        self._command_line = dict(command_line)
        self._file: Plain = document.data if document else {}

    def add(self, layer: Plain, origin: str) -> None:
        """Put a layer over those added before."""
        _merge(self.values, layer, self.origins, lambda _: origin)

    def chosen(self, key: str) -> Any:
        """What a key will be in the end, as far as the layers so far tell."""
        if key in self._command_line:
            return self._command_line[key][0]
        for source in (self._file, self.values):
            found: Any = source
            for part in key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found is not None:
                return found
        return None

    def drop_other_method(self, method: str) -> None:
        """A file's settings of one method say nothing about another chosen on the command line."""
        block = self._file.get("method")
        if isinstance(block, dict) and block.get("name", method) != method:
            self._file = {key: value for key, value in self._file.items() if key != "method"}

    def finish(self) -> None:
        """Put the file and the command line on top."""
        if self._document:
            where = self._document.where
            _merge(self.values, self._file, self.origins, where)
        for key, (value, origin) in self._command_line.items():
            layer: Plain = {}
            inner = layer
            *parents, last = key.split(".")
            for part in parents:
                inner = inner.setdefault(part, {})
            inner[last] = value
            _merge(self.values, layer, self.origins, lambda _, origin=origin: origin)

    def where(self, location: Location) -> str | None:
        """Where a key was given: an option, a file's line, or a layer's name."""
        path = tuple(location)
        while path:
            origin = self.origins.get(".".join(map(str, path)))
            if origin:
                return origin
            path = path[:-1]
        return str(self._document.path) if self._document else None


def _merge(
    target: Plain, layer: Plain, origins: dict[str, str], origin: Any, at: Location = ()
) -> None:
    for key, value in layer.items():
        here = (*at, key)
        if isinstance(value, dict):
            inner = target.get(key)
            if not isinstance(inner, dict):
                inner = target[key] = {}
            _merge(inner, value, origins, origin, here)
        else:
            target[key] = value
            origins[".".join(map(str, here))] = origin(here)


def _for_method(
    by_method: Mapping[Any, Mapping[str, Any]],
    training: Mapping[str, Any],
    rates: Mapping[Any, float],
    method: str,
) -> Plain:
    """The part of a recipe or of a backbone's suggestions that concerns one method."""
    layer: Plain = {"method": dict(by_method.get(method, {})), "training": dict(training)}
    if method in rates:
        layer["training"]["learning_rate"] = rates[method]
    return layer


def _default_data(task: tasks.Task, path: Path, offline: bool) -> Plain:
    is_shipped = path.parent == configs.CONFIGS / "tasks"
    if offline and is_shipped:
        return {"source": "sample"}
    if task.hub and not offline:
        return {"source": "hub"}
    return {"source": "folder", "folder": str(path.parent)}


def _seed_list(value: Any) -> Any:
    """``5`` means the seeds 0 to 4; a list stands for itself."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ConfigError(f"'seeds' must be at least 1, not {value}", where="--seeds")
        return list(range(value))
    return value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"'{key}' must be text, not {value!r}")
    return value


def _leaves(config: RunConfig) -> Iterable[str]:
    def walk(value: Any, at: tuple[str, ...]) -> Iterable[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(inner, (*at, key))
        else:
            yield ".".join(at)

    return list(walk(config.model_dump(), ()))
