"""What the study trained, read from its result files. Scores are in per cent."""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import scipy.stats

from adaptertune.report import comparison, evidence
from adaptertune.report.comparison.averages import COUNTED
from adaptertune.report.evidence import Cell
from adaptertune.report.schema import Entry
from adaptertune.runs import store
from adaptertune.runs.analyses import AblationPoint, SpansResult
from adaptertune.runs.store import CellFolder

CHECKOUT = Path(__file__).parents[2]
STUDY = CHECKOUT / "scripts" / "study"

# What is compared, by name: a task, the epochs, and the rates of adapters 64 and full fine-tuning.
CHOSEN: dict[str, tuple[str, int, float, float]] = {
    "CoLA, 3": ("cola", 3, 1e-3, 3e-5),
    "CoLA, 6": ("cola", 6, 1e-3, 3e-5),
    "CoLA, 20": ("cola", 20, 1e-3, 3e-5),
    "MRPC": ("mrpc", 6, 1e-3, 1e-4),
    "RTE": ("rte", 6, 1e-3, 3e-5),
    "STS-B, 3": ("stsb", 3, 1e-3, 1e-4),
    "STS-B, 6": ("stsb", 6, 1e-3, 1e-4),
    "QNLI": ("qnli", 3, 1e-3, 1e-4),
    "SST-2": ("sst2", 1, 1e-3, 1e-4),
    "SST-2, 3": ("sst2", 3, 1e-3, 1e-4),
    "MNLI": ("mnli", 1, 1e-3, 1e-4),
    "MNLI, 3": ("mnli", 3, 1e-3, 1e-4),
    "QQP": ("qqp", 1, 1e-3, 1e-4),
    "QQP, 3": ("qqp", 3, 1e-3, 1e-4),
}


def pair(name: str) -> tuple[Cell, Cell]:
    task, epochs, adapters, full = CHOSEN[name]
    return only(epochs, adapters, "adapter", 64, task), only(epochs, full, "full", None, task)


def ahead(name: str) -> float:
    adapters, full = (statistics.fmean(scores(cell)) for cell in pair(name))
    return adapters - full


def ahead_of_medians(name: str) -> float:
    adapters, full = (statistics.median(scores(cell)) for cell in pair(name))
    return adapters - full


def ahead_at_last(name: str) -> float:
    adapters, full = (means(cell, "score")[-1] for cell in pair(name))
    return adapters - full


def by_glue_rule(cell: Cell) -> list[float]:
    """By seed, in per cent: the mean of the metrics and sets that the leaderboard counts."""
    metrics = COUNTED.get(cell.facts.task) or tuple(cell.seeds[0].scores[cell.reported[0]].values)
    found = [cell.values(split, metric) for split in cell.reported for metric in metrics]
    return [100 * statistics.fmean(one[seed] for one in found) for seed in found[0]]


@functools.cache
def table_1(row: str = "adapters 64") -> dict[str, tuple[Cell, Cell]]:
    """What stands in a row and for full fine-tuning in Table 1, by task."""
    found = comparison.compare(list(study_cells()), store.read_ablations(STUDY / "runs"))
    shown = found[0].comparison
    rows = {row.label: row for row in shown.rows}
    cells = {cell.digest: cell for cell in study_cells()}
    both: dict[str, list[Cell]] = {}
    for label in (row, "full fine-tuning"):
        entries = {
            column.task: place.entry
            for column, place in zip(shown.columns, rows[label].places, strict=True)
        }
        for task, entry in entries.items():
            assert isinstance(entry, Entry)
            both.setdefault(task, []).append(cells[entry.run])
    return {task: (adapters, full) for task, (adapters, full) in both.items()}


def totals(
    of_tasks: Mapping[str, tuple[Cell, Cell]],
    statistic: Callable[[list[float]], float] = statistics.fmean,
) -> list[float]:
    """GLUE's total of adapters and of full fine-tuning, of this statistic over seeds."""
    return [
        statistics.fmean(statistic(by_glue_rule(cells[i])) for cells in of_tasks.values())
        for i in range(2)
    ]


def standard_error(of_tasks: Mapping[str, tuple[Cell, Cell]]) -> float:
    """Of the difference of the totals, over seeds."""
    variances = [
        statistics.variance(by_glue_rule(cell)) / len(cell.seeds)
        for cells in of_tasks.values()
        for cell in cells
    ]
    return math.sqrt(sum(variances)) / len(of_tasks)


def steps_an_epoch(name: str) -> int:
    return math.ceil(pair(name)[0].seeds[0].data.num_train / 32)


# What the ablations vary, as the paper has it.
PLAIN: dict[str, dict[str, Any]] = {
    "adapter": {
        "init_std": 0.01,
        "activation": "gelu",
        "places": "both",
        "reads": "output",
        "combines": "add",
        "norm": "none",
        "depth": 1,
        "layernorms": "adapted",
        "pooler": "frozen",
    },
    "full": {"pooler": "trained"},
}


