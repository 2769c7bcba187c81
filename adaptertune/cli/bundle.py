"""``adaptertune bundle``: many tasks on one backbone, in one folder and one process."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptertune.cli import complete, options, rows
from adaptertune.errors import ConfigError, DataError
from adaptertune.yamlfile import nearest

if TYPE_CHECKING:
    from adaptertune.data.tables import Row, Table
    from adaptertune.tasks import Columns

app = typer.Typer(help="Many tasks on one backbone, in one folder.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="A bundle's folder.")]
Input = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help="TSV, CSV, JSON Lines or Parquet file (- is standard input): a task's name, a text and "
        "perhaps a second a row.",
        rich_help_panel=rows.IN,
    ),
]
TaskColumn = Annotated[
    str | None,
    typer.Option(
        "--task-column", help="Column with the task's name (default: task).", metavar="COLUMN"
    ),
]
First = Annotated[
    str | None,
    typer.Option("--first", help="Column with the text (default: first).", metavar="COLUMN"),
]
Second = Annotated[
    str | None,
    typer.Option(
        "--second", help="Column with a pair's second text (default: second).", metavar="COLUMN"
    ),
]


@app.command("new")
def new(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Runs of different tasks on one backbone.", autocompletion=complete.run
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder to make.")],
    output: options.Output = None,
    offline: options.LocalOnly = False,
    backbone: options.Place = None,
    as_json: options.Json = False,
) -> None:
    """Put runs of different tasks and their backbone, once, into a folder that needs nothing else."""
    from adaptertune.runs import load
    from adaptertune.share import bundle

    found = [load.find(run, output or Path("runs")) for run in runs]
    _tell(bundle.create(found, to, place=backbone, offline=offline), as_json=as_json)


@app.command("show")
def show(folder: Folder, as_json: options.Json = False) -> None:
    """Show a bundle's tasks and its bytes on disk beside as many full models."""
    from adaptertune.share import bundle

    _tell(bundle.read(folder), as_json=as_json)


@app.command("predict")
def predict(
    folder: Folder,
    task: Annotated[str | None, typer.Argument(help="The task of the texts.")] = None,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; two for each example of a pair task.")
    ] = None,
    input: Input = None,
    format: rows.TableFormatName = None,
    task_column: TaskColumn = None,
    first: First = None,
    second: Second = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="JSON Lines file (default: standard output).", rich_help_panel=rows.OUT
        ),
    ] = None,
    skip_bad: rows.SkipBad = None,
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed/--by-task",
            help="Tasks together through the shared layers, or one after the other.",
        ),
    ] = True,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Answer rows of any of the bundle's tasks in one process, as JSON Lines in the rows' order."""
    if (task is None) == (input is None) or (task is not None and not texts):
        raise ConfigError("give either a task and its texts, or --input")
    if texts and (format or skip_bad or task_column or first or second):
        raise ConfigError(
            "--format, --task-column, --first, --second and --skip-bad go with --input"
        )
    rows.check_apart(input, to=to, skip_bad=skip_bad)
    from adaptertune.data import tables as files
    from adaptertune.files import writing_atomically
    from adaptertune.report import tables
    from adaptertune.report.tables import plural
    from adaptertune.runs.predict import Sieve, as_json
    from adaptertune.share import bundle
    from adaptertune.yamlfile import nearest

    if to is not None and files.ENDINGS.get(to.suffix.lower()) != "jsonl":
        raise ConfigError("answers of many tasks are JSON Lines", where=to, remedy="name it .jsonl")
    opened = bundle.read(folder)
    if task is not None and task not in opened.runs:
        remedy = nearest(task, opened.runs)
        raise ConfigError(f"no task '{task}' in it", where=folder, remedy=remedy)
    talk = tables.console(stderr=True, quiet=quiet)
    done = 0
    with ExitStack() as stack:
        # All that can be wrong with files is told before the models are loaded.
        if task is None:
            assert input is not None
            table, columns = _open(stack, input, format, task_column, first, second)
            name, given = table.name, table.rows(columns)
        else:
            pairs = opened.runs[task].task.is_pair
            name = "example"
            given = (
                row._replace(label=task) if isinstance(row, files.Row) else row
                for row in files.given(texts or [], is_pair=pairs)
            )
        stream = stack.enter_context(writing_atomically(to)) if to else sys.stdout.buffer
        aside = stack.enter_context(writing_atomically(skip_bad)) if skip_bad else None
        sieve = Sieve(name, aside, is_file=input is not None)
        good = sieve.good(bundle.checked(opened, given))
        models = bundle.load_all(opened, device=device or "auto")
        on_rows = stack.enter_context(rows.counting(talk, to))
        for answers in bundle.answer(models, good, mixed=mixed):
            for one in answers:
                value = {"task": one.task} | as_json(opened.runs[one.task].task, one.answer)
                stream.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
            done += len(answers)
            on_rows(done)
        stream.flush()
    if sieve.num_bad:
        talk.print(f"Set aside   {plural(sieve.num_bad, 'bad row')}")


@app.command("bench")
def bench(
    folder: Folder,
    input: Input,
    task_column: TaskColumn = None,
    first: First = None,
    second: Second = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Measure mixed batches, task by task, and separate models on the rows of a file, in turn."""
    from adaptertune.data.tables import Bad
    from adaptertune.report import tables
    from adaptertune.report.tables import serving
    from adaptertune.share import bundle

    assert input is not None
    opened = bundle.read(folder)
    with ExitStack() as stack:
        table, columns = _open(stack, input, None, task_column, first, second)
        kept: list[Row] = []
        for row in bundle.checked(opened, table.rows(columns)):
            if isinstance(row, Bad):
                raise row.error(table.name)
            kept.append(row)
    found = bundle.measure(opened, kept, device=device or "auto")
    if as_json:
        print(json.dumps({"rows": len(kept), "ways": [asdict(one) for one in found]}))
    else:
        tables.console().print(serving.measured(found, len(kept)))


def _open(
    stack: ExitStack,
    input: Path,
    format: str | None,
    task_column: str | None,
    first: str | None,
    second: str | None,
) -> tuple[Table, Columns]:
    """The rows of a file, and which of its columns are what."""
    from adaptertune.data.tables import opened
    from adaptertune.tasks import Columns

    source, read = rows.source(input, format, standard="jsonl")
    if read == "text":
        remedy = "give --format tsv, csv or jsonl"
        raise DataError("plain text has no column for the task", where=input, remedy=remedy)
    table = stack.enter_context(opened(source, read, may_lack_second=True))
    pair = second or "second"
    if second and second not in table.names and table.format != "jsonl":
        remedy = nearest(second, table.names)
        raise DataError(f"no column '{second}'", where=input, remedy=remedy)
    has_second = table.format == "jsonl" or pair in table.names
    columns = Columns(
        first=first or "first", second=pair if has_second else None, label=task_column or "task"
    )
    return table, columns


def _tell(bundle: Any, *, as_json: bool) -> None:
    from adaptertune.report import tables
    from adaptertune.report.tables import serving
    from adaptertune.share.bundle import sizes

    found = sizes(bundle)
    if as_json:
        value = asdict(found) | {
            "folder": str(bundle.folder),
            "multiple": found.multiple,
            "full_multiple": found.full_multiple,
            "runs": {name: str(run.folder.path) for name, run in bundle.runs.items()},
        }
        print(json.dumps(value))
    else:
        tables.console().print(serving.bundle(bundle, found))
