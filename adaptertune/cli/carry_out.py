"""Carrying a sweep out, for the commands that have one: plan, forecast, live view, executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from adaptertune.cli.bar import progress
from adaptertune.errors import ConfigError, TrainingError
from adaptertune.yamlfile import nearest

if TYPE_CHECKING:
    from rich.console import Console

    from adaptertune.cli.live_sweep import SweepLines
    from adaptertune.runs.grid import SweepSource
    from adaptertune.runs.plan import Plan
    from adaptertune.runs.progress import Progress
    from adaptertune.runs.results import SweepResult
    from adaptertune.runs.sweep import Executor, Survey, Sweep
    from adaptertune.runs.units import Unit
    from adaptertune.trackers import Tracking

ExecutorName = Literal["serial", "local", "ray"]


@dataclass(frozen=True)
class How:
    """How a sweep's runs are carried out.

    Raises:
        ConfigError: there is no such executor, or an option is another one's.
    """

    executor: str
    workers: int | None
    threads: int | None
    ray_address: str | None
    gpu_share: float
    retry_failed: bool
    tracker: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.executor not in get_args(ExecutorName):
            remedy = nearest(self.executor, get_args(ExecutorName))
            raise ConfigError(f"no executor '{self.executor}'", where="--executor", remedy=remedy)
        if self.workers is not None and self.executor != "local":
            raise ConfigError(
                "only local processes can be counted",
                where="--workers",
                remedy="add --executor local",
            )
        if self.executor != "ray" and (self.ray_address is not None or self.gpu_share != 1.0):
            where = "--gpu-share" if self.ray_address is None else "--ray-address"
            raise ConfigError("is for Ray alone", where=where, remedy="add --executor ray")


def carry_out(
    source: SweepSource,
    base: Mapping[str, tuple[Any, str]],
    how: How,
    talk: Console,
    *,
    dry_run: bool,
    as_json: bool,
    in_words: Callable[[Sweep], str] | None = None,
) -> tuple[Sweep, SweepResult] | None:
    """Plan a sweep, show the plan and the forecast, and run it; None after a dry run.

    Args:
        base: settings of all cells: dotted key -> (value, option).
        in_words: how choices are made and what is reported, if not as a sweep does.
    """
    from adaptertune import trackers
    from adaptertune.cli import live_sweep
    from adaptertune.cli.stop import StopRequest
    from adaptertune.executors.ray import RayExecutor
    from adaptertune.report import tables
    from adaptertune.report.tables import sweep as shown
    from adaptertune.runs import sweep as sweeps
    from adaptertune.runs import sweep_plan
    from adaptertune.runs.load import without_score
    from adaptertune.runs.summary import so_far

    tools = trackers.chosen(how.tracker)
    # What another process with the same wish has tried again since is not tried once more.
    retry_before = time.time() if how.retry_failed else None
    cluster = lookups = None
    if how.executor == "ray":
        cluster = RayExecutor(how.ray_address, how.gpu_share, retry_before)
        cluster.connect()
        device = str(
            base["device"][0] if "device" in base else source.config.settings.get("device", "auto")
        )
        _check_device(device, "ray")
        lookups = cluster.lookups(device, talk.print)
    with progress(talk) as tell:
        made = sweeps.make(
            source, base, lambda done, total: tell("planning cells", done, total), lookups
        )
        first, book = sweeps.first_units(made), sweeps.Book()
        found = sweeps.survey(
            first,
            book,
            retry_before=retry_before,
            on_unit=lambda done: tell("reading the store", done, len(first)),
        )
    run = cluster or _executor(how, retry_before, made)
    # This machine's pace says nothing about a cluster's.
    seconds = None if cluster else _forecast(found.ahead, talk)
    words = in_words(made) if in_words else sweeps.in_words(made.config)
    plan = sweep_plan.make(made, found, book, seconds, words)
    if dry_run:
        if as_json:
            print(plan.as_line())
        else:
            tables.console().print(shown.sweep_plan(plan))
        return None
    talk.print(shown.sweep_plan(plan))
    stop = StopRequest(talk)
    share = seconds or (lambda unit: float(unit.plan.num_steps))
    with (
        live_sweep.view(made, share, talk, stop.is_set) as view,
        trackers.tracking(tools) as tracking,
    ):
        told = _Tracked(view, tracking)
        result = sweeps.run(made, found, book, run, told)
    if all(choice.chosen is None for choice in result.choices):
        if result.num_failed or result.num_diverged:
            counted = f"({result.num_failed} failed, {result.num_diverged} diverged)"
            why, remedy = counted + _first_failure(made), "--retry-failed tries them again"
        else:  # so would every other try
            cell = made.cells[0].plan
            why = f"({cell.folder.path.name}: {without_score(so_far(cell))})"
            remedy = "try smaller learning rates"
        raise TrainingError(f"no run came to a score {why}", where=made.result, remedy=remedy)
    return made, result


def _first_failure(made: Sweep) -> str:
    """What went wrong first, if anything did, and where more of it stands."""
    for cell in made.cells:
        for seed in cell.plan.config.seeds:
            folder = cell.plan.folder.seed(seed)
            if failure := folder.read_failure():
                return f": {failure.error} (with its traceback in {folder.failure})"
    return ""


@dataclass(frozen=True)
class _Tracked:
    """A sweep's view, with trackers that hear of every cell too."""

    view: SweepLines
    tracking: Tracking

    def stage(self, name: str, found: Survey, later: Sequence[Unit]) -> None:
        self.view.stage(name, found, later)

    def of(self, plan: Plan) -> Progress:
        return self.tracking.of(plan, self.view.of(plan))


