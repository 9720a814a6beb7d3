"""`register` shows what became of the registration."""

from __future__ import annotations

from openred_central.cli.register import show

from .desk import PLAIN


def test_a_registration_shows_whether_it_is_durable() -> None:
    assert "durable\tyes" in show({"durable": True}, PLAIN)
