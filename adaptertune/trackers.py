"""Experiment trackers: a command's trainings, told to TensorBoard, trackio, W&B or MLflow as well.

They hear what the live table hears, in the process that shows it, so every executor has them. They
decide no number and stop no run: a tracker that raises is named once, and is off from then on.
"""

from __future__ import annotations

import contextvars
import importlib.util
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from adaptertune.config import flatten
from adaptertune.errors import ConfigError, first_line
from adaptertune.files import write_json
from adaptertune.runs.progress import Forwarding, Progress, Told, repeat
from adaptertune.yamlfile import nearest

if TYPE_CHECKING:
    from adaptertune.runs.plan import Plan
    from adaptertune.runs.results import SeedResult
    from adaptertune.train.loop import EpochRecord

PROJECT = "adaptertune"  # the project, or experiment, that the tools show the runs in
Status = Literal["finished", "diverged", "failed", "stopped"]
Values = Mapping[str, float]


@dataclass(frozen=True)
class Training:
    """One seed of a cell, as a tool is to show it."""

    name: str  # task, cell and seed, as in the store
    task: str
    folder: Path
    parameters: Mapping[str, str | int | float | bool]
    resume: str | None  # the ``id`` of the tool's run that it goes on with


class Run(Protocol):
    """The record of one training in a tool. Any of it may raise what it likes."""

    id: str  # by which the tool can go on with it in another process

    def epoch(self, epoch: int, values: Values) -> None:
        """The figures of an epoch, counted from 1."""

    def end(self, status: Status, scores: Values) -> None:
        """Nothing more will come."""


class TensorBoard:
    """Event files in the seed's folder; `tensorboard --logdir runs` shows them."""

    def __init__(self, training: Training) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.id, self._parameters = training.name, dict(training.parameters)
        earlier = () if training.resume else training.folder.glob("events.out.tfevents.*")
        for path in earlier:  # of a training that now begins anew
            path.unlink()
        self._writer = SummaryWriter(str(training.folder))
        if not training.resume:
            shown = json.dumps(self._parameters, indent=2).replace("\n", "\n    ")
            self._text("parameters", f"    {shown}")

    def epoch(self, epoch: int, values: Values) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def end(self, status: Status, scores: Values) -> None:
        self._text("status", status)
        if scores:  # beside those of other runs, in the tab HPARAMS
            self._writer.add_hparams(self._parameters, dict(scores), run_name=".")
        self._writer.close()

    def _text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, text, 0)


