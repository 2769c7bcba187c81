"""A cell's seeds in one result: spread, best, protocol in words, published figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from adaptertune import catalogue
from adaptertune import config as configuration
from adaptertune.errors import StoreError
from adaptertune.files import write_json
from adaptertune.runs import load, results, start, store, units
from adaptertune.runs.plan import Plan

# A model as publications call it, with either vocabulary -> the hub's names that count as it.
PUBLISHED_AS = {
    "BERT-large": ("google-bert/bert-large-cased", "google-bert/bert-large-uncased"),
}


def summarise(
    plan: Plan, done: Sequence[results.SeedResult], failed: Sequence[int] = ()
) -> results.CellResult:
    """The cell's result: spread over the finished seeds, and the best on the selecting split.

    Args:
        failed: seeds that ended with an error.
    """
    task, split = plan.task, plan.selecting_split
    finished = [result for result in done if result.status == "finished"]

    scored = [result for result in finished if result.score(task.headline) is not None]
    best = max(scored, key=lambda result: result.score(task.headline) or 0.0, default=None)
    spreads: dict[str, dict[str, results.Spread]] = {}
    for name in plan.scored_splits:
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
        backbone=plan.backbone,
        precision=plan.precision,
        ledger=plan.ledger.as_json(),
        headline=task.headline,
        selecting_split=split,
        protocol=protocol_in_words(plan, len(finished)),
        seeds=[
            results.SeedLine(
                seed=result.seed,
                status=result.status,
                score=result.score(task.headline),
                kept_epoch=result.kept_epoch,
                collapsed=result.is_collapsed,
                folder=str(folder.seed(result.seed).path),
            )
            for result in done
        ]
        + [
            results.SeedLine(
                seed=seed,
                status="failed",
                score=None,
                kept_epoch=None,
                collapsed=False,
                folder=str(folder.seed(seed).path),
            )
            for seed in failed
        ],
        scores=spreads,
        num_failed=len(failed),
        num_diverged=len(done) - len(finished),
        num_collapsed=sum(result.is_collapsed for result in finished),
        best_seed=best.seed if best else None,
        checkpoint=str(folder.seed(best.seed).checkpoint) if best and best.checkpoint else None,
        train_seconds=sum(result.cost.train_seconds + result.cost.trunk_seconds for result in done),
        evaluate_seconds=sum(result.cost.evaluate_seconds for result in done),
        published=published_figures(plan),
        imported=plan.imported,
        init_from=plan.init_from,
    )


def protocol_in_words(plan: Plan, num_seeds: int) -> str:
    """What was selected on what, so that nobody takes a best for a mean."""
    if plan.imported:
        return (
            f"Imported: trained with AdapterHub's library ({plan.imported.library}), with settings and "
            "data that are not known; here it was only evaluated. Its file does not say which weights "
            f"its base model had: that they are those of {plan.located.name} is the importer's word."
        )
    split, keep = plan.selecting_split, plan.config.training.keep_epoch
    epoch = f"its best epoch on {split}" if keep == "best" else "its last epoch"
    begun = f" Started from {start.in_words(plan.init_from)}." if plan.init_from else ""
    if not num_seeds:
        return f"No seed finished, so there is no score.{begun}"
    if num_seeds < 2:
        return f"One seed, {epoch}; no spread can be known from one seed.{begun}"
    if plan.is_held_out:
        own = "in this run " if plan.init_from else ""  # the other had its own protocol
        return (
            f"Each seed keeps {epoch}, {plan.data.num_held_out:,} rows of the training set that did "
            f"not train. Mean and deviation are over {num_seeds} seeds. 'Best' is the seed that is "
            f"best on {split}; nothing {own}was selected on validation.{begun}"
        )
    return (
        f"Each seed keeps {epoch}. Mean and deviation are over {num_seeds} seeds. 'Best' is the "
        f"highest of {num_seeds} on {split}, the same data it is reported on, so it is optimistic; "
        f"the mean is what to expect of one run.{begun}"
    )


def published_figures(plan: Plan) -> list[results.PublishedFigure]:
    """The task's published figures for this method, each with whether it may stand beside ours."""
    rows = _paper_rows(plan)
    figures = []
    for published in plan.task.published:
        reasons = apart(
            published.model,
            published.split,
            data=plan.data,
            backbone=plan.located.name,
            reported=plan.task.evaluation,
            held_out=plan.is_held_out,
            init_from=plan.init_from,
        )
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


