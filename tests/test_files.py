"""Files are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptertune.files import writing_atomically


def test_processes_of_one_number_do_not_share_a_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two machines that share a folder: the last one to be done wins, whole."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path = tmp_path / "result.json"
    with writing_atomically(path) as first:
        first.write(b"first, ")
        with writing_atomically(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"whole")
    assert path.read_bytes() == b"first, whole"
    assert list(tmp_path.iterdir()) == [path]
