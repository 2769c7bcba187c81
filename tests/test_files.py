"""Files are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptertune.errors import StoreError
from adaptertune.files import write_atomically, writing_atomically


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


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_what_is_no_file_can_not_be_written(name: str) -> None:
    with pytest.raises(StoreError, match="is no file; name one"):
        write_atomically(Path(name), b"x")
