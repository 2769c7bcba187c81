"""What a run is: layered settings, resolved strictly into one frozen, canonical configuration.

Command line over ``--config`` file over what the sample asks for over task over backbone over recipe
over defaults; each value remembers which of them it came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from adaptertune import catalogue, paths, tasks
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import Document, Location, Plain, Strict, like, nearest, parse, read_yaml

Activation = Literal["gelu", "gelu_tanh", "relu", "tanh", "swish"]
MethodName = Literal["adapter", "full", "top_layers", "layernorm", "bitfit", "lora", "ia3"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Layer = Annotated[int, Field(ge=0)]
LayerNormsInAWord = Literal["adapted", "all", "none"]
DEVICES, DEVICES_IN_WORDS = r"auto|cpu|cuda(:[0-9]{1,3})?", "auto, cpu, cuda or cuda:N"


def parse_layers(value: Any) -> Any:
    """``"3-5"``, ``"0,2,4-5"`` or a list of layer numbers (from 0) in order; "all" as None."""
    if value is None or value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(sorted(set(value)))
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
    return tuple(sorted(layers))


def written_layers(layers: Iterable[int]) -> str:
    """Layers in order as :func:`parse_layers` reads them, in as few characters: ``0-3,5``."""
    spans: list[list[int]] = []
    for layer in layers:
        if spans and layer == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], layer]
        else:
            spans.append([layer])
    return ",".join("-".join(map(str, span)) for span in spans)


def parse_layernorms(value: Any) -> Any:
    """A word, or layers as :func:`parse_layers` reads them."""
    if value in get_args(LayerNormsInAWord):
        return value
    with suppress(ValueError):
        layers = parse_layers(value)
        if isinstance(layers, tuple) and layers and all(type(x) is int and x >= 0 for x in layers):
            return layers
    raise ValueError("must be adapted, all, none, or layers like 3-5 or 0,2,4")


def parse_runs(value: Any) -> Any:
    """One run or a list of them."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class Adapter(Strict):
    """Bottleneck adapters behind the sub-layers of each chosen layer; LayerNorms and head train too.

    The defaults are Houlsby et al.'s. A sub-layer with input x and output h becomes
    ``LayerNorm(h + scale * f(r) + x)``, f being the adapter without its skip connection and r what it
    reads. Others by name: Pfeiffer et al. 2021 have ``places: feedforward, reads: normed``; He et al.
    2022 (scaled parallel) ``places: feedforward, reads: input, scale: 4, activation: relu``.
    """

    name: Literal["adapter"] = "adapter"
    size: Count
    # Layers that get adapters, from 0; null for all.
    layers: Annotated[tuple[Layer, ...] | None, BeforeValidator(parse_layers)] = None
    init_std: Positive
    activation: Activation
    # Which LayerNorms train: those of the layers with adapters (with adapters in all, the embeddings'
    # too), all, (as in AdapterHub) none, or those of some layers, as a pruned run has them.
    layernorms: Annotated[
        LayerNormsInAWord | tuple[Layer, ...], BeforeValidator(parse_layernorms)
    ] = "adapted"
    places: Literal["both", "attention", "feedforward"] = "both"
    # r: h (in series), x (in parallel), or LayerNorm(h + x).
    reads: Literal["output", "input", "normed"] = "output"
    # Whether f is added to h or scales it: h * (1 + scale * f(r)).
    combines: Literal["add", "multiply"] = "add"
    scale: Positive = 1.0
    norm: Literal["none", "batch", "layer"] = "none"  # of r
    depth: Count = 1  # how often the bottleneck is activated; one more projection for each beyond 1
    pooler: Literal["frozen", "trained"] = "frozen"  # trained: the head has two layers of its own

    @property
    def trained_layernorms(self) -> tuple[int, ...] | None:
        """The layers whose LayerNorms train; None where all do, the embeddings' too."""
        if self.layernorms == "adapted":
            return self.layers
        if self.layernorms == "all":
            return None
        return () if self.layernorms == "none" else self.layernorms


class Full(Strict):
    """Full fine-tuning: everything trains, or everything but the pooler, which adapters leave too."""

    name: Literal["full"] = "full"
    pooler: Literal["frozen", "trained"] = "trained"


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


class LoRA(Strict):
    """Low-rank updates of the query and value products, and the head, train (Hu et al. 2022)."""

    name: Literal["lora"] = "lora"
    rank: Count
    alpha: Positive  # an update is scaled by alpha / rank


