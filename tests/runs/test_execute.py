"""A cell from configuration to results: reuse, interruption, SIGKILL, damage, summaries."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adaptertune import config
from adaptertune.data import cache
from adaptertune.data.sources import Source, fingerprint
from adaptertune.errors import (
    BackboneError,
    ConfigError,
    DataError,
    Interrupted,
    StoreError,
    TrainingError,
    is_out_of_memory,
)
from adaptertune.executors import serial
from adaptertune.executors.serial import run_cell
from adaptertune.files import exclusive
from adaptertune.model import backbone, flops, forward
from adaptertune.model.classifier import Classifier
from adaptertune.model.dropout import Dropout
from adaptertune.runs import execute, load, results, snapshots, store, units
from adaptertune.runs.plan import Plan
from adaptertune.runs.plan import plan as make_plan
from adaptertune.runs.results import CellResult, SeedResult
from adaptertune.runs.summary import conclude, published_figures, summarise
from adaptertune.train import checkpoint, gradients, loop
from adaptertune.train import device as devices

# Snapshots after every step instead of every 20 seconds.
EAGER = (
    "from adaptertune.runs import snapshots; snapshots.SNAPSHOT_SECONDS = 0.0; "
    "snapshots.SNAPSHOT_SHARE = 1e9; from adaptertune.cli import main; main()"
)


class Quiet:
    """A progress that keeps what it hears and may ask to stop at a step, or at 0, before the first."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.steps = stop_at, 0
        self.tokenised: list[tuple[int, int]] = []
        self.notes: list[str] = []
        self.started: list[tuple[int, int, bool]] = []
        self.done: list[tuple[int, bool]] = []
        self.failures: list[results.Failure] = []

    def preparing(self, what: str, done: int, total: int) -> None:
        self.tokenised.append((done, total))
        self.steps = -1  # whether to stop is asked here too, and this is no step

    def seed_started(self, seed: int, *, epochs_done: int, resumed: bool) -> None:
        self.started.append((seed, epochs_done, resumed))

    def step(self, seed: int, step: int, mean_loss: float, examples_per_second: float) -> None:
        pass

    def evaluating(self, seed: int, num_examples: int) -> None:
        pass

    def epoch(self, seed: int, record: Any) -> None:
        pass

    def seed_done(self, result: SeedResult, *, reused: bool) -> None:
        self.done.append((result.seed, reused))

    def failed(self, seed: int, failure: results.Failure) -> None:
        self.failures.append(failure)

    def saved(self, path: Path) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def should_stop(self) -> bool:
        self.steps += 1
        return self.steps == self.stop_at


def plan(tiny_bert: Path, root: Path, **changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "task": "rte", "backbone": str(tiny_bert), "data.source": "sample", "seeds": 2,
        "method.size": 8, "training.epochs": 2, "training.max_length": 24, "output": str(root),
        "training.learning_rate": 1e-2, "training.precision": "fp32",
    } | {key.replace("__", "."): value for key, value in changes.items()}  # fmt: skip
    given = {key: (value, key) for key, value in settings.items() if value is not None}
    return make_plan(config.resolve(given))


# What a repetition, in another place or asked for by other means, may change in a result file.
INCIDENTAL = ("cost", "config", "origins", "folder", "seeds", "train_seconds", "evaluate_seconds")


def comparable(path: Path) -> Any:
    """A result file's content without what is incidental; a checkpoint's path is, its facts are not."""
    content = json.loads(path.read_text())
    if isinstance(content["checkpoint"], str):
        del content["checkpoint"]
    return {key: value for key, value in content.items() if key not in INCIDENTAL}


def test_a_cell_end_to_end(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path)
    progress = Quiet()
    done = run_cell(made, progress)
    folder = made.folder
    assert progress.done == [(0, False), (1, False)]
    assert [path.name for path in sorted(folder.path.iterdir())] == [
        "config.json", "result.json", "seed-0", "seed-1",
    ]  # fmt: skip
    for seed in (0, 1):
        names = sorted(path.name for path in folder.seed(seed).path.iterdir())
        assert names == [
            ".lock",
            "checkpoint.safetensors",
            "epochs.jsonl",
            "logits.safetensors",
            "result.json",
        ]
        assert len(folder.seed(seed).epochs.read_text().splitlines()) == 2
        result = folder.seed(seed).read_result()
        assert result is not None
        # The stored logits give the stored score, by an independent argmax.
        with safe_open(folder.seed(seed).logits, framework="np") as stream:
            logits, labels = (
                stream.get_tensor("logits.validation"),
                stream.get_tensor("labels.validation"),
            )
        correct = sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))
        assert result.scores["validation"].values["accuracy"] == pytest.approx(
            correct / len(labels)
        )
        assert result.checkpoint is not None
        assert result.checkpoint.parameters == result.ledger["stored"] == made.ledger.stored
        assert result.checkpoint.bytes == folder.seed(seed).checkpoint.stat().st_size
        assert result.data.sample
        assert "sample" in result.data.description
    assert folder.read_result() == done
    assert done.checkpoint == str(folder.seed(done.best_seed or 0).checkpoint)
    assert not any(figure.comparable for figure in done.published), "never beside GLUE figures"


def test_a_finished_cell_is_not_run_again(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path)
    first = run_cell(made, Quiet())
    before = made.folder.seed(0).checkpoint.stat().st_mtime_ns
    progress = Quiet()
    again = run_cell(plan(tiny_bert, tmp_path), progress)
    assert progress.done == [(0, True), (1, True)]
    assert progress.started == []
    assert made.folder.seed(0).checkpoint.stat().st_mtime_ns == before
    assert again == first
    more = Quiet()
    wider = run_cell(plan(tiny_bert, tmp_path, seeds=3), more)
    assert more.done == [(0, True), (1, True), (2, False)]
    assert len(wider.seeds) == 3


def test_a_damaged_configuration_of_a_finished_cell_is_written_again(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1)
    run_cell(made, Quiet())
    whole = made.folder.config.read_bytes()
    made.folder.config.write_bytes(whole[:100])
    with pytest.raises(StoreError, match=r"config\.json: damaged .*; finished seeds are kept"):
        load.find(str(made.folder.path), tmp_path)
    progress = Quiet()
    run_cell(made, progress)
    assert progress.done == [(0, True)]
    assert made.folder.config.read_bytes() == whole


