"""Sweeps that are killed at random moments, one process or two at once, end as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from adaptertune.runs import store
from tests.executors import forked
from tests.runs.test_execute import assert_equal_cells

KILLS = 20
NUM_RUNS = 8


@dataclass
class Place:
    """Where the tests' sweeps read and write."""

    bert: Path
    glue: Path
    folder: Path

    def sweep(self, output: str, *more: str) -> list[str]:
        """Two tasks, two sizes, two seeds; 24 steps each."""
        return [
            "sweep", "--tasks", "rte,cola", "--data-dir", str(self.glue), "--sizes", "4,8",
            "--backbone", str(self.bert), "--epochs", "3", "--seeds", "2", "--lrs", "1e-2",
            "--max-length", "32", "--batch-size", "2", "--precision", "fp32", "--threads", "1",
            "--output", str(self.folder / output), *more,
        ]  # fmt: skip

    def start(self, output: str, *more: str) -> ForkServerProcess:
        return forked.start(self.sweep(output, *more), self.log(output))

    def log(self, output: str) -> Path:
        return self.folder / f"{output}.log"

    def trainings(self, output: str) -> list[tuple[str, str]]:
        """Of each one that came to its end: what it was, and the process that did it."""
        lines = self.log(output).read_text().splitlines()
        return [(line.rpartition(" ")[0], line.rpartition(" ")[2]) for line in lines]

    def finish(self, output: str) -> None:
        process = self.start(output)
        process.join(120)
        said = self.log(output).with_name(f"{output}.log.out").read_text()
        assert process.exitcode == 0, said


def assert_equal_stores(one: Path, other: Path) -> None:
    cells = [list(store.cells(output)) for output in (one, other)]
    names = [[cell.path.relative_to(output) for cell in found]
             for output, found in zip((one, other), cells, strict=True)]  # fmt: skip
    assert names[0] == names[1]
    assert len(names[0]) == 4
    for a, b in zip(*cells, strict=True):
        assert a.seeds() == [0, 1]
        assert_equal_cells(a, b)
    assert sweep_result(one) == sweep_result(other)


def sweep_result(output: Path) -> Any:
    """All of it but where the cells lie."""
    (path,) = (output / "sweeps").glob("*.json")
    content = json.loads(path.read_text())
    for choice in content["choices"]:
        choice["cell"] = Path(choice["cell"]).name
    return content


def latest(output: Path, kind: str = "*.*") -> int:
    """When any file of a kind was last written in a store, in nanoseconds."""
    times = [0]
    for path in output.rglob(kind):
        try:
            times.append(path.stat().st_mtime_ns)
        except FileNotFoundError:  # a part that has its name by now
            continue
    return max(times)


def waits_for_news(process: ForkServerProcess, output: Path, seen: int, rng: random.Random) -> None:
    """Until something was written, lest a sweep that is killed too soon never get anywhere; mostly
    a snapshot, for on a busy machine it takes long from the first file to the first step.
    """
    kind = "snapshot.safetensors" if rng.random() < 0.7 else "*.*"
    while process.is_alive() and latest(output, kind) <= seen:
        time.sleep(0.002)


@pytest.fixture(scope="module")
def place(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    from tests.conftest import tiny_glue_files

    folder = tmp_path_factory.mktemp("faults")
    for path, text in tiny_glue_files().items():
        (folder / "glue" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "glue" / path).write_bytes(text.encode())
    made = Place(tiny_bert, folder / "glue", folder)
    made.finish("whole")
    assert len(made.trainings("whole")) == NUM_RUNS
    return made


def test_killed_at_twenty_random_moments(place: Place) -> None:
    """As many stores as it takes, each equal to the uninterrupted sweep's in the end."""
    rng, kills, resumed, stores = random.Random(0), 0, 0, 0
    while kills < KILLS:
        name, seen = f"killed-{stores}", 0
        output = place.folder / name
        stores += 1
        while kills < KILLS:
            process = place.start(name)
            waits_for_news(process, output, seen, rng)
            time.sleep(rng.uniform(0, 0.15))
            process.kill()
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            kills, seen = kills + 1, latest(output)
        place.finish(name)
        assert_equal_stores(place.folder / "whole", output)
        assert max(Counter(what for what, _ in place.trainings(name)).values()) == 1
        for cell in store.cells(output):
            for seed in cell.seeds():
                result = cell.seed(seed).read_result()
                assert result is not None
                resumed += result.cost.resumed
    assert resumed > KILLS / 4, "kills came while something trained"


def test_two_processes_share_the_work(place: Place) -> None:
    processes = [place.start("two"), place.start("two")]
    for process in processes:
        process.join(120)
    said = place.log("two").with_name("two.log.out").read_text()
    assert [process.exitcode for process in processes] == [0, 0], said
    done = place.trainings("two")
    assert len(done) == len({what for what, _ in done}) == NUM_RUNS
    assert len({by for _, by in done}) == 2, "both had a part in it"
    assert_equal_stores(place.folder / "whole", place.folder / "two")


def test_two_processes_killed_in_turn(place: Place) -> None:
    rng, kills, seen, output = random.Random(1), 0, 0, place.folder / "killed-two"
    processes = [place.start("killed-two"), place.start("killed-two")]
    while kills < KILLS:
        victim = rng.randrange(2)
        waits_for_news(processes[victim], output, seen, rng)
        time.sleep(rng.uniform(0, 0.15))
        processes[victim].kill()
        processes[victim].join()
        if processes[victim].exitcode == 0:
            break
        kills, seen = kills + 1, latest(output)
        processes[victim] = place.start("killed-two")
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert kills > KILLS / 4
    assert max(Counter(what for what, _ in place.trainings("killed-two")).values()) == 1
    assert_equal_stores(place.folder / "whole", output)