class IA3(Strict):
    """Factors on keys, values and the feed-forward's inner states, and the head, train (Liu et al.
    2022).
    """

    name: Literal["ia3"] = "ia3"


AnyMethod = Adapter | Full | TopLayers | LayerNorm | BitFit | LoRA | IA3
METHODS = get_args(AnyMethod)


def method_names() -> list[str]:
    """Those that ``--method`` knows."""
    return [kind.model_fields["name"].default for kind in METHODS]


Method = Annotated[AnyMethod, Field(discriminator="name")]


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
    # Share of all steps in which the learning rate rises linearly, before it falls linearly to 0, from
    # where a fall since the first step would be.
    warmup: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    epsilon: Positive
    clip_norm: Positive
    bias_correction: bool
    drop_last: bool
    # Whether dropout is on in the embeddings and layers below the lowest layer that trains. Off, what
    # these give is always the same, and is computed once (train/trunk.py). Where the first layer trains
    # nothing is saved, and the embeddings' dropout is on, though they may be frozen.
    trunk_dropout: bool
    # Which epoch's weights a seed keeps: the best on validation, or the last.
    keep_epoch: Literal["best", "last"]
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class RunConfig(Strict):
    """One cell: a task, a method and settings, trained once for each seed."""

    task: str
    recipe: str
    method: Method
    backbone: str
    # Finished runs of which the one with this method gives the first weights; null for the backbone's.
    init_from: Annotated[
        Annotated[tuple[str, ...], Field(min_length=1)] | None, BeforeValidator(parse_runs)
    ] = None
    data: Data
    training: Training
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]
    # What selects among epochs, seeds and settings: validation, as in the paper, or held-out rows of
    # the training set, which leaves validation for an honest figure.
    protocol: Literal["paper", "held-out"] = "paper"
    device: Annotated[str, like(DEVICES, DEVICES_IN_WORDS)] = "auto"
    threads: Count | None = None  # of a CPU; null leaves it to torch
    offline: bool = False
    output: Path = Path("runs")
    stack: Literal["auto", "on", "off"] = "auto"  # all seeds in one pass
    trunk_cache: Annotated[float, Field(ge=0)] = 10.0  # GB on disk at most; 0 turns it off
    compile: bool = False  # torch.compile makes the layers' kernels; for CUDA
    cuda_graphs: bool = True  # on CUDA, steps are recorded and replayed: the same kernels

    @model_validator(mode="after")
    def _seeds_differ(self) -> RunConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("'seeds' must differ from one another")
        return self


class _MethodOnly(Strict):
    method: Method


class SampleSettings(Strict):
    """What the embedded sample asks of training."""

    training: tasks.TaskTraining


class Recipe(Strict):
    """Settings that belong together, by name. ``method`` and ``learning_rate`` are per method."""

    name: str
    # Where the values come from, in a sentence.
    source: str = ""
    method: dict[MethodName, dict[str, int | float | str]] = {}
    training: dict[str, bool | int | float | str]
    learning_rate: dict[MethodName, Positive]


@dataclass(frozen=True)
class Resolved:
    """A configuration, the task it is about, and where each of its values came from."""

    config: RunConfig
    task: tasks.Task
    origins: Mapping[str, str]


# The option for each key that has one.
OPTIONS = {
    "task": "--task",
    "method.name": "--method",
    "method.size": "--size",
    "method.layers": "--layers",
    "method.k": "--top-k",
    "method.init_std": "--init-std",
    "method.activation": "--activation",
    "method.rank": "--rank",
    "recipe": "--recipe",
    "backbone": "--backbone",
    "init_from": "--init-from",
    "training.learning_rate": "--lr",
    "training.epochs": "--epochs",
    "training.batch_size": "--batch-size",
    "training.max_length": "--max-length",
    "training.precision": "--precision",
    "protocol": "--protocol",
    "device": "--device",
    "threads": "--threads",
    "output": "--output",
    "stack": "--stack",
    "trunk_cache": "--trunk-cache",
    "compile": "--compile",
}
DEFAULTS: Plain = {"recipe": "paper", "method": {"name": "adapter"}, "seeds": 5}
ONLINE: Plain = {"backbone": catalogue.DEFAULT}
OFFLINE: Plain = {"backbone": catalogue.EMBEDDED}


