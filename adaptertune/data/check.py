"""What is wrong with a task's data, all of it, and what is worth knowing before training on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from adaptertune.config import default_data
from adaptertune.data import sources
from adaptertune.data.sources import Example, Source
from adaptertune.data.tables import Bad
from adaptertune.errors import DataError, one_line
from adaptertune.tasks import Task

SHOWN = 10  # bad rows of a file that are told one by one
LOPSIDED = 0.95  # share of one label from which accuracy says little


@dataclass(frozen=True)
class Finding:
    """Something wrong (``error``), or worth knowing (``warning``).

    ``times``: how often it was found; a file may be that of several splits.
    """

    level: Literal["error", "warning"]
    where: str
    what: str
    remedy: str | None = None
    times: int = 1


@dataclass
class SplitFacts:
    """What a split holds. ``labels``: how often each occurs; ``scores``: smallest, mean, largest.

    Both are None where they do not apply; ``num_bad`` rows are in none of the counts.
    """

    name: str
    num_rows: int = 0
    num_bad: int = 0
    labels: dict[str, int] | None = None
    scores: tuple[float, float, float] | None = None
    longest_characters: int = 0


@dataclass
class Report:
    """All splits' facts and all findings."""

    splits: list[SplitFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_untold: int = 0  # errors that are only counted, in the text of a finding

    @property
    def num_errors(self) -> int:
        return sum(finding.level == "error" for finding in self.findings) + self.num_untold

    def error(self, where: object, what: str, remedy: str | None = None) -> None:
        self.findings.append(Finding("error", str(where), one_line(what), remedy))

    def warning(self, where: object, what: str, remedy: str | None = None) -> None:
        self.findings.append(Finding("warning", str(where), what, remedy))


def check(task: Task, source: Source, on_rows: Callable[[str, int], None]) -> Report:
    """Read all splits of a task and report what is wrong with them.

    ``on_rows`` is told a split and how many rows of it are read.
    """
    report = Report()
    seen: dict[str, dict[bytes, float | None]] = {}
    names = [*(["train"] if task.trainable else []), *task.evaluation, *task.test]
    for name in names:
        seen[name] = {}
        _check_split(task, source, name, report, seen[name], on_rows)
    _compare(report, seen)
    for labels in alike(task.labels or ()):
        what = f"{labels} count as different labels"
        report.warning(task.name, what, "write them alike if they are one")
    times = Counter(report.findings)
    report.findings = [replace(finding, times=number) for finding, number in times.items()]
    return report


def _check_split(
    task: Task,
    source: Source,
    name: str,
    report: Report,
    seen: dict[bytes, float | None],
    on_rows: Callable[[str, int], None],
) -> None:
    facts = SplitFacts(name)
    counts: Counter[float] = Counter()
    contradicting = 0
    bad: Counter[str] = Counter()
    try:
        for place, row in _rows(task, source, name):
            if isinstance(row, Bad):
                bad[place] += 1
                if bad[place] <= SHOWN:
                    report.error(f"{place}:{row.line}", row.what, row.remedy)
                continue
            facts.num_rows += 1
            length = len(row.first) + len(row.second or "")
            facts.longest_characters = max(facts.longest_characters, length)
            if row.label is not None:
                counts[row.label] += 1
            key = _key(row)
            contradicting += key in seen and seen[key] != row.label
            seen[key] = row.label
            if facts.num_rows % 1000 == 0:
                on_rows(name, facts.num_rows)
    except DataError as error:
        report.error(error.where or task.name, error.what, error.remedy)
        return
    facts.num_bad = bad.total()
    for place, number in bad.items():
        if number > SHOWN:
            report.error(place, f"{number - SHOWN:,} more bad rows")
            report.num_untold += number - SHOWN - 1  # the finding itself counts
    report.splits.append(facts)
    repeated = facts.num_rows - len(seen)
    if repeated:
        report.warning(name, f"{repeated:,} of {facts.num_rows:,} rows repeat the texts of another")
    if contradicting:
        report.warning(name, f"{contradicting:,} rows have the texts of another and another label")
    if name in task.test or not counts:
        return
    if task.labels is None:
        total = sum(value * number for value, number in counts.items())
        facts.scores = (min(counts), total / facts.num_rows, max(counts))
        if name in task.evaluation and len(counts) == 1:
            what = "all rows have one score, with which nothing correlates"
            report.error(name, what, "give it rows of several scores")
        return
    facts.labels = {label: counts[number] for number, label in enumerate(task.labels)}
    for label, number in facts.labels.items():
        if not number:
            report.warning(name, f"no row has the label '{label}'")
    label, number = max(facts.labels.items(), key=lambda item: item[1])
    if task.headline == "accuracy" and number > LOPSIDED * facts.num_rows:
        share = 100 * number / facts.num_rows
        what = f"{share:.1f} % of the rows are '{label}', so accuracy says little"
        report.warning(name, what, "let another metric be the headline")


def _rows(task: Task, source: Source, name: str) -> Iterator[tuple[str, Example | Bad]]:
    """A split's rows, each with the file that it stands in."""
    if source.kind == "hub" and task.hub and task.hub.config:  # no files of the task's own choice
        (split,) = sources.load_splits(task, source, [name])
        for index, first in enumerate(split.first):
            second = split.second[index] if split.second else None
            label = None if split.labels is None else float(split.labels[index])
            yield source.describe(task), Example(index + 1, first, second, label)
        return
    layout = task.hub if source.kind == "hub" else task.files
    spelt = layout.label_values if layout else None
    for path, columns in sources.files(task, source, name):
        for row in sources.examples(task, path, columns, name, spelt):
            yield str(path), row


def _compare(report: Report, seen: Mapping[str, Mapping[bytes, float | None]]) -> None:
    """Texts of the training set that are in another split too."""
    for name, keys in seen.items():
        if name == "train" or not keys or "train" not in seen:
            continue
        both = len(keys.keys() & seen["train"].keys())
        if both:
            what = f"{both:,} of its {len(keys):,} texts are in the training set too"
            report.warning(name, what, "its score will be too good")


def _key(row: Example) -> bytes:
    text = f"{len(row.first)} {row.first}{row.second or ''}"
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def source_of(path: Path, task: Task, data_dir: Path | None, *, offline: bool) -> Source:
    """Where a task file's rows are: the folder named, or where a training would look."""
    if data_dir is not None:
        return Source("folder", data_dir)
    found = default_data(task, path, offline=offline)
    folder = Path(found["folder"]) if "folder" in found else None
    return Source(found["source"], folder, offline)


def as_number(label: str) -> float | None:
    """The number that a label spells, if it does."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None  # (which is no NaN either)


def alike(labels: Sequence[str]) -> list[str]:
    """Labels that differ by case and white space alone, as a slip of the hand makes them, or are one
    number: quoted.
    """
    groups: dict[str | float, list[str]] = {}
    for label in labels:
        number = as_number(label)
        text = " ".join(label.split()).casefold()
        groups.setdefault(text if number is None else number, []).append(label)
    return [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
