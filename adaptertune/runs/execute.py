"""From a configuration to results: the only place where all parts meet.

``plan.py`` finds out what there is to do; ``run_cell`` does it, seed by seed.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from adaptertune import paths
from adaptertune.data import cache
from adaptertune.errors import CheckpointError, Interrupted, StoreError, TrainingError
from adaptertune.files import exclusive, write_atomically, write_json
from adaptertune.runs import forecast, results, store
from adaptertune.runs.plan import Plan
from adaptertune.runs.summary import summarise

if TYPE_CHECKING:
    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier
    from adaptertune.train.evaluate import Scores
    from adaptertune.train.loop import EpochRecord, Outcome, Snapshot

SNAPSHOT_SECONDS = 20.0  # at most this much work is lost to a kill …
SNAPSHOT_SHARE = 0.05  # … unless saving would take more than this share of the time
LIBRARIES = ("adaptertune", "torch", "transformers", "tokenizers", "datasets", "numpy")


class Progress(Protocol):
    """Hears what happens in a cell; the terminal's view of it."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """So many of all examples are prepared; silent where an earlier start kept the result."""

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
        found: dict[int, results.SeedResult] = {}
        for seed in plan.config.seeds:
            result = _read_finished(plan, folder.seed(seed), seed, progress)
            if result is not None:
                found[seed] = result
        missing = [seed for seed in plan.config.seeds if seed not in found]
        if missing and plan.is_stacked:  # all or none: what a seed comes to depends on its company
            missing, found = list(plan.config.seeds), {}
        for result in found.values():
            progress.seed_done(result, reused=True)
        together = len(plan.config.seeds) if plan.is_stacked else 1
        prepared = _prepare(plan, missing[0], progress) if missing else None
        for start in range(0, len(missing), together):
            assert prepared is not None
            seeds = missing[start : start + together]
            done, prepared = _run_seeds(plan, prepared, seeds, progress)
            for result in done:
                found[result.seed] = result
                progress.seed_done(result, reused=False)
        summary = summarise(plan, [found[seed] for seed in plan.config.seeds])
        store.write_result(folder.result, summary)
    if summary.best_seed is None:
        raise TrainingError(
            f"all {len(found)} seeds diverged: the loss was not finite",
            where=folder.path,
            remedy="try a smaller --lr",
        )
    return summary


@dataclass(frozen=True)
class _Prepared:
    """What all seeds of a cell share. ``trunk_known``: whether the hidden states were seen to."""

    train: Encoded
    evaluation: tuple[Encoded, ...]
    first_seed: int  # of those that are trained now
    trunk_known: bool = False


def _telling(progress: Progress, what: str) -> Callable[[int, int], None]:
    """Passes on how far a preparation is, and ends it when the user asks to stop."""

    def tell(done: int, total: int) -> None:
        progress.preparing(what, done, total)
        if progress.should_stop():
            raise Interrupted(
                "stopped before the training began", remedy="the same command begins anew"
            )

    return tell


def _prepare(plan: Plan, seed: int, progress: Progress) -> _Prepared:
    tell = _telling(progress, "tokenising")
    encoded = cache.tokenised(plan.tokens, progress=tell, note=progress.note)
    train = encoded[0]
    if train.num_truncated:
        progress.note(
            f"{train.num_truncated} of {len(train)} training examples are longer than "
            f"{plan.config.training.max_length} tokens and lose the rest"
        )
    return _Prepared(train, tuple(encoded[1:]), seed)


