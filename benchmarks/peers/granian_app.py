"""The plain directory on Granian over RSGI, its fastest interface: one worker with uvloop."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops

from .plain import PlainDirectory, problem, read_options

# The worker of Granian is another process, which imports this module again.
NODES = "BENCHMARK_NODES"
HEADERS = [("content-type", "application/json")]


class Application:
    """An RSGI application with the three routes."""

    def __init__(self, directory: PlainDirectory) -> None:
        self._directory = directory

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        path, method = scope.path, scope.method
        if method == "POST" and path.startswith("/heartbeat/"):
            status, body = self._directory.heartbeat(path[11:])
        elif method == "GET" and path == "/discover":
            query = parse_qs(scope.query_string)
            status, body = self._directory.discover(query["services"][0])
        elif method == "POST" and path == "/register":
            status, body = self._directory.register(await protocol())
        else:
            status, body = problem(404, "not_found")
        protocol.response_bytes(status, HEADERS, body)


def application() -> Application:
    """Return the application of a worker."""
    return Application(PlainDirectory(int(os.environ[NODES])))


if __name__ == "__main__":
    options = read_options()
    os.environ[NODES] = str(options.nodes)
    Granian(
        "benchmarks.peers.granian_app:application",
        address="127.0.0.1",
        port=options.port,
        interface=Interfaces.RSGI,
        factory=True,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        backlog=4_096,
        # The maximum of connections; the default is the backlog.
        backpressure=20_000,
        log_enabled=False,
    ).serve()
