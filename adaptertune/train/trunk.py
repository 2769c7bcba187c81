"""What frozen lower layers give, computed once and kept on disk for all epochs, seeds and settings.

Where nothing trains below some layer and dropout is off there, the hidden states at that point are the
same in every epoch. They are kept as they are (bf16 or fp32), one row a token, in a file that is read
memory-mapped: training side by side shares it, and memory holds what fits.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adaptertune.data.batches import collate, evaluation_batches
from adaptertune.data.encode import Encoded, starts_of
from adaptertune.errors import InUse, StoreError
from adaptertune.files import beside, exclusive, sha256, write_json
from adaptertune.model.classifier import Classifier

BATCH_SIZE = 64
GIGABYTE = 1e9
ZEROS = bytes(1_000_000)
ABANDONED = 24 * 3600  # seconds without a change
WAIT_SECONDS = 0.5  # between two looks at a lock


@dataclass(frozen=True)
class Place:
    """Where hidden states are kept: a folder, and how many bytes all files in it may take.

    ``digest`` identifies tokens, backbone, depth and precision.
    """

    folder: Path
    limit: float
    digest: str

    def path(self, name: str) -> Path:
        """The file of a split."""
        return self.folder / f"{self.digest}-{name}.hidden"


def num_bytes(splits: Sequence[Encoded], width: int, dtype: torch.dtype) -> int:
    """What the hidden states of all tokens take."""
    return sum(len(encoded.tokens) for encoded in splits) * width * dtype.itemsize


def with_hidden(
    model: Classifier,
    splits: Sequence[Encoded],
    place: Place,
    device: torch.device,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    *,
    num_parts: int = 1,
) -> tuple[list[Encoded], float] | None:
    """The splits with their hidden states, and the seconds that computing them took just now.

    None if they would not fit: into the limit, after older files were deleted, or on the disk. One
    process computes them, others wait for it.
    ``progress`` is told how many examples are done, and of how many; what it raises ends the work
    and leaves nothing behind. ``num_parts``: in how many parts memory made each training step be
    computed; so many times fewer examples are computed at a time here.
    """
    dtype, width = model.compute_type, model.backbone.config.hidden_size
    needed = num_bytes(splits, width, dtype)
    if needed > place.limit:
        note(
            f"the lower layers' results would take {needed / GIGABYTE:.1f} GB of at most "
            f"{place.limit / GIGABYTE:g} (--trunk-cache): they are computed in every step"
        )
        return None

    def read() -> list[Encoded | None]:
        return [_read(place.path(encoded.name), encoded, width, dtype) for encoded in splits]

    found, seconds = read(), 0.0
    if None not in found:
        return [known for known in found if known is not None], 0.0
    done = 0

    def on_batch(num_examples: int) -> None:
        nonlocal done
        done += num_examples
        progress(done, total)

    try:
        with ExitStack() as locks:
            _wait_for_others(place, locks, lambda: progress(0, sum(map(len, splits))))
            found = read()
            start = time.perf_counter()
            missing = [one for one, known in zip(splits, found, strict=True) if known is None]
            total = sum(map(len, missing))
            if missing:
                _make_room(place, missing, num_bytes(missing, width, dtype))
            for number, (encoded, known) in enumerate(zip(splits, found, strict=True)):
                if known is None:
                    path = place.path(encoded.name)
                    _write(model, encoded, path, device, on_batch, num_parts)
                    found[number] = _read(path, encoded, width, dtype)
            seconds = time.perf_counter() - start if missing else 0.0
    except (OSError, StoreError) as error:
        reason = error.what if isinstance(error, StoreError) else error.strerror
        note(f"{place.folder}: {reason}: the lower layers are computed in every step")
        return None
    complete = [known for known in found if known is not None]
    if len(complete) < len(splits):
        note(
            f"{place.folder}: files can't be read back: the lower layers are computed in every step"
        )
        return None
    return complete, seconds


def in_memory(model: Classifier, encoded: Encoded, device: torch.device) -> Encoded:
    """The split with its hidden states, kept nowhere, and without tokens that no example has."""
    taken = np.concatenate([np.r_[encoded.span(index)] for index in range(len(encoded))])
    compact = replace(
        encoded,
        tokens=encoded.tokens[taken],
        segments=encoded.segments[taken],
        starts=starts_of(encoded.lengths),
    )
    shape = len(taken), model.backbone.config.hidden_size
    held = np.empty(shape, dtype=_numpy_type(model.compute_type))
    _fill(held, model, compact, device, lambda _: None)
    return replace(compact, hidden=held)


def _write(
    model: Classifier,
    encoded: Encoded,
    path: Path,
    device: torch.device,
    on_batch: Callable[[int], None],
    num_parts: int,
) -> None:
    dtype, width = model.compute_type, model.backbone.config.hidden_size
    rows = len(encoded.tokens)
    with _new_file(path, rows * width * dtype.itemsize) as temporary:
        held = np.memmap(temporary, _numpy_type(dtype), "r+", shape=(rows, width))
        _fill(held, model, encoded, device, on_batch, num_parts)
        held.flush()
        checksum = sha256(temporary)
    write_json(path.with_suffix(".json"), {"sha256": checksum, "rows": rows, "width": width})


def _fill(
    held: npt.NDArray[np.int16] | npt.NDArray[np.float32],
    model: Classifier,
    encoded: Encoded,
    device: torch.device,
    on_batch: Callable[[int], None],
    num_parts: int = 1,
) -> None:
    """Compute the hidden states of all examples into ``held``."""
    with torch.inference_mode():
        for indices in evaluation_batches(encoded.lengths, max(1, BATCH_SIZE // num_parts)):
            batch = collate(encoded, indices).to(device)
            hidden = model.trunk(batch.tokens, batch.segments, batch.mask).cpu()
            is_bits = hidden.dtype == torch.bfloat16
            plain = (hidden.view(torch.int16) if is_bits else hidden).numpy()
            for row, index in zip(plain, indices, strict=True):
                held[encoded.span(index)] = row[: encoded.lengths[index]]
            on_batch(len(indices))


def _read(path: Path, encoded: Encoded, width: int, dtype: torch.dtype) -> Encoded | None:
    """The split with the file's content, or None if it is missing or not as it was written."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        rows = len(encoded.tokens)
        if facts != {"sha256": sha256(path), "rows": rows, "width": width}:
            return None
        hidden = np.memmap(path, _numpy_type(dtype), "r", shape=(rows, width))
        with suppress(OSError):  # it may be another user's, to be read alone
            os.utime(path)  # the latest to be deleted
    except (OSError, StoreError, ValueError):
        return None
    return replace(encoded, hidden=hidden)


