"""A real Ray cluster of several nodes on this machine: equal results, lost workers, stopping."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptertune.errors import ConfigError, Interrupted, StoreError, TrainingError
from adaptertune.executors import ray as ray_executor
from adaptertune.executors import serial
from adaptertune.executors.ray import RayExecutor, Shipment, _unpack
from adaptertune.files import write_atomically
from adaptertune.runs import units
from adaptertune.runs.plan import Plan
from adaptertune.train import device as devices
from tests.runs.test_execute import Quiet, comparable, plan

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A head and two nodes that can do one run each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            made.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        ray.init(
            address=made.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"worker_process_setup_hook": eager},
        )
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.shutdown()
        made.shutdown()  # type: ignore[no-untyped-call]


def eager() -> None:
    """Runs in every worker at its start: a snapshot after every step."""
    from adaptertune.runs import snapshots

    snapshots.SNAPSHOT_SECONDS, snapshots.SNAPSHOT_SHARE = 0.0, 1e9


def executor() -> RayExecutor:
    return RayExecutor(address=None, gpu_share=1.0, retry_before=None)


def assert_equal_stores(one: Path, other: Path) -> None:
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    for path in files:
        if path.name in ("checkpoint.safetensors", "logits.safetensors"):
            assert (one / path).read_bytes() == (other / path).read_bytes(), path
        elif path.name == "result.json":
            assert comparable(one / path) == comparable(other / path), path


def test_a_worker_reads_the_files_that_were_sent(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of an earlier sweep with the same weights, even where they are as long."""
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    made = plan(tiny_bert, tmp_path)
    model = {path.name: path.read_bytes() for path in tiny_bert.iterdir()}
    plain = model["config.json"]
    for sent in (
        plain,
        plain.replace(b'"hidden_dropout_prob": 0.1', b'"hidden_dropout_prob": 0.3'),
    ):
        shipment = Shipment(model | {"config.json": sent}, made.located.weights.name, {})
        there = _unpack(made, shipment, tmp_path / "run").located
        assert (there.folder / "config.json").read_bytes() == sent
        assert there.weights.read_bytes() == made.located.weights.read_bytes()


def test_an_address_without_a_cluster() -> None:
    for address in ("127.0.0.1:1", "nowhere"):
        with pytest.raises(ConfigError, match="--ray-address: no Ray cluster can be reached"):
            RayExecutor(address, 1.0, False).connect()


