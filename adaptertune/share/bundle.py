"""Many tasks on one backbone: a folder with the base model once and each task's few per cent beside it,
and a process that answers for all of them.

A bundle is a run store (so ``runs``, ``show`` and ``predict`` take it) with a ``backbone`` folder, in
which its runs find their base model, and ``bundle.json``, which names the runs.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adaptertune import config as configuration
from adaptertune.data.tables import REMEDY, Bad, Row
from adaptertune.errors import BackboneError, ConfigError, StoreError
from adaptertune.files import write_json
from adaptertune.model import backbone, ledger
from adaptertune.runs import load, predict, store
from adaptertune.runs.load import Loaded, Run
from adaptertune.share.copy import check_empty, copy_run
from adaptertune.tasks import NAME
from adaptertune.yamlfile import Strict, like, nearest, parse

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier

BATCH_SIZE = 32  # rows of each task in a batch

Logits = dict[str, "npt.NDArray[np.float32]"]
# A run's own folder may have been renamed to anything, but must be one below the task's.
RunPath = Annotated[
    str, like(rf"{NAME}/(?!\.\.?/)[^/\\\0]+/seed-[0-9]+", "TASK/RUN/seed-NUMBER in the bundle")
]


class _File(Strict):
    """What ``bundle.json`` holds: task name -> the seed's folder in the bundle."""

    format: Literal[1]
    runs: Annotated[dict[str, RunPath], Field(min_length=1)]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    folder: Path
    runs: dict[str, Run]

    @property
    def backbone(self) -> Path:
        return self.folder / store.BUNDLED_BACKBONE


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk, as measured, and of as many full models, as their checkpoints would be."""

    backbone: int
    tasks: dict[str, int]
    total: int
    full_models: int
    adapter_share: float  # of the tasks' bytes in the backbone's

    @property
    def multiple(self) -> float:
        """The bundle over one base model: the paper's 1.2x."""
        return self.total / self.backbone

    @property
    def full_multiple(self) -> float:
        """As many full models over one base model: the paper's 9.0x."""
        return self.full_models / self.backbone


def create(runs: Sequence[Run], folder: Path, *, place: str | None = None, offline: bool) -> Bundle:
    """Copy runs of different tasks on one backbone, and that backbone, into a new folder.

    Args:
        place: where the base model is, if it is no longer where the runs had it.

    Raises:
        ConfigError: two runs are of one task, on different backbones, or hold a whole model.
        BackboneError: the base model is not to be found, or is a pickle.
        CheckpointError: the base model is another one now, or a checkpoint is damaged.
        StoreError: the folder is not empty or can't be written.
    """
    seen: dict[str, Run] = {}
    for run in runs:
        name, method = run.task.name, run.method
        if name in seen:
            raise ConfigError(f"two runs of '{name}'", where=run.folder.path, remedy="name one")
        if not isinstance(method, configuration.Adapter | configuration.LayerNorm):
            raise ConfigError(
                f"method {method.name} changes the backbone itself",
                where=run.folder.path,
                remedy="bundle runs of adapter or layernorm",
            )
        if run.result.backbone.sha256 != runs[0].result.backbone.sha256:
            raise ConfigError(
                f"trained on {run.result.backbone.name}, not on {runs[0].result.backbone.name}",
                where=run.folder.path,
                remedy="bundle runs on one backbone",
            )
        seen[name] = run
    located = runs[0].locate(place, offline=offline)
    for run in runs:  # with another tokenizer of the same weights, too
        load.check_backbone(run.result.backbone, located, run.folder.path)
    if located.weights.name != backbone.SAFETENSORS:
        raise BackboneError(
            "its weights are a pickle, which is not passed on",
            where=located.weights,
            remedy="convert it to safetensors",
        )
    check_empty(folder)
    try:
        (folder / store.BUNDLED_BACKBONE).mkdir(parents=True)
        for name in (*backbone.FILES, backbone.SAFETENSORS):
            if (located.folder / name).is_file():
                shutil.copyfile(located.folder / name, folder / store.BUNDLED_BACKBONE / name)
        copied = {
            name: copy_run(run, folder / name / run.cell.path.name) for name, run in seen.items()
        }
        places = {
            name: f"{name}/{run.cell.path.name}/{run.folder.path.name}"
            for name, run in copied.items()
        }
        write_json(folder / store.BUNDLE, {"format": 1, "runs": places})
    except BaseException as error:  # half a bundle would be in the way of the next try
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        what = f"cannot be written ({error.strerror})"
        raise StoreError(what, where=folder, remedy="choose another --to") from None
    return Bundle(folder, copied)