def apart(
    model: str,
    split: str,
    *,
    data: results.DataFacts,
    backbone: str,
    reported: Sequence[str],
    held_out: bool,
    init_from: results.InitFrom | None,
) -> list[str]:
    """What keeps a figure that was published for a model on a split apart from a run's; nothing if they
    may stand side by side.

    Args:
        held_out: whether rows of the run's training set selected instead of training.
    """
    reasons = {
        "here the sample, not GLUE": data.sample,
        f"here started from {init_from.task if init_from else ''}": init_from is not None,
        "here a partial training set": data.partial,
        "here part of the training set held out": held_out,
        f"there {model}": catalogue.without_revision(backbone)
        not in PUBLISHED_AS.get(model, (model,)),
        "there the test server": split not in reported,
    }
    return [reason for reason, holds in reasons.items() if holds]


def _spread(values: Sequence[float], best: float | None) -> results.Spread:
    return results.Spread(
        n=len(values),
        mean=statistics.fmean(values) if values else None,
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        minimum=min(values, default=None),
        maximum=max(values, default=None),
        best=best,
    )


def _paper_rows(plan: Plan) -> tuple[str, ...]:
    """Which rows of the paper's tables are this method's."""
    method = plan.config.method
    if isinstance(method, configuration.Adapter):
        plain = configuration.Adapter(
            size=method.size, init_std=method.init_std, activation=method.activation
        )
        if method != plain:
            return ()
        return ("adapters_64", "adapters_8_256") if method.size == 64 else ("adapters_8_256",)
    if method == configuration.Full():
        return ("full",)
    if isinstance(method, configuration.TopLayers) and method.k == 1:
        return ("top_1_layer",)
    return ()


def conclude(plan: Plan) -> None:
    """Summarise all seeds that the cell has, and write it down; a damaged configuration too.

    A call with fewer seeds takes none away from those who look at the run later.
    """
    if not is_described(plan):
        write_json(plan.folder.config, units.config_file(plan))
    while True:
        there = plan.folder.finished_seeds()
        whole = plan  # of seeds in one pass, which together are the cell
        if not plan.is_stacked:
            seeds = sorted({*plan.config.seeds, *plan.folder.seeds()})
            config = plan.config.model_copy(update={"seeds": tuple(seeds)})
            whole = replace(plan, resolved=replace(plan.resolved, config=config))
        store.write_result(plan.folder.result, so_far(whole))
        # Another process may have finished a seed meanwhile, and written its summary before this one.
        if plan.folder.finished_seeds() == there:
            return


def is_concluded(plan: Plan) -> bool:
    """Whether the cell's summary is of the seeds that are there, and its configuration whole."""
    try:
        summary = plan.folder.read_result()
    except StoreError:
        return False
    if summary is None or not is_described(plan):
        return False
    told = {line.seed: line.status for line in summary.seeds if line.status != "failed"}
    if sorted(told) != plan.folder.finished_seeds():
        return False
    # One that diverged may have finished since, when it was tried again.
    diverged = [seed for seed, status in told.items() if status == "diverged"]
    found = [plan.folder.seed(seed).read_result() for seed in diverged]
    return all(result is not None and result.status == "diverged" for result in found)


def is_described(plan: Plan) -> bool:
    """Whether the cell's ``config.json`` is whole."""
    try:
        load.kept_task(plan.folder, {"task": plan.config.task})
    except StoreError:
        return False
    return True


def so_far(plan: Plan) -> results.CellResult:
    """Of what is there of a cell's seeds."""
    return summarise(plan, *seeds_of(plan))


def seeds_of(plan: Plan) -> tuple[list[results.SeedResult], list[int]]:
    """The results of a cell's seeds, as far as they are there, and the seeds that failed."""
    folder = plan.folder
    found = {seed: folder.seed(seed).read_result() for seed in plan.config.seeds}
    done = [result for result in found.values() if result is not None]
    return done, [s for s in found if found[s] is None and folder.seed(s).failure.exists()]
