"""Which figures there are, and that their points are the statistics of the records."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptertune import stats
from adaptertune.report import charts, comparison, evidence, figures
from adaptertune.report.comparison.columns import task_names
from adaptertune.report.figures import Figure
from adaptertune.report.tables import number
from adaptertune.runs.store import ablation as ablation_file
from adaptertune.runs.store import read_ablations, write_result
from tests.report.records import add, digest, one_metric, swept
from tests.report.test_ablation import point
from tests.report.test_ablation import result as ablation_result

SEEDS = (0.60, 0.64, 0.71)


def drawn(root: Path) -> dict[str, Figure]:
    (group,) = comparison.compare(evidence.read(root)[0])
    return {
        figure.name.removeprefix(f"{group.comparison.name}-"): figure
        for figure in figures.figures(group)
    }


def data(figure: Figure) -> list[dict[str, Any]]:
    """All points of a figure, whichever layer they are in."""
    return [row for rows in figure.spec["datasets"].values() for row in rows]


def test_error_bars_are_a_standard_error_and_there_are_none_of_one_seed(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(*SEEDS))
    add(tmp_path, "rte", one_metric(0.7), options={"method.name": "full"})
    points = {row["series"]: row for row in data(drawn(tmp_path)["rte-parameters"])}
    ours = points["adapters"]
    mean, error = statistics.fmean(SEEDS), statistics.stdev(SEEDS) / 3**0.5
    assert ours["x"] == 605_184
    assert ours["y"] == pytest.approx(100 * mean)
    assert (ours["low"], ours["high"]) == pytest.approx(
        (100 * (mean - error), 100 * (mean + error))
    )
    assert points["full fine-tuning"]["low"] is None
    assert points["full fine-tuning"]["x"] == 22_713_216


def test_each_size_is_a_point_at_its_best_rate(tmp_path: Path) -> None:
    for size, rate, score in ((8, 1e-4, 0.5), (8, 1e-3, 0.6), (64, 1e-3, 0.7), (64, 1e-4, 0.4)):
        options = {"method.size": size, "training.learning_rate": rate}
        add(tmp_path, "rte", one_metric(score), options=options)
    points = sorted((row["x"], row["y"]) for row in data(drawn(tmp_path)["rte-parameters"]))
    assert [y for _, y in points] == pytest.approx([60, 70])


def test_an_ablation_is_a_chart_and_a_table_of_its_file(tmp_path: Path) -> None:
    """And its variants have no row beside the paper's adapters, unless others ran them too."""
    folders = [
        add(tmp_path, "rte", one_metric(*SEEDS), options={"method.init_std": std})
        for std in (1e-2, 1e-1, 1.0)
    ]
    digests = [digest(one) for one in folders]
    plain = ablation_result(
        point(1e-2, (0.6, 0.7), digest=digests[0]),
        point(1e-1, (0.5, 0.5), digest=digests[1], reference=0, collapsed=[0, 1]),
    )
    made = plain.model_copy(update={"cells": digests[:2], "digest": "0123456789abcdef"})
    write_result(ablation_file(tmp_path, "init", made.digest), made)
    assert read_ablations(tmp_path) == [made]
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    shown = group.comparison
    assert [row.label for row in shown.rows] == ["adapters 64", "adapters 64, init std 1"]
    assert shown.of_ablations == ["adapters 64, init std 0.1"]
    (figure,) = (one for one in figures.figures(group) if one.chapter == "Ablations")
    assert figure.name == f"{shown.name}-ablate-init-012345-cola"
    points = [value for row in data(figure) for value in (row["x"], row["y"], row["low"])]
    error = 100 * statistics.stdev([0.6, 0.7]) / 2**0.5
    assert points == pytest.approx([0.01, 65, 65 - error, 0.1, 50, 50])
    assert [row["hollow"] for row in data(figure)] == [False, True]
    assert "A white centre: of its seeds some answer the same" in figure.caption
    assert figure.table == {
        "init std": ["1e-2", "0.1"],
        "Matthews": ["65.0 ± 5.0", "50.0 ± 0.0"],
        "accuracy": ["71.0", "71.0"],
        "difference to 1e-2": ["", "-15.0"],
        "± s.e.m.": ["", "5.0"],
    }
    # A sweep's result lists it too: it is a row again.
    swept(tmp_path, folders[1], seeds=3)
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    assert len(group.comparison.rows) == 3
    assert group.comparison.of_ablations == []
    # An ablation of another store's runs, or of none, is not shown.
    (other,) = comparison.compare(
        evidence.read(tmp_path)[0], [made.model_copy(update={"cells": ["f"]})]
    )
    assert not other.ablations
    assert len(other.comparison.rows) == 3


