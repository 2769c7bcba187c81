"""Reading a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptertune.errors import StoreError
from adaptertune.report import evidence
from tests.report.records import add, one_metric


def test_a_damaged_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.7))
    folder.seed(0).epochs.write_text('{"epoch": 1')
    with pytest.raises(StoreError, match=r"epochs.jsonl: damaged .*; delete .*seed-0"):
        evidence.read(tmp_path)
