"""Table 1 from a store of records: rows, statistics, differences, and what is kept apart."""

from __future__ import annotations

import io
import statistics
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from adaptertune import stats
from adaptertune.errors import StoreError
from adaptertune.report import comparison, evidence, page, words
from adaptertune.report.schema import Comparison
from adaptertune.report.tables import comparison as terminal
from adaptertune.runs.store import ablation as ablation_file
from adaptertune.runs.store import read_ablations, write_result
from tests.report.records import (
    add,
    change,
    compared,
    digest,
    entry,
    held_out,
    one_metric,
    only,
    row,
    swept,
    two_metrics,
)
from tests.report.test_ablation import point
from tests.report.test_ablation import result as ablation_result


def test_rows_and_columns_are_the_papers(tmp_path: Path) -> None:
    for method in ("full", "layernorm", "bitfit"):
        add(tmp_path, "rte", one_metric(0.6, 0.7), options={"method.name": method})
    top = {"method.name": "top_layers", "method.k": 1}
    add(tmp_path, "rte", one_metric(0.6), options=top)
    for size, score in ((8, 0.62), (64, 0.61), (256, 0.60)):
        add(tmp_path, "rte", one_metric(score), options={"method.size": size})
    shown = only(tmp_path)
    assert [row.label for row in shown.rows] == [
        "full fine-tuning",
        "adapters, best of 8/64/256",
        "adapters 64",
        "top layer",
        "LayerNorms only",
        "biases only (BitFit)",
    ]
    assert entry(shown, "adapters, best of 8/64/256", "RTE").mean == 0.62
    assert entry(shown, "adapters, best of 8/64/256", "RTE").settings["method.size"] == 8
    assert entry(shown, "adapters 64", "RTE").mean == 0.61


def test_means_deviations_and_differences_are_over_seeds(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.70, 0.72, 0.77), options={"method.name": "full"})
    add(tmp_path, "rte", one_metric(0.69, 0.70, 0.71))
    shown = only(tmp_path)
    found = entry(shown, "adapters 64", "RTE")
    assert found.mean == pytest.approx(0.70)
    assert found.deviation == pytest.approx(statistics.stdev([0.69, 0.70, 0.71]))
    assert found.best == 0.71
    assert found.n == 3
    (place,) = row(shown, "adapters 64").places
    assert place.beside is not None
    difference = place.beside.difference
    assert difference.mean == pytest.approx(-0.03)
    assert (difference.wins, difference.losses) == (0, 3)
    assert row(shown, "full fine-tuning").places[0].beside is None
    assert (row(shown, "adapters 64").wins, row(shown, "adapters 64").losses) == (0, 1)
    (sentence,) = shown.sentences
    assert "keep 95.9 % of full fine-tuning's score" in sentence
    assert "5.7 % of the encoder layers' parameters" in sentence


