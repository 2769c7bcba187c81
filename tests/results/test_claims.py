"""The page's part on the paper's claims is what the result files say."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import numpy as np
import scipy.stats

from adaptertune import catalogue
from adaptertune.config import Adapter
from adaptertune.model import ledger
from adaptertune.report.evidence import Cell
from adaptertune.runs.analyses import AblationPoint, SpansResult
from tests.results.cells import (
    ALL_HELD_OUT,
    CHOSEN,
    OTHERS,
    ablation,
    ahead,
    as_rate,
    best_on_held_out,
    by_glue_rule,
    by_t,
    chosen_by_held_out,
    held_out_differences,
    in_first_seeds_table,
    in_held_out_table,
    means,
    one_cell,
    only,
    pair,
    paired,
    points_of,
    scores,
    signed,
    spans,
    spread,
    standard_error,
    study_cells,
    table_1,
    totals,
)


def test_the_total(told: str) -> None:
    shown, of_sizes = table_1(), table_1("adapters, best of 8/64/256")
    own, full = totals(shown)
    assert len(shown) == 9
    of_total = (
        f"nine tasks is {totals(of_sizes)[0]:.1f} against {full:.1f} with the best of three sizes for "
        f"each task, and {own:.1f} with 64 (in"
    )
    assert of_total in told
    error = f"{standard_error(shown):.1f}"
    assert f"{standard_error(of_sizes):.1f}" == error
    assert f"the standard error of the difference is {error} over seeds." in told
    first = shown | {
        "cola": pair("CoLA, 6"), "stsb": pair("STS-B, 3"), "mnli": pair("MNLI"),
        "sst2": pair("SST-2"), "qqp": pair("QQP"),
    }  # fmt: skip
    assert {len(cell.seeds) for cells in first.values() for cell in cells} == {5}
    less, error_of_first = -(totals(first)[0] - totals(first)[1]), f"{standard_error(first):.1f}"
    in_short = (
        f"end {full - own:.1f} points below full fine-tuning in the GLUE total here (standard error "
        f"{error} over seeds), and {less:.1f} ({error_of_first}) with the epochs that were tried first."
    )
    assert in_short in told
    assert f"tried first 64 is {less:.1f} behind ({error_of_first}):" in told
    without_rte = {task: cells for task, cells in shown.items() if task != "rte"}
    last = [
        statistics.fmean(
            means(cells[i], "score")[-1] for task, cells in shown.items() if task != "wnli"
        )
        for i in range(2)
    ]
    unseen = in_held_out_table()
    assert set(shown) - set(unseen) == {"wnli"}
    by_first = in_first_seeds_table()
    chosen, chosen_by_first = (
        [
            statistics.fmean(
                by_glue_rule(cells[i])[best_on_held_out(cells[i])] for cells in table.values()
            )
            for i in range(2)
        ]
        for table in (unseen, by_first)
    )
    behind, of_unseen = totals(unseen)[1] - totals(unseen)[0], f"{standard_error(unseen):.1f}"
    assert f"on some, 64 is {behind:.1f} behind ({of_unseen})" in told
    behind_so, error_so = totals(by_first)[1] - totals(by_first)[0], standard_error(by_first)
    with_first = f"their first seed alone chooses, {behind_so:.1f} ({error_so:.1f})"
    assert f"behind ({of_unseen}), and where {with_first}" in told
    assert f"nearest to the paper, it is {behind:.1f} over eight tasks ({of_unseen})," in told
    assert f"and {behind_so:.1f} ({error_so:.1f}) where the first seed alone chooses" in told
    apart = {task for task in unseen if unseen[task][0].digest != by_first[task][0].digest}
    assert apart == {"mrpc", "qnli"}
    assert sum(one.scores["held-out"].collapsed for one in by_first["qnli"][0].seeds) == 4
    rows = {
        "as in Table 1": (own, full),
        "with the epochs tried first: six on CoLA, three on STS-B, one on SST-2, QQP and MNLI": totals(
            first
        ),
        "without RTE": totals(without_rte),
        "CoLA with six epochs instead of 20": totals(shown | {"cola": pair("CoLA, 6")}),
        "STS-B with six epochs for both, where a seed of adapters collapsed": totals(
            shown | {"stsb": pair("STS-B, 6")}
        ),
        "MNLI with one epoch instead of three": totals(shown | {"mnli": pair("MNLI")}),
        "SST-2 with one epoch instead of three": totals(shown | {"sst2": pair("SST-2")}),
        "QQP with one epoch instead of three": totals(shown | {"qqp": pair("QQP")}),
        "of each task but WNLI the last epoch, by one metric": last,
        "of each task the median over seeds": totals(shown, statistics.median),
        "of each task the best seed": totals(shown, max),
        "held-out rows choose rate and epoch, without WNLI": totals(unseen),
        "held-out rows choose the seed too, without WNLI": chosen,
        "their first seed alone chooses rate and epoch, without WNLI": totals(by_first),
        "their first seed alone does, and they choose the seed, without WNLI": chosen_by_first,
    }
    for name, (adapters, of_full) in rows.items():
        figures = f"{adapters:.1f} | {of_full:.1f} | {signed(adapters - of_full)}"
        assert f"| {name} | {figures} |" in told
    others = ("CoLA, 3", "CoLA, 6", "STS-B, 6", "SST-2", "QQP", "MNLI")  # than those of Table 1
    found = {name: ahead(name) for name in CHOSEN if name not in others}
    least, most = (choose(found, key=found.__getitem__) for choose in (min, max))
    assert least == "MNLI, 3"
    assert (
        f"By task from {signed(found[least])} (MNLI, three epochs of 3 % of its rows, most of"
        in told
    )
    with_held_out, here = signed(held_out_differences("RTE")[0]), pair("RTE")
    ten = statistics.fmean(of_ten_seeds(here[0])) - statistics.fmean(scores(here[1]))
    over = f"{signed(ten)} over ten seeds, and {with_held_out} where held-out rows choose)"
    assert f"to {signed(found[most])} ({most}; {over}" in told
    data = pair("MNLI")[0].facts.data
    assert round(100 * data.num_train / (data.num_train_complete or 1)) == 3


def of_ten_seeds(cell: Cell) -> list[float]:
    """Its five and five others, which no search saw."""
    (unseen,) = (one for one in study_cells("seeds") if one.digest == cell.digest)
    assert len(unseen.seeds) == 5
    return scores(cell) + scores(unseen)


def test_the_claim_of_parameters(told: str) -> None:
    shares = []
    for size in (8, 64, 256):
        counts = one_cell(6, 1e-3, "adapter", size, "rte").facts.ledger
        shares.append(f"{100 * counts['share_of_encoder_layers']:.2f}")
    assert "sizes 8, 64 and 256 they are {}, {} and {} %".format(*shares) in told
    large = catalogue.known("bert-large")
    assert large is not None
    counted = ledger.count(large.shape, Adapter(size=64, init_std=1e-2, activation="gelu"), 2)
    assert f"BERT-large size 64 is {100 * counted.share_of_encoder:.2f} %" in told


SIZED = {  # epochs, and the rates that the search chose for 8, 64 and 256
    "CoLA": (6, (1e-3, 1e-3, 3e-4)),
    "STS-B": (3, (3e-3, 1e-3, 3e-4)),
    "MRPC": (6, (3e-3, 1e-3, 3e-4)),
    "RTE": (6, (1e-3, 1e-3, 1e-3)),
    "SST-2": (3, (1e-3, 1e-3, 3e-4)),
    "QNLI": (3, (1e-3, 1e-3, 3e-4)),
    "QQP": (3, (3e-3, 1e-3, 1e-3)),
    "MNLI-m": (3, (1e-3, 1e-3, 3e-4)),
}
SIZED_AFTER_ONE = {  # the rates that it chose for one epoch
    "SST-2": (3e-3, 1e-3, 3e-4),
    "QQP": (3e-3, 1e-3, 1e-3),
    "MNLI-m": (3e-3, 1e-3, 3e-4),
}


def of_sizes(name: str, *, after_one: bool = False) -> list[Cell]:
    epochs, rates = (1, SIZED_AFTER_ONE[name]) if after_one else SIZED[name]
    task = "mnli" if name == "MNLI-m" else name.replace("-", "").lower()
    return [
        only(epochs, rate, "adapter", size, task)
        for rate, size in zip(rates, (8, 64, 256), strict=True)
    ]


def test_the_claims_of_size(told: str) -> None:
    for name, (epochs, _) in SIZED.items():
        passes = f"{epochs} epoch{'s' * (epochs > 1)}"
        assert f"| {name}, {passes} | {' | '.join(map(spread, of_sizes(name)))} |" in told
    of_twenty = [
        only(20, rate, "adapter", size)
        for rate, size in zip(SIZED["CoLA"][1], (8, 64, 256), strict=True)
    ]
    assert f"| CoLA, 20 epochs | {' | '.join(map(spread, of_twenty))} |" in told
    chosen, _ = table_1("adapters, best of 8/64/256")["cola"]
    assert chosen.digest == of_twenty[1].digest
    assert [name for name, (_, rates) in SIZED.items() if rates[2] != 3e-4] == ["RTE", "QQP"]
    assert [name for name, (_, rates) in SIZED.items() if rates[0] != 3e-3] == [
        "CoLA", "RTE", "SST-2", "QNLI", "MNLI-m",
    ]  # fmt: skip
    rates = (
        "the lowest tried on all but RTE and QQP, of 8 the highest on all but CoLA, RTE, QNLI and, with "
        "three epochs, SST-2 and MNLI."
    )
    assert rates in told
    accuracies = np.array(  # (tasks, sizes, seeds)
        [
            [
                [100 * one for one in cell.values(cell.reported[0], "accuracy").values()]
                for cell in of_sizes(name)
            ]
            for name in SIZED
            if name != "STS-B"
        ]
    )
    assert accuracies.shape == (7, 3, 5)
    three = "{:.1f}, {:.1f} and {:.1f}".format(*accuracies.mean((0, 2)))
    assert f"mean accuracy of the seven tasks that have one is {three} with 8, 64 and 256" in told
    errors = np.sqrt((accuracies.var(2, ddof=1) / 5).sum(0)) / 7
    low, *_, high = sorted(f"{error:.1f}" for error in errors)
    assert f"with standard errors of {low} to {high} over seeds" in told
    by_size = {name: [statistics.fmean(scores(cell)) for cell in of_sizes(name)] for name in SIZED}
    alike = max(max(by_size[name]) - min(by_size[name]) for name in ("SST-2", "QNLI", "QQP"))
    assert f"the three sizes are within {alike:.1f} points." in told
    of_rte, of_mnli, of_stsb = by_size["RTE"], by_size["MNLI-m"], by_size["STS-B"]
    after_one = {name: of_sizes(name, after_one=True) for name in SIZED_AFTER_ONE}
    for name, cells in after_one.items():
        assert f"| {name}, 1 epoch | {' | '.join(map(spread, cells))} |" in told
    gained = [
        statistics.fmean(scores(three)) - statistics.fmean(scores(one))
        for name in ("SST-2", "QQP")
        for one, three in zip(after_one[name], of_sizes(name), strict=True)
    ]
    told_of = (
        "two epochs more bring 8, 64 and 256 {:.1f}, {:.1f} and {:.1f} on SST-2 and {:.1f}, {:.1f} and "
        "{:.1f} on QQP."
    )
    assert told_of.format(*gained) in told
    once = [statistics.fmean(scores(cell)) for cell in after_one["MNLI-m"]]
    medians = [statistics.median(scores(cell)) for cell in of_sizes("MNLI-m")]
    more = [three - one for one, three in zip(once, of_mnli, strict=True)]
    assert (
        f"On MNLI they are within {max(of_mnli) - min(of_mnli):.1f} with three epochs, by medians "
        f"within {max(medians) - min(medians):.1f}; with one 256 is {once[1] - once[2]:.1f} behind 64, "
        f"and two more bring it {more[2]:.1f}, size 8 {more[0]:.1f} and 64 {more[1]:.1f}." in told
    )
    assert (
        f"is {of_rte[1] - of_rte[0]:.1f} behind 64 on RTE (size 8) and {of_mnli[2] - of_mnli[1]:.1f} "
        f"ahead on MNLI (256), where one seed of 64 ended at {min(scores(of_sizes('MNLI-m')[1])):.1f}; "
        f"on STS-B 8 is {of_stsb[0] - of_stsb[1]:.1f} ahead of 64 and "
        f"{of_stsb[0] - of_stsb[2]:.1f} of 256." in told
    )
    least, *_, most = sorted(scores(of_sizes("STS-B")[2]))
    assert f"With 256 the five seeds on STS-B end between {least:.1f} and {most:.1f};" in told
    longer = [
        spread(only(6, rate, "adapter", size, "stsb")) for rate, size in ((3e-4, 256), (3e-3, 8))
    ]
    six = "with six epochs at the same rates 256 has {} there and 8 {}."
    assert six.format(*longer) in told
    of_cola = ablation("size", "cola", "matthews")
    assert list(of_cola) == [1, 8, 64, 512]
    assert f"| CoLA, 6 epochs | {' | '.join(f'{one:.1f}' for one in of_cola.values())} |" in told
    by_one_rate = [f"{one:.1f}" for one in ablation("size", "mnli", "accuracy").values()]
    assert "| MNLI-m, 1 epoch | {} | – | {} | {} |".format(*by_one_rate) in told


def test_less_than_adapters(told: str) -> None:
    rates = {  # of one and three top layers, LayerNorms, adapters 64 and full fine-tuning
        "STS-B, 6 epochs": (3e-4, 3e-4, 3e-3, 1e-3, 1e-4),
        "CoLA, 20 epochs": (3e-4, 3e-5, 1e-3, 1e-3, 3e-5),
        "CoLA": (3e-4, 3e-4, 3e-3, 1e-3, 3e-5),
        "RTE": (3e-5, 3e-4, 3e-3, 1e-3, 3e-5),
        "MRPC": (3e-4, 3e-4, 3e-3, 1e-3, 1e-4),
        "STS-B": (3e-4, 3e-4, 3e-3, 1e-3, 1e-4),
    }
    methods = (
        ("top_layers", 1), ("top_layers", 3), ("layernorm", None), ("adapter", 64), ("full", None),
    )  # fmt: skip
    behind: dict[int, dict[str, list[float]]] = {}  # by seed
    for task, of_task in rates.items():
        epochs = {"STS-B": 3, "CoLA, 20 epochs": 20}.get(task, 6)
        name = task.partition(",")[0].lower().replace("-", "")
        cells = [
            only(epochs, one, *method, name) for one, method in zip(of_task, methods, strict=True)
        ]
        found = [statistics.fmean(scores(cell)) for cell in cells]
        label = task if "," in task else f"{task}, {epochs} epochs"
        assert f"| {label} | {' | '.join(f'{one:.1f}' for one in found)} |" in told
        if task == "STS-B, 6 epochs":
            learnt = statistics.fmean(sorted(scores(cells[3]))[1:])
            assert f"{found[2]:.1f}, and of adapters, of which one seed" in told
            assert f"collapsed, the other four {learnt:.1f}." in told
            continue
        if task == "CoLA, 20 epochs":
            longer = [found[3] - one for one in found[:3]]
            words = "With 20 epochs on CoLA these are {:.1f} (top layer), {:.1f} (top three) and {:.1f} "
            assert (
                f"{words.format(*longer)}behind adapters (LayerNorms), all beyond the noise."
                in told
            )
            assert all(by_t(paired(cells[3], other))[0] > 0 for other in cells[:3])
            continue
        for number in range(3):
            behind.setdefault(number, {})[task] = paired(cells[3], cells[number])
        if task == "RTE":
            over_full = paired(cells[1], cells[4])
            assert min(over_full) > 0
            best = f"layers are {statistics.fmean(over_full):.1f} ahead of full fine-tuning, in all"
            assert best in told
    top, three, norms = (
        {task: statistics.fmean(one) for task, one in of_one.items()} for of_one in behind.values()
    )
    alone = f"top layer alone, {min(top.values()):.1f} to {max(top.values()):.1f} points behind"
    assert alone in told
    lost = f"on CoLA and RTE ({norms['CoLA']:.1f} and {norms['RTE']:.1f})."
    little = f"LayerNorms on MRPC and STS-B ({norms['MRPC']:.1f} and {norms['STS-B']:.1f}) and "
    half = (
        f"three layers ({min(three.values()):.1f} to {max(three.values()):.1f}), which train half"
    )
    assert f"{lost} {little}the top {half}" in told
    within = {  # an interval with 0 in it
        number: [task for task, one in of_one.items() if by_t(one)[0] < 0]
        for number, of_one in behind.items()
    }
    assert within == {0: [], 1: ["CoLA", "RTE", "STS-B"], 2: ["MRPC", "STS-B"]}
    share = only(6, 3e-4, "top_layers", 3).facts.ledger["share_of_encoder_layers"]
    assert 0.5 < share < 0.52
    accuracies = [
        statistics.fmean(only(6, rate, name).values("validation", "accuracy").values())
        for rate, name in ((3e-5, "full"), (3e-3, "layernorm"))
    ]
    assert f"LayerNorms only are {100 * (accuracies[0] - accuracies[1]):.1f} points" in told


def by_depth(task: str, metric: str) -> tuple[dict[str, AblationPoint], list[str]]:
    """The points of that ablation by name, and as rows of its table."""
    names = {
        "layernorm": "LayerNorms alone",
        "adapter": "adapters {:.0f}",
        "top_layers": "top {:.0f}",
    }
    first = {"layernorm": ", at 1e-3", "adapter": ", at 1e-3", "top_layers": ", at 1e-4"}
    odd = {"top 1": "top layer", "top 6": "all 6"}
    found, rows = {}, []
    for point in sorted(points_of("depth", task), key=lambda point: point.method == "top_layers"):
        name = names[point.method].format(point.value)
        found[name], one = point, point.scores[metric]
        assert len(one.values) == 3
        label = odd.get(name, name) + first.pop(point.method, "")
        score = f"{100 * (one.mean or 0):.1f} ± {100 * (one.deviation or 0):.1f}"
        rows.append(f"| {label} | {point.trained / 1000:,.1f} thousand | {score} |")
    return found, rows


def test_the_other_methods_with_held_out_rows(told: str) -> None:
    behind: dict[tuple[str, int | None], list[float]] = {}
    beyond = set()
    for task in ALL_HELD_OUT.values():
        found = chosen_by_held_out(task)
        for key in OTHERS:
            differences = paired(found["adapter", 64], found[key])
            behind.setdefault(key, []).append(statistics.fmean(differences))
            if by_t(differences)[0] > 0 or by_t(differences)[1] < 0:
                beyond.add((key, task))
    assert beyond == {
        (("top_layers", 1), "mrpc"), (("top_layers", 1), "stsb"),
        *((key, "cola") for key in OTHERS if key != ("top_layers", 1)),
    }  # fmt: skip
    small, large, top, three, norms = behind.values()
    assert (
        f"8 and 256 are {small[0]:.1f} and {large[0]:.1f} behind 64 on RTE, {small[2]:.1f} and "
        f"{large[2]:.1f} behind on STS-B and {-small[1]:.1f} and {-large[1]:.1f} ahead on MRPC, within "
        f"the noise, and {-small[3]:.1f} and {-large[3]:.1f} ahead on CoLA, beyond it: there 64, on a "
        "GPU, has the rate 3e-4, for at 1e-3 one of its seeds collapsed (the other four have 26.2)."
        in told
    )
    assert (
        "the top layer is {:.1f}, {:.1f}, {:.1f} and {:.1f} behind adapters 64 and LayerNorms "
        "{:.1f}, {:.1f}, {:.1f} and {:.1f};".format(*top, *norms)
        in told
    )
    assert (
        f"the top three are {-three[0]:.1f} ahead, {three[1]:.1f} and {three[2]:.1f} behind and "
        f"{-three[3]:.1f} ahead. Beyond the noise are the top layer on MRPC and STS-B, and the others "
        "on CoLA." in told
    )


def test_by_depth(told: str) -> None:
    found, rows = by_depth("cola", "matthews")
    on_mnli, others = by_depth("mnli", "accuracy")
    for of_task in (rows, others):
        assert " ".join(of_task) in told
    for name, rate in (("adapters 64", 1e-3), ("top 1", 1e-4), ("LayerNorms alone", 1e-3)):
        (cell,) = (cell for cell in study_cells() if cell.digest == found[name].digest)
        assert cell.config["training"]["learning_rate"] == rate
        assert cell.config["training"]["epochs"] == 6
    assert found["adapters 256"].collapsed == [0, 2]
    parts: list[str] = []
    for name in ("adapters 64", "top 1", "top 3", "top 6", "adapters 4"):
        millions = found[name].trained / 1e6
        both = found[name].scores["matthews"].mean, on_mnli[name].scores["accuracy"].mean
        parts += [f"{millions:.1f}" if millions > 0.1 else f"{millions:.2f}"]
        parts += [" and ".join(f"{100 * (mean or 0):.1f}" for mean in both)]
    told_of = (
        "64 ({} million trained parameters) score {}; the top layer ({} million) {}; the top three ({} "
        "million) {}."
    )
    assert told_of.format(*parts) in told
    rest = "All six layers, with {6}, have {7}, and adapters of size 4, with {8}, {9}."
    assert rest.format(*parts) in told
    least = 100 * min(on_mnli["adapters 256"].scores["accuracy"].values.values())
    assert f"on CoLA, and on MNLI one learns nothing ({least:.1f});" in told
    norms, top = only(6, 3e-3, "layernorm"), only(6, 3e-4, "top_layers", 1)
    better = [f"{statistics.fmean(scores(cell)):.1f}" for cell in (norms, top)]
    assert (
        "do better at higher ones on CoLA ({} at 3e-3 and {} at 3e-4, five seeds).".format(*better)
        in told
    )


def change(of_run: SpansResult, first: int, last: int) -> str:
    """What accuracy loses without these layers' adapters, in per cent of its value."""
    (cell,) = (one for one in of_run.cells if (one.first, one.last) == (first, last))
    found = cell.change["accuracy"]
    return f"{-100 * (found.mean or 0):.1f} ± {100 * (found.deviation or 0):.1f} %"


