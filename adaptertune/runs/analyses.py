"""The result files of what is found out from runs; as in ``runs/results.py``, nothing missing is 0.

``ablate spans`` writes a :class:`SpansResult` beside the cell's result, ``prune`` a
:class:`PruneResult` beside the smaller one's; the other ablations, sweeps, write an
:class:`AblationResult` into the store's folder ``ablations``. ``bench`` prints a :class:`BenchResult`.
"""

from __future__ import annotations

from typing import Any, Literal

from adaptertune.runs.results import FORMAT, BackboneFacts, DataFacts, Record
from adaptertune.stats import Interval, PairedDifference


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
    """Seeds that answer the same for every example; in the mean if the metric is defined."""
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
    """The command: ``init``, ``size``, ``lr``, ``depth``, ``parts``, ``variants``."""
    by: str | None
    """What the chart is drawn over: a setting's dotted key, or ``trained``; null if methods differ."""
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
