"""Reading a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adaptertune.errors import StoreError
from adaptertune.report import evidence
from tests.report.records import add, one_metric


def test_a_damaged_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7))
    folder.seed(0).epochs.write_text('{"epoch": 1')
    with pytest.raises(StoreError, match=r"epochs.jsonl: damaged .*; delete .*seed-0"):
        evidence.read(tmp_path)


def test_a_damaged_sweep_is_too(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.7))
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "one.json").write_text("{")
    with pytest.raises(
        StoreError, match=r"one\.json: damaged result .*; delete it and run the same"
    ):
        evidence.read(tmp_path)


@pytest.mark.parametrize("content", [{"model_type": "bert"}, [], {"identity": "of a model"}])
def test_a_models_folder_in_a_store_is_no_cell(tmp_path: Path, content: Any) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7))
    model = tmp_path / "models" / "bert" / "config.json"
    model.parent.mkdir(parents=True)
    model.write_text(json.dumps(content))
    cells, unfinished = evidence.read(tmp_path)
    assert [cell.folder for cell in cells] == [folder.path]
    assert not unfinished
    folder.config.write_text(json.dumps(content))  # but a folder with seeds is one
    with pytest.raises(StoreError, match=r"config\.json: damaged \(not a run's.*seeds are kept"):
        evidence.read(tmp_path)
    folder.config.write_text("{")
    with pytest.raises(StoreError, match=r"config\.json: damaged .*; finished seeds are kept"):
        evidence.read(tmp_path)
