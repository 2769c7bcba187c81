"""The options that commands share, under the same names everywhere, and how they become settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adaptertune.cli import complete
from adaptertune.config import OPTIONS, Resolved, parse_layers, resolve
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import read_value

MODEL, DATA, TRAINING, RUN = "What trains", "Data", "Training", "Run"


def _option(
    *names: str,
    panel: str,
    text: str,
    metavar: str | None = None,
    completed: Callable[..., list[str]] | None = None,
) -> Any:
    return typer.Option(
        *names,
        help=text,
        metavar=metavar,
        rich_help_panel=panel,
        show_default=False,
        autocompletion=completed,
    )


Run = Annotated[
    str,
    typer.Argument(
        help="A run's folder, name, or the digest at its end.", autocompletion=complete.run
    ),
]
RunOrSeed = Annotated[
    str,
    typer.Argument(
        help="A run's folder, a seed's, a name, or a digest.", autocompletion=complete.run
    ),
]
Task = Annotated[
    str | None,
    _option(
        "--task",
        panel=DATA,
        text="A GLUE task (see `adaptertune tasks`) or a task's YAML file.",
        completed=complete.task,
    ),
]
DataDir = Annotated[
    Path | None,
    _option(
        "--data-dir", panel=DATA, text="Folder in the official GLUE layout, instead of the hub."
    ),
]
Offline = Annotated[
    bool,
    _option(
        "--offline",
        panel=DATA,
        text="Touch no network: embedded backbone and sample data unless told otherwise.",
    ),
]
LocalOnly = Annotated[
    bool,
    _option("--offline", panel=DATA, text="Touch no network: what is not in the cache is missing."),
]
Method = Annotated[
    str | None,
    _option(
        "--method",
        panel=MODEL,
        text="adapter (default), full, top_layers, layernorm, bitfit, lora or ia3.",
        metavar="NAME",
        completed=complete.method,
    ),
]
Size = Annotated[
    int | None, _option("--size", panel=MODEL, text="Bottleneck size of the adapters (paper: 64).")
]
Layers = Annotated[
    str | None,
    _option(
        "--layers",
        panel=MODEL,
        text="Layers that get adapters and whose LayerNorms train, e.g. 3-5 (default: all).",
    ),
]
TopK = Annotated[
    int | None, _option("--top-k", panel=MODEL, text="How many top layers train (top_layers).")
]
InitStd = Annotated[
    float | None,
    _option("--init-std", panel=MODEL, text="Standard deviation of the adapters' initial weights."),
]
Activation = Annotated[
    str | None,
    _option(
        "--activation", panel=MODEL, text="gelu, gelu_tanh, relu, tanh or swish.", metavar="NAME"
    ),
]
Rank = Annotated[int | None, _option("--rank", panel=MODEL, text="Rank of LoRA's updates.")]
Backbone = Annotated[
    str | None,
    _option(
        "--backbone",
        panel=MODEL,
        text="A model of the hub, perhaps @REVISION, a folder, or minilm "
        "(default: google-bert/bert-base-uncased).",
    ),
]
Place = Annotated[
    str | None,
    _option(
        "--backbone",
        panel=MODEL,
        text="Where the run's base model is, a folder or a hub id, if it has moved.",
    ),
]
InitFrom = Annotated[
    list[str] | None,
    _option(
        "--init-from",
        panel=MODEL,
        text="Start from a finished run's weights: of its best seed, or of the seed whose folder is "
        "named; repeatable, for several methods.",
        metavar="RUN",
        completed=complete.run,
    ),
]
Recipe = Annotated[
    str | None,
    _option("--recipe", panel=TRAINING, text="paper (default), official-code, or a YAML file."),
]
Seeds = Annotated[
    int | None, _option("--seeds", panel=TRAINING, text="Number of seeds: 0 to N-1 (default: 5).")
]
Seed = Annotated[int | None, _option("--seed", panel=TRAINING, text="One particular seed.")]
LearningRate = Annotated[
    float | None, _option("--lr", panel=TRAINING, text="Learning rate at its peak.")
]
Epochs = Annotated[int | None, _option("--epochs", panel=TRAINING, text="Epochs.")]
BatchSize = Annotated[int | None, _option("--batch-size", panel=TRAINING, text="Examples a step.")]
MaxLength = Annotated[
    int | None, _option("--max-length", panel=TRAINING, text="Tokens of an example at most.")
]
Precision = Annotated[
    str | None,
    _option("--precision", panel=TRAINING, text="auto (default), fp32 or bf16.", metavar="NAME"),
]
Protocol = Annotated[
    str | None,
    _option(
        "--protocol",
        panel=TRAINING,
        text="Select on validation, paper (default), or on a tenth of the training set, held-out.",
        metavar="NAME",
    ),
]
Threads = Annotated[
    int | None,
    _option(
        "--threads",
        panel=RUN,
        text="CPU threads of a run (default: all cores; of --executor local a share, of ray one).",
    ),
]
Device = Annotated[
    str | None, _option("--device", panel=RUN, text="auto (default), cpu, cuda or cuda:N.")
]
Output = Annotated[
    Path | None, _option("--output", panel=RUN, text="Folder of the run store (default: runs).")
]
Stack = Annotated[
    str | None,
    _option(
        "--stack",
        panel=RUN,
        text="All seeds in one pass: auto (default: on a GPU), on or off.",
        metavar="NAME",
    ),
]
TrunkCache = Annotated[
    float | None,
    _option(
        "--trunk-cache",
        panel=RUN,
        text="Disk for the frozen lower layers' results, in GB (default: 10; 0: off).",
        metavar="GB",
    ),
]
Compile = Annotated[
    bool | None,
    _option("--compile", panel=RUN, text="Layers by torch.compile; for CUDA (default: off)."),
]
Tracker = Annotated[
    list[str] | None,
    _option(
        "--tracker",
        panel=RUN,
        text="Tell tensorboard, trackio, wandb or mlflow too (default: none); repeatable.",
        metavar="NAME",
        completed=complete.tracker,
    ),
]
Config = Annotated[
    Path | None, _option("--config", panel=RUN, text="YAML file with any of the settings.")
]
Set = Annotated[
    list[str] | None,
    _option("--set", panel=RUN, text="Any setting by its key; repeatable.", metavar="KEY=VALUE"),
]
Json = Annotated[
    bool,
    _option("--json", panel=RUN, text="JSON on standard output, the rest on error."),
]
ReportFolder = Annotated[
    Path, _option("--to", panel=RUN, text="Folder for the page and the pictures (report/).")
]
Quiet = Annotated[bool, _option("--quiet", panel=RUN, text="Only the result.")]

SWEEP = "Sweep"

Tasks = Annotated[
    str | None,
    _option(
        "--tasks",
        panel=SWEEP,
        text="Tasks, e.g. rte,mrpc.",
        metavar="NAMES",
        completed=complete.task,
    ),
]
Methods = Annotated[
    str | None,
    _option(
        "--methods",
        panel=SWEEP,
        text="Methods, e.g. adapter,full.",
        metavar="NAMES",
        completed=complete.method,
    ),
]
Sizes = Annotated[
    str | None,
    _option("--sizes", panel=SWEEP, text="Bottleneck sizes, e.g. 8,64,256.", metavar="NUMBERS"),
]
LearningRates = Annotated[
    str | None,
    _option("--lrs", panel=SWEEP, text="Learning rates, e.g. 3e-5,3e-4,3e-3.", metavar="NUMBERS"),
]
Grid = Annotated[
    list[str] | None,
    _option("--grid", panel=SWEEP, text="Values of any setting; repeatable.", metavar="KEY=V1,V2"),
]
EpochsList = Annotated[
    str | None, _option("--epochs", panel=SWEEP, text="Epochs, e.g. 3,20.", metavar="NUMBERS")
]
SeedsOn = Annotated[
    str | None,
    _option(
        "--seeds-on",
        panel=SWEEP,
        text="Whether all cells run with all seeds, or only each task and method's winner does, "
        "chosen by the first seed: all or winner.",
        metavar="NAME",
    ),
]
Executor = Annotated[
    str,
    _option(
        "--executor",
        panel=SWEEP,
        text="serial (default), local (several processes) or ray.",
        metavar="NAME",
        completed=complete.executor,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes of --executor local (default: one a GPU, or up to eight).",
        rich_help_panel=SWEEP,
        show_default=False,
    ),
]
RayAddress = Annotated[
    str | None,
    _option(
        "--ray-address",
        panel=SWEEP,
        text="Of a Ray cluster (default: one on this machine).",
        metavar="ADDRESS",
    ),
]
GpuShare = Annotated[
    float,
    typer.Option(
        "--gpu-share",
        min=0.01,
        max=1.0,
        help="Part of a GPU for each run of --executor ray.",
        rich_help_panel=SWEEP,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Try failed and diverged runs again.", rich_help_panel=SWEEP
    ),
]
DryRunSweep = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the plan and the forecast; train nothing.", rich_help_panel=SWEEP
    ),
]


def values(text: str, where: str) -> list[Any]:
    """``8,64`` as numbers, ``rte,mrpc`` as text; each value as ``--set`` reads it."""
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise ConfigError(f"an empty value in '{text}'", where=where, remedy="e.g. 8,64")
    return [read_value(part, where) for part in parts]


def names(text: str | None) -> list[str] | None:
    """``rte,mrpc`` as names; None if it was not given."""
    return None if text is None else [name.strip() for name in text.split(",")]


def grid_values(
    short: Mapping[str, tuple[str, str | None]], texts: Sequence[str] | None = None
) -> dict[str, tuple[list[Any], str]]:
    """What a search is over, as dotted key -> (values, the option).

    Args:
        short: dotted key -> (the option of its own, its value if it was given).
        texts: ``--grid KEY=V1,V2``.

    Raises:
        ConfigError: one does not look like that, or gives what another does.
    """
    found = {
        key: (values(text, option), option)
        for key, (option, text) in short.items()
        if text is not None
    }
    for text in texts or ():
        key, equals, listed = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"'{text}' is not KEY=V1,V2", where="--grid")
        option = f"--grid {key.strip()}"
        if key.strip() in found:
            other = found[key.strip()][1]
            told = "is given twice" if other == option else f"gives the values of {other} again"
            raise ConfigError(told, where=option, remedy="give all values in one option")
        found[key.strip()] = (values(listed, option), option)
    return found


# A command's parameter -> the configuration key, by whose last part it is named but for two.
PARAMETERS = {key.rpartition(".")[2]: key for key in OPTIONS} | {
    "method": "method.name",
    "top_k": "method.k",
}


def layer_list(text: str | None) -> tuple[int, ...] | None:
    """The layers of ``--layers``; None if it was not given.

    Raises:
        ConfigError: it does not look like 3-5 or 0,2,4.
    """
    try:
        found: tuple[int, ...] | None = parse_layers(text)
    except ValueError as error:
        raise ConfigError(f"'{text}' {error}", where="--layers") from None
    return found


def collect(
    given: dict[str, Any],
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    seeds: int | None = None,
    seed: int | None = None,
    config: Path | None = None,
    settings: Sequence[str] | None = None,
) -> Resolved:
    """Turn a command's parameters into a resolved configuration; None means not given.

    Raises:
        ConfigError: as :func:`adaptertune.config.resolve`; also for a malformed ``--set``.
    """
    command_line = as_settings(given, data_dir=data_dir, offline=offline, settings=settings)
    if seeds is not None and seed is not None:
        raise ConfigError("--seeds and --seed exclude each other", remedy="give one of them")
    for value, option in ((seeds, "--seeds"), (None if seed is None else [seed], "--seed")):
        if value is not None:
            _check_given_once("seeds", option, command_line)
            command_line["seeds"] = (value, option)
    return resolve(command_line, config)


def as_settings(
    given: dict[str, Any],
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    settings: Sequence[str] | None = None,
) -> dict[str, tuple[Any, str]]:
    """A command's parameters as dotted key -> (value, the option as the user typed it).

    Raises:
        ConfigError: a malformed ``--set``, or one of what another option gives.
    """
    command_line: dict[str, tuple[Any, str]] = {}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"'{text}' is not KEY=VALUE", where="--set")
        origin = f"--set {key.strip()}"
        if key.strip() in command_line:
            raise ConfigError("is given twice", where=origin, remedy="give it once")
        command_line[key.strip()] = (read_value(value, origin), origin)
    own: dict[str, tuple[Any, str]] = {}
    for name, value in given.items():
        if value is not None:
            key = PARAMETERS[name]
            own[key] = (str(value) if isinstance(value, Path) else value, OPTIONS[key])
    if data_dir is not None:
        own["data.source"] = ("folder", "--data-dir")
        own["data.folder"] = (str(data_dir), "--data-dir")
    if offline:
        own["offline"] = (True, "--offline")
    for key, (_, option) in own.items():
        _check_given_once(key, option, command_line)
    return command_line | own


def _check_given_once(key: str, option: str, command_line: Mapping[str, tuple[Any, str]]) -> None:
    """Whether no ``--set`` gives what an option of its own does.

    Raises:
        ConfigError: one does.
    """
    if key in command_line:
        other = command_line[key][1]
        raise ConfigError(f"{option} and {other} exclude each other", remedy="give one of them")