def changes(of_run: SpansResult, layers: Iterable[int]) -> list[float]:
    """Of each seed: what accuracy changes by without a layer's adapters, in per cent, the mean."""
    intact = np.array(of_run.intact["accuracy"], float)
    found = [
        100 * (np.array(cell.values["accuracy"], float) / intact - 1)
        for cell in of_run.cells
        if cell.first == cell.last and cell.first in layers
    ]
    return [float(one) for one in np.mean(found, axis=0)]


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
    on_mnli = [without["mnli", layer, layer] for layer in (0, 2, 3)]
    assert "0, 2 or 3 accuracy falls by {}, {} and {} % of its value;".format(*on_mnli) in told
    assert (-single["mnli", "accuracy"] > 2.1).tolist() == [True, False, True, True, False, False]
    largest = -min(single["cola", "accuracy"])
    assert f"are worth {without['cola', 0, 5]} %, it falls by up to {largest:.1f} %." in told
    epochs = {
        (cell.facts.task, cell.config["training"]["epochs"])
        for cell in study_cells()
        if (cell.folder / "spans.json").exists()
    }
    assert epochs == {("mnli", 1), ("cola", 6)}
    of_table = {task: table_1()[task][0].config["training"]["epochs"] for task in ("mnli", "cola")}
    assert of_table == {"mnli": 3, "cola": 20}
    assert "for one epoch on MNLI and six on CoLA, not for the three and 20 of Table 1." in told
    ends = [end for layer in (0, 2) for end in reversed(by_t(changes(mnli, [layer])))]
    most = by_t(changes(cola, [2]))
    assert by_t(changes(mnli, [3]))[1] > 0
    for_mnli = "(95 %: {:.1f} to {:.1f} without layer 0, {:.1f} to {:.1f} without 2)."
    assert for_mnli.format(*(-end for end in ends)) in told
    assert f"within the noise of the largest ({-most[1]:.1f} to {-most[0]:.1f})." in told
    assert np.argmin(single["cola", "accuracy"]) == 2
    for task in (mnli, cola):
        lower, upper = changes(task, range(3)), changes(task, range(3, 6))
        low, high = by_t([a - b for a, b in zip(lower, upper, strict=True)])
        assert low < 0 < high
    (majority,) = {cola.majority_share}
    for cell in cola.cells:
        if (cell.first, cell.last) in ((0, 2), (3, 5)):
            assert all(
                0 <= (value or 0) - (majority or 0) < 0.015 for value in cell.values["accuracy"]
            )
    (third,) = (cell for cell in mnli.cells if (cell.first, cell.last) == (3, 3))
    assert (
        f"that of layer 3 has a deviation of {100 * (third.change['accuracy'].deviation or 0):.1f},"
        in told
    )
    assert [len(one.cells[0].values["accuracy"]) for one in (cola, mnli)] == [5, 3]
    halves = [change(task, *half) for task in (mnli, cola) for half in ((0, 2), (3, 5))]
    both = (
        "falls by {} without layers 0 to 2, by {} without 3 to 5). On CoLA it can't be told ({} and "
        "{} %):"
    )
    assert both.format(*halves[:2], *(one.partition(" ")[0] for one in halves[2:])) in told
    averages = [
        -single[task, "accuracy"][part].mean()
        for task in ("mnli", "cola")
        for part in (slice(3), slice(3, 6))
    ]
    on_average = "average, {:.1f} against {:.1f} % on MNLI and {:.1f} against {:.1f} % on CoLA,"
    assert on_average.format(*averages) in told
    assert f"cost {without['mnli', 0, 1]} % together on MNLI." in told
    assert np.argmin(single["mnli", "accuracy"]) == 3
    removed = {
        one.task: [value or 0.0 for value in cell.values["accuracy"]]
        for one in (cola, mnli)
        for cell in one.cells
        if (cell.first, cell.last) == (0, 5)
    }
    assert set(removed["cola"]) == {cola.majority_share}
    assert f"accuracy is {100 * (cola.majority_share or 0):.1f} %, that of the majority" in told
    left = (
        "On MNLI it is chance, {:.1f} to {:.1f} % (in the paper 37 %; the largest class has {:.1f}"
    )
    extremes = min(removed["mnli"]), max(removed["mnli"]), mnli.majority_share or 0
    assert left.format(*(100 * end for end in extremes)) in told


