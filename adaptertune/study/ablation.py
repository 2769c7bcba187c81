"""Ablations that are sweeps: what one setting does to the score, everything else being equal.

The sweep's cells become curves over the setting, one for each task and for each choice of the
method's other settings; cells that differ in training settings are candidates for one point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptertune import config as configuration
from adaptertune import stats
from adaptertune.errors import ConfigError
from adaptertune.runs import results, selection, store
from adaptertune.runs.grid import SweepSource
from adaptertune.runs.plan import method_label
from adaptertune.runs.sweep import Cell, Sweep

# What each command varies.
AXES = {"init": "method.init_std", "size": "method.size"}


def check(kind: str, source: SweepSource, where: str) -> None:
    """Whether a sweep is an ablation of this kind.

    Args:
        where: the option or file that gave the sweep.

    Raises:
        ConfigError: a grid does not vary the setting, or not all cells get all seeds.
    """
    axis, sweep = AXES[kind], source.config
    for number, grid in enumerate(sweep.grids):
        if len(set(grid.get(axis, ()))) < 2:
            raise ConfigError(
                f"a grid of `ablate {kind}` must vary '{axis}'",
                where=source.where(("grids", number, axis)) or where,
                remedy=f"give it two values or more, e.g. --grid {axis}=…",
            )
    if sweep.seeds_on != "all":
        raise ConfigError(
            "an ablation needs all seeds of all cells",
            where=source.where(("seeds_on",)) or where,
            remedy="seeds_on: all",
        )


def summarise(kind: str, made: Sweep) -> results.AblationResult:
    """The curves of a sweep that was carried out, and write them into its store.

    Raises:
        StoreError: a run's result is damaged, or the file can't be written.
    """
    alike: dict[tuple[str, str], list[Cell]] = {}
    for cell in made.cells:
        alike.setdefault((cell.plan.task.name, _label(cell, AXES[kind])), []).append(cell)
    result = results.AblationResult(
        kind=kind,
        axis=AXES[kind],
        digest=made.digest,
        config=made.config.model_dump(mode="json"),
        backbone=made.cells[0].plan.backbone,
        protocol=_in_words(made),
        curves=[_curve(label, cells, AXES[kind]) for (_, label), cells in alike.items()],
    )
    store.write_result(path(made, kind), result)
    return result


def path(made: Sweep, kind: str) -> Path:
    """Where the result is written."""
    return made.output / "ablations" / f"{kind}-{made.digest[:12]}.json"


def _value(cell: Cell, axis: str) -> float:
    found: Any = cell.plan.config
    for part in axis.split("."):
        found = getattr(found, part)
    return float(found)


def _label(cell: Cell, axis: str) -> str:
    """The method but for what varies: ``adapter-64``; with ``axis`` the size, ``adapter``."""
    method = cell.plan.config.method
    label = method_label(method)
    if axis == "method.size" and isinstance(method, configuration.Adapter):
        label = label.replace(f"-{method.size}", "", 1)
    # What the folders' names leave out, which is in their digest.
    unsaid = {"method.init_std", "method.activation"} - {axis}
    return "-".join([label, *(f"{v}" for key, v in cell.chosen.items() if key in unsaid)])


def _curve(label: str, cells: Sequence[Cell], axis: str) -> results.AblationCurve:
    made = cells[0].plan
    by_value: dict[float, list[_Read]] = {}
    for cell in cells:
        by_value.setdefault(_value(cell, axis), []).append(_read(cell))
    split = made.task.evaluation[0]
    own = _recipes_own(made.config, axis)
    chosen = {value: _choose(by_value[value]) for value in sorted(by_value)}
    beside = None if own not in chosen else chosen[own].by_metric(split)
    return results.AblationCurve(
        task=made.task.name,
        label=label,
        split=split,
        headline=made.task.headline,
        data=made.data,
        reference=own if own in chosen else None,
        points=[
            _point(value, read, split, len(by_value[value]), None if value == own else beside)
            for value, read in chosen.items()
        ],
    )


def _recipes_own(config: configuration.RunConfig, axis: str) -> float | None:
    recipe = configuration.load_recipe(config.recipe)
    found = recipe.method.get(config.method.name, {}).get(axis.rpartition(".")[2])
    return float(found) if isinstance(found, int | float) else None


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


def _read(cell: Cell) -> _Read:
    found = {seed: cell.plan.folder.seed(seed).read_result() for seed in cell.plan.config.seeds}
    return _Read(cell, {seed: result for seed, result in found.items() if result is not None})


def _choose(candidates: Sequence[_Read]) -> _Read:
    """The one with the highest mean on the selecting split; the first if none has a score."""
    known = []
    for read in candidates:
        plan = read.cell.plan
        scores = tuple(read.by_metric(plan.selecting_split)[plan.task.headline].values())
        known.append(selection.Candidate(plan.digest, scores, len(plan.config.seeds) - len(scores)))
    best = selection.select(known, "mean")
    return next(
        (r for r in candidates if best and r.cell.plan.digest == best.digest), candidates[0]
    )


def _point(
    value: float,
    read: _Read,
    split: str,
    num_candidates: int,
    beside: Mapping[str, Mapping[int, float]] | None,
) -> results.AblationPoint:
    plan, seeds = read.cell.plan, read.seeds
    return results.AblationPoint(
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
        failed=[seed for seed in plan.config.seeds if seed not in seeds],
        collapsed=[
            seed
            for seed, result in seeds.items()
            if split in result.scores and result.scores[split].collapsed
        ],
    )


def _scores(
    by_seed: dict[int, float], beside: Mapping[int, float] | None
) -> results.AblationScores:
    values = list(by_seed.values())
    return results.AblationScores(
        values=by_seed,
        mean=stats.mean(values),
        deviation=stats.deviation(values),
        standard_error=stats.standard_error(values),
        interval=stats.mean_interval(values),
        difference=stats.paired_difference(by_seed, beside) if beside else None,
    )


def _in_words(made: Sweep) -> str:
    """Which statistic, of which split, and what was selected on what."""
    plan = made.cells[0].plan
    seeds = "one seed" if made.config.seeds == 1 else f"{made.config.seeds} seeds"
    selecting = "held-out rows of the training set" if plan.is_held_out else "validation"
    best = plan.config.training.keep_epoch == "best"
    epoch = f"its best epoch on {selecting}" if best else "its last epoch"
    optimism = (
        "" if plan.is_held_out else ", which is also what is reported: optimistic, for each alike"
    )
    return (
        f"Protocol {made.config.protocol}: mean over {seeds} on validation, each seed with {epoch}"
        f"{optimism}. Differences are paired over seeds; their interval is a 95 % bootstrap, of "
        "three seeds or more, and too narrow for few."
    )
