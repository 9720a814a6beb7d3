"""Options of a run, and the requests that it sends: one source for each kind.

A source is called with the number of a connection and returns the request that this connection sends next. A
new kind is a function or class and its line in `KINDS`.

Signed requests and sessions are those of `Signers`. Signed heartbeats are of all nodes in turn. Sessions are
of one node for each connection, so that its head stays the same until the server grants another session.
"""

from __future__ import annotations

import random
import ssl
from base64 import encodebytes
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from itertools import count
from typing import NamedTuple
from urllib.parse import quote

import orjson

from openred_central import __version__
from openred_central.directory.lifecycle import LIVE_STATES, State

from ..population import REGISTERED_AT, document, node_id
from ..signers import ED25519, RSA, Signers

SHARE_MAX = 10_000
# Devices that announce themselves to stdiscosrv, and the length of their certificate of an elliptic curve.
DEVICES_MAX = 1_000
CERTIFICATE_BYTES = 512
TOKEN_PATH = "/security/token"
# Services of the population that varied discoveries ask for, alone and together.
ASKED_SERVICES = (("storage",), ("relay",), ("index",), ("relay", "storage"), ("index", "storage"))
SEEN_WITHIN_S = 180 * 86_400
REGIONS = 1_000
_SESSION = b'"session":"'

Source = Callable[[int], bytes]
# The session of each of a generator's connections, by the number of the connection.
Sessions = Mapping[int, str]


class LoadError(Exception):
    """A load that cannot be run. The message is one line with the reason."""


class LoadOptions(NamedTuple):
    """A run of generator number `generator` of `generators`, which share `rate`; None is a closed loop.

    `nodes` are registered first, and as many of `signers` for each kind of key; `run` begins the ids of nodes
    that the run itself registers. Each generator signs `stock` requests of each signed kind before it starts.
    Idle connections send one of `idle_requests` each, in turn, and must be answered with 200. Each request of
    the kinds in `fresh` has a connection of its own. With `tls` no certificate is checked.
    """

    host: str
    port: int
    mix: dict[str, int]
    nodes: int = 1_000
    services: tuple[str, ...] = ("storage",)
    rate: float | None = None
    duration_s: float = 10.0
    warm_up_s: float = 0.5
    connections: int = 64
    idle_connections: int = 0
    idle_requests: Sequence[bytes] = ()
    pipeline: int = 1
    fresh: Collection[str] = ()
    tls: bool = False
    prefix: str = ""
    run: str = "load"
    seed: int = 0
    generator: int = 0
    generators: int = 1
    signers: Signers | None = None
    sessions: Sessions | None = None
    stock: int = 0

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def chance(self) -> random.Random:
        """Return the source of random choices of this generator."""
        return random.Random(f"{self.seed}/{self.generator}")

    def own_node(self, connection: int) -> int:
        """Return the number of the node that a connection of this generator belongs to."""
        return (connection * self.generators + self.generator) % self.nodes

    def proven_id(self, kind: str, number: int) -> str:
        """Return the id of the node `number` with a key of this kind."""
        return self._signers().node_id(kind, number)

    def get(self, path: str) -> bytes:
        return f"GET {self.prefix}{path} HTTP/1.1\r\nHost: {self.authority}\r\n\r\n".encode()

    def post(self, path: str, body: bytes = b"", fields: str = "") -> bytes:
        """Return a POST request; `fields` are further header lines, each with its line ending."""
        head = f"POST {self.prefix}{path} HTTP/1.1\r\nHost: {self.authority}\r\n{fields}"
        if body:
            head += "Content-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def signed_post(self, kind: str, number: int, path: str, body: bytes = b"") -> bytes:
        """Return a POST request that the node `number` with a key of this kind signs now."""
        fields = self._signers().signed(kind, number, self.authority, f"{self.prefix}{path}", body)
        return self.post(path, body, fields)

    def registrations(self) -> Iterator[bytes]:
        """Yield the requests that register all nodes of the run; signed ones bind a node to its key."""
        if any(KINDS[kind].of_nodes for kind in self.mix):
            for number in range(self.nodes):
                yield self.post("/register", orjson.dumps(document(number)))
        for key in sorted(keys_needed(self.mix)):
            for number in range(self.nodes):
                body = orjson.dumps(self._signers().document(key, number))
                yield self.signed_post(key, number, "/register", body)

    def session_requests(self) -> Iterator[bytes]:
        """Yield a signed request for a session for each node that a connection belongs to."""
        for number in dict.fromkeys(map(self.own_node, range(self.connections))):
            asked = {"node_id": self.proven_id(ED25519, number), "purpose": "session"}
            yield self.signed_post(ED25519, number, TOKEN_PATH, orjson.dumps(asked))

    def _signers(self) -> Signers:
        assert self.signers is not None, "a mix with signed kinds or sessions needs signers"
        return self.signers


