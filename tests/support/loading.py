"""Clients that change a directory and give signs of life, in threads, and note each answer in a `History`."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

import orjson

from openred_central.security.signing import PrivateKey, rotation_headers, signed_headers
from tests.support.history import GONE, Beat, Change, History, Outcome, Shown, outcome_of
from tests.support.running import WAIT_S_MAX, until
from tests.support.world import Reply

# Signatures are for this name, so that each may be sent to every instance.
AUTHORITY = "directory.test"
# Longer than any answer of an instance may take.
ANSWER_S_MAX = 20.0
PAUSE_S = 0.02
PORT = 8_001


class Place(Protocol):
    """A server that can be asked."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> tuple[str, int]: ...


class Caller:
    """A client of a cluster: it keeps one connection, and turns to another instance when that breaks."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = list(places)
        self._connection: http.client.HTTPConnection | None = None

    @property
    def place(self) -> Place:
        """The one that is asked next."""
        return self._places[0]

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connection; it may be used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def connect(self) -> bool:
        """Tell whether an instance takes the connection; each call tries one."""
        if self._connection is not None:
            return True
        connection = http.client.HTTPConnection(*self.place.address, timeout=ANSWER_S_MAX)
        try:
            connection.connect()
        except OSError:
            self.turn()
            return False
        self._connection = connection
        return True

    def turn(self) -> None:
        """Ask another instance from now on."""
        self.close()
        self._places.append(self._places.pop(0))

    def ask(
        self, method: str, target: str, body: Any = None, fields: dict[str, str] | None = None
    ) -> Reply | None:
        """Return the answer to one request, None where the connection broke; `connect` comes before.

        `body` is made JSON unless it is bytes.
        """
        assert self._connection is not None
        content = body if isinstance(body, bytes | None) else orjson.dumps(body)
        headers = {"Host": AUTHORITY, **(fields or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            self._connection.request(method, target, content, headers)
            response = self._connection.getresponse()
            received = response.read()
        except (OSError, http.client.HTTPException):
            self.turn()
            return None
        if response.will_close:
            self.close()
        document = orjson.loads(received) if received else None
        return Reply(
            response.status, document, response.getheader("Content-Type"), dict(response.getheaders())
        )


class Loop(threading.Thread):
    """A thread that does `once` again and again until told to end; `failure` is what it raised."""

    def __init__(self, places: Iterable[Place]) -> None:
        super().__init__(daemon=True)
        self.caller = Caller(places)
        self.ending = threading.Event()
        self.failure: BaseException | None = None

    def once(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self.ending.wait(PAUSE_S):
                self.once()
        except BaseException as error:
            self.failure = error
        finally:
            self.caller.close()


class Writer(Loop):
    """Lets one node after the other live: registers it, then changes it, or its key, or lets it depart.

    A node whose change has an unknown outcome is left alone. `history` gets all of it.
    """

    def __init__(self, history: History, places: Iterable[Place], name: str) -> None:
        super().__init__(places)
        self._history = history
        self._name = name
        self._number = 0

    def once(self) -> None:
        if not self.caller.connect():
            return
        self._number += 1
        node_id, key = f"{self._name}-{self._number}", f"key of {self._name}-{self._number}"
        there = Shown("active", key, PORT)
        # Only a node that is where its record says is told its claim again.
        body = {"node_id": node_id, "address": "127.0.0.1", "port": PORT, "public_key": key}
        reply = self._change(node_id, "register", there, "POST", "/register", body)
        if outcome_of_reply(reply) is Outcome.UNKNOWN:
            # Said once more it is no other registration, and is told its claim.
            reply = self._change(node_id, "register again", there, "POST", "/register", body)
        if reply is None or reply.status not in (200, 201):
            return
        claim = {"Authorization": f"Claim {reply.document['claim']}"}
        path = f"/nodes/{node_id}"
        match self._number % 4:
            case 0:
                moved = there._replace(port=PORT + 1)
                self._change(
                    node_id, "move", moved, "POST", f"/heartbeat/{node_id}", {"port": PORT + 1}, claim
                )
            case 1:
                self._change_key(node_id, there, claim)
            case 2:
                left = there._replace(state="coma")
                self._change(node_id, "leave", left, "DELETE", f"{path}?mode=leave", None, claim)
            case 3:
                self._change(node_id, "forget", GONE, "DELETE", f"{path}?mode=forget", None, claim)

    def _change_key(self, node_id: str, there: Shown, claim: dict[str, str]) -> None:
        key = PrivateKey.generate_ed25519()
        after = there._replace(key=key.public_text)
        path, body = f"/nodes/{node_id}/key", {"public_key": key.public_text}
        for _ in range(3):
            signed = rotation_headers(
                AUTHORITY, path, orjson.dumps(body), None, key, int(time.time()), os.urandom(16).hex()
            )
            reply = self._change(node_id, "key", after, "POST", path, body, {**dict(signed), **claim})
            if reply is None or reply.document.get("reason") != "signature_expired":
                break
            # A term began in this very second, and accepts nothing that was signed before it.
            self.ending.wait(1.0)
        if reply is not None and reply.status == 200 and self.caller.connect():
            moved = after._replace(port=PORT + 2)
            beat = f"/heartbeat/{node_id}"
            self._change(node_id, "former claim", moved, "POST", beat, {"port": PORT + 2}, claim, may=False)

    def _change(
        self,
        node_id: str,
        what: str,
        after: Shown,
        method: str,
        target: str,
        body: Any,
        fields: dict[str, str] | None = None,
        *,
        may: bool = True,
    ) -> Reply | None:
        if not self.caller.connect():
            return None
        name, sent_s = self.caller.place.name, time.monotonic()
        reply = self.caller.ask(method, target, body, fields)
        status, error, seq = None, None, None
        if reply is not None:
            status, seq = reply.status, reply.headers.get("OpenRed-Seq")
            error = error_of(reply)
            if reply.document.get("reason") == "signature_expired":
                may = False
        self._history.changes.append(
            Change(node_id, what, after, name, sent_s, time.monotonic(), status, error, seq, may)
        )
        return reply


def error_of(reply: Reply) -> str | None:
    """Return the stable name of the error that an answer tells."""
    return reply.document.get("error") if reply.status >= 400 and reply.document else None


def outcome_of_reply(reply: Reply | None) -> Outcome:
    """Return what an answer, or none, says of a change."""
    return Outcome.UNKNOWN if reply is None else outcome_of(reply.status, error_of(reply))


class Beater(Loop):
    """Gives signs of life of some nodes at one instance, again and again, on connections of its own."""

    def __init__(self, history: History, place: Place, node_ids: Iterable[str]) -> None:
        super().__init__([place])
        self._history = history
        self._place = place
        self.node_ids = list(node_ids)

    def once(self) -> None:
        for node_id in self.node_ids:
            if self.ending.is_set() or not self.caller.connect():
                return
            sent_s, wall_s = time.monotonic(), time.time()
            reply = self.caller.ask("POST", f"/heartbeat/{node_id}")
            status = None if reply is None else reply.status
            self._history.beats.append(
                Beat(node_id, self._place.name, sent_s, time.monotonic(), wall_s, status)
            )


@contextmanager
def running(loops: Iterable[Loop]) -> Iterator[None]:
    """Let these run meanwhile; raise what any of them raised."""
    started = list(loops)
    for loop in started:
        loop.start()
    try:
        yield
    finally:
        for loop in started:
            loop.ending.set()
        for loop in started:
            loop.join(ANSWER_S_MAX + WAIT_S_MAX)
            assert not loop.is_alive(), "a client hangs"
    for loop in started:
        if loop.failure is not None:
            raise loop.failure


def more(history: History, count: int, wait_s: float = WAIT_S_MAX) -> None:
    """Wait until so many more changes are acknowledged."""
    before = history.acknowledged
    until(lambda: history.acknowledged >= before + count, f"{count} more changes", wait_s)


def register(place: Place, node_id: str, **fields: Any) -> dict[str, Any]:
    """Register a node; return the document that answers it."""
    body = {
        "node_id": node_id,
        "address": "192.0.2.1",
        "port": PORT,
        "public_key": f"key of {node_id}",
        **fields,
    }
    reply = answered(place, "POST", "/register", body)
    assert reply.status == 201, reply
    document: dict[str, Any] = reply.document
    return document


def ask(
    place: Place, method: str, target: str, body: Any = None, fields: dict[str, str] | None = None
) -> Reply:
    """Return the answer to one request on a connection of its own; there must be one."""
    with Caller([place]) as caller:
        until(caller.connect, f"{place.name} to accept")
        reply = caller.ask(method, target, body, fields)
    assert reply is not None, f"{place.name} broke off"
    return reply


def answered(place: Place, method: str, target: str, body: Any = None) -> Reply:
    """Return the answer to a request that is sent again while nobody leads: it was not begun then."""

    def attempt() -> Reply | None:
        reply = ask(place, method, target, body)
        return None if error_of(reply) == "no_leader" else reply

    reply: Reply = until(attempt, f"an answer of {place.name}")
    return reply


def signed(method: str, path: str, content: bytes, key: PrivateKey) -> dict[str, str]:
    """Return the header fields that sign a request as of now, for any instance."""
    return dict(signed_headers(method, AUTHORITY, path, content, key, int(time.time()), os.urandom(16).hex()))


def shown_at(place: Place, node_ids: Iterable[str]) -> tuple[dict[str, Shown], dict[str, float]]:
    """Return how a server shows these nodes, and when each was last seen; those that are gone lack."""
    shown: dict[str, Shown] = {}
    last_seen: dict[str, float] = {}
    with Caller([place]) as caller:
        for node_id in node_ids:
            until(caller.connect, f"{place.name} to accept")
            reply = caller.ask("GET", f"/nodes/{node_id}")
            assert reply is not None, f"{place.name} broke off"
            if reply.status in (404, 410):
                continue
            assert reply.status == 200, reply
            node = reply.document
            shown[node_id] = Shown(node["state"], node["public_key"], node["port"])
            last_seen[node_id] = datetime.fromisoformat(node["last_seen"]).timestamp()
    return shown, last_seen
