"""Any bytes at all: an answer or the end of the connection, never a hang, and nobody else is disturbed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from tests.support.running import Answer, Client, Server, Start, answers, send

CONNECTIONS = 600
SENDERS = 4
BODY = b'{"node_id":"node-1","address":"192.0.2.1","port":8001,"public_key":"key","services":["relay"]}'
REQUESTS = (
    b"POST /register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"POST /register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    b"POST /heartbeat/node-1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    b"GET /discover?services=relay&max_results=5 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    b"GET http://localhost/nodes/node-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"DELETE /nodes/node-1?mode=forget HTTP/1.1\r\nHost: localhost\r\nAuthorization: Claim x\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\n\r\n",
)
STATUSES = {200, 201, 204, *range(400, 432), 501, 503, 505}


def mutated(source: random.Random) -> bytes:
    """Return a few requests, one behind the other, with some bytes changed, lost, doubled or put in."""
    content = bytearray(b"".join(source.choices(REQUESTS, k=source.randint(1, 4))))
    for _ in range(source.randint(1, 6)):
        place = source.randrange(len(content) + 1)
        kind = source.randrange(5)
        if kind == 0:
            content[place : place + 1] = source.randbytes(1)
        elif kind == 1:
            del content[place : place + source.randint(1, 8)]
        elif kind == 2:
            content[place:place] = content[place : place + source.randint(1, 40)]
        elif kind == 3:
            content[place:place] = source.choice((b"\r\n", b"\n", b"\0", b" ", b":", b"\r\n\r\n", b"9" * 30))
        else:
            del content[place:]
    return bytes(content)


def noise(source: random.Random) -> bytes:
    """Bytes without any sense, few or many."""
    return source.randbytes(source.choice((1, 10, 200, 5_000, 60_000)))


def odd_but_framed(source: random.Random) -> bytes:
    """Return one request whose framing is right and whose content is anything."""
    body = source.choice((noise, mutated))(source)[:2_000]
    name = "".join(source.choices("abcXYZ019-_.:%20", k=source.randint(1, 30)))
    line = source.choice(
        (f"POST /heartbeat/{name}", f"POST /register?{name}", f"POST /lookup/{name}", "POST /lookup")
    )
    kind = source.choice(("application/json", "text/plain", "a/b; c=d"))
    head = (
        f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def check(content: bytes, received: list[Answer], exactly: int | None) -> None:
    """Check the answers to `content`."""
    for answer in received:
        assert answer.status in STATUSES, (content, answer)
        assert b"Traceback" not in answer.body
        assert b"File " not in answer.body
    assert all(not answer.closes for answer in received[:-1]), content
    if exactly is not None:
        assert len(received) == exactly, (content, received)
    # Each request names its version, and what cannot be read is answered once, at the end.
    assert len(received) <= content.count(b"HTTP/") + 1, (content, received)


class Steady(threading.Thread):
    """A well-behaved client: it sends heartbeats on one connection, and records every error."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.stop = threading.Event()
        self.heartbeats = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        try:
            with Client(self._server.address) as client:
                client.register("steady")
                while not self.stop.is_set():
                    reply = client.ask("POST", "/heartbeat/steady")
                    self.heartbeats += 1
                    if (reply.status, reply.document.get("node_id")) != (200, "steady"):
                        self.wrong.append(reply)
                    self.stop.wait(0.002)
        except Exception as error:
            self.wrong.append(error)


def bombard(server: Server, seed: int, make: Callable[[random.Random], bytes], exactly: int | None) -> None:
    """Send what `make` makes over many connections, some at a time, and check all answers."""
    failures: list[BaseException] = []

    def one_sender(number: int) -> None:
        source = random.Random(f"{seed} {make.__name__} {number}")
        try:
            for _ in range(CONNECTIONS // SENDERS):
                content = make(source)
                check(content, list(answers(send(server.address, content))), exactly)
        except BaseException as error:
            failures.append(error)

    steady = Steady(server)
    steady.start()
    senders = [threading.Thread(target=one_sender, args=(number,), daemon=True) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
        assert not sender.is_alive(), "a connection hangs"
    steady.stop.set()
    steady.join(60)
    if failures:
        raise failures[0]
    assert steady.heartbeats > 0
    assert steady.wrong == []
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log


def test_mutated_requests(start: Start, seed: int) -> None:
    bombard(start("--connections-per-address-max", "1000"), seed, mutated, None)


def test_noise_and_odd_content(start: Start, seed: int) -> None:
    server = start("--connections-per-address-max", "1000")
    bombard(server, seed, noise, None)
    bombard(server, seed, odd_but_framed, 1)
