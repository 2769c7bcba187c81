"""The result files' schema. A missing number is null, never 0; scores are fractions, not per cent.

``seed-N/result.json`` is a :class:`SeedResult`; the cell's ``result.json`` is a :class:`CellResult`.
Both are written last: their presence means finished. ``bench`` prints a :class:`BenchResult`, and
``ablate spans`` writes a :class:`SpansResult` beside the cell's result, ``prune`` a
:class:`PruneResult` beside the smaller one's. The other ablations, sweeps, write an
:class:`AblationResult` into the store's folder ``ablations``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from adaptertune.catalogue import Architecture
from adaptertune.stats import Interval, PairedDifference

FORMAT = 1


class Record(BaseModel):
    """Base of everything in a result file."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


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
    architecture: Architecture = "bert"
    """transformers' model_type. BERT's head reads its pooler, the others' the first token's state."""


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
    """What a seed took. Everything else in a result is the same on every repetition."""

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
    """Largest memory of the process so far, or of the CUDA device."""
    resumed: int
    """How often the run went on from a snapshot."""
    finished_at: str
    host: str


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


class AblationScores(Record):
    """A metric of one point of an ablation, on the reported split; values are fractions."""

    values: dict[int, float]
    """By seed; without those that diverged, failed, or for which it is not defined."""
    mean: float | None
    deviation: float | None
    """Sample standard deviation; null for fewer than two seeds."""
    standard_error: float | None
    """Of the mean."""
    interval: Interval | None
    """Of the mean; null for fewer than five seeds."""
    difference: PairedDifference | None
    """To the reference, paired over seeds; null for itself, or without one."""


class AblationPoint(Record):
    """A method at one value of what an ablation varies: the best of its candidates."""

    method: str
    """Without what varies: points of one method are a line of the chart."""
    value: float | None
    """Of what varies; null if that is nothing that is a number, or not of this method."""
    cell: str
    """The run's folder."""
    digest: str
    chosen: dict[str, Any]
    """The settings that the grid chose for it."""
    num_candidates: int
    """Cells with this value; the highest mean over seeds on the selecting split chose among them."""
    trained: int
    """Parameters without the head."""
    scores: dict[str, AblationScores]
    """By metric."""
    diverged: list[int]
    """Seeds whose loss was no longer finite: they have no score."""
    failed: list[int]
    """Seeds that ended with an error."""
    collapsed: list[int]
    """Seeds that answer the same for every example; they count in the mean."""
    reference: int | None
    """Position among the points of the one to which differences are; null for itself, or none."""


class AblationTask(Record):
    """What an ablation found on one task."""

    task: str
    split: str
    """That is reported."""
    headline: str
    data: DataFacts
    points: list[AblationPoint]
    """By method and value; with ``by`` ``trained``, by trained parameters."""


class AblationResult(Record):
    """What a method's parts and settings do to the score: every ``ablate`` that trains."""

    format: int = FORMAT
    kind: str
    """The command: ``init``, ``size``, ``lr``, ``depth``, ``variants``."""
    by: str | None
    """What the chart is drawn over: a setting's dotted key, or ``trained``; null for variants."""
    digest: str
    """The sweep's."""
    config: dict[str, Any]
    """The sweep's configuration."""
    cells: list[str]
    """Digests of all its cells, of those that no point shows too."""
    backbone: BackboneFacts
    protocol: str
    """In words: which statistic, of which split, and what was selected on what."""
    tasks: list[AblationTask]


class StepSeconds(Record):
    """A training step: means over the epoch, each batch the median of its repetitions."""

    batch: float
    """Making the batch and bringing it to the device."""
    forward: float
    backward: float
    optimizer: float
    total: float
    """The whole; on CUDA without waiting for each part, so less than their sum."""


class MemoryBytes(Record):
    """What training takes, at the epoch's largest batch."""

    trained_weights: int
    frozen_weights: int
    gradients: int
    optimizer: int
    """Both moments of what trains."""
    activations: int
    """What the forward pass keeps for the backward pass, dropout masks included."""
    peak: int
    """Weights, moments, and the most that was allocated beside them at a time during a step."""


class TrainingSpeed(Record):
    """How a method trains on this machine."""

    method: dict[str, Any]
    label: str
    seconds: StepSeconds
    examples_per_second: float
    cached_layers: int
    """How many layers from the bottom the run takes from the trunk cache, and so were not timed."""
    flops_per_step: float
    """Operations of the matrix products that a step needs, padding included; the mean."""
    limit_share: float
    """Of ``limit_flops_per_second``, at each batch's own number of rows."""
    memory: MemoryBytes