def test_of_one_seed_nothing_is_told_but_its_score(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    found = entry(only(tmp_path), "adapters 64", "RTE")
    assert found.mean == 0.7
    assert found.deviation is None
    assert found.interval is None
    assert found.standard_error is None


def test_the_best_runs_labels_are_compared(tmp_path: Path) -> None:
    true = np.array([0, 1] * 5)
    full = add(tmp_path, "rte", one_metric(0.70, 0.60), options={"method.name": "full"})
    ours = add(tmp_path, "rte", one_metric(0.60, 0.70))
    # The best seeds are 0 and 1: seven examples that only the first gets right, one the other way.
    for folder, seed, wrong in ((full, 0, [0]), (ours, 1, [1, 2, 3, 4, 5, 6, 7])):
        labels = true.copy()
        labels[wrong] = 1 - labels[wrong]
        logits = np.eye(2, dtype=np.float32)[labels]
        path = folder.seed(seed).logits
        save_file({"logits.validation": logits, "labels.validation": true}, path)
    shown = only(tmp_path)
    found = mcnemar_of(shown)
    assert isinstance(found, stats.McNemar)
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.p == pytest.approx(2 * (1 + 8) / 2**8)
    text = printed(shown)
    assert "best 1 : 7," in text
    assert "p 0.07" in text
    assert "single runs" in text
    page.write(compared(tmp_path), [], tmp_path, tmp_path / "page", "1")
    for name in ("report.md", "report.html"):
        assert "best 1 : 7, p 0.07" in (tmp_path / "page" / name).read_text()
    # Of other examples, or the same ones in another order, nothing is tested.
    logits = np.eye(2, dtype=np.float32)[true]
    tensors = {"logits.validation": logits, "labels.validation": 1 - true}
    save_file(tensors, ours.seed(1).logits)
    assert mcnemar_of(only(tmp_path)) == "the two answered other examples"
    ours.seed(1).logits.write_bytes(b"cut off")
    with pytest.raises(StoreError, match=r"logits.safetensors: damaged"):
        only(tmp_path)
    ours.seed(1).logits.unlink()
    shown = only(tmp_path)
    assert mcnemar_of(shown) == "the best seeds' answers are not kept"
    assert "No McNemar's test: the best seeds' answers are not kept (RTE)." in printed(shown)


def test_scores_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    scores = two_metrics("pearson", "spearman", (0.4, 0.5))
    add(tmp_path, "stsb", scores, options={"method.name": "full"})
    add(tmp_path, "stsb", scores)
    shown = only(tmp_path)
    assert mcnemar_of(shown) == "a score is neither right nor wrong"
    assert "neither right nor wrong (STS-B)" in printed(shown)


def mcnemar_of(shown: Comparison) -> stats.McNemar | str | None:
    """The test of adapters 64 on the first column, or why there is none."""
    beside = row(shown, "adapters 64").places[0].beside
    assert beside is not None
    return beside.best_runs or beside.untested


def printed(shown: Comparison) -> str:
    """The terminal's differences, on one line."""
    console = Console(file=io.StringIO(), width=110)
    console.print(terminal.differences(shown, console))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_parameters_and_shares_are_those_of_the_ledger(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "wnli", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.7), options={"method.name": "full"})
    shown = only(tmp_path)
    found = row(shown, "adapters 64")
    # MiniLM: 595,200 in adapters, 9,984 in LayerNorms, of 10,646,784 in the encoder layers; two tasks.
    assert found.trained == 605_184
    assert found.share_of_encoder_layers == pytest.approx(605_184 / 10_646_784)
    assert shown.num_tasks == 2
    assert found.multiple == pytest.approx(1 + 2 * 605_184 / 10_646_784)
    full = row(shown, "full fine-tuning")
    assert (full.multiple, full.share_of_encoder_layers, full.share_of_all_parameters) == (2, 1, 1)


def test_a_method_whose_seeds_all_diverged_has_no_score_and_no_average(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(None, None))
    shown = only(tmp_path)
    assert entry(shown, "adapters 64", "RTE").mean is None
    assert row(shown, "adapters 64").mean is None
    assert row(shown, "adapters 64").glue_average is None


def test_sample_and_glue_backbones_and_kept_epochs_are_never_in_one_table(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.9), sample=True)
    add(tmp_path, "rte", one_metric(0.8), backbone="bert-tiny")
    add(tmp_path, "rte", one_metric(0.6), options={"recipe": "official-code"})
    add(tmp_path, "rte", held_out(0.5), options={"protocol": "held-out"})
    shown = [group.comparison for group in compared(tmp_path)]
    assert [(one.title, one.rows[0].mean) for one in shown] == [
        ("Real data · bert-tiny", 0.8),
        ("Real data · minilm", 0.7),
        ("Real data · minilm · last epoch kept", 0.6),
        ("Real data · minilm · protocol held-out", 0.5),
        ("Sample data, not GLUE · minilm", 0.9),
    ]
    assert all(one.published for one in shown if not one.sample)
    assert not shown[-1].published
    assert shown[-1].rows[0].glue_average is None


