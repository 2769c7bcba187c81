"""The result files' schema. A missing number is null, never 0; scores are fractions, not per cent.

``seed-N/result.json`` is a :class:`SeedResult`; the cell's ``result.json`` is a :class:`CellResult`.
Both are written last: their presence means finished.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

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
    peak_memory_bytes: int | None
    """Largest memory of the process so far, or of the CUDA device."""
    resumed: int
    """How often the run went on from a snapshot."""
    finished_at: str
    host: str


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
    versions: dict[str, str]
    cost: Cost


class SeedLine(Record):
    """A seed in a cell's summary."""

    seed: int
    status: Literal["finished", "diverged"]
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
    num_diverged: int
    num_collapsed: int
    best_seed: int | None
    checkpoint: str | None
    """The best seed's checkpoint."""
    train_seconds: float
    """Of all seeds, with what was computed once for them."""
    evaluate_seconds: float
    published: list[PublishedFigure]
