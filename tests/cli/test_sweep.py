"""``adaptertune sweep``: what is typed wrong, the plan, the result, and a second run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adaptertune.cli import carry_out
from adaptertune.errors import ConfigError
from adaptertune.train import loop
from tests.conftest import Finished

Cli = Callable[..., Finished]


@dataclass(frozen=True)
class Place:
    """A good GLUE folder, a good model, and a folder for the rest."""

    glue: Path
    bert: Path
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def sweep(self, *more: str) -> list[str]:
        """A good command but for its tasks, and more after it."""
        return [
            "sweep", "--data-dir", str(self.glue), "--backbone", str(self.bert), "--max-length", "32",
            "--output", str(self.output), *more,
        ]  # fmt: skip

    def rte(self, *more: str) -> list[str]:
        return self.sweep(
            "--tasks", "rte", "--sizes", "4,8", "--epochs", "1", "--seeds", "2", *more
        )

    def config(self, text: str, *more: str) -> list[str]:
        (self.folder / "mine.yaml").write_text(text)
        return self.sweep("--config", "mine.yaml", *more)


@pytest.fixture
def place(tiny_glue: Path, tiny_bert: Path, tmp_path: Path) -> Place:
    return Place(tiny_glue, tiny_bert, tmp_path)


YAML = (
    "name: mine\ntasks: [rte]\ngrids:\n  - method.size: [4, 8]\n    training.epochs: 1\nseeds: 2\n"
)

CASES: dict[str, tuple[Callable[[Place], Sequence[str]], str]] = {
    "no tasks": (lambda p: p.sweep(), r"--tasks: no tasks given; e\.g\. --tasks rte,mrpc"),
    "an unknown task": (
        lambda p: p.sweep("--tasks", "rte,mrcp"), r"--tasks: unknown task 'mrcp'; did you mean mrpc",
    ),
    "an empty task": (lambda p: p.sweep("--tasks", "rte,"), r"--tasks: unknown task ''"),
    "a task without training": (lambda p: p.sweep("--tasks", "ax"), r"--tasks: 'ax' has no training"),
    "rates that are none": (
        lambda p: p.rte("--lrs", "abc"),
        r"--lrs: 'training\.learning_rate' should be a valid number, not 'abc'",
    ),
    "an empty value": (
        lambda p: p.rte("--lrs", "1e-3,,1e-2"), r"--lrs: an empty value in '1e-3,,1e-2'; e\.g\. 8,64",
    ),
    "no value": (lambda p: p.rte("--lrs", ""), r"--lrs: an empty value in ''"),
    "a grid without values": (lambda p: p.rte("--grid", "x"), r"--grid: 'x' is not KEY=V1,V2"),
    "an unknown key": (
        lambda p: p.rte("--grid", "training.warmap=0,1"),
        r"--grid training\.warmap: unknown key 'training\.warmap'; did you mean warmup",
    ),
    "an unknown key of a method": (
        lambda p: p.rte("--grid", "method.sise=4"),
        r"--grid method\.sise: unknown key 'method\.sise' of method adapter",
    ),
    "an unknown method": (
        lambda p: p.rte("--methods", "adapter,ful"),
        r"--methods: unknown method 'ful'; did you mean full",
    ),
    "sizes of no adapters": (
        lambda p: p.rte("--methods", "bitfit"), r"--sizes: unknown key 'method\.size' of method bitfit",
    ),
    "a setting that the grid has": (
        lambda p: p.rte("--set", "training.epochs=3"),
        r"--set training\.epochs: 'training\.epochs' is in the sweep's grid; give its values there",
    ),
    "a setting that the file's grid has": (
        lambda p: p.config(YAML, "--set", "method.size=3"), r"--set method\.size: 'method\.size' is in",
    ),
    "seeds as a setting": (
        lambda p: p.rte("--set", "seeds=3"), r"--set seeds: 'seeds' belongs to the sweep.*use --seeds",
    ),
    "no seeds": (lambda p: p.rte("--seeds", "0"), r"--seeds: 'seeds' should be greater than or equal"),
    "an unknown choice of seeds": (
        lambda p: p.rte("--seeds-on", "best"), r"--seeds-on: 'seeds_on' should be 'all' or 'winner'",
    ),
    "an unknown protocol": (
        lambda p: p.rte("--protocol", "test"), r"--protocol: 'protocol' should be 'paper' or 'held-out'",
    ),
    "one pass, and a winner": (
        lambda p: p.rte("--seeds-on", "winner", "--stack", "on"),
        r"--stack: seeds that train in one pass",
    ),
    "an unknown executor": (
        lambda p: p.rte("--executor", "loca"), r"--executor: no executor 'loca'; did you mean local\?",
    ),
    "workers of one process": (
        lambda p: p.rte("--workers", "2"), r"--workers: only local processes .*; add --executor local",
    ),
    "Ray's options without Ray": (
        lambda p: p.rte("--ray-address", "auto"), r"--ray-address: is for Ray alone; add --executor ray",
    ),
    "an unknown sweep": (
        lambda p: p.sweep("--config", "papr-64"),
        r"--config: unknown sweep 'papr-64'; did you mean paper-64",
    ),
    "no such file": (
        lambda p: p.sweep("--config", "none.yaml"), r"none\.yaml: no such file; check the path",
    ),
    "an unknown key in a file": (
        lambda p: p.config(YAML.replace("seeds", "seds")),
        r"mine\.yaml:6: unknown key 'seds'; did you mean",
    ),
    "an unknown key in a file's grid": (
        lambda p: p.config(YAML.replace("method.size", "method.sise")),
        r"mine\.yaml:4: unknown key 'method\.sise'; did you mean size",
    ),
    "a task in a file's grid": (
        lambda p: p.config(YAML.replace("method.size: [4, 8]", "task: [rte]")),
        r"mine\.yaml:4: 'task' can't be part of a grid",
    ),
    "a run's file": (lambda p: p.config("task: rte\n"), r"mine\.yaml: key 'name' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input(cli: Cli, place: Place, name: str) -> None:
    arguments, complaint = CASES[name]
    done = cli(*arguments(place))
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert re.match(rf"error: {complaint}", line), line
    assert not place.output.exists()


def plan_of(done: Finished) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_a_dry_run_trains_nothing_and_tells_what_is_ahead(cli: Cli, place: Place) -> None:
    plan = plan_of(cli(*place.rte("--lrs", "1e-3,1e-2", "--dry-run", "--json")))
    assert [
        (row["task"], row["method"], row["cells"], row["runs"], row["runs_ahead"], row["steps"])
        for row in plan["rows"]
    ] == [("rte", "adapter-4", 2, 4, 4, 4), ("rte", "adapter-8", 2, 4, 4, 4)]
    assert all(row["seconds"] > 0 for row in plan["rows"])
    assert set(plan) == set(json.loads(cli("schema", "sweep-plan").out)["properties"])
    assert not place.output.exists()
    plan = plan_of(
        cli(*place.rte("--lrs", "1e-3,1e-2", "--seeds-on", "winner", "--dry-run", "--json"))
    )
    assert [(row["runs"], row["runs_ahead"]) for row in plan["rows"]] == [(3, 3), (3, 3)]


def test_a_file_and_options_together(cli: Cli, place: Place) -> None:
    plan = plan_of(cli(*place.config(YAML, "--sizes", "2", "--seeds", "3", "--dry-run", "--json")))
    assert [(row["method"], row["runs"]) for row in plan["rows"]] == [("adapter-2", 3)]


def test_a_sweep_and_the_same_again(cli: Cli, place: Place) -> None:
    first = cli(*place.rte())
    assert first.code == 0, first.err
    assert "[4/4] rte adapter-8" in first.out
    assert "Sweep sweep: accuracy of what was chosen, on validation, in per cent" in first.out
    (result,) = (place.output / "sweeps").glob("*.json")
    assert str(result) in first.out
    written = result.read_bytes()
    second = cli(*place.rte("--json"))
    assert json.loads(second.out) == json.loads(written)
    assert "4 trainings were settled earlier" in second.err
    assert result.read_bytes() == written
    plan = plan_of(cli(*place.rte("--dry-run", "--json")))
    assert [(row["runs"], row["runs_ahead"], row["seconds"]) for row in plan["rows"]] == [
        (2, 0, 0)
    ] * 2
    quiet = cli(*place.rte("--quiet"))
    assert quiet.code == 0
    assert "settled" not in quiet.out + quiet.err
    assert "of what was chosen" in quiet.out
    listed = json.loads(cli("runs", "--output", place.output, "--json").out)
    assert len(listed) == 2
    assert set(listed[0]) == set(json.loads(cli("schema", "runs").out)["properties"])
    again = ("train", "--task", "rte", "--size", "4", *place.rte()[1:7], "--epochs", "1",
             "--output", str(place.output))  # fmt: skip
    planned = cli(*again, "--seeds", "3", "--dry-run")
    assert re.search(r"work +3 seeds of .* in 1 epoch, 2 of them finished", planned.out), (
        planned.out
    )
    planned = cli(*again, "--seeds", "3", "--dry-run", "--json")
    assert json.loads(planned.out)["finished"] == [0, 1]
    one = cli(*again, "--seeds", "2")
    assert one.code == 0, one.err
    assert "finished earlier" in one.out, "a sweep's cell is a run of train"


def test_a_gpu_by_its_number_is_refused() -> None:
    """A worker sees one GPU, whose number there is 0: work for cuda:1 would find no device."""
    for device in ("auto", "cpu", "cuda"):
        carry_out._check_device(device, "local")
    for executor in ("local", "ray"):
        with pytest.raises(
            ConfigError, match=f"--executor {executor} gives .*CUDA_VISIBLE_DEVICES"
        ):
            carry_out._check_device("cuda:1", executor)


def test_without_any_score_it_is_no_success(cli: Cli, place: Place) -> None:
    """So that what comes after it in a script does not go on."""
    done = cli(*place.rte("--lrs", "1e30", "--epochs", "3"))
    (result,) = (place.output / "sweeps").glob("*.json")
    assert done.code == 1
    assert f"error: {result}: no run came to a score (0 failed, 4 diverged); --retry" in done.err


def test_where_no_score_is_defined_another_try_is_no_remedy(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where all answers are the same."""
    command = place.sweep("--tasks", "stsb", "--sizes", "4", "--epochs", "1", "--seeds", "2")
    with monkeypatch.context() as patch:
        patch.setattr("adaptertune.metrics._correlation", lambda *_: float("nan"))
        done = cli(*command)
    assert done.code == 1
    told = (
        r"no run came to a score \(adapter-4-.*: all 2 seeds finished without a defined pearson.*\)"
    )
    assert re.search(rf"{told}; try smaller learning rates", done.err), done.err
    # Where it is the rows, that is told before anything trains.
    dev = place.glue / "STS-B" / "dev.tsv"
    lines = dev.read_text().splitlines()
    rows = [line.rpartition("\t")[0] + "\t2.0" for line in lines[1:]]
    dev.write_text("\n".join([lines[0], *rows, ""]))
    done = cli(*command)
    assert done.code == 2
    assert "stsb validation: one score, 2, for all" in done.err


