"""How the tables of commands look, and how numbers are written in them; each command's are in a file
here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from adaptertune import stats
from adaptertune.runs.results import DataFacts

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console for reports; where nobody can tell the width (a pipe, a log) it is 110 columns."""
    made = Console(stderr=stderr, quiet=quiet, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 110
    return made


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the house style; the columns named in ``right`` are aligned right.

    On a narrow terminal a cell goes on in the next line: the rest of a name or number may be what tells
    it from others.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def titled(title: str, body: RenderableType) -> RenderableType:
    """A title over something; a table's own title would be folded to the table's width."""
    return Group(Text(title, style="bold"), body)


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in per cent; a dash for a missing one."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def spread(values: Sequence[float | None]) -> str:
    """The mean of the known values in per cent, and their deviation if there are several."""
    known = [value for value in values if value is not None]
    deviation = stats.deviation(known)
    mean = percent(stats.mean(known))
    return mean if deviation is None else f"{mean} ± {percent(deviation)}"


def count(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def plural(number: int, noun: str) -> str:
    """``1 seed``, ``5 seeds``, ``1,000 seeds``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def size(num_bytes: float) -> str:
    """Bytes in the largest decimal unit below them."""
    for unit in ("B", "kB", "MB", "GB"):
        shown = round(num_bytes, 0 if unit == "B" else 1)
        if shown < 1000:
            return f"{shown:.0f} {unit}" if unit == "B" else f"{shown:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as 45 s, 3 min 20 s or 2 h 05 min."""
    whole = round(seconds)  # first: of 119.7 s the minutes are two
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def setting(key: str, value: Any) -> str:
    """A setting in a word or two: ``lr 3e-4``, ``epochs 20``, ``warmup 0.1``."""
    name = key.rpartition(".")[2].replace("learning_rate", "lr")
    return f"{name} {number(value)}"


def number(value: Any) -> str:
    """A setting's value as people type it: 3e-4, 0.1, 64, or of layers ``3,4`` and ``all``."""
    if isinstance(value, float) and 0 < value < 0.1:
        digits, exponent = f"{value:e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def varied(grids: Sequence[Mapping[str, Sequence[Any]]]) -> set[str]:
    """The keys of a sweep's grids that do not have one value throughout."""
    keys = {key for one in grids for key in one}
    return {key for key in keys if len({str(v) for one in grids for v in one.get(key, ["–"])}) > 1}


def data_note(data: DataFacts) -> str:
    """What a reader must know of the data before any figure."""
    if data.sample:
        return " · sample data, not GLUE"
    if data.partial:
        return f" · partial training set, {of_complete(data)}"
    return ""


def of_complete(data: DataFacts) -> str:
    """The rows of a partial training set: ``8,000 of 67,349``."""
    return f"{count(data.num_train)} of {count(data.num_train_complete or 0)}"