def _with_trunk(
    plan: Plan, prepared: _Prepared, model: Classifier, progress: Progress
) -> tuple[_Prepared, float]:
    """With the frozen lower layers' results where there are such layers and they may be kept.

    Also the seconds that computing them took.
    """
    import torch

    from adaptertune.train import trunk

    depth, config = model.trunk_depth, plan.config
    prepared = replace(prepared, trunk_known=True)
    if not depth or config.training.trunk_dropout or not config.trunk_cache:
        return prepared, 0.0
    what = f"layers 0-{depth - 1}, in which nothing trains"
    place = trunk.Place(
        paths.cache() / "trunk", config.trunk_cache * trunk.GIGABYTE, plan.trunk_digest(depth)
    )
    splits = [prepared.train, *prepared.evaluation]
    device = torch.device(plan.device)
    tell = _telling(progress, what)
    found = trunk.with_hidden(model, splits, place, device, tell, progress.note)
    if found is None:
        return prepared, 0.0
    (train, *evaluation), seconds = found
    num_layers = len(model.backbone.encoder.layer)
    took = f"took {seconds:.1f} s this once" if seconds else "were computed earlier"
    size = trunk.num_bytes(splits, plan.located.shape.width, model.compute_type) / trunk.GIGABYTE
    progress.note(
        f"{what}, {took} ({size:.2f} GB kept); a step computes {num_layers - depth} of "
        f"{num_layers} layers, by the count of products {trunk.saving(num_layers, depth):.2f}x as fast"
    )
    return replace(prepared, train=train, evaluation=tuple(evaluation)), seconds


def _run_seeds(
    plan: Plan, prepared: _Prepared, seeds: Sequence[int], progress: Progress
) -> tuple[list[results.SeedResult], _Prepared]:
    """The seeds' results, trained in one pass, and what is prepared for the next ones."""
    import torch

    from adaptertune.model.build import load_model, share_frozen
    from adaptertune.train import checkpoint, loop
    from adaptertune.train.device import keep_freed_memory

    keep_freed_memory()
    device = torch.device(plan.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    models: list[Classifier] = []
    for seed in seeds:
        model = load_model(
            plan.located,
            plan.config.method,
            plan.task.num_outputs,
            seed=seed,
            device=plan.device,
            precision=plan.precision,
        )
        if models:
            share_frozen(model, models[0])
        models.append(model)
    trunk_seconds = 0.0
    if not prepared.trunk_known:
        prepared, trunk_seconds = _with_trunk(plan, prepared, models[0], progress)
    snapshots = _read_snapshots(plan, seeds, progress)
    if seeds[0] == prepared.first_seed and not plan.is_stacked:
        forecast.announce(
            plan,
            models[0],
            prepared.train,
            prepared.evaluation,
            seed=seeds[0],
            steps_done=snapshots[0].facts["step"] if snapshots[0] else 0,
            note=progress.note,
        )
    lanes, watchers = [], []
    for seed, model, snapshot in zip(seeds, models, snapshots, strict=True):
        resumed = snapshot.facts["resumed"] + 1 if snapshot else 0
        share = trunk_seconds / len(seeds)
        watcher = _Watcher(plan, plan.folder.seed(seed), seed, progress, resumed, share)
        watchers.append(watcher)
        lanes.append(loop.Lane(seed, model, watcher, snapshot))
        progress.seed_started(
            seed,
            epochs_done=len(snapshot.facts["records"]) if snapshot else 0,
            resumed=snapshot is not None,
        )
    selecting, training = prepared.evaluation[0], plan.config.training
    try:
        outcomes = loop.fit(lanes, plan.task, prepared.train, selecting, training, device=device)
    except loop.Stopped as stop:
        for watcher in watchers:
            if watcher.seed in stop.snapshots:
                watcher.keep(stop.snapshots[watcher.seed])
        raise Interrupted(
            "stopped; the state is saved",
            where=plan.folder.path,
            remedy="the same command goes on from here",
        ) from None
    done = []
    for lane, watcher, outcome in zip(lanes, watchers, outcomes, strict=True):
        folder = plan.folder.seed(lane.seed)
        if isinstance(outcome, loop.Diverged):
            result = _seed_result(plan, lane.seed, watcher, diverged_epoch=outcome.epoch)
        else:
            scores = _evaluate_kept(plan, prepared, lane.model, outcome, folder)
            facts = results.CheckpointFacts(
                file=folder.checkpoint.name,
                parameters=sum(t.numel() for t in checkpoint.trained_tensors(lane.model).values()),
                bytes=folder.checkpoint.stat().st_size,
            )
            result = _seed_result(
                plan, lane.seed, watcher, outcome=outcome, scores=scores, checkpoint=facts
            )
        store.write_result(folder.result, result)
        done.append(result)
    for seed in seeds:  # after the last result: until then, a killed process needs them all
        plan.folder.seed(seed).snapshot.unlink(missing_ok=True)
    return done, prepared


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
        self,
        plan: Plan,
        folder: store.SeedFolder,
        seed: int,
        progress: Progress,
        resumed: int,
        trunk_seconds: float,
    ) -> None:
        self.resumed, self.trunk_seconds = resumed, trunk_seconds
        self.seed = seed
        self._plan, self._folder, self._progress = plan, folder, progress
        self.records: Sequence[EpochRecord] = ()
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    def step(self, step: int, mean_loss: float, examples_per_second: float) -> None:
        self._progress.step(self.seed, step, mean_loss, examples_per_second)

    def evaluating(self, num_examples: int) -> None:
        self._progress.evaluating(self.seed, num_examples)

    def epoch(self, records: Sequence[EpochRecord]) -> None:
        self.records = records
        lines = [json.dumps(asdict(record), allow_nan=False) + "\n" for record in records]
        write_atomically(self._folder.epochs, "".join(lines).encode())
        self._progress.epoch(self.seed, records[-1])

    def should_stop(self) -> bool:
        return self._progress.should_stop()

    def wants_snapshot(self) -> bool:
        wait = max(SNAPSHOT_SECONDS, self._save_seconds / SNAPSHOT_SHARE)
        return time.monotonic() - self._saved_at > wait

    def keep(self, snapshot: Snapshot) -> None:
        from adaptertune.train.checkpoint import write_tensors

        start = time.monotonic()
        facts = snapshot.facts | {
            "digest": self._plan.seed_digest(self.seed),
            "resumed": self.resumed,
        }
        write_tensors(self._folder.snapshot, snapshot.tensors, facts)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start


