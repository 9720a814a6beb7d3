"""The settings of a run are shown with their origin, and no secret is among them."""

from __future__ import annotations

import argparse

from openred_central.cli.main import commands
from tests.support.console import Recorded


def shown(**environment: str) -> str:
    recorded = Recorded(environment=environment)
    assert commands(["config"])["config"].run(argparse.Namespace(markdown=False), recorded.console) == 0
    return "\n".join(recorded.said)


def test_a_password_in_a_url_is_not_shown() -> None:
    text = shown(OPENRED_DATABASE="postgresql://openred:hunter2@host/name", OPENRED_KEY_SECRET_FILE="secret")
    assert "hunter2" not in text
    assert "postgresql://openred:***@host/name" in text


def test_a_path_is_shown_as_it_is() -> None:
    assert "data/other.db" in shown(OPENRED_DATABASE="data/other.db")