def test_an_ablation_without_any_score_has_no_picture(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(*SEEDS))
    without = point(1e-2, (), digest=digest(folder))
    made = ablation_result(without).model_copy(update={"cells": [digest(folder)]})
    write_result(ablation_file(tmp_path, "init", made.digest), made)
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    assert group.ablations
    assert "Ablations" not in {one.chapter for one in figures.figures(group)}


def test_an_ablations_task_has_the_name_of_its_column(tmp_path: Path) -> None:
    """Or its own, if its runs are gone."""
    one_seed = {0: {"validation": {"matthews": 0.6, "accuracy": 0.8}}}
    digests = [digest(add(tmp_path, task, one_seed)) for task in ("cola", "rte")]
    fingerprint = evidence.read(tmp_path)[0][0].facts.data.fingerprint
    titles = []
    for gone in range(2):
        made = ablation_result(point(1e-2, (0.6, 0.7), digest=digests[0]), rows=fingerprint)
        made = made.model_copy(update={"cells": digests})
        (group,) = comparison.compare(evidence.read(tmp_path)[0][gone:], [made])
        titles += [one.title for one in figures.figures(group) if one.chapter == "Ablations"]
    assert [title.partition(",")[0] for title in titles] == ["CoLA", "cola"]


def test_an_ablation_has_the_name_of_its_own_set_of_rows(tmp_path: Path) -> None:
    one_seed = {0: {"validation": {"matthews": 0.6, "accuracy": 0.8}}}
    for rows in ("all", "part"):
        partial = rows == "part"
        folder = add(tmp_path, "cola", one_seed, rows=rows, partial=partial)
        made = ablation_result(
            point(1e-2, (0.6, 0.7), digest=digest(folder)), rows=f"sha256:{rows}-cola"
        )
        write_result(
            ablation_file(tmp_path, "init", rows),
            made.model_copy(update={"cells": [digest(folder)]}),
        )
        other = {"training.learning_rate": 3e-3}  # that ran for itself, so that there is a column
        add(tmp_path, "cola", one_seed, rows=rows, partial=partial, options=other)
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    titles = [one.title for one in figures.figures(group) if one.chapter == "Ablations"]
    labels = {column.data.fingerprint: column.label for column in group.comparison.columns}
    for title, rows in zip(titles, ("all", "part"), strict=True):
        assert title.startswith(labels[f"sha256:{rows}-cola"])
    assert len(set(labels.values())) == 2


def test_a_task_of_ones_own_with_a_shipped_name_has_pictures_and_times_of_its_own(
    tmp_path: Path,
) -> None:
    add(tmp_path, "rte", one_metric(*SEEDS))
    own = add(tmp_path, "rte", one_metric(0.9, 0.8), rows="own")
    described = json.loads(own.config.read_text())
    described["config"]["task"] = "own/rte.yaml"
    own.config.write_text(json.dumps(described))
    (group,) = comparison.compare(evidence.read(tmp_path)[0])
    assert {column.label for column in group.comparison.columns} == {"RTE", "rte"}
    names = [one.name for one in figures.figures(group)]
    assert len(set(names)) == len(names)
    assert {"data-1-rte-seeds", "data-1-rte-seeds-2"} <= set(names)
    assert set(task_names(group.comparison.columns)) == {"RTE", "rte"}


