"""A finished run: found in a store, and loaded as a model that answers.

A run's folder holds all that this needs but the base model, which is looked up under the name, commit
and SHA-256 that the run recorded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptertune import catalogue, download, tasks
from adaptertune import config as configuration
from adaptertune.errors import AdapterTuneError, BackboneError, CheckpointError, StoreError
from adaptertune.model import backbone
from adaptertune.runs import results, store
from adaptertune.tasks import Task
from adaptertune.yamlfile import parse

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from tokenizers import Tokenizer

    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier

WITHOUT_MODEL = {  # by a seed's status
    "diverged": "it diverged and has no checkpoint",
    "finished": "its result was kept without its checkpoint",
}


@dataclass(frozen=True)
class Run:
    """A finished seed of a cell."""

    cell: store.CellFolder
    folder: store.SeedFolder
    result: results.SeedResult
    task: Task

    @property
    def method(self) -> configuration.Method:
        return configuration.parse_method(self.result.config["method"])

    @property
    def max_length(self) -> int:
        return int(self.result.config["training"]["max_length"])

    @property
    def score(self) -> float | None:
        """The headline metric on the split that selected, as a fraction."""
        return self.result.score(self.task.headline)

    def locate(self, place: str | None = None, *, offline: bool) -> backbone.Located:
        """The base model; see :func:`locate_base`."""
        return locate_base(self.cell, self.result.backbone, place, offline=offline)


@dataclass(frozen=True)
class Loaded:
    """A run's model, ready to answer."""

    run: Run
    model: Classifier
    tokenizer: Tokenizer
    device: torch.device

    def encode(self, first: list[str], second: list[str] | None) -> Encoded:
        """Texts as the run's training saw them.

        Raises:
            BackboneError: the model lacks a token that one of them has.
        """
        from adaptertune.data.encode import check_tokens, encode
        from adaptertune.data.sources import Split

        encoded = encode(self.tokenizer, Split("rows", first, second, None), self.run.max_length)
        vocabulary = len(self.model.backbone.embeddings.word_embeddings.weight)
        check_tokens(encoded, vocabulary, self.run.result.backbone.name)
        return encoded

    def logits(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """(examples, outputs), in their order."""
        from adaptertune.train.evaluate import logits

        return logits(self.model, encoded, self.device)


def find(run: str, output: Path, seed: int | None = None) -> Run:
    """A run by its folder, name or digest; of its seeds the one named, or else the best on validation.

    The folder of a seed names that seed.

    Raises:
        StoreError: there is no such run or seed, it is not finished, or it is damaged.
    """
    cell = store.find_cell(run, output)
    own = store.seed_named(run)
    if own is not None:
        if seed not in (None, own):
            raise StoreError(
                f"is the folder of seed {own}, not of {seed}",
                where=run,
                remedy="leave --seed out, or name the run's folder",
            )
        seed = own
    if seed is None:
        summary = cell.read_result()
        done = cell.finished_seeds()
        if summary is None:
            raise StoreError(
                "not finished, so no seed is the best yet",
                where=cell.path,
                remedy=f"finish it, or name the folder of a seed that is ({_folders(done)})"
                if done
                else "train it first",
            )
        seed = cell.best_here(summary.best_seed)
        if seed is None:
            remedy = "train it again, perhaps with a smaller --lr"
            raise StoreError(without_score(summary), where=cell.path, remedy=remedy)
    folder = cell.seed(seed)
    result = folder.read_result()
    if result is None or result.checkpoint is None:
        what = "not finished" if result is None else WITHOUT_MODEL[result.status]
        others = [one for one in cell.finished_seeds() if _has_model(cell, one)]
        remedy = f"models there: {_folders(others) or 'none'}"
        raise StoreError(what, where=folder.path, remedy=remedy)
    return Run(cell, folder, result, kept_task(cell, result.config))


def _folders(seeds: Sequence[int]) -> str:
    return ", ".join(f"seed-{seed}" for seed in seeds)


def _has_model(cell: store.CellFolder, seed: int) -> bool:
    result = cell.seed(seed).read_result()
    return result is not None and result.checkpoint is not None


def without_score(result: results.CellResult) -> str:
    """Why a cell has no best seed: how its seeds ended."""
    total = len(result.seeds)
    ends = Counter(_end(line, result.headline) for line in result.seeds)
    if len(ends) == 1:
        return f"{'the only seed' if total == 1 else f'all {total} seeds'} {next(iter(ends))}"
    return ", and ".join(f"{number} of {total} seeds {end}" for end, number in ends.items())


def _end(line: results.SeedLine, headline: str) -> str:
    """How a seed without a score ended."""
    if line.status == "diverged":
        return "diverged: the loss was not finite"
    if line.status == "failed":
        return "failed"
    why = ": every answer is the same" if line.collapsed else ""
    return f"finished without a defined {headline}{why}"


def load(
    run: Run,
    *,
    device: str = "auto",
    precision: str = "auto",
    place: str | None = None,
    offline: bool = False,
) -> Loaded:
    """The run's model with what it trained, on a device.

    Args:
        run: a finished seed.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, bf16, or auto: bf16 if it trained so and the hardware has it.
        place: where the base model is, if it is no longer where the run had it.
        offline: whether to keep to the local cache.

    Raises:
        BackboneError: the base model is not to be found.
        CheckpointError: the checkpoint is damaged, or the base model is another one.
    """
    import torch

    from adaptertune.data.encode import load_tokenizer
    from adaptertune.model.build import load_model
    from adaptertune.train import checkpoint
    from adaptertune.train.device import choose_device, choose_precision, has_native_bf16

    located = run.locate(place, offline=offline)
    # Before any of it is loaded.
    check_backbone(run.result.backbone, located, run.folder.checkpoint)
    chosen = choose_device(device)
    if precision == "auto" and run.result.precision == "fp32":
        precision = "fp32"
    model = load_model(
        located,
        run.method,
        run.task.num_outputs,
        seed=run.result.seed,
        device=str(chosen),
        precision=choose_precision(precision, native_bf16=has_native_bf16(chosen)),
    )
    checkpoint.load_trained(
        model, run.folder.checkpoint, base_sha256=located.sha256, labels=run.task.labels
    )
    model.hold_for_answers()
    return Loaded(run, model, load_tokenizer(located.folder), torch.device(chosen))


def locate_base(
    cell: store.CellFolder,
    recorded: results.BackboneFacts,
    place: str | None,
    *,
    offline: bool,
) -> backbone.Located:
    """A run's base model: in the place that is named, or in the run's bundle, or by the recorded name
    and commit.

    Raises:
        BackboneError: it is not to be found.
        HubError: its download is damaged.
    """
    if place is None and cell.bundled is not None:
        found = backbone.locate(str(cell.bundled), offline=True)
        if found.sha256 == recorded.sha256:  # else the run was trained into the bundle's folder
            return found
    try:
        return backbone.locate(place or recorded.at_commit, offline=offline)
    except BackboneError as error:
        if place or catalogue.package(recorded.at_commit):
            raise
        mend = "bring it back" if recorded.commit is None else download.ONLINE
        raise BackboneError(
            error.what,
            where=f"base model {recorded.at_commit}",
            remedy=f"{mend}, or name its folder with --backbone",
        ) from None


def check_backbone(recorded: results.BackboneFacts, located: backbone.Located, where: Path) -> None:
    """Whether a base model is still the one that a run was trained on.

    Raises:
        CheckpointError: it is not.
    """
    if located.sha256 != recorded.sha256:
        raise CheckpointError(
            f"trained on another {recorded.name} (SHA-256 {recorded.sha256[:12]}…) than the one in "
            f"{located.folder} ({located.sha256[:12]}…)",
            where=where,
            remedy="bring back the model it was trained on",
        )
    # Of one commit the cache may have had fewer files then.
    is_same = recorded.commit is not None and recorded.commit == located.commit
    if recorded.files and recorded.files != located.files and not is_same:
        raise CheckpointError(
            f"the configuration or tokenizer in {located.folder} is not what it was trained with",
            where=where,
            remedy="bring back the files of the model it was trained on",
        )


def kept_task(cell: store.CellFolder, settings: Mapping[str, Any]) -> Task:
    """The task as it was when a run with these settings was trained: from the run's own folder, or, of a
    run from before it was kept there, from its file if that still says the same.

    Raises:
        StoreError: it can't be read, or is another one now.
    """
    try:
        content: Any = json.loads(cell.config.read_text(encoding="utf-8"))
        kept, identity = content.get("task"), content["identity"]["task"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"damaged ({type(error).__name__}: {error})",
            where=cell.config,
            remedy=store.AGAIN,
        ) from None
    try:
        if kept is not None:
            task = parse(Task, kept, lambda _: str(cell.config))
        else:
            task = tasks.load(settings["task"])
    except AdapterTuneError as error:
        raise StoreError(
            f"its task can't be read ({error})",
            where=cell.path,
            remedy=store.AGAIN,
        ) from None
    if tasks.canonical(task) != identity:
        raise StoreError(
            f"task '{task.name}' is not what it was when the run was trained",
            where=cell.path,
            remedy="restore the task's file, or train again",
        )
    return task
