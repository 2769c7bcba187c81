"""What a store holds, read for reporting: cells and their seeds, from result files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from adaptertune.config import digest, flatten, parse_method
from adaptertune.errors import StoreError, first_line
from adaptertune.report.commands import ELSEWHERE, train_command
from adaptertune.runs import store
from adaptertune.runs.results import UNTOLD, Record, SeedResult

if TYPE_CHECKING:
    import numpy.typing as npt

# Settings that decide no number, or are told as a result ("auto" became fp32 or bf16).
INDIFFERENT = {"device", "threads", "stack", "trunk_cache", "cuda_graphs", "training.precision"}
# Settings that a run of an early version does not name, and what it did.
SINCE: dict[str, object] = {"init_from": None, "protocol": "paper", "compile": False}
# What is read of a cell's ``config.json``.
DESCRIPTION = {"config", "origins", "identity", "digest"}


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration that decide numbers, data and base model apart, by dotted key."""
    return {k: value for k, value in flatten(config) if k not in ELSEWHERE | INDIFFERENT}


class EpochLine(Record):
    """A line of ``epochs.jsonl``."""

    epoch: int
    train_loss: float
    values: dict[str, float | None]
    """Metrics on the selecting split, as fractions."""
    collapsed: bool
    train_seconds: float
    evaluate_seconds: float
    examples_per_second: float


@dataclass(frozen=True)
class Search:
    """What the sweeps that list a cell ask of it."""

    num_seeds: int
    """As many as a cell has in the end; the most, if several sweeps list it."""
    by_first_seed: bool
    """Whether candidates ran with their first seed, and only the best one with all."""
    place: int
    """Among all cells that sweeps list: of equals, a sweep chooses the first."""


