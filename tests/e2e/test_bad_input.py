"""Every bad request is answered by a problem document that shows no internals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.running import Client, Server, answers, proof, send
from tests.support.world import assert_problem

from .conftest import servers_in

NODE = b'"node_id":"node-1","address":"192.0.2.1","port":8001,"public_key":"k"'
DEEP = 5_000


@pytest.fixture(scope="module")
def the_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield one server for all the bad input of this file."""
    with servers_in(tmp_path_factory.mktemp("server")) as start:
        server = start()
        with Client(server.address) as client:
            assert client.register("here").status == 201
        yield server


@pytest.fixture
def server(the_server: Server) -> Iterator[Server]:
    """Yield the server, which has to be as well after the test as before, with the one node that it had."""
    written = len(the_server.log)
    yield the_server
    print(the_server.log[written:])
    assert "Traceback" not in the_server.log
    with Client(the_server.address) as client:
        assert client.ask("GET", "/stats").document["directory"]["nodes"] == 1


def body_64_kib() -> bytes:
    text = b"[" + b"[]," * (64 * 1024 // 3)
    return text[: 64 * 1024 - 3] + b"[]]"


BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, "bad_json"),
    ("cut", b"{" + NODE, 400, "bad_json"),
    ("not json", b"hello", 400, "bad_json"),
    ("not utf-8", b'{"node_id":"\xff"}', 400, "bad_json"),
    ("byte order mark", b"\xef\xbb\xbf{}", 400, "bad_json"),
    ("list", b"[]", 400, "bad_request"),
    ("null", b"null", 400, "bad_request"),
    ("number", b"7", 400, "bad_request"),
    ("string", b'"node"', 400, "bad_request"),
    ("boolean", b"true", 400, "bad_request"),
    ("empty object", b"{}", 400, "bad_request"),
    ("deep lists", b"[" * DEEP + b"]" * DEEP, 400, "bad_json"),
    ("deep objects", b'{"a":' * DEEP + b"1" + b"}" * DEEP, 400, "bad_json"),
    ("deep metadata", b"{" + NODE + b',"metadata":' + b'{"a":' * 900 + b"1" + b"}" * 901, 400, "bad_request"),
    (
        "two deep spellings",
        b"{"
        + NODE[: NODE.index(b'"address"')]
        + b'"port":1,"public_key":"k","address":'
        + b"[" * 900
        + b"]" * 900
        + b',"ip_address":'
        + b"[" * 900
        + b"]" * 900
        + b"}",
        400,
        "bad_request",
    ),
    ("64 KiB of empty lists", body_64_kib(), 400, "bad_request"),
    ("NaN", b'{"port":NaN}', 400, "bad_json"),
    ("Infinity", b'{"port":-Infinity}', 400, "bad_json"),
    ("1e999", b'{"port":1e999}', 400, "bad_json"),
    ("a number of many digits", b"{" + NODE.replace(b"8001", b"9" * 4_000) + b"}", 400, "bad_json"),
    ("lone surrogate", b'{"node_id":"\\ud800"}', 400, "bad_json"),
    ("port 70000", b"{" + NODE.replace(b"8001", b"70000") + b"}", 400, "bad_request"),
    ("port as text", b"{" + NODE.replace(b"8001", b'"8001"') + b"}", 400, "bad_request"),
    ("services that are no names", b"{" + NODE + b',"services":["<script>",7,null]}', 400, "bad_request"),
    ("name that is none", b"{" + NODE.replace(b"node-1", b"../../etc") + b"}", 400, "bad_request"),
]


def test_every_bad_body_is_answered_by_a_problem_document(server: Server) -> None:
    for meaning, body, status, code in BODIES:
        for path in ("/register", "/lookup", "/heartbeat/here"):
            if path != "/register" and (code == "bad_request" or not body):
                # A body that is wrong elsewhere may be right here.
                continue
            with Client(server.address) as client:
                reply = client.ask("POST", path, body)
            assert (reply.status, meaning) == (status, meaning), reply
            assert_problem(reply, status, code, fields=reply.document.get("fields", ()))


