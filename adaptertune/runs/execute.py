"""From a configuration to results: the only place where all parts meet.

``plan`` finds out what there is to do, without training; ``run_cell`` does it, seed by seed.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from adaptertune import config as configuration
from adaptertune import seeds as randomness
from adaptertune import tasks
from adaptertune.config import Resolved, RunConfig
from adaptertune.data import sources
from adaptertune.errors import CheckpointError, DataError, Interrupted, StoreError, TrainingError
from adaptertune.files import exclusive, write_atomically, write_json
from adaptertune.model import backbone, ledger
from adaptertune.runs import results, store

if TYPE_CHECKING:
    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier
    from adaptertune.train.evaluate import Scores
    from adaptertune.train.loop import EpochRecord, Outcome, Snapshot

# Raised whenever the same configuration would give other numbers than before.
SEMANTICS = 1
SNAPSHOT_SECONDS = 20.0  # at most this much work is lost to a kill …
SNAPSHOT_SHARE = 0.05  # … unless saving would take more than this share of the time
LIBRARIES = ("adaptertune", "torch", "transformers", "tokenizers", "datasets", "numpy")


@dataclass(frozen=True)
class Plan:
    """A cell ready to run: everything resolved, nothing trained."""

    resolved: Resolved
    located: backbone.Located
    source: sources.Source
    data: results.DataFacts
    ledger: ledger.Ledger
    precision: str
    device: str
    num_steps: int  # of one seed

    @property
    def config(self) -> RunConfig:
        return self.resolved.config

    @property
    def task(self) -> tasks.Task:
        return self.resolved.task

    @property
    def selecting_split(self) -> str:
        return self.task.evaluation[0]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, apart from the seed."""
        training = self.config.training.model_dump(mode="json", exclude={"precision"})
        return {
            "semantics": SEMANTICS,
            "task": tasks.canonical(self.task),
            "method": self.config.method.model_dump(mode="json"),
            "training": training,
            "precision": self.precision,
            "backbone": self.located.sha256,
            "data": self.data.fingerprint,
        }

    @cached_property
    def digest(self) -> str:
        return configuration.digest(self.identity)

    def seed_digest(self, seed: int) -> str:
        return configuration.digest(self.identity | {"seed": seed})

    @property
    def folder(self) -> store.CellFolder:
        short = self.located.name.rstrip("/").rpartition("/")[2]
        label = f"{method_label(self.config.method)}-{short}"
        return store.cell_folder(self.config.output, self.task.name, label, self.digest)


class Progress(Protocol):
    """Hears what happens in a cell; the terminal's view of it."""

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        """A seed's training begins, or goes on."""

    def step(self, seed: int, step: int, mean_loss: float, examples_per_second: float) -> None:
        """A few times a second."""

    def evaluating(self, seed: int, num_examples: int) -> None:
        """So many more examples were evaluated."""

    def epoch(self, seed: int, record: EpochRecord) -> None:
        """An epoch and its evaluation are done."""

    def seed_done(self, result: results.SeedResult, *, reused: bool) -> None:
        """A seed is finished, now or earlier (``reused``)."""

    def note(self, text: str) -> None:
        """A decision or an event worth a line."""

    def should_stop(self) -> bool:
        """Whether the user asked to stop."""


def method_label(method: configuration.Method) -> str:
    """A method in a word or two: ``adapter-64``, ``top_layers-2``, ``full``."""
    if isinstance(method, configuration.Adapter):
        if method.layers is None:
            return f"adapter-{method.size}"
        spans = ",".join(map(str, method.layers))
        return f"adapter-{method.size}-layers-{spans}"
    if isinstance(method, configuration.TopLayers):
        return f"top_layers-{method.k}"
    return method.name