class Trackio:
    """A run of trackio's local store; its own environment variables choose a server."""

    def __init__(self, training: Training) -> None:
        import trackio

        self.id = training.name
        # Several trainings are open at a time, and trackio ends the run before: but for another context.
        with redirect_stdout(io.StringIO()):  # standard output is for what was asked for
            self._run = contextvars.Context().run(
                trackio.init,
                project=PROJECT,
                name=training.name,
                group=training.task,
                config=dict(training.parameters),
                resume="must" if training.resume else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def epoch(self, epoch: int, values: Values) -> None:
        self._run.log(dict(values), step=epoch)

    def end(self, status: Status, scores: Values) -> None:
        with redirect_stdout(io.StringIO()):
            if status != "stopped":  # it may go on, with this row amid its epochs
                self._run.log({**scores, "status": status})
            self._run.finish()


class WandB:
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and its other variables count."""

    def __init__(self, training: Training) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=training.name,
            group=training.task,
            config=dict(training.parameters),
            id=training.resume,
            resume="must" if training.resume else None,
            reinit="create_new",  # several are open at a time
            settings=wandb.Settings(console="off", silent=True),
        )
        self.id = str(self._run.id)

    def epoch(self, epoch: int, values: Values) -> None:
        self._run.log(dict(values), step=epoch)

    def end(self, status: Status, scores: Values) -> None:
        self._run.summary.update({**scores, "status": status})
        self._run.finish(exit_code=0 if status in ("finished", "diverged") else 1)


class MLflow:
    """A run of MLflow's experiment; MLFLOW_TRACKING_URI says where, MLFLOW_EXPERIMENT_NAME which."""

    def __init__(self, training: Training) -> None:
        # Its own 7 tries, with ever longer pauses, hold the training up for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        # With a server it prints the run's address to standard output, where --json's line goes.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        if training.resume:
            self.id = training.resume
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                self._client.create_experiment(name)
            except Exception:  # another process may have made it since: they begin together
                if self._client.get_experiment_by_name(name) is None:
                    raise
            known = self._client.get_experiment_by_name(name)
        self.id = self._client.create_run(
            known.experiment_id, run_name=training.name, tags={"task": training.task}
        ).info.run_id
        parameters = [Param(key, str(value)) for key, value in training.parameters.items()]
        self._client.log_batch(self.id, params=parameters)

    def epoch(self, epoch: int, values: Values) -> None:
        for name, value in values.items():
            self._client.log_metric(self.id, name, value, step=epoch)

    def end(self, status: Status, scores: Values) -> None:
        for name, value in scores.items():
            self._client.log_metric(self.id, name, value)
        self._client.set_tag(self.id, "status", status)
        ended = {"stopped": "KILLED", "failed": "FAILED"}.get(status, "FINISHED")
        self._client.set_terminated(self.id, ended)


class _Tool(NamedTuple):
    module: str
    open: Callable[[Training], Run]


TOOLS = {
    "tensorboard": _Tool("tensorboard", TensorBoard),
    "trackio": _Tool("trackio", Trackio),
    "wandb": _Tool("wandb", WandB),
    "mlflow": _Tool("mlflow", MLflow),
}


def chosen(texts: Sequence[str] | None) -> tuple[str, ...]:
    """The trackers that ``--tracker`` names, each once; a text may name several, with commas.

    Raises:
        ConfigError: there is no such tracker, its package is missing, or W&B has no account.
    """
    names = dict.fromkeys(name.strip() for text in texts or () for name in text.split(","))
    for name in names:
        if name not in TOOLS:
            raise ConfigError(
                f"no tracker '{name}'", where="--tracker", remedy=nearest(name, tuple(TOOLS))
            )
        spec = importlib.util.find_spec(TOOLS[name].module)
        if spec is None or spec.origin is None:  # without one: a folder that happens to be here
            raise ConfigError(
                f"{name} is not installed",
                where="--tracker",
                remedy=f"pip install {name}",
            )
    if "wandb" in names and not _has_account():
        raise ConfigError(
            "W&B has no account to write to",
            where="--tracker",
            remedy="run `wandb login`, or set WANDB_MODE=offline",
        )
    return tuple(names)


def _has_account() -> bool:
    """Whether W&B will not ask for a key in the middle of a training."""
    import wandb

    if wandb.setup().settings.mode != "online":
        return True
    with suppress(Exception):  # its server can't be reached: that is said when a run is opened
        return bool(wandb.login(prompt=False))
    return True


@contextmanager
def tracking(names: Sequence[str]) -> Iterator[Tracking]:
    """Trackers for all trainings of a command. What is open at the end is marked as stopped."""
    made = Tracking(names)
    try:
        yield made
    finally:
        made.stop()


class Tracking:
    """All trackers of a command, and the runs they have open."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)  # of those that have not failed
        self._open: dict[tuple[str, int], _Open] = {}

    def of(self, plan: Plan, progress: Progress) -> Progress:
        """The progress of a cell, of which the trackers hear too."""
        if not self._names:
            return progress

        def tell(told: Told) -> None:
            repeat(told, progress)
            self._hear(plan, progress, told)

        return Forwarding(tell, progress.should_stop, progress.saved)

    def stop(self) -> None:
        for key in list(self._open):
            self._end(key, "stopped", {})

    def _hear(self, plan: Plan, progress: Progress, told: Told) -> None:
        match told:
            case "seed_started", (seed,), {"resumed": resumed}:
                self._start(plan, seed, progress, is_resumed=resumed)
            case "epoch", (seed, record), _:
                self._epoch(plan, seed, record)
            case "seed_done", (result,), _:
                self._end((plan.digest, result.seed), result.status, _scores(result))
            case "failed", (seed, _), _:
                self._end((plan.digest, seed), "failed", {})

    def _start(self, plan: Plan, seed: int, progress: Progress, *, is_resumed: bool) -> None:
        key = plan.digest, seed
        if key in self._open:  # its process died, and another one goes on
            return
        folder = plan.folder.seed(seed).path
        noted = _Noted(folder / "trackers.json")
        if not is_resumed:
            noted.entries.clear()
        opened = self._open[key] = _Open({}, noted, progress)
        for name in list(self._names):
            resume = noted.entries[name]["id"] if name in noted.entries else None
            training = Training(
                f"{plan.task.name}/{plan.folder.path.name}/seed-{seed}",
                plan.task.name,
                folder,
                _parameters(plan, seed),
                resume,
            )
            with self._heeded(name, progress):
                run = opened.runs[name] = TOOLS[name].open(training)
                noted.entries.setdefault(name, {"id": run.id, "epochs": 0})
                noted.write()

    def _epoch(self, plan: Plan, seed: int, record: EpochRecord) -> None:
        opened = self._open.get((plan.digest, seed))
        if opened is None:
            return
        values = {f"{plan.selecting_split}/{name}": value for name, value in record.values.items()}
        known = {
            name: value
            for name, value in {"train/loss": record.train_loss, **values}.items()
            if value is not None
        }
        for name, run in opened.live(self._names):
            entry = opened.noted.entries[name]
            if record.epoch > entry["epochs"]:  # a killed run may do one again
                with self._heeded(name, opened.progress):
                    run.epoch(record.epoch, known)
                    entry["epochs"] = record.epoch
                    opened.noted.write()

    def _end(self, key: tuple[str, int], status: Status, scores: Values) -> None:
        opened = self._open.pop(key, None)
        if opened is not None:
            for name, run in opened.live(self._names):
                with self._heeded(name, opened.progress):
                    run.end(status, scores)

    @contextmanager
    def _heeded(self, name: str, progress: Progress) -> Iterator[None]:
        """A call of a tracker; its error is told and ends its use, and nothing else."""
        try:
            yield
        except Exception as error:
            self._names.remove(name)
            told = f"{type(error).__name__}: {first_line(error)}"
            progress.note(f"tracker {name} is off from here on ({told}); all else goes on")


@dataclass(frozen=True)
class _Open:
    """A training under way: its runs by tool."""

    runs: dict[str, Run]
    noted: _Noted
    progress: Progress

    def live(self, names: Sequence[str]) -> list[tuple[str, Run]]:
        """Those of the tools that are still in use."""
        return [(name, run) for name, run in self.runs.items() if name in names]


class _Noted:
    """The file by which a resumed training finds its runs: tool -> ``id``, and ``epochs`` told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError):  # none yet, or damaged: the tools get new runs then
            self.entries = json.loads(path.read_text(encoding="utf-8"))

    def write(self) -> None:
        write_json(self.path, self.entries)


def _parameters(plan: Plan, seed: int) -> dict[str, str | int | float | bool]:
    """The configuration by dotted keys, and what was found out about it."""
    facts = {
        **dict(flatten(plan.config.model_dump(mode="json", exclude={"seeds"}))),
        "seed": seed,
        "digest": plan.seed_digest(seed),
        "device": plan.device,
        "precision": plan.precision,
        "data": plan.data.description,
        "data.partial": plan.data.partial,
        "data.sample": plan.data.sample,
        "num_train": plan.data.num_train,
        "selecting_split": plan.selecting_split,
    }
    return {
        key: value if isinstance(value, str | int | float | bool) else json.dumps(value)
        for key, value in facts.items()
        if value is not None
    }


def _scores(result: SeedResult) -> dict[str, float]:
    """Of the kept epoch, on every split."""
    found: dict[str, float | None] = {
        f"kept/{split}/{name}": value
        for split, scores in result.scores.items()
        for name, value in scores.values.items()
    }
    found["kept/epoch"] = result.kept_epoch
    return {name: value for name, value in found.items() if value is not None}
