"""Missing runs and the commands that make them."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable
from pathlib import Path

from adaptertune.report import commands, comparison, evidence, holes
from adaptertune.report.comparison import fill
from adaptertune.report.schema import Hole
from adaptertune.runs.results import Failure
from adaptertune.runs.store import write_result
from tests.conftest import Finished
from tests.report.records import add, change, one_metric, only, row, swept


def test_a_row_with_a_hole_has_no_average_and_the_hole_its_command(
    tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    add(tmp_path / "runs", "rte", one_metric(0.6, 0.5))
    options = {"method.name": "top_layers", "method.k": 2, "training.learning_rate": 3e-5}
    add(tmp_path / "runs", "rte", one_metric(0.6, 0.5), options=options)
    add(tmp_path / "runs", "cola", {0: {"validation": {"matthews": 0.5, "accuracy": 0.8}}})
    shown = only(tmp_path / "runs")
    found = row(shown, "top 2 layers")
    assert found.mean is None
    assert found.glue_average is None
    hole = found.entries[0]
    assert isinstance(hole, Hole)
    # The command makes just such a run, of the task that lacks it.
    command = shlex.split(hole.command)
    assert command[:2] == ["adaptertune", "train"]
    given = dict(itertools.pairwise(command))
    assert given["--task"] == "cola"
    assert given["--method"] == "top_layers"
    assert given["--top-k"] == "2"
    assert float(given["--lr"]) == 3e-5
    assert given["--seeds"] == "2"
    assert given["--data-dir"] == str(tmp_path / "glue")  # wherever it is typed
    assert "--offline" in command
    done = cli(*command[1:], "--dry-run")  # the real command line takes it, and asks for the data
    assert done.code == 2
    assert "glue" in done.err


def test_missing_seeds_and_cells_without_any_are_holes_with_commands(tmp_path: Path) -> None:
    add(tmp_path / "made", "rte", one_metric(0.7), asked=[0, 1, 2])
    add(tmp_path / "made", "cola", {}, asked=[0, 1])
    moved = (tmp_path / "made").rename(tmp_path / "moved")
    cells, unfinished = evidence.read(moved)
    found = holes.missing(comparison.compare(cells), unfinished)
    assert [one.what.partition(":")[2] for one in found] == [" seeds 1, 2", " no seed is finished"]
    (cell,) = cells
    cell.folder.joinpath("seed-2").mkdir()
    write_result(
        cell.folder / "seed-1" / "result.json", cell.seeds[0].model_copy(update={"seed": 1})
    )
    (cell,) = evidence.read(moved)[0]
    what = holes.missing(comparison.compare([cell]), [])[0].what
    assert what.partition(":")[2] == " seed 2"
    assert all(one.command.startswith("adaptertune train --task ") for one in found)
    # They go where they were looked for, wherever the runs were trained.
    assert all(f" --output {moved}" in one.command for one in found)


def test_a_hole_of_ones_own_task_names_its_file_and_its_data(tmp_path: Path) -> None:
    own = tmp_path / "own task.yaml"
    own.write_text(
        "name: tickets\ntitle: T\nlabels: [low, high]\nmetrics: [f1]\nheadline: f1\n"
        "evaluation: [validation]\nfiles:\n  columns: {first: a, label: b}\n  splits:\n"
        "    train: {file: train.tsv}\n    validation: {file: dev.tsv}\n"
    )
    add(tmp_path / "runs", str(own), {0: {"validation": {"f1": 0.5}}})
    own.unlink()  # reading results needs no task files
    add(tmp_path / "runs", "rte", one_metric(0.6), options={"method.name": "full"})
    shown = only(tmp_path / "runs")
    assert [column.label for column in shown.columns] == ["RTE", "tickets"]
    hole = row(shown, "full fine-tuning").entries[1]
    assert isinstance(hole, Hole)
    assert f"--task '{own}'" in str(hole.command)
    assert not shown.columns[1].glue


def test_a_failed_seed_is_missing_with_its_error(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7), asked=[0, 1])
    failure = Failure(
        seed=1,
        digest="d",
        error="out of memory",
        traceback="…",
        attempts=1,
        failed_at="2026-11-23T04:07:08+00:00",
        host="here",
    )
    write_result(folder.seed(1).failure, failure)
    cells, unfinished = evidence.read(tmp_path)
    (found,) = holes.missing(comparison.compare(cells), unfinished)
    assert found.what.endswith(": seed 1; seed 1 failed: out of memory")


def test_other_candidates_of_a_search_by_one_seed_are_no_holes(tmp_path: Path) -> None:
    """What a sweep with ``--seeds-on winner`` leaves."""
    rates = {1e-4: (0.6,), 1e-3: (0.7, 0.7, 0.7), 3e-3: (0.5,)}
    for rate, values in rates.items():
        options = {"training.learning_rate": rate}
        add(tmp_path, "rte", one_metric(*values), asked=[0, 1, 2], options=options)
    cells, unfinished = evidence.read(tmp_path)
    assert holes.missing(comparison.compare(cells), unfinished) == []


def test_a_hole_is_filled_by_what_was_chosen_elsewhere(tmp_path: Path) -> None:
    for rate, score in ((1e-4, 0.5), (1e-3, 0.7), (3e-3, 0.6)):
        add(tmp_path, "rte", one_metric(score), options={"training.learning_rate": rate})
    add(tmp_path, "wnli", one_metric(0.6), options={"method.name": "full"})
    hole = row(only(tmp_path), "adapters 64").entries[1]
    assert isinstance(hole, Hole)
    given = dict(itertools.pairwise(shlex.split(hole.command)))
    assert (given["--task"], float(given["--lr"]), given["--size"]) == ("wnli", 1e-3, "64")


def test_a_hole_is_filled_as_its_own_task_was_trained(tmp_path: Path) -> None:
    """By the epochs and lengths of what stands there: others' would not be comparable."""
    for size, epochs in itertools.product((8, 64), (6, 20)):
        options: dict[str, object] = {"method.size": size, "training.epochs": epochs}
        options["training.max_length"] = 256
        add(tmp_path, "rte", one_metric(epochs / 100), options=options)
    for epochs in (1, 3):
        options = {"method.name": "full", "training.epochs": epochs, "training.learning_rate": 2e-5}
        add(tmp_path, "wnli", one_metric(epochs / 10), options=options)
    shown = only(tmp_path)
    for label, expected in (("adapters, best of 8/64", "1,3"), ("adapters 64", "3")):
        hole = row(shown, label).entries[1]
        assert isinstance(hole, Hole)
        command = shlex.split(str(hole.command))
        assert dict(itertools.pairwise(command))["--epochs"] == expected
        assert not {"--max-length", "2e-5"} & set(command)