def read(folder: Path) -> Bundle:
    """A bundle by its folder.

    Raises:
        StoreError: it is none, or damaged.
    """
    path = folder / store.BUNDLE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except FileNotFoundError:
        raise StoreError(
            f"no {store.BUNDLE}", where=folder, remedy="make one with bundle new"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"damaged ({error})", where=path, remedy="make it again") from None
    places = parse(_File, content, lambda _: str(path)).runs
    runs = {name: load.find(str(folder / place), folder) for name, place in places.items()}
    for name, run in runs.items():
        if run.task.name != name:
            raise StoreError(f"'{name}' is a run of '{run.task.name}'", where=path)
    bundle = Bundle(folder, runs)
    weights = bundle.backbone / backbone.SAFETENSORS
    for file in (weights, *(run.folder.checkpoint for run in runs.values())):
        if not file.is_file():
            raise StoreError("is missing", where=file, remedy="make the bundle again")
    return bundle


def sizes(bundle: Bundle) -> Sizes:
    """What lies on disk, beside full models."""
    weights = bundle.backbone / backbone.SAFETENSORS
    tasks = {name: run.folder.checkpoint.stat().st_size for name, run in bundle.runs.items()}
    shape = backbone.locate(str(bundle.backbone), offline=True).shape
    full = sum(
        ledger.count(shape, configuration.Full(), run.task.num_outputs).stored
        for run in bundle.runs.values()
    )
    files = (path for path in bundle.folder.rglob("*") if path.is_file())
    return Sizes(
        backbone=weights.stat().st_size,
        tasks=tasks,
        total=sum(path.stat().st_size for path in files),
        full_models=full * ledger.BYTES_PER_PARAMETER,
        adapter_share=sum(tasks.values()) / len(tasks) / weights.stat().st_size,
    )


def load_all(bundle: Bundle, *, device: str = "auto", shared: bool = True) -> dict[str, Loaded]:
    """All tasks' models; ``shared``: over one set of frozen weights, otherwise each with its own.

    In bf16 only if all trained so and the hardware has it.

    Raises:
        CheckpointError: a checkpoint is damaged or not of this backbone.
    """
    from adaptertune.model.build import share_frozen

    is_fp32 = any(run.result.precision == "fp32" for run in bundle.runs.values())
    found: dict[str, Loaded] = {}
    owner: Classifier | None = None
    for name, run in bundle.runs.items():
        loaded = load.load(
            run,
            device=device,
            precision="fp32" if is_fp32 else "auto",
            place=str(bundle.backbone),
            offline=True,
        )
        if owner is None:
            owner = loaded.model
        elif shared:
            share_frozen(loaded.model, owner)
        found[name] = loaded
    return found


def logits(models: Mapping[str, Loaded], encoded: Mapping[str, Encoded], *, mixed: bool) -> Logits:
    """Each task's logits, (examples, outputs), in the examples' order.

    ``mixed``: tasks of one method go through the shared layers together, in batches with as many rows
    of each; otherwise one task after the other.
    """
    import numpy as np
    import torch

    found: Logits = {}
    groups: dict[str, list[str]] = {}
    for name in encoded:
        key = configuration.canonical_json(models[name].run.method.model_dump(mode="json"))
        groups.setdefault(key if mixed else name, []).append(name)
    for names in groups.values():
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        orders = {
            name: np.argsort(-encoded[name].lengths, kind="stable")
            for name in names
            if len(encoded[name])
        }
        done = dict.fromkeys(orders, 0)
        with torch.inference_mode():
            while left := [name for name in orders if done[name] < len(orders[name])]:
                rows = min(BATCH_SIZE, *(len(orders[name]) - done[name] for name in left))
                chosen = {name: orders[name][done[name] : done[name] + rows] for name in left}
                for name, part in _one_batch(models, encoded, chosen).items():
                    parts[name].append(part)
                    done[name] += rows
        for name, order in orders.items():
            stacked = torch.cat(parts[name]).cpu().numpy()
            found[name] = np.empty_like(stacked)
            found[name][order] = stacked
    return found


