"""What is said of the work ahead, and when."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adaptertune.executors.serial import run_cell
from adaptertune.runs import store
from adaptertune.runs.forecast import line, roughly
from adaptertune.train import timing
from tests.runs.test_execute import Quiet, comparable, plan


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12, "10 s"), (88, "90 s"), (95, "2 min"), (740, "12 min"), (5399, "90 min"),
     (2.26 * 3600, "2.3 h"), (35 * 3600, "35.0 h"), (80 * 3600, "3 days")],
)  # fmt: skip
def test_no_more_exact_than_it_can_be(seconds: float, words: str) -> None:
    assert roughly(seconds) == words


def test_the_line() -> None:
    assert line(730, "5 seeds", 0.2134, 3) == (
        "forecast    about 12 min for 5 seeds (0.21 s a step; 3 steps measured)"
    )
    assert line(31, "1 seed", 12.3, 1) == (
        "forecast    about 30 s for 1 seed (12 s a step; 1 step measured)"
    )


def test_nothing_is_said_of_seconds(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "WORTH_SECONDS", 1e9)  # however busy the machine is
    progress = Quiet()
    run_cell(plan(tiny_bert, tmp_path), progress)
    assert not any("forecast" in note for note in progress.notes)


@pytest.mark.parametrize(("stack", "way"), [("off", ""), ("on", " in one pass")])
def test_it_is_told_once_and_changes_nothing(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: str, way: str
) -> None:
    silent = plan(tiny_bert, tmp_path / "silent", seeds=3, stack=stack)
    run_cell(silent, Quiet())
    monkeypatch.setattr(timing, "WORTH_SECONDS", 0.0)
    told = plan(tiny_bert, tmp_path / "told", seeds=3, stack=stack)
    progress = Quiet()
    run_cell(told, progress)
    (said,) = [note for note in progress.notes if "forecast" in note]
    assert re.fullmatch(
        rf"forecast    about \d+ s for 3 seeds{way} \([\d.e-]+ s a step; 3 steps measured\)", said
    )
    for seed in (0, 1, 2):
        one, other = silent.folder.seed(seed), told.folder.seed(seed)
        assert one.checkpoint.read_bytes() == other.checkpoint.read_bytes()
        assert one.logits.read_bytes() == other.logits.read_bytes()
        assert comparable(one.result) == comparable(other.result)


def test_only_what_is_left_is_counted(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "WORTH_SECONDS", 0.0)
    ahead = []
    measure = timing.measure

    def counting(*arguments: Any, by_graph: bool) -> timing.Forecast:
        ahead.append(arguments[-1])
        return measure(*arguments, by_graph=by_graph)

    monkeypatch.setattr(timing, "measure", counting)
    made = plan(tiny_bert, tmp_path, seeds=3)
    run_cell(made, Quiet())
    for seed in (0, 1):  # the last one stays finished
        made.folder.seed(seed).result.unlink()
    made.folder.result.unlink()
    progress = Quiet()
    run_cell(made, progress)
    assert ahead == [3, 2]
    assert any("for 2 seeds" in note for note in progress.notes)
    made.folder.seed(0).result.unlink()
    second = made.folder.seed(1)  # tried again, as one that diverged
    finished = second.read_result()
    assert finished is not None
    changes = {"status": "diverged", "checkpoint": None, "kept_epoch": None, "diverged_epoch": 1}
    store.write_result(second.result, finished.model_copy(update={**changes, "scores": {}}))
    progress = Quiet()
    run_cell(made, progress)
    assert [seed for seed, *_ in progress.started] == [0, 1]
    assert ahead == [3, 2, 2]


def test_what_kept_hidden_states_save_is_measured(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two layers the lower one is known: a step of half the work. It changes nothing either."""
    settings = {"seeds": 1, "method__layers": "1"}
    run_cell(silent := plan(tiny_bert, tmp_path / "silent", **settings), Quiet())
    monkeypatch.setattr(timing, "WORTH_SECONDS", 0.0)
    progress = Quiet()
    run_cell(told := plan(tiny_bert, tmp_path / "told", **settings), progress)
    (said,) = [note for note in progress.notes if "measured    " in note]
    found = re.fullmatch(
        r"measured    a step on kept hidden states is ([\d.]+)x as fast as .*", said
    )
    assert found is not None
    assert 0.2 < float(found[1]) < 20
    one, other = silent.folder.seed(0), told.folder.seed(0)
    assert one.checkpoint.read_bytes() == other.checkpoint.read_bytes()
    progress = Quiet()
    run_cell(plan(tiny_bert, tmp_path / "anew", trunk_cache=0, **settings), progress)
    assert not any("measured    " in note for note in progress.notes)
