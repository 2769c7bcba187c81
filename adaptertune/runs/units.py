"""Units of work: claimed, done or found done; what another process has is left to it.

A unit's lock is its folders': it dies with its process, so a killed one's unit is free for the next.
"""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adaptertune.errors import DeviceLost, Interrupted, InUse, StoreError
from adaptertune.files import exclusive, write_json
from adaptertune.runs import results, store
from adaptertune.runs.execute import Runner
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import Progress


@dataclass(frozen=True)
class Unit:
    """Seeds of a cell that train in one go: one, or all where they are stacked."""

    plan: Plan
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Settled:
    """What became of a unit. ``is_earlier``: it was so already."""

    unit: Unit
    done: tuple[results.SeedResult, ...]
    failures: tuple[results.Failure, ...] = ()
    is_earlier: bool = False

    def tell(self, progress: Progress) -> None:
        """Pass it on."""
        for result in self.done:
            progress.seed_done(result, reused=self.is_earlier)
        for failure in self.failures:
            progress.failed(failure.seed, failure)


def of_cell(plan: Plan, seeds: Sequence[int] | None = None) -> list[Unit]:
    """A cell's units, or those of some of its seeds."""
    if plan.is_stacked:
        return [Unit(plan, plan.config.seeds)]
    return [Unit(plan, (seed,)) for seed in (plan.config.seeds if seeds is None else seeds)]


def earlier(
    unit: Unit, note: Callable[[str], None], *, retry_before: float | None
) -> Settled | None:
    """What already became of a unit: results, or failures unless these are to be tried again.

    Args:
        retry_before: seconds since the epoch. What failed or diverged before is to be tried again, and
            what did so later is not: another process has just tried it. None: nothing is.

    Raises:
        StoreError: a result is damaged, or is not of this configuration.
    """
    found = [finished(unit.plan, seed, note) for seed in unit.seeds]
    known = [result for result in found if result is not None]
    if len(known) == len(found):
        diverged = [result.seed for result in known if result.status == "diverged"]
        wanted = [_is_before(unit.plan.folder.seed(seed).result, retry_before) for seed in diverged]
        if any(wanted):
            if len(diverged) == len(known):
                return None
            # They train in one pass: what is good would be lost for what will diverge again.
            seeds = ", ".join(map(str, diverged))
            note(
                f"seed {seeds} diverged in one pass with others that finished, and is not tried "
                "again; --stack off trains each alone"
            )
        return Settled(unit, tuple(known), is_earlier=True)
    folders = [unit.plan.folder.seed(seed) for seed in unit.seeds]
    failures = [folder.read_failure() for folder in folders]
    if None in failures or any(_is_before(folder.failure, retry_before) for folder in folders):
        return None
    return Settled(unit, (), tuple(filter(None, failures)), is_earlier=True)


def not_trained_again(plan: Plan) -> list[int]:
    """The seeds of a cell that `train` would not train again: it tries again what failed or diverged."""
    found = [earlier(unit, lambda _: None, retry_before=time.time()) for unit in of_cell(plan)]
    return [result.seed for one in found if one for result in one.done]


def _is_before(path: Path, moment: float | None) -> bool:
    """Whether a file was written before a moment, in seconds since the epoch; one that is just now
    being replaced was.
    """
    if moment is None:
        return False
    try:
        # One of the future was written by a clock that was ahead, or that was set back since.
        return not moment <= path.stat().st_mtime <= time.time() + 60.0
    except FileNotFoundError:
        return True


