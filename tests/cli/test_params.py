"""``params --between`` as it is typed: whose sizes they are, and what has none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Finished

Cli = Callable[..., Finished]


@pytest.mark.parametrize(
    ("options", "adapters", "norms"),
    [((), 24, 25), (("--layers", "0-5"), 12, 12), (("--size", "64", "--layers", "11"), 2, 2)],
)
def test_the_sizes_are_those_of_the_layers_asked_for(
    cli: Cli, options: tuple[str, ...], adapters: int, norms: int
) -> None:
    """An adapter has 2md + d + m parameters, a LayerNorm 2d; that of the embeddings trains with all."""
    d = 768
    encoder = 12 * (12 * d * d + 13 * d)

    def percent(m: int) -> float:
        return 100 * (adapters * (2 * m * d + d + m) + norms * 2 * d) / encoder

    inside = [m for m in range(1, 4000) if 0.5 <= percent(m) <= 8]
    asked = ("params", "--shape", "12,768", "--between", "0.5,8", *options)
    found = json.loads(cli(*asked, "--json").out)["between"]
    assert found == {"low": 0.005, "high": 0.08, "sizes": [inside[0], inside[-1]]}
    shown = " ".join(cli(*asked).out.split())
    assert (
        f"sizes {inside[0]:,} to {inside[-1]:,} train 0.5 to 8.0 % of the encoder layers" in shown
    )


@pytest.mark.parametrize(
    "method", ["full", "top_layers --top-k 2", "layernorm", "bitfit", "lora --rank 8", "ia3"]
)
def test_a_method_without_a_size_is_refused(cli: Cli, method: str) -> None:
    name = method.split()[0]
    done = cli("params", "--shape", "12,768", "--between", "0.5,8", "--method", *method.split())
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: --between: method '{name}' has no bottleneck size; leave --between out, or choose "
        "--method adapter\n"
    )


@pytest.mark.parametrize(
    "text",
    ["0.5,inf", "inf,inf", "nan,8", "0.5,nan", "-1,8", "0,8", "8,0.5", "8", "1,2,3", "a,b", ""],
)
def test_bounds_are_finite_and_positive(cli: Cli, text: str) -> None:
    done = cli("params", "--shape", "12,768", "--between", text)
    assert (done.code, done.out) == (2, "")
    told = rf"error: --between: '{text}' is not LOW,HIGH in per cent; e\.g\. 0\.5,8\n"
    assert re.fullmatch(told, done.err), done.err


def test_bounds_beyond_every_model_are_answered(cli: Cli) -> None:
    assert "no size" in cli("params", "--shape", "12,768", "--between", "1e-9,1e-8").out
    done = cli("params", "--shape", "12,768", "--between", "0.5,1e300", "--json")
    assert json.loads(done.out)["between"]["sizes"][0] == 10


def test_a_folder_that_is_called_as_a_known_model(
    cli: Cli, tiny_bert: Path, tmp_path: Path
) -> None:
    asked = ("params", "--backbone", "bert-base", "--json")
    assert json.loads(cli(*asked).out)["backbone"] == "google-bert/bert-base-uncased"
    (tmp_path / "bert-base").symlink_to(tiny_bert)
    found = json.loads(cli(*asked).out)
    assert (found["backbone"], found["shape"]["width"]) == ("bert-base", 32)
