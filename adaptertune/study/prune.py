"""A smaller run from a trained one: adapters go while the score stays within a limit. No retraining.

What may go is chosen on one half of validation and reported on the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from adaptertune import seeds as streams
from adaptertune import stats
from adaptertune.config import Adapter, Resolved, written_layers
from adaptertune.data import held_out
from adaptertune.data.encode import Encoded
from adaptertune.errors import CheckpointError, DataError, StoreError
from adaptertune.files import write_json
from adaptertune.metrics import TaskMetric
from adaptertune.model import removal
from adaptertune.model.classifier import Classifier
from adaptertune.model.removal import Removal
from adaptertune.runs import analyses, bench, execute, results, store, units
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Plan
from adaptertune.runs.plan import plan as make_plan
from adaptertune.runs.progress import OnProgress
from adaptertune.runs.reopen import Reopened
from adaptertune.runs.summary import summarise
from adaptertune.study import without
from adaptertune.train import evaluate, speed
from adaptertune.train.checkpoint import trained_tensors

ROUNDING = 1e-9  # of a difference of two scores that is the limit itself: 0.87 - 0.86 > 0.01
SEED = 0  # of the division in halves: the same rows for every run of a task

Values = Mapping[str, float | None]  # by metric


@dataclass(frozen=True)
class Search:
    """What was chosen. ``num_candidates``: choices of layers that were evaluated."""

    removed: Removal
    num_candidates: int


def prune(
    run: Reopened,
    max_drop: float,
    on_progress: OnProgress,
    note: Callable[[str], None],
    output: Path | None = None,
) -> analyses.PruneResult:
    """Choose what may go, measure what that costs and gains, and write the smaller run.

    Args:
        max_drop: the most that the headline metric's mean over the seeds may lose, as a fraction.
        output: the store that the smaller run goes to; None for the run's own.

    Raises:
        ConfigError: the run has no adapters.
        CheckpointError: a checkpoint is damaged.
        StoreError: the run lies in no store, and none is named; or the smaller run can't be written.
    """
    started = time.perf_counter()
    layers = without.chosen_layers(run, None)
    target = output or _store_of(run)
    train, splits = execute.examples(run.plan, on_progress, note)
    whole = next(encoded for encoded in splits if encoded.name == run.plan.task.evaluation[0])
    choosing, reporting = halves(whole)
    models = run.load_all(run.seeds)
    scorer = _Scorer(run, list(models.values()), on_progress)
    found = search(
        layers, max_drop, lambda choices: scorer.means(choices, choosing, "choosing half")
    )
    removed = sorted(found.removed)
    both = [Removal(), found.removed]
    in_choosing, in_reporting = (
        _half(scorer.values(both, half, name), half)
        for half, name in ((choosing, "choosing half"), (reporting, "reporting half"))
    )
    plan = smaller_plan(run, [layer for layer in layers if layer not in removed], target)
    if removed:
        for seed, model in models.items():
            _write_seed(run, plan, splits, seed, model, found.removed)
        summary = summarise(plan, [_read_seed(plan, seed) for seed in run.seeds])
        name = run.folder.path.name
        origin = f" Pruned: {name} without the adapters of layers {written_layers(removed)}."
        write_json(plan.folder.config, units.config_file(plan))
        store.write_result(
            plan.folder.result, summary.model_copy(update={"protocol": summary.protocol + origin})
        )
    result = analyses.PruneResult(
        task=run.result.task,
        digest=run.result.digest,
        folder=str(run.folder.path),
        pruned=str(plan.folder.path) if removed else None,
        data=run.result.data,
        backbone=run.result.backbone,
        precision=plan.precision,
        device=plan.device,
        split=whole.name,
        headline=run.result.headline,
        max_drop=max_drop,
        seeds=list(run.seeds),
        removed=removed,
        remaining=[layer for layer in layers if layer not in removed],
        num_candidates=found.num_candidates,
        choosing=in_choosing,
        reporting=in_reporting,
        trained_before=run.plan.ledger.stored,
        trained_after=plan.ledger.stored,
        inference=_inference(models[run.seeds[0]], train, plan, removed, on_progress)
        if removed
        else [],
        seconds=time.perf_counter() - started,
    )
    if removed:
        store.write_result(plan.folder.prune, result)
    return result


def halves(encoded: Encoded) -> tuple[Encoded, Encoded]:
    """One half to choose on, the other to report: stratified, in an order of chance.

    Raises:
        DataError: there is only one example.
    """
    if len(encoded) < 2:
        raise DataError(
            f"one example of {encoded.name} makes no two halves, to choose on and to report",
            remedy="give the task more rows",
        )
    assert encoded.labels is not None
    rng = streams.generator(SEED, "halves")
    chosen = held_out.stratified(np.asarray(encoded.labels), len(encoded) // 2, rng)
    others = np.setdiff1d(np.arange(len(encoded)), chosen)
    return encoded.subset(chosen), encoded.subset(others)


def search(
    layers: Sequence[int],
    max_drop: float,
    score: Callable[[Sequence[Removal]], Sequence[float | None]],
) -> Search:
    """The largest choice of layers found that costs at most ``max_drop``; at least one layer stays.

    Round by round each span of layers is tried in addition to what is chosen already, and evaluated
    together with it. The choice that takes most layers is kept, of equals the one that scores best.

    Args:
        score: choices of layers -> the score without their adapters, None if it is not defined.
    """
    spans = list(removal.spans(layers).values())
    (intact,) = score([Removal()])
    known = {Removal(): intact}
    chosen = Removal()
    while intact is not None:
        wider = dict.fromkeys(chosen | span for span in spans)
        tried = [choice for choice in wider if chosen < choice < Removal(layers)]
        new = [choice for choice in tried if choice not in known]
        if new:
            known |= zip(new, score(new), strict=True)
        allowed = [
            (len(choice), value, choice)
            for choice in tried
            if (value := known[choice]) is not None and intact - value <= max_drop + ROUNDING
        ]
        if not allowed:
            break
        chosen = max(allowed, key=lambda found: found[:2])[2]
    return Search(chosen, len(known))


def _store_of(run: Reopened) -> Path:
    """The store in which a run's folder lies.

    Raises:
        StoreError: it lies in none.
    """
    folder = run.folder.path
    if folder.parent.name != run.plan.task.name:
        remedy = "name the store that the smaller run goes to with --output"
        raise StoreError("lies in no store", where=folder, remedy=remedy)
    return folder.parent.parent


def smaller_plan(run: Reopened, remaining: Sequence[int], output: Path) -> Plan:
    """The plan of a run with adapters in these layers only; its LayerNorms are as they were trained."""
    config = run.plan.config
    assert isinstance(config.method, Adapter)
    tuned = config.method.trained_layernorms
    norms = "all" if tuned is None else tuned or "none"
    method = config.method.model_copy(update={"layers": tuple(remaining), "layernorms": norms})
    name = f"prune {run.folder.path.name}"
    origins = dict(run.plan.resolved.origins) | {
        "method.layers": name,
        "method.layernorms": name,
    }
    changed = config.model_copy(update={"method": method, "output": output, "seeds": run.seeds})
    made = make_plan(Resolved(changed, run.plan.task, origins), run.lookups)
    return replace(
        made,
        pruned_from=run.result.digest,
        imported=run.plan.imported,
        init_from=run.plan.init_from,
    )


class _Scorer:
    """Scores a run's models without the adapters of some layers."""

    def __init__(
        self, run: Reopened, models: Sequence[Classifier], on_progress: OnProgress
    ) -> None:
        self._task, self._metric = run.plan.task, TaskMetric(run.plan.task)
        self._device, self._models = torch.device(run.plan.device), models
        self._on_progress = on_progress

    def values(self, choices: Sequence[Removal], encoded: Encoded, what: str) -> list[list[Values]]:
        """All metrics, by choice and then model."""
        total, scores = len(self._models) * len(encoded), []
        for number, model in enumerate(self._models):
            before = number * len(encoded)
            logits = without.logits(
                model,
                choices,
                encoded,
                self._device,
                lambda done, before=before: self._on_progress(what, before + done, total),  # type: ignore[misc]
            )
            scores.append(
                [evaluate.score(self._task, self._metric, encoded, one).values for one in logits]
            )
        return [list(of_choice) for of_choice in zip(*scores, strict=True)]

    def means(self, choices: Sequence[Removal], encoded: Encoded, what: str) -> list[float | None]:
        """The headline metric's mean over the models, None if one has no value."""
        found = []
        for of_choice in self.values(choices, encoded, what):
            values = [one[self._task.headline] for one in of_choice]
            known = [value for value in values if value is not None]
            found.append(stats.mean(known) if len(known) == len(values) else None)
        return found


