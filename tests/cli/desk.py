"""A command line whose directory answers as a test says, and styles of output."""

from __future__ import annotations

from typing import Any

import pytest

from openred_central.cli import request_command
from openred_central.cli.console import Style
from openred_central.cli.main import commands, make_parser
from openred_central.client import Client
from tests.support.console import Recorded
from tests.support.fake_server import FakeServer, Handler, Told

COMMANDS = commands(("register", "heartbeat", "discover", "node", "stats", "analytics", "leave"))
PARSER = make_parser(COMMANDS.values())
PLAIN, TERMINAL, COLOURED = Style(), Style(terminal=True), Style(terminal=True, colour=True)


class Desk:
    """A command line whose directory is the function `handler`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, handler: Handler, environment: dict[str, str] | None = None
    ) -> None:
        self.server = FakeServer(handler)
        self._recorded = Recorded(clock=self.server.clock, environment=environment)
        self.said, self.complaints = self._recorded.said, self._recorded.complaints
        self.urls: list[str] = []

        def client(url: str, key: Any, **options: Any) -> Client:
            self.urls.append(url)
            return Client(self.server.connections(), key, sleep=self.server.sleep, **options)

        monkeypatch.setattr(request_command, "Client", client)

    def run(self, *words: str) -> int:
        return COMMANDS[words[0]].run(PARSER.parse_args(words), self._recorded.console)


def ok(_: object) -> Told:
    return 200, {"node_id": "x"}
