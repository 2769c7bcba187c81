"""``adaptertune report``: what a store holds, as tables, a page and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptertune.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from adaptertune.report.comparison import Group
    from adaptertune.report.schema import Missing


def report(
    output: options.Output = None,
    to: options.ReportFolder = Path("report"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the paper's Table 1 and a page with charts from a store's result files.

    Writes report.html (one file, works without a network), report.md, and each chart as PNG and SVG.
    """
    from adaptertune.errors import StoreError
    from adaptertune.report import comparison, evidence, holes, tables
    from adaptertune.runs import store

    root = output or Path("runs")
    cells, unfinished = evidence.read(root)
    if not cells:
        found = ((cell.path, cell.read_result()) for cell in store.cells(root))
        imported = [path for path, result in found if result is not None and result.imported]
        if imported:
            raise StoreError(
                "no finished run but imported ones, of whose training nothing is known: no report sets "
                "them beside others",
                where=root,
                remedy=f"see their scores: adaptertune show {imported[0]}",
            )
        begin = "begin with: adaptertune train --task stsb --offline (--output for another place)"
        remedy = f"go on with: {unfinished[0].command}" if unfinished else begin
        raise StoreError("no finished run", where=root, remedy=remedy)
    groups = comparison.compare(cells, store.read_ablations(root))
    missing = holes.missing(groups, unfinished)
    publish(groups, missing, root, to, tables.console(stderr=True, quiet=quiet), as_json=as_json)


def publish(
    groups: Sequence[Group],
    missing: Sequence[Missing],
    root: Path,
    to: Path,
    talk: Console,
    *,
    as_json: bool,
) -> None:
    """Write the files and print the tables, or one JSON object; the last line is the page's address."""
    from adaptertune import __version__
    from adaptertune.report import page, tables
    from adaptertune.report.schema import Report
    from adaptertune.report.tables import comparison as shown

    with talk.status("Drawing …"):
        written = page.write(groups, missing, root, to, __version__)
    if as_json:
        print(
            Report(
                store=str(root),
                comparisons=[group.comparison for group in groups],
                missing=list(missing),
                files=[str(path) for path in written],
            ).as_line()
        )
        return
    console = tables.console()
    shown.comparisons(groups, console)
    if missing:
        console.print(shown.holes(missing), soft_wrap=True)
    num_charts = sum(path.suffix == ".png" for path in written)
    console.out(f"report.md and {num_charts} charts (PNG, SVG) lie in {to}", style="dim")
    console.out(written[-1].resolve().as_uri(), style="bold")