def plan(resolved: Resolved) -> Plan:
    """Find backbone and data, count parameters and steps, decide device and precision.

    Raises:
        AdapterTuneError: anything that would stop the run before its first step.
    """
    from adaptertune.train import device as devices
    from adaptertune.train.loop import num_steps

    config, task = resolved.config, resolved.task
    device = devices.choose_device(config.device)
    precision = devices.choose_precision(
        config.training.precision, native_bf16=devices.has_native_bf16(device)
    )
    located = backbone.locate(config.backbone, offline=config.offline)
    counts = ledger.count(located.shape, config.method, task.num_outputs)
    if config.training.max_length > located.shape.positions:
        raise DataError(
            f"the backbone has {located.shape.positions} positions, not {config.training.max_length}",
            where="--max-length",
            remedy=f"choose at most {located.shape.positions}",
        )
    source = sources.Source(config.data.source, config.data.folder, config.offline)
    num_train = len(sources.load_splits(task, source, ["train"])[0])
    complete = task.rows.get("train")
    is_sample = source.kind == "sample"
    data = results.DataFacts(
        source=source.kind,
        description=source.describe(task),
        fingerprint=sources.fingerprint(task, source, ["train", *task.evaluation]),
        num_train=num_train,
        num_train_complete=None if is_sample else complete,
        partial=not is_sample and complete is not None and num_train < complete,
        sample=is_sample,
    )
    return Plan(
        resolved=resolved,
        located=located,
        source=source,
        data=data,
        ledger=counts,
        precision=precision,
        device=str(device),
        num_steps=num_steps(num_train, config.training),
    )


def run_cell(plan: Plan, progress: Progress) -> results.CellResult:
    """Train what is not yet trained of a cell, and summarise its seeds.

    Finished seeds are reused, interrupted ones go on.

    Raises:
        Interrupted: the user stopped it; the state is saved.
        TrainingError: every seed diverged.
        StoreError: the folder is in use or can't be written.
    """
    folder = plan.folder
    with exclusive(folder.path):
        write_json(folder.config, _config_file(plan))
        prepared: _Prepared | None = None
        done = []
        for seed in plan.config.seeds:
            result = _read_finished(plan, folder.seed(seed), seed, progress)
            if result is not None:
                progress.seed_done(result, reused=True)
            else:
                if prepared is None:
                    prepared = _prepare(plan, progress)
                result = _run_seed(plan, prepared, seed, progress)
                progress.seed_done(result, reused=False)
            done.append(result)
        summary = summarise(plan, done)
        store.write_result(folder.result, summary)
    if summary.best_seed is None:
        raise TrainingError(
            f"all {len(done)} seeds diverged: the loss was not finite",
            where=folder.path,
            remedy="try a smaller --lr",
        )
    return summary


def summarise(plan: Plan, done: Sequence[results.SeedResult]) -> results.CellResult:
    """The cell's result: spread over the finished seeds, and the best on validation."""
    task, split = plan.task, plan.selecting_split
    finished = [result for result in done if result.status == "finished"]

    def headline(result: results.SeedResult) -> float | None:
        return result.scores[split].values[task.headline] if split in result.scores else None

    scored = [result for result in finished if headline(result) is not None]
    best = max(scored, key=lambda result: headline(result) or 0.0, default=None)
    spreads: dict[str, dict[str, results.Spread]] = {}
    for name in task.evaluation:
        spreads[name] = {}
        for metric in task.metrics:
            values = [result.scores[name].values[metric] for result in finished]
            chosen = best.scores[name].values[metric] if best else None
            spreads[name][metric] = _spread([v for v in values if v is not None], chosen)
    folder = plan.folder
    return results.CellResult(
        task=task.name,
        digest=plan.digest,
        folder=str(folder.path),
        config=plan.config.model_dump(mode="json"),
        origins=dict(plan.resolved.origins),
        data=plan.data,
        backbone=_backbone_facts(plan),
        precision=plan.precision,
        ledger=plan.ledger.as_json(),
        headline=task.headline,
        selecting_split=split,
        protocol=protocol_in_words(plan, len(finished)),
        seeds=[
            results.SeedLine(
                seed=result.seed,
                status=result.status,
                score=headline(result),
                kept_epoch=result.kept_epoch,
                collapsed=split in result.scores and result.scores[split].collapsed,
                folder=str(folder.seed(result.seed).path),
            )
            for result in done
        ],
        scores=spreads,
        num_diverged=len(done) - len(finished),
        num_collapsed=sum(result.scores[split].collapsed for result in finished),
        best_seed=best.seed if best else None,
        checkpoint=str(folder.seed(best.seed).checkpoint) if best else None,
        train_seconds=sum(result.cost.train_seconds for result in done),
        evaluate_seconds=sum(result.cost.evaluate_seconds for result in done),
        published=published_figures(plan),
    )


