"""``adaptertune predict``: what a trained run says of rows of text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adaptertune.cli import options, rows
from adaptertune.errors import ConfigError


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
            rich_help_panel=rows.IN,
        ),
    ] = None,
    format: rows.FormatName = None,
    first: Annotated[
        str | None,
        typer.Option(
            "--first",
            help="Column with the text, or its position from 0 in a file without header line.",
            metavar="COLUMN",
            rich_help_panel=rows.IN,
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(
            "--second",
            help="Column with a pair's second text.",
            metavar="COLUMN",
            rich_help_panel=rows.IN,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help=".tsv, .csv, .jsonl or .parquet file (default: TSV on standard output).",
            rich_help_panel=rows.OUT,
        ),
    ] = None,
    skip_bad: rows.SkipBad = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed to ask (default: best on validation).")
    ] = None,
    backbone: options.Place = None,
    device: options.Device = None,
    output: options.Output = None,
    offline: options.LocalOnly = False,
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
    rows.check_apart(input, to=to, skip_bad=skip_bad)
    from adaptertune.data import tables as files
    from adaptertune.files import writing_atomically
    from adaptertune.report import tables
    from adaptertune.report.tables import predictions as shown
    from adaptertune.runs import load as runs
    from adaptertune.runs import predict as predicting

    out: predicting.Out = "json" if as_json and to is None else "tsv"
    if to is not None:
        out = files.format_of(to, None)
        if out == "text":
            remedy = "name it .tsv, .csv, .jsonl or .parquet"
            raise ConfigError("answers are a table", where=to, remedy=remedy)
    source, read = rows.source(input, format) if input else (None, "text")
    found = runs.find(run, output or Path("runs"), seed)
    task = found.task
    talk = tables.console(stderr=True, quiet=quiet)
    kept: list[predicting.Answer] = []
    as_table = texts is not None and to is None and not as_json and sys.stdout.isatty()
    with ExitStack() as stack:
        # All that can be wrong with files is told before the model is loaded.
        if texts:
            name, given = "example", files.given(texts, is_pair=task.is_pair)
        else:
            table = stack.enter_context(files.opened(source, read))
            name = table.name
            given = table.rows(predicting.choose_columns(task, table, first, second))
        if as_table:
            put: Callable[[list[predicting.Answer]], None] = kept.extend
        else:
            put = stack.enter_context(predicting.writing(to, out, task, sys.stdout.buffer))
        aside = stack.enter_context(writing_atomically(skip_bad)) if skip_bad else None
        sieve = predicting.Sieve(name, aside, is_file=input is not None)
        good = sieve.good(given)
        with talk.status("Loading the model …") if talk.is_terminal else nullcontext():
            loaded = runs.load(found, device=device or "auto", place=backbone, offline=offline)
        on_rows = stack.enter_context(rows.counting(talk, to))
        summary = predicting.answer(loaded, good, put, on_rows)
    if as_json:
        facts = {
            "run": str(found.folder.path), "task": task.name, "score": found.score,
            "headline": task.headline, "selecting_split": found.result.selecting_split,
            "to": to and str(to), "skip_bad": skip_bad and str(skip_bad),
            "num_bad": sieve.num_bad, **asdict(summary),
        }  # fmt: skip
        text = json.dumps(facts)
        print(text if to else f", {text[1:]}")
    elif as_table:
        tables.console().print(shown.table(task, texts or [], kept))
    talk.print(shown.conclusion(found, summary, sieve.num_bad), soft_wrap=True)
