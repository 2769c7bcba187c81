"""Units in several processes of this machine, one a GPU or each with its share of the CPU's cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType

from adaptertune.errors import AdapterTuneError, DeviceLost, Interrupted, StoreError
from adaptertune.executors.serial import WAIT_SECONDS
from adaptertune.runs import units
from adaptertune.runs.execute import Runner
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import Forwarding, Progress, Told, repeat
from adaptertune.runs.units import Settled, Unit

MOST_DEATHS = 3  # of workers, at one unit, before it counts as failed
POLL_SECONDS = 0.25
END_SECONDS = 30.0  # that a worker with nothing to save has to end


@dataclass(frozen=True)
class Share:
    """What one worker gets of the machine: CPU threads, and the number of its GPU."""

    threads: int
    gpu: int | None = None


def num_gpus(shown: int) -> int:
    """How many GPUs workers can have: those that torch shows, and of the instances of a divided one,
    of which CUDA shows a process the first alone, all that CUDA_VISIBLE_DEVICES names.
    """
    named = [name for name in _visible() if name.startswith("MIG-")]
    return max(shown, len(named)) if shown else 0


def _visible() -> list[str]:
    """The GPUs that the user names, if any."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [name.strip() for name in names if name.strip()]


def shares(
    workers: int | None, threads: int | None, *, num_cores: int, num_gpus: int
) -> list[Share]:
    """One worker a GPU; without GPUs up to eight, with all cores between them, unless told otherwise."""
    count = workers or num_gpus or min(num_cores, 8)
    each = threads or max(1, num_cores // count)
    return [Share(each, number % num_gpus if num_gpus else None) for number in range(count)]


@dataclass
class _Worker:
    """A process, the pipe to it, and what it is at.

    ``has_settled``: whether the process has done a unit. ``lost``: why a new one can't do any.
    """

    share: Share
    process: SpawnProcess
    pipe: Connection
    unit: Unit | None = None
    has_settled: bool = False
    lost: DeviceLost | None = None


@dataclass
class LocalExecutor:
    """Hands units to workers, one at a time. A worker that dies is replaced, and its unit goes on; so
    is one that can't use its device any more, unless a new one can't either.
    """

    shares: Sequence[Share]
    retry_before: float | None
    deaths: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)

    def __call__(self, todo: Sequence[Unit], hear: Callable[[Plan], Progress]) -> Iterator[Settled]:
        """Raises: Interrupted, StoreError, DeviceLost: as :func:`units.settle`, when all workers have
        stopped; the last where no device is left.
        """
        waiting = deque(todo)
        if not waiting:
            return
        with _workers(self.shares[: len(waiting)]) as workers:
            busy_elsewhere: deque[Unit] = deque()
            is_told = False
            while waiting or busy_elsewhere or any(worker.unit for worker in workers):
                for worker in workers:
                    if waiting and not worker.unit and not worker.lost:
                        self._assign(worker, waiting.popleft())
                active = [worker for worker in workers if worker.unit]
                ready = connection.wait([worker.pipe for worker in active], POLL_SECONDS)
                for worker in active:
                    if worker.pipe in ready:
                        settled = self._hear(worker, waiting, busy_elsewhere, hear)
                        if settled:
                            yield settled
                problems = [worker.lost for worker in workers if worker.lost]
                if len(problems) == len(workers):
                    raise problems[0]
                if not waiting and busy_elsewhere and not any(worker.unit for worker in workers):
                    if not is_told:
                        is_told = True
                        count = len(busy_elsewhere)
                        hear(busy_elsewhere[0].plan).note(
                            f"waiting for other processes, which are at {count} trainings"
                        )
                    connection.wait([], WAIT_SECONDS)
                    waiting, busy_elsewhere = busy_elsewhere, waiting
                if hear(todo[0].plan).should_stop():
                    raise _stop(workers) or Interrupted(
                        "stopped; all states are saved", remedy="the same command goes on from here"
                    )

    def _assign(self, worker: _Worker, unit: Unit) -> None:
        worker.unit = unit
        with suppress(OSError):  # it died just now, which is seen when its pipe is read
            worker.pipe.send((unit, self.retry_before))

    def _hear(
        self,
        worker: _Worker,
        waiting: deque[Unit],
        busy_elsewhere: deque[Unit],
        hear: Callable[[Plan], Progress],
    ) -> Settled | None:
        """Act on one message of a worker."""
        unit = worker.unit
        assert unit is not None
        progress = hear(unit.plan)
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            # The signal went to all of us; whether it had saved is seen when all stop.
            if progress.should_stop():
                return None
            return self._bury(worker, unit, waiting, progress)
        if kind == "told":
            repeat(content, progress)
            return None
        worker.unit = None
        if kind == "error":
            raise content
        if kind == "lost":
            waiting.appendleft(unit)
            self._renew(worker, unit.plan.device, content, progress)
            return None
        worker.has_settled = True
        if content is None:
            busy_elsewhere.append(unit)
        settled: Settled | None = content
        return settled

    def _renew(self, worker: _Worker, device: str, lost: DeviceLost, progress: Progress) -> None:
        """Put another in the place of a worker that has lost its device, unless it never had it."""
        which = device if worker.share.gpu is None else f"GPU {worker.share.gpu}"
        if worker.has_settled:
            progress.note(f"{which} no longer answers its worker process; another one goes on")
            _replace(worker)
        else:
            progress.note(
                f"{which} does not answer a new worker process either: it is left out ({lost.what})"
            )
            worker.lost = lost

    def _bury(
        self, worker: _Worker, unit: Unit, waiting: deque[Unit], progress: Progress
    ) -> Settled | None:
        """Put another in a dead worker's place, and its unit at the head of the queue again."""
        worker.process.join()
        key = unit.plan.digest, unit.seeds
        self.deaths[key] = self.deaths.get(key, 0) + 1
        exitcode = worker.process.exitcode
        how = _ending(exitcode)
        _replace(worker)
        if self.deaths[key] == MOST_DEATHS:
            killed = exitcode == -signal.SIGKILL  # as a system does that runs out of memory
            error = f"{MOST_DEATHS} worker processes {how}{'; too little memory?' * killed}"
            return Settled(unit, (), units.write_failures(unit, error, trace=""))
        seeds = ", ".join(map(str, unit.seeds))
        progress.note(f"seed {seeds}: its worker process {how}; another one goes on with it")
        waiting.appendleft(unit)
        return None


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"died of {signal.Signals(-exitcode).name}"
    return f"ended with exit code {exitcode}"


