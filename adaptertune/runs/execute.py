"""From a plan to results: the only place where all parts meet.

``plan.py`` finds out what there is to do, ``units.py`` whose turn it is; ``Runner`` does it.
"""

from __future__ import annotations

import gc
import importlib.metadata
import math
import platform
import statistics
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from adaptertune import paths
from adaptertune.config import Adapter
from adaptertune.data import cache, held_out
from adaptertune.errors import (
    CheckpointError,
    DataError,
    Interrupted,
    TrainingError,
    is_out_of_memory,
)
from adaptertune.model import flops
from adaptertune.runs import forecast, results, store
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import OnProgress, Progress
from adaptertune.runs.snapshots import Saver, num_parts_of, read_snapshots
from adaptertune.runs.watch import Watcher

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier
    from adaptertune.train.loop import Snapshot

# Scores by split, and the file that they are of.
Kept = tuple[dict[str, results.SplitScores], results.CheckpointFacts]
LIBRARIES = ("adaptertune", "torch", "transformers", "tokenizers", "datasets", "numpy")


@dataclass(frozen=True)
class _Prepared:
    """A task's examples, with what frozen lower layers make of them if ``trunk`` names that."""

    tokens: tuple[str, tuple[str, ...]]  # their key
    train: Encoded
    evaluation: tuple[Encoded, ...]
    trunk: str | None = None  # digest


def parts(
    plan: Plan, train: Encoded, evaluation: Sequence[Encoded]
) -> tuple[Encoded, list[Encoded]]:
    """What trains of a task's examples, and the splits to score, the selecting one first.

    Raises:
        DataError: the selecting one has a single score, with which no answers correlate.
    """
    splits = list(evaluation)
    if plan.is_held_out:
        train, selecting = held_out.divide(train)
        splits.insert(0, selecting)
    labels = splits[0].labels
    if plan.task.labels is None and labels is not None and labels.min() == labels.max():
        raise DataError(
            f"one score, {labels[0]:g}, for all {len(labels)} rows: none can be told from another",
            where=f"{plan.task.name} {splits[0].name}",
            remedy="use --protocol paper" if plan.is_held_out else "give it rows of several scores",
        )
    return train, splits


def examples(
    plan: Plan, on_progress: OnProgress, note: Callable[[str], None]
) -> tuple[Encoded, list[Encoded]]:
    """A task's tokens: what trains, and the splits to score, the selecting one first.

    Raises:
        DataError: a row is bad, or as in :func:`parts`.
    """
    tell = partial(on_progress, "tokenising")
    train, *evaluation = cache.tokenised(plan.tokens, progress=tell, note=note)
    return parts(plan, train, evaluation)


