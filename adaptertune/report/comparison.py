"""The paper's Table 1 from a store's cells: a row a method, a column a task, and what parts them.

Within a comparison everything may be set side by side: one backbone, one protocol, the sample or real
data. Cells that differ only in learning rate, epochs or size are candidates of one method.
"""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adaptertune import config as configuration
from adaptertune import paths, stats, tasks
from adaptertune.report import tables
from adaptertune.report.evidence import Cell, Unfinished, train_command
from adaptertune.runs import selection
from adaptertune.runs.results import FORMAT, BackboneFacts, DataFacts, Record

# The columns of GLUE in the paper's order; the leaderboard's average is over these tasks.
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
# What a search varies: cells that differ in nothing else are candidates of one method.
SEARCHED = ("training.learning_rate", "training.epochs")
SIZE_KEYS = ("method.size", "method.k")
FIXED_SIZE = 64  # the paper's
FAMILIES = {
    "full": "full fine-tuning",
    "adapter": "adapters",
    "top_layers": "top layers",
    "layernorm": "LayerNorms only",
    "bitfit": "biases only (BitFit)",
}
SHORT_NAMES = {
    "training.learning_rate": "lr",
    "training.epochs": "epochs",
    "training.batch_size": "batch size",
    "training.max_length": "max length",
    "method.init_std": "init std",
    "method.size": "size",
    "method.k": "k",
}


class Column(Record):
    """A task's split and its headline metric, on certain rows."""

    task: str
    label: str
    """``MNLI-m``: the name of the GLUE server's file, or the task's."""
    split: str
    metric: str
    data: DataFacts
    glue: bool
    """Whether it is one of GLUE's tasks, and not a user's or the sample."""


class Entry(Record):
    """What a method scores on a column: its best candidate, over seeds. Scores are fractions."""

    run: str
    """Digest of the candidate that is shown."""
    settings: dict[str, float | int | str]
    """Its size, learning rate and epochs."""
    num_candidates: int
    """Cells among which the mean on the selecting split chose this one."""
    num_seeds: int
    """Seeds that are done."""
    n: int
    """Those of them with a score."""
    mean: float | None
    deviation: float | None
    standard_error: float | None
    interval: stats.Interval | None
    best: float | None
    """Of the seed that is best on the selecting split."""
    expected_best: float | None
    """Expected maximum of n runs (Dodge et al. 2019)."""
    scores: dict[int, float]
    """By seed."""
    means: dict[str, float]
    """Of each of the task's metrics."""
    diverged: list[int]
    """Seeds without a score: the loss was not finite."""
    collapsed: list[int]
    """Seeds that answer the same for every example; they count in the mean."""


class Hole(Record):
    """A run that nobody made yet."""

    command: str


class Row(Record):
    """A method over all columns."""

    label: str
    method: str
    variant: str
    """What sets it apart from other rows of the method; often empty."""
    entries: list[Entry | Hole]
    """In the order of the columns."""
    mean: float | None
    """Plain mean over the columns; null with a hole among them."""
    glue_average: float | None
    """By the leaderboard's rule: a task's metrics, and MNLI's two sets, count by their mean."""
    trained: float
    """Parameters without the head, mean over the tasks."""
    share_of_encoder_layers: float
    share_of_all_parameters: float
    multiple: float
    """Parameters of ``num_tasks`` tasks over those of one plain model, by the encoder layers."""
    differences: list[stats.PairedDifference | None]
    """To full fine-tuning, by column, paired over seeds; null for that itself."""
    best_runs: list[stats.McNemar | None]
    """The best seed's labels beside those of full fine-tuning's best, by column."""


class PublishedRow(Record):
    """A published row, with what keeps it apart from ours. Scores are fractions."""

    label: str
    source: str
    values: list[float | None]
    mean: float | None
    glue_average: float | None
    share: float | None
    multiple: float | None
    comparable: bool
    why_not: str | None


