"""Requests that prove who sends them: signed ones, and those with a session. They are of nodes of `Signers`.

Signed heartbeats are of all nodes in turn. Sessions are of one node for each connection, as in real life: its
head then stays the same until the server grants another session, which is used from then on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import orjson

from ..signers import ED25519, RSA, Signers
from .requests import Source, Target, post

TOKEN_PATH = "/security/token"
_SESSION = b'"session":"'

# The session of each of a generator's connections, by the number of the connection.
Sessions = Mapping[int, str]


class SignedHeartbeats:
    """Signs of life, each signed: some of them beforehand, all others when they are sent."""

    def __init__(self, target: Target, kind: str) -> None:
        self._target = target
        self._kind = kind
        # Generators begin apart from each other, so that all nodes sign as often.
        self._next = target.generator * target.nodes // target.generators
        self._stock = deque(self._sign() for _ in range(target.stock))

    def __call__(self, connection: int) -> bytes:
        return self._stock.popleft() if self._stock else self._sign()

    def _sign(self) -> bytes:
        target, number = self._target, self._next
        self._next = (number + 1) % target.nodes
        path = f"/heartbeat/{_signers(target).node_id(self._kind, number)}"
        return _signed(target, self._kind, number, path)


class WithSession:
    """Requests of one node for each connection, made by `make` of the number of the node."""

    def __init__(
        self, target: Target, sessions: Sessions, make: Callable[[Target, int], tuple[str, bytes]]
    ) -> None:
        self._target = target
        self._make = make
        self._sessions = {connection: session.encode() for connection, session in sessions.items()}
        self._requests = {connection: self._request(connection) for connection in sessions}

    def __call__(self, connection: int) -> bytes:
        return self._requests[connection]

    def heard(self, connection: int, body: bytes) -> None:
        """Take over the session that an answer grants, if it is another one."""
        start = body.find(_SESSION) + len(_SESSION)
        if start < len(_SESSION):
            return
        session = body[start : body.index(b'"', start)]
        if session != self._sessions[connection]:
            self._sessions[connection] = session
            self._requests[connection] = self._request(connection)

    def _request(self, connection: int) -> bytes:
        path, body = self._make(self._target, self._target.own_node(connection))
        fields = f"Authorization: OpenRed {self._sessions[connection].decode()}\r\n"
        return post(self._target, path, body, fields)


def _signers(target: Target) -> Signers:
    assert target.signers is not None, "these kinds are of nodes whose keys the load holds"
    return target.signers


def _signed(target: Target, kind: str, number: int, path: str, body: bytes = b"") -> bytes:
    fields = _signers(target).signed(kind, number, target.host, f"{target.prefix}{path}", body)
    return post(target, path, body, fields)


def _heartbeat(target: Target, number: int) -> tuple[str, bytes]:
    return f"/heartbeat/{_signers(target).node_id(ED25519, number)}", b""


def _token(target: Target, number: int) -> tuple[str, bytes]:
    return TOKEN_PATH, orjson.dumps({"node_id": _signers(target).node_id(ED25519, number)})


def _pair(target: Target, number: int) -> tuple[str, bytes]:
    signers, peer = _signers(target), (number + 1) % target.nodes
    named = {"node_id": signers.node_id(ED25519, number), "peer_id": signers.node_id(ED25519, peer)}
    return TOKEN_PATH, orjson.dumps(named)


SIGNED_KINDS: dict[str, tuple[str, Callable[[Target], Source]]] = {
    "signed_ed25519": (ED25519, partial(SignedHeartbeats, kind=ED25519)),
    "signed_rsa": (RSA, partial(SignedHeartbeats, kind=RSA)),
}
SESSION_KINDS: dict[str, Callable[[Target, Sessions], WithSession]] = {
    "session": partial(WithSession, make=_heartbeat),
    "token": partial(WithSession, make=_token),
    "token_pair": partial(WithSession, make=_pair),
}
# What does not renew its session.
TOKEN_KINDS = {"token", "token_pair"}


def session_requests(target: Target, connections: int) -> Iterator[bytes]:
    """A signed request for a session by each node that a connection of this generator is of."""
    for number in dict.fromkeys(map(target.own_node, range(connections))):
        asked = {"node_id": _signers(target).node_id(ED25519, number), "purpose": "session"}
        yield _signed(target, ED25519, number, TOKEN_PATH, orjson.dumps(asked))


def signed_registrations(target: Target, kind: str) -> Iterator[bytes]:
    """The requests that register all nodes whose keys are of this kind, signed, which binds them to it."""
    for number in range(target.nodes):
        body = orjson.dumps(_signers(target).document(kind, number))
        yield _signed(target, kind, number, "/register", body)
