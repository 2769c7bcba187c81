"""Each figure of the study's page is what its result files say."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from adaptertune.report import comparison
from adaptertune.runs import store
from tests.results.cells import (
    CHOSEN,
    STUDY,
    ablation,
    ahead,
    ahead_at_last,
    curves,
    fit,
    one_cell,
    only,
    pair,
    points_of,
    score,
    scores,
    spans,
    steps_an_epoch,
    study_cells,
)


@pytest.fixture(scope="module")
def told() -> str:
    """The study's page, with its lines joined."""
    return " ".join((STUDY / "README.md").read_text().split())


def signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def test_how_far_adapters_are_from_full_fine_tuning(told: str) -> None:
    groups = comparison.compare(list(study_cells()), store.read_ablations(STUDY / "runs"))
    rows = {row.label: row for row in groups[0].comparison.rows}
    totals = []
    for label, cell in zip(("adapters 64", "full fine-tuning"), pair("CoLA, 20"), strict=True):
        average = rows[label].glue_average
        assert average is not None
        totals.append((100 * average, statistics.fmean(scores(cell))))
    of_glue = "says it of: {:.1f} against {:.1f} (seven tasks)"
    assert of_glue.format(*(total for total, _ in totals)) in told
    shorter = [
        total + (statistics.fmean(scores(cell)) - long) / 7
        for (total, long), cell in zip(totals, pair("CoLA, 6"), strict=True)
    ]
    assert "With six epochs on CoLA for both it is {:.1f} against {:.1f}.".format(*shorter) in told
    found = {name: ahead(name) for name in CHOSEN if name not in ("CoLA, 3", "CoLA, 6")}
    least, most = (choose(found, key=found.__getitem__) for choose in (min, max))
    ends = f"from {signed(found[least])} ({least}) to {signed(found[most])} ({most})"
    assert f"By task {ends}, in the paper from" in told
    by_task = (
        "By task RTE {}, MRPC {}, CoLA {} with 20 epochs (two seeds) and {} with six, STS-B {} "
    )
    by_task = by_task.format(
        *(signed(ahead(name)) for name in ("RTE", "MRPC", "CoLA, 20", "CoLA, 6", "STS-B"))
    )
    on_large = "(three epochs), SST-2 {} (one epoch), MNLI-m {} "
    on_large = on_large.format(signed(ahead("SST-2")), signed(ahead("MNLI")))
    assert by_task + on_large in told
    assert f"one epoch of {steps_an_epoch('MNLI')} steps" in told


def test_what_the_kept_epoch_does(told: str) -> None:
    last = {name: f"{abs(ahead_at_last(name)):.1f}" for name in CHOSEN}
    assert ahead_at_last("MRPC") < 0 < ahead_at_last("RTE")
    assert f"they are {last['MRPC']} behind on MRPC and {last['RTE']} ahead on RTE" in told
    cola = [name for name in CHOSEN if name.startswith("CoLA")]
    assert all(ahead_at_last(name) < 0 for name in cola)
    assert "CoLA {}, {} and {} behind with three,".format(*(last[name] for name in cola)) in told
    behind = "best they are {:.1f} and {:.1f} behind and {:.1f} ahead"
    assert behind.format(*(-ahead(name) for name in cola[:2]), ahead(cola[2])) in told


def test_what_the_rows_and_the_rates_of_a_figure_are(told: str) -> None:
    smaller = [
        score(6, 1e-3, "adapter", size, "rte") - score(6, 3e-5, "full", None, "rte")
        for size in (8, 256)
    ]
    assert "adapters are only {:.1f} and {:.1f} ahead".format(*smaller) in told
    assert round(ahead("RTE") * 2.77) == 10
    assert "3.5 points are ten answers" in told
    assert f"{ahead('RTE'):.1f}" == "3.5"
    tried = {
        (name, task): sorted(
            cell.config["training"]["learning_rate"]
            for cell in study_cells()
            if (cell.facts.task, cell.config["training"]["epochs"]) == (task, 6)
            if cell.config["method"]["name"] == name
        )
        for name in ("full", "layernorm")
        for task in ("cola", "rte", "mrpc")
    }
    assert {tried["full", task][0] for task in ("cola", "rte")} == {3e-5}
    assert {rates[-1] for (name, _), rates in tried.items() if name == "layernorm"} == {3e-3}
    kept = [
        [seed.kept_epoch for seed in only(6, 3e-3, "layernorm", None, task).seeds].count(6)
        for task in ("cola", "rte", "mrpc")
    ]
    assert min(kept) >= 3