def _half(values: Sequence[Sequence[Values]], encoded: Encoded) -> analyses.Half:
    """``values``: by choice (nothing, what goes) and then seed."""
    before, after = (
        {name: [of_seed[name] for of_seed in of_choice] for name in of_choice[0]}
        for of_choice in values
    )
    return analyses.Half(num_examples=len(encoded), before=before, after=after)


def _write_seed(
    run: Reopened,
    plan: Plan,
    splits: Sequence[Encoded],
    seed: int,
    model: Classifier,
    removed: Removal,
) -> None:
    """A seed's folder of the smaller run: checkpoint, logits, result.

    Raises:
        CheckpointError: the smaller model does not give what the larger one gives without them.
    """
    smaller = load_models(plan, [seed])[seed]
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in trained_tensors(smaller).items():
        tensor.copy_(tensors[name])
    device, folder = torch.device(plan.device), plan.folder.seed(seed)
    logits = evaluate.logits(smaller, splits[0], device)
    first = splits[0].subset(np.arange(min(len(splits[0]), evaluate.BATCH_SIZE)))
    (expected,) = without.logits(model, [removed], first, device)
    tolerance = 1e-3 if plan.precision == "fp32" else 0.1
    if not np.allclose(logits[: len(first)], expected, atol=tolerance, rtol=tolerance):
        raise CheckpointError(
            "the smaller model is not the larger one without these adapters",
            where=folder.path,
            remedy="this is a bug: please report it",
        )
    scores, facts = execute.keep(plan, splits, smaller, logits, 1, folder)
    source = _read(run.folder.seed(seed))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    changes = {
        "digest": plan.seed_digest(seed),
        "config": plan.config.model_dump(mode="json"),
        "ledger": plan.ledger.as_json(),
        "device": plan.device,
        "scores": scores,
        "checkpoint": facts,
        "versions": execute.versions(),
        "cost": source.cost.model_copy(update={"finished_at": now}),
    }
    store.write_result(folder.result, source.model_copy(update=changes))


