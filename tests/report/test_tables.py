"""How numbers are written, and tables of results that lack some."""

from __future__ import annotations

import pytest

from adaptertune.report import tables


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (119.7, "2 min 00 s"),
     (200.0, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500.0, "2 h 05 min")],
)  # fmt: skip
def test_no_duration_has_sixty_seconds(seconds: float, told: str) -> None:
    assert tables.duration(seconds) == told


@pytest.mark.parametrize(
    ("num_bytes", "told"),
    [(999, "999 B"), (1000, "1.0 kB"), (999_940, "999.9 kB"), (999_960, "1.0 MB"),
     (2_500_000_000, "2.5 GB")],
)  # fmt: skip
def test_no_size_has_a_thousand_of_its_unit(num_bytes: int, told: str) -> None:
    assert tables.size(num_bytes) == told
