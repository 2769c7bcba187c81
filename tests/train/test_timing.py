"""The forecast's arithmetic by hand, and that a training does not feel it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptertune import config, seeds
from adaptertune.data.batches import collate, join, training_batches
from adaptertune.data.encode import Encoded, starts_of
from adaptertune.train import timing
from adaptertune.train.loop import Lane
from tests.classifiers import build
from tests.train.test_loop import (
    METHODS,
    TRAINING,
    Recorder,
    assert_same,
    made,
    parameters,
    run,
    run_together,
)
from tests.train.test_stacked import SEEDS, stack

CPU = torch.device("cpu")
COUNTING = config.Adapter(size=8, init_std=1e-2, activation="gelu", norm="batch")


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
    line = timing.fit_line(points)
    assert (line.fixed, line.per_token) == pytest.approx((fixed, per_token))


@pytest.mark.parametrize("of_seeds", [[0], [0, 1, 2]])
def test_the_sum(of_seeds: list[int]) -> None:
    """All examples are of one length here: 12 tokens, which no batch pads."""
    train, validation, other = (of_one_length(count) for count in (44, 130, 20))
    found = timing.apply(
        timing.Pace(timing.Line(0.2, 0.01), timing.Line(0.0, 0.002), num_measured=2),
        train,
        [validation, other],
        TRAINING,
        of_seeds,
        torch.device("cpu"),
    )
    num = len(of_seeds)
    # Six steps of 8 examples a seed but for one of 4, which may meet others' 8 and is filled up then.
    tokens = 12 * num * (5 * 8 + 4)
    filled = 12 * (8 * num * 6) - tokens if num > 1 else 0
    assert 6 * 0.2 + 0.01 * tokens <= found.epoch <= 6 * 0.2 + 0.01 * (tokens + filled) + 1e-9
    assert found.step == pytest.approx(found.epoch / 6)
    assert found.evaluation == pytest.approx(0.002 * 12 * 130 * num)
    assert found.other_evaluation == pytest.approx(0.002 * 12 * 20 * num)
    assert found.training(3) == pytest.approx(
        3 * (found.epoch + found.evaluation) + found.other_evaluation
    )
    assert found.num_measured == 2


def of_one_length(count: int) -> Encoded:
    lengths = np.full(count, 12)
    nothing = np.zeros(12 * count, np.int32)
    return Encoded("made", nothing, nothing.astype(np.uint8), starts_of(lengths), lengths, None, 0)


def test_tokens_of_a_step_are_those_that_go_through() -> None:
    """Several seeds' batches, the short last one among them, as the loop joins them."""
    train = made("train", 44, seed=1)
    orders = [
        training_batches(train.lengths, 8, seeds.generator(seed, "order", 0), drop_last=False)
        for seed in (0, 3, 8)
    ]
    for each in zip(*orders, strict=True):
        joint = join([collate(train, indices) for indices in each])
        assert timing._tokens(train, each) == joint.tokens.numel()


@pytest.mark.parametrize("method", [*METHODS, COUNTING], ids=str)
def test_a_training_is_the_same_after_a_forecast(
    tiny_bert: Path, method: config.Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(timing, "BUDGET_SECONDS", 60.0)
    expected = run(build(tiny_bert, method), Recorder())
    model = build(tiny_bert, method)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generators = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # type: ignore[index]
    train, validation = made("train", 100, seed=1), made("validation", 70, seed=2)
    found = timing.measure({0: model}, train, [validation, validation], TRAINING, CPU, 1.0)
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


def test_so_are_several_in_one_pass(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(timing, "BUDGET_SECONDS", 60.0)
    plain, models = stack(tiny_bert, METHODS[0]), stack(tiny_bert, METHODS[0])
    run_together([Lane(s, m, Recorder()) for s, m in zip(SEEDS, plain, strict=True)])
    train, validation = made("train", 100, seed=1), made("validation", 70, seed=2)
    by_seed = dict(zip(SEEDS, models, strict=True))
    found = timing.measure(by_seed, train, [validation], TRAINING, CPU, 1.0)
    assert (found.num_measured, found.other_evaluation) == (3, 0.0)
    run_together([Lane(s, m, Recorder()) for s, m in by_seed.items()])
    for one, other in zip(plain, models, strict=True):
        assert_same(parameters(one), parameters(other))


def test_little_work_is_measured_once(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WORTH_SECONDS", 1e9)
    train = made("train", 100, seed=1)
    model = build(tiny_bert, METHODS[0])
    assert timing.measure({0: model}, train, [train], TRAINING, CPU, 1.0).num_measured == 1


def test_so_is_much_work_beyond_the_budget(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(timing, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(timing, "BUDGET_SHARE", 0.0)
    train = made("train", 100, seed=1)
    model = build(tiny_bert, METHODS[0])
    assert timing.measure({0: model}, train, [train], TRAINING, CPU, 1.0).num_measured == 1


def test_the_optimiser_is_measured_on_a_part_of_what_trains(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step takes a second on this clock, on however many numbers: the rest is in proportion."""
    monkeypatch.setattr(timing, "clock", _Ticks())
    model = build(tiny_bert, METHODS[1])
    total = sum(parameter.numel() for parameter in model.parameters())
    assert timing.optimizer_seconds(model, TRAINING, CPU) == pytest.approx(1.0)
    monkeypatch.setattr(timing, "OPTIMIZER_NUMBERS", 1000)
    assert timing.optimizer_seconds(model, TRAINING, CPU) == pytest.approx(total / 1000)


class _Ticks:
    """A clock that is a second on whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self, device: torch.device) -> float:
        self.now += 1
        return self.now