def protocol_in_words(plan: Plan, num_seeds: int) -> str:
    """What was selected on what, so that nobody takes a best for a mean."""
    split, keep = plan.selecting_split, plan.config.training.keep_epoch
    epoch = f"its best epoch on {split}" if keep == "best" else "its last epoch"
    if num_seeds < 2:
        return f"One seed, {epoch}; no spread can be known from one seed."
    return (
        f"Each seed keeps {epoch}. Mean and deviation are over {num_seeds} seeds. 'Best' is the "
        f"highest of {num_seeds} on {split}, the same data it is reported on, so it is optimistic; "
        "the mean is what to expect of one run."
    )


def published_figures(plan: Plan) -> list[results.PublishedFigure]:
    """The task's published figures for this method, each with whether it may stand beside ours."""
    rows = _paper_rows(plan)
    figures = []
    for published in plan.task.published:
        reasons = []
        if plan.data.sample:
            reasons.append("this is the sample, not GLUE")
        if plan.data.partial:
            reasons.append("partial training set")
        if published.model != plan.located.name:
            reasons.append(published.model)
        if published.split not in plan.task.evaluation:
            reasons.append("test server")
        for row, value in published.figures.items():
            if row in rows:
                figures.append(
                    results.PublishedFigure(
                        source=published.source,
                        model=published.model,
                        split=published.split,
                        metric=published.metric,
                        row=row,
                        value=value,
                        comparable=not reasons,
                        why_not=", ".join(reasons) or None,
                    )
                )
    return figures


def load_model(
    located: backbone.Located,
    method: configuration.Method,
    num_outputs: int,
    *,
    seed: int,
    device: str,
    precision: str,
) -> Classifier:
    """The backbone with head and whatever the method inserts, on its device, ready to train."""
    import torch

    from adaptertune.model.classifier import Classifier
    from adaptertune.model.methods import prepare

    bert = backbone.load(located)
    stream = torch.Generator().manual_seed(randomness.derive(seed, "head"))
    model = Classifier(bert, num_outputs, stream)
    prepare(model, method, seed)
    model.set_compute_type(torch.bfloat16 if precision == "bf16" else torch.float32)
    return model.to(device)


@dataclass(frozen=True)
class _Prepared:
    """What all seeds of a cell share."""

    train: Encoded
    evaluation: tuple[Encoded, ...]


def _prepare(plan: Plan, progress: Progress) -> _Prepared:
    from adaptertune.data.encode import encode, load_tokenizer

    names = ["train", *plan.task.evaluation]
    splits = sources.load_splits(plan.task, plan.source, names)
    tokenizer = load_tokenizer(plan.located.folder)
    encoded = [encode(tokenizer, split, plan.config.training.max_length) for split in splits]
    train = encoded[0]
    if train.num_truncated:
        progress.note(
            f"{train.num_truncated} of {len(train)} training examples are longer than "
            f"{plan.config.training.max_length} tokens and lose the rest"
        )
    return _Prepared(train, tuple(encoded[1:]))


def _run_seed(plan: Plan, prepared: _Prepared, seed: int, progress: Progress) -> results.SeedResult:
    import torch

    from adaptertune.train import checkpoint, loop

    folder = plan.folder.seed(seed)
    device = torch.device(plan.device)
    snapshot = _read_snapshot(plan, folder, seed, progress)
    resumed = snapshot.facts["resumed"] + 1 if snapshot else 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = load_model(
        plan.located,
        plan.config.method,
        plan.task.num_outputs,
        seed=seed,
        device=plan.device,
        precision=plan.precision,
    )
    watcher = _Watcher(plan, folder, seed, progress, resumed)
    progress.seed_started(
        seed,
        epochs_done=len(snapshot.facts["records"]) if snapshot else 0,
        resumed=snapshot is not None,
    )
    try:
        outcome = loop.fit(
            model,
            plan.task,
            prepared.train,
            prepared.evaluation[0],
            plan.config.training,
            seed=seed,
            device=device,
            watcher=watcher,
            resume=snapshot,
        )
    except loop.Stopped as stop:
        watcher.keep(stop.snapshot)
        raise Interrupted(
            "stopped; the state is saved",
            where=folder.path,
            remedy="the same command goes on from here",
        ) from None
    except loop.Diverged as diverged:
        result = _seed_result(plan, seed, watcher, diverged_epoch=diverged.epoch)
    else:
        scores = _evaluate_kept(plan, prepared, model, outcome, folder)
        checkpoint_facts = results.CheckpointFacts(
            file=folder.checkpoint.name,
            parameters=sum(t.numel() for t in checkpoint.trained_tensors(model).values()),
            bytes=folder.checkpoint.stat().st_size,
        )
        result = _seed_result(
            plan, seed, watcher, outcome=outcome, scores=scores, checkpoint=checkpoint_facts
        )
    store.write_result(folder.result, result)
    folder.snapshot.unlink(missing_ok=True)
    return result