def test_the_claims_of_first_values(told: str) -> None:
    inits = ablation("init", "cola", "matthews")
    assert list(inits) == [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]
    assert f"| CoLA, 6 epochs | {' | '.join(f'{mean:.1f}' for mean in inits.values())} |" in told
    of_mnli = ablation("init", "mnli", "accuracy")
    assert list(of_mnli) == [1e-7, 1e-4, 1e-3, 1e-2, 0.1, 1]
    on_mnli = [f"{of_mnli[value]:.1f}" if value in of_mnli else "–" for value in inits]
    assert f"| MNLI-m, 1 epoch | {' | '.join(on_mnli)} |" in told
    less = {std: of_mnli[1e-2] - of_mnli[std] for std in (1e-3, 1e-4, 1e-7)}
    assert {f"{less[std]:.1f}" for std in (1e-3, 1e-4)} == {"1.9"}
    welch = {  # the p of a value beside 1e-2
        (task, one.value): scipy.stats.ttest_ind(
            *(list(of.scores[metric].values.values()) for of in (one, own)), equal_var=False
        ).pvalue
        for task, metric in (("cola", "matthews"), ("mnli", "accuracy"))
        for own in points_of("init", task) if own.value == 1e-2
        for one in points_of("init", task) if (one.value or 1) < 1e-2
    }  # fmt: skip
    assert [key for key, p in welch.items() if p < 0.05] == [("mnli", 1e-7)]
    on_mnli_alone = (
        f"MNLI loses 1.9 points at 1e-3 and 1e-4, within the noise, and {less[1e-7]:.1f} at 1e-7, "
        f"beyond it by Welch's test (p {welch['mnli', 1e-7]:.3f}) but not seed by seed;"
    )
    others = [inits[1e-2] - inits[std] for std in (1e-3, 1e-5, 1e-6, 1e-7)]
    assert f"{on_mnli_alone} CoLA {min(others):.1f} to {max(others):.1f}, in no order" in told
    for task, metric in (("cola", "matthews"), ("mnli", "accuracy")):
        by_value = {one.value: one.scores[metric].values for one in points_of("init", task)}
        own = by_value.pop(1e-2)
        for value, of_value in by_value.items():
            differences = [score - own[seed] for seed, score in of_value.items()]
            assert statistics.fmean(differences) < 0
            assert (by_t(differences)[1] < 0) is ((value or 0) > 1e-2)
    assert f"except at 1e-4 ({inits[1e-4]:.1f} left: two of three seeds collapsed)." in told
    (point,) = (one for one in points_of("init", "cola") if one.value == 1e-4)
    assert list(point.scores["matthews"].values.values()).count(0) == 2


