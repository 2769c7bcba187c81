"""Local processes: bitwise what one process gives, and nothing is lost when any of them dies."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptertune.errors import AdapterTuneError, DeviceLost, Interrupted, StoreError
from adaptertune.executors import local, serial
from adaptertune.executors.local import LocalExecutor, Share
from adaptertune.executors.serial import run_cell
from adaptertune.runs import execute, units
from adaptertune.runs.plan import Plan
from adaptertune.runs.results import Failure
from adaptertune.runs.summary import conclude
from adaptertune.train import device as devices
from tests.executors import forked
from tests.runs.test_execute import Quiet, assert_equal_cells, plan


def test_shares_of_a_machine() -> None:
    assert local.shares(None, None, num_cores=16, num_gpus=0) == [Share(2)] * 8
    assert local.shares(None, None, num_cores=2, num_gpus=0) == [Share(1)] * 2
    assert local.shares(3, None, num_cores=8, num_gpus=0) == [Share(2)] * 3
    assert local.shares(4, None, num_cores=2, num_gpus=0) == [Share(1)] * 4
    assert local.shares(2, 5, num_cores=4, num_gpus=0) == [Share(5)] * 2
    assert local.shares(None, None, num_cores=16, num_gpus=2) == [Share(8, 0), Share(8, 1)]
    assert local.shares(3, None, num_cores=6, num_gpus=2) == [Share(2, 0), Share(2, 1), Share(2, 0)]


def cells(bert: Path, output: Path) -> list[Plan]:
    """Two cells of two seeds, in one thread."""
    small = {"training__epochs": 1, "threads": 1}
    return [plan(bert, output, method__size=size, **small) for size in (4, 8)]


@pytest.fixture(scope="module")
def whole(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Plan]:
    """The cells as they come out of one process."""
    made = cells(tiny_bert, tmp_path_factory.mktemp("whole"))
    for cell in made:
        run_cell(cell, Quiet())
    return made


def all_units(made: list[Plan]) -> list[units.Unit]:
    return [unit for cell in made for unit in units.of_cell(cell)]


def test_two_workers_give_what_one_process_gives(
    tiny_bert: Path, tmp_path: Path, whole: list[Plan]
) -> None:
    made, progress = cells(tiny_bert, tmp_path), Quiet()
    executor = LocalExecutor([Share(1), Share(1)], retry_before=None)
    settled = list(executor(all_units(made), lambda _: progress))
    assert len(settled) == len(progress.started) == 4
    assert not any(one.is_earlier or one.failures for one in settled)
    for cell, expected in zip(made, whole, strict=True):
        conclude(cell)
        assert_equal_cells(expected.folder, cell.folder)
    again = list(executor(all_units(made), lambda _: progress))
    assert all(one.is_earlier for one in again)
    assert not multiprocessing.active_children()


def test_workers_start_from_another_runs_weights(
    tiny_bert: Path, whole: list[Plan], tmp_path: Path
) -> None:
    def made(name: str) -> list[Plan]:
        start = str(whole[1].folder.path)
        return [plan(tiny_bert, tmp_path / name, task="qnli", threads=1, init_from=start)]

    ours, theirs = made("local"), made("serial")
    list(LocalExecutor([Share(1)], retry_before=None)(all_units(ours), lambda _: Quiet()))
    list(serial.run(all_units(theirs), lambda _: Quiet(), retry_before=None))
    for cell in (*ours, *theirs):
        conclude(cell)
    assert_equal_cells(ours[0].folder, theirs[0].folder)


@pytest.fixture
def fast_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are forked from a process which has imported torch, for a test of many."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forked.context())


class Killer(Quiet):
    """Kills the worker that starts a training, so many times for each seed."""

    def __init__(self, times: dict[int, int]) -> None:
        super().__init__()
        self.times = times

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        super().seed_started(seed, epochs_done=epochs_done, resumed=resumed)
        if self.times.get(seed):
            self.times[seed] -= 1
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)


@pytest.mark.usefixtures("fast_workers")
def test_a_killed_worker_is_replaced_and_its_run_goes_on(
    tiny_bert: Path, tmp_path: Path, whole: list[Plan]
) -> None:
    (made, _), progress = cells(tiny_bert, tmp_path), Killer({0: 1, 1: 3})
    with pytest.raises(Interrupted):  # the first one leaves a snapshot
        list(serial.run(units.of_cell(made), lambda _: Quiet(stop_at=5), retry_before=None))
    executor = LocalExecutor([Share(1)], retry_before=None)
    first, second = executor(units.of_cell(made), lambda _: progress)
    assert [seed for seed, _, _ in progress.started] == [0, 0, 1, 1, 1]
    assert progress.started[1] == (0, 0, True), "it resumes"
    assert [note for note in progress.notes if "died" in note] == [
        f"seed {seed}: its worker process died of SIGKILL; another one goes on with it"
        for seed in (0, 1, 1)
    ]
    ours, theirs = made.folder.seed(0), whole[0].folder.seed(0)
    assert ours.checkpoint.read_bytes() == theirs.checkpoint.read_bytes()
    assert ours.logits.read_bytes() == theirs.logits.read_bytes()
    assert first.done[0].cost.resumed == 1
    # Three deaths at one training are its failure, on file.
    assert second.failures == (made.folder.seed(1).read_failure(),)
    assert second.failures[0].error == "3 worker processes died of SIGKILL; too little memory?"
    mended = LocalExecutor([Share(1)], retry_before=math.inf)
    (found,) = mended(units.of_cell(made, [1]), lambda _: Quiet())
    assert not found.failures
    conclude(made)
    assert_equal_cells(whole[0].folder, made.folder)


@pytest.mark.usefixtures("fast_workers")
def test_what_goes_wrong_in_a_worker(tiny_bert: Path, tmp_path: Path) -> None:
    """A store that can't be used stops all, with the worker's own error."""
    made, _ = cells(tiny_bert, tmp_path)
    folder = made.folder.seed(0)
    folder.path.mkdir(parents=True)
    folder.result.write_text("{}")
    with pytest.raises(
        StoreError, match=rf"{folder.result}: damaged result .*; delete it"
    ) as error:
        list(LocalExecutor([Share(1)], retry_before=None)(units.of_cell(made), lambda _: Quiet()))
    assert error.value.where == str(folder.result)
    assert not multiprocessing.active_children()


class StopsAtStart(Quiet):
    """Does something when a training starts, and asks to stop."""

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__()
        self.do = do

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        super().seed_started(seed, epochs_done=epochs_done, resumed=resumed)
        self.do()

    def should_stop(self) -> bool:
        return bool(self.started)


@pytest.mark.usefixtures("fast_workers")
def test_a_state_that_is_not_saved_when_all_stop_is_told(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path, training__epochs=1000, threads=1, seeds=1)

    def kill() -> None:
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid or 0, signal.SIGKILL)

    def stopped(do: Callable[[], None]) -> str:
        progress = StopsAtStart(do)
        with pytest.raises(AdapterTuneError) as error:
            list(LocalExecutor([Share(1)], None)(units.of_cell(made), lambda _: progress))
        assert not multiprocessing.active_children()
        return str(error.value)

    assert stopped(kill) == (
        f"{made.folder.path}: seed 0: its worker process died of SIGKILL; what it did since it was "
        "last saved is lost; the same command goes on from there"
    )
    snapshot = made.folder.seed(0).snapshot
    assert stopped(snapshot.mkdir).startswith(f"{snapshot}: cannot be written (Is a directory)")
    snapshot.rmdir()
    assert stopped(lambda: None).startswith("stopped; all states are saved")
    assert snapshot.is_file()


@pytest.mark.usefixtures("fast_workers")
def test_a_failure_is_told_and_the_worker_goes_on(
    tiny_bert: Path, tmp_path: Path, whole: list[Plan]
) -> None:
    made, _ = cells(tiny_bert, tmp_path)
    made.folder.seed(0).path.mkdir(parents=True)
    made.folder.seed(0).snapshot.mkdir()  # can't be read as a file, which nobody expects
    first, second = LocalExecutor([Share(1)], retry_before=None)(
        units.of_cell(made), lambda _: Quiet()
    )
    assert isinstance(first.failures[0], Failure)
    assert "Traceback" in first.failures[0].traceback
    assert second.done[0].scores == whole[0].folder.seed(1).read_result().scores  # type: ignore[union-attr]


@pytest.mark.usefixtures("fast_workers")
def test_a_worker_that_lost_its_device_is_replaced(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training that broke it fails, and no other; nothing counts as a death."""
    monkeypatch.setattr(local, "_serve", forked.serve_where_seed_0_breaks_the_device)
    made, progress = plan(tiny_bert, tmp_path, training__epochs=1, threads=1), Quiet()
    executor = LocalExecutor([Share(1)], retry_before=None)
    first, second = executor(units.of_cell(made), lambda _: progress)
    assert first.failures[0].error.startswith("RuntimeError: CUDA error: an illegal memory access")
    assert [result.seed for result in second.done] == [1]
    assert executor.deaths == {}
    told = "cpu no longer answers its worker process; another one goes on"
    assert [note for note in progress.notes if "answers" in note] == [told]


