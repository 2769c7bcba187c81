"""Time and memory of whole commands over a store of 10,125 finished runs, which is written first.

    python scripts/check_scale.py FOLDER [--backbone DIR]

Nothing is trained: the results are made up, but written with the package's own records, in the
folders of the sweep's own plans. What is told of each command: seconds, seconds of CPU, peak memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from adaptertune.runs import grid, results, sweep, units
from adaptertune.runs.plan import Plan
from adaptertune.runs.summary import so_far

GRID = """\
name: scale
tasks: [cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli]
grids:
  - method.size: [1, 2, 4, 8, 16, 32, 64, 128, 256]
    training.learning_rate: [3e-5, 1e-4, 3e-4, 1e-3, 3e-3]
    training.epochs: [3, 5, 10, 15, 20]
settings:
  offline: true
"""


def seed_result(plan: Plan, seed: int, rng: random.Random, **changes: Any) -> results.SeedResult:
    """A finished training that never was; ``changes`` to its fields."""
    epochs = plan.config.training.epochs

    def scores() -> results.SplitScores:
        values = {metric: rng.uniform(0.5, 0.9) for metric in plan.task.metrics}
        return results.SplitScores(num_examples=200, values=values, collapsed=rng.random() < 0.05)

    return results.SeedResult(
        status="finished",
        task=plan.task.name,
        seed=seed,
        digest=plan.seed_digest(seed),
        config=plan.config.model_dump(mode="json"),
        data=plan.data,
        backbone=plan.backbone,
        precision=plan.precision,
        device=plan.device,
        ledger=plan.ledger.as_json(),
        selecting_split=plan.selecting_split,
        num_epochs=epochs,
        kept_epoch=rng.randint(1, epochs),
        diverged_epoch=None,
        scores={split: scores() for split in plan.scored_splits},
        checkpoint=results.CheckpointFacts(
            file="checkpoint.safetensors",
            parameters=plan.ledger.stored,
            bytes=4 * plan.ledger.stored,
        ),
        versions={"adaptertune": "0", "python": "3", "torch": "2", "transformers": "5"},
        cost=results.Cost(
            train_seconds=rng.uniform(60, 600),
            evaluate_seconds=rng.uniform(1, 10),
            examples_per_second=rng.uniform(50, 500),
            peak_memory_bytes=2_000_000_000,
            resumed=0,
            finished_at="2026-01-01T00:00:00+00:00",
            host="simulated",
        ),
    ).model_copy(update=changes)


def write_seed(plan: Plan, result: results.SeedResult) -> None:
    """Its file, and a checkpoint of the right length with nothing in it."""
    folder = plan.folder.seed(result.seed)
    folder.path.mkdir(parents=True, exist_ok=True)
    if result.checkpoint:
        with folder.checkpoint.open("wb") as stream:
            stream.truncate(result.checkpoint.bytes)
    folder.result.write_text(json.dumps(result.model_dump(mode="json"), indent=2))


def write_store(made: sweep.Sweep) -> int:
    """All of a sweep's results; how many trainings that are."""
    rng, count = random.Random(0), 0
    for cell in made.cells:
        for seed in cell.plan.config.seeds:
            write_seed(cell.plan, seed_result(cell.plan, seed, rng))
            count += 1
        config = json.dumps(units.config_file(cell.plan), indent=2)
        cell.plan.folder.config.write_text(config)
        summary = so_far(cell.plan).model_dump(mode="json")
        cell.plan.folder.result.write_text(json.dumps(summary, indent=2))
    return count


def measured(arguments: list[str], folder: Path) -> None:
    """Run a command and tell what it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "adaptertune", *arguments]
    with (folder / "out.txt").open("w") as out:
        subprocess.run(command, check=True, stdout=out)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # The largest of all children so far; the commands come in the order of what they need.
    print(
        f"{seconds:6.1f} s {cpu:6.1f} s CPU {after.ru_maxrss / 1e3:6.0f} MB  {arguments[0]}", end=""
    )
    print(f" {' '.join(word for word in arguments[1:] if word in ('--dry-run', '--json'))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="minilm")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    path, runs = given.folder / "scale.yaml", given.folder / "runs"
    path.write_text(GRID)
    whole = given.folder / "written"  # an interrupted store would be trained to its end
    if not whole.exists():
        base = {"backbone": (given.backbone, "--backbone"), "output": (str(runs), "--output")}
        print(f"{write_store(sweep.make(grid.read(str(path)), base))} runs written")
        whole.touch()
    common = ["--backbone", given.backbone, "--output", str(runs)]
    measured(["runs", "--output", str(runs)], given.folder)
    measured(["runs", "--output", str(runs), "--json"], given.folder)
    measured(["sweep", "--config", str(path), *common, "--dry-run"], given.folder)
    measured(["sweep", "--config", str(path), *common], given.folder)


if __name__ == "__main__":
    main()
