"""Sweeps over results that stand in files: what runs, what is chosen, what is read, and how often."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adaptertune.errors import StoreError
from adaptertune.executors import serial
from adaptertune.report.tables import sweep as shown
from adaptertune.runs import execute, grid, results, store, summary, sweep, units
from adaptertune.runs.plan import Plan
from adaptertune.runs.sweep import Survey, Sweep
from adaptertune.runs.units import Settled, Unit
from tests.conftest import CHECKOUT
from tests.runs.test_execute import Quiet


def _simulation() -> Any:
    path = CHECKOUT / "scripts" / "check_scale.py"
    spec = spec_from_file_location("check_scale", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


simulation = _simulation()

# Accuracy in points on the selecting split, by size and learning rate: seeds 0, 1, 2.
TABLE = {
    (4, 1e-3): (60, 61, 62),
    (4, 1e-2): (50, 90, 52),
    (8, 1e-3): (70, 65, 66),
    (8, 1e-2): (68, 72, 71),
}


def make(bert: Path, output: Path, **changes: Any) -> Sweep:
    """The sweep of that table."""
    given: dict[str, Any] = {"tasks": ["rte"], "seeds": 3, "seeds_on": None, "protocol": None}
    values: dict[str, tuple[Sequence[Any], str]] = {
        "method.size": ([4, 8], "--sizes"),
        "training.learning_rate": ([1e-3, 1e-2], "--lrs"),
    }
    base = {
        "backbone": (str(bert), ""), "output": (str(output), ""), "training.epochs": (1, ""),
        "data.source": ("sample", ""), "training.max_length": (24, ""),
        "training.precision": ("fp32", ""),
    }  # fmt: skip
    return sweep.make(grid.with_options(None, grid=values, **(given | changes)), base)


def key(plan: Plan) -> tuple[int, float]:
    method = plan.config.method
    assert method.name == "adapter"
    return method.size, plan.config.training.learning_rate


def scored(
    plan: Plan, seed: int, points: float, on_validation: float = 55, *, collapsed: bool = False
) -> results.SeedResult:
    """A result with so many points on the selecting split; ``on_validation`` where that is another."""
    points_on = dict.fromkeys(plan.scored_splits, on_validation) | {plan.selecting_split: points}
    scores = {
        split: results.SplitScores(
            num_examples=200, values={"accuracy": value / 100}, collapsed=collapsed
        )
        for split, value in points_on.items()
    }
    result: results.SeedResult = simulation.seed_result(plan, seed, random.Random(0), scores=scores)
    return result


class Executor:
    """Settles units by the table, as files, and remembers them."""

    def __init__(
        self,
        broken: Sequence[tuple[int, float]] = (),
        collapsed: Sequence[tuple[tuple[int, float], int]] = (),
    ) -> None:
        self.broken = broken
        self.collapsed = collapsed
        self.ran: list[tuple[tuple[int, float], int]] = []

    def __call__(self, todo: Sequence[Unit], hear: Callable[[Plan], Any]) -> Iterator[Settled]:
        for unit in todo:
            (seed,) = unit.seeds
            which = key(unit.plan)
            self.ran.append((which, seed))
            if which in self.broken:
                error = units.described(ZeroDivisionError("of all things"))
                yield Settled(unit, (), units.write_failures(unit, *error))
                continue
            result = scored(
                unit.plan, seed, TABLE[which][seed], collapsed=(which, seed) in self.collapsed
            )
            simulation.write_seed(unit.plan, result)
            yield Settled(unit, (result,))


class Watched:
    """A view that keeps what it hears."""

    def __init__(self) -> None:
        self.stages: list[tuple[int, int, int]] = []
        self.names: list[str] = []
        self.later: list[int] = []  # trainings
        self.progress = Quiet()

    def of(self, plan: Plan) -> Quiet:
        return self.progress

    def stage(self, name: str, found: Survey, later: Sequence[Unit]) -> None:
        self.names.append(name)
        self.later.append(sum(len(unit.seeds) for unit in later))
        self.stages.append((len(found.ahead), found.num_done, found.num_failed))


def run(
    made: Sweep, executor: Any, view: Watched | None = None, *, retry_before: float | None = None
) -> results.SweepResult:
    book = sweep.Book()
    found = sweep.survey(sweep.first_units(made), book, retry_before=retry_before)
    return sweep.run(made, found, book, executor, view or Watched())


def choices(result: results.SweepResult) -> dict[str, tuple[Any, ...]]:
    """Row -> chosen settings, number of cells, number of runs, mean and best in points."""
    found = {}
    for choice in result.choices:
        spread = choice.scores[choice.reported_split]["accuracy"] if choice.scores else None
        chosen = choice.chosen or {}
        found[choice.row] = (
            (chosen.get("method.size"), chosen.get("training.learning_rate")),
            choice.num_cells,
            choice.num_runs,
            None if spread is None or spread.mean is None else round(100 * spread.mean, 6),
            None if spread is None or spread.best is None else round(100 * spread.best, 6),
        )
    return found


def test_the_paper_chooses_by_the_best_run(tiny_bert: Path, tmp_path: Path) -> None:
    made, executor = make(tiny_bert, tmp_path), Executor()
    result = run(made, executor)
    assert len(executor.ran) == result.num_runs == 12
    assert choices(result) == {
        "adapter-4": ((4, 1e-2), 2, 6, 64.0, 90.0),
        "adapter-8": ((8, 1e-2), 2, 6, pytest.approx(70 + 1 / 3), 72.0),
        "adapter best of 4, 8": ((4, 1e-2), 4, 12, 64.0, 90.0),
    }
    # What the best of the two cells is expected to score: of one, their mean; of two, by hand.
    assert result.choices[0].expected_best_cell == {1: pytest.approx(0.76), 2: pytest.approx(0.83)}
    assert result.choices[0].best_seed == 1
    assert (result.statistic, result.num_failed) == ("best", 0)


def test_held_out_chooses_by_the_mean_and_reports_validation(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = make(tiny_bert, tmp_path, protocol="held-out")
    result = run(made, Executor())
    assert choices(result) == {
        "adapter-4": ((4, 1e-2), 2, 6, 55.0, 55.0),  # 64 against 61
        "adapter-8": ((8, 1e-2), 2, 6, 55.0, 55.0),
        "adapter best of 4, 8": ((8, 1e-2), 4, 12, 55.0, 55.0),  # 70 1/3 against 64
    }
    for choice in result.choices:
        assert (choice.selecting_split, choice.reported_split) == ("held-out", "validation")
    assert "nothing" not in result.in_words
    assert "Validation was only scored" in result.in_words


def test_validation_has_no_say_under_held_out(tiny_bert: Path, tmp_path: Path) -> None:
    """Whatever stands there, the choice is the same; a held-out figure changes it."""
    made = make(tiny_bert, tmp_path, protocol="held-out")
    before = run(made, Executor())
    rng = random.Random(0)
    for cell in made.cells:
        for seed in cell.plan.config.seeds:
            points = TABLE[key(cell.plan)][seed]
            simulation.write_seed(cell.plan, scored(cell.plan, seed, points, rng.uniform(0, 100)))
        cell.plan.folder.result.unlink()
    after = run(made, nothing)
    assert [c.digest for c in after.choices] == [c.digest for c in before.choices]
    assert [c.best_seed for c in after.choices] == [c.best_seed for c in before.choices]
    assert [c.scores["held-out"] for c in after.choices] == [
        c.scores["held-out"] for c in before.choices
    ]
    assert [c.scores["validation"] for c in after.choices] != [
        c.scores["validation"] for c in before.choices
    ]
    plan = made.cells[0].plan
    simulation.write_seed(plan, scored(plan, 0, 100))
    assert choices(run(made, nothing))["adapter-4"][0] == (4, 1e-3)


def nothing(todo: Sequence[Unit], hear: Callable[[Plan], Any]) -> Iterator[Settled]:
    """An executor that must have nothing to do."""
    assert not todo
    return iter(())


def test_only_the_winner_runs_with_all_seeds(tiny_bert: Path, tmp_path: Path) -> None:
    """By the first seed size 4 takes 1e-3, by all seeds it would not; so with size 8."""
    made, executor, view = make(tiny_bert, tmp_path, seeds_on="winner"), Executor(), Watched()
    result = run(made, executor, view)
    assert executor.ran == [
        ((4, 1e-3), 0), ((4, 1e-2), 0), ((8, 1e-3), 0), ((8, 1e-2), 0),
        ((4, 1e-3), 1), ((4, 1e-3), 2), ((8, 1e-3), 1), ((8, 1e-3), 2),
    ]  # fmt: skip
    assert view.stages == [(4, 0, 0), (4, 0, 0)]
    assert view.names == ["first seeds", "other seeds"]
    assert view.later == [4, 0]
    assert choices(result) == {
        "adapter-4": ((4, 1e-3), 2, 4, 61.0, 62.0),
        "adapter-8": ((8, 1e-3), 2, 4, 67.0, 70.0),
        "adapter best of 4, 8": ((8, 1e-3), 2, 6, 67.0, 70.0),  # of the two winners
    }
    assert result.num_runs == 8
    before = made.result.read_bytes()
    again = Watched()
    run(make(tiny_bert, tmp_path, seeds_on="winner"), nothing, again)
    assert again.stages == [(0, 4, 0), (0, 4, 0)]
    assert again.later == [0, 0]
    assert made.result.read_bytes() == before


@pytest.mark.parametrize(("seeds_on", "told"), [("winner", True), ("all", False)])
def test_where_a_winners_other_seeds_collapse_the_next_best_is_told(
    tiny_bert: Path, tmp_path: Path, seeds_on: str, told: bool
) -> None:
    """Size 8 takes 1e-3 by its first seed; where all seeds chose, there is nothing to tell."""
    lost = [((8, 1e-3), 1), ((8, 1e-3), 2), ((4, 1e-2), 1)]
    made = make(tiny_bert, tmp_path, seeds_on=seeds_on, protocol="held-out")
    result = run(made, Executor(collapsed=lost))
    by_row = {choice.row: choice for choice in result.choices}
    assert by_row["adapter-4"].next_best is None
    assert by_row["adapter best of 4, 8"].next_best is None
    if told:
        assert by_row["adapter-8"].lost == [1, 2]
        following = by_row["adapter-8"].next_best or {}
        assert (following["method.size"], following["training.learning_rate"]) == (8, 1e-2)
    console = Console(width=400)
    with console.capture() as text:
        console.print(shown.sweep(result))
    remark = "seeds 1, 2 collapsed or failed; the first seed's next best is lr 1e-2 (--seeds-on all"
    assert (remark in text.get()) == told


def test_without_any_winner_nothing_is_chosen(tiny_bert: Path, tmp_path: Path) -> None:
    made = make(tiny_bert, tmp_path, seeds_on="winner")
    result = run(made, Executor(broken=list(TABLE)))
    assert choices(result)["adapter best of 4, 8"] == ((None, None), 4, 4, None, None)
    assert result.num_failed == 4


def test_the_winners_other_seeds_do_not_unseat_it(tiny_bert: Path, tmp_path: Path) -> None:
    """By the mean: 70 against 68 at first; with the other seeds 67, but the other cell has none."""
    made = make(tiny_bert, tmp_path, seeds_on="winner", protocol="held-out")
    result = run(made, Executor())
    assert choices(result)["adapter-8"][0] == (8, 1e-3)
    assert result.choices[1].scores["held-out"]["accuracy"].n == 3


def test_other_seeds_in_the_store_do_not_change_who_wins(tiny_bert: Path, tmp_path: Path) -> None:
    """Those of an earlier sweep of all seeds: the winner is still the first seed's."""
    run(make(tiny_bert, tmp_path), Executor())
    result = run(make(tiny_bert, tmp_path, seeds_on="winner"), nothing)
    assert choices(result)["adapter-4"] == ((4, 1e-3), 2, 4, 61.0, 62.0)


