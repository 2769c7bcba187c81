"""Files of a Hugging Face Hub repository as a local folder, of the revision asked for."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from adaptertune import files
from adaptertune.errors import HubError, first_line

ONLINE = "check the name and the network, and leave out --offline and HF_HUB_OFFLINE"


def snapshot(
    kind: Literal["model", "dataset"],
    repo: str,
    patterns: Sequence[str],
    *,
    revision: str | None,
    offline: bool,
    remedy: str | None = None,
) -> Path:
    """Download what is missing and return the snapshot's folder; its name is the commit.

    ``datasets.load_dataset`` falls back to *any* cached revision when the hub can't be reached; a
    snapshot of a commit keeps to that commit.

    Args:
        remedy: what to do where it can't be had.

    Raises:
        HubError: with the reason in a line.
    """
    import huggingface_hub

    try:
        with _quiet():
            found = huggingface_hub.snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=offline,
            )
    except Exception as error:  # network, missing, gated, disk, cache: each has a class of its own
        if is_off(offline=offline):
            what = "is not in the local cache, and the network is off"
            raise HubError(what, where=f"{kind} {repo}", remedy=remedy) from None
        raise _unavailable(f"{kind} {repo}", error, remedy) from None
    return Path(found)


def is_off(*, offline: bool) -> bool:
    """Whether only the local cache is asked: it was wished, here or in the environment."""
    from huggingface_hub import constants

    return offline or constants.HF_HUB_OFFLINE


def files_of(
    kind: Literal["model", "dataset"], repo: str, revision: str | None
) -> tuple[str, dict[str, int]]:
    """The commit that a revision (by default the latest) is, and the size of each file in it, by path.

    Raises:
        HubError: with the reason in a line.
    """
    import huggingface_hub

    try:
        hub = huggingface_hub.HfApi()
        ask = hub.model_info if kind == "model" else hub.dataset_info
        with _quiet():
            info = ask(repo, revision=revision, files_metadata=True)
    except Exception as error:  # network, missing, gated: each has a class of its own
        raise _unavailable(f"{kind} {repo}", error) from None
    assert info.sha is not None
    return info.sha, {file.rfilename: file.size or 0 for file in info.siblings or ()}


def check_size(name: str, size: int, largest: int, where: str, remedy: str) -> None:
    """Whether a foreign file may be fetched and read; sizes are in bytes.

    Raises:
        HubError: it is too large.
    """
    if size > largest:
        raise HubError(
            f"{name} has {size:,} bytes, more than the {largest:,} that one may have",
            where=where,
            remedy=remedy,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """What the client would say of each attempt is said once, in our words; bars are for terminals. A
    caller's own use of it is as before.
    """
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    level = logging.get_verbosity()
    hides_bars = not sys.stderr.isatty() and not are_progress_bars_disabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if hides_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if hides_bars:
            enable_progress_bars()


def _unavailable(where: str, error: Exception, remedy: str | None = None) -> HubError:
    what = f"cannot be had from the hub ({type(error).__name__}: {first_line(error)})"
    return HubError(what, where=where, remedy=remedy)


def sha256(path: Path) -> str:
    """SHA-256 of a file; a file of the hub's cache must have the one that its name promises.

    Raises:
        HubError: the file can't be read, or it is not what was downloaded.
    """
    found = files.sha256(path, HubError)
    # There a large file is a link to blobs/<its SHA-256>, a small one to blobs/<SHA-1 of git's object>.
    blob = path.resolve()
    if not (path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", blob.name)):
        return found
    is_large = len(blob.name) == 64
    if blob.name != (found if is_large else _git_sha1(blob.read_bytes())):
        raise HubError(
            f"damaged download (its {'SHA-256' if is_large else 'SHA-1'} is wrong)",
            where=path,
            remedy=f"delete {blob} and run the command again",
        )
    return found


def _git_sha1(content: bytes) -> str:
    """By which git, and so the hub, names a file that is not large."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