def settle(
    unit: Unit, runner: Runner, progress: Progress, *, retry_before: float | None
) -> Settled | None:
    """Do a unit, or find that it is done; None while another process is at it.

    An exception in the training is written down and does not go further.

    Raises:
        Interrupted: the user stopped it; the state is saved.
        StoreError: the folder can't be written, or holds something else.
        DeviceLost: an earlier failure has taken the device from this process, or it is gone.
    """
    with ExitStack() as locks:
        try:
            found = claim(unit, locks, progress.note, retry_before=retry_before)
        except InUse:
            return None
        if found:
            return found
        from adaptertune.train import device as devices

        # Else this unit would fail too, and all that are to come.
        why = devices.trouble(unit.plan.device)
        if why is not None:
            raise DeviceLost(
                f"'{unit.plan.device}' does not answer this process ({why})",
                remedy="the same command goes on in a new one, if the device is well",
            )
        try:
            done = runner.run(unit.plan, unit.seeds, progress)
        except (Interrupted, StoreError):
            raise
        except Exception as error:
            return Settled(unit, (), write_failures(unit, *described(error)))
        for seed in unit.seeds:
            unit.plan.folder.seed(seed).failure.unlink(missing_ok=True)
        return Settled(unit, tuple(done))


def claim(
    unit: Unit, locks: ExitStack, note: Callable[[str], None], *, retry_before: float | None
) -> Settled | None:
    """Lock a unit's folders and make them ready for its training; or what became of it already.

    Args:
        locks: gets the locks, and is the caller's to close.

    Raises:
        InUse: another process is at it.
        StoreError: the folder can't be written, or holds something else.
    """
    # A finished one needs no lock, which takes a folder that can be written.
    notes: list[str] = []
    found = earlier(unit, notes.append, retry_before=retry_before)
    if found and found.done:
        for text in notes:
            note(text)
        return found
    folders = [unit.plan.folder.seed(seed) for seed in unit.seeds]
    for folder in folders:
        locks.enter_context(exclusive(folder.path))
    # Only now: another process may have finished it a moment ago.
    found = earlier(unit, note, retry_before=retry_before)
    if found is None:
        write_json(unit.plan.folder.config, config_file(unit.plan))
        for folder in folders:
            # Of one without its checkpoint, or that is to be tried again.
            folder.result.unlink(missing_ok=True)
            for half_written in folder.path.glob(".*.part"):  # by a process that was killed
                half_written.unlink(missing_ok=True)
    return found


def described(error: BaseException) -> tuple[str, str]:
    """An error in one line, and its traceback."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text, "".join(traceback.format_exception(error))


def write_failures(unit: Unit, error: str, trace: str) -> tuple[results.Failure, ...]:
    """Leave a unit's error, as :func:`described`, in the folders of its seeds. Where one has
    a result and another not, the result goes: a unit is done or it is not.
    """
    is_done = all(unit.plan.folder.seed(seed).result.exists() for seed in unit.seeds)
    written = []
    for seed in unit.seeds:
        folder = unit.plan.folder.seed(seed)
        if not is_done:
            folder.result.unlink(missing_ok=True)
        before = folder.read_failure()
        failure = results.Failure(
            seed=seed,
            digest=unit.plan.seed_digest(seed),
            error=error,
            traceback=trace,
            attempts=before.attempts + 1 if before else 1,
            failed_at=datetime.now(UTC).isoformat(timespec="seconds"),
            host=platform.node(),
        )
        store.write_result(folder.failure, failure)
        written.append(failure)
    return tuple(written)


def finished(plan: Plan, seed: int, note: Callable[[str], None]) -> results.SeedResult | None:
    """A seed's result, if it is finished and its checkpoint is whole.

    Raises:
        StoreError: the result is damaged, or is not of this configuration.
    """
    folder = plan.folder.seed(seed)
    result = folder.read_result()
    if result is None:
        return None
    if result.digest != plan.seed_digest(seed):
        raise StoreError(
            "holds a run of another configuration",
            where=folder.path,
            remedy="choose another --output, or delete it",
        )
    facts = result.checkpoint
    path = folder.checkpoint
    if facts and not (path.is_file() and path.stat().st_size == facts.bytes):
        note(f"seed {seed}: {path} is missing or truncated; it is trained again")
        return None
    return result


def config_file(plan: Plan) -> dict[str, Any]:
    """What stands in a cell's ``config.json``."""
    return {
        "config": plan.config.model_dump(mode="json"),
        "origins": dict(plan.resolved.origins),
        "identity": plan.identity,
        "digest": plan.digest,
        "task": plan.task.model_dump(mode="json"),  # so that the run can be used without its file
    }