def _read_seed(plan: Plan, seed: int) -> results.SeedResult:
    return _read(plan.folder.seed(seed))


def _read(folder: store.SeedFolder) -> results.SeedResult:
    found = folder.read_result()
    if found is None:
        raise CheckpointError("the seed has no result", where=folder.path, remedy="train it again")
    return found


def _inference(
    model: Classifier,
    train: Encoded,
    plan: Plan,
    removed: Sequence[int],
    on_progress: OnProgress,
) -> list[analyses.PrunedLatency]:
    """Both measured in turn, so that other work on the machine falls on both."""
    model.hold_for_answers()  # as `predict` does; it was written before
    inputs = {size: speed.median_batch(train, size) for size in bench.INFERENCE_SIZES}
    total = speed.WARM_ROUNDS + bench.INFERENCE_ROUNDS
    found = speed.latencies(
        model,
        inputs,
        torch.device(plan.device),
        bench.INFERENCE_ROUNDS,
        lambda done: on_progress("inference", done, total),
        removed,
    )
    latencies = []
    for size, latency in found.items():
        assert latency.without is not None
        latencies.append(
            analyses.PrunedLatency(
                batch_size=size,
                length=inputs[size].tokens.shape[1],
                before=bench.passes(latency.own),
                after=bench.passes(latency.without),
            )
        )
    return latencies