def test_the_hole_of_a_best_of_sizes_is_filled_by_the_search(
    tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    folders = [
        add(tmp_path, "rte", one_metric(0.6), asked=[0, 1], options=options)
        for size, rate in itertools.product((8, 64), (1e-4, 1e-3))
        if (options := {"method.size": size, "training.learning_rate": rate, "stack": "off"})
    ]
    swept(tmp_path, *folders, seeds=2, seeds_on="winner")
    add(tmp_path, "wnli", one_metric(0.6), options={"method.name": "full"})
    shown = only(tmp_path)
    hole = row(shown, "adapters, best of 8/64").entries[1]
    assert isinstance(hole, Hole)
    command = shlex.split(hole.command)
    assert command[:2] == ["adaptertune", "sweep"]
    given = dict(itertools.pairwise(command))
    assert given["--tasks"] == "wnli"
    assert given["--methods"] == "adapter"
    assert given["--sizes"] == "8,64"
    assert given["--lrs"] == "1e-4,1e-3"
    assert given["--seeds"] == "2"
    assert given["--seeds-on"] == "winner"
    assert "--stack" not in command
    fixed = row(shown, "adapters 64").entries[1]
    assert isinstance(fixed, Hole)
    assert str(fixed.command).startswith("adaptertune train")
    done = cli(*command[1:], "--dry-run")  # the real command line takes it, and asks for the data
    assert done.code == 2
    assert "glue" in done.err


def test_a_search_among_ranks_is_a_grid_and_other_settings_of_a_method_are_set(
    tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    for rank in (2, 8):
        options = {"method.name": "lora", "method.rank": rank, "method.alpha": 32}
        add(tmp_path, "rte", one_metric(0.6), options=options)
    add(tmp_path, "wnli", one_metric(0.6))
    cells = {cell.facts.task: cell for cell in evidence.read(tmp_path)[0]}
    lora = [cell for cell in evidence.read(tmp_path)[0] if cell.facts.task == "rte"]
    command = shlex.split(fill.fill_command((2, 8), lora, [cells["wnli"]]))
    given = dict(itertools.pairwise(command))
    assert (given["--methods"], given["--grid"]) == ("lora", "method.rank=2,8")
    assert given["--set"].startswith("method.alpha=32")
    done = cli(*command[1:], "--dry-run")
    assert done.code == 2
    assert "glue" in done.err


def test_a_seed_that_came_later_takes_no_seed_from_the_command(tmp_path: Path) -> None:
    """`--seeds 5` and then `--seed 7`: what ran last wrote itself alone as what is asked for."""
    add(tmp_path, "rte", one_metric(0.6, 0.5, 0.6), asked=[1])
    (cell,) = evidence.read(tmp_path)[0]
    assert cell.config["seeds"] == [0, 1, 2]
    assert "--seeds 3" in commands.train_command(cell.config, cell.origins)


def test_on_a_gpu_missing_seeds_are_trained_as_those_that_are_there(tmp_path: Path) -> None:
    """Several would by default train in one pass, which is another run."""
    apart = add(tmp_path, "rte", one_metric(0.6, 0.5), asked=[0, 1, 2, 3])
    joint = add(tmp_path, "qnli", one_metric(0.6, 0.5), asked=[7], stacked=True)
    add(tmp_path, "sst2", one_metric(0.6, 0.5), asked=[0, 1, 2])
    for folder in (apart, joint):
        for seed in (0, 1):
            change(folder, seed, device="cuda:0")
    cells, _ = evidence.read(tmp_path)
    by_task = {cell.facts.task: cell for cell in cells}
    assert by_task["qnli"].config["seeds"] == [0, 1], "those of the pass"
    found = {
        task: " ".join(one.command for one in holes.missing(comparison.compare([cell]), []))
        for task, cell in by_task.items()
    }
    assert "--set 'seeds=[2, 3]' --stack off" in found["rte"]
    assert found["qnli"] == ""
    assert "--seeds 3" in found["sst2"]
    assert "--stack" not in found["sst2"]