@functools.cache
def study_cells(store: str = "runs") -> tuple[Cell, ...]:
    return tuple(evidence.read(STUDY / store)[0])


def usual_cells() -> list[Cell]:
    """Those of the paper's protocol in bf16."""
    return [
        cell
        for cell in study_cells()
        if cell.config["protocol"] == "paper" and cell.facts.precision == "bf16"
    ]


def only(epochs: int, rate: float, name: str, size: int | None = None, task: str = "cola") -> Cell:
    """The one cell that trained so: a chosen one, with all its seeds."""
    cell = one_cell(epochs, rate, name, size, task)
    assert len(cell.seeds) == 5
    return cell


def one_cell(epochs: int, rate: float, name: str, size: int | None, task: str) -> Cell:
    (cell,) = [
        cell
        for cell in usual_cells()
        if cell.facts.task == task and cell.config["training"]["epochs"] == epochs
        if cell.config["training"]["learning_rate"] == rate
        if cell.config["method"]["name"] == name
        if cell.config["method"].get("size", cell.config["method"].get("k")) == size
        if cell.config["method"].items() >= PLAIN.get(name, {}).items()
    ]
    return cell


def in_fp32(task: str, method: str = "adapter") -> Cell:
    """Adapters 64, or full fine-tuning, as the search chose them in bf16, with five seeds."""
    (cell,) = [
        cell
        for cell in study_cells()
        if cell.facts.task == task and cell.config["method"]["name"] == method
        if cell.facts.precision == "fp32" and len(cell.seeds) == 5
    ]
    return cell


# The tasks on which rows of the training set chose too, and their names in that table.
HELD_OUT = {
    "CoLA, 6": "CoLA, Matthews",
    "MRPC": "MRPC, F1",
    "RTE": "RTE, accuracy",
    "STS-B, 3": "STS-B, Pearson",
    "QNLI": "QNLI, accuracy",
    "SST-2, 3": "SST-2, accuracy",
    "QQP, 3": "QQP, F1",
    "MNLI, 3": "MNLI-m, accuracy",
}


def with_held_out(task: str, name: str, size: int | None = None) -> list[Cell]:
    """All that was tried with rows of the training set held out: of a size, or of so many top layers.

    Without one, adapters are those of size 64.
    """
    size = 64 if name == "adapter" and size is None else size
    return [
        cell
        for cell in study_cells()
        if cell.facts.task == task and cell.config["protocol"] == "held-out"
        if cell.config["method"]["name"] == name
        if cell.config["method"].get("size", cell.config["method"].get("k")) == size
    ]


def held_out(task: str, name: str) -> Cell:
    """Of the cells with all seeds the one that rows of the training set choose, by their mean."""
    found = with_held_out(task, name)
    several = {(one, "adapter"): 2 for one in ("cola", "mrpc", "qnli", "stsb", "sst2", "qqp")}
    several |= {(one, "full"): 2 for one in ("cola", "rte", "stsb", "mnli", "sst2", "qqp")} | {
        ("mnli", "adapter"): 2
    }
    assert sum(len(cell.seeds) == 5 for cell in found) == several.get((task, name), 1)
    return chosen_of(found)


def chosen_of(found: Sequence[Cell]) -> Cell:
    """Of those with five seeds the best by its mean on the held-out rows."""
    finished = [cell for cell in found if len(cell.seeds) == 5]
    return max(finished, key=lambda cell: statistics.fmean(on_held_out(cell).values()))


# The tasks on which every method was searched with held-out rows; and the methods beside the two of the
# table above, with their sizes or numbers of layers.
ALL_HELD_OUT = {"RTE": "rte", "MRPC": "mrpc", "STS-B": "stsb", "CoLA": "cola"}
OTHERS: tuple[tuple[str, int | None], ...] = (
    ("adapter", 8), ("adapter", 256), ("top_layers", 1), ("top_layers", 3), ("layernorm", None),
)  # fmt: skip


def chosen_by_held_out(task: str) -> dict[tuple[str, int | None], Cell]:
    """Every method's cell there, of those with five seeds; the first two as in :func:`held_out`."""
    found = {("adapter", 64): held_out(task, "adapter"), ("full", None): held_out(task, "full")}
    for name, size in OTHERS:
        cells = with_held_out(task, name, size)
        assert len(cells) == 6
        assert len(max(cells, key=first_seed).seeds) == 5
        found[name, size] = chosen_of(cells)
    return found


def rivals(cell: Cell) -> list[Cell]:
    """All that one search of that cell's method with held-out rows tried."""
    method = cell.config["method"]
    return with_held_out(cell.facts.task, method["name"], method.get("size", method.get("k")))


def first_seed(cell: Cell) -> float:
    return on_held_out(cell)[0]


