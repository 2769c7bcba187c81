"""The forecast's arithmetic by hand, and that a training does not feel it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptertune import config
from adaptertune.train import forecast
from tests.train.test_loop import METHODS, TRAINING, Recorder, build, made, run

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("points", "fixed", "per_token"),
    [
        ([(100, 1.2), (200, 2.2), (400, 4.2)], 0.2, 0.01),
        ([(100, 1.0)], 0.0, 0.01),
        ([(100, 1.0), (100, 3.0)], 0.0, 0.02),
        ([(100, 0.5), (200, 1.5)], 0.0, 0.007),  # through the origin: (50 + 300) / 50,000
        ([(100, 2.0), (200, 1.0)], 1.5, 0.0),  # noise alone
    ],
)
def test_the_line(points: list[tuple[int, float]], fixed: float, per_token: float) -> None:
    line = forecast.fit_line(points)
    assert (line.fixed, line.per_token) == pytest.approx((fixed, per_token))


def test_the_sum() -> None:
    found = forecast.combine(
        steps=[(100, 1.2), (200, 2.2)],  # 0.2 + 0.01 a token
        evaluations=[(1000, 2.0)],  # 0.002 a token
        train=[100, 150, 200, 250],
        selecting=[1000, 500],
        others=[3000],
    )
    assert found.epoch == pytest.approx(4 * 0.2 + 700 * 0.01)
    assert found.step == pytest.approx(7.8 / 4)
    assert found.evaluation == pytest.approx(3.0)
    assert found.other_evaluation == pytest.approx(6.0)
    assert found.seed(3) == pytest.approx(3 * (7.8 + 3.0) + 6.0)
    assert found.num_measured == 2


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_training_is_the_same_after_a_forecast(
    tiny_bert: Path, method: config.Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(forecast, "BUDGET_SECONDS", 60.0)
    expected = run(build(tiny_bert, method), Recorder())
    model = build(tiny_bert, method)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generators = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # type: ignore[index]
    train, validation = made("train", 100, seed=1), made("validation", 70, seed=2)
    found = forecast.measure(model, train, [validation, validation], TRAINING, CPU, 1.0)
    assert found.num_measured == 3
    assert min(found.epoch, found.evaluation, found.other_evaluation) > 0
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # type: ignore[index]
    assert torch.equal(generators[0], after[0])
    assert np.array_equal(generators[1], after[1])
    assert generators[2] == after[2]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    again = run(model, Recorder())
    assert [r.train_loss for r in again.records] == [r.train_loss for r in expected.records]
    assert np.array_equal(again.logits, expected.logits)


def test_little_work_is_measured_once(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "WORTH_SECONDS", 1e9)
    train = made("train", 100, seed=1)
    model = build(tiny_bert, METHODS[0])
    assert forecast.measure(model, train, [train], TRAINING, CPU, 1.0).num_measured == 1


def test_so_is_much_work_beyond_the_budget(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(forecast, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(forecast, "BUDGET_SHARE", 0.0)
    train = made("train", 100, seed=1)
    model = build(tiny_bert, METHODS[0])
    assert forecast.measure(model, train, [train], TRAINING, CPU, 1.0).num_measured == 1


def test_the_optimiser_is_measured_on_a_part_of_what_trains(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step takes a second on this clock, on however many numbers: the rest is in proportion."""
    monkeypatch.setattr(forecast, "clock", _Ticks())
    model = build(tiny_bert, METHODS[1])
    total = sum(parameter.numel() for parameter in model.parameters())
    assert forecast.optimizer_seconds(model, TRAINING, CPU) == pytest.approx(1.0)
    monkeypatch.setattr(forecast, "OPTIMIZER_NUMBERS", 1000)
    assert forecast.optimizer_seconds(model, TRAINING, CPU) == pytest.approx(total / 1000)


class _Ticks:
    """A clock that is a second on whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self, device: torch.device) -> float:
        self.now += 1
        return self.now
