#!/usr/bin/env python3
"""Measure this project against AdapterHub and transformers' Trainer on the same task and machine.

    python scripts/bench_peers.py --data-dir path/to/glue --tasks rte,mrpc,cola --rounds 3
    python scripts/bench_peers.py --data-dir path/to/glue --tasks rte --rows 64 --rounds 1   # a look

Every arm sees the same rows, backbone, batch size, length limit and epochs, and trains in a process
of its own with the same number of threads, on the CPU or, with --device cuda, on a GPU. The arms take
turns in rounds, the order rotated from round to round; a ratio is taken within a round, and its median
and range over the rounds are shown. Nothing else may run meanwhile: what other processes took of the
CPU is noted beside each measurement; one that was disturbed is marked, and taken again by the next
call. (Threads that spin while they wait, the default of the peers' processes, suffer far more from a
busy neighbour than threads that sleep, which is ours.)

What is timed is the training loop alone, by each trainer's own clock; "command" is everything from
start to exit. Peak memory is the process's largest resident set over its whole life, a GPU's not
included.

The peers get an environment of their own, made on first use (``peer_requirements.txt``). Measurements
are kept in ``--output``, and a second call takes only those that are missing; a change of code, data,
settings or machine makes them anew.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from cells import upper_half
from peers import REQUIREMENTS, Failed, default_environment, prepare_environment
from rich.console import Console, Group, RenderableType
from rich.text import Text

from adaptertune import paths, tasks
from adaptertune.config import digest
from adaptertune.data.sources import Source, fingerprint, load_splits
from adaptertune.errors import AdapterTuneError, ConfigError, DataError, StoreError
from adaptertune.files import exclusive, write_atomically, write_json
from adaptertune.model.backbone import Located, locate
from adaptertune.report import tables
from adaptertune.tasks import Task

PACKAGE = Path(tasks.__file__).resolve().parent
WORKER = Path(__file__).with_name("peer_worker.py")
# The paper's protocol, and the default of both peers' examples.
SIZE, BATCH_SIZE, MAX_LENGTH = 64, 32, 128


@dataclass(frozen=True)
class Peer:
    """How peer_worker.py trains; see its ``Job``."""

    trains: Literal["adapters", "all"]
    padding: Literal["max_length", "dynamic"]
    learning_rate: float
    bf16: bool = False


@dataclass(frozen=True)
class Arm:
    """One way to train. ``how``: the peer's, or options of ``adaptertune train``.

    An arm with several ``seeds`` trains them all in one process; its speed counts all their examples.
    """

    title: str
    how: Peer | tuple[str, ...]
    seeds: int = 1
    by_default: bool = True


# The rates are those of the run_glue examples, 1e-4 at AdapterHub and 2e-5 at transformers; ours is what
# the project chooses by itself. Both examples pad to max_length unless told otherwise.
UPPER = "the upper half"  # of the backbone's layers
ARMS = {
    "adapterhub-default": Arm("AdapterHub, default", Peer("adapters", "max_length", 1e-4)),
    "adapterhub-dynamic": Arm("AdapterHub, dynamic", Peer("adapters", "dynamic", 1e-4)),
    "transformers-full": Arm("transformers, full", Peer("all", "dynamic", 2e-5)),
    "ours-adapter": Arm("ours, adapters", ("--method", "adapter", "--size", str(SIZE))),
    "ours-full": Arm("ours, full", ("--method", "full")),
    # The lower half is computed once for all seeds; that it was is part of the time.
    "ours-upper": Arm("ours, upper half", ("--size", str(SIZE), "--layers", UPPER), seeds=5),
    # Only with --arms: what precision alone makes of either side.
    "adapterhub-bf16": Arm(
        "AdapterHub, bf16", Peer("adapters", "dynamic", 1e-4, bf16=True), by_default=False
    ),
    "ours-adapter-fp32": Arm(
        "ours, adapters, fp32",
        ("--method", "adapter", "--size", str(SIZE), "--precision", "fp32"),
        by_default=False,
    ),
}
MUCH = 0.05  # of the CPU's time, for other processes during a measurement
BASES = {"adapterhub-default": "x default", "adapterhub-dynamic": "x dynamic"}


@dataclass(frozen=True)
class Measurement:
    """One arm in one round; a line of ``measurements.jsonl``. Scores are fractions."""

    task: str
    arm: str
    round: int  # from 1
    digest: str  # of everything that decides the figures
    num_examples: int  # trained on: rows x epochs x seeds
    train_seconds: float
    wall_seconds: float
    peak_bytes: int
    score: float | None
    precision: str
    learning_rate: float
    trained_parameters: int
    others_share: float | None  # of the machine's CPU time, by other processes; None where unknown
    versions: dict[str, str] = field(default_factory=dict)
    finished_at: str = ""

    @property
    def disturbed(self) -> bool:
        """Whether other processes took so much of the CPU that the times mean little."""
        return self.others_share is not None and self.others_share > MUCH

    @property
    def speed(self) -> float:
        """Examples a second of training."""
        return self.num_examples / self.train_seconds


@dataclass(frozen=True)
class Spread:
    """Median and range over the rounds."""

    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Row:
    """An arm's figures over the rounds; None where nothing is known."""

    arm: str
    speed: Spread | None
    ratios: dict[str, Spread | None]  # speed over that of each base, within rounds
    score: Spread | None
    peak_bytes: Spread | None
    wall_seconds: Spread | None
    others_share: Spread | None
    precision: str | None
    learning_rate: float | None
    trained_parameters: int | None


