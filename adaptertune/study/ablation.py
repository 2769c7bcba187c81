"""Ablations that are sweeps: what a method's parts and settings do to the score, all else being equal.

The sweep's cells become points, one for each task, method and value of what varies; cells that differ
in nothing but training settings are candidates for one point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaptertune import config as configuration
from adaptertune import stats
from adaptertune.errors import ConfigError
from adaptertune.runs import analyses, results, selection, store
from adaptertune.runs.grid import SweepSource, num_different
from adaptertune.runs.plan import method_label, method_labels
from adaptertune.runs.sweep import Cell, Sweep


@dataclass(frozen=True)
class Kind:
    """What a command varies, and what its scores are held against."""

    varies: tuple[str, ...]  # dotted keys, of which a method has one at most
    by: str | None  # what the chart is drawn over; see AblationResult
    # Differences are to the value that the recipe has, of the same method or of the sweep's first; or
    # to full fine-tuning at the same value.
    beside: Literal["own", "first", "full"]

    @property
    def axis(self) -> str | None:
        """What every grid must vary."""
        return self.by if self.by in self.varies else None


KINDS = {
    "init": Kind(("method.init_std",), "method.init_std", "own"),
    "size": Kind(("method.size",), "method.size", "own"),
    "lr": Kind(("training.learning_rate",), "training.learning_rate", "full"),
    "depth": Kind(("method.size", "method.k"), "trained", "first"),
    "parts": Kind((), None, "first"),
    "variants": Kind((), None, "first"),
}


def check(kind: str, source: SweepSource, where: str) -> None:
    """Whether a sweep is an ablation of this kind.

    Args:
        where: the option or file that gave the sweep.

    Raises:
        ConfigError: a grid does not vary the setting, or too few seeds run.
    """
    axis, sweep = KINDS[kind].axis, source.config
    for number, grid in enumerate(sweep.grids):
        if axis and num_different(grid.get(axis, ())) < 2:
            raise ConfigError(
                f"a grid of `ablate {kind}` must vary '{axis}'",
                where=source.where(("grids", number, axis)) or where,
                remedy=f"give it two values or more, e.g. --grid {axis}=…",
            )
    # Methods have winners; of one method's learning rates only the best would get all seeds.
    if sweep.seeds_on == "winner" and axis and axis.startswith("training."):
        raise ConfigError(
            f"`ablate {kind}` needs all seeds of all cells",
            where=source.where(("seeds_on",)) or where,
            remedy="use --seeds-on all",
        )


def summarise(kind: str, made: Sweep) -> analyses.AblationResult:
    """The points of a sweep that was carried out, and write them into its store.

    Raises:
        StoreError: a run's result is damaged, or the file can't be written.
    """
    by_task: dict[str, list[Cell]] = {}
    for cell in made.cells:
        by_task.setdefault(cell.plan.task.name, []).append(cell)
    result = analyses.AblationResult(
        kind=kind,
        by=KINDS[kind].by,
        digest=made.digest,
        config=made.config.model_dump(mode="json"),
        cells=[cell.plan.digest for cell in made.cells],
        backbone=made.cells[0].plan.backbone,
        protocol=in_words(kind, made),
        tasks=[_task(KINDS[kind], made, cells) for cells in by_task.values()],
    )
    store.write_result(path(made, kind), result)
    return result


def path(made: Sweep, kind: str) -> Path:
    """Where the result is written."""
    return store.ablation(made.output, kind, made.digest)


def in_words(kind: str, made: Sweep) -> str:
    """Which statistic, of which split, and what was selected on what."""
    plan, sweep = made.cells[0].plan, made.config
    seeds = "one seed" if sweep.seeds == 1 else f"{sweep.seeds} seeds"
    selecting = "held-out rows of the training set" if plan.is_held_out else "validation"
    is_epoch_chosen = plan.config.training.keep_epoch == "best"
    epoch = f"its best epoch on {selecting}" if is_epoch_chosen else "its last epoch"
    said = f"Protocol {sweep.protocol}: mean over {seeds} on validation, each seed with {epoch}"
    searched = {
        key.rpartition(".")[2].replace("_", " ")
        for grid in sweep.grids
        for key, values in grid.items()
        if key.startswith("training.") and key not in KINDS[kind].varies and len(values) > 1
    }
    if searched:
        by = "the first seed" if sweep.seeds_on == "winner" else "the mean"
        said += f", each point with the {' and '.join(sorted(searched))} that {by} chose there"
    if (is_epoch_chosen or searched) and not plan.is_held_out:
        said += "; the same rows chose and are reported: optimistic, for each alike"
    return (
        f"{said}. Differences are paired over seeds; their interval is a 95 % bootstrap, of five "
        "seeds or more, and too narrow for few."
    )


@dataclass(frozen=True)
class _Key:
    """What points of one line share, and where on it a point is."""

    method: configuration.Method  # with 1 for what varies
    value: float | None


@dataclass(frozen=True)
class _Read:
    """A cell and what is done of it, by seed."""

    cell: Cell
    seeds: Mapping[int, results.SeedResult]

    def by_metric(self, split: str) -> dict[str, dict[int, float]]:
        """Scores by metric and seed, where there are any."""
        return {
            metric: {
                seed: value
                for seed, result in self.seeds.items()
                if split in result.scores
                if (value := result.scores[split].values[metric]) is not None
            }
            for metric in self.cell.plan.task.metrics
        }


def _task(kind: Kind, made: Sweep, cells: Sequence[Cell]) -> analyses.AblationTask:
    candidates: dict[_Key, list[_Read]] = {}
    for cell in cells:
        candidates.setdefault(_key(kind, cell), []).append(_read(cell))
    num_seeds = made.config.seeds if made.config.seeds_on == "all" else 1
    chosen = {key: _choose(reads, num_seeds) for key, reads in candidates.items()}
    labels = method_labels((key.method for key in chosen), sized=not _is_sized(kind))
    if not kind.varies:  # what the grid chose tells the methods apart
        labels = {method: method_label(method) for method in labels}
    order = sorted(chosen, key=lambda key: (list(labels).index(key.method), key.value or 0))
    if kind.by == "trained":
        order.sort(key=lambda key: chosen[key].cell.plan.ledger.trained)
    plan = cells[0].plan
    split = plan.task.evaluation[0]
    points = []
    for key in order:
        reference = _reference(kind, key, chosen)
        beside = chosen[reference].by_metric(split) if reference else None
        points.append(
            _point(
                chosen[key],
                labels[key.method],
                key.value,
                len(candidates[key]),
                beside,
                order.index(reference) if reference else None,
            )
        )
    return analyses.AblationTask(
        task=plan.task.name,
        split=split,
        headline=plan.task.headline,
        data=plan.data,
        points=points,
    )


def _is_sized(kind: Kind) -> bool:
    """Whether sizes are what varies."""
    return not {"method.size", "method.k"}.isdisjoint(kind.varies)


def _key(kind: Kind, cell: Cell) -> _Key:
    config = cell.plan.config
    method, value = config.method, None
    for dotted in kind.varies:
        block, _, name = dotted.partition(".")
        if block == "training":
            value = float(getattr(config.training, name))
        elif name in type(method).model_fields:
            value = float(getattr(method, name))
            method = method.model_copy(update={name: 1})
    return _Key(method, value)


def _reference(kind: Kind, key: _Key, chosen: Mapping[_Key, _Read]) -> _Key | None:
    """The point that another is held against; None for itself, or if there is none."""
    if kind.beside == "full":  # as all of the sweep's
        full = (one for one in chosen if isinstance(one.method, configuration.Full))
        wanted = next((one for one in full if one.value == key.value), key)
    else:
        first = next(iter(chosen)) if kind.beside == "first" else key
        wanted = _Key(first.method, _recipes_own(kind, chosen[first].cell.plan.config))
    return wanted if wanted in chosen and wanted != key else None


def _recipes_own(kind: Kind, config: configuration.RunConfig) -> float | None:
    """The recipe's value of what varies; None if it has none, or nothing varies."""
    recipe = configuration.load_recipe(config.recipe).method.get(config.method.name, {})
    found = [recipe.get(dotted.rpartition(".")[2]) for dotted in kind.varies]
    return next((float(value) for value in found if isinstance(value, int | float)), None)


