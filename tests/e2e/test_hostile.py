"""Attacks on a real server: to act as another node, or to keep others from being served."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from itertools import count

import orjson
import pytest

from tests.support.running import WAIT_S_MAX, Answer, Client, Server, answers, send
from tests.support.signing import Fields, Node, wait_for_the_next_second

from .conftest import Start, servers_in

SLOW = 200
# Long enough to send all there is to send, unless the machine is slow.
HEAD_TIMEOUT_S = 8.0
NUMBERS = count()
ORIGIN = {"Origin": "https://evil.example"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield one server for all that changes nothing on it; nothing sent to it may be our own fault."""
    with servers_in(tmp_path_factory.mktemp("server")) as start:
        server = start()
        wait_for_the_next_second()
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
def hidden(server: Server) -> Iterator[Node]:
    """Yield a node that only itself may see, and that nothing here may change."""
    node = Node(server, f"hidden-{next(NUMBERS)}")
    assert node.register(discoverable=False).status == 201
    before = node.ask("GET", node.path).document
    yield node
    after = node.ask("GET", node.path).document
    assert (after["port"], after["revision"]) == (before["port"], before["revision"])
    node.close()


def raw(node: Node, line: str, fields: Fields, body: bytes = b"", *more: str) -> Answer:
    """Return the answer to a request whose head is written as it is here."""
    lines = [line, f"Host: {node.authority}", "Content-Type: application/json", "Connection: close", *more]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body or line.startswith("POST"):
        lines.append(f"Content-Length: {len(body)}")
    host, _, port = node.authority.rpartition(":")
    (answer,) = answers(send((host, int(port)), "\r\n".join([*lines, "", ""]).encode("latin-1") + body))
    return answer


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/heartbeat/%68@", 401),
        ("/heartbeat/h@/", 404),
        ("//heartbeat/h@", 404),
        ("/heartbeat//h@", 404),
        ("/heartbeat/./h@", 404),
        ("/heartbeat/x/../h@", 404),
        ("/heartbeat%2Fh@", 404),
        ("/HEARTBEAT/h@", 404),
        ("/heartbeat/h@?", 200),
        ("/heartbeat/h@?x=1", 400),
        ("/heartbeat/H@", 404),
        ("/heartbeat/h@%00", 404),
    ],
)
def test_a_signature_is_for_one_spelling_of_one_path(hidden: Node, path: str, status: int) -> None:
    path = path.replace("@", hidden.node_id[1:])
    answer = raw(hidden, f"POST {path} HTTP/1.1", hidden.headers("POST", hidden.beat))
    # An empty query is none.
    assert answer.status == status, answer


def test_a_signed_path_counts_as_it_is_spelled(hidden: Node) -> None:
    path = f"/heartbeat/%68{hidden.node_id[1:]}"
    assert raw(hidden, f"POST {path} HTTP/1.1", hidden.headers("POST", path)).status == 200


def test_a_signature_is_for_one_method_and_one_host(hidden: Node) -> None:
    path, authority = hidden.path, hidden.authority
    headers = hidden.headers("GET", path)
    assert hidden.client.ask("HEAD", path, **headers).status == 404
    assert raw(hidden, f"DELETE {path} HTTP/1.1", headers).status == 401
    assert raw(hidden, f"GET http://other.example{path} HTTP/1.1", headers).status in (400, 404)
    hidden.authority = "other.example"
    elsewhere = hidden.headers("GET", path)
    hidden.authority = authority
    assert raw(hidden, f"GET {path} HTTP/1.1", elsewhere).status == 404
    assert raw(hidden, f"GET {path} HTTP/1.1", headers).status == 200


@pytest.mark.parametrize(
    "name", ["Host", "Signature", "Signature-Input", "Content-Digest", "Content-Length", "Authorization"]
)
def test_counted_requests_are_not_repeated(hidden: Node, name: str) -> None:
    body = b'{"port":7}'
    headers = hidden.headers("POST", hidden.beat, body)
    given = {
        **headers,
        "Host": "other.example",
        "Content-Length": "0",
        "Authorization": "Claim AAAAAAAAAAAAAAAAAAAAAA",
    }
    value = given.get(name.replace("-", "_"), given.get(name, ""))
    answer = raw(hidden, f"POST {hidden.beat} HTTP/1.1", {}, body, f"{name}: {value}", f"{name}: {value}")
    assert answer.status in (400, 401), answer


@pytest.mark.parametrize("digest", [True, False])
def test_a_body_in_chunks_is_covered_like_any_other(hidden: Node, digest: bool) -> None:
    body = b'{"metadata":{}}'
    headers = hidden.headers("POST", hidden.beat, body)
    if not digest:
        del headers["Content_Digest"]
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [
        f"POST {hidden.beat} HTTP/1.1",
        f"Host: {hidden.authority}",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        *lines,
        "",
        "",
    ]
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    host, _, port = hidden.authority.rpartition(":")
    (answer,) = answers(send((host, int(port)), "\r\n".join(head).encode() + chunks))
    assert answer.status == (200 if digest else 400), answer