class Runner:
    """Trains seeds of cells, and keeps what the next ones are likely to need again.

    Args:
        finished: which of a cell's seeds are not trained again. With it, it is told before a cell's
            first training how long all of them will take.
    """

    def __init__(self, finished: Callable[[Plan], Collection[int]] | None = None) -> None:
        self._finished = finished
        self._prepared: _Prepared | None = None
        self._foretold: str | None = None  # digest of a cell
        # By digest, where memory ran out: in how many parts a batch goes, and whether by CUDA graphs.
        self._fitting: dict[str, tuple[int, bool]] = {}
        self._told_of_pooler: Hashable = None  # key of a task's tokens

    def run(self, plan: Plan, seeds: Sequence[int], progress: Progress) -> list[results.SeedResult]:
        """Train seeds, in one pass if there are several, and write their results.

        Interrupted trainings go on. Where memory runs out they go on without CUDA graphs, which hold
        memory of their own; then they begin anew with half as many examples at a time, whose gradients
        add up to the same batch, and at last scoring as few as there can be. A cell's next seeds begin
        as it then went.

        Raises:
            Interrupted: the user stopped it; the state is saved.
            StoreError: the folder can't be written.
        """
        import torch

        from adaptertune.train import evaluate
        from adaptertune.train.device import computing

        device, threads = torch.device(plan.device), plan.config.threads
        batch_size = plan.config.training.batch_size
        num_parts, by_graph = self._fitting.get(plan.digest, (1, plan.by_graph))
        snapshots = read_snapshots(plan, seeds, progress.note)
        if snapshots:
            num_parts = num_parts_of(snapshots[seeds[0]], batch_size)
            by_graph = by_graph and num_parts == 1  # parts of a batch are launched
            self._fitting[plan.digest] = num_parts, by_graph
        while True:
            try:
                with computing(device, plan.precision, threads):
                    return self._run(plan, seeds, snapshots, num_parts, by_graph, progress)
            except Exception as error:
                is_least = num_parts >= max(batch_size, evaluate.BATCH_SIZE)
                if not is_out_of_memory(error) or (is_least and not by_graph):
                    raise
                method = plan.config.method
                if not by_graph and isinstance(method, Adapter) and method.norm == "batch":
                    raise TrainingError(
                        "out of memory, and batch norm needs its batches whole",
                        remedy="choose a smaller --batch-size",
                    ) from error
            # Only here: the exception held the memory of the step that failed.
            del snapshots
            gc.collect()
            if by_graph:
                snapshots = read_snapshots(plan, seeds, progress.note)
                by_graph, how = False, "go on without CUDA graphs"  # to the same result
            else:
                snapshots = {}
                if num_parts < batch_size:
                    num_parts *= 2
                    rows = math.ceil(batch_size / num_parts)
                    how = (
                        f"begin anew with {rows} examples at a time, {batch_size} a step as before"
                    )
                else:  # a step has one example at a time: what is left to shrink is the scoring
                    num_parts = evaluate.BATCH_SIZE
                    how = "begin anew, and score as few at a time as there can be"
            self._fitting[plan.digest] = num_parts, by_graph
            progress.note(f"seeds {', '.join(map(str, seeds))}: out of memory; they {how}")

    def _run(
        self,
        plan: Plan,
        seeds: Sequence[int],
        snapshots: Mapping[int, Snapshot],
        num_parts: int,
        by_graph: bool,
        progress: Progress,
    ) -> list[results.SeedResult]:
        import torch

        from adaptertune.model import forward
        from adaptertune.train import device as devices
        from adaptertune.train import evaluate, loop

        device = torch.device(plan.device)
        devices.forget_peak_memory(device)
        models = load_models(plan, seeds)
        prepared, trunk_seconds = self._prepare(plan, models[seeds[0]], num_parts, progress)
        train, splits = parts(plan, prepared.train, prepared.evaluation)
        facts = snapshots[seeds[0]].facts if snapshots else {}
        resumed = facts["resumed"] + 1 if facts else 0
        # What is measured are whole batches.
        if self._finished and self._foretold != plan.digest and num_parts == 1:
            self._foretold = plan.digest
            bert, layers = models[seeds[0]].backbone, range(plan.located.shape.layers)
            if device.type == "cpu" and not all(forward.has_fused_layer(bert, i) for i in layers):
                progress.note("these layers take the generic pass, the slower on a CPU")
            forecast.announce(
                plan,
                models,
                train,
                splits,
                steps_done=facts.get("step", 0),
                finished=self._finished(plan),
                note=progress.note,
            )
        lanes, watchers = [], []
        for seed, model in models.items():
            snapshot = snapshots.get(seed)
            earlier = snapshot.facts["records"] if snapshot else []
            records = [loop.EpochRecord(**record) for record in earlier]
            micro_batch = math.ceil(plan.config.training.batch_size / num_parts)
            watcher = Watcher(plan, seed, micro_batch, resumed, records, progress)
            watchers.append(watcher)
            lanes.append(loop.Lane(seed, model, watcher, snapshot))
            progress.seed_started(
                seed,
                epochs_done=len(records),
                resumed=snapshot is not None,
            )
        saver = Saver(plan, seeds, num_parts, resumed, progress)
        try:
            outcomes = loop.fit(
                lanes,
                plan.task,
                train,
                splits[0],
                plan.config.training,
                device=device,
                num_parts=num_parts,
                by_graph=by_graph,
                saver=saver,
            )
        except loop.Stopped as stop:
            saver.keep(stop.snapshots)
            raise Interrupted(
                "stopped; the state is saved",
                where=plan.folder.path,
                remedy="the same command goes on from here",
            ) from None
        done = []
        for lane, watcher, outcome in zip(lanes, watchers, outcomes, strict=True):
            folder, share = plan.folder.seed(lane.seed), trunk_seconds / len(lanes)
            epochs, kept = {"num_epochs": len(watcher.records)}, None
            if isinstance(outcome, loop.Diverged):
                epochs["diverged_epoch"] = outcome.epoch
            else:
                logits = outcome.logits
                if watcher.resumed:  # they may be another machine's, whose last bits differ
                    logits = evaluate.logits(lane.model, splits[0], device, num_parts)
                kept = keep(plan, splits, lane.model, logits, num_parts, folder)
                progress.saved(folder.checkpoint)
                progress.saved(folder.logits)
                epochs["kept_epoch"] = outcome.kept.epoch
            cost = _cost(plan, watcher, share)
            result = seed_result(plan, lane.seed, cost, kept, **epochs)
            store.write_result(folder.result, result)
            progress.saved(folder.result)
            done.append(result)
        for seed in seeds:  # after the last result: until then, a killed process needs it
            plan.folder.seed(seed).snapshot.unlink(missing_ok=True)
        return done

    def _prepare(
        self, plan: Plan, model: Classifier, num_parts: int, progress: Progress
    ) -> tuple[_Prepared, float]:
        """The examples; and the seconds that the frozen lower layers took, if that was now."""
        self._tell_of_pooler(plan, model, progress)
        depth, config = model.trunk_depth, plan.config
        trunk = plan.trunk_digest(depth) if plan.keeps_trunk(depth) else None
        last = self._prepared
        if last and last.tokens == plan.tokens.key and last.trunk == trunk:
            return last, 0.0
        tell = _telling(progress, "tokenising")
        train, *evaluation = cache.tokenised(plan.tokens, progress=tell, note=progress.note)
        if train.num_truncated:
            progress.note(
                f"{train.num_truncated} of {len(train)} training examples are longer than "
                f"{config.training.max_length} tokens and lose the rest"
            )
        seconds = 0.0
        if trunk is not None:
            (train, *evaluation), seconds = _with_hidden(
                plan, [train, *evaluation], trunk, model, num_parts, progress
            )
        self._prepared = _Prepared(plan.tokens.key, train, tuple(evaluation), trunk)
        return self._prepared, seconds

    def _tell_of_pooler(self, plan: Plan, model: Classifier, progress: Progress) -> None:
        """Once for a task's runs: the first of them may be of a method that trains it."""
        bert = model.backbone
        if not bert.has_untrained_pooler or bert.pooler.dense.bias.requires_grad:
            return
        if self._told_of_pooler == plan.tokens.key:
            return
        self._told_of_pooler = plan.tokens.key
        is_adapter = plan.config.method.name == "adapter"
        remedy = "; --set method.pooler=trained trains it" if is_adapter else ""
        progress.note(
            "the backbone's pooler was never trained (its biases are 0) and stays frozen: "
            f"a random layer before the head{remedy}"
        )