# ---- Figures and tables ------------------------------------------------------------------------


def spread(values: Iterable[float]) -> Spread | None:
    """Median, smallest and largest; None of nothing."""
    known = list(values)
    if not known:
        return None
    return Spread(statistics.median(known), min(known), max(known), len(known))


def ratios(measured: Sequence[Measurement], arm: str, base: str) -> list[float]:
    """Speed of an arm over that of another, for each round that has both."""
    speeds = {(one.arm, one.round): one.speed for one in measured}
    rounds = sorted(number for name, number in speeds if name == arm)
    return [
        speeds[arm, number] / speeds[base, number] for number in rounds if (base, number) in speeds
    ]


def summarise(measured: Sequence[Measurement], arms: Sequence[str]) -> list[Row]:
    """One row an arm of one task's measurements."""
    rows = []
    for arm in arms:
        own = [one for one in measured if one.arm == arm]
        rows.append(
            Row(
                arm=arm,
                speed=spread(one.speed for one in own),
                ratios={base: spread(ratios(measured, arm, base)) for base in BASES},
                score=spread(one.score for one in own if one.score is not None),
                peak_bytes=spread(one.peak_bytes for one in own),
                wall_seconds=spread(one.wall_seconds for one in own),
                others_share=spread(
                    one.others_share for one in own if one.others_share is not None
                ),
                precision=own[0].precision if own else None,
                learning_rate=own[0].learning_rate if own else None,
                trained_parameters=own[0].trained_parameters if own else None,
            )
        )
    return rows


def rotated(arms: Sequence[str], number: int) -> list[str]:
    """The order of a round (from 1): each begins one arm later."""
    start = (number - 1) % len(arms)
    return [*arms[start:], *arms[:start]]


def table(title: str, headline: str, rows: Sequence[Row]) -> RenderableType:
    """A task's rows: medians, with the range over the rounds where there are several."""
    metric = tables.METRIC_NAMES[headline]
    columns = ("arm", "examples/s", *BASES.values(), metric, "peak MB", "command s", "lr", "")
    shown = tables.table(*columns, right=columns[1:-1])
    for row in rows:
        shown.add_row(
            ARMS[row.arm].title,
            _ranged(row.speed, ".0f"),
            *(_ranged(row.ratios[base], ".2f") for base in BASES),
            _ranged(row.score, ".1f", 100),
            "–" if row.peak_bytes is None else f"{row.peak_bytes.high / 1e6:.0f}",
            "–" if row.wall_seconds is None else f"{row.wall_seconds.median:.0f}",
            "–" if row.learning_rate is None else f"{row.learning_rate:g}",
            row.precision or "",
        )
    return tables.titled(title, shown)


