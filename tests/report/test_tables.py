"""How numbers are written, and tables of results that lack some."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from adaptertune import tasks
from adaptertune.cli import train
from adaptertune.report import tables
from adaptertune.report.comparison import methods
from adaptertune.report.tables import predictions, pruning, runs, sweep
from adaptertune.runs import analyses, results
from adaptertune.share import glue
from tests.report.records import swept

DATA = results.DataFacts(
    source="folder", description="", fingerprint="", num_train=5, num_train_complete=5,
    partial=False, sample=False,
)  # fmt: skip

BACKBONE = results.BackboneFacts(name="minilm", sha256="", commit=None)


def shown(what: RenderableType, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (119.7, "2 min 00 s"),
     (200.0, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500.0, "2 h 05 min")],
)  # fmt: skip
def test_no_duration_has_sixty_seconds(seconds: float, told: str) -> None:
    assert tables.duration(seconds) == told


@pytest.mark.parametrize(
    ("num_bytes", "told"),
    [(999, "999 B"), (1000, "1.0 kB"), (999_940, "999.9 kB"), (999_960, "1.0 MB"),
     (2_500_000_000, "2.5 GB")],
)  # fmt: skip
def test_no_size_has_a_thousand_of_its_unit(num_bytes: int, told: str) -> None:
    assert tables.size(num_bytes) == told


def cell(**changes: Any) -> results.CellResult:
    """A run whose seed 0 has a score and whose seed 1 ended with an error."""
    facts: dict[str, Any] = {
        "seed": 0, "status": "finished", "score": 0.6, "kept_epoch": 1, "collapsed": False,
        "folder": "",
    }  # fmt: skip
    failed = facts | {"seed": 1, "status": "failed", "score": None, "kept_epoch": None}
    spread = results.Spread(
        n=1, mean=0.6, deviation=None, minimum=0.6, maximum=0.6, best=0.6
    )  # fmt: skip
    split = changes.get("selecting_split", "validation")
    values: dict[str, Any] = {
        "task": "rte", "digest": "0", "folder": "runs/rte/x", "config": {}, "origins": {},
        "data": DATA, "precision": "fp32", "ledger": {}, "headline": "accuracy",
        "backbone": results.BackboneFacts(name="b", sha256="0", commit=None),
        "selecting_split": split, "protocol": "", "scores": {split: {"accuracy": spread}},
        "seeds": [results.SeedLine(**facts), results.SeedLine(**failed)], "num_failed": 1,
        "num_diverged": 0, "num_collapsed": 0, "best_seed": 0, "checkpoint": None,
        "train_seconds": 1.0, "evaluate_seconds": 1.0, "published": [],
    }  # fmt: skip
    return results.CellResult(**values | changes)


def test_a_seed_that_failed_is_no_empty_line() -> None:
    (line,) = re.findall(r"^ +1 .*$", shown(runs.run(cell())), re.MULTILINE)
    assert "failed: its failure.json says why" in line


def test_foreign_text_is_no_markup() -> None:
    """A pulled run's file may have any."""
    odd = "a[/x] [red]b"
    figure = results.PublishedFigure(
        source=odd, model=odd, split=odd, metric="accuracy", row=odd, value=1.0, comparable=False,
        why_not=odd,
    )  # fmt: skip
    text = shown(runs.run(cell(selecting_split=odd, published=[figure])), 200)
    assert text.count(odd) == 7


def test_a_run_without_its_checkpoint_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    train.conclude(cell(), Console(width=110))
    assert "Checkpoint  none is kept" in capsys.readouterr().out


def listed(
    name: str, result: results.CellResult | None, error: str | None = None
) -> results.ListedRun:
    return results.ListedRun(
        folder=f"runs/{name}", finished=bool(result), result=result, error=error
    )


def test_runs_tell_which_scores_are_of_held_out_rows() -> None:
    paper = listed("rte/x", cell())
    other = listed("rte/y", cell(selecting_split="held-out", config={"protocol": "held-out"}))
    assert "held-out" not in shown(runs.run_list(Path("runs"), [paper]))
    text = shown(runs.run_list(Path("runs"), [paper, other]))
    assert "(held-out: on rows of the training set that did not train)" in " ".join(text.split())
    assert re.search(r"^ rte · accuracy +$\n^ x +\d +60\.0", text, re.MULTILINE)
    assert re.search(r"^ rte · accuracy · held-out +$\n^ y +\d +60\.0", text, re.MULTILINE)


def test_runs_tell_what_one_must_know_of_their_figures(tmp_path: Path) -> None:
    odd = cell().model_copy(update={"num_collapsed": 1, "num_diverged": 2, "num_failed": 3})
    text = shown(runs.run_list(Path("runs"), [listed("rte/x", odd), listed("rte/y", cell())]))
    assert re.findall(r"^   .*collapsed.*$", text, re.MULTILINE)[0].strip() == (
        "1 collapsed, 2 diverged, 3 failed"
    )
    pruned = tmp_path / "rte" / "z"
    pruned.mkdir(parents=True)
    (pruned / "prune.json").touch()
    one = results.ListedRun(folder=str(pruned), finished=True, result=cell(), error=None)
    assert "pruned by the scores on half of validation" in shown(runs.run_list(tmp_path, [one]))


