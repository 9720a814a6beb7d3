"""Servers for the tests of this folder. Each is stopped at the end of its test, and has to end well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .running import Server

Start = Callable[..., Server]


@contextmanager
def servers_in(folder: Path) -> Iterator[Start]:
    """Lets servers be started whose files lie in `folder`; in the end, those that run have to stop well."""
    servers: list[Server] = []

    def run(*flags: str, database: str = "nodes.db", ready: bool = True, **options: Any) -> Server:
        given = ["--port", "0", "--admin-port", "off", "--database", str(folder / database), *flags]
        server = Server(folder / f"server-{len(servers) + 1}.log", given, **options)
        servers.append(server)
        return server.wait_ready() if ready else server

    try:
        yield run
    finally:
        for server in servers:
            print(f"--- log of the server with process id {server.process.pid}:\n{server.log[-20_000:]}")
        running = [server for server in servers if server.running]
        try:
            for server in running:
                server.stop()
        finally:
            for server in running:
                server.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server: flags as arguments, variables as keywords; `database` is its file's name.

    `ready=False` does not wait until it listens. Whatever the servers wrote is shown where the test fails.
    """
    with servers_in(tmp_path) as run:
        yield run