class Missing(Record):
    """Runs that would fill a hole."""

    what: str
    command: str


class Comparison(Record):
    """What may be set side by side."""

    name: str
    """For files and anchors."""
    title: str
    sample: bool
    backbone: BackboneFacts
    protocol: str
    """In words: what was selected, on what, and what is shown."""
    num_tasks: int
    """That ``multiple`` counts."""
    columns: list[Column]
    rows: list[Row]
    elsewhere: list[str]
    """Variants without a row, for they were not run on all columns."""
    published: list[PublishedRow]
    sentences: list[str]
    """What adapters keep of full fine-tuning, with what."""


class Report(Record):
    """What ``report --json`` prints."""

    format: int = FORMAT
    store: str
    comparisons: list[Comparison]
    missing: list[Missing]
    files: list[str]


@dataclass(frozen=True)
class Group:
    """A comparison and the cells that it is made of."""

    comparison: Comparison
    cells: tuple[Cell, ...]
    methods: Mapping[tuple[str, str], Sequence[Cell]]
    """Cells by method and by what sets it apart (in words, often empty), in the table's order."""


@dataclass(frozen=True)
class _PaperRow:
    label: str
    share: float | None
    multiple: float | None
    glue_average: float | None


# Houlsby et al. 2019, Table 1: what its rows say apart from the tasks' figures, which are in the
# tasks' files. Shares are of the encoder layers. The average is the leaderboard's, WNLI included.
PAPER_ROWS: dict[str, _PaperRow] = {
    "full": _PaperRow("full fine-tuning", 1.0, 9.0, 0.804),
    "adapters_8_256": _PaperRow("adapters 8-256", 0.036, 1.3, 0.800),
    "adapters_64": _PaperRow("adapters 64", 0.021, 1.2, 0.796),
    "top_1_layer": _PaperRow("top layer only", None, None, None),
}
TABLE_1 = "Houlsby et al. 2019, Table 1"


def compare(cells: Iterable[Cell]) -> list[Group]:
    """Sort cells into comparisons; real data before the sample."""
    apart: dict[tuple[bool, str, str, str], list[Cell]] = {}
    for cell in cells:
        apart.setdefault(_comparable(cell), []).append(cell)
    return [_group(members, number) for number, (_, members) in enumerate(sorted(apart.items()), 1)]


def describe(settings: Mapping[str, object]) -> str:
    """Settings by their short names: ``size 64, lr 0.001, epochs 3``."""
    return ", ".join(f"{SHORT_NAMES.get(key, key)} {written(v)}" for key, v in settings.items())