def test_variants_are_rows_with_their_seeds(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(*SEEDS))
    made = ablation_result(
        point(None, SEEDS, chosen={"method.name": "adapter"}),
        point(None, (), chosen={"method.norm": "batch"}, diverged=[0], reference=0),
        point(None, SEEDS, chosen={"method.norm": "layer"}, collapsed=[1], reference=0),
        by=None,
    )
    digest = json.loads(folder.config.read_text())["digest"]
    ablations = [made.model_copy(update={"kind": "variants", "cells": [digest]})]
    (group,) = comparison.compare(evidence.read(tmp_path)[0], ablations)
    (figure,) = (one for one in figures.figures(group) if one.chapter == "Ablations")
    rows = data(figure)
    assert [row["series"] for row in rows if "mean" in row] == ["adapters 64", "layer norm"]
    assert [row["remark"] for row in rows if row.get("seed") == "1"] == ["finished", "collapsed"]
    assert figure.table["method"] == ["adapters 64", "batch norm", "layer norm"]
    assert figure.table["Matthews"][1] == "no score"
    assert "Diverged (without a score): batch norm (1 seed)." in figure.caption
    (first, _) = [row for row in rows if "mean" in row]
    error = 100 * statistics.stdev(SEEDS) / 3**0.5
    assert first["mean"] - first["low"] == pytest.approx(error)
    assert "the bar ± 1 standard error" in figure.caption


def test_the_overview_is_the_median_task_with_its_percentiles(tmp_path: Path) -> None:
    differences = [0.01, -0.02, -0.04, 0.03, -0.01]
    for task, difference in zip(("rte", "qnli", "wnli", "sst2"), differences, strict=False):
        add(tmp_path, task, one_metric(0.7), options={"method.name": "full"})
        add(tmp_path, task, one_metric(0.7 + difference))
    points = {row["series"]: row for row in data(drawn(tmp_path)["overview"])}
    expected = 100 * np.percentile(differences[:4], [20, 50, 80])
    ours = points["adapters"]
    assert [ours["low"], ours["y"], ours["high"]] == pytest.approx(expected)
    assert points["full fine-tuning"]["y"] == 0


def written(spec: charts.Spec) -> list[str]:
    """All text in a chart, the x axis's first."""
    return re.findall(r">([^<>]+)</text>", charts.svg(spec, "", []))


def test_of_one_value_the_axis_tells_it_as_it_is() -> None:
    """Vega would write 53 below 52.5."""
    dots = [charts.Dot(series="a", seed=str(n), x=52.5, remark="finished") for n in range(2)]
    means = [charts.Summary(series="a", mean=52.5, low=None, high=None, note="52.5")]
    made = charts.dots(dots, means, charts.Axis("accuracy"), {"a": 0})
    axes = [
        layer["encoding"]["x"]["axis"]
        for layer in made["layer"]
        if "axis" in layer["encoding"]["x"]
    ]
    assert [(axis["values"], axis["format"]) for axis in axes] == [([52.5], ".4~g")]
    points = [charts.Point("a", x, 52.5, None, None, "") for x in (1, 2)]
    texts = written(charts.curves(points, charts.Axis("x"), charts.Axis("y"), {"a": 0}))
    assert "52.5" in texts
    assert "53" not in texts


@pytest.mark.parametrize(
    ("last", "expected"),
    [(1, "1"), (6, "1 2 3 4 5 6"), (20, "2 4 6 8 10 12 14 16 18 20"), (25, "5 10 15 20 25")],
)
def test_an_axis_of_epochs_begins_and_ends_with_them(last: int, expected: str) -> None:
    """Vega's own would begin below 1, for the scale is wider than its points."""
    points = [charts.Point("a", x, 0.1 * x, None, None, "") for x in range(1, last + 1)]
    axis = charts.Axis("epoch", integer=True)
    texts = written(charts.curves(points, axis, charts.Axis("score"), {"a": 0}))
    assert texts[: texts.index("epoch")] == expected.split()


