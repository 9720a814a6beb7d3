"""`heartbeat` reports each answer, and goes on if it should."""

from __future__ import annotations

import pytest

from openred_central.cli.heartbeat import show
from tests.support.fake_server import Told

from .desk import PLAIN, Desk


def test_a_node_is_kept_alive_until_interrupted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    answers: list[Told] = [(200, {"revision": 2}), (200, {"heartbeat_advice_s": 60}), (503, {}), (410, {})]
    desk = Desk(monkeypatch, lambda _: answers.pop(0))
    assert desk.run("heartbeat", "--key", key, "--keep-alive", "--port", "9") == 1
    assert len(desk.said) == 2
    assert [complaint[:8] for complaint in desk.complaints] == ["503 http", "http_410"]
    assert 54 <= desk.server.waited_s[0] <= 60


def test_answers_name_the_next_heartbeat() -> None:
    answer = {"node_id": "a", "current_state": "active", "heartbeat_advice_s": 90_000, "message": "Noted."}
    assert show(answer, PLAIN).splitlines() == [
        *("node\ta", "state\tactive", "before\t-", "heartbeat due\t-", "advised\tevery 1 day 1 hour"),
        "says\tNoted.",
    ]
