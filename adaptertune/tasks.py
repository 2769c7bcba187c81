"""A task: everything that is known about it stands in its one YAML file, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from adaptertune import paths
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import Document, Strict, complaints, like, nearest, parse, read_yaml

MetricName = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]
CLASSIFICATION_METRICS = ("accuracy", "f1", "matthews")
REGRESSION_METRICS = ("pearson", "spearman")
METHOD_ROWS = Literal["full", "adapters_8_256", "adapters_64", "top_1_layer"]


NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
Name = Annotated[str, like(NAME, "a name of letters, digits, '_', '-' and '.'")]
HubPattern = Annotated[
    str,
    like(
        r"([^./\\][^/\\]*/)*[^./\\][^/\\]*",
        "a path inside the dataset, no part of which begins with '.'",
    ),
]
FileName = Annotated[str, like(r"(?!\.\.?$)[^/\\]+", "a name without a path")]
Commit = Annotated[str, like(r"[0-9a-f]{40}", "a commit, of 40 hexadecimal digits")]


class Columns(Strict):
    """Which column holds what: by header name, or by position (from 0) in a file without header."""

    first: str | int
    second: str | int | None = None
    label: str | int | None = None

    @property
    def has_header(self) -> bool:
        return isinstance(self.first, str)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [c for c in (self.first, self.second, self.label) if c is not None]
        if len({type(column) for column in given}) > 1:
            raise ValueError("must be all names (a header line) or all positions (none)")
        return self


class TsvFile(Strict):
    """One split's file; ``columns`` where they differ from the task's."""

    file: FileName
    columns: Columns | None = None


class Files(Strict):
    """The task in the official GLUE layout: one folder of tab-separated files, quoting off."""

    folder: FileName | None = None
    columns: Columns
    # How each label is spelt in the files, in the order of the task's labels.
    label_values: tuple[str, ...] | None = None
    # Whether a second text may be empty in training, and rows that a line end inside a text tore
    # in two are left out, as the hub's are. So it is in QQP's official training set.
    torn: bool = False
    splits: dict[Name, TsvFile]


class Hub(Strict):
    """The task as a dataset of the Hugging Face Hub at one fixed revision.

    Its rows are the Parquet files in the folder ``config``, named after the splits; or, with
    ``splits``, the files that a pattern names for each, in any format.
    """

    dataset: str
    revision: Commit
    config: FileName | None = None
    columns: Columns
    splits: dict[Name, HubPattern] | None = None
    # How each label is spelt in those files, in the order of the task's labels; Parquet's class
    # numbers are spelt "0", "1", …
    label_values: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        if (self.config is None) == (self.splits is None):
            raise ValueError("'hub' needs either 'config' or 'splits'")
        if self.label_values is not None and self.splits is None:
            raise ValueError("'hub.label_values' goes with 'hub.splits'")
        return self


class Submission(Strict):
    """The GLUE server's file for one test split, how it spells the labels, and the column that numbers
    the rows in a test file that has it.
    """

    file: FileName
    labels: tuple[str, ...] | None = None
    index: str = "index"


class PaperFigures(Strict):
    """Figures that others published for this task, with all that decides what they may be set beside.

    ``model`` and ``split`` must be a run's own before its score may stand next to them.
    """

    source: str
    model: str
    split: str
    metric: MetricName
    # In per cent, by row of the paper's tables.
    figures: dict[METHOD_ROWS, float]


class TaskTraining(Strict):
    """What a task asks of training where it differs from the recipe."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    max_length: Annotated[int, Field(ge=8)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None


