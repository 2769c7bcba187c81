"""Run folders: ``<output>/<task>/<cell>/seed-<n>/``. Results are written last and atomically.

A cell's name ends in its digest, so the same configuration on the same data always meets the same
folder: a finished run is found, a killed one goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from adaptertune.errors import StoreError
from adaptertune.files import as_json, write_atomically
from adaptertune.paths import absolute, expanded
from adaptertune.runs.analyses import AblationResult, SpansResult
from adaptertune.runs.results import CellResult, Failure, Record, SeedResult, SweepResult

Result = TypeVar("Result", bound=Record)

# What a damaged ``config.json`` needs.
BUNDLE, BUNDLED_BACKBONE = "bundle.json", "backbone"  # in a bundle's folder
AGAIN = "run the command that trained it again; finished seeds are kept"


@dataclass(frozen=True)
class SeedFolder:
    """The files of one seed's training."""

    path: Path

    @property
    def result(self) -> Path:
        """Written last; its presence means finished."""
        return self.path / "result.json"

    @property
    def checkpoint(self) -> Path:
        """What trained, of the kept epoch."""
        return self.path / "checkpoint.safetensors"

    @property
    def logits(self) -> Path:
        """Logits and labels of the evaluated splits, of the kept epoch."""
        return self.path / "logits.safetensors"

    @property
    def epochs(self) -> Path:
        """A JSON line for each epoch done so far."""
        return self.path / "epochs.jsonl"

    @property
    def snapshot(self) -> Path:
        """All that a killed run needs to go on; gone when it is finished. Of seeds that train in one
        pass, the first one's folder has it for all.
        """
        return self.path / "snapshot.safetensors"

    @property
    def failure(self) -> Path:
        """What went wrong, if anything did and it was not tried again with success."""
        return self.path / "failure.json"

    def read_failure(self) -> Failure | None:
        """The failure, or None if there was none.

        Raises:
            StoreError: the file is there but damaged.
        """
        return _read(self.failure, Failure)

    def read_result(self) -> SeedResult | None:
        """The result, or None if the run is not finished.

        Raises:
            StoreError: the file is there but damaged.
        """
        return _read(self.result, SeedResult)


@dataclass(frozen=True)
class CellFolder:
    """The files of one cell."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def result(self) -> Path:
        """The summary over all its seeds."""
        return self.path / "result.json"

    def seed(self, seed: int) -> SeedFolder:
        return SeedFolder(self.path / f"seed-{seed}")

    def seeds(self) -> list[int]:
        """Seeds that have a folder, finished or not."""
        found = (re.fullmatch(r"seed-(\d+)", path.name) for path in self.path.glob("seed-*"))
        return sorted(int(match[1]) for match in found if match)

    def best_here(self, best: int | None) -> int | None:
        """The best seed; of a run that was copied with one seed alone, that one."""
        here = self.seeds()
        return here[0] if best is not None and len(here) == 1 else best

    def finished_seeds(self) -> list[int]:
        """Seeds that have a result, diverged ones too."""
        return [seed for seed in self.seeds() if self.seed(seed).result.exists()]

    @property
    def bundled(self) -> Path | None:
        """The base model's folder in the bundle that the run lies in, if there are both."""
        bundle = self.path.absolute().parent.parent
        folder = bundle / BUNDLED_BACKBONE
        return folder if (bundle / BUNDLE).is_file() and folder.is_dir() else None

    def read_result(self) -> CellResult | None:
        """The summary, or None if there is none yet. Its paths are those where the run lies now.

        Raises:
            StoreError: the file is there but damaged.
        """
        found = _read(self.result, CellResult)
        if found is None:
            return None
        here: dict[str, Any] = {
            "folder": str(self.path),
            "seeds": [
                line.model_copy(update={"folder": str(self.seed(line.seed).path)})
                for line in found.seeds
            ],
        }
        best = self.best_here(found.best_seed)
        if found.checkpoint is not None and best is not None:
            here["checkpoint"] = str(self.seed(best).checkpoint)
        return found.model_copy(update=here)

    def finished_result(self) -> CellResult:
        """The summary.

        Raises:
            StoreError: there is none yet, or it is damaged.
        """
        result = self.read_result()
        if result is None:
            number = len(self.finished_seeds())
            raise StoreError(
                f"not finished ({number} {'seed is' if number == 1 else 'seeds are'})",
                where=self.path,
                remedy="run the command that began it again",
            )
        return result

    @property
    def spans(self) -> Path:
        """What removing the adapters of every span of layers does."""
        return self.path / "spans.json"

    @property
    def prune(self) -> Path:
        """How a pruned run came about."""
        return self.path / "prune.json"

    def read_spans(self) -> SpansResult | None:
        """The spans' result, or None if there is none yet.

        Raises:
            StoreError: the file is there but damaged.
        """
        return _read(self.spans, SpansResult)