def test_a_body_cannot_be_left_out_or_put_in(hidden: Node) -> None:
    body = b'{"port":7}'
    without, given = (
        hidden.headers("POST", hidden.beat),
        hidden.headers("POST", hidden.beat, body),
    )
    line = f"POST {hidden.beat} HTTP/1.1"
    assert raw(hidden, line, without, body).status == 400
    assert raw(hidden, line, given).status in (400, 401)
    # Nobody reads the body of a GET.
    assert raw(hidden, f"GET {hidden.path} HTTP/1.1", hidden.headers("GET", hidden.path), body).status == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "OpenRed",
        "OpenRed ",
        "Claim",
        "Claim \xff\xfe",
        "OpenRed \xe4",
        "Claim " + "A" * 4_000,
        "Basic eDp5",
    ],
)
def test_any_authorization_is_refused_or_passed_over_and_breaks_nothing(hidden: Node, value: str) -> None:
    answer = raw(hidden, f"POST {hidden.beat} HTTP/1.1", {"Authorization": value})
    assert answer.status == 401, answer


def test_a_hidden_node_is_shown_to_no_caller(hidden: Node) -> None:
    """Neither by reading it, nor as the peer of a token; that its name is taken, registering has to tell."""
    with Client(tuple_of(hidden)) as client:
        client.register("me")
        for name in (hidden.node_id, "unknown"):
            replies = [
                client.ask("GET", f"/nodes/{name}"),
                client.ask("GET", f"/nodes/{name}", Authorization="Claim AAAAAAAAAAAAAAAAAAAAAA"),
                client.ask("GET", f"/nodes/{name}", Signature="sig1=:AAAA:", Signature_Input="sig1=()"),
                client.ask("POST", "/security/token", {"node_id": "me", "peer_id": name}),
            ]
            assert [reply.status for reply in replies] == [404] * 4
            assert {reply.document["detail"] for reply in replies} == {f"No node is registered as '{name}'."}
        looked = client.ask("POST", "/lookup", {"node_ids": [hidden.node_id, "unknown"]}).document
        assert looked == {"nodes": [], "missing": [hidden.node_id, "unknown"]}
        assert "hidden" not in str(client.ask("GET", "/discover").document["nodes"])


def tuple_of(node: Node) -> tuple[str, int]:
    host, _, port = node.authority.rpartition(":")
    return host, int(port)


def test_no_page_of_another_origin_changes_anything(server: Server) -> None:
    """A page may send a form without asking, and JSON only where OPTIONS allows it, which it does not."""
    with Client(server.address) as client:
        body = orjson.dumps({"node_id": "forged", "address": "192.0.2.1", "port": 1, "public_key": "k"})
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ):
            for path in ("/register", "/heartbeat/forged", "/security/token", "/security/revoke"):
                reply = client.ask("POST", path, body, Content_Type=kind, **ORIGIN)
                assert (reply.status, reply.headers.get("Access-Control-Allow-Origin")) == (415, None)
        for method in ("POST", "DELETE"):
            asked = {**ORIGIN, "Access_Control_Request_Method": method}
            for path in ("/register", "/nodes/forged"):
                reply = client.ask("OPTIONS", path, **asked)
                assert "Access-Control-Allow-Origin" not in reply.headers
        reply = client.ask("POST", "/register", body, **ORIGIN)
        assert "Access-Control-Allow-Origin" not in reply.headers
        reply = client.ask("GET", "/stats", **ORIGIN)
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in reply.headers


def test_forwarded_addresses_of_clients_are_not_trusted(start: Start) -> None:
    server = start("--rate-limit-exempt", "")
    with Client(server.address) as client:
        for number in range(12):
            told = {"X_Forwarded_For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
            reply = client.ask("POST", "/register", {}, **told)
            assert reply.status == (400 if number < 10 else 429)
        reply = client.ask("POST", "/register", {}, X_Forwarded_For="127.0.0.1")
        assert reply.status == 429


def test_two_hundred_slow_clients_delay_no_other(start: Start) -> None:
    server = start("--head-timeout-s", str(HEAD_TIMEOUT_S), "--connections-per-address-max", "300")
    slow = [socket.create_connection(server.address, timeout=WAIT_S_MAX) for _ in range(SLOW)]
    try:
        with Client(server.address) as client:
            assert client.register("alice").status == 201
            asked = 0
            # Each of them sends a byte of a head now and then, for as long as it is let.
            for byte in b"GET / HTTP/1.1\r\nX: a"[:20]:
                for connection in slow:
                    # One that is let no longer has its answer.
                    with contextlib.suppress(ConnectionError):
                        connection.send(bytes([byte]))
                for _ in range(10):
                    assert client.ask("POST", "/heartbeat/alice").status == 200
                    asked += 1
            assert asked == 200
            for connection in slow:
                (answer,) = answers(read_all(connection))
                assert (answer.status, answer.closes) == (408, True)
            assert client.ask("GET", "/health").status == 200
    finally:
        for connection in slow:
            connection.close()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            received += piece
    return received
