"""A finished run opened again; what refuses is in ``tests/study/test_spans.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptertune.runs.reopen import reopen
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