def test_of_runs_that_all_failed_the_first_error_is_told(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(loop, "fit", broken)
    done = cli(*place.rte())
    assert done.code == 1
    told = (
        r"no run came to a score \(4 failed, 0 diverged\): ZeroDivisionError: of all things \(with"
    )
    assert re.search(rf"{told} its traceback in .*seed-0/failure\.json\); --retry", done.err), (
        done.err
    )


@pytest.mark.parametrize("option", [(), ("--quiet",)])
def test_a_dry_runs_result_is_its_plan(cli: Cli, place: Place, option: tuple[str, ...]) -> None:
    assert "rte" in cli(*place.rte("--dry-run", *option)).out
    one = cli("train", *place.rte()[1:7], "--task", "rte", "--dry-run", *option)
    assert "work" in one.out


def test_each_method_starts_from_the_run_that_fits_it(cli: Cli, place: Place) -> None:
    common = ["--task", "mnli", "--seeds", "1", "--epochs", "1", "--data-dir", str(place.glue),
              "--backbone", str(place.bert), "--max-length", "32", "--output", str(place.output),
              "--json", "--quiet"]  # fmt: skip
    firsts = []
    for method in (["--size", "64"], ["--method", "full"]):
        done = cli("train", *common, *method)
        assert done.code == 0, done.err
        firsts.append(json.loads(done.out)["folder"])
    starts = [word for first in firsts for word in ("--init-from", Path(first).name)]
    compare = [
        "compare", "--full", *place.sweep()[1:5], "--set", "training.max_length=32",
        "--output", str(place.output), "--tasks", "rte", "--sizes", "64", *starts,
    ]  # fmt: skip
    plan = plan_of(cli(*compare, "--dry-run", "--json"))
    runs = [f"mnli/{Path(first).name}/seed-0" for first in firsts]
    assert {row["method"]: row["init_from"] for row in plan["rows"]} == {
        "adapter-64": [runs[0]],
        "full": [runs[1]],
    }
    shown = " ".join(cli(*compare, "--dry-run").out.split())
    assert f"From the weights of {runs[0]} start: adapter-64." in shown
    refused = cli(*compare[:-2], "--dry-run")
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert re.match(
        r"error: --init-from: '.*' does not fit: its method is adapter, not full; give a run", line
    )
    one = cli("train", *common[2:-2], "--task", "rte", "--size", "64", *starts)
    assert one.code == 0, one.err
    assert f"starts from what {runs[0]} trained" in re.sub(r"\s+", " ", one.out)
    assert "but for the head, which is new, for the labels are others" in " ".join(one.out.split())
