"""The report's files: one self-contained HTML page, Markdown, and each chart as PNG and SVG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adaptertune import stats
from adaptertune.files import write_atomically
from adaptertune.report import charts, leftovers, published, tables, words
from adaptertune.report.comparison import Group, methods
from adaptertune.report.comparison.averages import num_glue
from adaptertune.report.comparison.columns import columns_of, first_of_task, task_names
from adaptertune.report.evidence import Cell
from adaptertune.report.figures import Figure, figures
from adaptertune.report.schema import Beside, Entry, Hole, Missing

TEMPLATES = Path(__file__).parent / "templates"
CHARTS = "charts"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Part:
    """A comparison as the page shows it: with its figures, and each run's lines."""

    group: Group
    remarks: list[str]
    chapters: dict[str, list[Drawn]]


@dataclass(frozen=True)
class Drawn:
    """A figure and its drawing."""

    figure: Figure
    svg: str

    @property
    def address(self) -> str:
        """The drawing as a data URL: it is there without a script, and in print."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


def write(
    groups: Sequence[Group], missing: Sequence[Missing], store: Path, to: Path, version: str
) -> list[Path]:
    """Write everything into ``to``; the page, which needs nothing beside it, comes last.

    Charts that an earlier report left there and this one has not are deleted.

    Raises:
        StoreError: a file can't be written.
    """
    written: list[Path] = []

    def save(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        written.append(path)

    parts = []
    for group in groups:
        chapters: dict[str, list[Drawn]] = {}
        for figure in figures(group):
            said = figure.title, figure.subtitle
            drawn = Drawn(figure, charts.svg(figure.spec, *said))
            save(to / CHARTS / f"{figure.name}.svg", drawn.svg.encode())
            save(to / CHARTS / f"{figure.name}.png", charts.png(figure.spec, *said))
            chapters.setdefault(figure.chapter, []).append(drawn)
        parts.append(Part(group, words.remarks(group.comparison), chapters))
    if written or (to / CHARTS).is_dir():
        leftovers.renew(to / CHARTS, written)
    shared = {"parts": parts, "missing": missing, "store": store, "version": version}
    save(to / "report.md", render("report.md.j2", **shared).encode())
    page = render(
        "report.html.j2",
        **shared,
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        vega=charts.script() if any(part.chapters for part in parts) else "",
        themes={"light": charts.PAGE_LIGHT, "dark": charts.PAGE_DARK},
    )
    save(to / "report.html", page.encode())
    return written


def render(template: str, **values: Any) -> str:
    """A template filled in. In HTML all text is escaped; in Markdown what a table could trip over."""
    is_html = template.endswith(".html.j2")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": tables.percent,
        "points": points,
        "count": tables.count,
        "size": tables.size,
        "duration": tables.duration,
        "describe": methods.describe,
        "number": tables.number,
        "markdown": markdown,
    }
    environment.tests["hole"] = lambda value: isinstance(value, Hole)
    environment.tests["compared"] = lambda row: any(place.beside for place in row.places)
    environment.globals |= {
        "METRICS": tables.METRIC_NAMES,
        "DIFFERENCES": words.DIFFERENCES,
        "untested": words.untested,
        "devices": devices,
        "versions": versions,
        "costs": words.costs,
        "first_of_task": first_of_task,
        "task_names": task_names,
        "num_glue": num_glue,
        "plural": tables.plural,
        "published": published.by_source,
        "about": about,
        "best": best_means,
        "overview": overview,
        "difference": about_difference,
        "data_note": tables.data_note,
        "zip": zip,
    }
    return environment.get_template(template).render(**values)


def points(value: float | None) -> str:
    """A difference of fractions in points of per cent, with its sign."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def markdown(text: object) -> str:
    """Text as text in a Markdown table: nothing in it is markup or a cell's end."""
    shown = " ".join(str(text).split())
    for character in "\\`*_[]<>|#~":
        shown = shown.replace(character, f"\\{character}")
    return shown.replace("&", "&amp;")


