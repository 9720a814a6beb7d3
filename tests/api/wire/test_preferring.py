"""Preferences of callers (RFC 7240)."""

from __future__ import annotations

import pytest

from openred_central.api.wire.preferring import WAIT_S_MAX, wait_preferred_s
from openred_central.micro_engine.wire.messages import Headers, Request


@pytest.mark.parametrize(
    ("preferred", "wait_s"),
    [
        ("wait=10", 10),
        ('wait="10"', 10),
        ("Wait = 10", 10),
        ("respond-async, wait=10;x=1", 10),
        ("wait=10, wait=20", 10),
        ("wait=0", 0),
        ("wait=999999999", WAIT_S_MAX),
        ("wait=1234567890", 0),
        ("wait", 0),
        ("wait=", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=٣", 0),
        ("await=10", 0),
        ("x," * 200 + "wait=10", 0),
        ("", 0),
    ],
)
def test_the_wait_that_a_caller_prefers(preferred: str, wait_s: int) -> None:
    request = Request("GET", "/", headers=Headers((("prefer", preferred),)))
    assert wait_preferred_s(request) == wait_s


def test_without_a_preference_nobody_waits() -> None:
    assert wait_preferred_s(Request("GET", "/")) == 0