def test_an_axis_of_values_writes_them_as_tables_do() -> None:
    values = (1e-5, 1e-3, 0.003, 0.05, 0.1, 0.5, 64.0)
    points = [charts.Point("a", x, float(place), None, None, "") for place, x in enumerate(values)]
    axis = charts.Axis("value", log=True, at_values=True)
    texts = written(charts.curves(points, axis, charts.Axis("score"), {"a": 0}))
    assert set(map(number, values)) <= set(texts)


def test_seeds_are_dots_with_their_state_and_the_mean_has_its_interval(tmp_path: Path) -> None:
    scores = (*SEEDS, 0.66, 0.65)
    add(tmp_path, "rte", one_metric(*scores, None), collapsed=[1])
    figure = drawn(tmp_path)["rte-seeds"]
    rows = data(figure)
    dots = {row["seed"]: (row["x"], row["remark"]) for row in rows if "seed" in row}
    assert dots.pop("1") == (64, "collapsed")
    assert dots == {str(seed): (100 * scores[seed], "finished") for seed in (0, 2, 3, 4)}
    (summary,) = [row for row in rows if "mean" in row]
    between = stats.mean_interval(scores)
    assert between is not None
    assert (summary["low"], summary["high"]) == (100 * between.low, 100 * between.high)
    assert "needs 5 seeds and is too narrow for few" in figure.caption
    assert "adapters 64: 1 seed diverged, without a score." in figure.caption


def test_learning_curves_are_means_over_seeds_with_the_seeds_behind(tmp_path: Path) -> None:
    options = {"training.epochs": 2, "training.learning_rate": 3e-4}
    add(tmp_path, "rte", one_metric(0.6, 0.8), options=options)
    rows = data(drawn(tmp_path)["rte-learning"])
    name = "adapters 64, rate 3e-4"
    means = {row["x"]: row["y"] for row in rows if row["line"] == name}
    assert means == pytest.approx({1: 35, 2: 70})
    assert {row["line"] for row in rows} == {name, f"{name} 0", f"{name} 1"}


def test_a_picture_that_stands_alone_says_what_is_drawn(tmp_path: Path) -> None:
    for task in ("rte", "qnli", "wnli"):
        add(tmp_path, task, one_metric(*SEEDS), options={"method.name": "full"})
        for rate in (1e-4, 3e-4, 1e-3):
            add(tmp_path, task, one_metric(*SEEDS), options={"training.learning_rate": rate})
    rates = [
        add(tmp_path, "rte", one_metric(*SEEDS), options={"training.learning_rate": rate})
        for rate in (1e-5, 3e-5)
    ]
    points = [point(value, SEEDS, digest=digest(one)) for value, one in enumerate(rates)]
    for by in ("training.learning_rate", None):
        made = ablation_result(*points, by=by).model_copy(update={"cells": [digest(rates[0])]})
        write_result(ablation_file(tmp_path, "lr", str(by)), made)
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    told = {
        (one.name.rpartition("-")[2], one.chapter): one.subtitle[2]
        for one in figures.figures(group)
    }
    kinds = {name: said for (name, chapter), said in told.items() if chapter != "Ablations"}
    assert kinds["1"].startswith("means over seeds")
    assert (
        kinds["overview"] == "median of 3 sets, bars from the 20th to the 80th percentile of sets"
    )
    assert kinds["parameters"].startswith("means over seeds, ± 1 standard error")
    assert "95 % bootstrap intervals" in kinds["seeds"]
    assert {"learning", "time"} <= set(kinds)
    of_ablations = {one.subtitle[2] for one in figures.figures(group) if one.chapter == "Ablations"}
    assert of_ablations == {
        "means over seeds, ± 1 standard error · 3 seeds, 6 epochs",
        "rings: seeds; crosses: collapsed; ticks: means; bars: ± 1 standard error · 3 seeds, 6 epochs, "
        "rates 1e-5 to 3e-5",
    }


