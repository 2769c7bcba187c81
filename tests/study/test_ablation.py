"""Curves of an ablation over results that stand in files: what is paired, chosen and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from adaptertune.errors import ConfigError, StoreError
from adaptertune.runs import grid, results, sweep, units
from adaptertune.runs.sweep import Sweep
from adaptertune.study import ablation
from tests.runs.test_sweep import scored, simulation

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
    (curve,) = found.curves
    assert (curve.task, curve.label, curve.split) == ("rte", "adapter-64", "validation")
    assert (curve.reference, [point.value for point in curve.points]) == (0.01, [1e-4, 1e-2, 1.0])
    low, own, high = curve.points
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
    # Pairs are drawn: means of -0.01, -0.02, +0.01 and -0.02 lie between these.
    assert difference.interval is not None
    assert -0.0201 < difference.interval.low < -0.01 < difference.interval.high < 0.0101
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
    written = results.AblationResult.model_validate_json(ablation.path(made, "init").read_bytes())
    assert written == found
    assert [Path(point.cell).is_dir() for point in curve.points] == [True] * 3


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
    (curve,) = ablation.summarise("init", made).curves
    assert [(p.value, p.chosen["training.learning_rate"], p.num_candidates) for p in curve.points] == [
        (1e-4, 1e-3, 2), (1e-2, 1e-2, 2),
    ]  # fmt: skip
    assert [p.scores["accuracy"].mean for p in curve.points] == pytest.approx([0.3, 0.4])


def test_the_reference_is_the_recipes_value(tiny_bert: Path, tmp_path: Path) -> None:
    table: Scores = {(1e-3, 1e-3): (60, 61, 62, 63), (1.0, 1e-3): (50, 51, 52, 53)}
    made = make(tiny_bert, tmp_path / "paper", table)
    fill(made, table)
    (curve,) = ablation.summarise("init", made).curves
    assert curve.reference is None
    assert {point.scores["accuracy"].difference for point in curve.points} == {None}
    official = {"recipe": ("official-code", "")}
    made = make(tiny_bert, tmp_path / "official", table, base=official)
    fill(made, table)
    result = ablation.summarise("init", made)
    assert result.curves[0].reference == 1e-3
    assert "its last epoch" in result.protocol


def test_sizes_are_one_curve_and_other_settings_are_others(tiny_bert: Path, tmp_path: Path) -> None:
    values: dict[str, tuple[Sequence[Any], str]] = {
        "method.size": ([8, 64, 4], "--grid"),
        "method.places": (["both", "attention"], "--grid"),
        "method.activation": (["gelu", "relu"], "--grid"),
    }
    source = grid.with_options(
        grid.read("size", "ablations"), tasks=["rte", "stsb"], grid=values, seeds=1, seeds_on=None,
        protocol=None,
    )  # fmt: skip
    base = {
        "backbone": (str(tiny_bert), ""), "output": (str(tmp_path), ""), "data.source": ("sample", ""),
        "training.max_length": (24, ""),
    }  # fmt: skip
    made = sweep.make(source, base)
    curves = ablation.summarise("size", made).curves
    assert [(curve.task, curve.label) for curve in curves] == [
        (task, f"adapter{places}-{activation}")
        for task in ("rte", "stsb")
        for places in ("", "-places-attention")
        for activation in ("gelu", "relu")
    ]
    for curve in curves:
        assert [point.value for point in curve.points] == [4, 8, 64]
        assert curve.reference == 64
        # Two layers of 32 numbers; an adapter has 2 * 32 * m + m + 32, and there are five LayerNorms.
        num = 2 * (1 if "attention" in curve.label else 2)
        assert [p.trained for p in curve.points] == [
            num * (2 * 32 * m + m + 32) + 5 * 2 * 32 for m in (4, 8, 64)
        ]
        assert all(point.failed == [0] and not point.scores["accuracy"].values  # nothing has run
                   for point in curve.points if curve.task == "rte")  # fmt: skip


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
        ("size", "method.size: [4, 8]\nseeds_on: winner", r"mine\.yaml:5: .*; seeds_on: all"),
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