def test_the_file_is_the_result_and_a_second_run_writes_the_same(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = make(tiny_bert, tmp_path)
    result = run(made, Executor())
    assert results.SweepResult.model_validate_json(made.result.read_text()) == result
    before, view = made.result.read_bytes(), Watched()
    run(make(tiny_bert, tmp_path), nothing, view)
    assert view.stages == [(0, 12, 0)]
    assert made.result.read_bytes() == before
    assert make(tiny_bert, tmp_path, seeds=2).result != made.result


def test_a_cell_is_summarised_by_the_seeds_of_this_sweep(tiny_bert: Path, tmp_path: Path) -> None:
    """First five seeds, say, then three of them, then a kill before the summary was written."""
    made = make(tiny_bert, tmp_path)
    run(made, Executor())
    fewer = run(make(tiny_bert, tmp_path, seeds=2), nothing)
    assert choices(fewer)["adapter-8"] == ((8, 1e-2), 2, 4, 70.0, 72.0)
    kept = made.cells[0].plan.folder.read_result()
    assert kept is not None
    assert [line.seed for line in kept.seeds] == [0, 1, 2], "fewer seeds take none away"
    assert kept.config["seeds"] == [0, 1, 2]
    made.cells[0].plan.folder.result.unlink()
    assert choices(run(made, nothing))["adapter-8"][3] == pytest.approx(70 + 1 / 3)
    assert made.cells[0].plan.folder.result.exists()


def test_a_damaged_configuration_is_written_again(tiny_bert: Path, tmp_path: Path) -> None:
    made = make(tiny_bert, tmp_path)
    run(made, Executor())
    path = made.cells[0].plan.folder.config
    whole = path.read_bytes()
    path.write_text("{")
    run(made, nothing)
    assert path.read_bytes() == whole


def test_a_seed_that_finishes_while_a_summary_is_written_is_in_it(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with a seed each, which end within a moment: the slower writer knew one alone."""
    of_one = make(tiny_bert, tmp_path, seeds=1).cells[0].plan
    simulation.write_seed(of_one, scored(of_one, 0, 60))
    write = store.write_result
    written: list[Path] = []

    def slowly(path: Path, result: Any) -> None:
        if not written:
            simulation.write_seed(of_one, scored(of_one, 1, 61))
        written.append(path)
        write(path, result)

    monkeypatch.setattr(store, "write_result", slowly)
    summary.conclude(of_one)
    assert [line.seed for line in of_one.folder.finished_result().seeds] == [0, 1]
    assert len(written) == 2


def test_a_failed_run_is_a_hole_until_it_is_tried_again(tiny_bert: Path, tmp_path: Path) -> None:
    made = make(tiny_bert, tmp_path)
    result = run(made, Executor(broken=[(4, 1e-3), (4, 1e-2)]))
    assert (result.num_runs, result.num_failed) == (12, 6)
    assert choices(result)["adapter-4"] == ((None, None), 2, 6, None, None)
    assert choices(result)["adapter best of 4, 8"] == (
        (8, 1e-2), 4, 12, pytest.approx(70 + 1 / 3), 72.0,
    )  # fmt: skip
    failed = result.choices[0]
    assert (failed.cell, failed.scores, failed.best_seed, failed.interval) == (None, {}, None, None)
    view = Watched()
    again = run(made, nothing, view)
    assert view.stages == [(0, 12, 6)]
    assert again == result
    mended = Executor()
    whole = run(made, mended, retry_before=math.inf)
    assert len(mended.ran) == 6
    assert whole.num_failed == 0
    assert choices(whole)["adapter-4"] == ((4, 1e-2), 2, 6, 64.0, 90.0)


def test_a_winners_failed_seed_is_ahead_where_it_is_to_be_tried_again(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = make(tiny_bert, tmp_path, seeds_on="winner")
    run(made, Executor())
    winner = next(cell.plan for cell in made.cells if key(cell.plan) == (4, 1e-3))
    unit = units.of_cell(winner)[2]
    winner.folder.seed(2).result.unlink()
    units.write_failures(unit, *units.described(ZeroDivisionError("of all things")))
    for retry_before, expected in ((None, []), (math.inf, [(2,)])):
        book = sweep.Book()
        found = sweep.survey(sweep.first_units(made), book, retry_before=retry_before)
        (row,) = (
            row for row in made.methods if row.cells[0].plan.config.method == winner.config.method
        )
        assert [one.seeds for one in sweep.after_choice(made, row, book, found)] == expected


@pytest.mark.parametrize("fails", [True, False], ids=["failed", "diverged"])
def test_what_another_process_has_tried_again_is_not_tried_once_more(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Two processes with --retry-failed, the second of which comes to a run when the first is done."""
    unit, trained = sweep.first_units(make(tiny_bert, tmp_path, seeds=1))[0], []

    def bad(_: Any, plan: Plan, seeds: Sequence[int], __: Any) -> list[results.SeedResult]:
        trained.append(seeds)
        if fails:
            raise ZeroDivisionError("of all things")
        nothing: dict[str, Any] = {"status": "diverged", "scores": {}, "checkpoint": None}
        done = [simulation.seed_result(plan, s, random.Random(0), **nothing) for s in seeds]
        for result in done:
            simulation.write_seed(plan, result)
        return done

    monkeypatch.setattr(execute.Runner, "run", bad)

    def once(retry_before: float | None) -> None:
        list(serial.run([unit], lambda _: Quiet(), retry_before=retry_before))

    once(None)
    once(None)
    assert len(trained) == 1
    time.sleep(0.05)  # the times of files are coarse
    began = time.time()
    time.sleep(0.05)
    once(began)
    assert len(trained) == 2
    once(began)
    assert len(trained) == 2


def test_a_failure_in_the_training_does_not_stop_the_others(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real executor and real trainings."""
    made = make(tiny_bert, tmp_path, seeds=1)
    train = execute.Runner.run

    def broken(self: Any, plan: Plan, seeds: Any, progress: Any) -> Any:
        if key(plan) == (4, 1e-2):
            raise ZeroDivisionError("of all things")
        return train(self, plan, seeds, progress)

    monkeypatch.setattr(execute.Runner, "run", broken)

    def one_by_one(todo: Sequence[Unit], hear: Any) -> Iterator[Settled]:
        return serial.run(todo, hear, retry_before=math.inf)

    view = Watched()
    result = run(made, one_by_one, view)
    assert (result.num_failed, result.num_runs, len(view.progress.done)) == (1, 4, 3)
    failure = made.cells[1].plan.folder.seed(0).read_failure()
    assert failure is not None
    assert "in broken" in failure.traceback
    monkeypatch.undo()
    assert run(made, one_by_one, retry_before=math.inf).num_failed == 0
    assert not made.cells[1].plan.folder.seed(0).failure.exists()


def test_each_result_is_read_once_and_those_of_the_chosen_cells_once_more(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tiny_bert, tmp_path)
    run(made, Executor())
    read: Counter[Path] = Counter()
    whole = store._read

    def counted(path: Path, kind: Any) -> Any:
        read[path] += 1
        return whole(path, kind)

    monkeypatch.setattr(store, "_read", counted)
    result = run(made, nothing)
    rows = Counter(Path(choice.cell or "") for choice in result.choices)
    for cell in made.cells:
        folder = cell.plan.folder
        assert read[folder.result] == 1
        for seed in cell.plan.config.seeds:
            assert read[folder.seed(seed).result] == 1 + rows[folder.path]
    assert not any(path.name == "failure.json" for path in read)


def test_planning_looks_up_backbone_and_rows_once(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptertune.model import backbone
    from adaptertune.runs import plan

    located, rows = Counter[str](), Counter[str]()
    locate, find_rows = backbone.locate, plan._find_rows
    monkeypatch.setattr(
        backbone, "locate", lambda name, **how: located.update([name]) or locate(name, **how)
    )
    monkeypatch.setattr(
        plan, "_find_rows", lambda task, *more: rows.update([task.name]) or find_rows(task, *more)
    )
    make(tiny_bert, tmp_path, tasks=["rte", "sst2"])
    assert located == {str(tiny_bert): 1}
    assert rows == {"rte": 1, "sst2": 1}


def test_a_damaged_result_is_an_error_with_its_place(tiny_bert: Path, tmp_path: Path) -> None:
    made = make(tiny_bert, tmp_path)
    run(made, Executor())
    path = made.cells[0].plan.folder.seed(1).result
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "fine"}))
    with pytest.raises(StoreError, match=rf"{path}: damaged result \(.*\); delete it and run"):
        run(made, nothing)
