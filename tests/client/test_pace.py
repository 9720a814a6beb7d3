"""The pause before the next heartbeat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.client import pace

CHANCE = st.floats(0, 1)


@given(st.floats(1, 604_800), CHANCE)
def test_a_heartbeat_is_never_later_than_advised_and_little_earlier(advice_s: float, chance: float) -> None:
    assert 0.9 * advice_s <= pace.until_next(advice_s, chance) <= advice_s


@pytest.mark.parametrize("advice_s", [None, "soon", -5, 0, 1e300, float("inf"), True, [1]])
def test_advice_that_is_none_does_no_harm(advice_s: object) -> None:
    assert 0.9 <= pace.until_next(advice_s, 1.0) <= 7 * 86_400


@given(st.floats(0, 3_600), CHANCE)
def test_nobody_returns_earlier_than_told(retry_after_s: float, chance: float) -> None:
    assert max(1.0, retry_after_s) <= pace.after_refusal(retry_after_s, chance) <= 1.1 * retry_after_s + 1.1


@given(st.integers(1, 10**6), CHANCE)
def test_pauses_grow_to_ten_minutes_and_differ(failures: int, chance: float) -> None:
    pause_s = pace.after_failure(failures, chance)
    assert 1.0 <= pause_s <= 600.0
    assert pause_s <= pace.after_failure(failures + 1, chance)
    assert pace.after_failure(failures, 1.0) == 2 * pace.after_failure(failures, 0.0)
