"""``adaptertune report``: what a store holds, as tables, a page and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptertune.cli import options


def report(
    output: options.Output = None,
    to: Annotated[Path, typer.Option("--to", help="Folder for the page and the pictures.")] = Path(
        "report"
    ),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the paper's Table 1 and a page with charts from a store's result files.

    Writes report.html (one file, works without a network), report.md, and each chart as PNG and SVG.
    """
    from adaptertune import __version__
    from adaptertune.errors import StoreError
    from adaptertune.report import comparison, evidence, holes, page, tables, terminal
    from adaptertune.report.schema import Report

    root = output or Path("runs")
    talk = tables.console(stderr=True, quiet=quiet)
    cells, unfinished = evidence.read(root)
    if not cells:
        raise StoreError(
            "no finished run",
            where=root,
            remedy="begin with: adaptertune train --task stsb --offline (--output for another place)",
        )
    groups = comparison.compare(cells)
    missing = holes.missing(groups, unfinished)
    with talk.status("drawing"):
        written = page.write(groups, missing, root, to, __version__)
    if as_json:
        print(
            Report(
                store=str(root),
                comparisons=[group.comparison for group in groups],
                missing=missing,
                files=[str(path) for path in written],
            ).model_dump_json()
        )
        return
    console = tables.console()
    terminal.comparisons(groups, console)
    if missing:
        console.print(terminal.holes(missing))
    num_charts = sum(path.suffix == ".png" for path in written)
    console.print(f"[bold]{written[-1].resolve().as_uri()}[/]", soft_wrap=True)
    console.print(f"report.md and {num_charts} charts (PNG, SVG) lie in {to}", style="dim")