def _one_batch(
    models: Mapping[str, Loaded],
    encoded: Mapping[str, Encoded],
    chosen: Mapping[str, npt.NDArray[np.int64]],
) -> dict[str, torch.Tensor]:
    from adaptertune.data.batches import collate, join
    from adaptertune.model.classifier import logits_of_each

    joined = join([collate(encoded[name], indices) for name, indices in chosen.items()])
    first = next(iter(chosen))
    batch = joined.to(models[first].device)
    own = [models[name].model for name in chosen]
    outputs = logits_of_each(own, batch.tokens, batch.segments, batch.mask)
    return dict(zip(chosen, outputs, strict=True))


@dataclass(frozen=True)
class Answered:
    """A row of some task with its answer."""

    task: str
    answer: predict.Answer


def checked(bundle: Bundle, rows: Iterable[Row | Bad]) -> Iterator[Row | Bad]:
    """Rows whose ``label`` names the task; one of an unknown task, or with more or fewer texts than
    its task has, is a bad one.
    """
    for row in rows:
        if isinstance(row, Bad):
            yield row
            continue
        name = row.label
        if not isinstance(name, str) or name not in bundle.runs:
            remedy = nearest(str(name), bundle.runs)
            yield Bad(row.line, f"no task '{name}' in the bundle", remedy, _content(row))
        elif bundle.runs[name].task.is_pair != (row.second is not None):
            number = "two texts" if bundle.runs[name].task.is_pair else "one text"
            yield Bad(row.line, f"task '{name}' has {number}", REMEDY, _content(row))
        else:
            yield row


def _content(row: Row) -> str:
    told = {"task": row.label, "first": row.first, "second": row.second}
    return json.dumps(told, ensure_ascii=False, default=str)


def answer(
    models: Mapping[str, Loaded], rows: Iterable[Row], *, mixed: bool
) -> Iterator[list[Answered]]:
    """Answer rows of mixed tasks in their order, some thousand at a time; ``label`` names the task."""
    for chunk in predict.chunks(rows):
        by_task: dict[str, list[Row]] = {}
        for row in chunk:
            by_task.setdefault(row.label, []).append(row)
        encoded = {
            name: models[name].encode(
                [row.first for row in own],
                [row.second or "" for row in own] if models[name].run.task.is_pair else None,
            )
            for name, own in by_task.items()
        }
        found = logits(models, encoded, mixed=mixed)
        answers = {
            name: iter(
                predict.from_logits(models[name].run.task, found[name], [row.line for row in own])
            )
            for name, own in by_task.items()
        }
        yield [Answered(row.label, next(answers[row.label])) for row in chunk]


@dataclass(frozen=True)
class Serving:
    """How fast a way to answer is, on the rows given, and what its weights take in memory."""

    way: str
    rows_per_second: float
    latency: float  # seconds for one row of each task together, median
    weight_bytes: int


def measure(bundle: Bundle, rows: Sequence[Row], *, device: str = "auto") -> list[Serving]:
    """Answer rows in turn by mixed batches, task by task over shared weights, and by separate models.

    Each is timed three times, one after the other, and the median is told.
    """
    import statistics

    shared = load_all(bundle, device=device)
    own = load_all(bundle, device=device, shared=False)
    ways = {
        "mixed batches, shared weights": (shared, True),
        "task by task, shared weights": (shared, False),
        "separate models": (own, False),
    }
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row.label, []).append(row)
    one_each = [tasks[0] for tasks in by_task.values()]
    whole: dict[str, list[float]] = {way: [] for way in ways}
    short: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(3):
        for way, (models, mixed) in ways.items():
            list(answer(models, one_each, mixed=mixed))  # warms up
            for _ in range(10):
                start = time.perf_counter()
                list(answer(models, one_each, mixed=mixed))
                short[way].append(time.perf_counter() - start)
            start = time.perf_counter()
            list(answer(models, rows, mixed=mixed))
            whole[way].append(time.perf_counter() - start)
    return [
        Serving(
            way,
            len(rows) / statistics.median(whole[way]),
            statistics.median(short[way]),
            _weight_bytes(models),
        )
        for way, (models, _) in ways.items()
    ]


def _weight_bytes(models: Mapping[str, Loaded]) -> int:
    """Bytes of all parameters, those that models share counted once."""
    storages = {
        parameter.untyped_storage().data_ptr(): parameter.untyped_storage().nbytes()
        for loaded in models.values()
        for parameter in loaded.model.parameters()
    }
    return sum(storages.values())
