"""Connections: kept, taken again, given up; one request at a time on each."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import pytest

from openred_central.client.connections import Address, ByteReader, ByteWriter, Connections
from openred_central.client.errors import BadAnswer, ClientError, ConnectionFailed
from tests.support.clock import VirtualClock
from tests.support.fake_server import Asked, FakeServer, Lost, Stream, Told, respond

pytestmark = pytest.mark.both_loops

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def ok(_: Asked) -> Told:
    return 200, {}


def build() -> bytes:
    return REQUEST


async def test_one_connection_serves_one_request_after_the_other() -> None:
    server = FakeServer(ok)

    connections = server.connections()
    for _ in range(3):
        assert (await connections.ask(build)).status == 200
    await connections.close()
    assert [len(server.asked), len(server.streams)] == [3, 1]
    assert server.streams[0].closed


async def test_requests_wait_for_their_turn() -> None:
    """Two connections at most, and never two requests in flight on one."""
    in_flight: dict[int, int] = {}

    class Slow(Stream):
        def write(self, data: bytes) -> None:
            in_flight[id(self)] = in_flight.get(id(self), 0) + 1
            assert in_flight[id(self)] == 1
            super().write(data)

        async def read(self, n: int) -> bytes:
            await asyncio.sleep(0)
            piece = await super().read(n)
            if not self._received:
                in_flight[id(self)] = 0
            return piece

    server = FakeServer(ok)

    async def connect() -> tuple[Stream, Stream]:
        stream = Slow(server)
        server.streams.append(stream)
        return stream, stream

    connections = Connections(Address.of("http://a"), server.clock, connect=connect, connections_max=2)
    await asyncio.gather(*(connections.ask(build) for _ in range(20)))
    assert [len(server.asked), len(server.streams)] == [20, 2]


async def test_ended_idle_connection_is_replaced_and_the_request_rebuilt() -> None:
    lost = [False, True, False]
    built = []

    def answer(_: Asked) -> Told:
        if lost.pop(0):
            raise Lost
        return 200, {}

    def count() -> bytes:
        built.append(1)
        return REQUEST

    server = FakeServer(answer)

    connections = server.connections()
    await connections.ask(count)
    assert (await connections.ask(count)).status == 200
    assert [len(built), len(server.streams)] == [3, 2]


@pytest.mark.parametrize("how", ["ended", "old", "told to close", "unasked", "unasked, then ended"])
async def test_a_connection_that_is_ending_is_not_used_again(how: str) -> None:
    close = {"Connection": "close"} if how == "told to close" else {}
    server = FakeServer(lambda _: (200, {}, close))

    connections = server.connections()
    await connections.ask(build)
    if how == "ended":
        server.ended = True
    elif how.startswith("unasked"):
        server.streams[0].push(respond(200, {"node_id": "somebody else"}))
        server.ended = "ended" in how
    elif how == "old":
        server.clock.advance(51.0)
    assert (await connections.ask(build)).body == b"{}"
    assert len(server.streams) == 2
    assert server.streams[0].closed


async def test_unrepeatable_request_uses_a_new_connection() -> None:
    server = FakeServer(ok)

    connections = server.connections()
    await connections.ask(build)
    await connections.ask(build, repeatable=False)
    server.handler = lambda _: lose()
    with pytest.raises(ConnectionFailed, match="without an answer"):
        await connections.ask(build, repeatable=False)
    assert [len(server.asked), len(server.streams)] == [3, 3]


def lose() -> Told:
    raise Lost


async def test_fresh_connection_that_ends_is_an_error() -> None:
    server = FakeServer(lambda _: lose())
    with pytest.raises(ConnectionFailed, match="ended the connection without an answer"):
        await server.connections().ask(build)
    server.reset_on_write = True
    with pytest.raises(ConnectionFailed, match="ended the connection without an answer"):
        await server.connections().ask(build)
    assert len(server.asked) == 2


async def test_half_an_answer_is_an_error_and_ends_the_connection() -> None:
    server = FakeServer(lambda _: respond(200, {"a": 1})[:-3])
    server.ended = True
    with pytest.raises(
        BadAnswer, match=r"http://directory\.example:8000: the connection ended in the middle"
    ):
        await server.connections().ask(build)
    assert server.streams[0].closed


class Silent(Stream):
    async def read(self, n: int) -> bytes:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


def silent(server: FakeServer) -> Callable[[], object]:
    async def connect() -> tuple[Stream, Stream]:
        stream = Silent(server)
        server.streams.append(stream)
        return stream, stream

    return connect


async def test_timeout_ends_a_silent_request() -> None:
    server = FakeServer(ok)
    server.connect = silent(server)  # type: ignore[method-assign,assignment]
    with pytest.raises(ConnectionFailed, match=r"no answer from http://directory\.example:8000 within 0 s"):
        await server.connections(timeout_s=0.0).ask(build)
    assert server.streams[0].closed


async def test_cancelled_request_closes_its_connection() -> None:
    server = FakeServer(ok)
    server.connect = silent(server)  # type: ignore[method-assign,assignment]

    task = asyncio.create_task(server.connections().ask(build))
    while not server.asked:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.streams[0].closed


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ConnectionRefusedError(111, "refused"),
            "connection refused: is the server running on http://a:8000?",
        ),
        (OSError("Multiple exceptions: [Errno 111] x, [Errno 111] y"), "connection refused: is the server"),
        (socket.gaierror(-2, "Name or service not known"), "the host a cannot be found: Name or service"),
        (FileNotFoundError(2, "No such file"), "there is no socket http://a:8000: is the server running?"),
        (ssl.SSLError(1, "[SSL] record layer failure"), "does the server speak TLS there?"),
        (UnicodeError("label empty or too long"), "http://a:8000 cannot be connected to: label empty"),
        (ValueError("embedded null byte"), "http://a:8000 cannot be connected to: embedded null byte"),
        (OSError(113, "No route to host"), "no connection to http://a:8000: No route to host"),
    ],
)
async def test_connection_errors_are_one_line(error: Exception, told: str) -> None:
    async def connect() -> tuple[ByteReader, ByteWriter]:
        raise error

    connections = Connections(Address.of("http://a:8000"), VirtualClock(), connect=connect)
    with pytest.raises(ConnectionFailed) as caught:
        await connections.ask(build)
    assert told in str(caught.value)


async def test_a_certificate_that_is_not_trusted_is_said_so() -> None:
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = "self-signed certificate"

    async def connect() -> tuple[ByteReader, ByteWriter]:
        raise error

    connections = Connections(Address.of("http://a:8000"), VirtualClock(), connect=connect)
    with pytest.raises(ConnectionFailed, match="cannot be trusted: self-signed certificate"):
        await connections.ask(build)


def test_another_loop_gets_connections_of_its_own() -> None:
    server = FakeServer(ok)
    connections = server.connections(connections_max=1)

    async def ask() -> None:
        await asyncio.gather(*(connections.ask(build) for _ in range(3)))

    for _ in range(3):
        asyncio.run(ask())
    assert [len(server.asked), len(server.streams)] == [9, 3]
    asyncio.run(connections.close())


async def test_two_loops_need_two_clients() -> None:
    server = FakeServer(ok)
    connections = server.connections()

    await connections.ask(build)
    with pytest.raises(ClientError, match="one event loop at a time"):
        await asyncio.to_thread(asyncio.run, connections.ask(build))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "signed"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://Directory.Example/", "directory.example", 80, "directory.example", "directory.example"),
        ("https://directory.example", "directory.example", 443, "directory.example", "directory.example"),
        ("https://a.example:443", "a.example", 443, "a.example:443", "a.example"),
        ("http://a.example.:1", "a.example.", 1, "a.example.:1", "a.example.:1"),
        ("http://[::1]:8000", "::1", 8000, "[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_url_says_where_to_connect_and_what_is_signed(
    url: str, host: str, port: int, authority: str, signed: str
) -> None:
    address = Address.of(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)
    assert address.signed_authority == signed
    assert address.tls == url.startswith("https")
    assert Address.of(address.url) == address


def test_a_unix_socket_stands_for_host_and_port() -> None:
    assert Address.of("http://localhost", "/run/openred.sock").unix_socket == "/run/openred.sock"


@pytest.mark.parametrize(
    "url",
    [
        *("", "directory.example:8000", "ftp://a", "http://", "http://a/b", "http://a?b", "http://a#b"),
        *("http://u:p@a", "http://a:70000", "http://a:x", "http://[::1", "http://[::g]", "http://a b"),
        "http://bücher.example",
        *("http://a..b", "http://.a", "http://..", f"http://{'a' * 64}.b", f"http://{'a.' * 127}a"),
    ],
)
def test_what_is_no_url_of_a_directory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not where a directory is; allowed is"):
        Address.of(url)