class PassSeconds(Record):
    """Several forward passes of one shape."""

    median: float
    percentile_90: float


class InferenceLatency(Record):
    """A forward pass of the chosen method's model."""

    batch_size: int
    length: int
    """Tokens of each example, padding included: the task's median."""
    own: PassSeconds
    """The model as it is trained."""
    without_adapters: PassSeconds | None
    """The same with its adapters removed; null if there are none."""


class BenchResult(Record):
    """How fast a machine trains and answers. Measured at the time, in no digest."""

    format: int = FORMAT
    task: str
    data: DataFacts
    backbone: BackboneFacts
    precision: Literal["fp32", "bf16"]
    device: str
    device_name: str
    num_threads: int
    batch_size: int
    num_steps: int
    """Timed steps of each method."""
    num_batches: int
    """Different batches among them; each stands for an equal share of the epoch."""
    mean_tokens: float
    """Of those batches, padding included."""
    limit_flops_per_second: float
    """Of a (tokens, width) by (width, intermediate) product in the compute type, measured here."""
    training: list[TrainingSpeed]
    """The chosen method, then full fine-tuning unless that is it."""
    inference: list[InferenceLatency]
    peak_process_bytes: int
    """Largest memory of this process, which holds all that is compared; on CUDA of the device."""
    torch: str
    """Its version."""


class Change(Record):
    """A metric's relative change, ``value / intact - 1``, over the seeds; null where not defined."""

    mean: float | None
    deviation: float | None
    """Sample standard deviation; null for fewer than two seeds."""


class SpanCell(Record):
    """A trained model whose adapters in one span of layers were taken away, without retraining."""

    first: int
    last: int
    """Layers, counted from 0; both belong to the span."""
    values: dict[str, list[float | None]]
    """Metric to its value for each of ``seeds``."""
    change: dict[str, Change]


class SpansResult(Record):
    """Trained adapters removed from every span of layers; LayerNorms and head stay as trained."""

    format: int = FORMAT
    task: str
    digest: str
    """The cell's."""
    folder: str
    data: DataFacts
    backbone: BackboneFacts
    precision: Literal["fp32", "bf16"]
    device: str
    split: str
    num_examples: int
    headline: str
    seeds: list[int]
    num_layers: int
    """Of the backbone."""
    layers: list[int]
    """Those whose spans these are; all have adapters."""
    intact: dict[str, list[float | None]]
    """Metric to its value with all adapters in place, for each of ``seeds``."""
    majority_share: float | None
    """Share of the most frequent label: the accuracy of always guessing it; null for scores."""
    cells: list[SpanCell]
    """By first and then last layer."""
    layer_evaluations: int
    """Layers computed for each example and seed, what spans share once."""
    layer_evaluations_apart: int
    """The same if each span went through the whole model."""
    seconds: float
    """Of all seeds."""


class Half(Record):
    """Scores on one half of the evaluated split, before and after pruning."""

    num_examples: int
    before: dict[str, list[float | None]]
    """Metric to its value for each of ``seeds``; ``after`` likewise."""
    after: dict[str, list[float | None]]


class PrunedLatency(Record):
    """A forward pass with all adapters and with those that stay, in turn."""

    batch_size: int
    length: int
    """Tokens of each example, padding included: the task's median."""
    before: PassSeconds
    after: PassSeconds


class PruneResult(Record):
    """Adapters taken away from a trained run while its score stays within a limit."""

    format: int = FORMAT
    task: str
    digest: str
    """That of the cell that was pruned."""
    folder: str
    pruned: str | None
    """The smaller run's folder, of this result too; null if no adapters may go."""
    data: DataFacts
    backbone: BackboneFacts
    precision: Literal["fp32", "bf16"]
    device: str
    split: str
    headline: str
    max_drop: float
    """The most that the headline metric's mean over the seeds may lose, as a fraction of 1."""
    seeds: list[int]
    removed: list[int]
    """Layers without adapters now."""
    remaining: list[int]
    num_candidates: int
    """Choices of layers that were evaluated."""
    choosing: Half
    """On which the choice was made: optimistic."""
    reporting: Half
    """Not used for the choice."""
    trained_before: int
    trained_after: int
    """Parameters in the checkpoint, head included."""
    inference: list[PrunedLatency]
    seconds: float
