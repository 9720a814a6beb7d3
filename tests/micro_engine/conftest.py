"""A connection with its engine for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import World


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world that is closed behind the test."""
    made = World()
    yield made
    made.close()
