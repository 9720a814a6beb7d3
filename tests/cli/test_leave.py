"""`leave` shows what became of the node."""

from __future__ import annotations

from openred_central.cli.leave import show

from .desk import PLAIN


def test_a_departure_shows_its_status() -> None:
    assert "status\tleft" in show({"status": "left"}, PLAIN)