def about(entry: Entry) -> str:
    """An entry's tooltip: how it came about and all statistics."""
    said = [
        methods.describe(entry.settings),
        f"{entry.n} seed{'s' * (entry.n != 1)}",
    ]
    if entry.num_candidates > 1:
        said.append(f"chosen from {entry.num_candidates} candidates")
    if entry.interval:
        low, high = tables.percent(entry.interval.low), tables.percent(entry.interval.high)
        level = tables.percent(entry.interval.level, 0)
        said.append(f"{level} % interval {low} to {high}, {words.TOO_NARROW}")
    if entry.n > 1:
        said.append(f"best seed {tables.percent(entry.best)}")
    return "; ".join(said)


def about_difference(beside: Beside) -> str:
    """A difference's tooltip."""
    found, best_runs = beside.difference, beside.best_runs
    said = [
        f"{found.n} paired seed{'s' * (found.n != 1)}: {found.wins} higher, {found.losses} lower"
    ]
    if found.interval:
        low, high = points(found.interval.low), points(found.interval.high)
        level = tables.percent(found.interval.level, 0)
        said.append(f"{level} % interval {low} to {high}, {words.TOO_NARROW}")
    if found.wilcoxon_p is not None:
        said.append(
            f"Wilcoxon p {found.wilcoxon_p:.3g}, of {found.n} pairs at least {found.smallest_p:.3g}"
        )
    if best_runs:
        said.append(
            f"of the best runs {best_runs.only_first} examples are right in this one only, "
            f"{best_runs.only_second} in full fine-tuning's only: McNemar p {best_runs.p:.3g}"
        )
    if beside.untested:
        said.append(f"no McNemar's test: {beside.untested}")
    return "; ".join(said)


def best_means(group: Group) -> list[float | None]:
    """The highest mean of each column, as it is shown: equal to a digit is equal."""
    by_column = zip(*(row.entries for row in group.comparison.rows), strict=True)
    found = []
    for entries in by_column:
        means = [e.mean for e in entries if isinstance(e, Entry) and e.mean is not None]
        found.append(round(max(means), 3) if len(means) > 1 else None)
    return found


def devices(cell: Cell) -> str:
    """Those of its seeds: ``cpu``, or ``cuda (seeds 0, 1), cpu (seeds 2, 3, 4)``."""
    found: dict[str, list[int]] = {}
    for seed in cell.seeds:
        found.setdefault(seed.device, []).append(seed.seed)
    if len(found) == 1:
        return next(iter(found))
    told = (f"{device} (seeds {', '.join(map(str, seeds))})" for device, seeds in found.items())
    return ", ".join(told)


def versions(cell: Cell) -> str:
    """Of what a cell's seeds were trained with; where they differ, all: ``torch 2.13.0 and 2.14.0``."""
    found: dict[str, list[str]] = {}
    for result in cell.seeds:
        for name, number in result.versions.items():
            found.setdefault(name, []).append(number)
    return ", ".join(
        f"{name} {' and '.join(dict.fromkeys(numbers))}" for name, numbers in found.items()
    )


@dataclass(frozen=True)
class Run:
    """A cell's line in the list of runs."""

    cell: Cell
    label: str
    split: str
    scores: list[float]
    best: float | None
    """Of the seed that is best on the selecting split, as in Table 1."""
    seconds: float

    @property
    def mean(self) -> float | None:
        return stats.mean(self.scores)

    @property
    def deviation(self) -> float | None:
        return stats.deviation(self.scores)

    @property
    def expected_best(self) -> float | None:
        return stats.expected_maximum(self.scores, len(self.scores)) if self.scores else None


def overview(group: Group) -> list[Run]:
    """Every cell of a comparison on its first reported split."""
    found = []
    for (family, variant), cells in group.methods.items():
        for cell in cells:
            one, split = methods.size(cell), cell.reported[0]
            costs = [result.cost for result in cell.seeds]
            scores = cell.values(split, cell.headline)
            found.append(
                Run(
                    cell=cell,
                    label=methods.label(family, [] if one is None else [one], variant),
                    split=split,
                    scores=list(scores.values()),
                    best=None if cell.best_seed is None else scores.get(cell.best_seed),
                    seconds=sum(cost.train_seconds + cost.trunk_seconds for cost in costs),
                )
            )
    order = [column.task for column in columns_of(group.cells)]  # ablations' tasks too
    return sorted(found, key=lambda run: order.index(run.cell.facts.task))