def test_what_the_cluster_can_compile_is_asked_of_it(
    cluster: None, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine may have neither its GPU nor triton."""
    ours = executor()
    ours.connect()
    lookups = ours.lookups("cpu", pytest.fail)
    cpu: Any = lookups.once(("device", "cpu"), lambda: pytest.fail("asked here"))
    found = lookups.once(("compiler", cpu), lambda: pytest.fail("asked here"))
    assert found == devices.compiler(cpu)


def test_what_a_worker_lacks_is_said_in_a_line(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = RayExecutor(address=None, gpu_share=0.0, retry_before=None)
    ours.connect()
    with pytest.raises(ConfigError) as refused:
        ours.lookups("cuda", pytest.fail)
    assert str(refused.value).startswith("--device: ")
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(ray_executor, "_capability", lambda _: 1 / 0)
    with pytest.raises(TrainingError) as broken:
        ours.lookups("cpu", pytest.fail)
    told = "a worker can't run it (ZeroDivisionError: division by zero)"
    assert str(broken.value).startswith(f"--executor ray: {told}; see that worker's log")


def test_tokens_travel_where_the_cache_can_not_be_written(
    cluster: None, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, heard = plan(tiny_bert, tmp_path, seeds=1), Quiet()
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    usual = ray.get(executor()._ship(made, Quiet())).tokens
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache/tokens").iterdir()} == usual
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "file" / "cache"))
    assert ray.get(executor()._ship(made, heard)).tokens == usual
    assert "tokenises again" in heard.notes[-1]


def test_where_a_run_can_not_be_written_the_others_states_come_back(
    cluster: None, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not lost with the mailbox, though that run's state fails once more when it is stopped."""
    made = plan(tiny_bert, tmp_path, seeds=2, threads=1, training__epochs=6)
    other, before_stop = made.folder.seed(1).snapshot, list[bytes]()
    ours = executor()

    def stop(*arguments: Any) -> None:
        before_stop.append(other.read_bytes())
        RayExecutor._stop(ours, *arguments)

    def write(path: Path, content: bytes) -> None:
        if path == made.folder.seed(0).snapshot and other.exists():
            raise StoreError("cannot be written", where=path)
        write_atomically(path, content)

    monkeypatch.setattr(ours, "_stop", stop)
    monkeypatch.setattr(ray_executor, "write_atomically", write)
    with pytest.raises(StoreError, match=r"seed-0/snapshot\.safetensors: cannot be written"):
        list(ours(units.of_cell(made), lambda _: Quiet()))
    assert len(before_stop) == 1
    assert other.read_bytes() != before_stop[0], "what it did since, saved when it was stopped"


def test_a_result_waits_for_the_files_before_it(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a short result would find room where long logits did not, and count for good."""
    made, ours = plan(tiny_bert, tmp_path, seeds=1), executor()
    (unit,) = units.of_cell(made)
    key = ray_executor._key(unit)
    flights = [SimpleNamespace(unit=unit)]
    names = ("checkpoint.safetensors", "logits.safetensors", "result.json")
    mail = [(key, ("file", (f"seed-0/{name}", b"content"))) for name in names]
    monkeypatch.setattr(ours, "_mailbox", SimpleNamespace(fetch=SimpleNamespace(remote=print)))
    monkeypatch.setattr(ray, "get", lambda _: mail)

    def write(path: Path, content: bytes) -> None:
        if path.name == "logits.safetensors":
            raise StoreError("cannot be written", where=path)
        write_atomically(path, content)

    monkeypatch.setattr(ray_executor, "write_atomically", write)
    with pytest.raises(StoreError):
        ours._sort_mail(flights, lambda _: Quiet())
    folder = made.folder.seed(0)
    assert (folder.checkpoint.exists(), folder.result.exists()) == (True, False)
    monkeypatch.setattr(ray_executor, "write_atomically", write_atomically)
    ours._sort_mail(flights, lambda _: Quiet())
    assert folder.result.exists()


def test_a_caller_that_gives_up_lets_all_runs_save_their_states(
    cluster: None, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1, threads=1, training__epochs=6)
    list(serial.run(units.of_cell(made), lambda _: Quiet(), retry_before=None))
    longer = plan(tiny_bert, tmp_path, seeds=1, threads=1, training__epochs=12)
    ours, stopped = executor(), list[bool]()
    monkeypatch.setattr(ours, "_stop", lambda *_: stopped.append(True))
    settling = ours([*units.of_cell(longer), *units.of_cell(made)], lambda _: Quiet())
    assert isinstance(settling, Generator)
    assert next(settling).is_earlier
    settling.close()
    assert stopped == [True]


def test_equal_to_serial(cluster: None, tiny_bert: Path, tmp_path: Path) -> None:
    ours, theirs = (
        plan(tiny_bert, tmp_path / name, seeds=3, threads=1) for name in ("ray", "serial")
    )
    progress = Quiet()
    settled = list(executor()(units.of_cell(ours), lambda _: progress))
    assert sorted(one.done[0].seed for one in settled) == [0, 1, 2]
    assert sorted(seed for seed, *_ in progress.started) == [0, 1, 2]
    list(serial.run(units.of_cell(theirs), lambda _: Quiet(), retry_before=None))
    assert_equal_stores(ours.folder.path, theirs.folder.path)
    # A run that is finished is not handed out again by the sweep, and this says how it knows.
    assert all(units.earlier(unit, print, retry_before=None) for unit in units.of_cell(ours))


def test_another_runs_weights_travel_along(cluster: None, tiny_bert: Path, tmp_path: Path) -> None:
    first = plan(tiny_bert, tmp_path / "first", seeds=1, threads=1, training__epochs=1)
    list(serial.run(units.of_cell(first), lambda _: Quiet(), retry_before=None))
    weights = first.folder.seed(0)

    def made(name: str) -> Plan:
        start = str(weights.path)
        return plan(tiny_bert, tmp_path / name, task="qnli", seeds=2, threads=1, init_from=start)

    theirs = made("serial")
    list(serial.run(units.of_cell(theirs), lambda _: Quiet(), retry_before=None))
    plain = replace(made("ray"), init_from=None, initial=None)
    ours, driver = made("ray"), executor()
    assert ray.get(driver._ship(plain, Quiet())).initial is None
    shipment = driver._ship(ours, Quiet())
    assert ray.get(shipment).initial == weights.checkpoint.read_bytes()
    weights.checkpoint.rename(tmp_path / "elsewhere")  # no worker reads the driver's disk
    settled = list(driver(units.of_cell(ours), lambda _: Quiet()))
    assert [one.failures for one in settled] == [(), ()]
    assert_equal_stores(ours.folder.path, theirs.folder.path)


def test_what_another_process_finished_meanwhile_is_not_trained_again(
    cluster: None, tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1, threads=1)
    todo = units.of_cell(made)  # ahead, when the store was read
    list(serial.run(todo, lambda _: Quiet(), retry_before=None))
    progress = Quiet()
    (settled,) = executor()(todo, lambda _: progress)
    assert settled.is_earlier
    assert progress.started == []


def workers() -> list[int]:
    """The processes in which runs are under way."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::_train"):
            found.append(int(folder.name))
    return found


def test_a_killed_workers_run_goes_on_elsewhere(
    cluster: None, tiny_bert: Path, tmp_path: Path
) -> None:
    whole = plan(tiny_bert, tmp_path / "whole", seeds=1, threads=1, training__epochs=6)
    list(serial.run(units.of_cell(whole), lambda _: Quiet(), retry_before=None))
    made = plan(tiny_bert, tmp_path / "killed", seeds=1, threads=1, training__epochs=6)
    progress, killed = Quiet(), []

    def kill() -> None:
        snapshot = made.folder.seed(0).snapshot
        while not snapshot.exists():
            time.sleep(0.01)
        for process in workers():
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    killer = threading.Thread(target=kill)
    killer.start()
    (settled,) = executor()(units.of_cell(made), lambda _: progress)
    killer.join()
    assert killed
    assert [resumed for _, _, resumed in progress.started] == [False, True]
    assert settled.done[0].cost.resumed == 1
    assert_equal_stores(made.folder.path, whole.folder.path)


def test_stopped_and_gone_on_with_in_one_process(
    cluster: None, tiny_bert: Path, tmp_path: Path
) -> None:
    """Snapshots come back to the driver's store: any other executor can go on from there."""
    whole = plan(tiny_bert, tmp_path / "whole", seeds=2, threads=1, training__epochs=6)
    list(serial.run(units.of_cell(whole), lambda _: Quiet(), retry_before=None))
    made = plan(tiny_bert, tmp_path / "stopped", seeds=2, threads=1, training__epochs=6)
    progress = Quiet()
    snapshot = made.folder.seed(0).snapshot
    progress.should_stop = snapshot.exists  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="all states are saved"):
        list(executor()(units.of_cell(made), lambda _: progress))
    assert snapshot.exists()
    progress = Quiet()
    list(serial.run(units.of_cell(made), lambda _: progress, retry_before=None))
    assert (0, True) in [(seed, resumed) for seed, _, resumed in progress.started]
    assert_equal_stores(made.folder.path, whole.folder.path)


