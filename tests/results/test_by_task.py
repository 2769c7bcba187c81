"""The page's part by task is what the result files say."""

from __future__ import annotations

import statistics

from adaptertune.report.tables import METRIC_NAMES
from tests.results.cells import (
    CHOSEN,
    ahead,
    ahead_at_last,
    as_rate,
    fit,
    held_out,
    in_fp32,
    only,
    pair,
    score,
    scores,
    signed,
    spread,
    study_cells,
    usual_cells,
)


def test_the_table(told: str) -> None:
    shown = {"MNLI": "MNLI-m"}
    fallen = pair("STS-B, 6")[0]
    assert [seed.seed for seed in fallen.seeds if seed.scores["validation"].collapsed] == [0]
    others = "one seed of adapters collapsed ({:.1f}), and the other four have {:.1f}."
    assert others.format(scores(fallen)[0], statistics.fmean(scores(fallen)[1:])) in told
    for name, (_, epochs, *rates) in CHOSEN.items():
        task, adapters = name.partition(",")[0], pair(name)[0]
        cells = [
            f"{shown.get(task, task)}, {METRIC_NAMES[adapters.headline]}",
            str(epochs),
            " / ".join(map(as_rate, rates)),
            *map(spread, pair(name)),
            signed(ahead(name)),
            signed(ahead_at_last(name)),
            fit(name),
        ]
        assert f"| {' | '.join(cells)} |" in told
    wnli = [cell for cell in usual_cells() if cell.facts.task == "wnli" and len(cell.seeds) == 5]
    collapsed = [seed.scores["validation"].collapsed for cell in wnli for seed in cell.seeds]
    assert (len(collapsed), sum(collapsed)) == (20, 19)


def test_the_held_out_protocol(told: str) -> None:
    shown = {"RTE": "RTE, accuracy", "MRPC": "MRPC, F1"}
    for name, label in shown.items():
        cells = [held_out(name.lower(), method) for method in ("adapter", "full")]
        rates = " / ".join(as_rate(cell.config["training"]["learning_rate"]) for cell in cells)
        adapters, full = (statistics.fmean(scores(cell)) for cell in cells)
        of_row = rates, *map(spread, cells), signed(adapters - full), signed(ahead(name))
        assert f"| {label} | {' | '.join(of_row)} |" in told
        assert (adapters < full) == (name == "RTE")
        assert name != "RTE" or max(adapters, full) < min(
            statistics.fmean(scores(cell)) for cell in pair(name)
        )
    (failed,) = (
        cell
        for cell in study_cells()
        if cell.facts.task == "mrpc" and cell.config["protocol"] == "held-out"
        if cell.config["method"]["name"] == "adapter"
        if cell.config["training"]["learning_rate"] == 1e-3
    )
    assert [seed.scores["held-out"].collapsed for seed in failed.seeds] == [True]


def test_what_the_figures_can_bear(told: str) -> None:
    for name in ("MRPC", "RTE", "CoLA, 6", "CoLA, 20"):
        assert ahead_at_last(name) < ahead(name)
    smaller = [
        score(6, 1e-3, "adapter", size, "rte") - score(6, 3e-5, "full", None, "rte")
        for size in (8, 256)
    ]
    assert "sizes 8 and 256 adapters are {:.1f} and {:.1f} ahead".format(*smaller) in told
    assert round(ahead("RTE") * 2.77) == 10
    assert f"{ahead('RTE'):.1f} points are ten answers" in told
    assert [seed.kept_epoch for seed in pair("RTE")[1].seeds].count(6) == 4
    assert f"adapters were {-ahead('CoLA, 6'):.1f} behind there" in told
    epochs = {"cola": 6, "rte": 6, "mrpc": 6, "stsb": 3}
    tried = {
        (name, k, task): sorted(
            cell.config["training"]["learning_rate"]
            for cell in usual_cells()
            if (cell.facts.task, cell.config["training"]["epochs"]) == (task, epochs[task])
            if (cell.config["method"]["name"], cell.config["method"].get("k")) == (name, k)
        )
        for name, k in (("full", None), ("layernorm", None), ("top_layers", 3))
        for task in epochs
    }
    assert {tried["full", None, task][0] for task in ("cola", "rte")} == {3e-5}
    assert {rates[-1] for (name, *_), rates in tried.items() if name == "layernorm"} == {3e-3}
    assert {rates[-1] for (name, *_), rates in tried.items() if name == "top_layers"} == {3e-4}
    for task, of_task in epochs.items():  # those with five seeds
        only(of_task, 3e-3, "layernorm", None, task)
        only(of_task, 3e-4, "top_layers", 3, task)


def test_six_epochs_on_stsb(told: str) -> None:
    low, full = only(6, 3e-4, "adapter", 64, "stsb"), pair("STS-B, 6")[1]
    less = statistics.fmean(scores(full)) - statistics.fmean(scores(low))
    assert f"3e-4 for adapters instead: {spread(low)}, {less:.1f} behind." in told


def test_bf16_beside_fp32(told: str) -> None:
    cells = in_fp32("cola"), in_fp32("rte"), pair("CoLA, 6")[0], pair("RTE")[0]
    both = "have {} on CoLA and {} on RTE, with bf16 {} and {}."
    assert both.format(*map(spread, cells)) in told
    apart = [abs(a - b) for a, b in zip(scores(cells[0]), scores(cells[2]), strict=True)]
    assert f"on CoLA the two are up to {max(apart):.1f} points apart" in told