def test_a_name_in_runs_is_one_piece_on_a_narrow_terminal() -> None:
    name = "adapter-256-minilm-118f7f58da6d"
    text = shown(runs.run_list(Path("runs"), [listed(f"cola/{name}", cell(task="cola"))]), 66)
    assert re.search(rf"^ {name} ", text, re.MULTILINE)


def test_runs_tell_cells_of_one_name_by_what_differs_and_which_is_damaged() -> None:
    configs = [{"training": {"learning_rate": rate, "epochs": 3}} for rate in (3e-4, 1e-3)]
    rates = [listed(f"rte/x-{i}", cell(config=config)) for i, config in enumerate(configs)]
    broken = listed("rte/full-b-1", None, error="result.json: damaged")
    text = shown(runs.run_list(Path("runs"), [*rates, broken]))
    assert re.findall(r"^   lr \S+", text, re.MULTILINE) == ["   lr 3e-4", "   lr 1e-3"]
    assert "epochs" not in text
    assert "rte · damaged" in text
    assert "result.json: damaged" in text
    precise = [listed(f"rte/x-{p}", cell(config=configs[0], precision=p)) for p in ("fp32", "bf16")]
    text = shown(runs.run_list(Path("runs"), precise))
    assert re.findall(r"^   precision \S+", text, re.MULTILINE) == [
        "   precision fp32",
        "   precision bf16",
    ]
    begun = [
        listed(f"rte/x-{i}", cell(config={"init_from": of})) for i, of in ((1, None), (2, "a"))
    ]
    text = shown(runs.run_list(Path("runs"), begun))
    assert re.findall(r"^   init_from \S+", text, re.MULTILINE) == [
        "   init_from –",
        "   init_from a",
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [(1e-3, "1e-3"), (2.5e-5, "2.5e-5"), (0.1, "0.1"), (8.0, "8"), (64, "64"), ([3, 4], "3,4"),
     (None, "all"), (True, "True"), ("tanh", "tanh")],
)  # fmt: skip
def test_a_setting_is_written_one_way_everywhere(value: object, told: str) -> None:
    assert tables.setting("method.x", value) == f"x {told}"
    assert methods.describe({"method.x": value}) == f"method.x {told}"


def test_a_run_tells_its_settings() -> None:
    training = {"learning_rate": 3e-4, "epochs": 3, "warmup": 0.2}
    config = {"method": {"name": "adapter", "size": 8}, "training": training}
    origins = {"training.warmup": "--set training.warmup", "method.size": "--size"}
    text = shown(runs.settings(cell(config=config, origins=origins)))
    assert text.strip() == "Settings    lr 3e-4 · epochs 3 · warmup 0.2"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_nothing_is_cut_from_a_name(width: int) -> None:
    made = tables.table("run", "rows", right=("rows",))
    name = "adapter-64-feedforward-minilm-118f7f58da6d"
    made.add_row(name, "123,456,789")
    text = "".join(shown(made, width).splitlines()[3:]).replace(" ", "")
    assert "…" not in text
    assert sorted(text) == sorted(name + "123,456,789")


def test_a_submission_names_no_split_for_all_its_runs() -> None:
    task = tasks.load("rte")
    filled = glue.Entry(task, "test", None, "no run of rte on GLUE", "entailment")
    text = shown(predictions.submission(Path("x.zip"), [filled]))
    assert "score, in per cent" in text
    assert "validation" not in text, "a run of protocol held-out was chosen on other rows"


def test_a_sweep_of_which_no_run_came_to_a_score(tmp_path: Path) -> None:
    choice = results.Choice(
        task="rte", row="full", metric="accuracy", selecting_split="validation",
        reported_split="validation", data=DATA, num_cells=2, num_runs=2, num_failed=0,
        num_diverged=2, num_collapsed=0, cell=None, digest=None, chosen=None, scores={},
        best_seed=None, interval=None, expected_best_cell={}, expected_best_seed={},
    )  # fmt: skip
    made = swept(tmp_path, seeds=1).model_copy(update={"choices": [choice], "num_diverged": 2})
    made = made.model_copy(update={"config": made.config | {"grids": [{}]}})
    text = shown(sweep.sweep(made))
    assert "no run came to a score" in text
    assert "2 diverged: holes" in text


@pytest.mark.parametrize(
    ("remaining", "told"),
    [([0, 1], "each costs more than 0.5 points"), ([3], "Only one layer has adapters")],
)
def test_pruning_says_why_nothing_may_go(remaining: list[int], told: str) -> None:
    half = analyses.Half(num_examples=1, before={}, after={})
    result = analyses.PruneResult(
        task="rte", headline="accuracy", max_drop=0.005, seeds=[0], data=DATA, removed=[],
        remaining=remaining, num_candidates=1, digest="", folder="", pruned=None, backbone=BACKBONE,
        precision="fp32", device="cpu", split="validation", choosing=half, reporting=half,
        trained_before=1, trained_after=1, inference=[], seconds=1.0,
    )  # fmt: skip
    assert told in shown(pruning.pruning(result))
