"""A finished run opened again; what refuses is in ``tests/study/test_spans.py``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import adaptertune as at
from adaptertune import catalogue
from adaptertune.errors import BackboneError, DataError, StoreError
from adaptertune.runs import load
from adaptertune.runs.reopen import reopen
from adaptertune.runs.results import BackboneFacts
from adaptertune.runs.store import CellFolder
from tests.conftest import Finished, train_tiny
from tests.study.test_spans import train


@pytest.mark.parametrize("was_offline", [False, True])
def test_it_keeps_to_the_local_cache_if_asked_or_trained_so(
    tiny_bert: Path, tmp_path: Path, was_offline: bool
) -> None:
    folder = train(tiny_bert, tmp_path, seeds=1, offline=was_offline)
    result = folder.finished_result()
    assert reopen(folder, result).plan.config.offline is was_offline
    asked = reopen(folder, result, offline=True).plan
    assert asked.config.offline
    assert asked.digest == result.digest, "the numbers are the same ones"


def test_a_run_tells_where_it_lies_now(tiny_bert: Path, tmp_path: Path) -> None:
    """Not where it was trained, though that is what its file says."""
    before = train(tiny_bert, tmp_path / "before", seeds=2)
    (tmp_path / "before").rename(tmp_path / "after")
    moved = CellFolder(tmp_path / "after" / before.path.relative_to(tmp_path / "before"))
    found = moved.finished_result()
    assert found.folder == str(moved.path)
    assert [Path(line.folder) for line in found.seeds] == [
        moved.seed(line.seed).path for line in found.seeds
    ]
    assert found.checkpoint is not None
    assert Path(found.checkpoint).is_file()


def test_other_rows_are_to_be_found_from_anywhere(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pruned run keeps where they are."""
    folder = train(tiny_bert, tmp_path, seeds=1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'rows'}/STS-B: no such folder")):
        reopen(folder, folder.finished_result(), data_dir=Path("rows"))


def test_other_rows_than_the_runs_own_are_refused(
    tiny_bert: Path, tmp_path: Path, glue: Path
) -> None:
    """With the remedy for where they were named, for the run was trained on the sample."""
    folder = train(tiny_bert, tmp_path, seeds=1)
    with pytest.raises(
        DataError, match=r"no longer those of the run.*; leave --data-dir out: it was"
    ):
        reopen(folder, folder.finished_result(), data_dir=glue)


def test_of_a_run_that_came_with_one_seed_that_one_is_there(
    tiny_bert: Path, tmp_path: Path
) -> None:
    """Whichever was best: pushed, or put into a bundle."""
    folder = train(tiny_bert, tmp_path, seeds=2)
    best = folder.finished_result().best_seed
    shutil.rmtree(folder.seed(best or 0).path)
    other = 1 - (best or 0)
    assert load.find(str(folder.path), tmp_path).result.seed == other
    result = folder.finished_result()
    assert result.checkpoint == str(folder.seed(other).checkpoint)
    assert reopen(folder, result).seeds == (other,)


def test_a_seeds_folder_is_that_of_no_other_seed(tiny_bert: Path, tmp_path: Path) -> None:
    folder = train(tiny_bert, tmp_path, seeds=2)
    one = str(folder.seed(0).path)
    assert load.find(one, tmp_path, 0).result.seed == 0
    with pytest.raises(StoreError, match=r"seed-0: is the folder of seed 0, not of 1; leave"):
        load.find(one, tmp_path, 1)


def test_a_base_model_that_has_moved_is_named(
    cli: Callable[..., Finished], tiny_bert: Path, tmp_path: Path
) -> None:
    """Every command that needs a finished run's base model says so, and takes its new place."""
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    run = train_tiny(base, tmp_path / "runs", "sst2", "--set", "method.layernorms=none")
    moved = base.rename(tmp_path / "moved")
    other = train_tiny(tiny_bert, tmp_path / "others", "rte")
    commands: dict[str, list[str | Path]] = {
        "predict": ["predict", run, "word1"],
        "spans": ["ablate", "spans", run],
        "prune": ["prune", run, "--max-drop", "100", "--output", tmp_path / "smaller"],
        "bundle": ["bundle", "new", run, other, "--to", tmp_path / "bundle"],
        "export": ["export", run, "--to", tmp_path / "exported"],
    }
    for name, command in commands.items():
        done = cli(*command, "--offline", "--json")
        assert (done.code, done.out) == (2, ""), name
        told = (
            f"error: base model {base}: no such folder; bring it back, or name its folder with --b"
        )
        assert done.err.startswith(told), (name, done.err)
    for name, command in commands.items():
        done = cli(*command, "--offline", "--json", "--backbone", moved)
        assert done.code == 0, (name, done.err)
    with pytest.raises(BackboneError, match="name its folder with --backbone"):
        at.pipeline(run)
    assert at.pipeline(run, backbone=moved)("word1")


def test_a_package_that_is_not_there_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        catalogue,
        "package",
        lambda _: catalogue.Package(name="no_such_package", folder="", install="x"),
    )
    recorded = BackboneFacts(name="minilm", sha256="", commit=None, files=None, architecture="bert")
    cell = CellFolder(tmp_path / "runs" / "rte" / "adapter-8")
    with pytest.raises(BackboneError, match="no_such_package is not installed; pip install 'x'"):
        load.locate_base(cell, recorded, None, offline=True)