def _ranged(figures: Spread | None, form: str, unit: float = 1.0) -> str:
    if figures is None:
        return "–"
    median, low, high = (
        f"{unit * value:{form}}" for value in (figures.median, figures.low, figures.high)
    )
    return median if low == high else f"{median}\n{low}..{high}"


# ---- Rows --------------------------------------------------------------------------------------


def load_task(name: str) -> Task:
    """A task that the peers can do: classification, scored by one of three metrics."""
    task = tasks.load(name)
    if task.headline not in ("accuracy", "f1", "matthews") or not task.trainable:
        raise ConfigError(
            f"'{name}' is not a classification task with training data",
            where="--tasks",
            remedy="choose rte, mrpc, cola, sst2, …",
        )
    return task


def limit_rows(task: Task, folder: Path, rows: int, target: Path) -> None:
    """Write the first ``rows`` rows of training and validation set, in the layout they come in."""
    assert task.files is not None
    own = folder / (task.files.folder or "")
    own = own if own.is_dir() else folder
    for name in ("train", task.evaluation[0]):
        entry = task.files.splits[name]
        file = own / entry.file
        if not file.exists():
            file = file.with_name(f"{file.stem}_subset{file.suffix}")
        if not file.is_file():
            raise DataError("no such file", where=own / entry.file)
        header = (entry.columns or task.files.columns).has_header
        with file.open("rb") as lines:
            content = b"".join(islice(lines, rows + header))
        write_atomically(target / (task.files.folder or "") / entry.file, content)


