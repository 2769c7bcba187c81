"""What ``predict`` and ``bundle predict`` share: rows from where and in which format, and to where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptertune.errors import ConfigError, Interrupted
from adaptertune.yamlfile import nearest

if TYPE_CHECKING:
    from rich.console import Console

    from adaptertune.data.tables import Format

IN, OUT = "Rows in", "Answers out"


def _format(formats: str, standard: str) -> Any:
    """The option, with the formats that a command takes and the one of standard input."""
    help = f"Format of the input (default: by its ending; standard input: {standard})."
    return typer.Option("--format", help=help, metavar=formats, rich_help_panel=IN)


FormatName = Annotated[str | None, _format("tsv|csv|jsonl|parquet|text", "text")]
TableFormatName = Annotated[str | None, _format("tsv|csv|jsonl|parquet", "jsonl")]
SkipBad = Annotated[
    Path | None,
    typer.Option(
        "--skip-bad",
        help="Set bad rows aside in this file (JSON Lines), instead of stopping at the first.",
        rich_help_panel=OUT,
    ),
]


def source(
    input: Path, format: str | None, standard: Format = "text"
) -> tuple[Path | None, Format]:
    """The input's path, None for standard input, and its format: as named, by its ending, or, of
    standard input, ``standard``.

    Raises:
        ConfigError: there is no such format.
        DataError: the ending tells none.
    """
    from adaptertune.data.tables import FORMATS, format_of

    path = None if str(input) == "-" else input
    if format is None:
        return path, standard if path is None else format_of(path, "--format")
    for known in FORMATS:
        if known == format:
            return path, known
    raise ConfigError(f"no format '{format}'", where="--format", remedy=nearest(format, FORMATS))


def check_apart(input: Path | None, *, to: Path | None, skip_bad: Path | None) -> None:
    """Whether no file is to be written over another one of the same command, by whatever path.

    Raises:
        ConfigError: two are the same, or one to write is called as standard input and output are.
    """
    seen: dict[Path, str] = {}
    files = {"the input": input, "--to": to, "--skip-bad": skip_bad}
    for role, path in files.items():
        if str(path) == "-" and path is not input:
            remedy = "leave it out" if role == "--to" else "name a file"
            raise ConfigError("'-' is no file", where=role, remedy=remedy)
        if path is None or str(path) == "-":
            continue
        other = seen.setdefault(path.resolve(), role)
        if other != role:
            raise ConfigError(f"{role} is {other} itself", where=path, remedy="name another file")


@contextmanager
def counting(talk: Console, to: Path | None) -> Iterator[Callable[[int], None]]:
    """A bar of the rows that are answered; what is yielded takes their number.

    Raises:
        Interrupted: by Ctrl-C, with that number and where the answers are.
    """
    from adaptertune.cli.bar import progress
    from adaptertune.report.tables import plural

    done = 0
    try:
        with progress(talk) as tell:

            def count(number: int) -> None:
                nonlocal done
                done = number
                tell("rows", done, None)

            count(0)
            yield count
    except KeyboardInterrupt:
        where = "their answers are on standard output" if done else None
        raise Interrupted(
            f"stopped after {plural(done, 'row')}", remedy=f"{to} is not written" if to else where
        ) from None
