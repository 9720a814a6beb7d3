"""Spans in one byte are never shorter than what they stand for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.lifecycle import DWELL_S_MAX
from openred_central.directory.octaves import CODE_MAX, STEPS_PER_OCTAVE, code_of, seconds_of


@given(st.floats(0, seconds_of(CODE_MAX)))
def test_a_span_is_rounded_up_to_the_next_step(seconds: float) -> None:
    code = code_of(seconds)
    assert seconds_of(code) >= seconds
    assert code == 0 or seconds_of(code - 1) < seconds


@given(st.integers(0, CODE_MAX))
def test_a_code_stays_as_it_is(code: int) -> None:
    assert code_of(seconds_of(code)) == code


def test_the_steps_are_an_eighth_of_an_octave() -> None:
    assert (code_of(0), code_of(0.001), seconds_of(0), seconds_of(1)) == (0, 1, 0.0, 60.0)
    for code in range(1, CODE_MAX + 1 - STEPS_PER_OCTAVE):
        assert abs(seconds_of(code + STEPS_PER_OCTAVE) - 2 * seconds_of(code)) <= 2
    assert code_of(DWELL_S_MAX) < CODE_MAX
    assert code_of(1e300) == CODE_MAX
