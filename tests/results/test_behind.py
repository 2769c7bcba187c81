"""The page's part on why adapters are behind is what the result files say."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from adaptertune.model import backbone
from adaptertune.report.evidence import Cell
from tests.results.cells import (
    CHOSEN,
    ahead,
    ahead_of_medians,
    by_t,
    curves,
    means,
    one_cell,
    pair,
    paired,
    points_of,
    scores,
    signed,
    spread,
    steps_an_epoch,
    usual_cells,
)


def test_why_adapters_are_behind(told: str) -> None:
    behind = {name: -ahead(name) for name in CHOSEN}
    typical = {name: -ahead_of_medians(name) for name in CHOSEN}
    by_medians = (
        "By medians over seeds adapters are {STS-B, 3:.1f} behind with three epochs on STS-B and "
        f"{-typical['STS-B, 6']:.1f} ahead with six, "
        "{MNLI:.1f} behind with one on MNLI and {MNLI, 3:.1f} with three, {SST-2:.1f} behind with one "
        "on SST-2 and {SST-2, 3:.1f} with three, {QQP:.1f} behind with one on QQP and {QQP, 3:.1f} with "
        "three, and on CoLA {CoLA, 3:.1f}, {CoLA, 6:.1f} and {CoLA, 20:.1f} behind with three, six and "
        "20."
    )
    assert by_medians.format_map(typical) in told
    both = (
        f"{typical['QQP, 3']:.1f}, {typical['SST-2, 3']:.1f}, {typical['MNLI, 3']:.1f} and "
        f"{typical['CoLA, 20']:.1f} behind on QQP, SST-2, MNLI and CoLA, but one"
    )
    assert f"and to {both} seed of five each" in told
    assert typical["STS-B, 6"] < 0
    first_two = statistics.fmean(paired(*pair("CoLA, 20"))[:2])
    by_means = (
        "{CoLA, 3:.1f} points behind on CoLA with three epochs, {CoLA, 6:.1f} with six and "
        f"{behind['CoLA, 20']:.1f} with 20 (the first two seeds of five would have them {first_two:.1f} "
        "ahead); "
        "on MNLI {MNLI:.1f} with one epoch and {MNLI, 3:.1f} with three, for one seed ended at "
        f"{min(scores(pair('MNLI, 3')[0])):.1f} there; on SST-2 {behind['SST-2']:.1f} and "
        f"{behind['SST-2, 3']:.1f}; on QQP {behind['QQP']:.1f} and {behind['QQP, 3']:.1f}; and on "
        "STS-B, where with six epochs the first seed collapsed, {STS-B, 3:.1f} and {STS-B, 6:.1f}."
    )
    assert by_means.format_map(behind) in told
    fallen = pair("STS-B, 6")[0]
    assert [seed.seed for seed in fallen.seeds if seed.scores["validation"].collapsed] == [0]
    still = [[curve[1] for curve in curves(cell, "score")].count(0.0) for cell in pair("CoLA, 6")]
    assert still == [4, 0]
    assert "four of five seeds still give one answer after the second, of full" in told
    gained, own = (
        statistics.fmean(scores(pair("SST-2, 3")[i])) - statistics.fmean(scores(pair("SST-2")[i]))
        for i in (0, 1)
    )
    assert own < 0
    ends = " to ".join(map(signed, by_t(paired(*pair("SST-2, 3")))))
    of_sst2 = (
        f"On SST-2 one epoch of {steps_an_epoch('SST-2'):,} steps was too few: with three adapters gain "
        f"{gained:.1f} and full fine-tuning nothing, so that what is left is within the noise (95 % "
        f"{ends} by Student's t)."
    )
    assert of_sst2 in told
    gained, own = (
        statistics.fmean(scores(pair("QQP, 3")[i])) - statistics.fmean(scores(pair("QQP")[i]))
        for i in (0, 1)
    )
    ends = " to ".join(map(signed, by_t(paired(*pair("QQP, 3")))))
    of_qqp = (
        f"On QQP two epochs more bring adapters {gained:.1f} and full fine-tuning {own:.1f}, and what "
        f"is left is beyond it ({ends})."
    )
    assert of_qqp in told
    learn = [
        one_cell(6, rate, "adapter", size, "cola")
        for rate, size in ((3e-3, 8), (1e-3, 64), (3e-4, 256))
    ]
    assert all(scores(cell)[0] > 20 for cell in learn)
    too_high = [
        one_cell(6, rate, "adapter", size, "cola") for rate, size in ((3e-3, 64), (1e-3, 256))
    ]
    assert [scores(cell)[0] for cell in too_high] == [0, 0]
    for name in ("MNLI", "STS-B, 3", "QNLI", "MRPC", "RTE"):
        task, epochs, chosen, _ = CHOSEN[name]
        high, better = (
            scores(one_cell(epochs, one, "adapter", 64, task)) for one in (3e-3, chosen)
        )
        assert high[0] < better[0] - 5
    well = [
        scores(one_cell(1, one, "adapter", 64, task))[0]
        for task in ("sst2", "qqp")
        for one in (3e-3, 1e-3)
    ]
    not_there = "not on SST-2 ({:.1f} against {:.1f} at 1e-3) and QQP ({:.1f} against {:.1f})."
    assert not_there.format(*well) in told
    for name in ("MRPC", "RTE", "QNLI"):
        losses = [means(cell, "loss")[-1] for cell in pair(name)]
        assert losses[0] > losses[1]


def test_what_trains_beside_adapters(told: str) -> None:
    rows = {
        "CoLA, 6 epochs": ("CoLA, 6", "matthews"),
        "STS-B, 3 epochs": ("STS-B, 3", "pearson"),
        "MNLI-m, 1 epoch": ("MNLI", "accuracy"),
    }
    signs = {}
    for label, (name, metric) in rows.items():
        points = [one.scores[metric] for one in points_of("parts", CHOSEN[name][0])]
        assert all(len(one.values) == 5 for one in points)
        cells = [
            f"{100 * (one.mean or 0):.1f} ± {100 * (one.deviation or 0):.1f}" for one in points
        ]
        task, epochs, *_ = CHOSEN[name]
        frozen = "–" if task == "cola" else spread(with_pooler("full", "frozen", task, epochs))
        assert f"| {label} | {' | '.join([*cells, spread(pair(name)[1]), frozen])} |" in told
        intervals = [one.difference and one.difference.interval for one in points[1:]]
        signs[name] = [one and (one.low > 0) - (one.high < 0) for one in intervals]
    assert signs == {"CoLA, 6": [0, 0], "STS-B, 3": [-1, 1], "MNLI": [0, 1]}
    without_norms, _ = (one.scores["pearson"].difference for one in points_of("parts", "stsb")[1:])
    assert without_norms is not None
    assert f"trained LayerNorms they lose {-100 * without_norms.mean:.1f} on STS-B" in told
    for_stsb = "gain {:.1f} points on STS-B (95 % {} to {} by Student's t, five of five seeds)"
    gains = gains_by_pooler("stsb", "pearson", "STS-B, 3")
    assert for_stsb.format(statistics.fmean(gains), *map(minus, by_t(gains))) in told
    assert gains[0] > 0
    assert statistics.fmean(gains) > -ahead("STS-B, 3")
    longer = with_pooler("adapter", "trained", "stsb", 6)
    assert f"With six epochs on STS-B they have {spread(longer)} so," in told
    (fallen,) = [x for x in pair("STS-B, 6")[0].seeds if x.scores["validation"].collapsed]
    is_up = longer.values("validation", "pearson")[fallen.seed]
    assert f"collapsed with a frozen pooler has {100 * is_up:.1f}." in told
    for_mnli = "{:.1f} of {:.1f} on MNLI ({} to {}, four of five seeds; {:.1f} without the seed"
    gains = gains_by_pooler("mnli", "accuracy", "MNLI")
    gained, without_most = statistics.fmean(gains), statistics.fmean(gains[:-1])
    figures = gained, -ahead("MNLI"), *map(minus, by_t(gains)), without_most
    assert for_mnli.format(*figures) in told
    assert sum(gain > 0 for gain in gains) == 4
    gains = gains_by_pooler("cola", "matthews", "CoLA, 6")
    ends = " to ".join(map(minus, by_t(gains)))
    assert f"and on CoLA {statistics.fmean(gains):.1f} ({ends})." in told
    trained = [
        int(str(cell.facts.ledger["trained"]))
        for cell in (with_pooler("adapter", "trained", "stsb", 3), pair("STS-B, 3")[0])
    ]
    assert 1.2 < trained[0] / trained[1] < 1.3  # a quarter more


def test_what_a_frozen_pooler_costs_either(told: str) -> None:
    """Adapters against full fine-tuning, where both leave it and where both train it."""
    differences, lost = [], []
    for name in ("STS-B, 3", "MNLI"):
        task, epochs, *_ = CHOSEN[name]
        adapters, full = pair(name)
        both_train = with_pooler("adapter", "trained", task, epochs), full
        both_leave = adapters, with_pooler("full", "frozen", task, epochs)
        assert f"{spread(both_leave[1])} on {'STS-B' if task == 'stsb' else 'MNLI'} (" in told
        lost.append(statistics.fmean(paired(full, both_leave[1])))
        for one, other in (both_leave, both_train):
            differences.append(statistics.fmean(paired(one, other)))
    assert "{:.1f} and {:.1f} less than with it trained.".format(*lost) in told
    frozen = with_pooler("full", "frozen", "stsb", 3)
    assert frozen.config["training"]["learning_rate"] == 3e-4  # the highest
    assert all(curve[-1] > curve[-2] for curve in curves(frozen, "score"))
    low, high = (
        minus(-end) for end in by_t(paired(with_pooler("adapter", "trained", "mnli", 1), full))
    )
    left_on_stsb, trained_on_stsb, left_on_mnli, trained_on_mnli = differences
    assert (
        f"adapters are {left_on_stsb:.1f} points ahead on STS-B and {-left_on_mnli:.1f} behind on MNLI; "
        f"with it trained in both, {trained_on_stsb:.1f} ahead and {-trained_on_mnli:.1f} behind."
        in told
    )
    assert f"on MNLI adapters stay {-trained_on_mnli:.1f} behind ({high} to {low})." in told
    in_short = (
        "where both methods train it, adapters are {:.1f} ahead on the one and {:.1f} behind on"
    )
    assert in_short.format(trained_on_stsb, -trained_on_mnli) in told


def with_pooler(method: str, pooler: str, task: str, epochs: int) -> Cell:
    """The paper's method otherwise, with five seeds."""
    (cell,) = [
        one
        for one in usual_cells()
        if one.facts.task == task and one.config["training"]["epochs"] == epochs
        if one.config["method"]["name"] == method and one.config["method"]["pooler"] == pooler
        if len(one.seeds) == 5
    ]
    return cell


def gains_by_pooler(task: str, metric: str, name: str) -> list[float]:
    """What each seed gains if the pooler trains too, in points, the least first."""
    own = scores(pair(name)[0])
    trained = points_of("parts", task)[-1].scores[metric].values
    return sorted(100 * value - own[seed] for seed, value in trained.items())


def minus(points: float) -> str:
    return f"{points:.1f}".replace("-", "\N{MINUS SIGN}")


def test_the_backbones_pooler_is_noise(told: str) -> None:
    """Its singular values are those of a random matrix, whose largest is about 2 sigma sqrt(n)."""
    bert = backbone.load(backbone.locate("minilm", offline=True))
    weight, bias = bert.pooler.dense.weight.detach(), bert.pooler.dense.bias
    largest = torch.linalg.svdvals(weight)[0].item()
    of_noise = 2 * weight.std().item() * math.sqrt(len(bias))
    assert not bias.any()
    assert largest == pytest.approx(of_noise, rel=0.03)
    assert f"(the largest {largest:.3f}, of such noise {of_noise:.3f})" in told
