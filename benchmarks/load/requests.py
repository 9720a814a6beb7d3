"""The requests of the load, one source for each kind. A new kind is a function and its line in
`kinds.PLAIN_KINDS`; those that prove who sends them are in `proofs`.

A source is asked for a request with the number of the connection that will send it.
"""

from __future__ import annotations

import random
from base64 import encodebytes
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple
from urllib.parse import quote

import orjson

from ..population import document, node_id
from ..signers import Signers

# Devices that announce themselves, and the length of an elliptic-curve certificate of theirs.
DEVICES_MAX = 1_000
CERTIFICATE_BYTES = 512

Source = Callable[[int], bytes]


class Target(NamedTuple):
    """What a source needs to know. `nodes` are registered; `run` begins the names of those it registers.

    Of the nodes of `signers` there are as many of each kind. This is generator number `generator` of
    `generators`; before its run it signs `stock` requests of each kind that is signed.
    """

    host: str
    nodes: int
    services: tuple[str, ...]
    run: str
    chance: random.Random
    prefix: str = ""
    signers: Signers | None = None
    generator: int = 0
    generators: int = 1
    stock: int = 0

    def own_node(self, connection: int) -> int:
        """The number of the node to which a connection of this generator belongs, where it is one's own."""
        return (connection * self.generators + self.generator) % self.nodes


def get(target: Target, path: str) -> bytes:
    return f"GET {target.prefix}{path} HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode()


def post(target: Target, path: str, body: bytes, fields: str = "") -> bytes:
    """`fields` are further ones, each with its line ending."""
    head = f"POST {target.prefix}{path} HTTP/1.1\r\nHost: {target.host}\r\n{fields}"
    if body:
        head += "Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def heartbeat(target: Target) -> Source:
    """A sign of life of any registered node, who proves nothing."""
    before, after = post(target, "/heartbeat/node-@", b"").split(b"@")
    nodes, chance = target.nodes, target.chance.random
    return lambda connection: b"%b%010d%b" % (before, int(chance() * nodes), after)


def own_heartbeat(target: Target) -> Source:
    """The same of one node for each connection, as of nodes that keep theirs."""
    requests: dict[int, bytes] = {}

    def source(connection: int) -> bytes:
        request = requests.get(connection)
        if request is None:
            path = f"/heartbeat/{node_id(target.own_node(connection))}"
            request = requests[connection] = post(target, path, b"")
        return request

    return source


def discover(target: Target) -> Source:
    """Fifty nodes that offer all of the services asked for."""
    request = get(target, f"/discover?services={','.join(target.services)}")
    return lambda connection: request


def register(target: Target) -> Source:
    """Another new node each time."""
    numbers = count()
    # Only the name differs: to put it into ready bytes takes 0.3 µs, to encode a document 3.
    before, after = post(target, "/register", orjson.dumps(document(0, f"{target.run}-0000000"))).split(
        b"-0000000"
    )
    return lambda connection: b"%b-%07d%b" % (before, next(numbers), after)


def look_up(target: Target) -> Source:
    """All that is known of any registered node."""
    before, after = get(target, "/nodes/node-@").split(b"@")
    nodes, chance = target.nodes, target.chance.random
    return lambda connection: b"%b%010d%b" % (before, int(chance() * nodes), after)


def root(target: Target) -> Source:
    """``GET /``: what a server answers that knows nothing of nodes."""
    request = get(target, "/")
    return lambda connection: request


def announce(target: Target) -> Source:
    """What a heartbeat is to Syncthing's discovery server: a device tells its address, by its certificate.

    Behind a proxy the certificate comes in a header; only its hash is looked at.
    """
    body = b'{"addresses":["tcp://192.0.2.1:22000"]}'
    requests = []
    for number in range(min(target.nodes, DEVICES_MAX)):
        lines = encodebytes(number.to_bytes(CERTIFICATE_BYTES, "big")).decode()
        pem = quote(f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
        head = f"POST {target.prefix}/ HTTP/1.1\r\nHost: {target.host}\r\nX-SSL-Cert: {pem}\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    choice = target.chance.choice
    return lambda connection: choice(requests)


def registrations(target: Target, numbers: range) -> Iterator[bytes]:
    """The requests that register the nodes of these numbers. To repeat them changes nothing."""
    return (post(target, "/register", orjson.dumps(document(number))) for number in numbers)