def export_rows(task: Task, source: Source, target: Path) -> int:
    """Write training and validation rows as lines of JSON for the peers; return how many train."""
    train, validation = load_splits(task, source, ["train", task.evaluation[0]])
    for name, split in (("train", train), ("validation", validation)):
        assert split.labels is not None
        columns: dict[str, list[Any]] = {"first": split.first, "label": split.labels.tolist()}
        if split.second is not None:
            columns["second"] = split.second
        with (target / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            for values in zip(*columns.values(), strict=True):
                stream.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")
    return len(train)


# ---- Measuring ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    located: Located
    backbone: str
    epochs: int
    threads: int
    device: str
    rates: Mapping[str, float]  # by arm, where --lr gives one
    python: Path  # of the peers
    logs: Path

    def digest(self, arm: str, rows: str) -> str:
        """Identifies what a measurement depends on, but for its round."""
        return digest(
            {
                "arm": asdict(ARMS[arm]),
                "rate": self.rates.get(arm),
                "rows": rows,
                "backbone": self.located.sha256,
                "epochs": self.epochs,
                "fixed": [SIZE, BATCH_SIZE, MAX_LENGTH],
                "threads": self.threads,
                "device": _gpu() if self.device == "cuda" else "cpu",
                "code": _code(),
                "ours": {name: importlib.metadata.version(name) for name in ("torch", "numpy")},
                "machine": [platform.node(), platform.machine(), os.cpu_count()],
            }
        )

    def measure(self, task: Task, arm: str, number: int, data: Data) -> Measurement:
        """Train once in a process of its own.

        Raises:
            Failed: the process did; its last words are in the message.
        """
        seeds = list(range((number - 1) * ARMS[arm].seeds, number * ARMS[arm].seeds))
        with tempfile.TemporaryDirectory(prefix="bench-peers-") as scratch:
            take = self._ours if isinstance(ARMS[arm].how, tuple) else self._peer
            figures = take(task, arm, seeds, data, Path(scratch))
        return Measurement(
            task=task.name,
            arm=arm,
            round=number,
            digest=self.digest(arm, data.fingerprint),
            num_examples=data.num_train * self.epochs * len(seeds),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            **figures,
        )

    def _ours(
        self, task: Task, arm: str, seeds: list[int], data: Data, scratch: Path
    ) -> dict[str, Any]:
        how = ARMS[arm].how
        assert isinstance(how, tuple)
        upper = upper_half(self.located.shape.layers)
        rate = ("--lr", str(self.rates[arm])) if arm in self.rates else ()
        command = (
            sys.executable, "-P", "-m", "adaptertune", "train", "--json", "--offline",
            "--task", task.name, "--data-dir", str(data.folder), "--backbone", self.backbone,
            *(upper if word == UPPER else word for word in how), *rate,
            "--epochs", str(self.epochs), "--batch-size", str(BATCH_SIZE),
            "--max-length", str(MAX_LENGTH), "--set", f"seeds={seeds}",
            # As the peers do: the last epoch counts, without a choice on validation.
            "--set", "training.keep_epoch=last",
            "--device", self.device, "--output", str(scratch / "runs"),
        )  # fmt: skip
        # The package that this script imported, whatever the current folder holds.
        path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
        out = scratch / "out.json"
        # A cache of its own: nothing may be known from an earlier measurement.
        environment = {"PYTHONPATH": path, "ADAPTERTUNE_CACHE": str(scratch / "cache")}
        used = self._run(command, environment, self._log(task, arm), out)
        cell = json.loads(out.read_text("utf-8"))
        return {
            **asdict(used),
            "train_seconds": cell["train_seconds"],
            "score": cell["scores"][task.evaluation[0]][task.headline]["mean"],
            "precision": cell["precision"],
            "learning_rate": cell["config"]["training"]["learning_rate"],
            "trained_parameters": cell["ledger"]["trained"] + cell["ledger"]["head"],
            "versions": {
                name: importlib.metadata.version(name) for name in ("torch", "transformers")
            },
        }

    def _peer(
        self, task: Task, arm: str, seeds: list[int], data: Data, scratch: Path
    ) -> dict[str, Any]:
        how = ARMS[arm].how
        assert isinstance(how, Peer)
        job = asdict(how) | {
            "model": str(self.located.folder),
            "train": str(data.exported / "train.jsonl"),
            "validation": str(data.exported / "validation.jsonl"),
            "num_labels": task.num_outputs,
            "metric": task.headline,
            "size": SIZE,
            "learning_rate": self.rates.get(arm, how.learning_rate),
            "epochs": self.epochs,
            "batch_size": BATCH_SIZE,
            "max_length": MAX_LENGTH,
            "seeds": seeds,
            "scratch": str(scratch / "trainer"),
            "device": self.device,
        }
        write_json(scratch / "job.json", job)
        result = scratch / "result.json"
        # -I: nothing of this project's environment gets in.
        command = (str(self.python), "-I", str(WORKER), str(scratch / "job.json"), str(result))
        used = self._run(command, {}, self._log(task, arm), scratch / "out.txt")
        return {
            **asdict(used),
            **json.loads(result.read_text("utf-8")),
            "precision": "bf16" if how.bf16 else "fp32",
            "learning_rate": job["learning_rate"],
        }

    def _log(self, task: Task, arm: str) -> Path:
        return self.logs / f"{task.name}-{arm}.log"

    def _run(self, command: Sequence[str], extra: Mapping[str, str], log: Path, out: Path) -> Used:
        """Run a command to its end."""
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "HF_HUB_OFFLINE": "1",
            **extra,
        }
        log.parent.mkdir(parents=True, exist_ok=True)
        start, before = time.perf_counter(), _machine_seconds()
        with log.open("wb") as words, out.open("wb") as output:
            # A session of its own: the terminal's Ctrl-C comes to us alone, and we end it.
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=words, start_new_session=True
            )
            try:
                _, status, used = os.wait4(process.pid, 0)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # what it wrote is thrown away anyway
                process.wait()
                raise
        wall, after = time.perf_counter() - start, _machine_seconds()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            last = log.read_text("utf-8", errors="replace").splitlines()[-8:]
            lines = "\n  ".join(last)
            raise Failed(f"exit code {process.returncode}, see {log}:\n  {lines}")
        unit = 1 if sys.platform == "darwin" else 1024  # wait4 counts bytes there, KiB elsewhere
        others = None
        if before and after:
            busy = after[0] - before[0] - used.ru_utime - used.ru_stime
            others = max(0.0, busy / (after[1] - before[1]))
        return Used(wall, used.ru_maxrss * unit, others)


