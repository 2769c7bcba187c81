"""Charts that an earlier report wrote and this one has not: known by a list and by their content."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from adaptertune.files import sha256, write_json

LIST = "written-by-report.json"  # file name -> SHA-256 of what the report wrote
_Sums = TypeAdapter(dict[str, str])


def renew(folder: Path, written: Iterable[Path]) -> list[Path]:
    """Delete from ``folder`` what an earlier report wrote and this one did not, and list what it did.

    A file that is not on the earlier list, or is no longer as the report wrote it, is somebody's own
    and stays; without a readable list, everything does.

    Args:
        written: this report's files, all directly in the folder.

    Returns:
        What was deleted.

    Raises:
        StoreError: a file can't be read, or the list can't be written.
    """
    sums = {path.name: sha256(path) for path in written}
    gone = []
    for name, earlier in _listed(folder).items():
        path = folder / name
        if (
            name not in sums
            and path.parent == folder
            and path.is_file()
            and sha256(path) == earlier
        ):
            with suppress(OSError):  # it stays, and off the list
                path.unlink()
                gone.append(path)
    write_json(folder / LIST, sums)
    return gone


def _listed(folder: Path) -> dict[str, str]:
    try:
        return _Sums.validate_json((folder / LIST).read_bytes())
    except (OSError, ValidationError):
        return {}
