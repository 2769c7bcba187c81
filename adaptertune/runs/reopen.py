"""A finished run opened again: its plan as of today, its models as they were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptertune import paths
from adaptertune.config import Resolved, RunConfig
from adaptertune.errors import DataError, StoreError
from adaptertune.runs.load import check_backbone, kept_task, locate_base
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Lookups, Plan
from adaptertune.runs.plan import plan as make_plan
from adaptertune.runs.results import CellResult
from adaptertune.runs.store import CellFolder
from adaptertune.yamlfile import parse

if TYPE_CHECKING:
    from adaptertune.model.classifier import Classifier


@dataclass(frozen=True)
class Reopened:
    """A finished run with data and base model at hand.

    ``seeds`` are those that did not diverge. The plan's own folder may be another one, if the run has
    moved.
    """

    folder: CellFolder
    result: CellResult
    plan: Plan
    seeds: tuple[int, ...]
    lookups: Lookups
    """Base model and data of the plan, for others that are to have the very same."""

    def load(self, seed: int) -> Classifier:
        """A seed's trained model, on the plan's device.

        Raises:
            CheckpointError: the checkpoint is damaged, or does not fit.
        """
        return self.load_all([seed])[seed]

    def load_all(self, seeds: Sequence[int]) -> dict[int, Classifier]:
        """Several seeds' models, with their frozen weights in common."""
        from adaptertune.train.checkpoint import load_trained

        models, located = load_models(self.plan, seeds), self.plan.located
        for seed, model in models.items():
            path = self.folder.seed(seed).checkpoint
            load_trained(model, path, base_sha256=located.sha256, labels=self.plan.task.labels)
        return models


def reopen(
    folder: CellFolder,
    result: CellResult,
    *,
    device: str | None = None,
    data_dir: Path | None = None,
    place: str | None = None,
    offline: bool = False,
) -> Reopened:
    """Find a finished run's base model and data again.

    Args:
        device: instead of the run's own.
        data_dir: instead of the run's own, if the data have moved.
        place: where the base model is, if it is no longer where the run had it.
        offline: whether to keep to the local cache; a run that was trained so does in any case.

    Raises:
        StoreError: no seed was finished.
        CheckpointError: the base model is no longer the one that the run was trained on.
        DataError: the rows are no longer those of the run.
        AdapterTuneError: one of them can't be found.
    """
    here = folder.seeds()  # not all, where the run was copied
    finished = (line.seed for line in result.seeds if line.status == "finished")
    seeds = tuple(seed for seed in finished if seed in here)
    if not seeds:
        raise StoreError("no seed was finished: there is no model", where=folder.path)
    config = parse(RunConfig, result.config, lambda _: str(folder.result))
    training = config.training.model_copy(update={"precision": result.precision})
    changes: dict[str, object] = {"training": training, "stack": "off", "compile": False}
    changes["offline"] = offline or config.offline
    changes["init_from"] = None  # the weights are there; those that it began with may be gone
    if device is not None:
        changes["device"] = device
    if data_dir is not None:
        folder_of_rows = paths.absolute(data_dir, "--data-dir")
        changes["data"] = config.data.model_copy(
            update={"source": "folder", "folder": folder_of_rows}
        )
    config = config.model_copy(update=changes)
    base, lookups = result.backbone, Lookups()
    located = locate_base(folder, base, place, offline=config.offline)
    check_backbone(base, located, folder.path)
    # The very commit, by the name that the run has for it.
    known = ("backbone", config.backbone, config.offline)
    lookups.once(known, lambda: replace(located, name=base.name))
    task = kept_task(folder, result.config)
    plan = make_plan(Resolved(config, task, result.origins), lookups)
    if plan.data.fingerprint != result.data.fingerprint:
        remedy = "bring the files back, or name their folder with --data-dir"
        if data_dir is not None:
            remedy = f"leave --data-dir out: it was trained on {result.data.description}"
        raise DataError(
            f"the data are no longer those of the run: {plan.data.description}",
            where=folder.path,
            remedy=remedy,
        )
    made = replace(plan, imported=result.imported, init_from=result.init_from)
    return Reopened(folder, result, made, seeds, lookups)
