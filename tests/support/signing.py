"""Nodes with keys, which sign what they send to a real server."""

from __future__ import annotations

import os
import time
from typing import Any

import orjson

from openred_central.security.signing import PrivateKey, signed_headers
from tests.support.running import Client, Server, until
from tests.support.world import Reply

Fields = dict[str, str]


class Node:
    """A node called `node_id`, which speaks to `server` over one connection of its own."""

    def __init__(self, server: Server, node_id: str, key: PrivateKey | None = None) -> None:
        self.node_id = node_id
        self.key = key or PrivateKey.generate_ed25519()
        self.authority = "{}:{}".format(*server.address)
        self.client = Client(server.address)

    @property
    def path(self) -> str:
        """Where it is shown."""
        return f"/nodes/{self.node_id}"

    @property
    def beat(self) -> str:
        """Where it says that it lives."""
        return f"/heartbeat/{self.node_id}"

    def headers(self, method: str, path: str, content: bytes = b"", *, created: int | None = None) -> Fields:
        """Return the header fields that sign a request as of now, as `Client.ask` takes them."""
        created, nonce = int(time.time()) if created is None else created, os.urandom(16).hex()
        signed = signed_headers(method, self.authority, path, content, self.key, created, nonce)
        return {name.replace("-", "_"): value for name, value in signed}

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        """Send a signed request."""
        content = b"" if body is None else orjson.dumps(body)
        return self.client.ask(method, path, content or None, **self.headers(method, path, content))

    def register(self, **fields: Any) -> Reply:
        """Register under the key, which binds the node to it."""
        body = {"node_id": self.node_id, "address": "192.0.2.1", "port": 8001, **fields}
        return self.ask("POST", "/register", {**body, "public_key": self.key.public_text})

    def close(self) -> None:
        with self.client:
            pass


def wait_for_the_next_second() -> None:
    """Let a second begin in which the server was running already: it refuses older signatures."""
    second = int(time.time())
    until(lambda: int(time.time()) > second, "the next second")
