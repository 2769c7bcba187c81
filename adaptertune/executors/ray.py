"""Units on a Ray cluster. The machines need no disk in common: base model and tokens go out through
Ray, and every file of a run comes back to the driver's store as soon as it is written.

A run is a Ray task. One whose machine is lost is started elsewhere and goes on from its last snapshot,
which the mailbox still has.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adaptertune import paths
from adaptertune.config import digest
from adaptertune.data import cache
from adaptertune.data.encode import SUFFIXES
from adaptertune.errors import (
    AdapterTuneError,
    ConfigError,
    Interrupted,
    InUse,
    StoreError,
    TrainingError,
    first_line,
)
from adaptertune.executors.serial import WAIT_SECONDS
from adaptertune.files import write_atomically
from adaptertune.runs import units
from adaptertune.runs.execute import LIBRARIES, Runner
from adaptertune.runs.plan import Lookups, Plan
from adaptertune.runs.progress import Forwarding, Progress, Told, repeat
from adaptertune.runs.units import Settled, Unit

CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.5  # between two looks at the mailbox, and of a worker at whether to stop
SILENCE_SECONDS = 60.0  # of all runs that were told to stop
MOST_RETRIES = 3  # of a run whose machine or process was lost
AHEAD = 2  # runs handed to Ray for each that the cluster can do at a time

Key = tuple[str, tuple[int, ...]]  # a cell's digest and a unit's seeds
Message = tuple[str, Any]  # ("told", Told) or ("file", (path, content))


@dataclass(frozen=True)
class Shipment:
    """What a run reads, as bytes: file name -> content."""

    model: Mapping[str, bytes]
    weights: str  # which of the model's files
    tokens: Mapping[str, bytes]
    initial: bytes | None = None  # another run's checkpoint, to start from


class Mailbox:
    """A Ray actor: what workers sent and the driver has not fetched yet, and whether to stop."""

    def __init__(self) -> None:
        self._messages: list[tuple[Key, Message]] = []
        self._snapshots: dict[Key, dict[str, bytes]] = {}
        self._begun: set[Key] = set()
        self._is_stopping = False

    def begin(self, key: Key) -> bool:
        """A worker has a unit; whether it is to stop at once."""
        self._begun.add(key)
        return self._is_stopping

    def put(self, key: Key, messages: Sequence[Message]) -> bool:
        """Take a worker's messages in; whether it is to stop."""
        for kind, content in messages:
            self._messages.append((key, (kind, content)))
            if kind == "file" and content[0].endswith("/snapshot.safetensors"):
                self._snapshots.setdefault(key, {})[content[0]] = content[1]
        return self._is_stopping

    def snapshots(self, key: Key) -> dict[str, bytes]:
        """Where an earlier attempt at a unit got to, by path."""
        return self._snapshots.get(key, {})

    def fetch(self) -> list[tuple[Key, Message]]:
        """What came since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def forget(self, key: Key) -> None:
        """A unit is over."""
        self._snapshots.pop(key, None)

    def stop(self) -> set[Key]:
        """Let every worker save its state and end; the units that have begun."""
        self._is_stopping = True
        return self._begun


@dataclass
class RayExecutor:
    """Hands units to a cluster, a little ahead of what it can do, and writes down what comes back.

    Args:
        gpu_share: of a GPU for each run, where runs are on GPUs.
    """

    address: str | None
    gpu_share: float
    retry_before: float | None
    shipments: dict[tuple[str, ...], Any] = field(default_factory=dict)
    _mailbox: Any = None
    _unwritten: set[tuple[Key, str]] = field(default_factory=set)  # files, by their units

    def connect(self) -> None:
        """Join the cluster, or start one on this machine if no address is given.

        Raises:
            ConfigError: Ray is not installed, or there is no cluster at the address.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "Ray is not installed", where="--executor", remedy="pip install ray"
            ) from None
        if ray.is_initialized():
            return
        try:
            if self.address and self.address != "auto":  # Ray itself would try for minutes
                host, _, port = self.address.removeprefix("ray://").rpartition(":")
                socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"no Ray cluster can be reached ({first_line(error)})",
                where="--ray-address",
                remedy="start one with `ray start --head`, or leave the option out",
            ) from None

    def lookups(self, device: str, note: Callable[[str], None]) -> Lookups:
        """For planning: the device and what it can do are those of the cluster, not of this machine."""
        import ray

        on_gpu = device.startswith("cuda") or (device == "auto" and _resources().get("GPU", 0) > 0)
        gpus = self.gpu_share if on_gpu else 0.0
        _tell_of_waiting(1, gpus, note)
        asked = ray.remote(num_gpus=gpus)(_capability)
        try:
            found, native, compiler = ray.get(asked.remote(device))
        except ray.exceptions.RayTaskError as raised:
            raise _of_worker(raised) from None
        lookups = Lookups()
        lookups.once(("device", device), lambda: found)
        lookups.once(("bf16", found), lambda: native)
        lookups.once(("compiler", found), lambda: compiler)
        return lookups

    def __call__(self, todo: Sequence[Unit], hear: Callable[[Plan], Progress]) -> Iterator[Settled]:
        """Raises: Interrupted, StoreError: as :func:`units.settle`, when all runs have stopped."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if not todo:
            return
        self.connect()
        # Ray would take any machine, and with that all states would be lost.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0)(Mailbox).options(scheduling_strategy=here)
        self._mailbox = actor.remote()
        for cpus, gpus in sorted({self._needs(unit.plan) for unit in todo}):
            _tell_of_waiting(cpus, gpus, hear(todo[0].plan).note)
        waiting, flying = deque(todo), dict[Any, _Flight]()
        try:
            while waiting or flying:
                yield from self._launch(waiting, flying, hear)
                ready, _ = ray.wait(list(flying), timeout=POLL_SECONDS) if flying else ([], [])
                self._sort_mail(flying.values(), hear)
                for reference in ready:
                    yield self._land(reference, flying.pop(reference))
                if not ready and not flying:  # other processes have the rest
                    time.sleep(WAIT_SECONDS)
                if hear(todo[0].plan).should_stop():
                    raise Interrupted(
                        "stopped; all states are saved", remedy="the same command goes on from here"
                    )
        except (AdapterTuneError, GeneratorExit):
            # A full disk, a machine that must not take part, a caller that gives up, …
            self._stop(flying, hear)
            raise
        finally:
            for flight in flying.values():
                flight.locks.close()
            ray.kill(self._mailbox)

    def _needs(self, plan: Plan) -> tuple[int, float]:
        """CPUs and GPUs of a run."""
        gpus = self.gpu_share if plan.device.startswith("cuda") else 0.0
        return plan.config.threads or 1, gpus

    def _launch(
        self, waiting: deque[Unit], flying: dict[Any, _Flight], hear: Callable[[Plan], Progress]
    ) -> Iterator[Settled]:
        """Hand over as many units as the cluster can soon do, but for those that others have or had."""
        import ray

        for _ in range(len(waiting)):
            unit = waiting[0]
            plan = unit.plan
            cpus, gpus = self._needs(plan)
            there = _resources()
            room = there.get("GPU", 0) / gpus if gpus else there.get("CPU", 0) / cpus
            if len(flying) >= AHEAD * max(1, int(room)):
                return
            waiting.popleft()
            with ExitStack() as locks:
                try:
                    found = units.claim(
                        unit, locks, hear(plan).note, retry_before=self.retry_before
                    )
                except InUse:
                    waiting.append(unit)
                    continue
                if found is None:
                    folders = [plan.folder.seed(seed) for seed in unit.seeds]
                    states = {
                        f"{folder.path.name}/{folder.snapshot.name}": folder.snapshot.read_bytes()
                        for folder in folders
                        if folder.snapshot.exists()
                    }
                    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=MOST_RETRIES)
                    shipment = self._ship(plan, hear(plan))
                    reference = task(_train).remote(
                        unit, shipment, states, self._mailbox, _versions()
                    )
                    flying[reference] = _Flight(unit, locks.pop_all())
            if found:
                yield found

    def _ship(self, plan: Plan, progress: Progress) -> Any:
        """A reference to what the plan's runs read; each task's is put into Ray once."""
        import ray

        key: tuple[str, ...] = plan.located.sha256, plan.tokens.digest, *plan.tokens.names
        if plan.init_from:
            key += (plan.init_from.sha256,)
        if key not in self.shipments:
            parts = cache.tokenised(plan.tokens, progress=lambda *_: None, note=progress.note)
            folder = plan.located.folder
            names = [path for path in folder.iterdir() if path.suffix in SUFFIXES]
            model = {path.name: path.read_bytes() for path in [*names, plan.located.weights]}
            # Not the files: where the cache can't be written there are none.
            tokens = {plan.tokens.path(one.name).name: cache.as_bytes(one) for one in parts}
            initial = plan.initial.read_bytes() if plan.initial else None
            shipment = Shipment(model, plan.located.weights.name, tokens, initial)
            self.shipments[key] = ray.put(shipment)
        return self.shipments[key]

    def _sort_mail(self, flights: Any, hear: Callable[[Plan], Progress]) -> bool:
        """Write files where they belong, and tell what there is to tell; whether there was any mail.

        Raises:
            StoreError: a file can't be written; all others are.
        """
        import ray

        problems: list[StoreError] = []
        plans = {_key(flight.unit): flight.unit.plan for flight in flights}
        mail = ray.get(self._mailbox.fetch.remote())
        for key, (kind, content) in mail:
            plan = plans.get(key)
            if plan is None:
                continue
            if kind == "file":
                path, data = content
                if path.endswith("result.json") and any(key == of for of, _ in self._unwritten):
                    continue  # without those files it would count as finished
                try:
                    write_atomically(plan.folder.path / path, data)
                except StoreError as error:
                    problems.append(error)
                    self._unwritten.add((key, path))
                else:
                    self._unwritten.discard((key, path))
            else:
                repeat(content, hear(plan))
        if problems:
            raise problems[0]
        return bool(mail)

    def _land(self, reference: Any, flight: _Flight) -> Settled:
        """What became of a unit whose task is over; all its mail is sorted."""
        import ray

        unit = flight.unit
        with flight.locks:
            try:
                failure: tuple[str, str] | None = ray.get(reference)
            except ray.exceptions.RayTaskError as raised:
                raise _of_worker(raised) from None
            except ray.exceptions.RayError as lost:
                failure = units.described(lost)
            self._mailbox.forget.remote(_key(unit))
            if failure is not None:
                return Settled(unit, (), units.write_failures(unit, *failure))
            folders = [unit.plan.folder.seed(seed) for seed in unit.seeds]
            for folder in folders:
                folder.failure.unlink(missing_ok=True)
                folder.snapshot.unlink(missing_ok=True)
            found = [folder.read_result() for folder in folders]
            return Settled(unit, tuple(result for result in found if result is not None))

    def _stop(self, flying: Mapping[Any, _Flight], hear: Callable[[Plan], Progress]) -> None:
        """Let all runs save their states, and fetch these.

        Raises:
            StoreError: one can't be written; all others are.
        """
        import ray

        problem: StoreError | None = None
        begun = ray.get(self._mailbox.stop.remote())
        for reference, flight in flying.items():
            if _key(flight.unit) not in begun:  # it may never begin, and has nothing to save
                ray.cancel(reference)
        left, heard = list(flying), time.monotonic()
        while left:
            _, left = ray.wait(left, num_returns=len(left), timeout=POLL_SECONDS)
            try:
                has_mail = self._sort_mail(flying.values(), hear)
            except StoreError as error:
                has_mail, problem = True, problem or error
            if has_mail:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                # Its machine was lost, and no other is free.
                for reference in left:
                    ray.cancel(reference)
                heard = time.monotonic()
        if problem:  # of some runs the store has a part
            raise problem
        for flight in flying.values():
            folders = [flight.unit.plan.folder.seed(seed) for seed in flight.unit.seeds]
            if all(folder.result.exists() for folder in folders):  # it came to its end after all
                for folder in folders:
                    folder.snapshot.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Flight:
    """A unit that Ray has, and the locks that we hold for it."""

    unit: Unit
    locks: ExitStack


def _key(unit: Unit) -> Key:
    return unit.plan.digest, unit.seeds


def _resources() -> dict[str, float]:
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _of_worker(raised: Any) -> AdapterTuneError:
    """What went wrong on a worker, without the traceback that Ray puts into its text."""
    cause = raised.cause
    if isinstance(cause, AdapterTuneError):
        return cause
    return TrainingError(
        f"a worker can't run it ({type(cause).__name__}: {first_line(cause)})",
        where="--executor ray",
        remedy="see that worker's log; all machines need the same versions",
    )


def _tell_of_waiting(cpus: int, gpus: float, note: Callable[[str], None]) -> None:
    """Say so if no machine of the cluster can take a run now; one that can may join."""
    import ray

    machines = [one["Resources"] for one in ray.nodes() if one["Alive"]]  # type: ignore[no-untyped-call]
    if not any(one.get("CPU", 0) >= cpus and one.get("GPU", 0) >= gpus for one in machines):
        wanted = f"{cpus} CPU{'s' * (cpus > 1)}{f' and {gpus:g} GPU' if gpus else ''}"
        note(
            f"no machine of the Ray cluster has {wanted}: what needs that waits for one that joins"
        )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _capability(requested: str) -> tuple[Any, bool, Any]:
    """Runs on a worker: its device, whether that has bf16, and what torch.compile would need of it."""
    from adaptertune.train import device as devices

    device = devices.choose_device(requested)
    return device, devices.has_native_bf16(device), devices.compiler(device)


_runner = Runner()  # of this worker process, which may get several units of one task


def _train(
    unit: Unit,
    shipment: Shipment,
    states: Mapping[str, bytes],
    mailbox: Any,
    versions: Mapping[str, str],
) -> tuple[str, str] | None:
    """Runs on a worker: trains a unit in a folder of its own; its error, if it ended with one.

    Raises:
        ConfigError: this machine has other versions than the driver's.
    """
    import ray

    if versions != _versions():
        odd = [name for name, version in _versions().items() if versions.get(name) != version]
        raise ConfigError(
            f"{odd[0]} {_versions()[odd[0]]} on a worker, {versions.get(odd[0])} on the driver",
            where="--executor ray",
            remedy="install the same versions everywhere",
        )
    key = _key(unit)
    if ray.get(mailbox.begin.remote(key)):
        return units.described(Interrupted("stopped before it began"))
    states = {**states, **ray.get(mailbox.snapshots.remote(key))}  # an earlier attempt's are later
    with TemporaryDirectory(prefix="adaptertune-") as folder:
        line = _Line(mailbox, key, Path(folder))
        progress = Forwarding(line.tell, line.should_stop, line.saved)
        try:
            plan = _unpack(unit.plan, shipment, Path(folder))
            for path, content in states.items():
                write_atomically(Path(folder) / path, content)
            _runner.run(plan, unit.seeds, progress)
        except Interrupted as stop:
            return units.described(stop)
        except Exception as error:
            return units.described(error)
        finally:
            line.flush()
    return None


def _unpack(plan: Plan, shipment: Shipment, folder: Path) -> Plan:
    """The plan with everything it reads on this machine, and ``folder`` to write to."""
    others = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in shipment.model.items()
        if name != shipment.weights
    }
    model = paths.cache() / "models" / f"{plan.located.sha256}-{digest(others)[:12]}"
    for name, data in shipment.model.items():
        _keep(model / name, data)
    moved = replace(
        plan,
        located=replace(plan.located, folder=model, weights=model / shipment.weights),
        tokens=replace(plan.tokens, model=model),
        place=folder,
    )
    if plan.init_from and shipment.initial is not None:
        initial = paths.cache() / "initial" / f"{plan.init_from.sha256}.safetensors"
        _keep(initial, shipment.initial)
        moved = replace(moved, initial=initial)
    for name, data in shipment.tokens.items():
        _keep(paths.cache() / "tokens" / name, data)
    return moved


def _keep(path: Path, content: bytes) -> None:
    if not (path.is_file() and path.stat().st_size == len(content)):
        write_atomically(path, content)


class _Line:
    """A worker's line to the mailbox: files go at once, the rest now and then."""

    def __init__(self, mailbox: Any, key: Key, folder: Path) -> None:
        self._mailbox, self._key, self._folder = mailbox, key, folder
        self._messages: list[Message] = []
        self._sent_at = 0.0
        self._is_stopping = False

    def tell(self, told: Told) -> None:
        if told[0] != "evaluating":  # too often to send
            self._messages.append(("told", told))

    def saved(self, path: Path) -> None:
        name = path.relative_to(self._folder).as_posix()
        self._messages.append(("file", (name, path.read_bytes())))
        self.flush()

    def should_stop(self) -> bool:
        if time.monotonic() - self._sent_at > POLL_SECONDS:
            self.flush()
        return self._is_stopping

    def flush(self) -> None:
        """Send what there is, and ask whether to stop."""
        import ray

        self._is_stopping = ray.get(self._mailbox.put.remote(self._key, self._messages))
        self._messages, self._sent_at = [], time.monotonic()