def _telling(progress: Progress, what: str) -> Callable[[int, int], None]:
    """Passes on how far a preparation is, and ends it when the user asks to stop."""

    def tell(done: int, total: int) -> None:
        progress.preparing(what, done, total)
        if progress.should_stop():
            raise Interrupted(
                "stopped before the training began", remedy="the same command begins anew"
            )

    return tell


def _with_hidden(
    plan: Plan,
    splits: list[Encoded],
    digest: str,
    model: Classifier,
    num_parts: int,
    progress: Progress,
) -> tuple[list[Encoded], float]:
    """The splits with the frozen lower layers' results, and the seconds that these took; as they
    were where no file can hold the results.
    """
    import torch

    from adaptertune.train import trunk

    depth = model.trunk_depth
    what = f"layers 0-{depth - 1}, in which nothing trains"
    place = trunk.Place(paths.cache() / "trunk", plan.config.trunk_cache * trunk.GIGABYTE, digest)
    tell = _telling(progress, what)
    device = torch.device(plan.device)
    found = trunk.with_hidden(
        model, splits, place, device, tell, progress.note, num_parts=num_parts
    )
    if found is None:
        return splits, 0.0
    with_results, seconds = found
    # Of a step's products, at the mean length of what trains.
    form = plan.config.training.batch_size, round(float(splits[0].lengths.mean()))
    whole, rest = (
        flops.training_step(
            plan.located.shape, plan.config.method, plan.task.num_outputs, *form, known_layers=known
        ).total
        for known in (0, depth)
    )
    num_layers = len(model.backbone.encoder.layer)
    took = f"took {seconds:.1f} s this once" if seconds else "were computed earlier"
    size = trunk.num_bytes(splits, plan.located.shape.width, model.compute_type) / trunk.GIGABYTE
    progress.note(
        f"{what}, {took} ({size:.2f} GB kept); a step computes {num_layers - depth} of "
        f"{num_layers} layers, by the count of products {whole / rest:.2f}x as fast"
    )
    return with_results, seconds


