"""What becomes of nodes is logged, and very much of it as counts."""

from __future__ import annotations

import logging

import pytest

from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import Transition
from openred_central.transition_log import TRANSITIONS_LOGGED_MAX, log_transitions


def fallen_silent(count: int) -> list[Transition]:
    return [
        Transition(0.0, 0.0, f"node-{number}", State.ACTIVE, State.PENDING_FIRST_CHECK, "deadline")
        for number in range(count)
    ]


def test_each_transition_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_transitions(fallen_silent(TRANSITIONS_LOGGED_MAX))
    assert caplog.messages == [
        f"node node-{number}: active → pending_1st (deadline)" for number in range(TRANSITIONS_LOGGED_MAX)
    ]


def test_very_many_transitions_are_logged_as_counts(caplog: pytest.LogCaptureFixture) -> None:
    gone = [Transition(0.0, 0.0, "gone", State.COMA, State.DEAD, "deadline")]
    with caplog.at_level(logging.INFO):
        log_transitions(fallen_silent(1_000) + gone)
    assert caplog.messages == [
        "1000 nodes: active → pending_1st (deadline)",
        "1 node: coma → dead (deadline)",
    ]
