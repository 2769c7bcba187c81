"""``adaptertune predict``: what a trained run says of rows of text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptertune.cli import options
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import nearest

if TYPE_CHECKING:
    from adaptertune.data.tables import Format

IN, OUT = "Rows in", "Answers out"


def predict(
    run: options.RunOrSeed,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="A sentence, or several; two for each example of a pair task."),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="TSV, CSV, JSON Lines, Parquet or text file with rows; - is standard input.",
            rich_help_panel=IN,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of the input (default: by its ending; standard input: text).",
            metavar="tsv|csv|jsonl|parquet|text",
            rich_help_panel=IN,
        ),
    ] = None,
    first: Annotated[
        str | None,
        typer.Option(
            "--first",
            help="Column with the text, or its position from 0 in a file without header line.",
            metavar="COLUMN",
            rich_help_panel=IN,
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(
            "--second",
            help="Column with a pair's second text.",
            metavar="COLUMN",
            rich_help_panel=IN,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help=".tsv, .csv, .jsonl or .parquet file (default: TSV on standard output).",
            rich_help_panel=OUT,
        ),
    ] = None,
    skip_bad: Annotated[
        Path | None,
        typer.Option(
            "--skip-bad",
            help="Set bad rows aside in this file (JSON Lines), instead of stopping at the first.",
            rich_help_panel=OUT,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed to ask (default: best on validation).")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="Where the run's base model is, if it has moved."),
    ] = None,
    device: options.Device = None,
    output: options.Output = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer rows of text with a trained run: labels with probabilities, or scores.

    Rows are answered in their order, in bounded memory; a bad one is named by its line.
    """
    if bool(texts) == (input is not None):
        raise ConfigError("give either texts or --input", remedy="e.g. predict RUN 'A sentence.'")
    if texts and (format or first or second or skip_bad):
        raise ConfigError("--format, --first, --second and --skip-bad go with --input")
    _check_apart({"the input": input, "--to": to, "--skip-bad": skip_bad})
    from adaptertune.cli.bar import progress
    from adaptertune.data import tables as rows_of
    from adaptertune.files import writing_atomically
    from adaptertune.report import tables
    from adaptertune.report.tables import predictions as shown
    from adaptertune.runs import load as runs
    from adaptertune.runs import predict as predicting

    out: predicting.Out = "json" if as_json and to is None else "tsv"
    if to is not None:
        out = rows_of.format_of(to, None)
        if out == "text":
            remedy = "name it .tsv, .csv, .jsonl or .parquet"
            raise ConfigError("answers are a table", where=to, remedy=remedy)
    source = None if input is None or str(input) == "-" else input
    read = _format(format, source)
    found = runs.find(run, output or Path("runs"), seed)
    talk = tables.console(stderr=True, quiet=quiet)
    with talk.status("Loading the model …") if talk.is_terminal else nullcontext():
        loaded = runs.load(found, device=device or "auto", place=backbone, offline=offline)
    task = found.task
    kept: list[predicting.Answer] = []
    as_table = texts is not None and to is None and not as_json and sys.stdout.isatty()
    with ExitStack() as stack:
        aside = stack.enter_context(writing_atomically(skip_bad)) if skip_bad else None
        if as_table:
            put: Callable[[list[predicting.Answer]], None] = kept.extend
        else:
            put = stack.enter_context(predicting.writing(to, out, task, sys.stdout.buffer))
        if texts:
            name, rows = "example", rows_of.given(texts, is_pair=task.is_pair)
        else:
            table = stack.enter_context(rows_of.opened(source, read))
            name = table.name
            rows = table.rows(predicting.choose_columns(task, table, first, second))
        on_progress = stack.enter_context(progress(talk))
        summary = predicting.answer(
            loaded, rows, name, put, aside, lambda done: on_progress("rows", done, None)
        )
    if as_json:
        facts = {
            "run": str(found.folder.path), "task": task.name, "score": found.score,
            "headline": task.headline, "selecting_split": found.result.selecting_split,
            "to": to and str(to), "skip_bad": skip_bad and str(skip_bad), **asdict(summary),
        }  # fmt: skip
        text = json.dumps(facts)
        print(text if to else f", {text[1:]}")
    elif as_table:
        tables.console().print(shown.table(task, texts or [], kept))
    talk.print(shown.conclusion(found, summary), soft_wrap=True)


def _check_apart(files: Mapping[str, Path | None]) -> None:
    """Whether no file is to be written over another one of the same command, by whatever path.

    Raises:
        ConfigError: two are the same.
    """
    seen: dict[Path, str] = {}
    for role, path in files.items():
        if path is None or str(path) == "-":
            continue
        other = seen.setdefault(path.resolve(), role)
        if other != role:
            raise ConfigError(f"{role} is {other} itself", where=path, remedy="name another file")


def _format(named: str | None, path: Path | None) -> Format:
    """The input's format: as named, by its ending, or plain text for standard input."""
    from adaptertune.data.tables import FORMATS, format_of

    if named is None:
        return "text" if path is None else format_of(path, "--format")
    for format in FORMATS:
        if format == named:
            return format
    raise ConfigError(f"no format '{named}'", where="--format", remedy=nearest(named, FORMATS))
