"""Tokenised splits, kept on disk: a second start neither reads nor tokenises the rows.

A file's name is the digest of all that decides its content, so it is never out of date and may be
deleted at any time. What can't be read is made again, and what can't be written is not kept.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from adaptertune import download, paths
from adaptertune.config import digest
from adaptertune.data.encode import (
    SUFFIXES,
    Encoded,
    check_tokens,
    encode,
    load_tokenizer,
    starts_of,
)
from adaptertune.data.sources import Source, fingerprint, load_splits
from adaptertune.errors import DataError, StoreError
from adaptertune.files import write_atomically
from adaptertune.tasks import Task

# Raised whenever the same files would be read or tokenised otherwise than before.
ENCODING = 2
CHECKSUM = hashlib.sha256().digest_size
TYPES = {"I32": np.int32, "U8": np.uint8, "I64": np.int64, "F32": np.float32}


@dataclass(frozen=True)
class Wanted:
    """Some splits of a task as tokens. ``fingerprint`` is that of their rows."""

    task: Task
    source: Source
    names: tuple[str, ...]
    fingerprint: str
    model: Path  # the folder with the tokenizer's files
    max_length: int
    vocabulary: int  # rows of the model's table of tokens

    @cached_property
    def digest(self) -> str:
        """That of everything that decides the tokens, their order and the labels."""
        # Which files a tokenizer is made of is up to transformers.
        files = [path for path in self.model.iterdir() if path.suffix in SUFFIXES]
        libraries = ("tokenizers", "transformers")
        return digest(
            {
                "encoding": ENCODING,
                "rows": self.fingerprint,
                "labels": self.task.labels,
                "range": self.task.range,
                "test": self.task.test,
                "torn": self.task.files is not None and self.task.files.torn,
                "tokenizer": {path.name: download.sha256(path) for path in files if path.is_file()},
                "libraries": {name: importlib.metadata.version(name) for name in libraries},
                "max_length": self.max_length,
            }
        )

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """That of all these splits: tasks may have different ones of the same dataset on the hub."""
        return self.digest, self.names

    def path(self, name: str) -> Path:
        """The file of a split."""
        return paths.cache() / "tokens" / f"{self.digest}-{name}.tokens"


def stored(wanted: Wanted, note: Callable[[str], None] = lambda _: None) -> list[Encoded] | None:
    """The splits as they were kept, or None if one is missing or damaged; the latter is noted.

    That they were kept says that all their rows are good.
    """
    try:
        return [_read(wanted.path(name), name) for name in wanted.names]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        note(f"tokens of an earlier start can't be used ({error}); they are made again")
        return None


def tokenised(
    wanted: Wanted, *, progress: Callable[[int, int], None], note: Callable[[str], None]
) -> list[Encoded]:
    """The splits as they were kept or, if they were not, anew; then they are kept.

    ``progress`` is told how many examples are done, and of how many.

    Raises:
        DataError: a row is bad, or the rows are no longer those of the fingerprint.
        BackboneError: the model has no usable tokenizer, or lacks a token that a row has.
    """
    found = stored(wanted, note) or _anew(wanted, progress, note)
    for encoded in found:
        check_tokens(encoded, wanted.vocabulary, wanted.model)
    return found


def _anew(
    wanted: Wanted, progress: Callable[[int, int], None], note: Callable[[str], None]
) -> list[Encoded]:
    splits = load_splits(wanted.task, wanted.source, wanted.names)
    if fingerprint(wanted.task, wanted.source, wanted.names) != wanted.fingerprint:
        raise DataError(
            "the rows have just changed",
            where=wanted.source.describe(wanted.task),
            remedy="run the command again",
        )
    tokenizer = load_tokenizer(wanted.model)
    total, done = sum(map(len, splits)), 0

    def on_chunk(num_examples: int) -> None:
        nonlocal done
        done += num_examples
        progress(done, total)

    found = [encode(tokenizer, split, wanted.max_length, on_chunk) for split in splits]
    try:
        for encoded in found:
            write_atomically(wanted.path(encoded.name), as_bytes(encoded))
    except StoreError as error:
        note(
            f"{error.where}: {error.what}; the next start tokenises again, unless "
            "ADAPTERTUNE_CACHE names a better folder"
        )
    return found


def as_bytes(encoded: Encoded) -> bytes:
    """The checksum of what follows, and then the arrays in the safetensors format."""
    arrays: dict[str, Any] = {
        "tokens": encoded.tokens,
        "segments": encoded.segments,
        "lengths": encoded.lengths,
        "num_truncated": np.array([encoded.num_truncated]),
    }
    if encoded.labels is not None:
        arrays["labels"] = encoded.labels
    content: bytes = save(arrays)
    return hashlib.sha256(content).digest() + content


def _read(path: Path, name: str) -> Encoded:
    """A split whose tokens are views of the file: processes that train side by side share them.

    (safetensors' own reader copies.)

    Raises:
        OSError: the file is missing or can't be read.
        ValueError: it is not as it was written.
    """
    with path.open("rb") as stream:
        mapped = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    checksum, content = mapped[:CHECKSUM], mapped[CHECKSUM:]
    if hashlib.sha256(content).digest() != checksum:
        raise ValueError(f"{path} is damaged")
    start = 8 + int.from_bytes(content[:8], "little")
    arrays = {
        key: np.frombuffer(
            content, TYPES[entry["dtype"]], entry["shape"][0], start + entry["data_offsets"][0]
        )
        for key, entry in json.loads(bytes(content[8:start])).items()
    }
    return Encoded(
        name=name,
        tokens=arrays["tokens"],
        segments=arrays["segments"],
        starts=starts_of(arrays["lengths"]),
        lengths=arrays["lengths"],
        labels=arrays["labels"].copy() if "labels" in arrays else None,  # torch wants to own them
        num_truncated=int(arrays["num_truncated"][0]),
    )
