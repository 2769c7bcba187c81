"""Units one after another, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from adaptertune.errors import Interrupted, StoreError, TrainingError
from adaptertune.runs import results, units
from adaptertune.runs.execute import Runner
from adaptertune.runs.load import without_score
from adaptertune.runs.plan import Plan
from adaptertune.runs.progress import Progress
from adaptertune.runs.summary import conclude, is_concluded, so_far
from adaptertune.runs.units import Settled, Unit

WAIT_SECONDS = 0.5  # before asking again whether another process is done


def run(
    todo: Sequence[Unit],
    hear: Callable[[Plan], Progress],
    *,
    retry_before: float | None,
    forecasts: bool = False,
) -> Iterator[Settled]:
    """Do units one after another in this process, those that others are at last.

    Raises:
        Interrupted, StoreError, DeviceLost: see :func:`units.settle`.
    """
    runner = Runner(units.not_trained_again if forecasts else None)
    waiting, is_told = list(todo), False
    while waiting:
        busy = []
        for unit in waiting:
            settled = units.settle(unit, runner, hear(unit.plan), retry_before=retry_before)
            if settled is None:
                busy.append(unit)
            else:
                yield settled
        if busy and len(busy) == len(waiting):
            progress = hear(busy[0].plan)
            if not is_told:
                is_told = True
                progress.note(f"waiting for other processes, which are at {len(busy)} trainings")
            if progress.should_stop():
                raise Interrupted("stopped while other processes were at the rest")
            time.sleep(WAIT_SECONDS)
        waiting = busy


def run_cell(plan: Plan, progress: Progress) -> results.CellResult:
    """Train what is not yet trained of a cell, and summarise its seeds.

    Finished seeds are reused, interrupted ones go on, failed ones are tried again.

    Raises:
        Interrupted: the user stopped it; the state is saved.
        TrainingError: no seed came to a score.
        StoreError: the folder holds something else or can't be written.
    """
    failures: list[results.Failure] = []
    is_new = False
    todo = units.of_cell(plan)
    for settled in run(todo, lambda _: progress, retry_before=time.time(), forecasts=True):
        settled.tell(progress)
        failures += settled.failures
        is_new = is_new or not settled.is_earlier
    try:
        conclude(plan)
    except StoreError:
        if is_new or not is_concluded(plan):  # else it is closed by now, and has all that there is
            raise
    result = so_far(plan)
    if result.best_seed is None:
        if failures:
            raise TrainingError(
                f"no seed came to a score: {failures[0].error}",
                where=plan.folder.seed(failures[0].seed).failure,
                remedy="the file has the traceback",
            )
        raise TrainingError(
            without_score(result), where=plan.folder.path, remedy="try a smaller --lr"
        )
    return result
