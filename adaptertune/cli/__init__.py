"""The command line. Commands are thin and import what they need when they run."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress

import typer

from adaptertune.cli import (
    ablate,
    adapterhub,
    bench,
    bundle,
    compare,
    doctor,
    inspect,
    params,
    predict,
    prune,
    report,
    share,
    submit,
    sweep,
    task,
    train,
)
from adaptertune.errors import (
    AdapterTuneError,
    TrainingError,
    first_line,
    is_out_of_memory,
    one_line,
)

app = typer.Typer(
    name="adaptertune",
    help="Fine-tune BERT on GLUE with bottleneck adapters (Houlsby et al. 2019).",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("submit")(submit.submit)
app.command("push")(share.push)
app.command("pull")(share.pull)
app.command("import")(adapterhub.import_)
app.command("export")(adapterhub.export)
app.command("bench")(bench.bench)
app.command("report")(report.report)
app.command("tasks")(inspect.list_tasks)
app.add_typer(task.app, name="task")
app.add_typer(bundle.app, name="bundle")
app.command("params")(params.params)
app.command("runs")(inspect.list_runs)
app.command("show")(inspect.show)
app.command("schema")(inspect.schema)
app.command("prune")(prune.prune)
app.add_typer(ablate.app, name="ablate")
app.command("doctor")(doctor.doctor)

STOPPED = 128 + signal.SIGINT  # as a shell has it
NO_READER = 128 + signal.SIGPIPE  # `adaptertune runs | head`: quietly, as other tools


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from adaptertune import __version__

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line. A user's mistake is one red line on standard error, and exit code 2."""
    # How long threads spin before they sleep: a step on two free cores takes 276 ms without spinning,
    # 229 with this much and 232 with more; while another process keeps one core busy 386, 589, 848.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # Of a locale without a dash or a box; there Python may let through what is in file names alone.
    if isinstance(sys.stdout, io.TextIOWrapper) and (
        sys.stdout.errors == "strict" or sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    ):
        sys.stdout.reconfigure(errors="replace")
    sys.argv[1:] = map(_with_home, sys.argv[1:])
    try:
        # Its name also as `python -m adaptertune`: completion is of the command.
        code = app(standalone_mode=False, prog_name="adaptertune")
        sys.stdout.flush()  # here, and not at exit: its reader may have gone, its disk may be full
        if code == STOPPED:  # what typer makes of Ctrl-C
            _complain("stopped")
    except AdapterTuneError as error:
        _complain(str(error))
        code = error.exit_code
    except SystemExit as stop:  # 1: what typer and rich make of a reader that has gone
        code = NO_READER if stop.code == 1 else stop.code
    except PermissionError as error:
        if error.filename is None:
            raise
        _complain(f"{error.filename}: {error.strerror}; choose another place, or change its rights")
        code = 2
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = NO_READER
        if error.errno == errno.ENOSPC:
            _complain(f"standard output: cannot be written ({error.strerror})")
            code = 2
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's errors of usage
        if message is not None:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "adaptertune"
            _complain(f"{message().rstrip('.')} ({command} --help)")
            code = getattr(error, "exit_code", 2)
        elif is_out_of_memory(error):
            remedy = "end what else needs it, or try --device cpu or smaller batches"
            _complain(f"out of memory ({one_line(first_line(error))}); {remedy}")
            code = TrainingError.exit_code
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _with_home(argument: str) -> str:
    """``--output=~/runs`` as a shell makes of ``--output ~/runs``: bash leaves it as it is."""
    option, equals, value = argument.partition("=")
    if option.startswith("--") and equals and (value == "~" or value.startswith("~/")):
        return f"{option}={os.path.expanduser(value)}"  # noqa: PTH111 - what has no home stays
    return argument


def _complain(text: str) -> None:
    line = f"error: {text}"
    plain = (
        not sys.stderr.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    with suppress(OSError):  # nobody may be there to read it: the exit code stays
        print(line if plain else f"\033[31m{line}\033[0m", file=sys.stderr)