def resolve(command_line: Mapping[str, tuple[Any, str]], file: Path | None = None) -> Resolved:
    """Layer all settings into one configuration.

    Args:
        command_line: dotted key -> (value, the option as the user typed it).
        file: a YAML file with any of the configuration's keys.

    Raises:
        ConfigError: with the place (option, or file and line) of whatever is wrong.
    """
    stack = _Stack(command_line, read_yaml(file) if file else None)
    # By its ending an origin is known as a file of the user's.
    if file and file.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            "is no YAML file by its name", where=file, remedy="call it something.yaml"
        )
    stack.add(DEFAULTS, "default")
    offline = bool(stack.chosen("offline"))
    origin = (stack.where(("offline",)) or "--offline") if offline else "default"
    stack.add(OFFLINE if offline else ONLINE, origin)

    if stack.chosen("task") is None:
        remedy = f"choose from: {', '.join(tasks.shipped())}"
        raise ConfigError("no task given", where="--task", remedy=remedy)
    task, task_path = tasks.load_with_path(stack.text("task"), stack.where(("task",)))
    if not task.trainable:
        raise ConfigError(
            f"'{task.name}' has no training data",
            where=stack.where(("task",)),
            remedy=f"train --task {task.trained_on}; its model answers {task.name}",
        )
    stack.keep_only_method(get_args(MethodName))
    method = stack.text("method.name")
    recipe = load_recipe(stack.text("recipe"), stack.where(("recipe",)))
    backbone = stack.text("backbone")
    suggested = catalogue.suggestions(backbone)

    stack.add(
        _for_method(recipe.method, recipe.training, recipe.learning_rate, method),
        f"recipe {recipe.name}",
    )
    stack.add(
        _for_method({}, suggested.training, suggested.learning_rate, method),
        f"suggested by backbone {backbone}",
    )
    stack.add({"training": task.training.model_dump(exclude_none=True)}, f"task {task.name}")
    if stack.chosen("data.source") is None:
        if stack.chosen("data.folder") is None:
            stack.add({"data": default_data(task, task_path, offline=offline)}, origin)
        else:
            stack.add({"data": {"source": "folder"}}, "default")
    if stack.chosen("data.source") == "sample":
        asked = load_sample_settings().training.model_dump(exclude_none=True)
        stack.add({"training": asked}, "the sample")
    stack.finish()
    stack.values["seeds"] = _seed_list(stack.values["seeds"], stack.where(("seeds",)))
    # A task's file and folders are to be found from wherever the run is used; links keep their names.
    stack.values["task"] = tasks.from_anywhere(stack.text("task"), "--task")
    if folder := catalogue.folder(backbone):
        stack.values["backbone"] = os.path.abspath(folder)  # noqa: PTH100
    if isinstance(rows := stack.chosen("data.folder"), str):
        where = stack.where(("data", "folder")) or "data.folder"
        stack.values["data"]["folder"] = str(paths.absolute(rows, where))
    if isinstance(store := stack.chosen("output"), str):
        stack.values["output"] = str(paths.expanded(store, stack.where(("output",))))
    config = parse(RunConfig, stack.values, stack.where)
    origins = {
        key: stack.origins[key] for key, _ in flatten(config.model_dump()) if key in stack.origins
    }
    return Resolved(config, task, origins)


def load_recipe(name: str, where: str | None = "--recipe") -> Recipe:
    """A shipped recipe by name, or any by the path of its YAML file."""
    if name.endswith((".yaml", ".yml")):
        path = paths.expanded(name, where)
    elif name in paths.names("recipes"):
        path = paths.CONFIGS / "recipes" / f"{name}.yaml"
    else:
        raise ConfigError(
            f"unknown recipe '{name}'",
            where=where,
            remedy=nearest(name, paths.names("recipes")),
        )
    return _parsed_recipe(read_yaml(path))


@lru_cache(maxsize=16)
def _parsed_recipe(document: Document) -> Recipe:
    return parse(Recipe, document.data, document.where)


def load_sample_settings() -> SampleSettings:
    """The shipped ``sample.yaml``."""
    document = read_yaml(paths.CONFIGS / "sample.yaml")
    return parse(SampleSettings, document.data, document.where)


def method_identity(method: AnyMethod) -> Plain:
    """What of a method decides a run's numbers, for its digest.

    A key that was added later is left out at its default, which is what there was before it.
    """
    kept = {"name", "layers"} | method.model_dump(exclude_defaults=True).keys()
    return {key: value for key, value in method.model_dump(mode="json").items() if key in kept}


