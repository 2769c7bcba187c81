"""An ablation in the terminal: every number in its row, and the strip's points in their places."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from adaptertune import stats
from adaptertune.report import ablation
from adaptertune.runs import results


def scores(
    values: Sequence[float], beside: Sequence[float] | None = None
) -> results.AblationScores:
    by_seed = dict(enumerate(values))
    return results.AblationScores(
        values=by_seed,
        mean=stats.mean(values),
        deviation=stats.deviation(values),
        standard_error=stats.standard_error(values),
        interval=stats.mean_interval(values),
        difference=stats.paired_difference(by_seed, dict(enumerate(beside))) if beside else None,
    )


OWN = (0.50, 0.52, 0.54)


def point(value: float, values: Sequence[float], **changes: Any) -> results.AblationPoint:
    beside = None if value == 0.01 else OWN
    made = results.AblationPoint(
        value=value, cell=f"runs/{value}", digest="0", chosen={}, num_candidates=1, trained=1000,
        scores={"matthews": scores(values, beside), "accuracy": scores([0.7, 0.71, 0.72])},
        diverged=[], failed=[], collapsed=[],
    )  # fmt: skip
    return made.model_copy(update=changes)


def result(*points: results.AblationPoint, **changes: Any) -> results.AblationResult:
    facts: dict[str, Any] = {
        "source": "folder", "description": "", "fingerprint": "", "num_train": 5,
        "num_train_complete": 50, "partial": True, "sample": False,
    }  # fmt: skip
    curve = results.AblationCurve(
        task="cola", label="adapter-64", split="validation", headline="matthews",
        data=results.DataFacts(**facts), reference=0.01, points=list(points),
    )  # fmt: skip
    return results.AblationResult(
        kind="init", axis="method.init_std", digest="0", config={}, protocol="In words.",
        backbone=results.BackboneFacts(name="b", sha256="0", commit=None),
        curves=[curve.model_copy(update=changes)],
    )  # fmt: skip


def shown(made: results.AblationResult, width: int = 110) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(ablation.ablation(made))
    return stream.getvalue()


def row(text: str, value: str) -> str:
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [value])
    return line


def test_rows_have_their_numbers() -> None:
    text = shown(
        result(
            point(1e-4, (0.49, 0.53, 0.54)),
            point(1e-2, OWN),
            point(1.0, (0.10, 0.20, 0.15), collapsed=[0]),
        )
    )
    words = " ".join(text.split())
    assert "cola, adapter-64: Matthews on validation by init std, in per cent" in words
    assert "over 3 seeds · partial training set, 5 of 50" in words
    # -1, +1, 0 points
    assert row(text, "1e-4").split()[1:4] == ["52.0", "±", "2.6"]
    assert row(text, "1e-4").split()[-5:] == ["71.0", "+0.0", "-1.0", "to", "+1.0"]
    assert row(text, "1e-2").split()[-1] == "71.0"
    # -40, -32, -39 points
    assert row(text, "1").split()[-4:] == ["-37.0", "-40.0", "to", "-32.0"]
    assert "difference to 1e-2 lies wholly below 0: 1; above 0: none." in words
    assert "Collapsed (the same answer for every example, in the mean): 1 (1 seed)." in words
    assert "In words." in text
    assert "trained" not in text.replace("training", "")
    gain = shown(result(point(1e-4, (0.51, 0.53, 0.56)), point(1e-2, OWN)))
    assert "wholly below 0: none; above 0: 1e-4." in gain


def test_the_strip_is_drawn_to_one_scale() -> None:
    """Means of 0, 50 and 100 with deviations of 0, 0 and 10: the scale ends at 110."""
    apart = 0.1 / 2**0.5
    points = [
        point(1e-4, (0.0, 0.0)), point(1e-2, (0.5, 0.5)), point(1.0, (1.0 - apart, 1.0 + apart)),
    ]  # fmt: skip
    text = shown(result(*points, reference=None))
    strips = {value: row(text, value) for value in ("1e-4", "1e-2", "1")}
    places = {value: line.index("●") for value, line in strips.items()}
    first, last = places["1e-4"], ablation.STRIP - 1
    assert places["1e-2"] - first == round(0.5 / 1.1 * last)
    assert places["1"] - first == round(1.0 / 1.1 * last)
    assert "─" not in strips["1e-4"] + strips["1e-2"]
    assert strips["1"].rindex("─") - first == last
    assert "difference" not in text


def test_what_has_no_score_stays_empty() -> None:
    made = result(point(1e-2, OWN), point(1.0, (), diverged=[0, 1], failed=[2]))
    text = shown(made)
    assert row(text, "1").split() == ["1", "no", "score", "71.0", "0"]
    assert row(text, "1e-2").split()[-1] == "3"
    assert "Diverged (without a score): 1 (2 seeds)." in text
    assert "Failed (without a score; --retry-failed tries them again): 1 (1 seed)." in text
    assert "wholly" not in text
    assert "three seeds" in text


def test_sizes_show_what_trains_and_fit_a_narrow_terminal() -> None:
    points = [point(8.0, (0.4, 0.5, 0.6), trained=10_000), point(0.01, OWN, trained=1_234_567)]
    for width in (80, 110):
        text = shown(result(*points), width)
        assert "1,234,567" in row(text, "1e-2")
        assert row(text, "8").split()[-4:] == ["-2.0", "-10.0", "to", "+6.0"]
        assert max(map(len, text.splitlines())) <= width
        assert ("●" in text) == (width == 110)