@cache
def tls_context() -> ssl.SSLContext:
    """Return what opens connections over TLS without a look at the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def parse_mix(text: str) -> dict[str, int]:
    """Return kind → share of a mix such as ``heartbeat=80,discover=20``; a kind alone has the share 1.

    Raises `LoadError`.
    """
    shares: dict[str, int] = {}
    for part in text.split(","):
        kind, given, share = (piece.strip() for piece in part.partition("="))
        if kind not in KINDS:
            raise LoadError(f"{kind!r} is no kind of request; the kinds are {', '.join(KINDS)}")
        if kind in shares:
            raise LoadError(f"{kind} stands in the mix twice; give its whole share once")
        if given and not (share.isascii() and share.isdecimal() and 0 < int(share) <= SHARE_MAX):
            raise LoadError(f"the share of {kind} is {share!r}, allowed is a whole number, 1 to {SHARE_MAX}")
        shares[kind] = int(share) if given else 1
    return shares


def deal(shares: dict[str, int], chance: random.Random) -> list[str]:
    """Return one round of a mix, shuffled: each kind as often as its share."""
    dealt = [kind for kind, share in shares.items() for _ in range(share)]
    chance.shuffle(dealt)
    return dealt


def _any_node(request: bytes, options: LoadOptions) -> Source:
    """Return a source that puts the number of a random registered node in the place of ``@``."""
    before, after = request.split(b"@")
    nodes, chance = options.nodes, options.chance().random
    return lambda connection: b"%b%010d%b" % (before, int(chance() * nodes), after)


def heartbeat(options: LoadOptions) -> Source:
    """Send unproven heartbeats of random registered nodes."""
    return _any_node(options.post("/heartbeat/node-@"), options)


def own_heartbeat(options: LoadOptions) -> Source:
    """Send unproven heartbeats, each connection those of one node."""
    requests: dict[int, bytes] = {}

    def source(connection: int) -> bytes:
        request = requests.get(connection)
        if request is None:
            path = f"/heartbeat/{node_id(options.own_node(connection))}"
            request = requests[connection] = options.post(path)
        return request

    return source


def proxied(options: LoadOptions) -> Source:
    """Send heartbeats of our Python client as nginx passes them on, each of a random node with its address.

    nginx is configured as in the documents: its own fields come first, then what is left of the client's.
    """
    fields = "X-Forwarded-For: 192.0.@\r\nX-Request-Id: @\r\n"
    node, address, request_id, rest = options.post("/heartbeat/node-@", fields=fields).split(b"@")
    rest = rest[:-2] + b"User-Agent: openred-central/%b\r\nAccept: application/json\r\n\r\n" % (
        __version__.encode()
    )
    chance, nodes = options.chance(), options.nodes
    random, bits = chance.random, chance.getrandbits

    def source(connection: int) -> bytes:
        number = int(random() * nodes)
        return b"%b%010d%b%d.%d%b%032x%b" % (
            node, number, address, number // 256 % 256, number % 256, request_id, bits(128), rest
        )  # fmt: skip

    return source


def discover_varied(options: LoadOptions) -> Source:
    """Ask for fifty nodes, with another question each time.

    Services come in any order. Half of the questions name the time since when a node must have been seen, the
    others the states in which it may be or the region that is preferred.
    """
    chance, more = options.chance(), [state for state in LIVE_STATES if state != State.ACTIVE]

    def question() -> str:
        services = list(chance.choice(ASKED_SERVICES))
        chance.shuffle(services)
        asked = f"services={','.join(services)}&max_results=50"
        kind = chance.randrange(4)
        if kind < 2:
            seen = datetime.fromtimestamp(REGISTERED_AT - chance.randrange(SEEN_WITHIN_S), UTC)
            return f"{asked}&min_last_seen={seen:%Y-%m-%dT%H:%M:%SZ}"
        if kind == 2:
            states = [State.ACTIVE, *chance.sample(more, chance.randrange(len(more)))]
            chance.shuffle(states)
            return f"{asked}&states={','.join(state.wire for state in states)}"
        return f"{asked}&near=region-{chance.randrange(REGIONS)}"

    before, after = options.get("/discover?@").split(b"@")
    return lambda connection: b"%b%b%b" % (before, question().encode(), after)


def discover(options: LoadOptions) -> Source:
    """Ask for fifty nodes that offer all of the services."""
    request = options.get(f"/discover?services={','.join(options.services)}")
    return lambda connection: request


def register(options: LoadOptions) -> Source:
    """Register a new node with each request."""
    numbers = count()
    # Only the name differs: no request has to be encoded anew.
    body = orjson.dumps(document(0, f"{options.run}-{options.generator}-0000000"))
    before, after = options.post("/register", body).split(b"-0000000")
    return lambda connection: b"%b-%07d%b" % (before, next(numbers), after)


def look_up(options: LoadOptions) -> Source:
    """Look up random registered nodes."""
    return _any_node(options.get("/nodes/node-@"), options)


def root(options: LoadOptions) -> Source:
    """Send ``GET /``, which any server answers."""
    request = options.get("/")
    return lambda connection: request


def announce(options: LoadOptions) -> Source:
    """Announce addresses to Syncthing's discovery server, its counterpart of a heartbeat.

    Behind a proxy the certificate of the device stands in a header; the server looks only at its hash.
    """
    requests = []
    for number in range(min(options.nodes, DEVICES_MAX)):
        lines = encodebytes(number.to_bytes(CERTIFICATE_BYTES, "big")).decode()
        pem = quote(f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
        body = b'{"addresses":["tcp://192.0.2.1:22000"]}'
        requests.append(options.post("/", body, f"X-SSL-Cert: {pem}\r\n"))
    choice = options.chance().choice
    return lambda connection: choice(requests)


class SignedHeartbeats:
    """Signed heartbeats: `stock` of them signed beforehand, all others when they are sent."""

    def __init__(self, options: LoadOptions, kind: str) -> None:
        self._options = options
        self._kind = kind
        # Generators start apart from each other, so that all nodes sign equally often.
        self._next = options.generator * options.nodes // options.generators
        self._stock = deque(self._sign() for _ in range(options.stock))

    def __call__(self, connection: int) -> bytes:
        return self._stock.popleft() if self._stock else self._sign()

    def _sign(self) -> bytes:
        number = self._next
        self._next = (number + 1) % self._options.nodes
        path = f"/heartbeat/{self._options.proven_id(self._kind, number)}"
        return self._options.signed_post(self._kind, number, path)


class WithSession:
    """Requests of one node for each connection: `make` returns path and body for the number of the node."""

    def __init__(self, options: LoadOptions, make: Callable[[LoadOptions, int], tuple[str, bytes]]) -> None:
        self._options = options
        self._make = make
        sessions = options.sessions or {}
        self._sessions = {connection: session.encode() for connection, session in sessions.items()}
        self._requests = {connection: self._request(connection) for connection in self._sessions}

    def __call__(self, connection: int) -> bytes:
        return self._requests[connection]

    def take_answer(self, connection: int, body: bytes) -> None:
        """Use the session that an answer grants from now on."""
        start = body.find(_SESSION) + len(_SESSION)
        if start < len(_SESSION):
            return
        session = body[start : body.index(b'"', start)]
        if session != self._sessions[connection]:
            self._sessions[connection] = session
            self._requests[connection] = self._request(connection)

    def _request(self, connection: int) -> bytes:
        path, body = self._make(self._options, self._options.own_node(connection))
        session = self._sessions[connection].decode()
        return self._options.post(path, body, f"Authorization: OpenRed {session}\r\n")


def _heartbeat(options: LoadOptions, number: int) -> tuple[str, bytes]:
    return f"/heartbeat/{options.proven_id(ED25519, number)}", b""


def _token(options: LoadOptions, number: int) -> tuple[str, bytes]:
    return TOKEN_PATH, orjson.dumps({"node_id": options.proven_id(ED25519, number)})


def _pair(options: LoadOptions, number: int) -> tuple[str, bytes]:
    peer = options.proven_id(ED25519, (number + 1) % options.nodes)
    return TOKEN_PATH, orjson.dumps({"node_id": options.proven_id(ED25519, number), "peer_id": peer})


class Kind(NamedTuple):
    """A kind of request, and what it needs: registered nodes, nodes with a kind of `key`, sessions."""

    source: Callable[[LoadOptions], Source]
    of_nodes: bool = False
    key: str = ""
    with_session: bool = False
    is_token: bool = False


KINDS = {
    "heartbeat": Kind(heartbeat, of_nodes=True),
    "own_heartbeat": Kind(own_heartbeat, of_nodes=True),
    "proxied": Kind(proxied, of_nodes=True),
    "discover": Kind(discover, of_nodes=True),
    "discover_varied": Kind(discover_varied, of_nodes=True),
    "register": Kind(register),
    "look_up": Kind(look_up, of_nodes=True),
    "root": Kind(root),
    "announce": Kind(announce),
    "session": Kind(partial(WithSession, make=_heartbeat), key=ED25519, with_session=True),
    "token": Kind(partial(WithSession, make=_token), key=ED25519, with_session=True, is_token=True),
    "token_pair": Kind(partial(WithSession, make=_pair), key=ED25519, with_session=True, is_token=True),
    "signed_ed25519": Kind(partial(SignedHeartbeats, kind=ED25519), key=ED25519),
    "signed_rsa": Kind(partial(SignedHeartbeats, kind=RSA), key=RSA),
}


def keys_needed(kinds: Collection[str]) -> set[str]:
    """Return the kinds of keys of the nodes that these kinds of requests need."""
    return {KINDS[kind].key for kind in kinds} - {""}