@contextmanager
def _workers(shares: Sequence[Share]) -> Iterator[list[_Worker]]:
    """Worker processes, which end with the block."""
    workers = [_Worker(share, *_start(share)) for share in shares]
    try:
        yield workers
    except SystemExit:  # a second Ctrl-C
        for worker in workers:
            worker.process.kill()
        raise
    finally:
        _stop(workers)


def _start(share: Share) -> tuple[SpawnProcess, Connection]:
    """A worker with its share of the machine. Ctrl-C, which a terminal sends to all, is ours alone."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    environment = {"OMP_NUM_THREADS": str(share.threads)}
    if share.gpu is not None:
        known = _visible()
        environment["CUDA_VISIBLE_DEVICES"] = known[share.gpu] if known else str(share.gpu)
    before = {name: os.environ.get(name) for name in environment}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= environment
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    theirs.close()
    return process, ours


def _replace(worker: _Worker) -> None:
    """Put a new process in the place of one that has ended, or has nothing more to save."""
    worker.process.kill()  # one whose GPU is broken may wait for it without end
    worker.process.join()
    worker.pipe.close()
    worker.process, worker.pipe = _start(worker.share)
    worker.unit, worker.has_settled = None, False


def _stop(workers: Sequence[_Worker]) -> AdapterTuneError | None:
    """Let every worker save its state and end; what kept the first of those that could not."""
    for worker in workers:
        with suppress(OSError):
            worker.pipe.send(None)
    problems = [_last_words(worker) for worker in workers]  # each is waited for
    return next(filter(None, problems), None)


def _last_words(worker: _Worker) -> AdapterTuneError | None:
    """Wait for a worker's end; why its state is not saved, if it is not."""
    problem: AdapterTuneError | None = None
    patience = time.monotonic() + END_SECONDS
    with suppress(EOFError, OSError):  # the pipe's end
        # Read on, or it may wait for room in the pipe for ever; and what is left when it has ended.
        while worker.pipe.poll(POLL_SECONDS) or worker.process.is_alive():
            if not worker.pipe.poll():
                if worker.unit is None and time.monotonic() > patience:
                    worker.process.kill()  # with nothing to save it may wait for a broken GPU
                continue
            kind, content = worker.pipe.recv()
            if kind in ("settled", "lost"):
                worker.unit = None
            elif kind == "error":
                worker.unit, problem = None, content
    worker.process.join()
    worker.pipe.close()
    # Of SIGTERM one dies only while nothing trains in it.
    if worker.unit and worker.process.exitcode not in (0, -signal.SIGTERM):
        seeds = ", ".join(map(str, worker.unit.seeds))
        problem = StoreError(
            f"seed {seeds}: its worker process {_ending(worker.process.exitcode)}; "
            "what it did since it was last saved is lost",
            where=worker.unit.plan.folder.path,
            remedy="the same command goes on from there",
        )
    return problem


def _serve(pipe: Connection) -> None:
    """A worker's life: units come in, what becomes of them goes out; None is the end."""
    line = _Line(pipe)
    runner, progress = Runner(), Forwarding(line.tell, line.should_stop)
    while True:
        try:
            message = pipe.recv()
        except EOFError:  # our parent is gone
            return
        if message is None:
            return
        unit, retry_before = message
        # A batch system sends it to every process, not to our parent alone.
        signal.signal(signal.SIGTERM, line.stop)
        try:
            settled = units.settle(unit, runner, progress, retry_before=retry_before)
        except Interrupted:
            return
        except AdapterTuneError as error:
            pipe.send(("lost" if isinstance(error, DeviceLost) else "error", error))
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        pipe.send(("settled", settled))


class _Line:
    """A worker's line to its parent, over which it also hears when to stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._is_stopping = False

    def tell(self, told: Told) -> None:
        try:
            self._pipe.send(("told", told))
        except OSError:  # our parent is gone
            self._is_stopping = True

    def should_stop(self) -> bool:
        with suppress(OSError):
            # While a unit is at work, only None can come, or the end of the pipe.
            self._is_stopping = self._is_stopping or self._pipe.poll()
        return self._is_stopping

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """A signal's handler."""
        self._is_stopping = True