@dataclass(frozen=True)
class Used:
    """What a process took, and what others took meanwhile; see :class:`Measurement`."""

    wall_seconds: float
    peak_bytes: int
    others_share: float | None


def _machine_seconds() -> tuple[float, float] | None:
    """Seconds of all CPUs so far, busy (or stolen by a host) and in all; None but on Linux."""
    try:
        line = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:
        return None
    user, nice, system, idle, waiting, *interrupts_and_stolen = map(int, line.split()[1:9])
    busy = user + nice + system + sum(interrupts_and_stolen)
    unit = os.sysconf("SC_CLK_TCK")
    return busy / unit, (busy + idle + waiting) / unit


@dataclass(frozen=True)
class Data:
    """A task's rows: as a folder for us, as lines of JSON for the peers."""

    folder: Path
    exported: Path
    fingerprint: str
    num_train: int


def prepare_data(task: Task, folder: Path, rows: int | None, scratch: Path) -> Data:
    """Export a task's rows, all or the first ones."""
    if rows is not None:
        limit_rows(task, folder, rows, scratch / "limited")
        folder = scratch / "limited"
    source = Source("folder", folder)
    exported = scratch / task.name
    exported.mkdir()
    num_train = export_rows(task, source, exported)
    return Data(
        folder, exported, fingerprint(task, source, ["train", task.evaluation[0]]), num_train
    )


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name()