def test_a_variant_on_some_tasks_only_is_no_row_but_is_mentioned(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "rte", one_metric(0.7), options={"method.init_std": 0.1})
    add(tmp_path, "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    shown = only(tmp_path)
    assert [row.label for row in shown.rows] == ["adapters 64"]
    assert shown.elsewhere == ["adapters 64, init std 0.1"]
    assert any("init std 0.1" in remark for remark in words.remarks(shown))


def test_what_ran_for_an_ablation_alone_is_in_no_row(tmp_path: Path) -> None:
    """Sizes on one task, all with the file of a sweep, as every ablation leaves one."""
    searched = add(tmp_path, "rte", one_metric(0.7))
    add(tmp_path, "wnli", one_metric(0.5), options={"training.epochs": 2})
    swept(tmp_path, searched, seeds=1)
    sizes = [
        add(tmp_path, "rte", one_metric(score), options={"method.size": size})
        for size, score in ((1, 0.9), (2, 0.8))
    ]
    plain = add(tmp_path, "rte", one_metric(0.6), options={"training.epochs": 3})
    cells = [*sizes, plain]
    points = [
        point(float(number), (0.5,), digest=digest(cell), reference=2 if number < 2 else None)
        for number, cell in enumerate(cells)
    ]
    of_sweep = swept(tmp_path, *cells, seeds=1, name="size")
    made = ablation_result(*points, by="method.size").model_copy(
        update={"cells": of_sweep.cells, "config": of_sweep.config, "digest": of_sweep.digest}
    )
    write_result(ablation_file(tmp_path, "size", made.digest), made)
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    shown = group.comparison
    assert [row.label for row in shown.rows] == ["adapters 64"]
    # The reference point is a candidate like the sweep's own.
    assert entry(shown, "adapters 64", "RTE").num_candidates == 2
    assert entry(shown, "adapters 64", "RTE").mean == 0.7
    assert shown.of_ablations == ["adapters 1", "adapters 2"]
    assert any("2 methods (sizes and variants counted)" in one for one in words.remarks(shown))
    assert {run.cell.digest for run in page.overview(group)} >= {digest(cell) for cell in sizes}


@pytest.mark.parametrize("compared", [True, False])
def test_a_task_with_an_ablation_alone_is_no_column_of_holes(
    tmp_path: Path, compared: bool
) -> None:
    """But where nothing else is there, the method as it is stands in a row."""
    if compared:
        add(tmp_path, "rte", one_metric(0.7))
    cells = [
        add(tmp_path, "wnli", one_metric(0.5), options={"method.size": size}) for size in (1, 64)
    ]
    points = [
        point(float(number), (0.5,), digest=digest(cell), reference=1 if number < 1 else None)
        for number, cell in enumerate(cells)
    ]
    of_sweep = swept(tmp_path, *cells, seeds=1, name="size")
    made = ablation_result(*points, by="method.size").model_copy(
        update={"cells": of_sweep.cells, "config": of_sweep.config, "digest": of_sweep.digest}
    )
    write_result(ablation_file(tmp_path, "size", made.digest), made)
    (group,) = comparison.compare(evidence.read(tmp_path)[0], read_ablations(tmp_path))
    shown = group.comparison
    assert [column.task for column in shown.columns] == ["rte" if compared else "wnli"]
    assert [row.label for row in shown.rows] == ["adapters 64"]
    assert shown.of_ablations == ["adapters 1"]
    assert {run.cell.digest for run in page.overview(group)} >= {digest(cell) for cell in cells}


def test_full_fine_tuning_at_each_rate_is_an_ablation_and_no_search(tmp_path: Path) -> None:
    rates = (1e-5, 1e-4)
    cells = [
        add(
            tmp_path, "rte", one_metric(0.6),
            options={"method.name": name, "training.learning_rate": rate},
        )
        for name in ("adapter", "full")
        for rate in rates
    ]  # fmt: skip
    points = [
        point(rate, (0.5,), digest=digest(cells[number]), method=name, reference=reference)
        for number, (name, rate, reference) in enumerate(
            (
                ("adapter-64", 1e-5, 2), ("adapter-64", 1e-4, 3),
                ("full", 1e-5, None), ("full", 1e-4, None),
            )
        )
    ]  # fmt: skip
    listed = [digest(cell) for cell in cells]
    made = ablation_result(*points).model_copy(update={"cells": listed})
    (group,) = comparison.compare(evidence.read(tmp_path)[0], [made])
    assert group.comparison.rows == []
    console = Console(file=io.StringIO(), width=100)
    terminal.comparisons([group], console)
    assert isinstance(console.file, io.StringIO)
    assert "ran for them alone" in " ".join(console.file.getvalue().split())
    page.write([group], [], tmp_path, tmp_path / "report", "1")
    assert (tmp_path / "report" / "report.html").is_file()
    text = (tmp_path / "report" / "report.md").read_text()
    assert "ran for them alone" in text
    assert "parameters, " not in text
    assert "### Time and memory of" not in text


def test_the_sentence_is_about_the_seeds_that_both_have(tmp_path: Path) -> None:
    """As the difference is: the others are not in it."""
    add(tmp_path, "rte", one_metric(0.80, 0.80, 0.20, 0.20), options={"method.name": "full"})
    add(tmp_path, "rte", one_metric(0.76, 0.76))
    shown = only(tmp_path)
    (sentence,) = shown.sentences
    assert (
        "keep 95.0 % of full fine-tuning's score (76.0 against 80.0, RTE on validation, 2 seeds)"
        in sentence
    )
    (place,) = row(shown, "adapters 64").places
    assert place.beside is not None
    assert place.beside.difference.mean == pytest.approx(-0.04)


def test_equal_scores_are_a_tie_however_they_came_about(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.3, 0.3), options={"method.name": "full"})
    add(tmp_path, "rte", one_metric(0.1 + 0.2, 0.3))  # 0.30000000000000004
    found = row(only(tmp_path), "adapters 64")
    assert (found.wins, found.losses) == (0, 0)
    assert found.places[0].beside is not None
    assert found.places[0].beside.difference.ties == 2


