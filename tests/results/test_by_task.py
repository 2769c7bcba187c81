"""The page's part by task is what the result files say."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path

import scipy

from adaptertune.report.evidence import Cell
from adaptertune.report.tables import METRIC_NAMES
from adaptertune.runs.store import CellFolder
from tests.results.cells import (
    ALL_HELD_OUT,
    CHOSEN,
    HELD_OUT,
    OTHERS,
    PLAIN,
    ahead,
    ahead_at_last,
    ahead_of_medians,
    as_rate,
    best_first_seed,
    by_t,
    chosen_by_held_out,
    cpu_hours,
    first_seed,
    fit,
    held_out,
    held_out_differences,
    in_fp32,
    means,
    one_cell,
    only,
    pair,
    paired,
    rivals,
    score,
    scores,
    signed,
    spans,
    spread,
    study_cells,
    usual_cells,
    with_held_out,
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
            signed(ahead_of_medians(name)),
            signed(ahead_at_last(name)),
            fit(name),
        ]
        assert f"| {' | '.join(cells)} |" in told
    wnli = [cell for cell in usual_cells() if cell.facts.task == "wnli" and len(cell.seeds) == 5]
    collapsed = [seed.scores["validation"].collapsed for cell in wnli for seed in cell.seeds]
    assert f"{sum(collapsed)} of {len(collapsed)} seeds answer the majority class." in told


def test_the_held_out_protocol(told: str) -> None:
    found = {name: held_out_differences(name) for name in HELD_OUT}
    for name, label in HELD_OUT.items():
        task, epochs, *chosen = CHOSEN[name]
        cells = [held_out(task, method) for method in ("adapter", "full")]
        epochs = 6 if task == "stsb" else epochs
        assert {cell.config["training"]["epochs"] for cell in cells} == {epochs}
        rates = [cell.config["training"]["learning_rate"] for cell in cells]
        assert (rates == chosen) == (name in ("STS-B, 3", "SST-2, 3", "MNLI, 3"))
        of_row = str(epochs), " / ".join(map(as_rate, rates)), *map(spread, cells)
        differences = " | ".join(map(signed, (*found[name], ahead(name))))
        assert f"| {label} | {' | '.join(of_row)} | {differences} |" in told
    averages = [statistics.fmean(of_each) for of_each in zip(*found.values(), strict=True)]
    here = statistics.fmean(ahead(name) for name in HELD_OUT)
    on_average = (
        "adapters are {2:.1f} behind on average over these eight tasks, by medians {1:.1f} and by means "
        "{0:.1f}, for which the last column has {3:.1f}."
    )
    assert on_average.format(*(-one for one in (*averages, here))) in told
    behind = [name for name, (mean, *_) in found.items() if mean < 0]
    assert set(found) - set(behind) == {"MRPC"}
    within = [
        name for name in HELD_OUT
        if by_t(paired(*(held_out(CHOSEN[name][0], one) for one in ("adapter", "full"))))[1] > 0
    ]  # fmt: skip
    assert within == ["MRPC", "RTE", "STS-B, 3", "QNLI", "SST-2, 3", "QQP, 3", "MNLI, 3"]
    beyond = [-found[name][0] for name in behind if name not in within]
    on_one = "tasks, on CoLA alone beyond the noise, by {:.1f} points at the rate that these took."
    assert f"behind on seven of eight {on_one.format(*beyond)}" in told
    changed = signed(ahead("MNLI, 3")), signed(found["MNLI, 3"][0])
    assert "on MNLI ({} to {}) is no effect of the choice.".format(*changed) in told
    *learnt, low, lowest = sorted(scores(with_all_seeds("stsb", "adapter", 3)), reverse=True)
    failing = "two of the five seeds of adapters failed ({:.1f} and {:.1f}, and the other three"
    assert failing.format(low, lowest) in told
    assert f"other three have {statistics.fmean(learnt):.1f}), with six none." in told
    assert min(scores(held_out("stsb", "adapter"))) > 80
    by_first = [
        with_all_seeds(*of)
        for of in (("mrpc", "adapter", 3), ("cola", "full", 3), ("rte", "full", 3))
    ]
    for cell in (*by_first, with_all_seeds("stsb", "adapter", 6)):
        assert cell.digest == best_first_seed(cell).digest
    mrpc, cola, rte = map(spread, by_first)
    assert f"at 3e-3 for adapters on MRPC ({mrpc}), 3e-3 on QNLI, where" in told
    assert f"full fine-tuning on CoLA and RTE ({cola} and {rte})." in told
    faster, chosen_one = first_of_search("cola"), held_out("cola", "adapter")
    level = "first seed ({:.1f} and {:.1f} on the held-out rows), so both got all seeds: 1e-3 has "
    of_first = (100 * first_seed(one) for one in (chosen_one, faster))
    assert level.format(*of_first) + spread(faster) in told
    (fallen,) = (seed.seed for seed in faster.seeds if seed.scores["held-out"].collapsed)
    well = statistics.fmean(one for seed, one in enumerate(scores(faster)) if seed != fallen)
    more = well - statistics.fmean(scores(held_out("cola", "full")))
    assert f"other four have {well:.1f}, {more:.1f} more than full fine-tuning's five." in told
    failed = first_of_search("mrpc")
    assert [seed.scores["held-out"].collapsed for seed in failed.seeds] == [True]
    (high,) = (
        cell
        for cell in with_held_out("qnli", "adapter")
        if cell.config["training"]["learning_rate"] == 3e-3
        if cell.config["training"]["epochs"] == 3
    )
    assert [seed.scores["held-out"].collapsed for seed in high.seeds] == [False] + 4 * [True]
    assert high.digest == best_first_seed(high).digest
    (_, second, third, *_) = sorted(map(first_seed, rivals(high)), reverse=True)
    assert first_seed(held_out("qnli", "adapter")) == second == third, "one of the two next best"
    fewer = []
    of_methods = [
        held_out(task, method)
        for method in ("adapter", "full")
        for task in ("qnli", "sst2", "qqp", "mnli")
    ]
    for of_method in (high, *of_methods[1:]):
        shorter = [one for one in rivals(of_method) if one.config["training"]["epochs"] == 1]
        assert len(shorter) == 3
        best = first_seed(best_first_seed(of_method))
        fewer.append(100 * (best - max(map(first_seed, shorter))))
    less = (
        "With one adapters have {:.1f}, {:.1f}, {:.1f} and {:.1f} points less on the held-out rows than "
        "with three, full fine-tuning {:.1f}, {:.1f}, {:.1f} and {:.1f}, by first seeds;"
    )
    assert less.format(*fewer) in told
    of_mnli, of_sst2, of_qqp = (
        [scores(with_all_seeds(task, method, 1)) for method in ("adapter", "full")]
        for task in ("mnli", "sst2", "qqp")
    )
    mean, median = (of(of_mnli[1]) - of(of_mnli[0]) for of in (statistics.fmean, statistics.median))
    once = [statistics.fmean(one[1]) - statistics.fmean(one[0]) for one in (of_sst2, of_qqp)]
    both = "are then {:.1f} behind on SST-2, {:.1f} on QQP and {:.1f} on MNLI (medians {:.1f})."
    assert f"on validation adapters {both.format(*once, mean, median)}" in told
    least, *others = sorted(scores(held_out("mnli", "adapter")))
    late = f"seeds on MNLI ends at {least:.1f}, and the other four have {statistics.fmean(others):.1f}."
    assert late in told
    assert min(scores(held_out("mnli", "full"))) > 66


def test_all_methods_with_held_out_rows(told: str, glue: Path) -> None:
    for name, task in ALL_HELD_OUT.items():
        found = chosen_by_held_out(task)
        label = next(label for label in HELD_OUT.values() if label.startswith(name))
        order = ("adapter", 8), ("adapter", 64), *OTHERS[1:], ("full", None)
        shown = [spread(found[key]) for key in order]
        assert f"| {label} | {' | '.join(shown)} |" in told
    failed = [
        next(one for one in with_held_out("stsb", "adapter", size) if is_at(one, rate, 6))
        for size, rate in ((8, 3e-3), (256, 1e-3))
    ]
    assert [sum(score < 10 for score in scores(cell)) for cell in failed] == [1, 2]
    assert all(cell is best_first_seed(cell) for cell in failed)
    rates = [
        chosen_by_held_out("stsb")["adapter", size].config["training"]["learning_rate"]
        for size in (8, 256)
    ]
    assert (
        "On STS-B the first seed chose a rate at which one other seed of size 8 failed "
        f"({spread(failed[0])} at 3e-3) and two of 256 ({spread(failed[1])} at 1e-3), so the next best "
        f"rates, {as_rate(rates[0])} and {as_rate(rates[1])}, got all seeds too" in told
    )
    lines = (glue / "RTE" / "dev.tsv").read_text().splitlines()[1:]
    share = max(Counter(line.rpartition("\t")[2] for line in lines).values()) / len(lines)
    assert f"where RTE's largest class is {100 * share:.1f} %:" in told


def is_at(cell: Cell, rate: float, epochs: int) -> bool:
    training = cell.config["training"]
    return (training["learning_rate"], training["epochs"]) == (rate, epochs)


def with_all_seeds(task: str, name: str, epochs: int) -> Cell:
    """The cell with held-out rows, so many epochs and five seeds."""
    (cell,) = [
        cell
        for cell in with_held_out(task, name)
        if len(cell.seeds) == 5 and cell.config["training"]["epochs"] == epochs
    ]
    return cell


def first_of_search(task: str) -> Cell:
    """Adapters at the rate 1e-3 with held-out rows, which these did not choose."""
    (cell,) = [
        cell
        for cell in with_held_out(task, "adapter")
        if cell.config["training"]["epochs"] == 6
        if cell.config["training"]["learning_rate"] == 1e-3
    ]
    return cell


def test_how_often_training_fails(told: str) -> None:
    counts: dict[tuple[int | None, float], list[bool]] = {}
    for cell in study_cells():
        method = cell.config["method"]
        is_plain = cell.facts.precision == "bf16" and (
            method["name"] in PLAIN
            and method.items() >= PLAIN[method["name"]].items()
            and method.get("size") in (8, 64, 256, None)
        )
        if is_plain and cell.facts.task != "wnli":
            key = method.get("size"), cell.config["training"]["learning_rate"]
            counts.setdefault(key, []).extend(
                seed.status == "diverged" or seed.scores[cell.reported[0]].collapsed
                for seed in cell.seeds
            )
    names = {8: "adapters 8", 64: "adapters 64", 256: "adapters 256", None: "full fine-tuning"}
    for size, name in names.items():
        found = [counts.pop((size, one), []) for one in (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)]
        shown = [f"{sum(fallen)} of {len(fallen)}" if fallen else "–" for fallen in found]
        assert f"| {name} | {' | '.join(shown)} |" in told
        if size == 64:
            often = f"at 3e-3 {sum(found[4])} of {len(found[4])} trainings collapsed, at 1e-3 "
            assert f"{often}{sum(found[3])} of {len(found[3])}." in told
    assert not counts
    largest = spans("mnli").majority_share or 0.0
    slow = [
        cell
        for cell in usual_cells()
        if (cell.facts.task, cell.config["method"].get("size")) == ("mnli", 64)
        if cell.config["training"]["learning_rate"] in (3e-5, 1e-4)
    ]
    assert len(slow) == 2
    assert all(max(scores(cell)) < 100 * largest for cell in slow)


def test_two_methods_seeds_hardly_go_together() -> None:
    """Else their pairs would tell more than their means do."""
    found = [statistics.correlation(*map(scores, pair(name))) for name in CHOSEN]
    assert abs(statistics.fmean(found)) < 0.15


def test_what_the_figures_can_bear(told: str) -> None:
    low, high = by_t(paired(*(held_out("rte", name) for name in ("adapter", "full"))))
    ends = f"95 % {signed(low)} to {signed(high)} by Student's t"
    assert f"and what they are ahead does not repeat ({ends})." in told
    here, there = pair("RTE")[0], held_out("rte", "adapter")
    less = statistics.fmean(scores(here)) - statistics.fmean(scores(there))
    by_epoch = statistics.fmean(scores(here)) - means(here, "score")[-1]
    lost = f"score {less:.1f} less there, of which validation's choice of the epoch explains "
    assert f"{lost}{by_epoch:.1f}, and what" in told
    assert here.config["training"] == there.config["training"]
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
    assert f"adapters were {-ahead('CoLA, 6'):.1f} behind with six," in told
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
        only(of_task, 3e-5 if task == "rte" else 3e-4, "top_layers", 1, task)


def test_three_epochs_beside_six(told: str) -> None:
    """On RTE, MRPC and STS-B, by the first seed of each method and size at its best rate."""
    best: dict[tuple[str, str, int | None], dict[int, float]] = {}
    for cell in usual_cells():
        method, epochs = cell.config["method"], cell.config["training"]["epochs"]
        size = method.get("size", method.get("k"))
        if cell.facts.task in ("rte", "mrpc", "stsb") and epochs in (3, 6):
            of_key = best.setdefault((cell.facts.task, method["name"], size), {})
            of_key[epochs] = max(of_key.get(epochs, 0), scores(cell)[0])
    assert len(best) == 21
    shorter = {key for key, found in best.items() if found[3] > found[6]}
    odd = {
        ("rte", "top_layers", 1), ("mrpc", "adapter", 8), ("mrpc", "adapter", 256),
        ("stsb", "adapter", 64),
    }  # fmt: skip
    assert shorter == odd
    better = [
        statistics.fmean(paired(only(3, of_three, *which), only(6, of_six, *which)))
        for which, of_three, of_six in (
            (("top_layers", 1, "rte"), 3e-4, 3e-5),
            (("adapter", 8, "mrpc"), 3e-3, 3e-3),
            (("adapter", 256, "mrpc"), 1e-3, 3e-4),
        )
    ]
    assert f"the top layer on RTE (by its mean then {better[0]:.1f} better), sizes" in told
    assert f"{better[1]:.1f}" == "0.0"
    assert (
        f"sizes 8 and 256 on MRPC (level, and {-better[2]:.1f} worse) and size 64 on STS-B." in told
    )


def test_one_epoch_on_qnli(told: str) -> None:
    best: dict[tuple[str, int | None], dict[int, float]] = {}
    for cell in usual_cells():
        method, epochs = cell.config["method"], cell.config["training"]["epochs"]
        if cell.facts.task == "qnli":
            of_key = best.setdefault((method["name"], method.get("size")), {})
            of_key[epochs] = max(of_key.get(epochs, 0), scores(cell)[0])
    assert set(best) == {("full", None), *(("adapter", size) for size in (8, 64, 256))}
    gains = [found[3] - found[1] for found in best.values()]
    assert f"first seeds, {min(gains):.1f} to {max(gains):.1f} points for the three sizes" in told


def test_six_epochs_on_stsb(told: str) -> None:
    low, full = only(6, 3e-4, "adapter", 64, "stsb"), pair("STS-B, 6")[1]
    less = statistics.fmean(scores(full)) - statistics.fmean(scores(low))
    assert f"choose the rate 3e-4 for adapters: {spread(low)}, {less:.1f} behind." in told


def test_bf16_beside_fp32(told: str) -> None:
    cells = in_fp32("cola"), in_fp32("rte"), pair("CoLA, 6")[0], pair("RTE")[0]
    both = "have {} on CoLA and {} on RTE, with bf16 {} and {}."
    assert both.format(*map(spread, cells)) in told
    full = in_fp32("rte", "full"), pair("RTE")[1]
    assert "full fine-tuning on RTE has {}, with bf16 {}.".format(*map(spread, full)) in told
    low, high = by_t(paired(*full))
    assert low < 0 < high
    apart = [abs(a - b) for a, b in zip(scores(cells[0]), scores(cells[2]), strict=True)]
    assert f"with adapters on CoLA the two are up to {max(apart):.1f} points apart" in told


def test_a_gpu_beside_a_cpu(told: str) -> None:
    said, values, lower, others = [], [], [], []
    for name in ("CoLA, 6", "RTE"):
        here, full = pair(name)
        (other,), (there,) = (
            [cell for cell in study_cells(store) if cell.digest == here.digest]
            for store in ("seeds", "cuda")
        )
        assert {cell.facts.device for cell in (here, other)} == {"cpu"}
        assert there.facts.device == "cuda"
        ten = scores(here) + scores(other)
        assert (len(ten), len(scores(there))) == (10, 5)
        deviations = statistics.stdev(scores(there)), statistics.stdev(ten)
        said.append(
            f"{spread(there)} and {statistics.fmean(ten):.1f} ± {deviations[1]:.1f} on "
            f"{name.partition(',')[0]}"
        )
        values.append(scipy.stats.ttest_ind(scores(there), ten, equal_var=False).pvalue)
        lower.append(statistics.fmean(paired(here, there)))
        values.append(scipy.stats.ttest_rel(scores(there), scores(here)).pvalue)
        mean = statistics.fmean(scores(full))
        others += [statistics.fmean(scores(cell)) - mean for cell in (other, there)]
    assert ", ".join(said) in told
    by_welch = (
        "(Welch's p {:.2f} and {:.2f}; on the same five seeds {:.1f} and {:.1f} lower, paired"
    )
    assert by_welch.format(*values[::2], *lower) in told
    assert "paired p {:.2f} and {:.2f}).".format(*values[1::2]) in told
    unseen = "are {2:.1f} ahead of the same full fine-tuning, the GPU's {3:.1f} (on CoLA with six "
    of_cola = f"epochs {-others[0]:.1f} and {-others[1]:.1f} behind, not {-ahead('CoLA, 6'):.1f})."
    assert unseen.format(*others) + of_cola in told


def test_the_rates_of_twenty_epochs(told: str) -> None:
    """By first seeds they are those of six epochs."""
    searched = {
        "full": (None, (3e-5, 1e-4, 3e-4)), "8": (8, (1e-3, 3e-4, 3e-3)),
        "64": (64, (1e-3, 3e-4, 3e-3)), "256": (256, (3e-4, 1e-3, 3e-3)),
    }  # fmt: skip
    found = {}
    for name, (size, rates) in searched.items():
        method = "adapter" if size else "full"
        first = [scores(one_cell(20, rate, method, size, "cola"))[0] for rate in rates]
        assert max(first) == first[0]
        found[name] = first
    assert all(found[size][2] == 0 for size in ("8", "64", "256"))
    close = "the same three rates and chose those of six (full fine-tuning by {:.1f} to {:.1f}, adapters"
    assert close.format(*found["full"][:2]) in told
    assert "64 by {:.1f} to {:.1f}).".format(*found["64"][:2]) in told


def test_what_ran_on_a_gpu(told: str) -> None:
    """With five seeds; where some of them are a CPU's, the page tells how many."""
    found: dict[tuple[object, ...], int] = {}
    for cell in study_cells():
        method, training, protocol = (
            cell.config[key] for key in ("method", "training", "protocol")
        )
        paths = (CellFolder(cell.folder).seed(seed.seed).path for seed in cell.seeds)
        devices = [json.loads((path / "result.json").read_text())["device"] for path in paths]
        if len(devices) == 5 and "cuda" in devices:
            rate, epochs = training["learning_rate"], training["epochs"]
            key = cell.facts.task, protocol, method.get("size"), rate, epochs
            found[key] = devices.count("cpu")
    assert found == {
        ("qnli", "paper", 8, 1e-3, 3): 0, ("qnli", "paper", 256, 3e-4, 3): 0,
        ("qqp", "paper", 8, 3e-3, 1): 0, ("qqp", "paper", 256, 1e-3, 1): 0,
        ("mnli", "paper", 64, 1e-3, 3): 0, ("mnli", "paper", None, 1e-4, 3): 2,
        ("cola", "held-out", 64, 3e-4, 6): 0, ("cola", "held-out", 64, 1e-3, 6): 4,
        ("cola", "held-out", None, 1e-4, 6): 2,
        ("stsb", "held-out", 64, 1e-3, 3): 0, ("stsb", "held-out", None, 1e-4, 3): 0,
        ("mnli", "held-out", 64, 1e-3, 1): 0, ("mnli", "held-out", None, 1e-4, 1): 0,
    }  # fmt: skip
    row = (
        "on one H200, torch 2.11: sizes 8 and 256 on QNLI with three epochs and on QQP with one, size "
        "64 and full fine-tuning on MNLI with three epochs, and both with held-out rows on CoLA with "
        "six epochs, STS-B with three, and MNLI with one, but for two seeds each"
    )
    assert row in told


def test_hours(told: str) -> None:
    names = {"CoLA": "cola", "MNLI": "mnli", "SST-2": "sst2", "STS-B": "stsb", "QQP": "qqp"}
    names |= {"RTE": "rte", "MRPC": "mrpc", "QNLI": "qnli", "WNLI": "wnli"}
    assert f"| Hours | {' | '.join(names)} | all |" in told
    for protocol, name in (("paper", "validation chooses"), ("held-out", "held-out rows choose")):
        found = cpu_hours(protocol)
        hours = [f"{found[task]:.1f}" if task in found else "–" for task in names.values()]
        assert f"| {name} | {' | '.join(hours)} | {sum(found.values()):.1f} |" in told