@pytest.mark.usefixtures("fast_workers")
def test_a_device_that_is_gone_for_new_workers_too_is_left_out(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no unit with it; where no device is left, that is told."""
    start, serve = local._start, local._serve

    def start_without_gpu_1(share: Share) -> Any:
        monkeypatch.setattr(local, "_serve", forked.serve_without_device if share.gpu else serve)
        return start(share)

    monkeypatch.setattr(local, "_start", start_without_gpu_1)
    made, progress = plan(tiny_bert, tmp_path, training__epochs=1, threads=1), Quiet()
    dead, well = Share(1, gpu=1), Share(1, gpu=0)
    with pytest.raises(DeviceLost, match="'cpu' does not answer this process"):
        list(LocalExecutor([dead, dead], None)(units.of_cell(made), lambda _: progress))
    assert not list(made.folder.path.rglob("failure.json"))
    found = LocalExecutor([dead, well], None)(units.of_cell(made), lambda _: progress)
    assert sorted(result.seed for settled in found for result in settled.done) == [0, 1]
    told = (
        "GPU 1 does not answer a new worker process either: it is left out ('cpu' does not answer this "
        "process (CUDA error: all are busy))"
    )
    assert [note for note in progress.notes if "answer" in note] == [told] * 3


@pytest.mark.parametrize(
    ("visible", "shown", "expected"),
    [("MIG-a,MIG-b", 1, 2), ("MIG-a, MIG-b,", 0, 0), ("0,1", 2, 2), ("", 4, 4), ("MIG-a", 1, 1)],
)
def test_each_instance_of_a_divided_gpu_is_one(
    monkeypatch: pytest.MonkeyPatch, visible: str, shown: int, expected: int
) -> None:
    """CUDA shows a process one of them; each worker's own environment names its own."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.num_gpus(shown) == expected


@pytest.mark.usefixtures("fast_workers")
def test_a_worker_that_does_not_end_is_ended(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_serve", forked.serve_and_hang)
    monkeypatch.setattr(local, "END_SECONDS", 0.5)
    made = plan(tiny_bert, tmp_path, training__epochs=1, threads=1, seeds=1)
    executor = LocalExecutor([Share(1)], retry_before=None)
    (settled,) = executor(units.of_cell(made), lambda _: Quiet())
    assert settled.done
    assert not multiprocessing.active_children()


def test_a_second_ctrl_c_waits_for_no_worker() -> None:
    block = local._workers([Share(1)])
    (worker,) = block.__enter__()
    assert worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGSTOP)  # as one that is long at a step
    began, stop = time.monotonic(), SystemExit(130)
    assert not block.__exit__(SystemExit, stop, None)
    assert time.monotonic() - began < local.END_SECONDS / 2
    assert worker.process.exitcode == -signal.SIGKILL


def test_one_process_ends_where_it_lost_its_device(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next that is to train, whoever asks for it; what is finished can still be had."""
    made, is_broken = plan(tiny_bert, tmp_path, threads=1, seeds=3, training__epochs=1), False
    first, *others = units.of_cell(made)
    list(serial.run([first], lambda _: Quiet(), retry_before=None))

    def broken(*_: Any) -> None:
        nonlocal is_broken
        is_broken = True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(execute.Runner, "run", broken)
    monkeypatch.setattr(devices, "trouble", lambda _: "no reason" if is_broken else None)
    (failed,) = serial.run(others[:1], lambda _: Quiet(), retry_before=None)
    assert failed.failures
    found = serial.run([first, *others[1:]], lambda _: Quiet(), retry_before=None)
    assert next(found).done
    with pytest.raises(
        DeviceLost, match=r"'cpu' does not answer this process \(no reason\); .* in a new"
    ):
        next(found)
    assert made.folder.seed(2).read_failure() is None


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(text) for text in path.read_text().split()]
    except FileNotFoundError:
        return []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def waited(condition: Any, seconds: float = 300) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_when_the_parent_is_stopped_its_workers_save_and_end(
    tiny_bert: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    """Real workers, each with a training under way. What they left goes on bitwise."""
    changes: dict[str, Any] = {"method__size": 4, "training__epochs": 20, "threads": 1}
    made = plan(tiny_bert, tmp_path / "out", **changes)
    command = [
        "sweep", "--tasks", "rte", "--set", "data.source=sample", "--sizes", "4",
        "--backbone", str(tiny_bert), "--epochs", "20", "--seeds", "2", "--lrs", "1e-2",
        "--max-length", "24", "--precision", "fp32", "--threads", "1",
        "--output", str(tmp_path / "out"), "--executor", "local", "--workers", "2",
    ]  # fmt: skip
    parent = forked.start(command, tmp_path / "log")
    assert parent.pid is not None
    folders = [made.folder.seed(seed) for seed in (0, 1)]
    assert waited(lambda: all(folder.epochs.exists() for folder in folders))
    workers = children(parent.pid)
    assert len(workers) >= 2
    if ending == signal.SIGTERM:  # as a batch system does
        for worker in workers:
            os.kill(worker, ending)
    os.kill(parent.pid, ending)
    parent.join(300)
    said = (tmp_path / "log.out").read_text()
    assert parent.exitcode == (-9 if ending == signal.SIGKILL else 130), said
    if ending != signal.SIGKILL:
        assert "stopped; all states are saved; the same command goes on from here" in said
        assert "died" not in said
    assert waited(lambda: not any(map(is_running, workers)))
    assert not any(folder.result.exists() for folder in folders)
    assert all(folder.snapshot.exists() for folder in folders)
    progress = Quiet()
    run_cell(made, progress)
    assert [resumed for _, _, resumed in progress.started] == [True, True]
    assert all(epochs_done > 0 for _, epochs_done, _ in progress.started)
    expected = plan(tiny_bert, tmp_path / "expected", **changes)
    run_cell(expected, Quiet())
    assert_equal_cells(expected.folder, made.folder)