def _read_snapshots(plan: Plan, seeds: Sequence[int], progress: Progress) -> list[Snapshot | None]:
    """Where killed runs stopped. Of seeds that train together, all begin anew if they stand at
    different steps: a kill came between two files.
    """
    found = [_read_snapshot(plan, plan.folder.seed(seed), seed, progress) for seed in seeds]
    steps = {snapshot.facts["step"] if snapshot else 0 for snapshot in found}
    if len(steps) == 1:
        return found
    progress.note(f"seeds {', '.join(map(str, seeds))} stopped at different steps; they begin anew")
    return [None] * len(found)


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
    from adaptertune.train.device import peak_memory

    records = watcher.records
    speeds = [record.examples_per_second for record in records]
    return results.SeedResult(
        status="diverged" if outcome is None else "finished",
        task=plan.task.name,
        seed=seed,
        digest=plan.seed_digest(seed),
        config=plan.config.model_dump(mode="json"),
        data=plan.data,
        backbone=plan.backbone,
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
            trunk_seconds=watcher.trunk_seconds,
            examples_per_second=statistics.median(speeds) if speeds else None,
            peak_memory_bytes=peak_memory(plan.device),
            resumed=watcher.resumed,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            host=platform.node(),
        ),
    )


def _config_file(plan: Plan) -> dict[str, Any]:
    return {
        "config": plan.config.model_dump(mode="json"),
        "origins": dict(plan.resolved.origins),
        "identity": plan.identity,
        "digest": plan.digest,
        "task": plan.task.model_dump(mode="json"),  # so that the run can be used without its file
    }


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found}