@pytest.mark.parametrize("stop_at", [1, 30, 40, 70])
@pytest.mark.parametrize(
    "changes", [{}, {"stack": "on"}, {"method__layers": [1]}], ids=["alone", "stacked", "trunk"]
)
def test_an_interrupted_cell_goes_on_and_ends_equal(
    tiny_bert: Path, tmp_path: Path, stop_at: int, changes: dict[str, Any]
) -> None:
    whole = plan(tiny_bert, tmp_path / "whole", **changes)
    run_cell(whole, Quiet())
    made = plan(tiny_bert, tmp_path / "stopped", **changes)
    with pytest.raises(Interrupted, match="goes on from here"):
        run_cell(made, Quiet(stop_at))
    assert made.folder.read_result() is None
    progress = Quiet()
    run_cell(made, progress)
    assert any(resumed for _, _, resumed in progress.started)
    assert_equal_cells(whole.folder, made.folder)


class StopsAfter(Quiet):
    """A progress that asks to stop when a seed has done so many epochs, and so many steps more."""

    def __init__(self, seed: int, num_epochs: int, num_steps: int = 0) -> None:
        super().__init__()
        self.seed, self.num_epochs, self.num_steps = seed, num_epochs, num_steps
        self.asked = 0

    def epoch(self, seed: int, record: Any) -> None:
        self.num_epochs -= seed == self.seed

    def should_stop(self) -> bool:
        self.asked += self.num_epochs == 0
        return self.asked > self.num_steps