class Task(Strict):
    """A task's facts. ``labels`` (in the order of their numbers) or ``range``, never both."""

    name: Name
    title: str
    labels: tuple[str, ...] | None = None
    range: tuple[float, float] | None = None
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)]
    headline: MetricName
    # Splits that are evaluated; the first one selects. Empty for a set without labels.
    evaluation: tuple[Name, ...]
    test: tuple[Name, ...] = ()
    # Rows of the complete data set: a training set with fewer is named partial in every result.
    rows: dict[Name, int] = {}
    files: Files | None = None
    hub: Hub | None = None
    submission: dict[Name, Submission] = {}
    published: tuple[PaperFigures, ...] = ()
    training: TaskTraining = TaskTraining()
    # A set without training data is answered by the model of this task.
    trained_on: Name | None = None

    @property
    def is_regression(self) -> bool:
        return self.range is not None

    @property
    def num_outputs(self) -> int:
        return len(self.labels) if self.labels else 1

    @property
    def is_pair(self) -> bool:
        """Whether an example has two texts."""
        columns = self.files.columns if self.files else self.hub.columns if self.hub else None
        return columns is not None and columns.second is not None

    @property
    def trainable(self) -> bool:
        return self.trained_on is None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if wrong := list(self._contradictions()):
            raise ValueError("\n".join(wrong))
        return self

    def _contradictions(self) -> Iterator[str]:
        """What does not go together, a line each."""
        is_either = (self.labels is None) != (self.range is None)
        if not is_either:
            yield "needs either 'labels' (classification) or 'range' (regression)"
        if self.labels is not None and (
            len(self.labels) < 2 or len(set(self.labels)) < len(self.labels)
        ):
            yield "'labels' must hold at least two different names"
        for label in self.labels or ():
            if not label.strip() or not label.isprintable():
                yield f"label {label!r} is empty or has a character that can't be seen"
        if self.range is not None and self.range[0] >= self.range[1]:
            yield f"'range' runs backwards: {self.range[0]:g} to {self.range[1]:g}"
        allowed = REGRESSION_METRICS if self.is_regression else CLASSIFICATION_METRICS
        wrong = [metric for metric in self.metrics if metric not in allowed]
        if wrong and is_either:
            kind = "regression" if self.is_regression else "classification"
            yield f"metric '{wrong[0]}' is not for {kind}; choose from {', '.join(allowed)}"
        if "f1" in self.metrics and self.num_outputs > 2:
            yield "metric 'f1' is that of the second of two labels"
        if self.headline not in self.metrics:
            yield f"headline '{self.headline}' is not among the metrics"
        if self.files is None and self.hub is None:
            yield "needs 'files' or 'hub' to know where its rows are"
        if self.files and self.hub:
            pairs = {place.columns.second is not None for place in (self.files, self.hub)}
            if len(pairs) > 1:
                yield "'files' and 'hub' differ in whether there is a second text"
        if self.trainable and not self.evaluation:
            yield "'evaluation' must name at least one split"
        for what, splits in (("evaluation", ("train", *self.test)), ("test", ("train",))):
            for split in sorted(set(splits) & set(getattr(self, what))):
                reason = "trains" if split == "train" else "has no labels"
                yield f"'{what}' names '{split}', which {reason}"
        for what in ("evaluation", "test", "metrics"):
            names = getattr(self, what)
            if len(set(names)) < len(names):
                yield f"'{what}' names something twice"
        for where, place in (("files", self.files), ("hub", self.hub)):
            values = place.label_values if place else None
            if values is not None and not len(values) == len(set(values)) == self.num_outputs:
                yield f"'{where}.label_values' must match 'labels' one to one"
        if self.files is not None:
            for split in ("train", *self.evaluation) if self.trainable else self.test:
                if split not in self.files.splits:
                    yield f"'files.splits' lacks '{split}'"
            for split, file in self.files.splits.items():
                own = file.columns or self.files.columns
                if (own.second is None) != (self.files.columns.second is None):
                    yield (
                        f"'files.columns' and those of 'files.splits.{split}', which take their place, "
                        "differ in whether there is a second text"
                    )


def shipped() -> list[str]:
    """Names of the tasks that come with the package."""
    return paths.names("tasks")


def load(name: str | Path) -> Task:
    """A shipped task by name, or any task by the path of its YAML file.

    Raises:
        ConfigError: there is no such task, or its file is wrong.
    """
    return load_with_path(name)[0]


def load_with_path(name: str | Path, where: str | None = "--task") -> tuple[Task, Path]:
    """As :func:`load`; also the file that the task came from. ``where`` is where it was named."""
    path = _path(str(name), where)
    return _parsed(read_yaml(path)), path


def faults(name: str) -> list[ConfigError]:
    """All that is wrong with a task's file, as far as it can be told at once.

    Raises:
        ConfigError: there is no such task, or its file is no YAML.
    """
    document = read_yaml(_path(name, None))
    return complaints(Task, document.data, document.where)


def _path(text: str, where: str | None) -> Path:
    """The file of a task that is named, or given by its file."""
    if text.endswith((".yaml", ".yml")) or "/" in text:
        return paths.expanded(text, where)
    if text in shipped():
        return paths.CONFIGS / "tasks" / f"{text}.yaml"
    raise ConfigError(
        f"unknown task '{text}'",
        where=where,
        remedy=f"{nearest(text, shipped())} (or give the path of a task's YAML file)",
    )


def from_anywhere(name: str, where: str) -> str:
    """What names a task wherever it is used: a shipped one's name, or its file's whole path."""
    return name if name in shipped() else str(paths.absolute(name, where))


@lru_cache(maxsize=256)
def _parsed(document: Document) -> Task:
    return parse(Task, document.data, document.where)


def canonical(task: Task) -> dict[str, Any]:
    """What of a task decides a result: not its title, its published figures or its submission."""
    dropped = {"title", "published", "submission", "rows", "training", "test", "files", "hub"}
    return task.model_dump(mode="json", exclude=dropped)
