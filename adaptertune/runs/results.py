"""The result files' schema. A missing number is null, never 0; scores are fractions, not per cent.

``seed-N/result.json`` is a :class:`SeedResult`; the cell's ``result.json`` is a :class:`CellResult`, a
sweep's a :class:`SweepResult`. They are written last: their presence means finished. What is found out
from finished runs is in ``runs/analyses.py``.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from adaptertune.catalogue import Architecture, without_revision

FORMAT = 1
UNTOLD = "-"  # in a copied run, where a host or a path of the machine stood that trained it


class Record(BaseModel):
    """Base of everything in a result file."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def as_line(self) -> str:
        """JSON in ASCII, which no terminal's encoding changes."""
        return json.dumps(self.model_dump(mode="json"))


class DataFacts(Record):
    """Which rows a run saw."""

    source: Literal["hub", "folder", "sample"]
    description: str
    fingerprint: str
    """Identifies the rows: SHA-256 of the files, or dataset and revision on the hub."""
    num_train: int
    """Rows that train."""
    num_held_out: int = 0
    """Rows of the training set that select instead of training (protocol held-out)."""
    num_train_complete: int | None
    """Rows of the complete training set; null if the task does not say."""
    partial: bool
    """Whether the training set is only a part of the complete one."""
    sample: bool
    """Whether this is the embedded sample: generated text, never to be set beside GLUE figures."""


class BackboneFacts(Record):
    """The base model."""

    name: str
    sha256: str
    """SHA-256 of its weights file."""
    commit: str | None
    """The hub's commit, if it came from there."""
    files: str | None = None
    """Digest of configuration and tokenizer; earlier versions recorded only a folder's of one's own."""
    architecture: Architecture = "bert"
    """transformers' model_type. BERT's head reads its pooler, the others' the first token's state."""

    @property
    def model(self) -> str:
        """Its name, of one from the hub without a revision; a folder's may hold an ``@``."""
        return without_revision(self.name) if self.commit else self.name

    @property
    def at_commit(self) -> str:
        """Its name as what it was: of one from the hub, with the commit."""
        return f"{self.model}@{self.commit}" if self.commit else self.name


class SplitScores(Record):
    """All metrics on one split."""

    num_examples: int
    values: dict[str, float | None]
    """Metric name to value, as a fraction; null where it is not defined."""
    collapsed: bool
    """Whether every prediction is the same class (or score)."""


class CheckpointFacts(Record):
    """What the checkpoint holds."""

    file: str
    parameters: int
    bytes: int


class Cost(Record):
    """What a seed took. The rest of a result is the same on every repetition with the same versions."""

    train_seconds: float
    evaluate_seconds: float
    trunk_seconds: float = 0.0
    """Computing what frozen lower layers give, once for all seeds; 0 if it was known."""
    examples_per_second: float | None
    """Training speed, median over the epochs."""
    micro_batch: int | None = None
    """Examples computed at a time; less than a batch where memory ran out."""
    threads: int | None = None
    """Of a CPU: with another number the last bits of the figures differ."""
    peak_memory_bytes: int | None
    """Largest memory of the process since this training was begun or gone on with, or of the CUDA
    device; of seeds in one pass the pass's.
    """
    resumed: int
    """How often the run went on from a snapshot."""
    finished_at: str
    host: str
    """The machine's name; ``UNTOLD`` where the run was copied from another store."""


class Imported(Record):
    """Where a run comes from that was trained elsewhere; of its training nothing is known."""

    source: str
    """A repository of the hub, or the name of a folder."""
    commit: str | None
    """The hub's, if it came from there."""
    library: str
    """Which wrote it."""
    sha256: dict[str, str]
    """File to SHA-256."""


class InitFrom(Record):
    """The trained weights that a run started from."""

    run: str
    """Task, folder and seed."""
    task: str
    seed: int
    digest: str
    """That seed's."""
    sha256: str
    """Of its checkpoint."""
    head: bool
    """Whether its head too: the labels are the same."""


class SeedResult(Record):
    """One training with one seed."""

    format: int = FORMAT
    status: Literal["finished", "diverged"]
    """``diverged``: the loss was no longer finite; there are no scores then."""
    task: str
    seed: int
    digest: str
    """Identifies configuration, data, base model and seed."""
    config: dict[str, Any]
    data: DataFacts
    backbone: BackboneFacts
    precision: Literal["fp32", "bf16"]
    device: str
    ledger: dict[str, Any]
    selecting_split: str
    num_epochs: int
    kept_epoch: int | None
    """Counted from 1; chosen as ``config.training.keep_epoch`` says."""
    diverged_epoch: int | None
    scores: dict[str, SplitScores]
    """Scores of the kept epoch by split."""
    checkpoint: CheckpointFacts | None
    """Null if it diverged, or where results are kept without their models."""
    versions: dict[str, str]
    cost: Cost
    imported: Imported | None = None
    """Of a run that was not trained here: recipe and training in ``config`` are without meaning then."""
    init_from: InitFrom | None = None
    """Null where the first weights are the backbone's, and new ones for all else."""

    def score(self, metric: str) -> float | None:
        """A metric on the split that selected; None if it diverged or the metric is not defined."""
        split = self.scores.get(self.selecting_split)
        return split.values[metric] if split else None

    @property
    def is_collapsed(self) -> bool:
        """Whether every answer there is the same."""
        split = self.scores.get(self.selecting_split)
        return bool(split and split.collapsed)


