"""What is said of a sweep's units before they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptertune.runs.sweep_forecast import Forecaster
from adaptertune.train import timing
from tests.runs.test_execute import plan

LINE = timing.Line(fixed=0.0, per_token=1e-3)


def test_measured_as_the_runs_are_trained_once_a_number_of_threads(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def pace(*_: Any, by_graph: bool) -> timing.Pace:
        assert not by_graph
        threads.append(torch.get_num_threads())
        return timing.Pace(LINE, LINE, 3)

    monkeypatch.setattr(timing, "pace", pace)
    before = torch.get_num_threads()
    forecaster = Forecaster(lambda _: None)
    for count in (1, 1, 2, before):
        forecaster.seconds(plan(tiny_bert, tmp_path, threads=count), [0])
    assert threads == [1, *{2, before} - {1}]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("fitting", [8, 1, 0])
def test_where_memory_runs_out_smaller_batches_are_measured(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitting: int
) -> None:
    """And the forecast is of the whole ones; a method of which not even one example fits has none."""
    step, tried = timing._Step.__call__, []

    def crowded(self: Any, train: Any, indices: Sequence[Any]) -> None:
        tried.append(max(map(len, indices)))
        if tried[-1] > fitting:
            raise torch.OutOfMemoryError
        step(self, train, indices)

    monkeypatch.setattr(timing._Step, "__call__", crowded)
    monkeypatch.setattr(timing, "fit_line", lambda _: LINE)
    made = plan(tiny_bert, tmp_path, training__batch_size=32)
    if not fitting:
        forecaster = Forecaster(lambda _: None)
        assert forecaster.seconds(made, [0]) == forecaster.seconds(made, [0]) == 0
        assert forecaster.too_large == ["adapter-8"]
        assert tried == [32, 16, 8, 4, 2, 1], "once"
        return
    found = Forecaster(lambda _: None).seconds(made, [0])
    assert sorted(set(tried), reverse=True)[:3] == [32, 16, 8]
    monkeypatch.setattr(timing._Step, "__call__", step)
    assert found == Forecaster(lambda _: None).seconds(made, [0])
