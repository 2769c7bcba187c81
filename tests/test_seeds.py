"""Streams by name: each a function of seed and names alone, and the same for ever."""

from __future__ import annotations

import hashlib
import itertools
import random

import numpy as np
import pytest

from adaptertune.seeds import derive, generator

NAMES: list[tuple[str | int, ...]] = [
    ("head",),
    ("adapters", 0, "attention"),
    ("adapters", 0, "output"),
    ("adapters", 1, "attention"),
    ("order", 0),
    ("order", 1),
    ("dropout", 0),
    ("dropout", 1),
    (),
]


# Results are reproduced by these: a change of any is a change of every published number.
GOLDEN: list[tuple[int, tuple[str | int, ...], int]] = [
    (0, (), 4761921975702974394),
    (0, ("head",), 644485331064736306),
    (0, ("order", 0), 1829853113658518448),
    (1, ("order", 0), 8401410035462850704),
    (0, ("adapters", 11, "output"), 4806632002311252366),
    (4294967295, ("dropout", 123456), 2177982378697313373),
]


@pytest.mark.parametrize(("seed", "names", "value"), GOLDEN)
def test_values_are_the_same_for_ever(seed: int, names: tuple[str | int, ...], value: int) -> None:
    assert derive(seed, *names) == value
    text = "/".join(map(str, [seed, *names])).encode()
    first_eight = hashlib.blake2b(text, digest_size=8).hexdigest()
    assert value == int(first_eight, 16) // 2


def test_a_generators_numbers_are_the_same_for_ever() -> None:
    assert generator(0, "order", 0).permutation(8).tolist() == [1, 0, 5, 7, 6, 2, 4, 3]
    assert generator(1, "order", 0).permutation(8).tolist() == [6, 5, 1, 4, 7, 2, 0, 3]


def test_all_seeds_and_names_differ() -> None:
    """Seed 0 is a seed like others: its streams are none of the other seeds'."""
    made = {derive(seed, *names) for seed in range(50) for names in NAMES}
    assert len(made) == 50 * len(NAMES)
    assert all(0 <= value < 2**63 for value in made)  # what torch and numpy take
    firsts = {generator(seed, *names).random() for seed in range(50) for names in NAMES}
    assert len(firsts) == 50 * len(NAMES)


def test_names_do_not_run_into_each_other() -> None:
    assert derive(1, "order", 23) != derive(1, "order", 2, 3) != derive(12, "order", 3)
    assert derive(11, "a") != derive(1, "1a")
    assert derive(1, "order", 12) != derive(1, "order1", 2)


def test_streams_are_not_correlated() -> None:
    """Neither between seeds, nor between names: in 1000 numbers chance alone stays below 0.16."""
    drawn = [generator(seed, *names).standard_normal(1000) for seed in (0, 1) for names in NAMES]
    for one, other in itertools.combinations(drawn, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.16


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    expected = generator(3, "order", 7).random(5).tolist()
    for number in range(7):
        generator(3, "order", number).random(1000)
    assert generator(3, "order", 7).random(5).tolist() == expected


def test_no_global_generator_is_touched() -> None:
    np.random.seed(5)
    random.seed(5)
    before = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    generator(0, "order", 0).permutation(100)
    after = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    assert before == after