def test_a_series_has_one_colour_in_all_figures(tmp_path: Path) -> None:
    for name in ("full", "layernorm", "bitfit", "adapter"):
        add(tmp_path, "rte", one_metric(0.6, 0.8), options={"method.name": name})
    add(tmp_path, "wnli", one_metric(0.6, 0.8), options={"method.name": "bitfit"})
    # An ablation too, which has them in another order.
    rate = add(tmp_path, "rte", one_metric(0.1), options={"training.learning_rate": 3e-3})
    both = [point(1e-3, (0.6, 0.8), method=name) for name in ("adapter-64", "full")]
    made = ablation_result(*both, by="training.learning_rate")
    made = made.model_copy(update={"cells": [digest(rate)]})
    write_result(ablation_file(tmp_path, "lr", "rates"), made)

    def colours(spec: Any) -> set[tuple[str, str]]:
        if isinstance(spec, list):
            return set().union(*map(colours, spec))
        if not isinstance(spec, dict):
            return set()
        found = set().union(*map(colours, spec.values()))
        colour = spec.get("color")
        if isinstance(colour, dict) and colour.get("type") == "nominal":  # and not an amount's
            scale = colour["scale"]
            found |= set(zip(scale["domain"], scale["range"], strict=True))
        return found

    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    found = figures.figures(group)
    assert [one.chapter for one in found].count("Ablations") == 1
    pairs = set().union(*(colours(figure.spec) for figure in found))
    by_family = {name.removesuffix(" 64"): colour for name, colour in pairs}
    assert len({(name.removesuffix(" 64"), colour) for name, colour in pairs}) == len(by_family)
    assert len(set(by_family.values())) == 4


@pytest.mark.parametrize("others", [(), ("full",), ("full", "top_layers", "layernorm", "bitfit")])
def test_what_points_are_held_against_has_another_colour(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    """Its method's own, and no two blues, however many methods there are."""
    for name in ("adapter", *others):
        options = {"method.name": name} | ({"method.k": 1} if name == "top_layers" else {})
        add(tmp_path, "rte", one_metric(0.6, 0.8), options=options)
    listed = add(tmp_path, "rte", one_metric(0.1), options={"training.learning_rate": 3e-3})
    points = [
        point(None, SEEDS, chosen={"method.name": "adapter"}),
        point(None, SEEDS, chosen={"method.norm": "batch"}, reference=0),
        point(None, SEEDS, chosen={"method.norm": "layer"}, reference=0),
    ]
    made = ablation_result(*points, by=None).model_copy(update={"cells": [digest(listed)]})
    write_result(ablation_file(tmp_path, "variants", "all"), made)
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    (figure,) = [one for one in figures.figures(group) if one.chapter == "Ablations"]
    scale = figure.spec["layer"][0]["encoding"]["color"]["scale"]
    shown = dict(zip(scale["domain"], scale["range"], strict=True))
    own, *varied = shown.values()
    assert next(iter(shown)).startswith("adapters")
    assert len(varied) == 2
    assert {own, *varied} == ({"#E69F00", "#56B4E9"} if others else {"#0072B2", "#E69F00"})


def test_alternative_text_names_every_value_and_the_sample(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(*SEEDS), sample=True)
    add(tmp_path, "rte", one_metric(0.7), options={"method.name": "full"}, sample=True)
    figure = drawn(tmp_path)["rte-parameters"]
    assert "sample data, not GLUE" in figure.title
    for text in (
        "sample data, not GLUE",
        "adapters 64: 65.0 ± 3.2, 3 seeds",
        "full fine-tuning: 70.0",
    ):
        assert text in figure.alt


def test_colours_can_be_told_apart_with_any_kind_of_colour_vision() -> None:
    """Distances in Lab of what people without one kind of cone see (Viénot et al. 1999)."""
    blind = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in charts.COLOURS])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for matrix in (np.eye(3), *map(np.array, blind.values())):
        lab = _lab(np.clip(linear @ matrix.T, 0, 1))
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
        assert distances[np.triu_indices(len(lab), 1)].min() > 15