def test_what_no_machine_can_take_waits_and_stops_at_once(
    cluster: None, tiny_bert: Path, tmp_path: Path
) -> None:
    made, progress = plan(tiny_bert, tmp_path, seeds=1, threads=16), Quiet()
    progress.should_stop = iter([False] * 4 + [True]).__next__  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="all states are saved"):
        list(executor()(units.of_cell(made), lambda _: progress))
    assert progress.notes == [
        "no machine of the Ray cluster has 16 CPUs: what needs that waits for one that joins"
    ]
    assert not progress.started


def test_a_machine_that_can_not_write_stops_no_other(
    cluster: None, tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1)
    full = executor()
    shipment = ray.get(full._ship(made, Quiet()))
    (key,) = full.shipments
    unwritable = {**shipment.model, "no\0name": b""}
    full.shipments[key] = ray.put(type(shipment)(unwritable, shipment.weights, shipment.tokens))
    (settled,) = full(units.of_cell(made), lambda _: Quiet())
    assert "ValueError: embedded null byte" in settled.failures[0].error


def test_the_mailbox_is_where_the_driver_is(cluster: None, tiny_bert: Path, tmp_path: Path) -> None:
    """Any other machine may be lost."""
    ours, found = executor(), []
    progress = Quiet()

    def look() -> bool:
        where = ours._mailbox.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())
        found.append(ray.get(where))
        return True

    progress.should_stop = look  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        list(ours(units.of_cell(plan(tiny_bert, tmp_path, seeds=1)), lambda _: progress))
    assert found == [ray.get_runtime_context().get_node_id()]


def test_an_error_comes_back_with_its_traceback(
    cluster: None, tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1)
    broken = executor()
    shipment = ray.get(broken._ship(made, Quiet()))
    damaged = {**shipment.model, shipment.weights: b"not weights"}
    (key,) = broken.shipments
    # Another folder than the whole files', which the worker may have kept.
    damaged["other.txt"] = b""
    broken.shipments[key] = ray.put(type(shipment)(damaged, shipment.weights, shipment.tokens))
    (settled,) = broken(units.of_cell(made), lambda _: Quiet())
    (failure,) = settled.failures
    assert "BackboneError" in failure.error
    assert "in load" in failure.traceback
    assert made.folder.seed(0).read_failure() == failure