def test_the_last_of_two_equal_names_counts(server: Server) -> None:
    with Client(server.address) as client:
        reply = client.ask("POST", "/register", b"{" + NODE + b',"node_id":"node-2"}')
        assert (reply.status, reply.document["node_id"]) == (201, "node-2")
        assert client.ask("GET", "/nodes/node-1").status == 404
        gone = client.ask("DELETE", "/nodes/node-2?mode=forget", **proof(reply.document["claim"]))
        assert gone.status == 200


REQUESTS: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("GET", "/nowhere", None, {}, 404, "not_found"),
    ("GET", "/nodes/nobody", None, {}, 404, "node_not_found"),
    ("GET", "/nodes/%00", None, {}, 404, "node_not_found"),
    ("GET", "/nodes/%F0%9F%98%80", None, {}, 404, "node_not_found"),
    ("GET", "/nodes/%ED%A0%80", None, {}, 400, "bad_request"),
    ("GET", "/nodes/%zz", None, {}, 400, "bad_request"),
    ("GET", "/nodes/" + "a" * 7_000, None, {}, 404, "node_not_found"),
    ("POST", "/heartbeat/nobody", None, {}, 404, "node_not_found"),
    ("DELETE", "/nodes/nobody", None, {}, 404, "node_not_found"),
    ("DELETE", "/nodes/here", None, {}, 401, "proof_required"),
    ("DELETE", "/nodes/here", None, {"Authorization": "Claim \xff\xfe"}, 403, "forbidden"),
    ("DELETE", "/nodes/here?mode=all", None, {}, 400, "bad_request"),
    ("POST", "/heartbeat/here", {"port": 9}, {}, 401, "proof_required"),
    (
        "POST",
        "/register",
        {"node_id": "here", "address": "a", "port": 1, "public_key": "k"},
        {},
        409,
        "node_id_taken",
    ),
    ("GET", "/discover?max_results=no&states=no", None, {}, 400, "bad_request"),
    ("GET", "/discover?services=a&services=b", None, {}, 400, "bad_request"),
    ("GET", "/discover?" + "&".join(f"x{n}=1" for n in range(101)), None, {}, 400, "bad_request"),
    ("GET", "/register", None, {}, 405, "method_not_allowed"),
    ("POST", "/discover", {}, {}, 405, "method_not_allowed"),
    ("PUT", "/nodes/here", {}, {}, 405, "method_not_allowed"),
    ("get", "/", None, {}, 501, "method_not_implemented"),
    ("BREW", "/", None, {}, 501, "method_not_implemented"),
    ("POST", "/register", b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ("POST", "/heartbeat/here", b"{}", {"Content-Type": "application/x-json"}, 415, "unsupported_media_type"),
    ("POST", "/register", b"{}", {"Expect": "a miracle"}, 417, "expectation_failed"),
]


def test_bad_requests_keep_the_connection(server: Server) -> None:
    with Client(server.address) as client:
        for method, target, body, headers, status, code in REQUESTS:
            reply = client.ask(method, target, body, **headers)
            assert (method, target, reply.status) == (method, target, status), reply
            assert_problem(reply, status, code, fields=reply.document.get("fields", ()))
            assert reply.headers["Connection"] == "keep-alive"
            if status == 405:
                assert "OPTIONS" in reply.headers["Allow"]
        assert client.ask("GET", "/nodes/here").status == 200


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