def test_why_adapters_are_behind(told: str) -> None:
    still = [[curve[1] for curve in curves(cell, "score")].count(0.0) for cell in pair("CoLA, 6")]
    assert still == [4, 0]
    assert "four of five seeds still give one answer after the second, of full" in told
    cola = "{} with three epochs, {} with six and {} with 20; on STS-B {}."
    assert cola.format(*(fit(name) for name in ("CoLA, 3", "CoLA, 6", "CoLA, 20", "STS-B"))) in told
    assert f"it is {fit('MNLI')} and {fit('SST-2')};" in told
    assert f"SST-2's {steps_an_epoch('SST-2'):,} steps" in told
    assert f"on MRPC ({fit('MRPC')}) and RTE ({fit('RTE')})" in told
    learn = [
        one_cell(6, rate, "adapter", size, "cola")
        for rate, size in ((3e-3, 8), (1e-3, 64), (3e-4, 256))
    ]
    assert all(scores(cell)[0] > 20 for cell in learn)
    too_high = [
        one_cell(6, rate, "adapter", size, "cola") for rate, size in ((3e-3, 64), (1e-3, 256))
    ]
    assert [scores(cell)[0] for cell in too_high] == [0, 0]
    high = [
        scores(one_cell(epochs, 3e-3, "adapter", 64, task))[0]
        for epochs, task in ((1, "mnli"), (3, "stsb"), (1, "sst2"))
    ]
    assert (
        "STS-B too ({:.1f} and {:.1f}), not on SST-2 ({:.1f} against {:.1f})".format(
            *high, scores(pair("SST-2")[0])[0]
        )
        in told
    )


def test_less_than_adapters(told: str) -> None:
    rates = {  # of one and three top layers, LayerNorms, adapters 64 and full fine-tuning
        "cola": (3e-4, 3e-4, 3e-3, 1e-3, 3e-5),
        "rte": (3e-5, 3e-4, 3e-3, 1e-3, 3e-5),
        "mrpc": (3e-4, 3e-4, 3e-3, 1e-3, 1e-4),
    }
    less = {
        task: [
            score(6, one, "top_layers", 1, task),
            score(6, three, "top_layers", 3, task),
            score(6, norms, "layernorm", None, task),
            score(6, adapters, "adapter", 64, task),
            score(6, full, "full", None, task),
        ]
        for task, (one, three, norms, adapters, full) in rates.items()
    }
    on_each = "{:.1f} with the top layer, {:.1f} with the top three"
    assert f"CoLA: {on_each.format(*less['cola'])}" in told
    told_less = "{:.1f} with LayerNorms only, against {:.1f} with adapters 64 and {:.1f} with all"
    assert told_less.format(*less["cola"][2:]) in told
    on_each = "{:.1f}, {:.1f} and {:.1f} against {:.1f} and {:.1f}"
    assert f"RTE: {on_each.format(*less['rte'])}." in told
    assert f"MRPC: {on_each.format(*less['mrpc'])}." in told
    nearly = [adapters - three for _, three, _, adapters, _ in less.values()]
    nearly.append(less["mrpc"][3] - less["mrpc"][2])
    assert f"only {min(nearly):.1f} to {max(nearly):.1f} behind adapters" in told
    others = [adapters - one for one, _, _, adapters, _ in less.values()]
    others += [less[task][3] - less[task][2] for task in ("cola", "rte")]
    assert min(others) > 4
    accuracies = [
        statistics.fmean(only(6, rate, name).values("validation", "accuracy").values())
        for rate, name in ((3e-5, "full"), (3e-3, "layernorm"))
    ]
    assert f"LayerNorms only are {100 * (accuracies[0] - accuracies[1]):.1f} points" in told


def test_the_claims_of_size(told: str) -> None:
    early = [(3e-3, 8), (1e-3, 64), (3e-4, 256)]
    sizes = [score(3, rate, "adapter", size) for rate, size in early]
    assert "with three epochs: {:.1f}, {:.1f} and {:.1f},".format(*sizes) in told
    late = [(1e-3, 8), (1e-3, 64), (3e-4, 256)]
    on_cola = [scores(only(6, rate, "adapter", size)) for rate, size in late]
    on_rte = [scores(only(6, 1e-3, "adapter", size, "rte")) for size in (8, 64, 256)]
    widest = max(statistics.stdev(values) for values in on_cola + on_rte)
    told_late = (
        "{:.1f}, {:.1f} and {:.1f} at 8, 64 and 256 on CoLA, {:.1f}, {:.1f} and {:.1f} on RTE"
    )
    assert told_late.format(*(statistics.fmean(one) for one in on_cola + on_rte)) in told
    assert statistics.fmean(on_cola[1]) > max(statistics.fmean(on_cola[i]) for i in (0, 2))
    assert statistics.fmean(on_rte[1]) > max(statistics.fmean(on_rte[i]) for i in (0, 2))
    assert f"with deviations up to {widest:.1f}." in told
    of_cola = [f"{mean:.1f}" for mean in ablation("size", "cola", "matthews").values()]
    assert "{}, {} and {} at 1, 8 and 64; at 512".format(*of_cola[:3]) in told
    assert of_cola[3:] == ["0.0"]
    sizes_of_mnli = [f"{mean:.1f}" for mean in ablation("size", "mnli", "accuracy").values()]
    assert "{}, {} and {} at 1, 64 and 512".format(*sizes_of_mnli) in told