@contextmanager
def _new_file(path: Path, size: int) -> Iterator[Path]:
    """A file of this size under another name, which becomes ``path`` if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        with temporary.open("wb") as stream:
            # All of the disk is taken at once: a memory-mapped write to a full one would be fatal.
            if sys.platform == "darwin":  # which has no such call
                for start in range(0, size, len(ZEROS)):
                    stream.write(ZEROS[: size - start])
            else:
                os.posix_fallocate(stream.fileno(), 0, size)
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _wait_for_others(place: Place, locks: ExitStack, on_wait: Callable[[], None]) -> None:
    """Until no other process computes the same; what ``on_wait`` raises ends it."""
    while True:
        try:
            locks.enter_context(exclusive(place.folder / "locks" / place.digest))
        except InUse:
            on_wait()
            time.sleep(WAIT_SECONDS)
        except StoreError:
            # A file system without locks: others may compute the same, and files are whole.
            return
        else:
            return


def _make_room(place: Place, missing: Sequence[Encoded], needed: int) -> None:
    """Delete the files that were unused for longest until the limit and the disk have room for what is
    missing, beside what other processes are writing.

    What a killed process left half written goes too: of the same, whose lock is ours, at once, of others
    once it is a day old.

    Raises:
        StoreError: what others are writing leaves no room within the limit.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    damaged = [place.path(encoded.name) for encoded in missing]  # if there is such a file
    found: dict[Path, os.stat_result] = {}
    taken = 0
    for file in (*place.folder.glob(".*.part"), *place.folder.glob("*.hidden")):
        with suppress(FileNotFoundError):  # another process has just finished it, or makes room too
            facts = file.stat()
            if file.suffix == ".hidden":
                found[file] = facts
            elif (
                file.name.startswith(f".{place.digest}-")
                or time.time() - facts.st_mtime > ABANDONED
            ):
                file.unlink()
                continue
            taken += 0 if file in damaged else facts.st_size
    for file in sorted(found, key=lambda file: found[file].st_mtime):
        free = shutil.disk_usage(place.folder).free
        if taken + needed <= place.limit and needed < free:
            return
        if place.digest not in file.name:
            taken -= found[file].st_size
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)
    if taken + needed > place.limit:
        raise StoreError("other processes are writing there, to the limit (--trunk-cache)")


def _numpy_type(dtype: torch.dtype) -> type[np.int16] | type[np.float32]:
    """numpy has no bf16: its bits are kept as whole numbers."""
    return np.int16 if dtype == torch.bfloat16 else np.float32
