"""What a report says, as records: the page, the tables and ``--json`` show these and nothing else."""

from __future__ import annotations

from adaptertune import stats
from adaptertune.runs.results import FORMAT, BackboneFacts, DataFacts, Record


class Column(Record):
    """A task's split and its headline metric, on certain rows."""

    task: str
    task_digest: str
    """Of the task's definition and its rows, as :attr:`evidence.Cell.task_digest`."""
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
    """Cells among which this one was chosen on the selecting split, by what the protocol asks for."""
    sizes: list[int]
    """Of these candidates: bottleneck sizes, ranks or numbers of layers; empty for a method without."""
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
    """Seeds that answer the same for every example; in the mean if the metric is defined."""


class Cost(Record):
    """What training a seed takes, and how much of full fine-tuning's that is on the same machine."""

    seconds: float
    """Of training, evaluation apart; the mean over finished seeds."""
    epochs: int | None
    """Null for several tasks."""
    peak_memory_bytes: int | None
    """The least of its seeds, for a process may still hold what an earlier run left; of seeds in one
    pass the pass's, beside which ``memory_of_full`` is null unless full fine-tuning's is one too.
    """
    machines: list[str]
    """Host, device, threads and precision of its seeds: one, or none where that is not known."""
    epochs_of_full: int | None = None
    """Of what it is set beside, as all that follows; null where machines differ."""
    time_of_full: float | None = None
    time_of_full_per_epoch: float | None = None
    memory_of_full: float | None = None


class Hole(Record):
    """A run that nobody made yet."""

    command: str | None
    """Null where none can: the rows of the column have been changed since."""


class Beside(Record):
    """A method beside full fine-tuning on a column, over the seeds that both have."""

    run: str
    """Digest of full fine-tuning's candidate: the best of those that are trained alike."""
    num_candidates: int
    """Among which that was chosen."""
    own: float
    """The method's mean over these seeds."""
    full: float
    difference: stats.PairedDifference
    best_runs: stats.McNemar | None
    """The answers of the two best seeds; ``only_first`` counts what only the method's gets right."""
    untested: str | None
    """Why there is no such test."""


class Place(Record):
    """A row's place in a column."""

    entry: Entry | Hole
    beside: Beside | None
    """Null for full fine-tuning itself, and where none was trained alike but for what a method and its
    search decide, or no seed is shared."""
    cost: Cost | None
    """Null in a hole, where no seed finished, and where an earlier column has it, for two splits of one
    task."""


class Row(Record):
    """A method over all columns."""

    label: str
    method: str
    variant: str
    """What sets it apart from other rows of the method; often empty."""
    places: list[Place]
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
    wins: int
    """Columns on which the mean difference is above 0; a count, and no test."""
    losses: int
    total_cost: Cost | None
    """Of all tasks that full fine-tuning was run on too, on the same machine; null for that itself."""

    @property
    def entries(self) -> list[Entry | Hole]:
        return [place.entry for place in self.places]


class PublishedRow(Record):
    """A published row, with what keeps it apart from ours. Scores are fractions."""

    label: str
    source: str
    values: list[float | None]
    mean: float | None
    glue_average: float | None
    share: float | None
    multiple: float | None
    num_tasks: int
    """That ``multiple`` and ``glue_average`` count."""
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
    """That are compared; ``multiple`` counts them."""
    columns: list[Column]
    rows: list[Row]
    elsewhere: list[str]
    """Variants without a row, for they were not run on all columns."""
    of_ablations: list[str]
    """Methods, sizes and variants of runs without a row: they ran for an ablation, and stand there."""
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
