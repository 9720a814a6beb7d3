"""Patience for a machine that has much else to do: only tests of time-outs have short ones."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient(patience: None) -> None: ...
