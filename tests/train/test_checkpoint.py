"""Checkpoints: only what trained, only onto its own base, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from adaptertune import config
from adaptertune.errors import CheckpointError, StoreError
from adaptertune.model.classifier import Classifier
from adaptertune.train.checkpoint import load_trained, read_tensors, trained_tensors, write_tensors
from tests.classifiers import build

METHOD = config.Adapter(size=8, init_std=1e-2, activation="gelu")
FACTS = {"base_sha256": "a" * 64, "base_name": "tiny", "labels": ["no", "yes"]}


@pytest.fixture
def written(tiny_bert: Path, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    write_tensors(path, trained_tensors(build(tiny_bert, METHOD)), FACTS)
    return path


def load(model: Classifier, path: Path, base: str = "a" * 64) -> None:
    load_trained(model, path, base_sha256=base, labels=("no", "yes"))


def test_saved_keys_are_the_trained_ones(written: Path, tiny_bert: Path) -> None:
    with safe_open(written, framework="pt") as stream:
        saved = set(stream.keys())
    model = build(tiny_bert, METHOD)
    assert saved == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any("pooler" in name or "dense.weight" in name for name in saved)


def test_round_trip_is_bitwise(written: Path, tiny_bert: Path) -> None:
    first, other = build(tiny_bert, METHOD), build(tiny_bert, METHOD, seed=1)
    load(other, written)
    for (name, one), (_, two) in zip(
        first.named_parameters(), other.named_parameters(), strict=True
    ):
        assert torch.equal(one, two), name


def test_equal_contents_give_equal_bytes(written: Path, tiny_bert: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    write_tensors(again, dict(reversed(trained_tensors(build(tiny_bert, METHOD)).items())), FACTS)
    assert again.read_bytes() == written.read_bytes()


def test_another_base_is_refused(written: Path, tiny_bert: Path) -> None:
    model = build(tiny_bert, METHOD, seed=1)
    before = model.head.weight.clone()
    with pytest.raises(
        CheckpointError, match=r"another base model \(tiny.*backbone it was trained on"
    ):
        load(model, written, base="b" * 64)
    assert torch.equal(before, model.head.weight)


def test_other_labels_and_methods_are_refused(written: Path, tiny_bert: Path) -> None:
    with pytest.raises(CheckpointError, match="other labels"):
        load_trained(build(tiny_bert, METHOD), written, base_sha256="a" * 64, labels=("yes", "no"))
    with pytest.raises(CheckpointError, match="do not match the method"):
        load(build(tiny_bert, config.LayerNorm()), written)
    wide = METHOD.model_copy(update={"size": 9})
    with pytest.raises(CheckpointError, match="shape"):
        load(build(tiny_bert, wide), written)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_files_are_refused(written: Path, tiny_bert: Path, keep: int) -> None:
    written.write_bytes(written.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load(build(tiny_bert, METHOD), written)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04K\x01.")
    header = (2**62).to_bytes(8, "little") + b"{}"
    (tmp_path / "huge.safetensors").write_bytes(header)
    for name in ("foreign", "pickle", "huge"):
        with pytest.raises(CheckpointError, match="damaged, or not a checkpoint"):
            read_tensors(tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(tmp_path / "absent.safetensors")


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be written .*another place"):
        write_tensors(tmp_path / "file" / "x.safetensors", {"x": torch.zeros(1)}, {})