def written(value: object) -> str:
    """A setting's value as people write it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "all" if value is None else str(value)


def missing(groups: Sequence[Group], unfinished: Iterable[Unfinished]) -> list[Missing]:
    """All holes with the command that fills each: cells, seeds, and cells without any seed.

    Seeds are missing where a row shows the cell, or where they failed: of a search that gave one seed to
    each candidate, the other candidates are complete.
    """
    found: dict[str, str] = {}  # a command fills a hole in several rows
    rows = [row for group in groups for row in group.comparison.rows]
    shown = {entry.run for row in rows for entry in row.entries if isinstance(entry, Entry)}
    for group in groups:
        for row in group.comparison.rows:
            for column, entry in zip(group.comparison.columns, row.entries, strict=True):
                if isinstance(entry, Hole):
                    found.setdefault(entry.command, f"{row.label} on {column.label}")
        for cell in group.cells:
            if cell.missing and (cell.failed or cell.digest in shown):
                seeds = ", ".join(map(str, cell.missing))
                what = (
                    f"{cell.facts.task}, {cell.folder.name}: seeds {seeds}{_failures(cell.failed)}"
                )
                found[train_command(cell.config, cell.origins)] = what
    for one in unfinished:
        what = f"{one.folder.parent.name}, {one.folder.name}: no seed is finished"
        found[one.command] = what + _failures(one.failed)
    return [Missing(what=what, command=command) for command, what in found.items()]


def _failures(failed: Mapping[int, str]) -> str:
    return "".join(f"; seed {seed} failed: {error}" for seed, error in failed.items())


def remarks(comparison: Comparison) -> list[str]:
    """What a reader must know of single figures: seeds that collapsed or diverged, partial data."""
    collapsed: dict[tuple[str, str], str] = {}  # by run and column: two rows may show one run
    diverged: dict[str, str] = {}
    for row in comparison.rows:
        for column, entry in zip(comparison.columns, row.entries, strict=True):
            if isinstance(entry, Entry):
                where = f"{row.label} on {column.label}"
                if entry.collapsed:
                    told = f"{where} {_seeds(entry.collapsed, entry.num_seeds)}"
                    collapsed.setdefault((entry.run, column.label), told)
                if entry.diverged:
                    told = f"{where} {_seeds(entry.diverged, entry.num_seeds)}"
                    diverged.setdefault(entry.run, told)
    found = []
    if collapsed:
        found.append(
            "† Collapsed, the same answer for every example; in the mean if the metric is defined: "
            f"{'; '.join(collapsed.values())}."
        )
    if diverged:
        found.append(
            f"† Diverged, without a score, so not in the mean: {'; '.join(diverged.values())}."
        )
    for column in comparison.columns:
        if column.data.partial:
            found.append(f"{column.label}{tables.data_note(column.data)} rows.")
    if len({(c.task, c.split) for c in comparison.columns}) < len(comparison.columns):
        found.append("A task has several columns where the rows of its data differ.")
    single = any(isinstance(e, Entry) and e.n == 1 for row in comparison.rows for e in row.entries)
    if single:
        found.append("A figure without ± is of one seed: nothing is known of its spread.")
    if comparison.elsewhere:
        found.append(
            f"Not on all columns, so only among the runs: {'; '.join(comparison.elsewhere)}."
        )
    return found


def _seeds(numbers: Sequence[int], total: int) -> str:
    return f"{len(numbers)} of {total} seeds ({', '.join(map(str, numbers))})"


def plain_mean(values: Sequence[float | None]) -> float | None:
    """The mean of all columns; None if one is missing."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def glue_average(columns: Sequence[Column], means: Sequence[Mapping[str, float]]) -> float | None:
    """GLUE's leaderboard rule over the columns that are GLUE's: the mean over tasks, each counted by
    the mean of its metrics (F1 and accuracy, Pearson and Spearman) and of its sets (MNLI).

    ``means``: a column's metrics; empty where there is no score, and then there is no average.
    """
    by_task: dict[str, list[float]] = {}
    for column, metrics in zip(columns, means, strict=True):
        if column.glue:
            if not metrics:
                return None
            by_task.setdefault(column.task, []).append(statistics.fmean(metrics.values()))
    if not by_task:
        return None
    return statistics.fmean(statistics.fmean(values) for values in by_task.values())


def choose(cells: Sequence[Cell]) -> Cell:
    """The candidate with the highest mean headline metric on the selecting split, as a sweep chooses.

    One with few seeds has too easy a chance of a high mean: of cells with fewer than three scores,
    those with the most count, and none if another has three.
    """
    scores = [tuple(cell.values(cell.selecting, cell.headline).values()) for cell in cells]
    needed = min(stats.FEWEST, max(map(len, scores)))
    able = [
        selection.Candidate(cell.digest, own, len(cell.seeds) + len(cell.failed) - len(own))
        for cell, own in zip(cells, scores, strict=True)
        if len(own) >= needed
    ]
    chosen = selection.select(able, "mean")
    return next((cell for cell in cells if chosen and cell.digest == chosen.digest), cells[0])