def test_epochs_before_an_interruption_count(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no epoch ends after it: the last one had, of one of two seeds; or the loss diverges."""
    stacked = plan(tiny_bert, tmp_path, stack="on")
    with pytest.raises(Interrupted):
        run_cell(stacked, StopsAfter(seed=0, num_epochs=2))
    run_cell(stacked, Quiet())
    for seed in (0, 1):
        result = stacked.folder.seed(seed).read_result()
        assert result is not None
        assert result.num_epochs == 2
        assert result.cost.train_seconds > 0
    alone = plan(tiny_bert, tmp_path, seeds=1)
    with pytest.raises(Interrupted):
        run_cell(alone, StopsAfter(seed=0, num_epochs=1, num_steps=2))
    whole = gradients.losses
    monkeypatch.setattr(gradients, "losses", lambda *a, **k: [math.nan * x for x in whole(*a, **k)])
    with pytest.raises(TrainingError):
        run_cell(alone, Quiet())
    result = alone.folder.seed(0).read_result()
    assert result is not None
    assert (result.diverged_epoch, result.num_epochs) == (2, 1)
    assert result.cost.train_seconds > 0


def test_seeds_in_one_pass_in_their_own_order(tiny_bert: Path, tmp_path: Path) -> None:
    """Which is a part of what they come to, so of what the cell is."""
    made = plan(tiny_bert, tmp_path, stack="on", seeds=[5, 2])
    run_cell(made, Quiet())
    summary = made.folder.read_result()
    assert summary is not None
    assert summary.digest == made.digest
    assert [line.seed for line in summary.seeds] == [5, 2]
    assert summary.best_seed in (2, 5)


def test_a_run_goes_on_where_last_bits_differ(tiny_bert: Path, tmp_path: Path) -> None:
    """On another CPU, or with other threads, after the epoch that is kept."""
    changes: dict[str, Any] = {"seeds": 1, "training__learning_rate": 1e-30}  # the first of equals
    whole = plan(tiny_bert, tmp_path / "whole", **changes)
    run_cell(whole, Quiet())
    made = plan(tiny_bert, tmp_path / "moved", **changes)
    with pytest.raises(Interrupted):
        run_cell(made, StopsAfter(seed=0, num_epochs=1))
    snapshot = made.folder.seed(0).snapshot
    tensors, facts = checkpoint.read_tensors(snapshot)
    tensors["0.kept_logits"] *= 1 + 1e-6
    checkpoint.write_tensors(snapshot, tensors, facts)
    run_cell(made, Quiet())
    assert_equal_cells(whole.folder, made.folder)


def test_seeds_in_one_pass_are_all_or_none(tiny_bert: Path, tmp_path: Path) -> None:
    """What a seed comes to depends on its company: with one result lost, all are trained again."""
    made = plan(tiny_bert, tmp_path, stack="on")
    first = run_cell(made, Quiet())
    kept = [made.folder.seed(seed).checkpoint.read_bytes() for seed in (0, 1)]
    made.folder.seed(1).result.unlink()
    progress = Quiet()
    assert run_cell(made, progress).scores == first.scores
    assert [seed for seed, _, _ in progress.started] == [0, 1]
    assert progress.done == [(0, False), (1, False)]
    assert [made.folder.seed(seed).checkpoint.read_bytes() for seed in (0, 1)] == kept
    assert plan(tiny_bert, tmp_path).digest != made.digest


def test_a_seed_that_diverged_costs_the_others_of_its_pass_nothing(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command once more neither trains nor deletes them; it would be for nothing."""
    whole = gradients.losses
    monkeypatch.setattr(
        gradients,
        "losses",
        lambda *a, **k: [x * y for x, y in zip(whole(*a, **k), (1.0, math.nan), strict=False)],
    )
    made = plan(tiny_bert, tmp_path, stack="on")
    assert run_cell(made, Quiet()).num_diverged == 1
    kept = made.folder.seed(0).checkpoint.stat()
    progress = Quiet()
    assert run_cell(made, progress).num_diverged == 1
    assert progress.started == []
    assert made.folder.seed(0).checkpoint.stat() == kept
    assert any(
        "seed 1 diverged in one pass with others that finished" in note for note in progress.notes
    )


def test_of_a_pass_that_fails_nothing_counts_as_finished(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first seed was scored and written already."""
    keep = execute.keep

    def failing(*arguments: Any) -> Any:
        if arguments[-1].path.name == "seed-1":
            raise RuntimeError("no device")
        return keep(*arguments)

    monkeypatch.setattr(execute, "keep", failing)
    made = plan(tiny_bert, tmp_path, stack="on")
    with pytest.raises(TrainingError, match="no seed came to a score"):
        run_cell(made, Quiet())
    assert made.folder.finished_seeds() == []
    assert [
        one.failures
        for one in serial.run(units.of_cell(made), lambda _: Quiet(), retry_before=None)
    ]
    monkeypatch.undo()
    assert run_cell(made, Quiet()).num_failed == 0


def test_what_a_killed_process_left_half_written_goes(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path)
    half = made.folder.seed(0).path / ".snapshot.safetensors.1.part"
    half.parent.mkdir(parents=True)
    half.touch()
    run_cell(made, Quiet())
    assert not half.exists()


def test_a_file_system_without_locks_is_told(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StoreError, match=r"cannot be locked \(No locks available\).*--output"):
        run_cell(plan(tiny_bert, tmp_path), Quiet())


def test_stacking_is_refused_where_products_train(tiny_bert: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "task": "rte", "backbone": str(tiny_bert), "data.source": "sample", "stack": "on",
        "method.name": "bitfit", "training.max_length": 24, "output": str(tmp_path),
    }  # fmt: skip
    resolved = config.resolve({key: (value, key) for key, value in settings.items()})
    with pytest.raises(ConfigError, match="--stack"):
        make_plan(resolved)


def test_the_lower_layers_are_computed_once_for_all_seeds(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    progress = Quiet()
    made = plan(tiny_bert, tmp_path / "a", method__layers=[1])
    run_cell(made, progress)
    told = [text for text in progress.notes if "this once" in text]
    assert len(told) == 1
    assert "layers 0-0, in which nothing trains" in told[0]
    assert "1 of 2 layers" in told[0]
    train, *_ = cache.tokenised(made.tokens, progress=lambda *_: None, note=pytest.fail)
    length = round(float(train.lengths.mean()))
    tokens, width, inner = 32 * length, 32, 64  # of a batch
    # The lower layer has no backward pass: four projections, the two of its feed-forward part, and the
    # attention's two products.
    lower = 2 * tokens * (4 * width * width + 2 * width * inner) + 4 * tokens * length * width
    counted = float(told[0].rpartition(" products ")[2].partition("x")[0])
    whole, rest = (
        flops.training_step(
            made.located.shape, made.config.method, 2, 32, length, known_layers=known
        ).total
        for known in (0, 1)
    )
    assert whole - rest == lower
    assert counted == pytest.approx(whole / rest, abs=0.005)
    first, second = (made.folder.seed(seed).read_result() for seed in (0, 1))
    assert first is not None
    assert second is not None
    assert first.cost.trunk_seconds > 0
    assert second.cost.trunk_seconds == 0
    off = Quiet()
    run_cell(plan(tiny_bert, tmp_path / "b", method__layers=[1], trunk_cache=0), off)
    assert not any("this once" in text or "earlier" in text for text in off.notes)


def test_under_batch_norm_the_lower_layers_are_computed_in_every_step(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding counts in its statistics, and kept hidden states have none there."""
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    for norm, files in (("batch", 0), ("layer", 2)):  # those of training and validation
        run_cell(plan(tiny_bert, tmp_path, method__layers=[1], method__norm=norm, seeds=1), Quiet())
        assert len(list((tmp_path / "cache").rglob("*.hidden"))) == files


def assert_equal_cells(one: store.CellFolder, other: store.CellFolder) -> None:
    assert one.seeds() == other.seeds()
    for seed in one.seeds():
        a, b = one.seed(seed), other.seed(seed)
        assert a.checkpoint.read_bytes() == b.checkpoint.read_bytes()
        assert a.logits.read_bytes() == b.logits.read_bytes()
        assert comparable(a.result) == comparable(b.result)
    assert comparable(one.result) == comparable(other.result)


def test_tasks_with_other_splits_of_the_same_dataset(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the hub they have the same fingerprint, which is that of a revision."""
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    made = plan(tiny_bert, tmp_path, task="mnli", seeds=1)
    encoded = cache.tokenised(made.tokens, progress=lambda *_: None, note=lambda _: None)
    source, plans = Source("hub", offline=True), []
    for name in made.task.evaluation:
        task, names = made.task.model_copy(update={"evaluation": (name,)}), ("train", name)
        rows = fingerprint(task, source, names)
        wanted = replace(made.tokens, task=task, source=source, names=names, fingerprint=rows)
        for split in encoded:
            wanted.path(split.name).write_bytes(cache.as_bytes(split))
        plans.append(replace(made, resolved=replace(made.resolved, task=task), tokens=wanted))
    assert plans[0].digest != plans[1].digest
    runner = execute.Runner()
    for each in plans:
        (result,) = runner.run(each, [0], Quiet())
        assert list(result.scores) == list(each.task.evaluation)


def test_kept_tokens_change_nothing(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    first, second = Quiet(), Quiet()
    one, other = plan(tiny_bert, tmp_path / "one"), plan(tiny_bert, tmp_path / "other")
    run_cell(one, first)
    run_cell(other, second)
    assert first.tokenised == [(800, 1000), (1000, 1000)]
    assert second.tokenised == []
    assert plan(tiny_bert, tmp_path).data == one.data, "known without reading the rows"
    assert_equal_cells(one.folder, other.folder)


def test_stopped_while_it_tokenises(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    made = plan(tiny_bert, tmp_path)
    with pytest.raises(Interrupted, match="before the training began; the same command begins"):
        run_cell(made, Quiet(stop_at=0))
    assert not made.folder.seed(0).result.exists()
    assert not (tmp_path / "cache").exists()


def test_killed_at_random_moments_and_resumed_is_bitwise_equal(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """SIGKILL to the real command, again and again, until it gets through."""
    whole = plan(tiny_bert, tmp_path / "whole", threads=1)
    run_cell(whole, Quiet())
    command = [
        sys.executable, "-c", EAGER, "train", "--task", "rte", "--backbone", str(tiny_bert),
        "--set", "data.source=sample", "--seeds", "2", "--size", "8", "--epochs", "2",
        "--max-length", "24", "--lr", "1e-2", "--precision", "fp32",
        "--output", str(tmp_path / "killed"), "--threads", "1",
    ]  # fmt: skip
    rng = random.Random(0)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    kills, seen = 0, 0
    output = tmp_path / "killed"
    while kills < 4:
        # Waited for and its pipe closed, also where it got through before it was killed.
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            # Not before the command has written something new, else it would never get anywhere.
            while process.poll() is None and written(output) <= seen:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.4))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
        kills += 1
        seen = written(output)
    final = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stderr
    assert kills >= 2
    (killed,) = store.cells(output)
    assert_equal_cells(whole.folder, killed)
    assert not list(output.rglob("*.part*")) or kills, "parts may only come from a kill"


def written(output: Path) -> int:
    """The last time anything in a store was written, in nanoseconds."""
    times = []
    for path in output.rglob("*.safetensors"):
        try:
            times.append(path.stat().st_mtime_ns)
        except FileNotFoundError:
            continue
    return max(times, default=0)


@pytest.mark.parametrize("keep", [0, 50, 2000])
def test_a_damaged_snapshot_is_dropped_and_named(
    tiny_bert: Path, tmp_path: Path, keep: int
) -> None:
    whole = plan(tiny_bert, tmp_path / "whole", seeds=1)
    run_cell(whole, Quiet())
    made = plan(tiny_bert, tmp_path / "damaged", seeds=1)
    with pytest.raises(Interrupted):
        run_cell(made, Quiet(10))
    snapshot = made.folder.seed(0).snapshot
    snapshot.write_bytes(snapshot.read_bytes()[:keep])
    progress = Quiet()
    run_cell(made, progress)
    assert "begins anew" in " ".join(progress.notes)
    assert_equal_cells(whole.folder, made.folder)


def test_a_lost_or_cut_checkpoint_is_trained_again(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path)
    run_cell(made, Quiet())
    checkpoint = made.folder.seed(1).checkpoint
    before = checkpoint.read_bytes()
    checkpoint.write_bytes(before[:-5])
    progress = Quiet()
    run_cell(made, progress)
    assert progress.done == [(0, True), (1, False)]
    assert "truncated" in progress.notes[0]
    assert checkpoint.read_bytes() == before


def test_a_run_that_is_trained_again_is_not_finished_meanwhile(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1)
    run_cell(made, Quiet())
    made.folder.seed(0).checkpoint.unlink()
    with pytest.raises(Interrupted):
        run_cell(made, Quiet(stop_at=3))
    assert not made.folder.seed(0).result.exists()


def test_threads_are_the_runs_own(tiny_bert: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    made = plan(tiny_bert, tmp_path, seeds=1, threads=before + 1)
    run_cell(made, Quiet())
    result = made.folder.seed(0).read_result()
    assert result is not None
    assert result.cost.threads == before + 1
    assert torch.get_num_threads() == before


def test_a_damaged_result_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path)
    run_cell(made, Quiet())
    made.folder.seed(0).result.write_text('{"format": 1')
    with pytest.raises(StoreError, match=r"result\.json: damaged result"):
        run_cell(made, Quiet())


def test_what_another_process_has_is_left_to_it(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial, "WAIT_SECONDS", 0.05)
    made = plan(tiny_bert, tmp_path)
    progress = Quiet()
    first, second = made.folder.seed(0), made.folder.seed(1)
    with exclusive(first.path):
        found = serial.run(units.of_cell(made), lambda _: progress, retry_before=None)
        assert [result.seed for result in next(found).done] == [1]
        progress.should_stop = lambda: True  # type: ignore[method-assign]
        with pytest.raises(Interrupted, match="other processes"):
            next(found)
    assert progress.notes[-1] == "waiting for other processes, which are at 1 trainings"
    assert sum("waiting" in note for note in progress.notes) == 1
    assert second.result.exists()
    assert not first.result.exists()
    run_cell(made, Quiet())  # its lock is free again
    assert first.result.exists()


def test_a_finished_run_is_shown_where_nothing_can_be_written(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is opened for writing, locks included: as on a read-only mount."""
    made = plan(tiny_bert, tmp_path, seeds=1)
    expected = run_cell(made, Quiet())
    # Asked for otherwise, which the summary would tell.
    made = plan(tiny_bert, tmp_path, seeds=1, threads=1)
    whole = io.open

    def closed(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def readable(file: Any, mode: str = "r", *more: Any, **how: Any) -> Any:
        return whole(file, mode, *more, **how) if mode in ("r", "rb") else closed()

    monkeypatch.setattr(io, "open", readable)
    monkeypatch.setattr("adaptertune.files._Raw", closed)
    progress = Quiet()
    found = run_cell(made, progress)
    assert (found.seeds, found.scores) == (expected.seeds, expected.scores)
    assert progress.done == [(0, True)]
    with whole(made.folder.result, "w") as stream:
        stream.write("{}")
    with pytest.raises(StoreError, match=r"result\.json: cannot be written \(Read-only"):
        run_cell(made, Quiet())
    made.folder.seed(0).checkpoint.unlink()
    with pytest.raises(StoreError, match=r"seed-0: cannot be written \(Read-only file system\)"):
        run_cell(made, Quiet())


def test_a_failure_that_a_fast_clock_dated_is_tried_again(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1)
    with monkeypatch.context() as patch:
        patch.setattr(execute.Runner, "run", lambda *_: 1 / 0)
        with pytest.raises(TrainingError):
            run_cell(made, Quiet())
    later = time.time() + 3600
    os.utime(made.folder.seed(0).failure, (later, later))
    assert run_cell(made, Quiet()).num_failed == 0


def test_a_result_that_can_not_be_read_is_not_called_damaged(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting it would lose the run."""
    made = plan(tiny_bert, tmp_path, seeds=1)
    run_cell(made, Quiet())

    def closed(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(StoreError) as refused:
        made.folder.seed(0).read_result()
    assert "cannot be read (Permission denied)" in str(refused.value)
    assert "delete" not in str(refused.value)


def test_scores_that_are_all_one_are_refused_before_the_training(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """No answers correlate with them, whatever the rate."""
    source = {"task": "stsb", "data.source": "sample", "seeds": 1}
    made = plan(tiny_bert, tmp_path, **source)
    train, splits = execute.examples(made, lambda *_: None, lambda _: None)
    assert splits[0].labels is not None
    alike = replace(splits[0], labels=np.full_like(splits[0].labels, 2.5))
    told = r"stsb validation: one score, 2\.5, for all \d+ rows: .*; give it rows of several scores"
    with pytest.raises(DataError, match=told):
        execute.parts(made, train, [alike])
    held = plan(tiny_bert, tmp_path, **source, protocol="held-out")
    few = train.subset(np.arange(10))  # of which one is held out
    with pytest.raises(DataError, match=r"stsb held-out: one score.*; use --protocol paper"):
        execute.parts(held, few, splits)


def test_an_exception_is_a_hole_with_a_traceback_and_is_tried_again(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tiny_bert, tmp_path)
    whole = execute.Runner.run

    def broken(self: Any, plan: Plan, seeds: Any, progress: Any) -> Any:
        if 0 in seeds:
            raise ZeroDivisionError("of all things")
        return whole(self, plan, seeds, progress)

    monkeypatch.setattr(execute.Runner, "run", broken)
    progress = Quiet()
    result = run_cell(made, progress)
    assert [(line.seed, line.status, line.score is None) for line in result.seeds] == [
        (1, "finished", False), (0, "failed", True),
    ]  # fmt: skip
    assert (result.num_failed, result.num_diverged) == (1, 0)
    failure = made.folder.seed(0).read_failure()
    assert failure == progress.failures[0]
    assert failure is not None
    assert failure.error == "ZeroDivisionError: of all things"
    assert "in broken" in failure.traceback
    other = replace(made.resolved, config=made.config.model_copy(update={"seeds": (1,)}))
    conclude(replace(made, resolved=other))  # a call that asks for the other seed alone
    assert made.folder.finished_result().num_failed == 1
    kept = list(serial.run(units.of_cell(made), lambda _: Quiet(), retry_before=None))
    assert [(one.is_earlier, len(one.failures)) for one in kept] == [(True, 1), (True, 0)]
    run_cell(made, Quiet())
    again = made.folder.seed(0).read_failure()
    assert again is not None
    assert again.attempts == 2
    monkeypatch.undo()
    assert run_cell(made, Quiet()).num_failed == 0
    assert not made.folder.seed(0).failure.exists()


def test_out_of_memory_halves_what_is_computed_at_a_time(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout off, so that parts have the whole batch's gradients but for rounding."""
    from adaptertune.model import dropout

    monkeypatch.setattr(dropout.Dropout, "mask", lambda self, shape, *_: (torch.ones(shape), 1.0))
    plain = plan(tiny_bert, tmp_path / "plain", seeds=[0])
    expected = run_cell(plain, Quiet())
    step = loop._Pass._add_gradients

    def short(self: Any, fittings: Any, part: int, indices: Any, weights: Any) -> Any:
        if max(map(len, indices)) > 8:
            torch.empty(10**16)  # in the allocator's own words
        return step(self, fittings, part, indices, weights)

    monkeypatch.setattr(loop._Pass, "_add_gradients", short)
    made, progress = plan(tiny_bert, tmp_path / "short", seeds=[0]), Quiet()
    found = run_cell(made, progress)
    assert [note.split("anew with ")[1] for note in progress.notes if "anew with" in note] == [
        f"{count} examples at a time, 32 a step as before" for count in (16, 8)
    ]
    result = made.folder.seed(0).read_result()
    assert result is not None
    assert result.cost.micro_batch == 8
    close = pytest.approx(found.scores["validation"]["accuracy"].mean, abs=0.02)
    assert expected.scores["validation"]["accuracy"].mean == close
    ours, theirs = (
        [
            json.loads(line)["train_loss"]
            for line in cell.folder.seed(0).epochs.read_text().splitlines()
        ]
        for cell in (made, plain)
    )
    assert ours == pytest.approx(theirs, rel=1e-4)

    def starved(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(loop._Pass, "_add_gradients", starved)
    with pytest.raises(TrainingError, match="no seed came to a score: MemoryError"):
        run_cell(plan(tiny_bert, tmp_path / "starved", seeds=[0]), Quiet())
    # A part of a batch has other statistics than the whole.
    normed = plan(tiny_bert, tmp_path / "normed", seeds=[0], method__norm="batch")
    with pytest.raises(TrainingError, match=r"batch norm needs its batches whole; .* --batch-size"):
        run_cell(normed, Quiet())


def test_out_of_memory_in_scoring_makes_its_batches_smaller_too(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a step's batch is a single example; and it goes on so, without trying again."""
    forward = Classifier.forward

    def short(self: Classifier, tokens: torch.Tensor, *more: Any, **how: Any) -> torch.Tensor:
        if len(tokens) > 8:
            raise MemoryError
        return forward(self, tokens, *more, **how)

    monkeypatch.setattr(Classifier, "forward", short)
    made = plan(tiny_bert, tmp_path, seeds=[0], training__batch_size=1)
    progress = Quiet(stop_at=150)
    with pytest.raises(Interrupted):
        run_cell(made, progress)
    assert [note for note in progress.notes if "memory" in note] == [
        "seeds 0: out of memory; they begin anew, and score as few at a time as there can be"
    ]
    progress = Quiet()
    run_cell(made, progress)
    assert not any("memory" in note for note in progress.notes)
    assert progress.started == [(0, 0, True)]


def fits_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if memory were too short for more examples at a time."""
    step = loop._Pass._add_gradients

    def short(self: Any, fittings: Any, part: int, indices: Any, weights: Any) -> Any:
        if max(map(len, indices)) > 16:
            raise MemoryError
        return step(self, fittings, part, indices, weights)

    monkeypatch.setattr(loop._Pass, "_add_gradients", short)


def test_what_memory_allows_is_found_out_once_for_a_cell(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits_sixteen(monkeypatch)
    made, progress = plan(tiny_bert, tmp_path, training__epochs=1), Quiet()
    run_cell(made, progress)
    assert [seed for seed, *_ in progress.started] == [0, 0, 1]
    assert len([note for note in progress.notes if "memory" in note]) == 1
    for seed in (0, 1):
        result = made.folder.seed(seed).read_result()
        assert result is not None
        assert result.cost.micro_batch == 16


def test_a_resumed_seed_tells_the_next_what_memory_allows(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits_sixteen(monkeypatch)
    made = plan(tiny_bert, tmp_path)
    with pytest.raises(Interrupted):
        run_cell(made, StopsAfter(seed=0, num_epochs=1))
    progress = Quiet()
    run_cell(made, progress)
    assert progress.started == [(0, 1, True), (1, 0, False)]


def test_out_of_memory_with_cuda_graphs_goes_on_without_them(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last saved state; nothing is recorded here, and batches stay whole."""
    monkeypatch.setattr(snapshots, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "SNAPSHOT_SHARE", 1e9)
    whole = plan(tiny_bert, tmp_path / "whole", seeds=[0])
    run_cell(whole, Quiet())
    step, steps = loop._Pass._add_gradients, 0

    def short(self: Any, fittings: Any, part: int, indices: Any, weights: Any) -> Any:
        nonlocal steps
        steps += 1
        if self.by_graph:
            if steps > whole.num_steps * 0.75:
                raise MemoryError
            self.gradients._by_graph = False
        return step(self, fittings, part, indices, weights)

    monkeypatch.setattr(loop._Pass, "_add_gradients", short)
    monkeypatch.setattr(Plan, "by_graph", True)
    made, progress, runner = plan(tiny_bert, tmp_path / "short"), Quiet(), execute.Runner()
    for seed in (0, 1):
        runner.run(made, [seed], progress)
    notes = [note for note in progress.notes if "memory" in note]
    assert notes == ["seeds 0: out of memory; they go on without CUDA graphs"]
    assert progress.started == [(0, 0, False), (0, 1, True), (1, 0, False)]
    ours, theirs = (p.folder.seed(0).logits.read_bytes() for p in (made, whole))
    assert ours == theirs


def test_a_second_ctrl_c_while_it_saves_costs_one_snapshot(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it comes, seeds that train in one pass are saved at one step, and go on from there."""
    monkeypatch.setattr(snapshots, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "SNAPSHOT_SHARE", 1e9)
    whole = plan(tiny_bert, tmp_path / "whole", stack="on")
    run_cell(whole, Quiet())
    write, writings = checkpoint.write_tensors, 0

    def cut(path: Path, *content: Any) -> None:
        nonlocal writings
        writings += path.name == "snapshot.safetensors"
        if writings == last:
            sys.exit(130)  # as the signal's handler does
        write(path, *content)

    for last in (2, 3, 4):
        made = plan(tiny_bert, tmp_path / f"cut-{last}", stack="on")
        writings = 0
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_tensors", cut)
            with pytest.raises(SystemExit):
                run_cell(made, Quiet())
        progress = Quiet()
        run_cell(made, progress)
        assert progress.started == [(0, 0, True), (1, 0, True)]
        assert_equal_cells(whole.folder, made.folder)
        assert not list(made.folder.path.rglob("snapshot*"))


def test_a_snapshot_of_an_earlier_version_goes_on(tiny_bert: Path, tmp_path: Path) -> None:
    """It wrote a file for each seed: several of them begin anew."""
    for stack, expected in (
        ("off", [(0, 0, True), (1, 0, False)]),
        ("on", [(0, 0, False), (1, 0, False)]),
    ):
        whole = plan(tiny_bert, tmp_path / f"whole-{stack}", stack=stack)
        run_cell(whole, Quiet())
        made = plan(tiny_bert, tmp_path / f"stopped-{stack}", stack=stack)
        with pytest.raises(Interrupted):
            run_cell(made, Quiet(stop_at=5))
        snapshot = made.folder.seed(0).snapshot
        tensors, facts = checkpoint.read_tensors(snapshot)
        own = {name[2:]: tensor for name, tensor in tensors.items() if name.startswith("0.")}
        checkpoint.write_tensors(snapshot, own, facts | facts.pop("lanes")["0"])
        progress = Quiet()
        run_cell(made, progress)
        assert progress.started == expected
        assert_equal_cells(whole.folder, made.folder)


def test_saving_takes_its_share_of_the_time(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, clock = plan(tiny_bert, tmp_path), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def two_seconds(*_: object) -> None:
        clock[0] += 2

    monkeypatch.setattr(checkpoint, "write_tensors", two_seconds)
    saver = snapshots.Saver(made, (0, 1), 32, 0, Quiet())
    saver.keep(dict.fromkeys((0, 1), loop.Snapshot({}, {})))
    saved_at, pause = clock[0], 2 / snapshots.SNAPSHOT_SHARE
    clock[0] = saved_at + pause - 1
    assert not saver.is_due()
    clock[0] = saved_at + pause + 1
    assert saver.is_due()


def test_after_running_out_of_memory_a_killed_run_goes_on_with_its_parts(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits_sixteen(monkeypatch)
    whole = plan(tiny_bert, tmp_path / "whole", seeds=[0])
    run_cell(whole, Quiet())
    made = plan(tiny_bert, tmp_path / "stopped", seeds=[0])
    with pytest.raises(Interrupted):
        run_cell(made, Quiet(stop_at=5))
    progress = Quiet()
    run_cell(made, progress)
    assert not any(
        "memory" in note for note in progress.notes
    )  # it did not begin with the whole batch again
    assert progress.started[0][2]
    ours, theirs = (p.folder.seed(0).logits.read_bytes() for p in (made, whole))
    assert ours == theirs


def test_a_run_that_goes_on_in_parts_does_so_without_cuda_graphs(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a batch are launched: where memory is short again, they must become smaller."""
    made = plan(tiny_bert, tmp_path, seeds=[0])
    with monkeypatch.context() as patch:
        fits_sixteen(patch)
        with pytest.raises(Interrupted):
            run_cell(made, Quiet(stop_at=5))
    tried = []

    def run(
        self: Any, plan: Any, seeds: Any, snapshots: Any, num_parts: int, by_graph: bool, _: Any
    ) -> None:
        tried.append((num_parts, by_graph))
        raise Interrupted("stopped")

    monkeypatch.setattr(execute.Runner, "_run", run)
    monkeypatch.setattr(Plan, "by_graph", True)
    with pytest.raises(Interrupted):
        run_cell(made, Quiet())
    assert tried == [(2, False)]


def test_held_out_rows_select_and_validation_is_only_scored(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, protocol="held-out")
    result = run_cell(made, Quiet())
    assert result.selecting_split == "held-out"
    assert list(result.scores) == ["held-out", "validation"]
    assert result.data.num_held_out == round(
        0.1 * (result.data.num_train + result.data.num_held_out)
    )
    for line in result.seeds:
        one = made.folder.seed(line.seed).read_result()
        assert one is not None
        assert one.scores["held-out"].num_examples == result.data.num_held_out
        assert line.score == one.scores["held-out"].values["accuracy"]
        epochs = [
            json.loads(text) for text in made.folder.seed(line.seed).epochs.read_text().splitlines()
        ]
        best = max(epochs, key=lambda epoch: epoch["values"]["accuracy"])
        assert (one.kept_epoch, line.score) == (best["epoch"], best["values"]["accuracy"])
    assert plan(tiny_bert, tmp_path).digest != made.digest


def test_no_split_may_be_called_as_the_rows_that_are_set_aside(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """What is scored is told apart by name."""
    resolved = plan(tiny_bert, tmp_path, protocol="held-out").resolved
    task = resolved.task.model_copy(update={"evaluation": ("validation", "held-out")})
    with pytest.raises(ConfigError, match=r"^--protocol: .*'held-out'.*another name"):
        make_plan(replace(resolved, task=task))


def test_divergence_leaves_a_hole_and_not_a_zero(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path, training__learning_rate=1e30, training__clip_norm=1e30)
    with pytest.raises(TrainingError, match=r"all 2 seeds diverged.*smaller --lr"):
        run_cell(made, Quiet())
    result = made.folder.seed(0).read_result()
    assert result is not None
    assert result.status == "diverged"
    assert result.scores == {}
    assert result.checkpoint is None
    summary = made.folder.read_result()
    assert summary is not None
    assert summary.num_diverged == 2
    assert summary.best_seed is None
    assert summary.protocol == "No seed finished, so there is no score."
    spread = summary.scores["validation"]["accuracy"]
    assert (spread.n, spread.mean, spread.best) == (0, None, None)


def test_scores_that_are_not_defined_are_told_apart_from_divergence(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, task="stsb", training__epochs=1)
    run_cell(made, Quiet())
    folder = made.folder

    def without_values(*, collapsed: bool) -> None:
        values = {"pearson": None, "spearman": None}
        scores = {"validation": {"num_examples": 200, "values": values, "collapsed": collapsed}}
        for path in (folder.seed(seed).result for seed in (0, 1)):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"scores": scores}))

    def complaint() -> str:
        with pytest.raises(TrainingError) as trained:
            run_cell(made, Quiet())
        with pytest.raises(StoreError) as found:
            load.find(str(folder.path), tmp_path)
        assert found.value.what == trained.value.what
        return trained.value.what

    without_values(collapsed=False)
    assert complaint() == "all 2 seeds finished without a defined pearson"
    without_values(collapsed=True)
    same = "finished without a defined pearson: every answer is the same"
    assert complaint() == f"all 2 seeds {same}"
    summary = folder.read_result()
    assert summary is not None
    lost = summary.seeds[0].model_copy(update={"status": "diverged", "collapsed": False})
    mixed = summary.model_copy(update={"seeds": [lost, summary.seeds[1]]})
    why = "diverged: the loss was not finite"
    assert load.without_score(mixed) == f"1 of 2 seeds {why}, and 1 of 2 seeds {same}"
    alone = summary.model_copy(update={"seeds": [lost]})
    assert load.without_score(alone) == f"the only seed {why}"


def test_a_last_step_that_leaves_no_numbers_is_no_error(tiny_bert: Path, tmp_path: Path) -> None:
    """The loss is that of before the step, and finite."""
    made = plan(
        tiny_bert, tmp_path, seeds=1, training__epochs=1, training__batch_size=800,
        training__warmup=0.0, training__learning_rate=1e38,
    )  # fmt: skip
    with pytest.raises(TrainingError, match=r"the only seed finished without .*smaller --lr"):
        run_cell(made, Quiet())
    assert made.folder.seed(0).read_failure() is None
    result = made.folder.seed(0).read_result()
    assert result is not None
    assert result.scores["validation"].values == {"accuracy": None}


def test_digest_depends_on_what_decides_the_numbers_and_nothing_else(
    tiny_bert: Path, tmp_path: Path
) -> None:
    base = plan(tiny_bert, tmp_path).digest
    same: list[dict[str, Any]] = [
        {"seeds": 4},
        {"output": str(tmp_path / "elsewhere")},
        {"device": "cpu"},
    ]
    other: list[dict[str, Any]] = [
        {"method.size": 9},
        {"training.epochs": 3},
        {"training.learning_rate": 2e-2},
        {"task": "wnli"},
        {"method.init_std": 1e-3},
        {"training.precision": "bf16"},
    ]
    for change in same:
        assert plan(tiny_bert, tmp_path, **change).digest == base, change
    digests = {plan(tiny_bert, tmp_path, **change).digest for change in other}
    assert len(digests | {base}) == len(other) + 1
    assert len({plan(tiny_bert, tmp_path).seed_digest(seed) for seed in range(3)}) == 3


@pytest.mark.parametrize("changed", ["config.json", "vocab.txt"])
def test_a_backbone_of_ones_own_that_was_changed_makes_another_run(
    tiny_bert: Path, tmp_path: Path, changed: str
) -> None:
    """Its weights are the same, and so is a copy of it elsewhere."""
    own = tmp_path / "own"
    shutil.copytree(tiny_bert, own)
    base = plan(own, tmp_path).digest
    assert base == plan(tiny_bert, tmp_path).digest
    path = own / changed
    path.write_text(path.read_text().replace("gelu", "relu") + "\n")
    assert plan(own, tmp_path).digest != base


def line(seed: int, accuracy: float | None, *, collapsed: bool = False) -> dict[str, Any]:
    return {"seed": seed, "accuracy": accuracy, "collapsed": collapsed}


def test_a_relative_backbone_is_the_same_run_and_is_found_from_elsewhere(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tiny_bert, tmp_path)
    monkeypatch.chdir(tiny_bert.parent)
    relative = plan(Path(tiny_bert.name), tmp_path, seeds=1)
    assert (relative.digest, relative.folder) == (made.digest, made.folder)
    run_cell(relative, Quiet())
    monkeypatch.chdir(tmp_path)
    run = load.find(str(made.folder.path), tmp_path)
    assert run.locate(offline=True).folder == tiny_bert
    assert run.result.config["backbone"] == str(tiny_bert)


def test_summary_statistics_by_hand(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path, seeds=[0, 1, 2, 3])
    run_cell(plan(tiny_bert, tmp_path, seeds=[0]), Quiet())
    template = made.folder.seed(0).read_result()
    assert template is not None

    def result(seed: int, accuracy: float, collapsed: bool = False) -> SeedResult:
        scores = results.SplitScores(
            num_examples=200, values={"accuracy": accuracy}, collapsed=collapsed
        )
        return template.model_copy(update={"seed": seed, "scores": {"validation": scores}})

    diverged = template.model_copy(update={"seed": 3, "status": "diverged", "scores": {}})
    summary = summarise(made, [result(0, 0.5, True), result(1, 0.8), result(2, 0.8), diverged])
    spread = summary.scores["validation"]["accuracy"]
    assert spread.n == 3
    assert spread.mean == pytest.approx(0.7)
    assert spread.deviation == pytest.approx(math.sqrt((0.04 + 0.01 + 0.01) / 2))
    assert (spread.minimum, spread.maximum, spread.best) == (0.5, 0.8, 0.8)
    assert summary.best_seed == 1, "the first of equals"
    assert (summary.num_collapsed, summary.num_diverged) == (1, 1)
    assert "highest of 3" in summary.protocol
    one = summarise(made, [result(0, 0.5)])
    assert one.scores["validation"]["accuracy"].deviation is None
    assert "no spread" in one.protocol
    assert statistics.stdev([0.5, 0.8, 0.8]) == pytest.approx(spread.deviation or 0)


def test_published_figures_only_beside_equals(tiny_bert: Path, tmp_path: Path) -> None:
    """Same model, same split, complete training set, same method: else with the reason."""
    made = plan(tiny_bert, tmp_path, task="mnli", method__size=64)
    data = made.data.model_copy(update={"sample": False, "partial": False})
    located = replace(made.located, name="google-bert/bert-base-uncased")
    equal = published_figures(replace(made, data=data, located=located))
    beside = [figure for figure in equal if figure.comparable]
    assert [(f.row, f.value, f.split) for f in beside] == [
        ("adapters_64", 83.7, "validation_matched")
    ]
    partial = data.model_copy(update={"partial": True})
    for figure in published_figures(replace(made, data=partial, located=located)):
        assert "partial training set" in (figure.why_not or "")
    for figure in published_figures(replace(made, data=data)):
        assert not figure.comparable
    reasons = [figure.why_not or "" for figure in equal if not figure.comparable]
    assert all("test server" in reason and "BERT-large" in reason for reason in reasons)
    large = replace(made.located, name="google-bert/bert-large-uncased")
    of_large = published_figures(replace(made, data=data, located=large))
    assert {f.why_not for f in of_large if f.model == "BERT-large"} == {"there the test server"}


def test_results_follow_their_schema(tiny_bert: Path, tmp_path: Path) -> None:
    made = plan(tiny_bert, tmp_path, seeds=1)
    done = run_cell(made, Quiet())
    assert CellResult.model_validate_json(made.folder.result.read_text()) == done
    schema = CellResult.model_json_schema(mode="serialization")
    assert set(schema["required"]) <= set(json.loads(made.folder.result.read_text()))


def test_mnli_scores_both_validation_sets_and_selects_on_the_first(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = plan(tiny_bert, tmp_path, task="mnli", seeds=1, training__epochs=1)
    done = run_cell(made, Quiet())
    assert done.selecting_split == "validation_matched"
    assert list(done.scores) == ["validation_matched", "validation_mismatched"]
    with safe_open(made.folder.seed(0).logits, framework="np") as stream:
        for split in done.scores:
            logits, labels = (stream.get_tensor(f"{part}.{split}") for part in ("logits", "labels"))
            assert logits.shape == (200, 3)
            accuracy = float((logits.argmax(1) == labels).mean())
            assert done.scores[split]["accuracy"].mean == pytest.approx(accuracy)


def test_regression_end_to_end(tiny_bert: Path, tmp_path: Path) -> None:
    """Scores are (batch,) and predictions (batch, 1): neither broadcasts, Pearson is numpy's own."""
    import numpy as np

    made = plan(tiny_bert, tmp_path, task="stsb", seeds=1, training__epochs=1)
    done = run_cell(made, Quiet())
    with safe_open(made.folder.seed(0).logits, framework="np") as stream:
        logits, labels = (stream.get_tensor(f"{part}.validation") for part in ("logits", "labels"))
    assert logits.shape == (200, 1)
    assert labels.dtype == np.float32
    expected = float(np.corrcoef(logits[:, 0].astype(float), labels.astype(float))[0, 1])
    assert done.scores["validation"]["pearson"].mean == pytest.approx(expected, abs=1e-6)


def test_ctrl_c_saves_stops_with_130_and_says_what_to_do(tiny_bert: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "adaptertune", "train", "--task", "rte", "--backbone", str(tiny_bert),
        "--set", "data.source=sample", "--seed", "0", "--epochs", "400", "--max-length", "24",
        "--output", str(tmp_path),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith("seed 0, epoch 1"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; the state is saved; the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.rglob("snapshot.safetensors"))
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own
def test_compiling_makes_another_run(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"--compile: .* on a CPU they are slower"):
        plan(tiny_bert, tmp_path, compile=True)
    plain = plan(tiny_bert, tmp_path)
    monkeypatch.setattr(devices, "check_compile", lambda capability, has_triton: None)
    compiled = plan(tiny_bert, tmp_path, compile=True)
    assert compiled.identity == plain.identity | {"compiled": True}
    assert compiled.trunk_digest(1) == plain.trunk_digest(1)
    make, seen = forward.compiled_layer, []

    def counted() -> Any:
        seen.append(True)
        return make("eager")

    monkeypatch.setattr(forward, "compiled_layer", counted)
    torchs_own = lambda seed, device: Dropout(seed, torch.device("meta"))  # as on CUDA
    monkeypatch.setattr(gradients, "Dropout", torchs_own)
    run_cell(compiled, Quiet())
    assert seen


def pooler_notes(progress: Quiet) -> list[str]:
    return [note for note in progress.notes if "pooler was never trained" in note]


def test_a_frozen_pooler_that_no_pre_training_made_is_told(tiny_bert: Path, tmp_path: Path) -> None:
    """In the tiny model, which is random, the biases are 0 too."""
    ways: dict[str, dict[str, Any]] = {
        "adapter": {},
        "pooler": {"method__pooler": "trained"},
        "layernorm": {"method__name": "layernorm", "method__size": None},
        "full": {"method__name": "full", "method__size": None},
    }
    told = {}
    for name, changes in ways.items():
        progress = Quiet()
        run_cell(plan(tiny_bert, tmp_path, seeds=1, training__epochs=1, **changes), progress)
        told[name] = pooler_notes(progress)
    assert {name: len(notes) for name, notes in told.items()} == {
        "adapter": 1, "pooler": 0, "layernorm": 1, "full": 0,
    }  # fmt: skip
    assert "--set method.pooler=trained" in told["adapter"][0]
    assert "--set" not in told["layernorm"][0]


@pytest.mark.parametrize("order", [("full", "adapter", "adapter"), ("adapter", "full", "adapter")])
def test_a_frozen_pooler_is_told_once_whatever_ran_before(
    tiny_bert: Path, tmp_path: Path, order: Sequence[str]
) -> None:
    """One process trains a sweep's cells, and prepares a task's rows once."""
    runner, progress = execute.Runner(), Quiet()
    for number, method in enumerate(order):
        sizes = {"method__size": 4 + number if method == "adapter" else None}
        made = plan(
            tiny_bert, tmp_path, seeds=[0], training__epochs=1, method__name=method, **sizes
        )
        runner.run(made, [0], progress)
    assert len(pooler_notes(progress)) == 1


def test_a_shortage_of_memory_is_no_damaged_model(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertModel

    located = backbone.locate(str(tiny_bert), offline=True)
    failures = [MemoryError(), RuntimeError("unable to mmap 9 bytes: Cannot allocate memory (12)")]

    def short(*_: object, **__: object) -> None:
        raise failures[-1]

    monkeypatch.setattr(BertModel, "from_pretrained", short)
    while failures:
        with pytest.raises(type(failures[-1])) as raised:
            backbone.load(located)
        assert is_out_of_memory(raised.value)
        failures.pop()
    failures.append(ValueError())  # says nothing
    with pytest.raises(BackboneError, match=r"cannot be loaded \(ValueError: no reason given\)"):
        backbone.load(located)


def test_a_trained_pooler_may_stay_frozen(tiny_bert: Path, tmp_path: Path) -> None:
    trained = shutil.copytree(tiny_bert, tmp_path / "trained")
    tensors = load_file(trained / "model.safetensors")
    tensors["bert.pooler.dense.bias"][3] = 0.01
    save_file(tensors, trained / "model.safetensors", {"format": "pt"})
    progress = Quiet()
    run_cell(plan(trained, tmp_path / "runs", seeds=1, training__epochs=1), progress)
    assert pooler_notes(progress) == []
