"""Commands in processes that are forked from one which has imported torch: 0.1 s instead of 3 each."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

PRELOADED = [
    "torch", "transformers", "scipy.stats", "adaptertune.cli.sweep", "adaptertune.cli.live_sweep",
    "adaptertune.model.build", "adaptertune.executors.local", "adaptertune.runs.sweep",
    "adaptertune.train.timing", "adaptertune.train.loop", "adaptertune.train.speed",
]  # fmt: skip


def context() -> ForkServerContext:
    made = get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    return made


def start(arguments: Sequence[str], log: Path) -> ForkServerProcess:
    """``adaptertune`` with arguments, snapshots after every step; finished trainings go to the log."""
    process = context().Process(target=_main, args=(list(arguments), str(log)))
    process.start()
    return process


def serve_where_seed_0_breaks_the_device(pipe: Connection) -> None:
    """A worker's life in which that seed's failure makes all later ones of the process fail."""
    from adaptertune.executors import local
    from adaptertune.runs import execute
    from adaptertune.train import device

    train, is_broken = execute.Runner.run, False

    def run(self, plan, seeds, progress):  # type: ignore[no-untyped-def]
        nonlocal is_broken
        is_broken = is_broken or 0 in seeds
        if is_broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return train(self, plan, seeds, progress)

    execute.Runner.run = run  # type: ignore[method-assign]
    device.trouble = lambda device: "CUDA error" if is_broken else None
    local._serve(pipe)


def serve_and_hang(pipe: Connection) -> None:
    """A worker's life whose end does not come by itself."""
    from adaptertune.executors import local

    local._serve(pipe)
    time.sleep(1000)


def serve_without_device(pipe: Connection) -> None:
    """A worker's life on a device that is gone."""
    from adaptertune.executors import local
    from adaptertune.train import device

    device.trouble = lambda device: "CUDA error: all are busy"
    local._serve(pipe)


def _main(arguments: list[str], log: str) -> None:
    output = os.open(f"{log}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import torch

    torch.set_num_threads(1)
    from adaptertune.cli import main
    from adaptertune.runs import execute, snapshots

    snapshots.SNAPSHOT_SECONDS, snapshots.SNAPSHOT_SHARE = 0.0, 1e9
    train = execute.Runner.run

    def counted(self, plan, seeds, progress):  # type: ignore[no-untyped-def]
        done = train(self, plan, seeds, progress)
        line = f"{plan.task.name} {plan.digest} {','.join(map(str, seeds))} {os.getpid()}\n"
        with open(log, "a") as stream:  # noqa: PTH123
            stream.write(line)
        return done

    execute.Runner.run = counted  # type: ignore[method-assign]
    sys.argv = ["adaptertune", *arguments]
    main()