def test_the_claim_of_rates(told: str) -> None:
    below: dict[str, list[float]] = {"adapters 64": [], "full fine-tuning": []}  # at 3e-4, by task
    for task, name, metric, least in (
        ("cola", "CoLA, 6 epochs", "matthews", 20),
        ("mnli", "MNLI-m, 1 epoch", "accuracy", 45),
    ):
        found: dict[str, list[float]] = {}
        for point in points_of("lr", task):
            assert len(point.scores[metric].values) == 3
            method = "adapters 64" if point.method == "adapter-64" else "full fine-tuning"
            found.setdefault(method, []).append(100 * (point.scores[metric].mean or 0))
        for method, of_method in found.items():
            row = " | ".join(f"{mean:.1f}" for mean in of_method)
            assert f"| {name}: {method} | {row} |" in told
            below[method].append(max(of_method) - of_method[2])
        learn = {
            method: [mean > least for mean in of_method] for method, of_method in found.items()
        }
        full = found["full fine-tuning"]
        assert max(full[:2]) == max(full)
        assert learn["adapters 64"] == [False, False, True, True, False]
        assert learn["full fine-tuning"] == [True, True, task == "mnli", False, False]
    of_both = "adapters are {:.1f} and {:.1f} below their best, full fine-tuning {:.1f} and {:.1f}."
    assert of_both.format(*below["adapters 64"], *below["full fine-tuning"]) in told
    longer = []
    for name, size, rates in (("adapter", 64, (1e-3, 3e-3)), ("full", None, (3e-5, 1e-4))):
        low, *others = (scores(one_cell(3, rate, name, size, "mnli"))[0] for rate in (3e-4, *rates))
        longer.append(max(others) - low)
    assert "With three epochs on MNLI it is {:.1f} and {:.1f}, by first".format(*longer) in told


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
    plain, *others = points_of("variants", "cola")
    behind, wins = {}, []
    for point in others:
        chosen = {key.rpartition(".")[2]: value for key, value in point.chosen.items()}
        lr, method = chosen.pop("learning_rate"), chosen.pop("name")
        name = VARIANTS[" ".join(f"{key} {value}" for key, value in chosen.items()) or method]
        found = point.scores["matthews"]
        assert found.difference is not None
        behind[name] = -100 * found.difference.mean
        wins.append(found.difference.wins)
        mean = f"{100 * (found.mean or 0):.1f}"
        cells = (
            name,
            as_rate(lr),
            mean,
            signed(-behind[name]),
            f"{wins[-1]} of {found.difference.n}",
        )
        assert f"| {' | '.join(cells)} |" in told
    assert [wins.count(number) for number in (3, 2, 1, 0)] == [0, 2, 7, 5]
    better = sorted(-points for points in behind.values() if points < 0)
    own = f"{100 * (plain.scores['matthews'].mean or 0):.1f}"
    of_all = f"on CoLA none of {len(wins)}, of which the paper names seven, beats its own adapter "
    ahead_of = "Two do with two, seven with one, five with none. By their means two are ahead, by"
    first, second = (f"{points:.1f}" for points in better)
    ten = statistics.fmean(of_ten_seeds(only(6, 1e-3, "adapter", 64)))
    above = sum(100 * (point.scores["matthews"].mean or 0) > ten for point in others)
    assert above == 5
    known = (
        f"Their mean, {own}, is a high one: ten seeds have {ten:.1f}, and five of the 14 are above"
    )
    assert f"{of_all}with all three seeds. {known} that. {ahead_of} {first} and {second}." in told
    usual = plain.scores["matthews"].values
    beyond = []
    for name, point in zip(behind, others, strict=True):
        values = point.scores["matthews"].values
        low, high = by_t([value - usual[seed] for seed, value in values.items()])
        assert low < 0
        beyond += [name] if high < 0 else []
    assert beyond == ["as He et al.", "(IA)³"]
    trained = {
        cell.config["method"]["name"]: cell.facts.ledger["trained"]
        for cell in study_cells()
        if cell.config["method"]["name"] in ("lora", "ia3")
    }
    own_trained = only(6, 1e-3, "adapter", 64).facts.ledger["trained"]
    parts = [round(own_trained / trained[name]) for name in ("lora", "ia3")]
    assert parts == [8, 44]
    assert "LoRA and (IA)³ train an eighth and a 44th of the parameters" in told