def test_the_claims_of_single_layers(told: str) -> None:
    cola, mnli = (spans(task) for task in ("cola", "mnli"))
    single = {
        (one.task, metric): 100
        * np.array(
            [cell.change[metric].mean for cell in one.cells if cell.first == cell.last], float
        )
        for one in (cola, mnli)
        for metric in one.cells[0].change
    }
    without = {
        (one.task, cell.first, cell.last): f"{-100 * (cell.change['accuracy'].mean or 0):.1f}"
        for one in (cola, mnli)
        for cell in one.cells
    }
    assert f"falls by up to {-min(single['cola', 'accuracy']):.1f} % on CoLA" in told
    assert f"are worth {without['cola', 0, 5]} %" in told
    assert f"and by up to {-min(single['mnli', 'accuracy']):.1f} % on MNLI;" in told
    halves = [without[task, *half] for task in ("mnli", "cola") for half in ((0, 2), (3, 5))]
    assert "({} % lost without layers 0 to 2, {} % without 3 to 5)".format(*halves[:2]) in told
    assert "not on CoLA ({} and {} %)".format(*halves[2:]) in told
    assert [np.argmin(single[task, "accuracy"]) for task in ("cola", "mnli")] == [2, 3]
    assert [np.argmax(single[task, "accuracy"]) for task in ("cola", "mnli")] == [4, 4]
    removed = {
        one.task: cell.values["accuracy"]
        for one in (cola, mnli)
        for cell in one.cells
        if (cell.first, cell.last) == (0, 5)
    }
    assert set(removed["cola"]) == {cola.majority_share}
    assert f"accuracy {100 * (cola.majority_share or 0):.1f} %, that of the majority" in told
    assert f"On MNLI it falls to {100 * np.mean(np.array(removed['mnli'])):.1f} %" in told


def test_the_claims_of_first_values(told: str) -> None:
    inits = ablation("init", "cola", "matthews")
    assert list(inits) == [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]
    below = [f"{value:.1f}" for value in list(inits.values())[:6]]
    assert f"{', '.join(below[:5])} and {below[5]} from 1e-7 to 1e-2" in told
    assert inits[0.1] == inits[1] == 0
    of_mnli = {value: f"{mean:.1f}" for value, mean in ablation("init", "mnli", "accuracy").items()}
    assert list(of_mnli) == [1e-7, 1e-4, 1e-3, 1e-2, 0.1, 1]
    *low, high = list(of_mnli.values())[:4]
    assert f"{', '.join(low)} and {high} at 1e-7, 1e-4, 1e-3 and 1e-2" in told
    assert f"it is {of_mnli[0.1]} and {of_mnli[1]} on MNLI" in told
    costs = [found[1e-2] - found[1e-3] for found in (inits, ablation("init", "mnli", "accuracy"))]
    assert "1e-3 costs {:.1f} on CoLA and {:.1f} on MNLI".format(*costs) in told


VARIANTS = {  # as an ablation's chosen settings tell them apart, and as the README calls them
    "activation tanh": "tanh",
    "activation relu": "ReLU",
    "activation swish": "swish",
    "norm batch": "batch norm",
    "norm layer": "layer norm",
    "depth 2": "two layers an adapter",
    "places attention": "after attention alone",
    "places feedforward": "after the feed-forward part alone",
    "reads input combines add": "in parallel",
    "reads input combines multiply": "in parallel with multiplication",
    "places feedforward reads normed": "as Pfeiffer et al.",
    "places feedforward reads input scale 4 activation relu": "as He et al.",
    "lora": "LoRA",
    "ia3": "(IA)³",
}


def test_the_claim_of_variants(told: str) -> None:
    points = points_of("variants", "cola")
    plain, *others = [point.scores["matthews"] for point in points]
    assert f"by its first seed: {100 * (plain.mean or 0):.1f} with the paper's own" in told
    names = []
    for point in points[1:]:
        chosen = {key.rpartition(".")[2]: value for key, value in point.chosen.items()}
        rate, method = chosen.pop("learning_rate"), chosen.pop("name")
        settings = " ".join(f"{key} {value}" for key, value in chosen.items())
        names.append(VARIANTS[settings or method])
        assert names[-1] != "(IA)³" or rate == 3e-3
    known = {
        name: f"{name} {100 * (score.mean or 0):.1f}"
        for name, score in zip(names, others, strict=True)
    }
    wins = {
        name: (score.difference.wins, score.difference.losses)
        for name, score in zip(names, others, strict=True)
        if score.difference
    }
    between, behind = (
        ", ".join(known[name] for name in names if wins[name] == kind) for kind in ((1, 1), (0, 2))
    )
    assert f"behind on the other: {between}. Behind on both: {behind}, whose best" in told
    assert [list(wins.values()).count(kind) for kind in ((2, 0), (1, 1), (0, 2))] == [0, 8, 6]
    assert "none is ahead of the paper's own on both, eight are on one" in told
