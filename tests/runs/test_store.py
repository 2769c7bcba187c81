"""Finding runs: by folder, name, end of the digest; never by guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptertune.errors import StoreError
from adaptertune.runs import store


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for task, name in (
        ("rte", "adapter-64-bert-11111111"),
        ("rte", "adapter-8-bert-22222222"),
        ("sst2", "adapter-64-bert-11111111"),
    ):
        cell = store.CellFolder(tmp_path / task / name)
        (cell.path / "seed-10").mkdir(parents=True)
        (cell.path / "seed-2").mkdir()
        (cell.path / "seed-x").mkdir()
        cell.config.write_text(json.dumps({"digest": name[-8:] + "3" * 56}))
    (tmp_path / "rte" / "stray").mkdir()
    return tmp_path


def test_cells_are_the_folders_with_a_configuration(output: Path) -> None:
    names = [f"{cell.path.parent.name}/{cell.path.name}" for cell in store.cells(output)]
    assert names == [
        "rte/adapter-64-bert-11111111",
        "rte/adapter-8-bert-22222222",
        "sst2/adapter-64-bert-11111111",
    ]


def test_seeds_are_in_order_of_number(output: Path) -> None:
    assert next(store.cells(output)).seeds() == [2, 10]


@pytest.mark.parametrize(
    "name",
    ["222222", "22222222", "adapter-8-bert-22222222", "rte/adapter-8-bert-22222222",
     "22222222" + "3" * 8, "22222222" + "3" * 56],
)  # fmt: skip
def test_a_run_is_found_by_name(output: Path, name: str) -> None:
    assert store.find_cell(name, output).path == output / "rte" / "adapter-8-bert-22222222"


def test_a_run_is_found_by_its_folder_or_a_seeds(output: Path) -> None:
    folder = output / "rte" / "adapter-8-bert-22222222"
    for path in (folder, folder / "seed-2"):
        assert store.find_cell(str(path), Path("elsewhere")).path == folder


@pytest.mark.parametrize(
    ("where", "name"),
    [(".", "."), (".", "seed-2"), ("seed-2", ".."), ("..", "adapter-8-bert-22222222"),
     ("../..", "rte/adapter-8-bert-22222222/seed-2")],
)  # fmt: skip
def test_a_run_has_its_names_wherever_one_stands(
    output: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    folder = output / "rte" / "adapter-8-bert-22222222"
    monkeypatch.chdir(folder / where)
    found = store.find_cell(name, Path("elsewhere")).path
    assert (found.parent.name, found.name) == ("rte", folder.name)
    assert found.samefile(folder)


@pytest.mark.parametrize(
    ("where", "name", "seed"),
    [("seed-2", ".", 2), ("seed-2", "../seed-10", 10), (".", "seed-2/", 2), (".", ".", None),
     ("..", "seed-2", None), ("seed-x", ".", None)],
)  # fmt: skip
def test_the_folder_of_a_seed_names_that_seed(
    output: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str, seed: int | None
) -> None:
    monkeypatch.chdir(output / "rte" / "adapter-8-bert-22222222" / where)
    assert store.seed_named(name) == seed


def test_what_fits_several_or_none_is_refused(output: Path) -> None:
    with pytest.raises(StoreError, match=r"'11111111' fits several runs; choose from .*rte.*sst2"):
        store.find_cell("11111111", output)
    for name in ("2222", "rte", "stray", "nothing", "22222222" + "3" * 57, "2222222234", "a" * 300):
        with pytest.raises(StoreError, match=rf"no run '{name}'; adaptertune runs lists them"):
            store.find_cell(name, output)


def test_names_are_safe_as_folders() -> None:
    cell = store.cell_folder(
        Path("runs"), "rte", "adapter-8", "a/../my model*/", "abcdef0123456789"
    )
    assert cell.path == Path("runs/rte/adapter-8-my-model--abcdef012345")