def _comparable(cell: Cell) -> tuple[bool, str, str, str]:
    training = cell.config["training"]
    protocol = str(cell.config.get("protocol", "paper"))
    facts = cell.facts
    return (facts.data.sample, facts.backbone.sha256, protocol, training["keep_epoch"])


def _group(cells: Sequence[Cell], number: int) -> Group:
    facts = cells[0].facts
    columns = _columns(cells)
    methods = _methods(cells)
    by_row = _rows(methods)
    reference = next((key for key in by_row if key[0] == "full"), None)
    rows, elsewhere = [], []
    for key, members in by_row.items():
        full = [] if reference is None or key == reference else by_row[reference]
        row = _row(key, members, columns, full, cells)
        has_hole = any(isinstance(entry, Hole) for entry in row.entries)
        if row.variant and has_hole:  # somebody's ablation on one task: no call to run it on all
            elsewhere.append(row.label)
        else:
            rows.append(row)
    _, _, protocol, keep_epoch = _comparable(cells[0])
    title = " · ".join(
        [
            "Sample data, not GLUE" if facts.data.sample else "Real data",
            facts.backbone.name,
            *([f"protocol {protocol}"] if protocol != "paper" else []),
            *(["last epoch kept"] if keep_epoch == "last" else []),
        ]
    )
    comparison = Comparison(
        name=f"{'sample' if facts.data.sample else 'data'}-{number}",
        title=title,
        sample=facts.data.sample,
        backbone=facts.backbone,
        protocol=_protocol(cells),
        num_tasks=facts.ledger["num_tasks"],
        columns=columns,
        rows=rows,
        elsewhere=elsewhere,
        published=[] if facts.data.sample else _published(columns, facts.backbone.name),
        sentences=_sentences(rows),
    )
    return Group(comparison, tuple(cells), methods)


def _columns(cells: Sequence[Cell]) -> list[Column]:
    found: dict[tuple[str, str, str], Column] = {}
    for cell in cells:
        facts = cell.facts
        for split in cell.reported:
            key = (facts.task, split, facts.data.fingerprint)
            if key not in found:
                is_shipped = cell.config["task"] in tasks.shipped()
                several = f" {split}" if len(cell.reported) > 1 else ""
                found[key] = Column(
                    task=facts.task,
                    label=_column_label(tasks.load(facts.task), split)
                    if is_shipped
                    else f"{facts.task}{several}",
                    split=split,
                    metric=cell.headline,
                    data=facts.data,
                    glue=is_shipped and not facts.data.sample and facts.task in GLUE,
                )

    def order(column: Column) -> tuple[bool, int, str]:
        known = column.task in GLUE
        return (not known, GLUE.index(column.task) if known else 0, column.task)

    return sorted(found.values(), key=order)


def _column_label(task: tasks.Task, split: str) -> str:
    """``MNLI-m`` for its matched split: the GLUE server's name for it."""
    position = task.evaluation.index(split)
    if position < len(task.test) and task.test[position] in task.submission:
        return task.submission[task.test[position]].file.removesuffix(".tsv")
    return task.name


def method_label(family: str, sizes: Sequence[int], variant: str) -> str:
    """``adapters 64``, ``adapters, best of 8/64/256``, ``top 2 layers, recipe official-code``."""
    name = FAMILIES[family]
    if len(sizes) > 3:
        name += f", best of {sizes[0]} to {sizes[-1]}"
    elif len(sizes) > 1:
        name += f", best of {'/'.join(map(str, sizes))}"
    elif sizes and family == "top_layers":
        name = "top layer" if sizes[0] == 1 else f"top {sizes[0]} layers"
    elif sizes:
        name += f" {sizes[0]}"
    return f"{name}, {variant}" if variant else name


def size(cell: Cell) -> int | None:
    """The bottleneck size or the number of top layers; None for a method without either."""
    method = cell.config["method"]
    found = method.get("size", method.get("k"))
    return None if found is None else int(found)