def _evaluate_kept(
    plan: Plan, prepared: _Prepared, model: Classifier, outcome: Outcome, folder: store.SeedFolder
) -> dict[str, Scores]:
    """Write the checkpoint, read it back, and score it: the figures are those of the file on disk.

    Raises:
        CheckpointError: the file's logits are not those of the kept epoch.
    """
    import numpy as np
    import torch

    from adaptertune.data.batches import evaluation_batches
    from adaptertune.metrics import TaskMetric
    from adaptertune.train import checkpoint, evaluate

    device = torch.device(plan.device)
    facts = {
        "format": results.FORMAT,
        "task": plan.task.name,
        "labels": None if plan.task.labels is None else list(plan.task.labels),
        "method": plan.config.method.model_dump(mode="json"),
        "base_name": plan.located.name,
        "base_sha256": plan.located.sha256,
        "digest": plan.digest,
        "max_length": plan.config.training.max_length,
    }
    checkpoint.write_tensors(folder.checkpoint, checkpoint.trained_tensors(model), facts)
    # Spoil the model first, so that what follows can only come from the file.
    with torch.no_grad():
        for tensor in checkpoint.trained_tensors(model).values():
            tensor.zero_()
    checkpoint.load_trained(
        model, folder.checkpoint, base_sha256=plan.located.sha256, labels=plan.task.labels
    )
    metric = TaskMetric(plan.task)
    scores, stored = {}, {}
    for encoded in prepared.evaluation:
        if encoded.name == plan.selecting_split:
            logits = outcome.logits
            first = evaluation_batches(encoded.lengths, evaluate.BATCH_SIZE)[0]
            again = evaluate.logits(model, encoded.subset(first), device)
            if not np.array_equal(again, logits[first]):
                raise CheckpointError(
                    "logits changed in saving and loading",
                    where=folder.checkpoint,
                    remedy="this is a bug: please report it",
                )
        else:
            logits = evaluate.logits(model, encoded, device)
        scores[encoded.name] = evaluate.score(plan.task, metric, encoded, logits)
        stored[f"logits.{encoded.name}"] = torch.from_numpy(logits)
        stored[f"labels.{encoded.name}"] = torch.from_numpy(encoded.labels)
    checkpoint.write_tensors(folder.logits, stored, {"task": plan.task.name})
    return scores


class _Watcher:
    """The loop's watcher: passes progress on, writes epochs and snapshots."""

    def __init__(
        self, plan: Plan, folder: store.SeedFolder, seed: int, progress: Progress, resumed: int
    ) -> None:
        self.resumed = resumed
        self._plan, self._folder, self._seed, self._progress = plan, folder, seed, progress
        self.records: Sequence[EpochRecord] = ()
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    def step(self, step: int, mean_loss: float, examples_per_second: float) -> None:
        self._progress.step(self._seed, step, mean_loss, examples_per_second)

    def evaluating(self, num_examples: int) -> None:
        self._progress.evaluating(self._seed, num_examples)

    def epoch(self, records: Sequence[EpochRecord]) -> None:
        self.records = records
        lines = [json.dumps(asdict(record), allow_nan=False) + "\n" for record in records]
        write_atomically(self._folder.epochs, "".join(lines).encode())
        self._progress.epoch(self._seed, records[-1])

    def should_stop(self) -> bool:
        return self._progress.should_stop()

    def wants_snapshot(self) -> bool:
        wait = max(SNAPSHOT_SECONDS, self._save_seconds / SNAPSHOT_SHARE)
        return time.monotonic() - self._saved_at > wait

    def keep(self, snapshot: Snapshot) -> None:
        from adaptertune.train.checkpoint import write_tensors

        start = time.monotonic()
        facts = snapshot.facts | {
            "digest": self._plan.seed_digest(self._seed),
            "resumed": self.resumed,
        }
        write_tensors(self._folder.snapshot, snapshot.tensors, facts)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start


