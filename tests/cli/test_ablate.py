"""``ablate spans`` as it is typed: its output, its JSON, and one line for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from adaptertune.runs.results import SpansResult
from tests.conftest import Finished
from tests.study.test_spans import train

Cli = Callable[..., Finished]


def test_it_prints_writes_and_answers_bad_input(cli: Cli, tiny_bert: Path, tmp_path: Path) -> None:
    folder = train(tiny_bert, tmp_path, seeds=1)
    done = cli("ablate", "spans", folder.path)
    assert done.code == 0, done.err
    assert "Relative change of Pearson" in done.out
    assert "first \\ last" in done.out
    asked = cli("ablate", "spans", folder.path, "--json")
    assert SpansResult.model_validate(json.loads(asked.out)) == folder.read_spans()
    assert "computed earlier" in asked.err
    for arguments, words in (
        (["--layers", "5"], "--layers: layer 5 has no adapters in this run; choose from 0,1"),
        (["--layers", "3-1"], "--layers: '3-1' has an empty span"),
        (["--data-dir", tmp_path / "none"], "none"),
    ):
        bad = cli("ablate", "spans", folder.path, *arguments)
        assert (bad.code, bad.out) == (2, "")
        assert words in bad.err
        assert len(bad.err.strip().splitlines()) == 1
    assert "no run 'x'" in cli("ablate", "spans", "x").err
    folder.result.unlink()
    assert "not finished (1 seeds are)" in cli("ablate", "spans", folder.path).err


def test_help(cli: Cli) -> None:
    assert "Remove trained adapters from every span" in cli("ablate", "--help").out
    assert cli("ablate").code == 2
