"""Classifiers of tests: a method put into a backbone of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptertune import config
from adaptertune.model import backbone
from adaptertune.model.build import load_model


def build(
    folder: Path,
    method: config.Method,
    *,
    outputs: int = 2,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    is_compiled: bool = False,
) -> Any:
    """As `load_model` builds it; untyped, since tests reach into parts that are of many kinds."""
    return load_model(
        backbone.locate(str(folder), offline=True),
        method,
        outputs,
        seed=seed,
        device=device,
        precision=precision,
        is_compiled=is_compiled,
    )