def keep(
    plan: Plan,
    splits: Sequence[Encoded],
    model: Classifier,
    logits_before: npt.NDArray[np.float32],
    num_parts: int,
    folder: store.SeedFolder,
) -> Kept:
    """Write the checkpoint, read it back, and score it: the figures are those of the file on disk.

    Args:
        logits_before: the model's own on the selecting split.
        num_parts: as they were computed; see :func:`~adaptertune.train.evaluate.batch_size`.

    Raises:
        CheckpointError: the file's logits are not those.
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
    for encoded in splits:
        if encoded.name == plan.selecting_split:
            logits = logits_before
            at_a_time = evaluate.batch_size(encoded, device, num_parts)
            first = evaluation_batches(encoded.lengths, at_a_time)[0]  # the longest are in it
            again = evaluate.logits(model, encoded.subset(first), device, num_parts)
            if not np.array_equal(again, logits[first], equal_nan=True):
                raise CheckpointError(
                    "logits changed in saving and loading",
                    where=folder.checkpoint,
                    remedy="this is a bug: please report it",
                )
        else:
            logits = evaluate.logits(model, encoded, device, num_parts)
        found = evaluate.score(plan.task, metric, encoded, logits)
        scores[encoded.name] = results.SplitScores(
            num_examples=found.num_examples, values=found.values, collapsed=found.collapsed
        )
        stored[f"logits.{encoded.name}"] = torch.from_numpy(logits)
        stored[f"labels.{encoded.name}"] = torch.from_numpy(encoded.labels)
    checkpoint.write_tensors(folder.logits, stored, {"task": plan.task.name})
    return scores, results.CheckpointFacts(
        file=folder.checkpoint.name,
        parameters=checkpoint.num_trained(model),
        bytes=folder.checkpoint.stat().st_size,
    )


def seed_result(
    plan: Plan,
    seed: int,
    cost: results.Cost,
    kept: Kept | None = None,
    *,
    num_epochs: int = 0,
    kept_epoch: int | None = None,
    diverged_epoch: int | None = None,
) -> results.SeedResult:
    """What there is to say of a seed; ``kept`` is None of one that diverged."""
    scores, checkpoint = kept or ({}, None)
    return results.SeedResult(
        status="diverged" if kept is None else "finished",
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
        num_epochs=num_epochs,
        kept_epoch=kept_epoch,
        diverged_epoch=diverged_epoch,
        scores=scores,
        checkpoint=checkpoint,
        versions=versions(),
        init_from=plan.init_from,
        imported=plan.imported,
        cost=cost,
    )


def _cost(plan: Plan, watcher: Watcher, trunk_seconds: float) -> results.Cost:
    speeds = [record.examples_per_second for record in watcher.records]
    return cost_here(
        plan,
        train_seconds=sum(record.train_seconds for record in watcher.records),
        evaluate_seconds=sum(record.evaluate_seconds for record in watcher.records),
        trunk_seconds=trunk_seconds,
        examples_per_second=statistics.median(speeds) if speeds else None,
        micro_batch=watcher.micro_batch,
        resumed=watcher.resumed,
    )


def cost_here(
    plan: Plan,
    *,
    train_seconds: float,
    evaluate_seconds: float,
    trunk_seconds: float = 0.0,
    examples_per_second: float | None = None,
    micro_batch: int | None = None,
    resumed: int = 0,
) -> results.Cost:
    """What a seed took, with what this process and machine say of themselves."""
    import torch

    from adaptertune.train.device import peak_memory

    return results.Cost(
        train_seconds=train_seconds,
        evaluate_seconds=evaluate_seconds,
        trunk_seconds=trunk_seconds,
        examples_per_second=examples_per_second,
        micro_batch=micro_batch,
        threads=torch.get_num_threads() if plan.device == "cpu" else None,
        peak_memory_bytes=peak_memory(plan.device),
        resumed=resumed,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
    )


def versions() -> dict[str, str]:
    """Of what computes the numbers."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found}
