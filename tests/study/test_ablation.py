"""Points of an ablation over results that stand in files: what is paired, chosen and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from adaptertune.errors import ConfigError, StoreError
from adaptertune.runs import analyses, grid, sweep, units
from adaptertune.runs.sweep import Sweep
from adaptertune.study import ablation
from tests.runs.test_sweep import run, scored, simulation

# Accuracy in points on the selecting split and on validation, by std and learning rate: seeds 0 to 3.
# None is a seed that diverged, "failed" one that ended with an error.
Scores = Mapping[tuple[float, float], Sequence[Any]]
TABLE: Scores = {
    (1e-4, 1e-3): (60, 61, 63, 64),
    (1e-2, 1e-3): (61, 63, 62, 66),
    (1.0, 1e-3): (50, None, 40, "failed"),
}


def make(bert: Path, output: Path, table: Scores, **changes: Any) -> Sweep:
    given: dict[str, Any] = {"tasks": ["rte"], "seeds": 4, "seeds_on": None, "protocol": None}
    values = {
        "method.init_std": (sorted({std for std, _ in table}), "--grid"),
        "training.learning_rate": (sorted({rate for _, rate in table}), "--grid"),
    }
    base = {
        "backbone": (str(bert), ""), "output": (str(output), ""), "training.epochs": (1, ""),
        "data.source": ("sample", ""), "training.max_length": (24, ""),
        "training.precision": ("fp32", ""),
    }  # fmt: skip
    options = given | {name: value for name, value in changes.items() if name in given}
    source = grid.with_options(grid.read("init", "ablations"), grid=values, **options)
    ablation.check("init", source, "here")
    return sweep.make(source, base | changes.get("base", {}))


def fill(made: Sweep, table: Scores, *, opposed: bool = False) -> None:
    """Leave the files that training would; ``opposed``: what selects well scores badly."""
    for cell in made.cells:
        plan = cell.plan
        key = (plan.config.method.init_std, plan.config.training.learning_rate)  # type: ignore[union-attr]
        for seed, points in enumerate(table[key]):
            if points == "failed":
                units.write_failures(units.Unit(plan, (seed,)), "ZeroDivisionError", "")
                continue
            on_validation = 100 - (points or 0) if opposed else points or 0
            result = scored(plan, seed, points or 0, on_validation)
            if points is None:
                nothing: dict[str, Any] = {
                    "status": "diverged",
                    "scores": {},
                    "kept_epoch": None,
                    "diverged_epoch": 1,
                }
                result = result.model_copy(update=nothing)
            simulation.write_seed(plan, result)


def test_statistics_are_numpys_and_seeds_are_paired(tiny_bert: Path, tmp_path: Path) -> None:
    made = make(tiny_bert, tmp_path, TABLE)
    fill(made, TABLE)
    found = ablation.summarise("init", made)
    (task,) = found.tasks
    assert (task.task, task.split) == ("rte", "validation")
    assert [(p.method, p.value, p.reference) for p in task.points] == [
        ("adapter-64", 1e-4, 1), ("adapter-64", 1e-2, None), ("adapter-64", 1.0, 1),
    ]  # fmt: skip
    assert found.cells == [cell.plan.digest for cell in made.cells]
    low, own, high = task.points
    low_scores, own_scores = np.array([0.60, 0.61, 0.63, 0.64]), np.array([0.61, 0.63, 0.62, 0.66])
    scores = low.scores["accuracy"]
    assert scores.values == dict(enumerate(low_scores))
    assert scores.mean == pytest.approx(low_scores.mean())
    assert scores.deviation == pytest.approx(low_scores.std(ddof=1))
    assert scores.standard_error == pytest.approx(scipy_stats.sem(low_scores))
    difference = scores.difference
    assert difference is not None
    assert difference.mean == pytest.approx((low_scores - own_scores).mean())
    assert (difference.n, difference.wins, difference.losses) == (4, 1, 3)
    assert difference.interval is None  # four pairs are too few
    assert own.scores["accuracy"].difference is None
    # Only seeds 0 and 2 have a score, so only they are paired.
    assert (high.diverged, high.failed, high.scores["accuracy"].values) == (
        [1],
        [3],
        {0: 0.5, 2: 0.4},
    )
    difference = high.scores["accuracy"].difference
    assert difference is not None
    assert difference.n == 2
    assert difference.mean == pytest.approx(((0.5 - 0.61) + (0.4 - 0.62)) / 2)
    assert difference.interval is None
    written = analyses.AblationResult.model_validate_json(ablation.path(made, "init").read_bytes())
    assert written == found
    assert [Path(point.cell).is_dir() for point in task.points] == [True] * 3


def test_candidates_are_chosen_on_the_selecting_split(tiny_bert: Path, tmp_path: Path) -> None:
    """By the mean, not by the best seed; one with holes comes last; validation has no say."""
    table: Scores = {
        (1e-4, 1e-3): (70, 70, 70, 70),
        (1e-4, 1e-2): (40, 90, 40, 40),
        (1e-2, 1e-3): (95, 95, 95, None),
        (1e-2, 1e-2): (60, 60, 60, 60),
    }
    made = make(tiny_bert, tmp_path, table, protocol="held-out")
    fill(made, table, opposed=True)
    (task,) = ablation.summarise("init", made).tasks
    assert [(p.value, p.chosen["training.learning_rate"], p.num_candidates) for p in task.points] == [
        (1e-4, 1e-3, 2), (1e-2, 1e-2, 2),
    ]  # fmt: skip
    assert [p.scores["accuracy"].mean for p in task.points] == pytest.approx([0.3, 0.4])
    words = ablation.in_words("init", made)
    assert "each point with the learning rate that the mean chose there. Differences" in words


def test_the_reference_is_the_recipes_value(tiny_bert: Path, tmp_path: Path) -> None:
    table: Scores = {(1e-3, 1e-3): (60, 61, 62, 63), (1.0, 1e-3): (50, 51, 52, 53)}
    made = make(tiny_bert, tmp_path / "paper", table)
    fill(made, table)
    (task,) = ablation.summarise("init", made).tasks
    assert {point.reference for point in task.points} == {None}
    assert {point.scores["accuracy"].difference for point in task.points} == {None}
    official = {"recipe": ("official-code", "")}
    made = make(tiny_bert, tmp_path / "official", table, base=official)
    fill(made, table)
    result = ablation.summarise("init", made)
    assert [point.reference for point in result.tasks[0].points] == [None, 0]
    assert "its last epoch. Differences" in result.protocol  # nothing was chosen, so no optimism


def ablate(
    kind: str,
    bert: Path,
    output: Path,
    *,
    seeds: int = 1,
    tasks: Sequence[str] = ("rte",),
    **values: Sequence[Any],
) -> Sweep:
    """The shipped ablation with other values: ``method__size=[4, 8]``."""
    options = {key.replace("__", "."): (found, "--grid") for key, found in values.items()}
    source = grid.with_options(
        grid.read(kind, "ablations"),
        tasks=tasks,
        grid=options,
        seeds=seeds,
        seeds_on=None,
        protocol=None,
    )
    base = {
        "backbone": (str(bert), ""),
        "output": (str(output), ""),
        "data.source": ("sample", ""),
        "training.max_length": (24, ""),
        "training.epochs": (1, ""),
    }
    ablation.check(kind, source, "here")
    return sweep.make(source, base)  # fmt: skip


# Two layers of 32 numbers, of 64 within the feed-forward.
LAYERNORMS = 5 * 2 * 32


def adapters(size: int, num: int = 4) -> int:
    return num * (2 * 32 * size + size + 32) + LAYERNORMS


def test_sizes_are_one_line_and_other_settings_are_others(tiny_bert: Path, tmp_path: Path) -> None:
    made = ablate(
        "size", tiny_bert, tmp_path, tasks=["rte", "stsb"], method__size=[8, 64, 4],
        method__places=["both", "attention"], method__activation=["gelu", "relu"],
    )  # fmt: skip
    tasks = ablation.summarise("size", made).tasks
    assert [task.task for task in tasks] == ["rte", "stsb"]
    for task in tasks:
        assert [point.method for point in task.points[::3]] == [
            f"adapter{places}-activation-{activation}"
            for places in ("", "-places-attention")
            for activation in ("gelu", "relu")
        ]
        for at in range(0, 12, 3):
            line = task.points[at : at + 3]
            assert len({point.method for point in line}) == 1
            assert [point.value for point in line] == [4, 8, 64]
            assert [point.reference for point in line] == [at + 2, at + 2, None]
            num = 2 if "attention" in line[0].method else 4
            assert [p.trained for p in line] == [adapters(m, num) for m in (4, 8, 64)]
            # Nothing has run, and what has not is no failure.
            assert not any(p.failed or p.scores[task.headline].values for p in line)


def test_learning_rates_are_paired_with_full_fine_tuning(tiny_bert: Path, tmp_path: Path) -> None:
    made = ablate("lr", tiny_bert, tmp_path, seeds=3, training__learning_rate=[1e-4, 1e-3])
    table = {
        ("adapter", 1e-4): (50, 51, 54), ("adapter", 1e-3): (60, 64, 62),
        ("full", 1e-4): (60, 62, 61), ("full", 1e-3): (50, 51, 50),
    }  # fmt: skip
    for cell in made.cells:
        config = cell.plan.config
        points = table[config.method.name, config.training.learning_rate]
        for seed, one in enumerate(points):
            simulation.write_seed(cell.plan, scored(cell.plan, seed, one))
    (task,) = ablation.summarise("lr", made).tasks
    assert [(p.method, p.value, p.reference) for p in task.points] == [
        ("adapter-64", 1e-4, 2), ("adapter-64", 1e-3, 3), ("full", 1e-4, None), ("full", 1e-3, None),
    ]  # fmt: skip
    low, high, *_ = (point.scores["accuracy"].difference for point in task.points)
    assert low is not None
    assert high is not None
    assert low.mean == pytest.approx((-10 - 11 - 7) / 300)
    assert (low.wins, low.losses) == (0, 3)
    assert high.mean == pytest.approx((10 + 13 + 12) / 300)
    assert (high.wins, high.losses) == (3, 0)


def test_learning_rates_are_paired_with_what_full_fine_tuning_there_is(
    tiny_bert: Path, tmp_path: Path
) -> None:
    rates: dict[str, Any] = {
        "training__learning_rate": [1e-4, 1e-3],
        "method__pooler": ["frozen"],
    }
    (task,) = ablation.summarise("lr", ablate("lr", tiny_bert, tmp_path, **rates)).tasks
    assert [(p.method, p.value, p.reference) for p in task.points] == [
        ("adapter-64", 1e-4, 2), ("adapter-64", 1e-3, 3),
        ("full-pooler-frozen", 1e-4, None), ("full-pooler-frozen", 1e-3, None),
    ]  # fmt: skip


def test_depth_has_all_layers_and_goes_by_what_trains(tiny_bert: Path, tmp_path: Path) -> None:
    made = ablate("depth", tiny_bert, tmp_path, method__size=[64, 1, 4])
    assert [one.get("method.k") for one in made.config.grids] == [None, (1, 2), None]
    (task,) = ablation.summarise("depth", made).tasks
    # Attention's four products, the feed-forward's two, two LayerNorms; the pooler above them.
    layer = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 2 * 32
    pooler = 32 * 32 + 32
    assert [(p.method, p.value, p.trained) for p in task.points] == [
        ("layernorm", None, LAYERNORMS), ("adapter", 1, adapters(1)), ("adapter", 4, adapters(4)),
        ("top_layers", 1, layer + pooler), ("adapter", 64, adapters(64)),
        ("top_layers", 2, 2 * layer + pooler),
    ]  # fmt: skip
    assert [point.reference for point in task.points] == [4, 4, 4, 4, None, 4]


def test_variants_do_not_compete_with_one_another(tiny_bert: Path, tmp_path: Path) -> None:
    """Each has the best of its rates by the first seed, and that one all seeds."""
    rates = [1e-3, 3e-3]
    made = ablate("variants", tiny_bert, tmp_path, seeds=3, training__learning_rate=rates)
    assert len(made.methods) == 15
    assert {len(row.cells) for row in made.methods} == {2}

    def points(cell: sweep.Cell, seed: int) -> int:
        """The first seed is for the lower rate, except with tanh; the others would be for the higher."""
        is_low = cell.plan.config.training.learning_rate == 1e-3
        is_tanh = cell.chosen.get("method.activation") == "tanh"
        return 60 + (is_low != is_tanh) * (10 if seed == 0 else -10) + 2 * is_tanh

    by_digest = {cell.plan.digest: cell for cell in made.cells}
    ran: list[tuple[str, int]] = []

    def executor(todo: Any, _hear: Any) -> Any:
        for unit in todo:
            (seed,) = unit.seeds
            ran.append((unit.plan.digest, seed))
            result = scored(unit.plan, seed, points(by_digest[unit.plan.digest], seed))
            simulation.write_seed(unit.plan, result)
            yield units.Settled(unit, (result,))

    run(made, executor)
    assert len(ran) == 15 * (2 + 2)
    (task,) = ablation.summarise("variants", made).tasks
    assert len(task.points) == 15
    plain, *others = task.points
    assert (plain.chosen, plain.reference) == (
        {"method.name": "adapter", "training.learning_rate": 1e-3}, None,
    )  # fmt: skip
    for point in task.points:
        is_tanh = point.chosen.get("method.activation") == "tanh"
        assert point.chosen["training.learning_rate"] == (3e-3 if is_tanh else 1e-3)
        assert (len(point.scores["accuracy"].values), point.num_candidates) == (3, 2)
    for point in others:
        difference = point.scores["accuracy"].difference
        assert (point.reference, point.value) == (0, None)
        assert difference is not None
        is_tanh = point.chosen.get("method.activation") == "tanh"
        assert difference.mean == pytest.approx(0.02 if is_tanh else 0)
    words = ablation.in_words("variants", made)
    assert "each point with the learning rate that the first seed chose there" in words


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (
            "init",
            "method.size: [4, 8]",
            r"mine\.yaml:4: a grid of `ablate init` must vary 'method\.in",
        ),
        (
            "init",
            "method.init_std: [1e-2, 0.01]",
            r"mine\.yaml:4: .* e\.g\. --grid method\.init_std=…",
        ),
        (
            "size",
            "method.size: 8",
            r"mine\.yaml:4: a grid of `ablate size` must vary 'method\.size'",
        ),
        (
            "size",
            "method.size: [[8, 64]]",
            r"mine\.yaml:4: a grid of `ablate size` must vary 'method\.size'",
        ),
        (
            "lr",
            "training.learning_rate: [1e-4, 1e-3]\nseeds_on: winner",
            r"mine\.yaml:5: .*; use --seeds-on all",
        ),
    ],
)
def test_what_is_no_ablation_is_refused(
    tmp_path: Path, kind: str, text: str, complaint: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\ntasks: [rte]\ngrids:\n  - {text}\n")
    with pytest.raises(ConfigError, match=complaint):
        ablation.check(kind, grid.read(str(path), "ablations"), str(path))


def test_a_damaged_result_is_named(tiny_bert: Path, tmp_path: Path) -> None:
    made = make(tiny_bert, tmp_path, TABLE)
    fill(made, TABLE)
    path = made.cells[0].plan.folder.seed(0).result
    path.write_text(path.read_text()[:40])
    with pytest.raises(StoreError, match=rf"{path}: damaged result .*; delete it and run the same"):
        ablation.summarise("init", made)
