"""An ablation in the terminal: every number in its row, and the strip's points in their places."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from adaptertune import stats
from adaptertune.report import ablation
from adaptertune.report.tables import ablation as shown_in
from adaptertune.runs import analyses, grid, results


def scores(
    values: Sequence[float], beside: Sequence[float] | None = None
) -> analyses.AblationScores:
    by_seed = dict(enumerate(values))
    return analyses.AblationScores(
        values=by_seed,
        mean=stats.mean(values),
        deviation=stats.deviation(values),
        standard_error=stats.standard_error(values),
        interval=stats.mean_interval(values),
        difference=stats.paired_difference(by_seed, dict(enumerate(beside))) if beside else None,
    )


OWN = (0.50, 0.51, 0.52, 0.53, 0.54)
LESS = (0.40, 0.41, 0.42, 0.43, 0.44)


def point(value: float | None, values: Sequence[float], **changes: Any) -> analyses.AblationPoint:
    made = analyses.AblationPoint(
        method="adapter-64", value=value, cell=f"runs/{value}", digest="0", chosen={},
        num_candidates=1, trained=1000,
        scores={"matthews": scores(values), "accuracy": scores([0.7, 0.71, 0.72])},
        diverged=[], failed=[], collapsed=[], reference=None,
    )  # fmt: skip
    return made.model_copy(update=changes)


def result(
    *points: analyses.AblationPoint, by: str | None = "method.init_std", rows: str = ""
) -> analyses.AblationResult:
    """Points, held against those that they name."""
    facts: dict[str, Any] = {
        "source": "folder", "description": "", "fingerprint": rows, "num_train": 5,
        "num_train_complete": 50, "partial": True, "sample": False,
    }  # fmt: skip
    compared = []
    for one in points:
        of = one.scores["matthews"].values.values()
        beside = None if one.reference is None else points[one.reference].scores["matthews"].values
        headline = scores(list(of), None if beside is None else list(beside.values()))
        both = {"matthews": headline, "accuracy": one.scores["accuracy"]}
        compared.append(one.model_copy(update={"scores": both}))
    task = analyses.AblationTask(
        task="cola", split="validation", headline="matthews", data=results.DataFacts(**facts),
        points=compared,
    )  # fmt: skip
    return analyses.AblationResult(
        kind="init", by=by, digest="0", config={"name": "init"}, protocol="In words.", cells=[],
        backbone=results.BackboneFacts(name="b", sha256="0", commit=None), tasks=[task],
    )  # fmt: skip


def test_a_setting_of_two_methods_is_told_with_its_method() -> None:
    points = [
        point(None, (0.5, 0.6), method=f"{name}-pooler-{pooler}",
              chosen={"method.name": name, "method.pooler": pooler})
        for name in ("adapter", "full") for pooler in ("frozen", "trained")
    ]  # fmt: skip
    made = result(*points, by=None)
    (task,) = made.tasks
    assert [ablation.title(one, made, task) for one in task.points] == [
        "adapters, pooler frozen", "adapters, pooler trained",
        "full fine-tuning, pooler frozen", "full fine-tuning, pooler trained",
    ]  # fmt: skip
    alone = result(*points[:2], by=None)
    assert ablation.title(points[1], alone, alone.tasks[0]) == "pooler trained"
    ranks = result(
        *(
            point(
                None, (0.5,), method=f"lora-{n}", chosen={"method.name": "lora", "method.rank": n}
            )
            for n in (4, 8)
        ),
        by=None,
    )
    (task,) = ranks.tasks
    assert [ablation.title(one, ranks, task) for one in task.points] == ["LoRA 4", "LoRA 8"]


def shown(made: analyses.AblationResult, width: int = 110) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(shown_in.ablation(made))
    return stream.getvalue()


def row(text: str, value: str) -> str:
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [value])
    return line


def test_rows_have_their_numbers() -> None:
    text = shown(
        result(
            point(1e-4, (0.50, 0.52, 0.52, 0.52, 0.54), reference=1),
            point(1e-2, OWN),
            point(1.0, (0.10, 0.11, 0.12, 0.13, 0.14), collapsed=[0], reference=1),
        )
    )
    words = " ".join(text.split())
    assert "cola, adapters 64: Matthews on validation by init std, in per cent" in words
    assert "mean ± deviation over 5 seeds · partial training set, 5 of 50" in words
    # 0, +1, 0, -1, 0 points
    assert row(text, "1e-4").split()[1:4] == ["52.0", "±", "1.4"]
    between = stats.mean_interval([0, 0.01, 0, -0.01, 0])
    assert between is not None
    ends = [f"{100 * between.low:+.1f}", "to", f"{100 * between.high:+.1f}"]
    assert row(text, "1e-4").split()[-5:] == ["71.0", "+0.0", *ends]
    assert row(text, "1e-2").split()[-1] == "71.0"
    assert row(text, "1").split()[-4:] == ["-40.0", "-40.0", "to", "-40.0"]
    assert "difference to 1e-2, too narrow for few seeds, lies wholly below 0: 1; above" in words
    assert "Collapsed (the same answer for every example, in the mean if the metric" in words
    assert "is defined): 1 (1 seed)." in words
    assert "In words." in text
    assert "trained" not in text.replace("training", "")
    more = (0.51, 0.52, 0.53, 0.55, 0.56)
    gain = " ".join(shown(result(point(1e-4, more, reference=1), point(1e-2, OWN))).split())
    assert "wholly below 0: none; above 0: 1e-4." in gain


def test_fewer_than_five_seeds_have_standard_errors_and_no_verdict() -> None:
    """Though a result of an earlier version has intervals of three."""
    made = result(point(1e-4, (0.10, 0.12, 0.17), reference=1), point(1e-2, OWN[:3]))
    task = made.tasks[0]
    few = task.points[0].scores["matthews"]
    assert few.difference is not None
    known = replace(few.difference, interval=stats.Interval(-0.4, -0.3, 0.95))
    earlier = few.model_copy(
        update={"difference": known, "interval": stats.Interval(0.1, 0.2, 0.95)}
    )
    first = task.points[0].model_copy(
        update={"scores": task.points[0].scores | {"matthews": earlier}}
    )
    task = task.model_copy(update={"points": [first, task.points[1]]})
    made = made.model_copy(update={"tasks": [task]})
    stream = io.StringIO()
    Console(file=stream, width=110, force_terminal=True, color_system="standard").print(
        shown_in.ablation(made)
    )
    assert "\x1b[31m" not in stream.getvalue()  # no red
    text = shown(made)
    assert "mean ± standard error of the mean over 3 seeds" in " ".join(text.split())
    # Scores 10, 12, 17: deviation 3.6; differences -40, -39, -35: mean -38, deviation 2.6; over root 3.
    assert row(text, "1e-4").split()[1:4] == ["13.0", "±", "2.1"]
    assert row(text, "1e-4").split()[-3:] == ["71.0", "-38.0", "1.5"]
    assert "95 %" not in text.replace("In words.", "")
    assert "For an interval of the difference to 1e-2 it takes 5 seeds." in text
    five = result(point(1e-4, (0.1, 0.1, 0.1, 0.1, 0.1), reference=1), point(1e-2, OWN))
    stream = io.StringIO()
    Console(file=stream, width=110, force_terminal=True, color_system="standard").print(
        shown_in.ablation(five)
    )
    assert "\x1b[31m" in stream.getvalue()


def test_the_strip_is_drawn_to_one_scale() -> None:
    """Means of 0, 50 and 100 with standard errors of 0, 0 and 10: the scale ends at 110."""
    apart = 0.1
    points = [
        point(1e-4, (0.0, 0.0)), point(1e-2, (0.5, 0.5)), point(1.0, (1.0 - apart, 1.0 + apart)),
    ]  # fmt: skip
    text = shown(result(*points))
    strips = {value: row(text, value) for value in ("1e-4", "1e-2", "1")}
    places = {value: line.index("●") for value, line in strips.items()}
    first, last = places["1e-4"], shown_in.STRIPS[0] - 1
    assert places["1e-2"] - first == round(0.5 / 1.1 * last)
    assert places["1"] - first == round(1.0 / 1.1 * last)
    assert "─" not in strips["1e-4"] + strips["1e-2"]
    assert strips["1"].rindex("─") - first == last
    assert "difference" not in text


def test_what_has_no_score_stays_empty() -> None:
    made = result(point(1e-2, OWN), point(1.0, (), diverged=[0, 1], failed=[2], reference=0))
    text = shown(made)
    assert row(text, "1").split() == ["1", "no", "score", "71.0", "0"]
    assert row(text, "1e-2").split()[-1] == "5"
    assert "Diverged (without a score): 1 (2 seeds)." in text
    assert "Failed (without a score; --retry-failed tries them again): 1 (1 seed)." in text
    assert "wholly" not in text
    assert "it takes 5 seeds" in text


def test_sizes_show_what_trains_and_fit_a_narrow_terminal() -> None:
    points = [
        point(8.0, LESS, trained=10_000, reference=1), point(0.01, OWN, trained=1_234_567),
    ]  # fmt: skip
    for width in (80, 110):
        text = shown(result(*points), width)
        assert "1,234,567" in row(text, "1e-2")
        assert row(text, "8").split()[-4:] == ["-10.0", "-10.0", "to", "-10.0"]
        assert max(map(len, text.splitlines())) <= width
        assert ("●" in text) == (width == 110)


def test_methods_stand_in_blocks_of_one_table() -> None:
    """Learning rates: adapters are held against full fine-tuning at the same rate."""
    better, worse = (0.60, 0.61, 0.62, 0.63, 0.64), LESS
    made = result(
        point(1e-4, worse, reference=2), point(1e-3, better, reference=3),
        point(1e-4, OWN, method="full"), point(1e-3, OWN, method="full"),
        by="training.learning_rate",
    )  # fmt: skip
    text = shown(made)
    words = " ".join(text.split())
    assert "cola: Matthews on validation by learning rate, in per cent" in words
    assert "to full" in words
    rows = [line.split() for line in text.splitlines() if line.startswith((" adapters", " full"))]
    assert [(one[:2], one[-4:]) for one in rows[:2]] == [
        (["adapters", "64"], ["-10.0", "-10.0", "to", "-10.0"]),
        (["adapters", "64"], ["+10.0", "+10.0", "to", "+10.0"]),
    ]
    assert [one[2] for one in rows] == ["1e-4", "1e-3", "1e-4", "1e-3"]
    assert [one[0] for one in rows] == ["adapters", "adapters", "full", "full"]
    assert "wholly below 0: adapters 64 1e-4; above 0: adapters 64 1e-3." in words


def test_trained_parameters_and_methods_without_a_value() -> None:
    made = result(
        point(None, LESS, method="layernorm", trained=320, reference=2),
        point(3.0, OWN, method="top_layers", trained=5000, reference=2),
        point(64.0, OWN, method="adapter", trained=90_000), by="trained",
    )  # fmt: skip
    text = shown(made)
    words = " ".join(text.split())
    assert "Matthews on validation by trained parameters" in words
    assert [line.split()[:2] for line in text.splitlines() if "± 1.6" in line] == [
        ["LayerNorms", "only"], ["top", "3"], ["adapters", "64"],
    ]  # fmt: skip
    assert "difference to adapters 64, too narrow for few seeds, lies wholly below 0: L" in words
    narrow = shown(made, 70)
    assert max(map(len, narrow.splitlines())) <= 70
    for cell in ("LayerNorms", "only", "-10.0", "90,000"):  # all of it, in several lines
        assert cell in narrow.split()
    assert narrow.split().count("-10.0") == 3, "the difference and both ends of its interval"


@pytest.mark.parametrize("width", [50, 60, 70, 80, 90, 110, 140])
def test_nothing_is_cut_off(width: int) -> None:
    """Words stay whole where a console has room for the longest of each column: 79 characters."""
    made = result(
        point(1e-4, LESS, reference=2, trained=2_379_264),
        point(1e-3, OWN, reference=3, trained=2_379_264),
        point(1e-4, OWN, method="full", trained=109_482_240),
        point(1e-3, OWN, method="full", trained=109_482_240), by="training.learning_rate",
    )  # fmt: skip
    text = shown(made, width)
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        for word in ("fine-tuning", "difference", "109,482,240", "accuracy"):
            assert word in text.split()
        assert text.split().count("-10.0") == 3
    assert ("●" in text) == (width >= 110)
    if width < 110:
        assert sorted(filter(str.isalnum, text)) == sorted(filter(str.isalnum, shown(made, 100)))


def test_sized_variants_keep_their_size_apart() -> None:
    """Of a name that tells settings, the last of these is not the size."""
    made = result(
        point(64.0, OWN, method="adapter-scale-4.0"), point(64.0, LESS, method="adapter"), by="trained"
    )  # fmt: skip
    named = [ablation.title(one, made, made.tasks[0]) for one in made.tasks[0].points]
    assert named == ["adapter-scale-4.0 64", "adapters 64"]


def test_variants_are_told_by_what_they_change_or_by_name() -> None:
    rate = {"training.learning_rate": 1e-3, "method.name": "adapter"}
    pfeiffer = {"method.places": "feedforward", "method.reads": "normed"}
    made = result(
        point(None, OWN, chosen=rate),
        point(None, OWN, chosen=rate | {"method.norm": "batch"}, method="x", reference=0),
        point(None, OWN, chosen=rate | pfeiffer, method="y", reference=0),
        point(None, OWN, chosen={"method.name": "lora"}, method="lora-8", reference=0), by=None,
    )  # fmt: skip
    points = made.tasks[0].points
    assert [ablation.title(one, made, made.tasks[0]) for one in points] == [
        "adapters 64", "batch norm", "Pfeiffer et al.", "LoRA 8",
    ]  # fmt: skip
    for width in (80, 110):
        text = shown(made, width)
        assert "difference" in text
        assert max(map(len, text.splitlines())) <= width


def test_names_of_variants_are_those_of_the_shipped_ablations() -> None:
    chosen = []
    for kind in ("variants", "parts"):
        for one in grid.read(kind, "ablations").config.grids:
            keys = [key for key in one if key.startswith("method.")]
            chosen += [
                dict(zip(keys, values, strict=True))
                for values in itertools.product(*map(one.__getitem__, keys))
            ]
    for _, settings in ablation.NAMED:
        assert {"method.name": "adapter", **settings} in chosen


def test_a_set_of_two_words_is_told_in_words() -> None:
    made = result(point(1e-2, OWN))
    task = made.tasks[0].model_copy(update={"split": "validation_matched"})
    told = ablation.heading(made, task, "MNLI-m")
    assert told == "MNLI-m, adapters 64: Matthews on validation matched by init std"