def best_first_seed(cell: Cell) -> Cell:
    return max(rivals(cell), key=first_seed)


def on_held_out(cell: Cell) -> Mapping[int, float]:
    return cell.values("held-out", cell.headline)


def best_on_held_out(cell: Cell) -> int:
    """Among its seeds the number of the one that the held-out rows choose."""
    found = list(on_held_out(cell).values())
    return found.index(max(found))


def of_best_on_held_out(cell: Cell) -> float:
    """On validation, in per cent."""
    return scores(cell)[best_on_held_out(cell)]


def in_held_out_table() -> dict[str, tuple[Cell, Cell]]:
    """Adapters 64 and full fine-tuning as these rows chose them, by task."""
    return {
        task: (held_out(task, "adapter"), held_out(task, "full"))
        for task in (CHOSEN[name][0] for name in HELD_OUT)
    }


def in_first_seeds_table() -> dict[str, tuple[Cell, Cell]]:
    """The two as the first seed alone chose them on these rows, as the study's searches do, by task."""
    return {
        task: (best_first_seed(adapters), best_first_seed(full))
        for task, (adapters, full) in in_held_out_table().items()
    }


def held_out_differences(name: str) -> tuple[float, float, float]:
    """By how much adapters are ahead there: their mean, their median, and of the two best seeds."""
    adapters, full = (held_out(CHOSEN[name][0], method) for method in ("adapter", "full"))
    mean, median = (
        of(scores(adapters)) - of(scores(full)) for of in (statistics.fmean, statistics.median)
    )
    return mean, median, of_best_on_held_out(adapters) - of_best_on_held_out(full)


def scores(cell: Cell) -> list[float]:
    """Of its seeds, in per cent, by the metric and rows that are reported."""
    values = cell.values(cell.reported[0], cell.headline)
    assert len(values) == len(cell.seeds)
    return [100 * value for value in values.values()]


def paired(one: Cell, other: Cell) -> list[float]:
    """By how much each seed of the first is ahead of the second's, in points."""
    return [a - b for a, b in zip(scores(one), scores(other), strict=True)]


def by_t(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean, by Student's t."""
    mean, error = statistics.fmean(values), scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, mean, error)
    return float(low), float(high)


def score(*which: Any, **more: Any) -> float:
    return statistics.fmean(scores(only(*which, **more)))


def curves(cell: Cell, what: str) -> list[list[float]]:
    """Of each seed by epoch: ``loss`` in training, or the ``score`` in per cent on validation."""
    found = []
    for one in cell.seeds:
        text = (CellFolder(cell.folder).seed(one.seed).path / "epochs.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        key = cell.headline
        found.append(
            [line["train_loss"] if what == "loss" else 100 * line["values"][key] for line in lines]
        )
    return found


def means(cell: Cell, what: str) -> list[float]:
    return [statistics.fmean(epoch) for epoch in zip(*curves(cell, what), strict=True)]


def spread(cell: Cell) -> str:
    return f"{statistics.fmean(scores(cell)):.1f} ± {statistics.stdev(scores(cell)):.1f}"


def cpu_hours(protocol: str) -> dict[str, float]:
    """Of training and scoring, by task, of all seeds here; one after another, on one core each."""
    found: dict[str, float] = {}
    for cell in (*study_cells(), *study_cells("seeds")):
        for seed in cell.seeds if cell.config["protocol"] == protocol else ():
            path = CellFolder(cell.folder).seed(seed.seed).path / "result.json"
            made = json.loads(path.read_text())
            keys = "train_seconds", "evaluate_seconds", "trunk_seconds"
            seconds = sum(made["cost"][key] for key in keys) * (made["device"] == "cpu")
            found[cell.facts.task] = found.get(cell.facts.task, 0) + seconds / 3600
    return found


def signed(points: float) -> str:
    text = f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")
    return text[1:] if text.endswith("0.0") and len(text) == 4 else text


def as_rate(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


def fit(name: str) -> str:
    """Training loss of the last epoch, mean over seeds, of adapters 64 and of full fine-tuning."""
    return "{:.2f} / {:.2f}".format(*(means(cell, "loss")[-1] for cell in pair(name)))


def spans(task: str) -> SpansResult:
    (path,) = (STUDY / "runs" / task).glob("*/spans.json")
    return SpansResult.model_validate_json(path.read_bytes())


def points_of(kind: str, task: str) -> list[AblationPoint]:
    (found,) = [
        one
        for result in store.read_ablations(STUDY / "runs")
        for one in result.tasks
        if (result.kind, one.task) == (kind, task)
    ]
    return found.points


def ablation(kind: str, task: str, metric: str) -> dict[float, float]:
    """Mean score by the value that an ablation of the study varies, in per cent."""
    return {
        point.value: 100 * mean
        for point in points_of(kind, task)
        if point.value is not None and (mean := point.scores[metric].mean) is not None
    }