class Failure(Record):
    """A training that ended with an error (``failure.json``): a hole until it is tried again."""

    format: int = FORMAT
    seed: int
    digest: str
    """That of the seed's result, had there been one."""
    error: str
    """One line: what went wrong."""
    traceback: str
    attempts: int
    failed_at: str
    host: str


class SeedLine(Record):
    """A seed in a cell's summary."""

    seed: int
    status: Literal["finished", "diverged", "failed"]
    """``failed``: ended with an error, see the folder's ``failure.json``."""
    score: float | None
    """The headline metric on the selecting split."""
    kept_epoch: int | None
    collapsed: bool
    folder: str


class Spread(Record):
    """A metric over the finished seeds; values are fractions."""

    n: int
    mean: float | None
    deviation: float | None
    """Sample standard deviation; null for fewer than two seeds."""
    minimum: float | None
    maximum: float | None
    best: float | None
    """The value of the best seed, which the headline metric on the selecting split chose."""


class PublishedFigure(Record):
    """A published figure and whether it may be set beside this cell's."""

    source: str
    model: str
    split: str
    metric: str
    row: str
    value: float
    """In per cent."""
    comparable: bool
    why_not: str | None


class CellResult(Record):
    """A task, a method and settings over several seeds."""

    format: int = FORMAT
    task: str
    digest: str
    folder: str
    config: dict[str, Any]
    origins: dict[str, str]
    """Where each setting came from: an option, a file's line, the task, the backbone, the recipe."""
    data: DataFacts
    backbone: BackboneFacts
    precision: Literal["fp32", "bf16"]
    ledger: dict[str, Any]
    headline: str
    """The metric that selects."""
    selecting_split: str
    protocol: str
    """In words: what was selected, on what, and so how to read the best."""
    seeds: list[SeedLine]
    scores: dict[str, dict[str, Spread]]
    """Split, then metric."""
    num_failed: int = 0
    num_diverged: int
    num_collapsed: int
    best_seed: int | None
    checkpoint: str | None
    """The best seed's checkpoint; null if it was not kept."""
    train_seconds: float
    """Of all seeds, with what was computed once for them."""
    evaluate_seconds: float
    published: list[PublishedFigure]
    imported: Imported | None = None
    """Of a run that was not trained here."""
    init_from: InitFrom | None = None
    """As a seed's."""


class ListedRun(Record):
    """A run as ``runs --json`` lists it."""

    folder: str
    finished: bool
    result: CellResult | None
    """Null if it is not finished, or damaged."""
    error: str | None
    """What is wrong with a damaged one."""


class Choice(Record):
    """Which of several cells of a task was chosen, and how it scores."""

    task: str
    row: str
    """The method, each bottleneck size a method of its own; or the best of several sizes."""
    metric: str
    """The headline metric."""
    selecting_split: str
    reported_split: str
    data: DataFacts
    num_cells: int
    """Among which it was chosen."""
    num_runs: int
    num_failed: int
    num_diverged: int
    num_collapsed: int
    """Runs that give every example the same answer."""
    cell: str | None
    """The chosen cell's folder; null if no run came to a score."""
    digest: str | None
    chosen: dict[str, Any] | None
    """The settings that the sweep's grid chose for it."""
    scores: dict[str, dict[str, Spread]]
    """Of the chosen cell: split, then metric."""
    best_seed: int | None
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the mean on the reported split; null for fewer than five seeds."""
    expected_best_cell: dict[int, float]
    """What the best of so many cells is expected to score on the selecting split."""
    expected_best_seed: dict[int, float]
    """What the best of so many seeds of the chosen cell is expected to score on the reported split."""
    lost: list[int] = []
    """Seeds of the chosen cell that collapsed, diverged or failed."""
    next_best: dict[str, Any] | None = None
    """The settings of the cell that comes next by the one seed that chose, where others were lost."""


class SweepResult(Record):
    """What a sweep chose for each task and method."""

    format: int = FORMAT
    name: str
    digest: str
    config: dict[str, Any]
    protocol: Literal["paper", "held-out"]
    statistic: Literal["best", "mean"]
    """Over a cell's seeds, on the selecting split: what chose among cells."""
    in_words: str
    num_cells: int
    num_runs: int
    num_failed: int
    num_diverged: int
    num_collapsed: int
    choices: list[Choice]
    cells: list[str] = []
    """Digests of all its cells, of those that were not chosen too, in the order of its grids. Empty in
    results of versions that did not write them."""