def _read_snapshot(
    plan: Plan, folder: store.SeedFolder, seed: int, progress: Progress
) -> Snapshot | None:
    """The snapshot of a killed run; a damaged or foreign one is dropped, and that is said."""
    from adaptertune.train.checkpoint import read_tensors
    from adaptertune.train.loop import Snapshot

    if not folder.snapshot.exists():
        return None
    try:
        tensors, facts = read_tensors(folder.snapshot)
    except CheckpointError as error:
        progress.note(f"seed {seed}: {error.what}: {folder.snapshot}; it begins anew")
        return None
    if facts.get("digest") != plan.seed_digest(seed):
        progress.note(f"seed {seed}: the snapshot is of another configuration; it begins anew")
        return None
    return Snapshot(tensors, facts)


def _read_finished(
    plan: Plan, folder: store.SeedFolder, seed: int, progress: Progress
) -> results.SeedResult | None:
    """A seed's result, if it is finished and its checkpoint is whole."""
    result = folder.read_result()
    if result is None:
        return None
    if result.digest != plan.seed_digest(seed):
        raise StoreError(
            "holds a run of another configuration",
            where=folder.path,
            remedy="choose another --output, or delete it",
        )
    facts = result.checkpoint
    path = folder.checkpoint
    if facts and not (path.is_file() and path.stat().st_size == facts.bytes):
        progress.note(f"seed {seed}: {path} is missing or truncated; it is trained again")
        folder.result.unlink()
        return None
    return result


def _seed_result(
    plan: Plan,
    seed: int,
    watcher: _Watcher,
    *,
    outcome: Outcome | None = None,
    diverged_epoch: int | None = None,
    scores: dict[str, Scores] | None = None,
    checkpoint: results.CheckpointFacts | None = None,
) -> results.SeedResult:
    records = watcher.records
    speeds = [record.examples_per_second for record in records]
    return results.SeedResult(
        status="diverged" if outcome is None else "finished",
        task=plan.task.name,
        seed=seed,
        digest=plan.seed_digest(seed),
        config=plan.config.model_dump(mode="json"),
        data=plan.data,
        backbone=_backbone_facts(plan),
        precision=plan.precision,
        device=plan.device,
        ledger=plan.ledger.as_json(),
        selecting_split=plan.selecting_split,
        num_epochs=len(records),
        kept_epoch=outcome.kept.epoch if outcome else None,
        diverged_epoch=diverged_epoch,
        scores={
            name: results.SplitScores(
                num_examples=score.num_examples, values=score.values, collapsed=score.collapsed
            )
            for name, score in (scores or {}).items()
        },
        checkpoint=checkpoint,
        versions=_versions(),
        cost=results.Cost(
            train_seconds=sum(record.train_seconds for record in records),
            evaluate_seconds=sum(record.evaluate_seconds for record in records),
            examples_per_second=statistics.median(speeds) if speeds else None,
            peak_memory_bytes=_peak_memory(plan.device),
            resumed=watcher.resumed,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            host=platform.node(),
        ),
    )


def _spread(values: Sequence[float], best: float | None) -> results.Spread:
    return results.Spread(
        n=len(values),
        mean=statistics.fmean(values) if values else None,
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        minimum=min(values, default=None),
        maximum=max(values, default=None),
        best=best,
    )


def _backbone_facts(plan: Plan) -> results.BackboneFacts:
    located = plan.located
    return results.BackboneFacts(name=located.name, sha256=located.sha256, commit=located.commit)


def _config_file(plan: Plan) -> dict[str, Any]:
    return {
        "config": plan.config.model_dump(mode="json"),
        "origins": dict(plan.resolved.origins),
        "identity": plan.identity,
        "digest": plan.digest,
    }


def _paper_rows(plan: Plan) -> tuple[str, ...]:
    """Which rows of the paper's tables are this method's."""
    method = plan.config.method
    if isinstance(method, configuration.Adapter) and method.layers is None:
        return ("adapters_64", "adapters_8_256") if method.size == 64 else ("adapters_8_256",)
    if isinstance(method, configuration.Full):
        return ("full",)
    if isinstance(method, configuration.TopLayers) and method.k == 1:
        return ("top_1_layer",)
    return ()


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found}


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(torch.device(device))
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