def on_column(column: Column, cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a column's task and rows."""
    return [
        cell
        for cell in cells
        if cell.facts.task == column.task and cell.facts.data.fingerprint == column.data.fingerprint
    ]


def _methods(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    found: dict[tuple[str, str], list[Cell]] = {}
    for family in FAMILIES:
        members = [cell for cell in cells if cell.config["method"]["name"] == family]
        for variant, group in _variants(members).items():
            found[family, variant] = group
    return found


# A row's identity: family, sizes it may choose from, and what else sets it apart.
_RowKey = tuple[str, tuple[int, ...], str]


def _rows(methods: Mapping[tuple[str, str], Sequence[Cell]]) -> dict[_RowKey, Sequence[Cell]]:
    """Cells by row, in the order of the table. A method of several sizes has a row for the best of
    them, and adapters one for a fixed size too.
    """
    rows: dict[_RowKey, Sequence[Cell]] = {}
    for (family, variant), group in methods.items():
        sizes = tuple(sorted({known for cell in group if (known := size(cell)) is not None}))
        rows[family, sizes, variant] = group
        if family == "adapter" and len(sizes) > 1:
            fixed = _fixed_size(group, sizes)
            rows[family, (fixed,), variant] = [cell for cell in group if size(cell) == fixed]
    return rows


def _variants(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells of one family by what sets them apart besides what is searched, in words.

    A method's own settings and the recipe always do. Others do where they differ on one task: two
    tasks may well ask for different lengths. What the recipe itself says is not named.
    """
    free = {*SEARCHED, *SIZE_KEYS}
    by_task: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        by_task.setdefault((cell.facts.task, cell.facts.data.fingerprint), []).append(cell)
    telling = []
    for key in sorted({key for cell in cells for key in cell.settings} - free):
        groups = [cells] if key == "recipe" or key.startswith("method.") else by_task.values()
        if any(len({_frozen(cell, key) for cell in group}) > 1 for group in groups):
            telling.append(key)
    if "recipe" in telling:  # a recipe's name tells what it decides
        telling = ["recipe", *(key for key in telling if not _follows(key, "recipe", cells))]
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        usual = _usual(cell)
        text = ", ".join(
            f"{_name(key)} {written(cell.settings.get(key))}"
            for key in telling
            if cell.settings.get(key) != usual.get(key)
        )
        found.setdefault(text, []).append(cell)
    return dict(sorted(found.items()))  # the usual one, which has no words, first


def _usual(cell: Cell) -> Mapping[str, object]:
    return _recipe_settings(cell.config["recipe"], cell.config["method"]["name"])


@functools.cache
def _recipe_settings(name: str, method: str) -> Mapping[str, object]:
    """The settings that nobody needs to name: those of the cell's recipe, and of the default one."""
    usual: dict[str, object] = {"recipe": configuration.DEFAULTS["recipe"], "method.layers": None}
    if name in paths.names("recipes"):
        recipe = configuration.load_recipe(name)
        for own, settings in recipe.method.items():
            if own == method:
                usual |= {f"method.{key}": value for key, value in settings.items()}
        usual |= {f"training.{key}": value for key, value in recipe.training.items()}
    return usual


def _follows(key: str, other: str, cells: Sequence[Cell]) -> bool:
    """Whether one setting's value is known from another's."""
    pairs = {(_frozen(cell, other), _frozen(cell, key)) for cell in cells}
    return len(pairs) == len({first for first, _ in pairs})


def _frozen(cell: Cell, key: str) -> str:
    return json.dumps(cell.settings.get(key))


def _name(key: str) -> str:
    return SHORT_NAMES.get(key) or key.rpartition(".")[2].replace("_", " ")


def _fixed_size(cells: Sequence[Cell], sizes: Sequence[int]) -> int:
    """The paper's 64; failing that the size that was tried on most tasks."""
    if FIXED_SIZE in sizes:
        return FIXED_SIZE

    def num_tasks(one: int) -> int:
        return len({cell.facts.task for cell in cells if size(cell) == one})

    return max(sizes, key=lambda one: (num_tasks(one), -one))


def _row(
    key: _RowKey,
    members: Sequence[Cell],
    columns: Sequence[Column],
    reference: Sequence[Cell],
    everything: Sequence[Cell],
) -> Row:
    family, sizes, variant = key
    entries: list[Entry | Hole] = []
    differences: list[stats.PairedDifference | None] = []
    best_runs: list[stats.McNemar | None] = []
    shown: dict[str, Cell] = {}
    for column in columns:
        candidates, other = on_column(column, members), on_column(column, reference)
        difference, best_run = None, None
        if candidates:
            cell = shown[column.task] = choose(candidates)
            entries.append(_entry(cell, column, len(candidates)))
            if other:
                full = choose(other)
                difference = stats.paired_difference(
                    cell.values(column.split, column.metric),
                    full.values(column.split, column.metric),
                )
                best_run = _best_runs(cell, full, column.split)
        else:
            entries.append(_hole(members[0], on_column(column, everything)[0]))
        differences.append(difference)
        best_runs.append(best_run)
    scores = [entry.mean if isinstance(entry, Entry) else None for entry in entries]
    metrics = [entry.means if isinstance(entry, Entry) else {} for entry in entries]
    ledgers = [cell.facts.ledger for cell in shown.values()]

    def over_tasks(name: str) -> float:
        return statistics.fmean(ledger[name] for ledger in ledgers)

    return Row(
        label=method_label(family, sizes, variant),
        method=family,
        variant=variant,
        entries=entries,
        mean=plain_mean(scores),
        glue_average=glue_average(columns, metrics),
        trained=over_tasks("trained"),
        # Full fine-tuning trains all of the encoder, and more: the paper says 100 %.
        share_of_encoder_layers=1.0 if family == "full" else over_tasks("share_of_encoder_layers"),
        share_of_all_parameters=over_tasks("share_of_all_parameters"),
        multiple=over_tasks("multiple_of_encoder_layers"),
        differences=differences,
        best_runs=best_runs,
    )


def _best_runs(cell: Cell, other: Cell, split: str) -> stats.McNemar | None:
    """The McNemar test of two cells' best seeds; None without labels of both."""
    if cell.best_seed is None or other.best_seed is None:
        return None
    own, beside = cell.labels(cell.best_seed, split), other.labels(other.best_seed, split)
    if own is None or beside is None:
        return None
    return stats.mcnemar(own.predicted, beside.predicted, own.true)


def _hole(like: Cell, there: Cell) -> Hole:
    """For a cell like one, on the task and data of another."""
    moved = {key: there.config[key] for key in ("task", "data")}
    origins = {key: origin for key, origin in like.origins.items() if not key.startswith("data.")}
    origins |= {key: origin for key, origin in there.origins.items() if key.startswith("data.")}
    return Hole(command=train_command({**like.config, **moved}, origins))


def _entry(cell: Cell, column: Column, num_candidates: int) -> Entry:
    by_seed = cell.values(column.split, column.metric)
    values = list(by_seed.values())
    best = cell.best_seed
    means = {
        metric: stats.mean(list(cell.values(column.split, metric).values()))
        for metric in cell.metrics
    }
    keys = (*SIZE_KEYS, *SEARCHED)
    return Entry(
        run=cell.digest,
        settings={key: cell.settings[key] for key in keys if key in cell.settings},
        num_candidates=num_candidates,
        num_seeds=len(cell.seeds),
        n=len(values),
        mean=stats.mean(values),
        deviation=stats.deviation(values),
        standard_error=stats.standard_error(values),
        interval=stats.mean_interval(values),
        best=None if best is None else by_seed.get(best),
        expected_best=stats.expected_maximum(values, len(values)) if values else None,
        scores=by_seed,
        means={metric: value for metric, value in means.items() if value is not None},
        diverged=cell.diverged,
        collapsed=cell.collapsed(column.split),
    )


def _protocol(cells: Sequence[Cell]) -> str:
    """What was selected on what, and what is shown, in words."""
    cell = cells[0]
    best = cell.config["training"]["keep_epoch"] == "best"
    same = cell.selecting in cell.reported
    selecting = "validation" if same else f"the {cell.selecting} part of the training set"
    epoch = f"its best epoch on {selecting}" if best else "its last epoch"
    chosen = (
        f"Where a method was searched, the candidate with the highest mean on {selecting} is shown"
    )
    optimism = (
        ", which is also what is reported: so figures are optimistic, the more so the more candidates."
        if same
        else "; the validation set, which chose nothing, is reported."
    )
    return f"Means and sample deviations over seeds. Each seed keeps {epoch}. {chosen}{optimism}"


def _published(columns: Sequence[Column], backbone: str) -> list[PublishedRow]:
    """The figures in the tasks' files, by source and row."""
    found: dict[tuple[str, str, str, bool], list[float | None]] = {}  # source, model, row, on test
    for position, column in enumerate(columns):
        if not column.glue:
            continue
        task = tasks.load(column.task)
        place = task.evaluation.index(column.split)
        test = task.test[place] if place < len(task.test) else None
        for published in task.published:
            if published.metric != column.metric or published.split not in (column.split, test):
                continue
            on_test = published.split == test
            for name, value in published.figures.items():
                key = (published.source, published.model, str(name), on_test)
                found.setdefault(key, [None] * len(columns))[position] = value / 100
    is_partial = any(column.data.partial for column in columns)
    rows = []
    for (source, model, row, on_test), values in found.items():
        facts = PAPER_ROWS[row]
        in_table = source == TABLE_1
        whole = in_table and {column.task for column in columns} >= set(GLUE) - {"wnli"}
        reasons = [
            *([model] if model != backbone else []),
            *(["test server"] if on_test else []),
            *(["ours: partial training sets"] if is_partial else []),
        ]
        rows.append(
            PublishedRow(
                label=facts.label,
                source=f"{source}, {model}, {'test server' if on_test else 'validation'}",
                values=values,
                mean=plain_mean(values),
                glue_average=facts.glue_average if whole else None,
                share=facts.share if in_table else None,
                multiple=facts.multiple if in_table else None,
                comparable=not reasons,
                why_not=", ".join(reasons) or None,
            )
        )
    return rows


def _sentences(rows: Sequence[Row]) -> list[str]:
    """ "Adapters 64 keep 99.4 % of full fine-tuning's score with 2.1 % …", where both were run."""
    reference = next((row for row in rows if row.method == "full"), None)
    if reference is None:
        return []
    sentences = []
    for row in rows:
        pairs = [
            (own.mean, full.mean)
            for own, full in zip(row.entries, reference.entries, strict=True)
            if isinstance(own, Entry) and isinstance(full, Entry)
            if own.mean is not None and full.mean is not None
        ]
        if row.method != "adapter" or not pairs:
            continue
        if min(min(pair) for pair in pairs) <= 0:  # a share of a correlation below 0 means nothing
            continue
        own = statistics.fmean(pair[0] for pair in pairs)
        full = statistics.fmean(pair[1] for pair in pairs)
        over = f"mean of {len(pairs)} columns" if len(pairs) > 1 else "on one column"
        name = row.label[0].upper() + row.label[1:]
        sentences.append(
            f"{name} {'keep' if own < full else 'reach'} {tables.percent(own / full)} % of full "
            f"fine-tuning's score "
            f"({tables.percent(own)} against {tables.percent(full)}, {over}) with "
            f"{tables.percent(row.share_of_encoder_layers)} % of the encoder's parameters trained."
        )
    return sentences
