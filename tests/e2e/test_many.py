"""Thousands of nodes, a thousand connections: everybody is served and the figures add up."""

from __future__ import annotations

import random
import selectors
import socket
import time
from collections.abc import Callable

from tests.support.running import WAIT_S_MAX, Answer, Client, Server, Start, allow_descriptors, answers

NODES = 5_000
# So many requests are on their way at once on one connection.
IN_A_ROW = 100
SERVICES = ("relay", "storage", "compute")
CONNECTIONS = 1_000


def registration(number: int) -> bytes:
    body = (
        f'{{"node_id":"node-{number}","address":"192.0.2.1","port":8001,"public_key":"key-{number}",'
        f'"services":["{SERVICES[number % 3]}"]}}'
    )
    kind = "Content-Type: application/json"
    return (
        f"POST /register HTTP/1.1\r\nHost: a\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )


def heartbeat(number: int) -> bytes:
    return f"POST /heartbeat/node-{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()


def pipelined(connection: socket.socket, make: Callable[[int], bytes], numbers: range) -> list[Answer]:
    """Return the answers to one request for each of `numbers`, all sent before the first answer is read."""
    connection.sendall(b"".join(map(make, numbers)))
    received = b""
    while received.count(b"HTTP/1.1 ") < len(numbers) or not received.endswith(b"}"):
        piece = connection.recv(1 << 20)
        assert piece, received[-500:]
        received += piece
    found = list(answers(received))
    assert len(found) == len(numbers)
    return found


def test_thousands_register_over_one_connection_while_others_ask(start: Start, seed: int) -> None:
    server = start("--database", "memory:")
    source = random.Random(seed)
    with (
        socket.create_connection(server.address, timeout=WAIT_S_MAX) as connection,
        Client(server.address) as client,
    ):
        for begin in range(0, NODES, IN_A_ROW):
            numbers = range(begin, begin + IN_A_ROW)
            for number, answer in zip(numbers, pipelined(connection, registration, numbers), strict=True):
                document = answer.reply().document
                assert (answer.status, document["node_id"]) == (201, f"node-{number}")
            known = source.randrange(begin + IN_A_ROW)
            assert client.ask("POST", f"/heartbeat/node-{known}").document["node_id"] == f"node-{known}"
            service = source.choice(SERVICES)
            found = client.ask("GET", f"/discover?services={service}&max_results=20").document
            expected = sum(number % 3 == SERVICES.index(service) for number in range(begin + IN_A_ROW))
            assert found["total_found"] == expected
            assert len({node["node_id"] for node in found["nodes"]}) == min(20, expected)
            assert {tuple(node["services"]) for node in found["nodes"]} == {(service,)}
        for begin in range(0, NODES, IN_A_ROW):
            for answer in pipelined(connection, heartbeat, range(begin, begin + IN_A_ROW)):
                assert answer.status == 200
        stats = client.ask("GET", "/stats").document
        before = stats["performance"]
        assert stats["directory"]["nodes"] == stats["directory"]["by_state"]["active"] == NODES
        assert stats["lifecycle"]["transitions"] == [
            {"from": "absent", "to": "active", "reason": "registered", "count": NODES}
        ]
        rounds = NODES // IN_A_ROW
        # Those before this one, and itself.
        assert before["requests"] == 2 * NODES + 2 * rounds + 1
        assert before["responses"] == {"2xx": 2 * NODES + 2 * rounds, "3xx": 0, "4xx": 0, "5xx": 0}
        assert before["connections"] == {"open": 2, "total": 2, "refused": 0}
        assert before["store"]["failures"] == 0


def answered(connections: dict[socket.socket, bytes]) -> None:
    """Read until every connection has a whole answer."""
    ends_s = time.monotonic() + WAIT_S_MAX
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            assert time.monotonic() < ends_s, f"{len(selector.get_map())} connections are not answered"
            for key, _ in selector.select(1.0):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                piece = connection.recv(65_536)
                assert piece, connections[connection]
                connections[connection] += piece
                if connections[connection].endswith(b"}"):
                    selector.unregister(connection)


def connect(server: Server, count: int) -> list[socket.socket]:
    return [socket.create_connection(server.address, timeout=WAIT_S_MAX) for _ in range(count)]


def test_a_thousand_connections_send_heartbeats(start: Start) -> None:
    allow_descriptors(2 * CONNECTIONS + 200)
    server = start("--connections-per-address-max", str(CONNECTIONS + 10))
    connections = connect(server, CONNECTIONS)
    try:
        for make, status in ((registration, 201), (heartbeat, 200), (heartbeat, 200)):
            for number, connection in enumerate(connections):
                connection.sendall(make(number))
            received = dict.fromkeys(connections, b"")
            answered(received)
            for number, connection in enumerate(connections):
                (answer,) = answers(received[connection])
                assert answer.status == status
                assert answer.reply().document["node_id"] == f"node-{number}"
        with Client(server.address) as client:
            stats = client.ask("GET", "/stats").document
        assert stats["directory"]["nodes"] == CONNECTIONS
        assert stats["performance"]["connections"]["open"] == CONNECTIONS + 1
        assert stats["performance"]["requests"] == 3 * CONNECTIONS + 1
        # Those that come while a commit runs share the next one.
        assert stats["performance"]["store"]["batches"] < CONNECTIONS / 2
    finally:
        for connection in connections:
            connection.close()
    server.stop()
    with Client(start().address) as client:
        assert client.ask("GET", "/stats").document["directory"]["nodes"] == CONNECTIONS
        for number in range(0, CONNECTIONS, 97):
            shown = client.ask("GET", f"/nodes/node-{number}").document
            assert shown["services"] == [SERVICES[number % 3]]


def test_connections_beyond_the_limit_of_an_address_are_refused(start: Start) -> None:
    server = start("--connections-per-address-max", "3", "--rate-limit-exempt", "")
    connections = connect(server, 3)
    try:
        for connection in connections:
            (answer,) = pipelined(connection, heartbeat, range(1))
            assert answer.status == 404
        with socket.create_connection(server.address, timeout=WAIT_S_MAX) as one_more:
            (answer,) = answers(one_more.recv(65_536))
            assert (answer.status, answer.reply().document["error"]) == (503, "too_many_connections")
            assert answer.closes
            assert int(answer.fields["retry-after"]) > 0
    finally:
        for connection in connections:
            connection.close()