def _check_device(requested: str, executor: str) -> None:
    """Refuse a GPU by its number: each worker sees one of them only, under the number 0.

    Raises:
        ConfigError: it is one.
    """
    if requested.startswith("cuda:"):
        raise ConfigError(
            f"'{requested}' is one GPU, and --executor {executor} gives each run one of its own",
            where="--device",
            remedy="use --device cuda, and name the GPUs in CUDA_VISIBLE_DEVICES",
        )


def _executor(how: How, retry_before: float | None, made: Sweep) -> Executor:
    from adaptertune.executors import local, serial

    if how.executor == "serial":
        return lambda todo, hear: serial.run(todo, hear, retry_before=retry_before)
    import torch

    from adaptertune.train.device import num_cores

    for cell in made.cells:
        _check_device(cell.plan.config.device, "local")
    is_on_cpu = all(cell.plan.device == "cpu" for cell in made.cells)
    shares = local.shares(
        how.workers,
        how.threads,
        num_cores=num_cores(),
        num_gpus=0 if is_on_cpu else local.num_gpus(torch.cuda.device_count()),
    )
    return local.LocalExecutor(shares, retry_before)


def _forecast(ahead: Sequence[Unit], talk: Console) -> Callable[[Unit], float]:
    """Seconds of each unit, measured for those that are ahead, and for others when asked."""
    from adaptertune.runs.sweep_forecast import Forecaster

    known: dict[tuple[str, int], float] = {}
    num_cells = len({unit.plan.digest for unit in ahead})
    with progress(talk) as tell:
        tell("forecast", 0, num_cells)

        def on_method(what: str) -> None:
            # Those of the winners' other seeds come later; nobody knows how many.
            tell(f"forecast: {what}", len(known), num_cells if len(known) < num_cells else None)

        forecaster = Forecaster(on_method)

        def seconds(unit: Unit) -> float:
            key = unit.plan.digest, len(unit.seeds)
            if key not in known:
                known[key] = forecaster.seconds(unit.plan, unit.seeds)
            return known[key]

        for unit in ahead:
            seconds(unit)
    for method in dict.fromkeys(forecaster.too_large):
        talk.print(
            f"{method}: memory runs out with one example already, so the forecast is without it"
        )
    return seconds
