"""Files that are either whole or not there, and folders that belong to one process at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from adaptertune.errors import AdapterTuneError, InUse, StoreError


def beside(path: Path) -> Path:
    """A temporary name for what becomes ``path``, nobody else's: machines that share a folder may well
    have processes of the same number.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


@contextmanager
def writing_atomically(path: Path) -> Generator[BinaryIO, None, None]:
    """A temporary file beside ``path`` to write to; flushed to disk and renamed when all went well.

    A device or a pipe (``/dev/null``, ``/dev/stdout``) is written to as it is, and stays what it is.

    Raises:
        StoreError: the disk is full, the folder is read-only, …; what else goes wrong meanwhile, such as
            an error of another file, stays what it is.
    """
    if not path.name:
        raise StoreError("is no file", where=path, remedy="name one")
    with _told_of(path):
        taken = _Raw(path, path) if _is_stream(path) else None
    if taken is not None:
        with io.BufferedWriter(taken) as stream:
            yield stream
        return
    temporary = beside(path)
    try:
        with _told_of(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():  # which the renaming would find, after all the work
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            raw = _Raw(temporary, path)
        with io.BufferedWriter(raw) as stream:
            yield stream
            stream.flush()
            with _told_of(path):
                os.fsync(stream.fileno())
        with _told_of(path):
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _is_stream(path: Path) -> bool:
    """Whether it takes what comes: renaming a file over it would put it out of the world."""
    is_plain = path.is_file() and path.parent != Path("/dev")  # where standard output may be a file
    return path.exists() and not path.is_dir() and not is_plain


class _Raw(io.FileIO):
    """A file whose errors of writing name what it will become."""

    def __init__(self, temporary: Path, path: Path) -> None:
        super().__init__(temporary, "wb")
        self._path = path

    def write(self, data: Any) -> int:
        with _told_of(self._path):
            return super().write(data)

    def close(self) -> None:
        with _told_of(self._path):  # some network file systems write only now
            super().close()


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """An error of the system as one of this file."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot be written ({error.strerror})",
            where=path,
            remedy="free some space or choose another place",
        ) from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, flush it to disk, and rename.

    Raises:
        StoreError: the disk is full, the folder is read-only, …
    """
    with writing_atomically(path) as stream:
        stream.write(content)


def sha256(path: Path, error: type[AdapterTuneError] = StoreError) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        AdapterTuneError: of the kind given by ``error``; the file can't be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as found:
        raise error(f"cannot be read ({found.strerror})", where=path) from None


def as_json(value: Any) -> bytes:
    """A file of readable JSON; NaN is refused."""
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, atomically."""
    write_atomically(path, as_json(value))


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the lock dies with its process, however that ends.

    Raises:
        InUse: another process holds it.
        StoreError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("a")
    except OSError as error:
        raise StoreError(
            f"cannot be written ({error.strerror})", where=folder, remedy="choose another --output"
        ) from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                "in use by another process",
                where=folder,
                remedy="wait for it, or choose another --output",
            ) from None
        except OSError as error:  # some network file systems have no locks
            raise StoreError(
                f"cannot be locked ({error.strerror})",
                where=folder,
                remedy="choose an --output on a file system with flock (for Lustre: mounted so)",
            ) from None
        yield
