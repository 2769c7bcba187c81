"""Titles, paths and notes that are not ours are shown as they are: brackets in them are no markup."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptertune import paths
from adaptertune.runs.store import CellFolder
from tests.conftest import CHECKOUT, Finished
from tests.study.test_spans import train

Cli = Callable[..., Finished]
ROOT = "runs[old]"


@pytest.fixture
def short(tiny_glue: Path, tiny_bert: Path, tmp_path: Path) -> list[str]:
    """A short training whose data, model and store lie in folders with brackets."""
    data, model = tmp_path / "glue[/dev]", tmp_path / "bert[red]"
    data.parent.mkdir()
    tiny_glue.rename(data)
    model.symlink_to(tiny_bert)
    return ["--data-dir", str(data), "--backbone", str(model), "--size", "4", "--seeds", "1",
            "--epochs", "1", "--max-length", "24", "--output", ROOT]  # fmt: skip


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # narrower, paths in tables are folded


@pytest.mark.parametrize("title", ["Tickets [pos/neg]", "Tickets [/ en] :100:"])
def test_what_is_about_to_happen(cli: Cli, short: list[str], tmp_path: Path, title: str) -> None:
    text = (CHECKOUT / "configs/tasks/rte.yaml").read_text()
    lines = [f"title: '{title}'" if row.startswith("title:") else row for row in text.splitlines()]
    (tmp_path / "own.yaml").write_text("\n".join(lines))
    done = cli("train", "--task", "own.yaml", "--dry-run", *short)
    assert done.code == 0, done.err
    for words in (
        f"{title} · adapter-4-bert-red-",
        "/glue[/dev]",
        "/bert[red] (SHA-256",
        f"{ROOT}/",
    ):
        assert words in done.out, words
    assert "16 of 2,490" in done.out, "a partial training set is told"


def test_where_a_run_is(cli: Cli, short: list[str]) -> None:
    done = cli("train", "--task", "rte", *short)
    assert done.code == 0, done.err
    (folder,) = Path(ROOT, "rte").iterdir()
    for line in (
        f"Run         {folder}",
        f"Checkpoint  {folder}/seed-0/checkpoint.safetensors",
        f"Next        adaptertune show {shlex.quote(str(folder))}",
    ):
        assert line in done.out.splitlines(), line


def test_a_shape_of_ones_own_model(cli: Cli, short: list[str]) -> None:
    backbone = short[short.index("--backbone") + 1]
    assert f"{backbone}: 2 layers, 32 wide" in cli("params", "--backbone", backbone).out


@pytest.fixture
def cell(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CellFolder:
    """A run whose tokens are kept in a folder with brackets."""
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache[old]"))
    return train(tiny_bert, tmp_path, seeds=1)


@pytest.mark.parametrize("command", ["ablate spans", "prune", "export", "bench"])
def test_notes(cli: Cli, cell: CellFolder, tiny_bert: Path, tmp_path: Path, command: str) -> None:
    """Damaged tokens are noted by their path."""
    for kept in (paths.cache() / "tokens").iterdir():
        kept.write_bytes(b"damaged")
    given: list[str | Path] = [cell.path]
    if command == "export":
        given += ["--to", "out[new]", "--drop-layernorms"]
    if command == "bench":
        given = ["--task", "stsb", "--data-dir", tmp_path / "glue", "--backbone", tiny_bert,
                 "--max-length", "24", "--batch-size", "4", "--steps", "1"]  # fmt: skip
    done = cli(*command.split(), *given)
    assert done.code == 0, done.err
    (note,) = done.err.splitlines()
    assert note.startswith("tokens of an earlier start can't be used (")
    assert f"{tmp_path}/cache[old]/tokens/" in note
    if command == "export":
        assert "Folder      out[new]" in done.out.splitlines()
