"""Values are shown so that people can read them."""

from __future__ import annotations

import pytest

from openred_central.cli import showing


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "now"), (59.6, "1 minute"), (3_661, "1 hour 1 minute"), (90_061, "1 day 1 hour"), (None, "-")],
)
def test_durations_have_two_units(seconds: object, shown: str) -> None:
    assert showing.span(seconds) == shown


def test_terminal_commands_are_escaped() -> None:
    assert showing.safe("\x1b]0;owned\x07\u202e") == r"\x1b]0;owned\x07\u202e"
