"""The page whose figures are checked here."""

from __future__ import annotations

import pytest

from tests.results.cells import STUDY


@pytest.fixture(scope="module")
def told() -> str:
    """The study's page, with its lines joined."""
    return " ".join((STUDY / "README.md").read_text().split())
