"""The weights that a run starts from where these are another run's (``--init-from``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptertune import config as configuration
from adaptertune.errors import CheckpointError, ConfigError, StoreError
from adaptertune.files import sha256
from adaptertune.model.backbone import Located
from adaptertune.runs import load, results, store
from adaptertune.runs.load import Run
from adaptertune.tasks import Task

# What the first values that are replaced would have been.
WITHOUT_EFFECT = {"init_std"}


@dataclass(frozen=True)
class Start:
    """A finished seed whose checkpoint is whole, and that file's SHA-256."""

    run: Run
    sha256: str

    @property
    def path(self) -> Path:
        return self.run.folder.checkpoint

    def facts(self, task: Task) -> results.InitFrom:
        """What a run of a task records of it."""
        run = self.run
        return results.InitFrom(
            run=f"{run.task.name}/{run.cell.path.name}/seed-{run.result.seed}",
            task=run.task.name,
            seed=run.result.seed,
            digest=run.result.digest,
            sha256=self.sha256,
            head=_has_same_labels(task, run.task),
        )


def find(name: str, output: Path, where: str | None) -> Start:
    """A run as :func:`load.find` takes it: its best seed, unless a seed's folder is named.

    Raises:
        StoreError: there is none, it is not finished, or it is damaged.
        CheckpointError: its checkpoint is missing or damaged.
    """
    from adaptertune.train.checkpoint import read_tensors

    try:
        cell = store.find_cell(name, output)
        if store.seed_named(name) is None and cell.read_result() is None:
            raise StoreError(
                "not finished, so no seed is the best yet",
                where=cell.path,
                remedy="finish it, or name the folder of a seed that is",
            )
        run = load.find(name, output)
    except StoreError as error:
        place = f"{where}: {error.where}" if error.where else where
        raise StoreError(error.what, where=place, remedy=error.remedy) from None
    _, facts = read_tensors(run.folder.checkpoint)
    if facts.get("base_sha256") != run.result.backbone.sha256:
        raise CheckpointError("not the checkpoint of this run", where=run.folder.checkpoint)
    return Start(run, sha256(run.folder.checkpoint, CheckpointError))


def choose(
    names: Sequence[str],
    method: configuration.Method,
    located: Located,
    where: str | None,
    found: Callable[[str], Start],
) -> Start:
    """The one of several runs whose weights fit a method on a backbone.

    Args:
        found: the run of each name, as :func:`find` gives it.

    Raises:
        ConfigError: none of them fits, or several do.
    """
    starts = {name: found(name) for name in names}
    complaints = {name: _complaint(start.run, method, located) for name, start in starts.items()}
    fitting = [name for name, complaint in complaints.items() if complaint is None]
    if len(fitting) > 1:
        raise ConfigError(
            f"{' and '.join(fitting)} both fit method '{method.name}'",
            where=where,
            remedy="give one run for each method",
        )
    if not fitting:
        why = "; ".join(f"'{name}' does not fit: {complaints[name]}" for name in names)
        raise ConfigError(
            why, where=where, remedy="give a run of the same backbone, method and settings"
        )
    return starts[fitting[0]]


def head_rows(own: Task, theirs: Sequence[str] | None) -> list[int]:
    """For each output of a task which of another head's it is, where both have the same labels."""
    return [0] if own.labels is None or theirs is None else [theirs.index(x) for x in own.labels]


def in_words(facts: results.InitFrom) -> str:
    """Where weights and head come from."""
    head = (
        "its head too, for the labels are the same"
        if facts.head
        else "but for the head, which is new, for the labels are others"
    )
    return f"what {facts.run} trained, {head}"


def _complaint(run: Run, method: configuration.Method, located: Located) -> str | None:
    """Why a run's weights do not fit; None if they do."""
    base = run.result.backbone
    if base.sha256 != located.sha256:
        return (
            f"its backbone is {base.name} (SHA-256 {base.sha256[:12]}…), not {located.name} "
            f"({located.sha256[:12]}…)"
        )
    theirs, own = (one.model_dump(mode="json") for one in (run.method, method))
    if theirs["name"] != own["name"]:
        return f"its method is {theirs['name']}, not {own['name']}"
    for key in own.keys() - WITHOUT_EFFECT:
        if theirs[key] != own[key]:
            return f"its method.{key} is {_written(theirs[key])}, not {_written(own[key])}"
    return None


def _written(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "all" if value is None else str(value)


def _has_same_labels(own: Task, theirs: Task) -> bool:
    """In whatever order; of scores, in the same range."""
    if own.labels is None or theirs.labels is None:
        return own.range == theirs.range and own.labels == theirs.labels
    return sorted(own.labels) == sorted(theirs.labels)
