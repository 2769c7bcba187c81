"""Trackers: what they are told, over stops too, and that they never stand in a training's way.

TensorBoard is the real one, read back by its own reader; for the others ``tools/`` has modules with
the calls of theirs that are used.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adaptertune import trackers
from adaptertune.errors import ConfigError, Interrupted
from adaptertune.executors.serial import run_cell
from adaptertune.runs import results
from adaptertune.runs.plan import Plan
from adaptertune.train.loop import EpochRecord
from tests.conftest import Finished
from tests.runs.test_execute import Quiet, comparable, plan

Cli = Callable[..., Finished]
OTHERS = ("trackio", "wandb", "mlflow")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The stand-ins for the packages that are not TensorBoard, by name, with nothing in them."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OTHERS]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "tools"))
    yield {name: importlib.import_module(name) for name in OTHERS}
    for name in [name for name in sys.modules if name.partition(".")[0] in OTHERS]:
        del sys.modules[name]


def train(made: Plan, names: tuple[str, ...], progress: Quiet | None = None) -> Quiet:
    progress = progress or Quiet()
    with trackers.tracking(names) as tracking:
        run_cell(made, tracking.of(made, progress))
    return progress


def events(made: Plan, seed: int) -> dict[str, list[tuple[int, Any]]]:
    """The scalars in a seed's event files: tag -> (step, value)."""
    read = EventAccumulator(str(made.folder.seed(seed).path))
    read.Reload()
    return {
        tag: [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def expected(made: Plan, seed: int) -> list[tuple[int, dict[str, float]]]:
    """By the run's own record of its epochs."""
    lines = made.folder.seed(seed).epochs.read_text().splitlines()
    loss, score = "train/loss", "validation/accuracy"
    return [
        (line["epoch"], {loss: line["train_loss"], score: line["values"]["accuracy"]})
        for line in map(json.loads, lines)
    ]  # fmt: skip


def final(made: Plan, seed: int) -> dict[str, float]:
    result = made.folder.seed(seed).read_result()
    assert result is not None
    assert result.kept_epoch is not None
    score = result.scores["validation"].values["accuracy"]
    assert score is not None
    return {"kept/epoch": result.kept_epoch, "kept/validation/accuracy": score}


def test_tensorboard_shows_epochs_and_scores(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path)
    train(made, ("tensorboard",))
    for seed in (0, 1):
        shown = events(made, seed)
        for name in ("train/loss", "validation/accuracy"):
            wanted = [(epoch, values[name]) for epoch, values in expected(made, seed)]
            assert [step for step, _ in wanted] == [1, 2]
            assert [step for step, _ in shown[name]] == [1, 2]
            assert dict(shown[name]) == pytest.approx(dict(wanted), rel=1e-6)
        for name, value in final(made, seed).items():
            assert dict(shown[name]) == pytest.approx({0: value}, rel=1e-6)


def test_tensorboard_has_the_parameters(tiny_bert: Path, tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    made = plan(tiny_bert, tmp_path, seeds=1)
    train(made, ("tensorboard",))
    read = EventAccumulator(str(made.folder.seed(0).path))
    read.Reload()
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    given = data.session_start_info.hparams
    assert given["method.size"].number_value == 8
    assert given["training.learning_rate"].number_value == 0.01
    assert given["digest"].string_value == made.seed_digest(0)
    assert given["data.sample"].number_value == 1


@pytest.mark.parametrize("stack", ["off", "on"])
def test_the_others_hear_the_same(
    tiny_bert: Path, tmp_path: Path, tools: dict[str, Any], stack: str
) -> None:
    """In one pass both seeds' runs are open at a time."""
    made = plan(tiny_bert, tmp_path, stack=stack)
    told = train(made, OTHERS)
    assert not [note for note in told.notes if "tracker" in note]
    for tool in tools.values():
        runs = {run.name: run for run in tool.RUNS.values()}
        assert len(runs) == 2
        for seed in (0, 1):
            run = runs[f"rte/{made.folder.path.name}/seed-{seed}"]
            assert run.group == "rte"
            assert str(run.parameters["method.size"]) == "8"
            assert run.parameters["digest"] == made.seed_digest(seed)
            assert str(run.parameters["seed"]) == str(seed)
            assert run.epochs == expected(made, seed)
            assert run.final.items() >= (final(made, seed) | {"status": "finished"}).items()
    assert all(not run.is_open for run in tools["trackio"].RUNS.values())
    assert {run.exit_code for run in tools["wandb"].RUNS.values()} == {0}
    assert {run.status for run in tools["mlflow"].RUNS.values()} == {"FINISHED"}
    # Its real client would print the run's address where --json's line goes.
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"


def test_a_stopped_run_goes_on(tiny_bert: Path, tmp_path: Path, tools: dict[str, Any]) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1, training__epochs=3)
    names = ("tensorboard", *OTHERS)
    with pytest.raises(Interrupted):
        train(made, names, Quiet(stop_at=made.num_steps // 2))
    assert [run.status for run in tools["mlflow"].RUNS.values()] == ["KILLED"]
    assert [run.exit_code for run in tools["wandb"].RUNS.values()] == [1]
    told = train(made, names)
    assert told.started[0][1:] == (1, True)
    for tool in tools.values():
        (run,) = tool.RUNS.values()
        assert run.epochs == expected(made, 0)
        assert run.final["status"] == "finished"
    assert sorted(step for step, _ in events(made, 0)["train/loss"]) == [1, 2, 3]


def record(epoch: int, loss: float = 0.5, score: float | None = 0.75) -> EpochRecord:
    return EpochRecord(epoch, loss, {"accuracy": score}, False, 1.0, 1.0, 100.0)


def failure(seed: int) -> results.Failure:
    return results.Failure(
        seed=seed, digest="", error="no", traceback="", attempts=1, failed_at="", host=""
    )


def test_no_epoch_is_told_twice(tiny_bert: Path, tmp_path: Path, tools: dict[str, Any]) -> None:
    """A killed process's snapshot may be older than the epoch that it told last."""
    made = plan(tiny_bert, tmp_path)
    names = ("tensorboard", *OTHERS)
    for done, epochs in ((0, (1, 2)), (1, (2, 3))):
        with trackers.tracking(names) as tracking:
            progress = tracking.of(made, Quiet())
            progress.seed_started(0, epochs_done=done, resumed=done > 0)
            for epoch in epochs:
                progress.epoch(0, record(epoch, loss=done + 0.5))
    for tool in tools.values():
        (run,) = tool.RUNS.values()
        assert [(step, values["train/loss"]) for step, values in run.epochs] == [
            (1, 0.5), (2, 0.5), (3, 1.5),
        ]  # fmt: skip
    # Files of one second are read in any order.
    assert sorted(events(made, 0)["train/loss"]) == [(1, 0.5), (2, 0.5), (3, 1.5)]


def test_a_training_from_the_start_again(
    tiny_bert: Path, tmp_path: Path, tools: dict[str, Any]
) -> None:
    made = plan(tiny_bert, tmp_path)
    for loss in (0.5, 0.25):
        with trackers.tracking(("tensorboard", "mlflow")) as tracking:
            progress = tracking.of(made, Quiet())
            progress.seed_started(0, epochs_done=0, resumed=False)
            progress.epoch(0, record(1, loss))
    assert events(made, 0)["train/loss"] == [(1, 0.25)]
    assert [run.epochs[0][1]["train/loss"] for run in tools["mlflow"].RUNS.values()] == [0.5, 0.25]


def test_failed_and_undefined(tiny_bert: Path, tmp_path: Path, tools: dict[str, Any]) -> None:
    """A missing number stays missing."""
    made = plan(tiny_bert, tmp_path)
    with trackers.tracking(("mlflow",)) as tracking:
        progress = tracking.of(made, Quiet())
        progress.failed(1, failure(1))  # earlier: nothing to tell
        progress.seed_started(0, epochs_done=0, resumed=False)
        progress.epoch(0, record(1, score=None))
        progress.failed(0, failure(0))
    (run,) = tools["mlflow"].RUNS.values()
    assert run.epochs == [(1, {"train/loss": 0.5})]
    assert (run.status, run.final) == ("FAILED", {"status": "failed"})


@pytest.mark.parametrize(
    "call", ["create_run", "log_metric", "set_terminated"], ids=["at first", "amid", "at last"]
)
def test_a_tracker_that_fails_stops_nothing(
    tiny_bert: Path,
    tmp_path: Path,
    tools: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise ConnectionError("the server\nis gone")

    monkeypatch.setattr(tools["mlflow"].MlflowClient, call, fail)
    plain, tracked = plan(tiny_bert, tmp_path / "plain"), plan(tiny_bert, tmp_path / "tracked")
    train(plain, ())
    told = train(tracked, ("mlflow", "wandb"))
    assert [note for note in told.notes if "tracker" in note] == [
        "tracker mlflow is off from here on (ConnectionError: the server); all else goes on"
    ]
    assert len(tools["wandb"].RUNS) == 2
    assert tracked.digest == plain.digest
    for seed in (0, 1):
        assert comparable(tracked.folder.seed(seed).result) == comparable(
            plain.folder.seed(seed).result
        )
        assert (
            tracked.folder.seed(seed).checkpoint.read_bytes()
            == plain.folder.seed(seed).checkpoint.read_bytes()
        )


def test_processes_that_begin_together_have_one_experiment(
    tools: dict[str, Any], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a job array: one asks, another makes it, the first one's try is refused."""
    client = tools["mlflow"].MlflowClient
    create = client.create_experiment

    def too_late(self: Any, name: str) -> None:
        create(self, name)
        raise RuntimeError("RESOURCE_ALREADY_EXISTS")

    monkeypatch.setattr(client, "create_experiment", too_late)
    tools["mlflow"].EXPERIMENTS.clear()
    told = train(plan(tiny_bert, tmp_path, seeds=1), ("mlflow",))
    assert not [note for note in told.notes if "tracker" in note]
    assert [run.status for run in tools["mlflow"].RUNS.values()] == ["FINISHED"]


def test_what_can_be_chosen(tools: dict[str, Any]) -> None:
    assert trackers.chosen(None) == ()
    assert trackers.chosen(["wandb, mlflow", "wandb", "tensorboard"]) == (
        "wandb", "mlflow", "tensorboard",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no tracker 'wanddb'; did you mean wandb"):
        trackers.chosen(["wanddb"])
    tools["wandb"].mode = "online"
    with pytest.raises(ConfigError, match=r"no account .*`wandb login`, or set WANDB_MODE=offline"):
        trackers.chosen(["wandb"])
    tools["wandb"].has_key = True
    assert trackers.chosen(["wandb"]) == ("wandb",)


def test_a_missing_package(
    tmp_path: Path, cli: Cli, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its own folder of runs lies about, which Python takes for a package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    elsewhere = [path for path in sys.path if not (Path(path) / "wandb" / "__init__.py").exists()]
    monkeypatch.setattr(sys, "path", [*elsewhere, str(tmp_path)])
    for command in (["train", "--task", "rte"], ["sweep", "--tasks", "rte"], ["compare", "--full"]):
        done = cli(*command, "--offline", "--backbone", tiny_bert, "--tracker", "wandb")
        assert (done.code, done.out) == (2, "")
        assert done.err == ("error: --tracker: wandb is not installed; pip install wandb\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_a_sweep(tmp_path: Path, cli: Cli, tiny_bert: Path, tools: Any, executor: str) -> None:
    done = cli(
        "sweep", "--tasks", "rte", "--sizes", "4,8", "--seeds", "1", "--epochs", "2", "--offline",
        "--backbone", tiny_bert, "--max-length", "24", "--executor", executor,
        *(("--workers", "2") if executor == "local" else ()),
        "--tracker", "tensorboard,trackio", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    json.loads(done.out)  # and no word of trackio's
    folders = sorted((tmp_path / "runs" / "rte").iterdir())
    names = [f"rte/{folder.name}/seed-0" for folder in folders]
    assert len(names) == 2
    assert sorted(tools["trackio"].RUNS) == names
    for folder, name in zip(folders, names, strict=True):
        assert [step for step, _ in tools["trackio"].RUNS[name].epochs] == [1, 2]
        assert list(folder.glob("seed-0/events.*"))
