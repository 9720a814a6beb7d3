"""Numbers and durations in words."""

from __future__ import annotations

import pytest

from openred_central.wording import counted, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "less than a second"),
        (0.0, "less than a second"),
        (0.99, "less than a second"),
        (1.5, "1 second"),
        (59.999, "59 seconds"),
        (60.0, "1 minute"),
        (3_725.0, "1 hour 2 minutes"),
        (86_400.0, "1 day"),
        (2 * 86_400.0 + 7_200.0 + 59.0, "2 days 2 hours"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes")])
def test_only_one_of_a_thing_is_in_the_singular(number: int, text: str) -> None:
    assert counted(number, "node") == text