def cell_folder(output: Path, task: str, method: str, backbone: str, digest: str) -> CellFolder:
    """Where a cell lives: ``runs/rte/adapter-64-minilm-1f2e3d4c5b6a``; of the backbone's name the last
    part.
    """
    label = f"{method}-{backbone.rstrip('/').rpartition('/')[2]}"
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", label)
    return CellFolder(output / task / f"{safe}-{digest[:12]}")


def cells(output: Path) -> Iterator[CellFolder]:
    """All cells of a store, by task and name."""
    for path in sorted(output.glob("*/*/config.json")):
        if not (path.parents[1] / "bundle.json").exists():  # whose backbone is no run
            yield CellFolder(path.parent)


def read_sweeps(output: Path) -> list[SweepResult]:
    """All sweeps of a store, by name; an ablation is one too.

    Raises:
        StoreError: a file is damaged.
    """
    paths = sorted((output / "sweeps").glob("*.json"))
    return [found for path in paths if (found := _read(path, SweepResult)) is not None]


def ablation(output: Path, kind: str, digest: str) -> Path:
    """The file of an ablation's result."""
    return output / "ablations" / f"{kind}-{digest[:12]}.json"


def read_ablations(output: Path) -> list[AblationResult]:
    """All ablations of a store, by kind.

    Raises:
        StoreError: a file is damaged.
    """
    paths = sorted((output / "ablations").glob("*.json"))
    return [found for path in paths if (found := _read(path, AblationResult)) is not None]


def find_cell(run: str, output: Path) -> CellFolder:
    """A cell by its folder, or by its name or six or more digits of its digest within the store.

    Raises:
        StoreError: there is none, or several fit.
    """
    run = str(expanded(run, None))
    path = Path(run)
    if len(path.parts) < 3 or ".." in path.parts:  # its task and its store are read off its folders
        path = absolute(path, run)
    if _is_cell(path):
        return CellFolder(path)
    if seed_named(run) is not None:
        return CellFolder(path.parent)
    fitting = [
        cell
        for cell in cells(output)
        if run in (cell.path.name, f"{cell.path.parent.name}/{cell.path.name}")
        or _has_digest(cell, run)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(str(cell.path) for cell in fitting)
        raise StoreError(f"'{run}' fits several runs", remedy=f"choose from {names}")
    raise StoreError(
        f"no run '{run}'",
        where=output,
        remedy="adaptertune runs lists them (--output for another place)",
    )


def seed_named(run: str) -> int | None:
    """The seed whose folder this is the path of, if it is one's."""
    path = absolute(run, run)  # a dot has no name of its own
    found = re.fullmatch(r"seed-(\d+)", path.name)
    return int(found[1]) if found and _is_cell(path.parent) else None


def _has_digest(cell: CellFolder, digits: str) -> bool:
    """Whether its digest begins with these, six or more; the first twelve are in its folder's name."""
    shown = cell.path.name.rpartition("-")[2]
    if len(digits) <= len(shown):
        return len(digits) >= 6 and shown.startswith(digits)
    if not (shown and digits.startswith(shown)):
        return False
    try:
        whole = str(json.loads(cell.config.read_bytes())["digest"])
    except (OSError, ValueError, KeyError, TypeError):  # damaged, or not ours
        return False
    return whole.startswith(digits)


def _is_cell(path: Path) -> bool:
    try:
        return (path / "config.json").is_file()
    except OSError:  # a name that is too long for one, or a folder that is closed
        return False


def write_result(path: Path, result: Record) -> None:
    """Write a result file, atomically; not the same once more, for its folder may be closed by now."""
    content = as_json(result.model_dump(mode="json"))
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    write_atomically(path, content)


def _read(path: Path, kind: type[Result]) -> Result | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(
            f"cannot be read ({error.strerror})", where=path, remedy="see to its rights or its disk"
        ) from None
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise StoreError(
            f"damaged result ({why})",
            where=path,
            remedy="delete it and run the same command again",
        ) from None