def parse_method(values: Plain) -> AnyMethod:
    """A method from plain values.

    Raises:
        ConfigError: an unknown method, a key that it does not have, or a value out of range.
    """
    return parse(
        _MethodOnly, {"method": values}, lambda at: OPTIONS.get(".".join(map(str, at)))
    ).method


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, shortest floats."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _check_apart(command_line: Mapping[str, tuple[Any, str]]) -> None:
    """Whether nothing is given both as a whole and by its key.

    Raises:
        ConfigError: something is.
    """
    leaves = [
        (f"{leaf}.", origin)
        for key, (value, origin) in command_line.items()
        for leaf, _ in flatten({key: value})
    ]
    for (one, origin), (other, place) in combinations(leaves, 2):
        if one.startswith(other) or other.startswith(one):
            what = f"{origin} and {place} exclude each other"
            raise ConfigError(what, remedy="give one of them")


class _Stack:
    """Layers under construction: values so far, and the origin of each."""

    def __init__(
        self, command_line: Mapping[str, tuple[Any, str]], document: Document | None
    ) -> None:
        self.values: Plain = {}
        self.origins: dict[str, str] = {}
        self._document = document
        self._file: Plain = document.data if document else {}
        # By key, and by each key of what was given as a whole.
        self._options = {key: origin for key, (_, origin) in command_line.items()}
        self._command_line: Plain = {}
        _check_apart(command_line)
        for key, (value, origin) in command_line.items():
            layer = value
            for part in reversed(key.split(".")):
                layer = {part: layer}
            _merge(self._command_line, layer, self._options, lambda _, origin=origin: origin)

    def add(self, layer: Plain, origin: str) -> None:
        """Put a layer over those added before."""
        _merge(self.values, layer, self.origins, lambda _: origin)

    def chosen(self, key: str) -> Any:
        """What a key will be in the end, as far as the layers so far tell."""
        for source in (self._command_line, self._file, self.values):
            found: Any = source
            for part in key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found is not None:
                return found
        return None

    def text(self, key: str) -> str:
        """As :meth:`chosen`, for a key that must be text."""
        value = self.chosen(key)
        if not isinstance(value, str):
            where = self.where(tuple(key.split(".")))
            raise ConfigError(f"'{key}' must be text, not {value!r}", where=where)
        return value

    def keep_only_method(self, known: Iterable[str]) -> None:
        """Check the method's name; a file's settings of another method say nothing about it."""
        block = self._file.get("method")
        if isinstance(block, dict) and block.get("name") not in (None, self.chosen("method.name")):
            self._file = {key: value for key, value in self._file.items() if key != "method"}
        name = self.text("method.name")
        if name not in known:
            where = self.where(("method", "name"))
            raise ConfigError(f"unknown method '{name}'", where=where, remedy=nearest(name, known))

    def finish(self) -> None:
        """Put the file and the command line on top."""
        if self._document:
            _merge(self.values, self._file, self.origins, self._document.where)
        _merge(self.values, self._command_line, self.origins, self.where)

    def where(self, location: Location) -> str | None:
        """Where a key was given: an option, a file's line, or a layer's name.

        Failing that, the option that would give it.
        """
        whole = ".".join(map(str, location))
        for option, origin in self._options.items():
            if option.startswith(f"{whole}."):  # something inside it was given where nothing may be
                return origin
        for length in range(len(location), 0, -1):
            path = location[:length]
            key = ".".join(map(str, path))
            if key in self._options:
                return self._options[key]
            if self._document and path in self._document.lines and path[0] in self._file:
                return self._document.where(path)
            if key in self.origins:
                return self.origins[key]
        return OPTIONS.get(whole) or self._fallback()

    def _fallback(self) -> str | None:
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


def default_data(task: tasks.Task, path: Path, *, offline: bool) -> Plain:
    """Where a task's rows are if nobody says: on the hub (offline in its cache), in the sample for one
    of GLUE's without a network, or beside the task's file.
    """
    is_shipped = path.parent == paths.CONFIGS / "tasks"
    if offline and is_shipped:
        return {"source": "sample"}
    if task.hub and not (offline and task.files):
        return {"source": "hub"}
    return {"source": "folder", "folder": str(path.parent)}


MOST_SEEDS = 10_000


def _seed_list(value: Any, where: str | None) -> Any:
    """``5`` means the seeds 0 to 4; a list stands for itself."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ConfigError(f"'seeds' must be at least 1, not {value}", where=where)
        if value > MOST_SEEDS:
            raise ConfigError(
                f"'seeds' is how many, and {value} are too many",
                where=where,
                remedy="a list names them: --set 'seeds=[1234567]'",
            )
        return list(range(value))
    return value


def flatten(value: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested mapping with its dotted key."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from flatten(inner, f"{at}{key}.")
        else:
            yield f"{at}{key}", inner