@dataclass(frozen=True)
class Cell:
    """A task, a method and settings, with the seeds that are done; at least one is."""

    folder: Path
    digest: str
    task_digest: str
    """Of the task as it was defined then (labels in their order, headline, splits) and of its rows:
    scores may be set side by side where these are the same."""
    config: Mapping[str, Any]
    origins: Mapping[str, str]
    is_regression: bool
    metrics: tuple[str, ...]
    headline: str
    reported: tuple[str, ...]
    """The splits that are shown. ``selecting`` is one of them, or was set apart from training data."""
    seeds: tuple[SeedResult, ...]
    epochs: Mapping[int, tuple[EpochLine, ...]]
    failed: Mapping[int, str]
    """Seeds that ended with an error, and which; they are missing too."""
    num_lanes: int = 1
    """Seeds that trained in one pass: their peak of memory is the pass's."""
    is_pruned: bool = False
    search: Search | None = None
    """None where no sweep lists it: it was trained alone, or for an ablation."""

    @property
    def protocol(self) -> str:
        return str(self.config.get("protocol", "paper"))

    @property
    def tried(self) -> set[int]:
        """Seeds that came to an end, with a score or without."""
        return {result.seed for result in self.seeds} | self.failed.keys()

    @property
    def facts(self) -> SeedResult:
        """A seed's result, for what all seeds share: task, data, backbone, ledger."""
        return self.seeds[0]

    @property
    def selecting(self) -> str:
        """The split that chose epochs and choose between candidates."""
        return self.facts.selecting_split

    @property
    def diverged(self) -> list[int]:
        """Seeds whose loss was no longer finite."""
        return [result.seed for result in self.seeds if result.status == "diverged"]

    @property
    def missing(self) -> list[int]:
        """Seeds that were asked for and are not done; of a copied run none, for they are elsewhere."""
        if any(result.cost.host == UNTOLD for result in self.seeds):
            return []
        done = {result.seed for result in self.seeds}
        return [seed for seed in self.config["seeds"] if seed not in done]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that decides the numbers and is neither data nor base model, by dotted key."""
        found = SINCE | deciding(self.config)
        if self.facts.init_from:  # by whatever path it was named
            found["init_from"] = self.facts.init_from.run
        if self.is_pruned:  # its layers were chosen by what it scores without the others
            found["pruned"] = "afterwards"
        return found | {"precision": self.facts.precision}

    def values(self, split: str, metric: str) -> dict[int, float]:
        """A metric by seed; seeds that diverged, or for which it is not defined, are not there."""
        found = {
            result.seed: result.scores[split].values[metric]
            for result in self.seeds
            if split in result.scores
        }
        return {seed: value for seed, value in found.items() if value is not None}

    def collapsed(self, split: str) -> list[int]:
        """Seeds that give every example the same label or score."""
        return [
            result.seed
            for result in self.seeds
            if split in result.scores and result.scores[split].collapsed
        ]

    @property
    def best_seed(self) -> int | None:
        """The seed with the highest headline metric on the selecting split."""
        scores = self.values(self.selecting, self.headline)
        return max(scores, key=lambda seed: scores[seed], default=None)

    def labels(self, seed: int, split: str) -> Labels | None:
        """What a seed's logits say of each example, and what is true; None for a regression, and
        where the file was not kept.

        Raises:
            StoreError: the file is damaged.
        """
        path = store.CellFolder(self.folder).seed(seed).logits
        if self.is_regression or not path.exists():
            return None
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(path)
            return Labels(tensors[f"logits.{split}"].argmax(axis=1), tensors[f"labels.{split}"])
        except (OSError, KeyError, SafetensorError) as error:
            raise _damaged(path, error) from None


@dataclass(frozen=True)
class Labels:
    """Label numbers, (examples,) each."""

    predicted: npt.NDArray[Any]
    true: npt.NDArray[Any]


@dataclass(frozen=True)
class Unfinished:
    """A cell without a finished seed, and the command that goes on with it."""

    folder: Path
    command: str
    failed: Mapping[int, str]


def read(output: Path) -> tuple[list[Cell], list[Unfinished]]:
    """All cells of a store, by task and name: those with results, and those without.

    Imported ones are left out: their protocol is not known, so they can't be set beside others. Of the
    results of sweeps only is read which cells they searched: they choose among these, and hold no
    other scores.

    Raises:
        StoreError: a file is damaged.
    """
    cells, unfinished = [], []
    searches = _searches(output)
    for folder in store.cells(output):
        described = _read_description(folder)
        if described is None or "imported" in described["identity"]:
            continue
        numbers = folder.seeds()
        found = {number: folder.seed(number).read_result() for number in numbers}
        seeds = tuple(result for result in found.values() if result is not None)
        failures = {number: folder.seed(number).read_failure() for number in numbers}
        failed = {
            number: failure.error
            for number, failure in failures.items()
            if failure is not None and found[number] is None
        }
        # The store may have moved since: what is missing is to go where it was looked for.
        config = described["config"] | {"output": str(output)}
        if not seeds:
            command = train_command(config, described["origins"])
            unfinished.append(Unfinished(folder.path, command, failed))
            continue
        task, stacked = described["identity"]["task"], described["identity"].get("stacked")
        # A seed that came later wrote itself alone as what is asked for; a pass has no others.
        config["seeds"] = stacked or sorted({*config["seeds"], *numbers})
        cells.append(
            Cell(
                folder=folder.path,
                digest=described["digest"],
                task_digest=_task_digest(task, seeds[0]),
                config=config | {"method": _completed(config["method"])},
                origins=described["origins"],
                is_regression=task["range"] is not None,
                metrics=tuple(task["metrics"]),
                headline=task["headline"],
                reported=tuple(task["evaluation"]),
                seeds=seeds,
                epochs={result.seed: _read_epochs(folder.seed(result.seed)) for result in seeds},
                failed=failed,
                num_lanes=len(stacked or [None]),
                is_pruned=bool(described["identity"].get("pruned_from")),
                search=searches.get(described["digest"]),
            )
        )
    return cells, unfinished


def _task_digest(task: Mapping[str, Any], result: SeedResult) -> str:
    # Further metrics beside the headline change nothing of what is compared.
    judged = {key: value for key, value in task.items() if key != "metrics"}
    return digest({"task": judged, "rows": result.data.fingerprint})


def as_asked(cell: Cell, search: Search) -> Cell | None:
    """A cell as one sweep sees it: with the seeds that this one asks for; None without any of them."""
    seeds = tuple(result for result in cell.seeds if result.seed < search.num_seeds)
    if not seeds:
        return None
    return replace(
        cell,
        config={**cell.config, "seeds": list(range(search.num_seeds))},
        seeds=seeds,
        epochs={seed: lines for seed, lines in cell.epochs.items() if seed < search.num_seeds},
        failed={seed: error for seed, error in cell.failed.items() if seed < search.num_seeds},
        search=search,
    )


def _searches(output: Path) -> dict[str, Search]:
    """What the store's sweeps ask of their cells, by digest.

    An ablation is a sweep too, but no search: its cells are points of its own.
    """
    ablations = {(one.config["name"], one.digest) for one in store.read_ablations(output)}
    found: dict[str, Search] = {}
    for result in store.read_sweeps(output):
        if (result.name, result.digest) in ablations:
            continue
        num_seeds = result.config["seeds"]
        by_first_seed = result.config["seeds_on"] == "winner"
        chosen = [choice.digest for choice in result.choices if choice.digest]
        for cell in result.cells or chosen:  # an earlier version told the chosen ones alone
            earlier = found.setdefault(cell, Search(num_seeds, by_first_seed, len(found)))
            found[cell] = replace(
                earlier,
                num_seeds=max(num_seeds, earlier.num_seeds),
                by_first_seed=by_first_seed or earlier.by_first_seed,
            )
    return found


def _completed(method: Mapping[str, Any]) -> Mapping[str, Any]:
    """A method with all its settings: a run of an earlier version lacks those that came since, whose
    defaults are what it did.
    """
    completed: Mapping[str, Any] = parse_method(dict(method)).model_dump(mode="json")
    return completed


def _read_description(folder: store.CellFolder) -> dict[str, Any] | None:
    """What a cell's ``config.json`` holds; None of a folder that is no cell, for models have such a
    file too.
    """
    try:
        described = json.loads(folder.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder.config, error, store.AGAIN) from None
    if isinstance(described, dict) and described.keys() >= DESCRIPTION:
        return described
    if folder.seeds():
        raise _damaged(folder.config, ValueError("not a run's configuration"), store.AGAIN)
    return None


def _read_epochs(folder: store.SeedFolder) -> tuple[EpochLine, ...]:
    try:
        lines: Sequence[str] = folder.epochs.read_text(encoding="utf-8").splitlines()
        return tuple(EpochLine.model_validate_json(line) for line in lines)
    except FileNotFoundError:  # diverged in the first epoch
        return ()
    except (OSError, ValueError, ValidationError) as error:
        raise _damaged(folder.epochs, error) from None


def _damaged(path: Path, error: Exception, remedy: str | None = None) -> StoreError:
    return StoreError(
        f"damaged ({first_line(error)})",
        where=path,
        remedy=remedy or f"delete {path.parent} and run the same command again",
    )
