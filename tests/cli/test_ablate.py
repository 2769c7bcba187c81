"""``ablate`` as it is typed: its output, its JSON, and one line for what is wrong."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptertune.cli import ablate as ablate_command
from adaptertune.cli.compare import compare
from adaptertune.cli.sweep import sweep
from adaptertune.runs.analyses import AblationResult, SpansResult
from tests.conftest import Finished
from tests.study.test_spans import train

Cli = Callable[..., Finished]


def test_it_prints_writes_and_answers_bad_input(cli: Cli, tiny_bert: Path, tmp_path: Path) -> None:
    folder = train(tiny_bert, tmp_path, seeds=1)
    done = cli("ablate", "spans", folder.path)
    assert done.code == 0, done.err
    assert "Relative change of Pearson" in done.out
    assert "first \\ last" in done.out
    asked = cli("ablate", "spans", folder.path, "--json")
    assert SpansResult.model_validate(json.loads(asked.out)) == folder.read_spans()
    assert "computed earlier" in asked.err
    for arguments, words in (
        (["--layers", "5"], "--layers: layer 5 has no adapters in this run; choose from 0,1"),
        (["--layers", "3-1"], "--layers: '3-1' has an empty span"),
        (["--data-dir", tmp_path / "none"], "none"),
    ):
        bad = cli("ablate", "spans", folder.path, *arguments)
        assert (bad.code, bad.out) == (2, "")
        assert words in bad.err
        assert len(bad.err.strip().splitlines()) == 1
    assert "no run 'x'" in cli("ablate", "spans", "x").err
    folder.result.unlink()
    assert "not finished (1 seed is)" in cli("ablate", "spans", folder.path).err


def test_a_run_of_ones_own_task_is_used_from_another_folder(
    cli: Cli, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file and rows were named by relative paths, and the file is gone since."""
    here = tmp_path / "mine"
    here.mkdir()
    rows = [
        {"text": f"a {word} film {n}", "label": word} for n in range(20) for word in ("good", "bad")
    ]
    (here / "films.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert cli("task", "new", "mine/films.jsonl").code == 0
    done = cli(
        "train", "--task", "mine/films.yaml", "--backbone", tiny_bert, "--size", "4", "--seeds", "1",
        "--epochs", "1", "--max-length", "24", "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "runs" / "films").iterdir()
    (here / "films.yaml").unlink()
    monkeypatch.chdir(here)
    spans = cli("ablate", "spans", folder)
    assert spans.code == 0, spans.err


def test_help(cli: Cli) -> None:
    assert "Remove trained adapters from every span" in cli("ablate", "--help").out
    assert cli("ablate").code == 2


def ablate(kind: str, bert: Path, glue: Path, *more: str | Path) -> list[str | Path]:
    return [
        "ablate", kind, "--data-dir", glue, "--backbone", bert, "--max-length", "24", "--epochs", "1",
        "--tasks", "rte", "--precision", "fp32", *more,
    ]  # fmt: skip


def test_an_ablation_and_the_same_again(
    cli: Cli, tiny_bert: Path, tiny_glue: Path, tmp_path: Path
) -> None:
    line = ablate("init", tiny_bert, tiny_glue, "--seeds", "3", "--set", "method.size=4")
    line += ["--grid", "method.init_std=1e-2,1"]
    plan = cli(*line, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    planned = json.loads(plan.out)
    assert [(row["method"], row["cells"], row["runs_ahead"]) for row in planned["rows"]] == [
        ("adapter-4-init_std-0.01", 1, 3), ("adapter-4-init_std-1.0", 1, 3),
    ]  # fmt: skip
    assert "chose the settings" not in planned["in_words"]  # for none were to choose from
    assert "Differences are paired over seeds" in planned["in_words"]
    assert not (tmp_path / "runs").exists()
    first = cli(*line)
    assert first.code == 0, first.err
    assert "rte, adapters 4: accuracy on validation by init std" in first.out
    (written,) = (tmp_path / "runs" / "ablations").glob("init-*.json")
    assert str(written.relative_to(tmp_path)) in first.out
    asked = cli(*line, "--json")
    assert "6 trainings were settled earlier" in asked.err
    result = AblationResult.model_validate_json(asked.out)
    assert result == AblationResult.model_validate_json(written.read_bytes())
    (task,) = result.tasks
    for point in task.points:  # each number is that of the run it names
        cell = json.loads((tmp_path / point.cell / "result.json").read_text())
        assert cell["digest"] == point.digest
        assert cell["config"]["method"]["init_std"] == point.value
        spread = cell["scores"]["validation"]["accuracy"]
        assert point.scores["accuracy"].mean == pytest.approx(spread["mean"])
    one = cli("train", *(str(word) for word in line[2:9]), "1", "--task", "rte", "--precision", "fp32",
              "--seeds", "3", "--size", "4", "--init-std", "1")  # fmt: skip
    assert one.code == 0, one.err
    assert "finished earlier" in one.out, "a point of the curve is a run of train"


def test_its_grids_are_changed_as_a_sweeps_are(cli: Cli, tiny_bert: Path, tiny_glue: Path) -> None:
    line = ablate(
        "size", tiny_bert, tiny_glue, "--sizes", "2,4", "--lrs", "1e-3,1e-2", "--seeds", "3"
    )
    done = cli(*line, "--seeds-on", "winner", "--dry-run", "--json")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert [(row["method"], row["cells"]) for row in plan["rows"]] == [
        ("adapter-2", 2), ("adapter-4", 2),
    ]  # fmt: skip
    assert "that the first seed chose" in plan["in_words"]


def test_a_sweeps_options_are_an_ablations_and_a_comparisons() -> None:
    asked = inspect.signature(sweep).parameters.keys()
    for command in (compare, ablate_command._command("size")):
        assert asked <= inspect.signature(command).parameters.keys()


BAD: dict[str, tuple[str, list[str], str]] = {
    "a std of 0": (
        "init", ["--grid", "method.init_std=0,1e-2"],
        "--grid method.init_std: 'method.init_std' should be greater than 0, not 0",
    ),
    "a negative std": (
        "init", ["--grid", "method.init_std=-1,1e-2"], "should be greater than 0, not -1",
    ),
    "one std": ("init", ["--grid", "method.init_std=1e-2"], "--grid method.init_std: a grid of `ablate"),
    "a std as a setting": (
        "init", ["--set", "method.init_std=1"], "--set method.init_std: 'method.init_std' is in the",
    ),
    "a size of 0": (
        "size", ["--grid", "method.size=0,8"],
        "--grid method.size: 'method.size' should be greater than or equal to 1, not 0",
    ),
    "half a size": ("size", ["--grid", "method.size=8,1.5"], "'method.size' should be a valid integer"),
    "a grid without values": (
        "size", ["--grid", "method.size"], "--grid: 'method.size' is not KEY=V1,V2",
    ),
    "another ablation": (
        "init", ["--config", "size"], "a grid of `ablate init` must vary 'method.init_std'",
    ),
    "no such ablation": (
        "init", ["--config", "inti"], "--config: unknown ablation 'inti'; did you mean init",
    ),
    "no such file": ("size", ["--config", "none.yaml"], "none.yaml: no such file; check the path"),
    "an unknown task": ("size", ["--tasks", "rta"], "--tasks: unknown task 'rta'; did you mean rte"),
    "no seeds": ("size", ["--seeds", "0"], "--seeds: 'seeds' should be greater than or equal to 1"),
    "workers of one process": ("init", ["--workers", "2"], "--workers: only local processes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_ablation(
    cli: Cli, tiny_bert: Path, tiny_glue: Path, tmp_path: Path, name: str
) -> None:
    kind, more, words = BAD[name]
    bad = cli(*ablate(kind, tiny_bert, tiny_glue, *more))
    assert (bad.code, bad.out) == (2, "")
    (line,) = bad.err.splitlines()
    assert words in line
    assert not (tmp_path / "runs").exists()


def test_a_damaged_run(cli: Cli, tiny_bert: Path, tiny_glue: Path, tmp_path: Path) -> None:
    line = ablate("size", tiny_bert, tiny_glue, "--seeds", "1", "--grid", "method.size=2,4")
    assert cli(*line).code == 0
    damaged = next((tmp_path / "runs").glob("rte/adapter-2-*/seed-0/result.json"))
    damaged.write_text("{")
    bad = cli(*line)
    assert bad.code == 2
    (complaint,) = [text for text in bad.err.splitlines() if text.startswith("error: ")]
    assert "seed-0/result.json: damaged result" in complaint
    assert complaint.endswith("delete it and run the same command again")


@pytest.mark.parametrize("kind", ablate_command.SWEEPS)
def test_help_of_an_ablation(cli: Cli, kind: str) -> None:
    done = cli("ablate", kind, "--help")
    assert (done.code, done.err) == (0, "")
    assert ablate_command.SWEEPS[kind].split()[0] in done.out
    for option in ("--config", "--tasks", "--seeds", "--dry-run", "--json", "--offline", "--set"):
        assert option in done.out


def test_a_killed_ablation_goes_on_to_the_same_result(
    cli: Cli, tiny_bert: Path, tiny_glue: Path, tmp_path: Path
) -> None:
    """Killed when its first run is finished: that one stays, the rest is as if nothing had happened."""
    line = ablate("depth", tiny_bert, tiny_glue, "--seeds", "2", "--grid", "method.size=2,4")
    line += ["--stack", "off"]
    whole = cli(*line, "--output", "whole", "--json")
    assert whole.code == 0, whole.err
    command = [sys.executable, "-m", "adaptertune", *map(str, line), "--output", "killed"]
    begun = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 240
        while not (first := list((tmp_path / "killed").glob("rte/*/seed-*/result.json"))):
            assert time.monotonic() < deadline
            assert begun.poll() is None
            time.sleep(0.01)
    finally:
        begun.kill()
        begun.wait()
    before = first[0].read_bytes()
    assert not (tmp_path / "killed" / "ablations").exists()
    again = cli(*line, "--output", "killed", "--json")
    assert again.code == 0, again.err
    assert first[0].read_bytes() == before
    expected, found = (AblationResult.model_validate_json(one.out) for one in (whole, again))
    assert len(expected.tasks[0].points) == 2 + 2 + 1

    def moved(result: AblationResult) -> str:
        return result.model_dump_json().replace("whole/", "killed/")

    assert moved(expected) == moved(found)