def _code() -> str:
    """SHA-256 of all that trains: this project's code and settings, the worker, the peers' versions."""
    found = hashlib.sha256()
    files = [*sorted(PACKAGE.rglob("*.py")), *sorted(paths.CONFIGS.rglob("*.yaml"))]
    for path in [*files, WORKER, REQUIREMENTS]:
        found.update(f"{path.name}:".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


class Measured:
    """``measurements.jsonl``: what was measured, now and in earlier calls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        try:
            self._all = [Measurement(**json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            raise StoreError(
                "holds something else", where=path, remedy="choose another --output"
            ) from None

    def find(self, task: str, arm: str, number: int, key: str) -> Measurement | None:
        """The measurement of an arm in a round, if it was taken under these conditions, undisturbed."""
        wanted = (task, arm, number, key)
        return next(
            (
                one
                for one in self._all
                if (one.task, one.arm, one.round, one.digest) == wanted and not one.disturbed
            ),
            None,
        )

    def add(self, one: Measurement) -> None:
        self._all.append(one)
        lines = [json.dumps(asdict(each), allow_nan=False) + "\n" for each in self._all]
        write_atomically(self._path, "".join(lines).encode())


# ---- The command -------------------------------------------------------------------------------


def main() -> int:
    """Measure and report."""
    options = parse_options()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)  # a shell's background jobs ignore SIGINT otherwise
    console = tables.console()
    try:
        with (
            exclusive(options.output),
            tempfile.TemporaryDirectory(prefix="bench-peers-rows-") as scratch,
        ):
            return bench(options, console, Path(scratch))
    except KeyboardInterrupt:
        console.print("[yellow]stopped; the same command goes on from here[/]")
        return 130
    except AdapterTuneError as error:
        console.print(Text(f"error: {error}", style="red"), soft_wrap=True)
        return error.exit_code
    except Failed as error:
        console.print(Text(f"error: {error}", style="red"), soft_wrap=True)
        return 1


def bench(options: argparse.Namespace, console: Console, scratch: Path) -> int:
    """All rounds, then a table a task."""
    chosen = [load_task(name) for name in options.tasks]
    data = {
        task.name: prepare_data(task, options.data_dir, options.rows, scratch) for task in chosen
    }
    located = locate(options.backbone, offline=True)
    python = prepare_environment(options.environment)
    run = Bench(
        located=located,
        backbone=options.backbone,
        epochs=options.epochs,
        threads=options.threads,
        device=options.device,
        rates=options.lr,
        python=python,
        logs=options.output / "logs",
    )
    measured = Measured(options.output / "measurements.jsonl")
    current: list[Measurement] = []
    for number in range(1, options.rounds + 1):
        for task in chosen:
            for arm in rotated(options.arms, number):
                key = run.digest(arm, data[task.name].fingerprint)
                one = measured.find(task.name, arm, number, key)
                remark = "" if one is None else "  (measured before)"
                if one is None:
                    one = run.measure(task, arm, number, data[task.name])
                    measured.add(one)
                if one.disturbed:
                    remark += f"  [yellow]others took {one.others_share:.0%} of the CPU[/]"
                current.append(one)
                console.print(
                    f"round {number} of {options.rounds}  {task.name:<5} {arm:<19}"
                    f"{one.speed:8.1f} examples/s{one.wall_seconds:8.1f} s"
                    f"{one.peak_bytes / 1e6:8.0f} MB{remark}",
                    soft_wrap=True,
                )
    console.print()
    report = {}
    for task in chosen:
        rows = summarise([one for one in current if one.task == task.name], options.arms)
        count = tables.count(data[task.name].num_train)
        title = (
            f"{task.title} · training rows {count} · epochs {options.epochs} · "
            f"rounds {options.rounds} · threads {options.threads}"
        )
        console.print(table(title, task.headline, rows))
        report[task.name] = [asdict(row) for row in rows]
    disturbed = sum(one.disturbed for one in current)
    if disturbed:
        console.print(
            f"[yellow]{disturbed} of {len(current)} measurements were disturbed: other processes used "
            f"more than {MUCH:.0%} of the CPU. Do not trust the ratios; the same command takes them "
            "again.[/]"
        )
    console.print(
        Group(
            Text(
                "Medians, with the smallest and the largest over the rounds; of memory the largest. "
                "x default, x dynamic: speed over AdapterHub's in the same round. "
                "Scores in per cent on validation.",
                style="dim",
            ),
            Text(f"Measurements {options.output / 'measurements.jsonl'}"),
        )
    )
    if options.json is not None:
        measurements = [asdict(one) for one in current]
        write_json(options.json, {"tasks": report, "measurements": measurements})
    return 0


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measure this project against AdapterHub and transformers' Trainer.",
        epilog=f"arms: {', '.join(ARMS)}",
    )
    names = ",".join(name for name, arm in ARMS.items() if arm.by_default)
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder in the official GLUE layout")
    add("--tasks", type=_listed, default=["rte", "mrpc", "cola"], help="rte,mrpc,cola")
    add("--arms", type=_arms, default=_arms(names), help=f"default: {names}")
    add("--rounds", type=_count, default=3, help="how often each arm is measured")
    add("--rows", type=_count, help="only the first rows of each set: a quick look")
    add("--epochs", type=_count, default=1)
    add("--threads", type=_count, default=2, help="of each process")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--backbone", default="minilm", help="minilm, a folder, or a BERT in the hub's cache")
    add("--lr", type=_rate, action="append", default=[], metavar="ARM=RATE", help="repeatable")
    add("--environment", type=Path, default=default_environment(), help="of the peers")
    add("--output", type=Path, default=Path("runs/bench-peers"), help="where measurements go")
    add("--json", type=Path, metavar="FILE", help="write all figures here")
    options = parser.parse_args()
    options.lr = dict(options.lr)
    return options


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _arms(text: str) -> list[str]:
    chosen = _listed(text)
    unknown = [name for name in chosen if name not in ARMS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"unknown arm {unknown}; there are {', '.join(ARMS)}")
    return chosen


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _rate(text: str) -> tuple[str, float]:
    arm, _, rate = text.partition("=")
    if arm not in ARMS:
        raise argparse.ArgumentTypeError(f"unknown arm '{arm}'")
    return arm, float(rate)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