@pytest.mark.parametrize("key", ["training.max_length", "training.batch_size", "training.warmup"])
def test_a_row_is_held_against_what_is_trained_alike_or_nothing(tmp_path: Path, key: str) -> None:
    own, other = {"training.warmup": (0.2, 0.1)}.get(key, (16, 64))
    add(tmp_path, "rte", one_metric(0.7), options={key: own})
    add(tmp_path, "rte", one_metric(0.9), options={key: other, "method.name": "full"})
    (found,) = [one for one in only(tmp_path).rows if one.method == "adapter"]
    assert found.places[0].beside is None
    assert found.places[0].cost is not None
    assert found.places[0].cost.time_of_full is None
    assert only(tmp_path).sentences == []
    add(tmp_path, "rte", one_metric(0.8), options={key: own, "method.name": "full"})
    (found,) = [one for one in only(tmp_path).rows if one.method == "adapter"]
    assert found.places[0].beside is not None
    assert found.places[0].beside.difference.mean == pytest.approx(-0.1)


def test_the_precision_that_few_have_is_the_variant(tmp_path: Path) -> None:
    for task in ("rte", "wnli"):
        for name in ("full", "adapter"):
            folder = add(tmp_path, task, one_metric(0.7), options={"method.name": name})
            change(folder, 0, precision="bf16")
    add(tmp_path, "rte", one_metric(0.6), options={"training.learning_rate": 1e-2})  # fp32
    add(tmp_path, "wnli", one_metric(0.6), options={"training.learning_rate": 1e-2})
    shown = only(tmp_path)
    labels = ["full fine-tuning", "adapters 64", "adapters 64, precision fp32"]
    assert [row.label for row in shown.rows] == labels
    assert [bool(row.places[0].beside) for row in shown.rows] == [False, True, False]
