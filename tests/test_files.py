"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
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


def test_a_device_or_pipe_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    write_atomically(tmp_path / "null", b"rows")
    assert (tmp_path / "null").readlink() == Path("/dev/null")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, b"rows")
    assert os.read(reader, 10) == b"rows"
    os.close(reader)
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "null", pipe]


def test_a_name_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be written \(File name too long\)"):
        write_atomically(tmp_path / ("x" * 300), b"rows")


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_what_is_no_file_can_not_be_written(name: str) -> None:
    with pytest.raises(StoreError, match="is no file; name one"):
        write_atomically(Path(name), b"x")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may become larger than 1,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("flushed", [True, False])
def test_of_several_files_the_one_that_has_no_room_is_named(
    tmp_path: Path, small_files: None, flushed: bool
) -> None:
    def write() -> None:
        with (
            writing_atomically(tmp_path / "answers.tsv") as answers,
            writing_atomically(tmp_path / "bad.jsonl") as bad,
        ):
            bad.write(b"{}")
            answers.write(b"x" * 2000)
            if flushed:
                answers.flush()

    with pytest.raises(StoreError, match=r"answers\.tsv: cannot be written \(File too large\)"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ([] if flushed else ["bad.jsonl"])


def test_an_error_of_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing_atomically(tmp_path / "x.tsv"):
        (tmp_path / "missing").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_what_fails_at_the_end_is_told_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system over its quota; closing may then fail too."""

    def over_quota(_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", over_quota)
    with pytest.raises(StoreError, match=r"x\.tsv: cannot be written \(Disk quota exceeded\)"):
        write_atomically(tmp_path / "x.tsv", b"x")

    def closed() -> None:
        with writing_atomically(tmp_path / "x.tsv") as stream:
            os.close(stream.fileno())

    with pytest.raises(StoreError, match=r"x\.tsv: cannot be written \(Bad file descriptor\)"):
        closed()
    assert list(tmp_path.iterdir()) == []
