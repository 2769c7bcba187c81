"""The bench command, end to end on a tiny model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptertune import paths
from adaptertune.model.flops import training_step
from adaptertune.runs.analyses import BenchResult
from tests.conftest import Finished

Cli = Callable[..., Finished]


@pytest.fixture
def bench(cli: Cli, tiny_bert: Path, tiny_glue: Path) -> Cli:
    def run(*more: str) -> Finished:
        return cli(
            "bench", "--task", "rte", "--data-dir", tiny_glue, "--backbone", tiny_bert,
            "--batch-size", "4", "--max-length", "32", "--steps", "3", *more,
        )  # fmt: skip

    return run


def test_as_json(bench: Cli, cli: Cli, tmp_path: Path) -> None:
    done = bench("--json", "--size", "8", "--precision", "fp32")
    assert done.code == 0, done.err
    result = BenchResult.model_validate_json(done.out)
    assert json.loads(done.out) == result.model_dump(mode="json")
    assert f": {result.device_name}" in cli("doctor", "--json").out
    own, full = result.training
    assert (own.label, full.label) == ("adapter-8", "full")
    assert (result.num_steps, result.num_batches, result.batch_size) == (3, 3, 4)
    for speed in result.training:
        seconds = speed.seconds
        parts = seconds.batch + seconds.forward + seconds.backward + seconds.optimizer
        assert parts == pytest.approx(seconds.total, rel=1e-6)
        assert speed.examples_per_second == pytest.approx(4 / seconds.total)
        assert 0 < speed.limit_share < 1
    assert own.memory.optimizer < own.memory.frozen_weights
    assert full.memory.frozen_weights == 0
    assert own.flops_per_step < full.flops_per_step
    assert [latency.batch_size for latency in result.inference] == [1, 8, 32]
    for latency in result.inference:
        assert latency.without_adapters is not None
        assert latency.own.median <= latency.own.percentile_90
    assert not list(tmp_path.glob("runs*")), "a measurement leaves no run"


def test_it_has_the_threads_of_a_run(bench: Cli) -> None:
    before = torch.get_num_threads()
    done = bench("--json", "--set", f"threads={before + 1}")
    assert done.code == 0, done.err
    assert BenchResult.model_validate_json(done.out).num_threads == before + 1
    assert torch.get_num_threads() == before


def test_full_fine_tuning_is_not_beside_itself(bench: Cli) -> None:
    result = BenchResult.model_validate_json(bench("--json", "--method", "full").out)
    (only,) = result.training
    assert only.label == "full"
    assert all(latency.without_adapters is None for latency in result.inference)


def test_the_operations_are_those_of_its_own_batches(bench: Cli, tiny_bert: Path) -> None:
    from adaptertune import config
    from adaptertune.model import backbone

    result = BenchResult.model_validate_json(bench("--json", "--batch-size", "16").out)
    shape = backbone.locate(str(tiny_bert), offline=True).shape
    length = result.mean_tokens / 16  # there is one batch
    expected = training_step(shape, config.Full(), 2, 16, int(length)).total
    assert result.training[1].flops_per_step == expected


def test_the_step_is_that_of_a_run_with_its_trunk_cache(bench: Cli, tmp_path: Path) -> None:
    """Nothing is kept, and where the run would compute the lower layer in each step, so is it here."""

    def measured(*more: str) -> BenchResult:
        done = bench("--json", "--layers", "1", "--precision", "fp32", *more)
        assert done.code == 0, done.err
        return BenchResult.model_validate_json(done.out)

    before = sorted((paths.cache() / "trunk").rglob("*"))  # other tests have left theirs
    own, full = measured().training
    assert (own.cached_layers, full.cached_layers) == (1, 0)
    assert sorted((paths.cache() / "trunk").rglob("*")) == before
    for more in (
        ("--trunk-cache", "0"),
        ("--trunk-cache", "0.00001"),  # too little for it
        ("--set", "training.trunk_dropout=true"),
    ):
        uncached, again = measured(*more).training
        assert uncached.cached_layers == 0
        assert uncached.flops_per_step > own.flops_per_step
        assert again.flops_per_step == full.flops_per_step
    said = bench("--layers", "1").out
    assert "adapter-64-layers-1 without layers 0-0" in " ".join(said.split())
    assert "trunk cache" not in bench("--layers", "1", "--trunk-cache", "0").out


def test_as_tables(bench: Cli) -> None:
    done = bench()
    assert done.code == 0
    progress = r"(tokenising|training steps|inference): [\d,]+ of [\d,]+"  # where it takes a while
    assert all(re.fullmatch(progress, line) for line in done.err.splitlines())
    for words in (
        "Training step · rte", "adapter-64", "full", "forward", "backward", "optimiser",
        "examples/s", "% of the matrix-product limit", "Memory in training", "activations",
        "3 steps each", "Inference · adapter-64", "cost %",
    ):  # fmt: skip
        assert words in done.out, words


def test_a_task_is_needed(cli: Cli) -> None:
    done = cli("bench")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert cli("bench", "--task", "rte", "--steps", "0").code == 2