def _read(cell: Cell) -> _Read:
    found = {seed: cell.plan.folder.seed(seed).read_result() for seed in cell.plan.config.seeds}
    return _Read(cell, {seed: result for seed, result in found.items() if result is not None})


def _choose(candidates: Sequence[_Read], num_seeds: int) -> _Read:
    """The one with the highest mean on the selecting split over the first so many seeds; the first if
    none has a score.
    """
    known = []
    for read in candidates:
        plan = read.cell.plan
        by_seed = read.by_metric(plan.selecting_split)[plan.task.headline]
        deciding = plan.config.seeds[:num_seeds]
        scores = tuple(by_seed[seed] for seed in deciding if seed in by_seed)
        known.append(selection.Candidate(plan.digest, scores, len(deciding) - len(scores)))
    best = selection.select(known, "mean")
    return next(
        (r for r in candidates if best and r.cell.plan.digest == best.digest), candidates[0]
    )


def _point(
    read: _Read,
    method: str,
    value: float | None,
    num_candidates: int,
    beside: Mapping[str, Mapping[int, float]] | None,
    reference: int | None,
) -> analyses.AblationPoint:
    plan, seeds = read.cell.plan, read.seeds
    split = plan.task.evaluation[0]
    missing = [seed for seed in plan.config.seeds if seed not in seeds]
    return analyses.AblationPoint(
        method=method,
        value=value,
        cell=str(plan.folder.path),
        digest=plan.digest,
        chosen=dict(read.cell.chosen),
        num_candidates=num_candidates,
        trained=plan.ledger.trained,
        scores={
            metric: _scores(by_seed, beside[metric] if beside else None)
            for metric, by_seed in read.by_metric(split).items()
        },
        diverged=[seed for seed, result in seeds.items() if result.status == "diverged"],
        failed=[seed for seed in missing if plan.folder.seed(seed).read_failure()],
        collapsed=[
            seed
            for seed, result in seeds.items()
            if split in result.scores and result.scores[split].collapsed
        ],
        reference=reference,
    )


def _scores(
    by_seed: dict[int, float], beside: Mapping[int, float] | None
) -> analyses.AblationScores:
    values = list(by_seed.values())
    return analyses.AblationScores(
        values=by_seed,
        mean=stats.mean(values),
        deviation=stats.deviation(values),
        standard_error=stats.standard_error(values),
        interval=stats.mean_interval(values),
        difference=stats.paired_difference(by_seed, beside) if beside else None,
    )
