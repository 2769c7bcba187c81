"""Files that may be hostile, read so that nothing is executed and nothing outside is touched."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptertune.errors import CheckpointError, first_line
from adaptertune.share.foreign import check_texts

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

LARGEST_CONFIG, LARGEST_WEIGHTS = 1 << 20, 1 << 31  # bytes


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The object in a small JSON file.

    Raises:
        CheckpointError: there is none, it is damaged, or a text in it can't be shown.
    """
    path = folder / name

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no number")

    try:
        real = file_of(folder, name)
        if real is None:
            raise CheckpointError("no such file", where=path, remedy="give what save_adapter wrote")
        if real.stat().st_size > LARGEST_CONFIG:
            raise ValueError("too large")
        content = json.loads(real.read_text(encoding="utf-8"), parse_constant=refuse)
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        what = first_line(error)
        raise CheckpointError(f"damaged ({type(error).__name__}: {what})", where=path) from None
    check_texts(content, path, CheckpointError)
    return content


def file_of(folder: Path, name: str) -> Path | None:
    """A regular file of a folder; None if there is none of that name.

    Raises:
        CheckpointError: it is something else, or leads out of the folder (but for the hub's cache, where
            it is a link to ``blobs``).
    """
    path = folder / name
    if not path.is_symlink() and not path.exists():
        return None
    root = folder.resolve()
    if root.parent.name == "snapshots":
        root = root.parent.parent
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise CheckpointError("a link that leads nowhere", where=path) from None
    if not real.is_relative_to(root):
        raise CheckpointError("a link that leads out of its folder", where=path)
    if not real.is_file():
        raise CheckpointError("is no file", where=path)
    return real


def read_weights(folder: Path, names: tuple[str, str]) -> Tensors:
    """Plain tensors by name, in fp32 on the CPU, from safetensors if there, else from torch's pickle.

    Raises:
        CheckpointError: there is no file, or it holds something else.
    """
    import torch

    safe, pickled = (file_of(folder, name) for name in names)
    path = safe or pickled
    if path is None:
        raise CheckpointError(f"no {names[0]} and no {names[1]}", where=folder)
    where = folder / (names[0] if safe else names[1])
    if path.stat().st_size > LARGEST_WEIGHTS:
        raise CheckpointError("too large for adapters", where=where)
    content: Any = _safetensors(path, where) if safe else _unpickled(path, where)
    if not isinstance(content, dict) or not content:
        raise CheckpointError("holds no tensors", where=where)
    for name, tensor in content.items():
        is_plain = (
            type(tensor) is torch.Tensor
            and (tensor.layout, tensor.device.type) == (torch.strided, "cpu")
            and not tensor.is_nested
        )
        if not isinstance(name, str) or not is_plain or not tensor.is_floating_point():
            raise CheckpointError(f"{name!r} is no plain tensor", where=where)
        if tensor.ndim > 2 or tensor.numel() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{name!r} has shape {tuple(tensor.shape)}", where=where)
    return {name: tensor.float() for name, tensor in content.items()}


def _safetensors(path: Path, where: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        what = first_line(error)
        raise CheckpointError(f"damaged, or no safetensors file ({what})", where=where) from None


def _unpickled(path: Path, where: Path) -> Any:
    """A file of ``torch.save``, which is a zip archive; only tensors and plain containers come out."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_WEIGHTS:
                raise CheckpointError("too large for adapters", where=where)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(
            f"damaged, or no file of torch.save ({type(error).__name__})", where=where
        ) from None
    except CheckpointError:
        raise
    except Exception as error:  # a pickle can fail in any way; torch's words say how to run it
        raise CheckpointError(
            f"holds something else than tensors, or is damaged ({type(error).__name__}); "
            "nothing of it was executed",
            where=where,
        ) from None