HOST = "Host: localhost"
FRAMING: list[tuple[bytes, int, str]] = [
    (b"hello\r\n\r\n", 400, "bad_request"),
    (b"GET / HTTP/1.1\nHost: localhost\n\n", 400, "bad_request"),
    (head("GET / HTTP/1.1"), 400, "bad_request"),
    (head("GET / HTTP/1.1", HOST, HOST), 400, "bad_request"),
    (head("GET / HTTP/1.1", "Host : localhost"), 400, "bad_request"),
    (head("POST /register HTTP/1.1", HOST, "Content-Length: 5, 5"), 400, "bad_request"),
    (head("POST /register HTTP/1.1", HOST, "Content-Length: -1"), 400, "bad_request"),
    (
        head("POST /register HTTP/1.1", HOST, "Content-Length: 1", "Transfer-Encoding: chunked"),
        400,
        "bad_request",
    ),
    (head(f"GET /{'a' * 9_000} HTTP/1.1", HOST), 414, "uri_too_long"),
    (head("GET / HTTP/1.1", HOST, *(f"X-{n}: 1" for n in range(101))), 431, "header_fields_too_large"),
    (head("GET / HTTP/1.1", HOST, "X: " + "a" * 9_000), 431, "header_fields_too_large"),
    (head("POST /register HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked"), 501, "not_implemented"),
    (head("CONNECT localhost:1 HTTP/1.1", HOST), 501, "not_implemented"),
    (head("GET / HTTP/2.0", HOST), 505, "http_version_not_supported"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version_not_supported"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400, "bad_request"),
]


def test_refusals_of_the_engine_are_problems_and_close(server: Server) -> None:
    for content, status, code in FRAMING:
        received = send(server.address, content + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        (answer,) = answers(received)
        assert (answer.status, content[:80]) == (status, content[:80])
        assert_problem(answer.reply(), status, code)
        assert answer.closes


def test_a_truncated_body_reaches_no_endpoint(server: Server) -> None:
    for missing in (1, 100):
        body = b"{" + NODE + b"}"
        typed = ("Content-Type: application/json", f"Content-Length: {len(body) + missing}")
        (answer,) = answers(send(server.address, head("POST /register HTTP/1.1", HOST, *typed) + body))
        assert_problem(answer.reply(), 400, "bad_request")
        assert answer.closes


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_of_5_mb_is_refused(server: Server, framing: str) -> None:
    body = b"{" + NODE + b',"metadata":{"a":"' + b"x" * 5_000_000 + b'"}}'
    if framing == "length":
        announced, content = f"Content-Length: {len(body)}", body
    else:
        announced, content = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    typed = ("Content-Type: application/json", announced)
    (answer,) = answers(send(server.address, head("POST /register HTTP/1.1", HOST, *typed) + content))
    assert_problem(answer.reply(), 413, "content_too_large")


def test_a_body_announced_as_too_large_is_refused_early(server: Server) -> None:
    announced = head(
        "POST /register HTTP/1.1",
        HOST,
        "Content-Type: application/json",
        "Content-Length: 5000000",
        "Expect: 100-continue",
    )
    (answer,) = answers(send(server.address, announced))
    assert_problem(answer.reply(), 413, "content_too_large")


def test_wrong_fields_of_any_kind_never_break_an_endpoint(server: Server, seed: int) -> None:
    source = random.Random(seed)
    values = [
        None,
        True,
        0,
        -1,
        2**63,
        1.5,
        "",
        "x",
        "\0",
        "ü" * 300,
        [],
        [[]],
        {},
        {"a": [{}]},
        "2027-01-01T00:00:00Z",
    ]
    names = [
        *("node_id", "address", "ip_address", "port", "public_key", "services", "capabilities", "metadata"),
        *("region", "addresses", "discoverable", "away_until", "node_ids", "later"),
    ]
    with Client(server.address) as client:
        for _ in range(300):
            body = {
                name: source.choice(values) for name in source.sample(names, source.randrange(len(names)))
            }
            for path in ("/register", "/lookup", "/heartbeat/here"):
                reply = client.ask("POST", path, body)
                assert reply.status in (200, 201, 400, 401, 409), (path, body, reply)
                if reply.status >= 400:
                    assert_problem(
                        reply, reply.status, reply.document["error"], fields=reply.document.get("fields", ())
                    )