def _lab(linear: Any) -> Any:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    ratio = linear @ to_xyz.T / np.array([0.9505, 1, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


def test_a_heatmap_for_each_metric_of_a_run_whose_spans_were_removed(tmp_path: Path) -> None:
    from tests.report.test_heatmap import result

    folder = add(tmp_path, "cola", {0: {"validation": {"matthews": 0.6, "accuracy": 0.8}}})
    assert not any(name.startswith("spans") for name in drawn(tmp_path))
    write_result(folder.spans, result())
    found = [figure for name, figure in drawn(tmp_path).items() if name.startswith("spans")]
    assert [figure.title.partition(" without")[0] for figure in found] == [
        "CoLA: Matthews", "CoLA: accuracy",
    ]  # fmt: skip
    assert "layers 0 to 1: -50.0 %" in found[0].alt
    assert "Mean over 2 seeds" in found[0].caption


def test_a_heatmap_says_that_its_run_saw_a_part_of_the_training_set(tmp_path: Path) -> None:
    from tests.report.test_heatmap import result

    folder = add(tmp_path, "rte", one_metric(0.6, 0.7), partial=True)
    write_result(folder.spans, result())
    titles = [one.title for name, one in drawn(tmp_path).items() if name.startswith("spans")]
    assert len(titles) == 2
    assert all("partial training set, 800 of 2,490" in title for title in titles)


def test_a_heatmap_of_a_task_that_is_no_column(tmp_path: Path) -> None:
    """Its run was an ablation's alone, so Table 1 leaves it out."""
    from tests.report.test_heatmap import result

    add(tmp_path, "rte", one_metric(0.7))
    folder = add(tmp_path, "cola", {0: {"validation": {"matthews": 0.6, "accuracy": 0.8}}})
    write_result(folder.spans, result())
    cells = evidence.read(tmp_path)[0]
    made = ablation_result(point(1.0, (0.5,), digest=digest(folder)), by="method.size")
    made = made.model_copy(update={"cells": [digest(folder)]})
    (group,) = comparison.compare(cells, [made])
    assert [column.task for column in group.comparison.columns] == ["rte"]
    assert any("spans" in figure.name for figure in figures.figures(group))


def test_table_1_is_coloured_by_the_paired_difference_and_grey_without_one(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.70, 0.60), options={"method.name": "full"})
    add(tmp_path, "rte", one_metric(0.65, 0.61))
    add(tmp_path, "wnli", one_metric(0.5, 0.5))
    squares = {(row["row"], row["column"]): row for row in data(drawn(tmp_path)["table-1"])}
    assert squares["adapters 64", "RTE"]["change"] == pytest.approx(100 * (0.63 - 0.65))
    assert squares["adapters 64", "RTE"]["text"] == "63.0"
    assert squares["full fine-tuning", "RTE"]["change"] is None
    assert squares["adapters 64", "WNLI"]["change"] is None
    assert squares["full fine-tuning", "WNLI"]["text"] == "–"


def test_a_search_is_worth_the_expected_best_of_n_candidates_by_the_first_seed(
    tmp_path: Path,
) -> None:
    for name, scores in (("full", (0.5, 0.6, 0.7)), ("adapter", (0.4, 0.6, 0.8))):
        for rate, score in zip((1e-4, 3e-4, 1e-3), scores, strict=True):
            options = {"method.name": name, "training.learning_rate": rate}
            # Only one of them, the chosen one, was run with a second seed.
            seeds = (score, 0.9) if rate == 1e-3 else (score,)
            add(tmp_path, "rte", one_metric(*seeds), options=options)
    points = {(row["series"], row["x"]): row["y"] for row in data(drawn(tmp_path)["rte-search"])}
    assert points["full fine-tuning", 1] == pytest.approx(60)
    # Of two draws of three: the least with 1/9, the middle with 3/9, the largest with 5/9.
    assert points["adapters", 2] == pytest.approx((40 * 1 + 60 * 3 + 80 * 5) / 9)
    assert points["adapters", 3] == pytest.approx((40 * 1 + 60 * 7 + 80 * 19) / 27)
    assert ("adapters", 4) not in points


def test_no_two_of_many_series_have_colour_and_shape_in_common() -> None:
    names = [f"method {number}" for number in range(20)]
    points = [charts.Point(name, number, 1.0, None, None, "") for number, name in enumerate(names)]
    order = {name: number for number, name in enumerate(names)}
    spec = charts.curves(points, charts.Axis("x"), charts.Axis("y"), order)
    scales = {
        key: one["encoding"][key]["scale"]
        for one in spec["layer"]
        for key in ("color", "shape")
        if key in one["encoding"]
    }
    assert scales["color"]["domain"] == scales["shape"]["domain"] == names
    assert len(set(zip(scales["color"]["range"], scales["shape"]["range"], strict=True))) == 20


def test_each_of_a_tasks_sets_of_rows_has_pictures_of_its_own(tmp_path: Path) -> None:
    for rows, score in (("all", 0.7), ("part", 0.5)):
        add(tmp_path, "rte", one_metric(score, score + 0.1), rows=rows, partial=rows == "part")
        options = {"method.name": "full"}
        add(tmp_path, "rte", one_metric(score, score), rows=rows, options=options)
    (group,) = comparison.compare(evidence.read(tmp_path)[0])
    made = figures.figures(group)
    assert len({figure.name for figure in made}) == len(made)
    seeds = {figure.name: figure for figure in made if figure.name.endswith("-seeds")}
    means = [row["mean"] for figure in seeds.values() for row in data(figure) if "mean" in row]
    assert sorted(means) == pytest.approx([50, 55, 70, 75])


def test_what_trained_for_other_epochs_is_named_beside_the_parameters(tmp_path: Path) -> None:
    """And only those of equal epochs are joined: the rest of the difference is not the size's."""
    for size, epochs in ((8, 1), (64, 20), (256, 1)):
        options = {"method.size": size, "training.epochs": epochs}
        add(tmp_path, "rte", one_metric(*SEEDS), options=options)
    mixed = drawn(tmp_path)["rte-parameters"]
    lines = [(row["line"], row["beside"]) for row in data(mixed)]
    assert lines[0] == lines[2] == ("adapters, 1 epoch", "1 ep.")
    assert lines[1] == ("adapters, 20 epochs", "20 ep.")
    assert "Lines join what was trained for the same number of epochs." in mixed.caption
    assert mixed.title == "RTE · 1 to 20 epochs"
    assert "adapters 64 (20 epochs): 65.0" in mixed.alt
    assert "adapters 8 (1 epoch): 65.0" in mixed.alt
    for method in ("adapter", "full"):
        same: dict[str, Any] = {"method.name": method, "training.epochs": 3}
        add(tmp_path, "mrpc", {0: {"validation": {"f1": 0.8, "accuracy": 0.7}}}, options=same)
    alike = drawn(tmp_path)["mrpc-parameters"]
    assert alike.title == "MRPC"
    assert {row["beside"] for row in data(alike)} == {""}
    assert "Lines join" not in alike.caption


def test_a_long_title_does_not_widen_the_picture(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(*SEEDS))
    add(tmp_path, "rte", one_metric(0.7), options={"method.name": "full"})
    spec = drawn(tmp_path)["rte-parameters"].spec

    def size(title: str) -> tuple[int, int]:
        found = re.search(r'viewBox="0 0 (\d+) (\d+)"', charts.svg(spec, title, ["one"]))
        assert found is not None
        return int(found[1]), int(found[2])

    short, long = size("RTE"), size("partial training set, " * 6)
    assert long[0] == short[0]
    assert long[1] > short[1]
