"""``adaptertune bundle``: many tasks on one backbone, in one folder and one process."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptertune.cli import complete, options
from adaptertune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from adaptertune.data.tables import Row, Table
    from adaptertune.tasks import Columns

app = typer.Typer(help="Many tasks on one backbone, in one folder.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="A bundle's folder.")]
Input = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help="TSV, CSV, JSON Lines or Parquet: a task's name, a text and perhaps a second a row.",
    ),
]
TaskColumn = Annotated[
    str, typer.Option("--task-column", help="Column with the task's name.", metavar="COLUMN")
]
First = Annotated[str, typer.Option("--first", help="Column with the text.", metavar="COLUMN")]
Second = Annotated[
    str, typer.Option("--second", help="Column with a pair's second text.", metavar="COLUMN")
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
    offline: options.Offline = False,
    as_json: options.Json = False,
) -> None:
    """Put runs of different tasks and their backbone, once, into a folder that needs nothing else."""
    from adaptertune.runs import load
    from adaptertune.share import bundle

    found = [load.find(run, output or Path("runs")) for run in runs]
    _tell(bundle.create(found, to, offline=offline), as_json=as_json)


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
    task_column: TaskColumn = "task",
    first: First = "first",
    second: Second = "second",
    to: Annotated[
        Path | None, typer.Option("--to", help="JSON Lines file (default: standard output).")
    ] = None,
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
    from adaptertune.cli.bar import progress
    from adaptertune.data import tables as rows_of
    from adaptertune.files import writing_atomically
    from adaptertune.report import tables
    from adaptertune.runs.predict import as_json
    from adaptertune.share import bundle

    opened = bundle.read(folder)
    if task is not None and task not in opened.runs:
        from adaptertune.yamlfile import nearest

        raise ConfigError(
            f"no task '{task}' in it", where=folder, remedy=nearest(task, opened.runs)
        )
    models = bundle.load_all(opened, device=device or "auto")
    done = 0
    with ExitStack() as stack:
        stream = stack.enter_context(writing_atomically(to)) if to else sys.stdout.buffer
        on_progress = stack.enter_context(progress(tables.console(stderr=True, quiet=quiet)))
        if task is None:
            assert input is not None
            table, columns = _open(stack, input, task_column, first, second)
            name, rows = table.name, table.rows(columns)
        else:
            given = rows_of.given(texts or [], is_pair=opened.runs[task].task.is_pair)
            name = "example"
            rows = (r._replace(label=task) if isinstance(r, rows_of.Row) else r for r in given)
        for answers in bundle.answer(models, rows, mixed=mixed):
            for one in answers:
                if isinstance(one, rows_of.Bad):
                    raise DataError(one.what, where=f"{name}:{one.line}", remedy=one.remedy)
                value = {"task": one.task} | as_json(opened.runs[one.task].task, one.answer)
                stream.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
            done += len(answers)
            on_progress("rows", done, None)
        stream.flush()


@app.command("bench")
def bench(
    folder: Folder,
    input: Input,
    task_column: TaskColumn = "task",
    first: First = "first",
    second: Second = "second",
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
        table, columns = _open(stack, input, task_column, first, second)
        rows: list[Row] = []
        for row in table.rows(columns):
            if isinstance(row, Bad):
                raise DataError(row.what, where=f"{table.name}:{row.line}", remedy=row.remedy)
            rows.append(row)
    found = bundle.measure(opened, rows, device=device or "auto")
    if as_json:
        print(json.dumps({"rows": len(rows), "ways": [asdict(one) for one in found]}))
    else:
        tables.console().print(serving.measured(found, len(rows)))


def _open(
    stack: ExitStack, input: Path, task_column: str, first: str, second: str
) -> tuple[Table, Columns]:
    from adaptertune.data.tables import format_of, opened
    from adaptertune.tasks import Columns

    table = stack.enter_context(opened(input, format_of(input, None), may_lack_second=True))
    has_second = table.format == "jsonl" or second in table.names
    return table, Columns(first=first, second=second if has_second else None, label=task_column)


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
