"""The cluster port: links and requests of instances, and nothing at all for others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from openred_central.cluster import listening
from openred_central.cluster.asking import pack_request
from openred_central.cluster.link import LINK_PROTOCOLS, Kind, Link, LinkBroken
from openred_central.cluster.listening import ClusterListener
from openred_central.cluster.ways import ASKING_PROTOCOL
from openred_central.limits.origins import INSTANCE
from openred_central.listening import listen_tcp
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request, Response
from openred_central.security.cluster_credentials import ClusterCredentials
from openred_central.storage.versions import LINK_VERSION, LINK_VERSIONS
from tests.support.clock import VirtualClock
from tests.support.waiting import until

HOST = "127.0.0.1"
CREDENTIALS = ClusterCredentials(b"a secret of operators")
ANOTHER = ClusterCredentials(b"another secret of theirs")
ASK = pack_request(1, Request("GET", "/x"), "an-id", "")


class Port:
    """A cluster port that repeats the messages of links, and an engine that answers with the peer."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.links: list[Link] = []
        self.listener = ClusterListener(CREDENTIALS, self.repeat, self.clock.monotonic_s)
        self.number = int(self.listener.start(HOST, 0)[0].rpartition(":")[2])
        self.engine = Engine(limits=EngineLimits(connections_max=2, connections_per_address_max=1))
        self.engine.route("/x")(self.answer)

    async def repeat(self, link: Link) -> None:
        self.links.append(link)
        with contextlib.suppress(LinkBroken):
            while True:
                link.send(*await link.receive())

    async def answer(self, request: Request) -> Response:
        return Response.json({"peer": request.peer})

    async def open(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if context is None else ""
        return await asyncio.open_connection(HOST, self.number, ssl=context, server_hostname=name)

    async def link(self, credentials: ClusterCredentials = CREDENTIALS) -> Link:
        return await Link.to(HOST, self.number, credentials.client_context([*LINK_PROTOCOLS]), 5.0)

    async def is_served(self) -> bool:
        """Return whether a link of an instance works."""
        link = await self.link()
        link.send(Kind.FRAME, b"still")
        answer = await link.receive()
        link.abort()
        return answer == (Kind.FRAME, b"still")


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    port = Port()
    yield port
    await port.listener.close()
    await port.engine.drain()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the other end closes or resets."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        return await reader.read()
    return b""


def asking() -> ssl.SSLContext:
    return CREDENTIALS.client_context([ASKING_PROTOCOL])


async def test_messages_of_a_link_come_whole_and_in_order(port: Port) -> None:
    link = await port.link()
    contents = [b"", b"x" * 3_000_000, b"end"]
    for content in contents:
        link.send(Kind.FRAME, content)
    assert [await link.receive() for _ in contents] == [(Kind.FRAME, content) for content in contents]
    await link.close()


async def test_a_link_ends_when_its_server_is_done_with_it(port: Port) -> None:
    link = await port.link()
    await until(lambda: len(port.links) == 1)
    port.links[0].abort()
    with pytest.raises(LinkBroken):
        await link.receive()
    link.abort()


async def test_requests_of_instances_are_answered_while_an_engine_does(port: Port) -> None:
    reader, writer = await port.open(asking())
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
    assert await rest(reader) == b""
    writer.close()
    await port.engine.start([])
    port.listener.answer_by(port.engine)
    reader, writer = await port.open(asking())
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == ASKING_PROTOCOL
    writer.write(ASK)
    assert (await reader.readuntil(b"}")).endswith(b'{"peer":"%s"}' % INSTANCE.encode())
    port.listener.answer_by(None)
    # Requests on their way are answered; the next connection is for links alone.
    writer.write(ASK)
    assert (await reader.readuntil(b"}")).endswith(b'"}')
    _, other = await port.open(asking())
    assert other.get_extra_info("ssl_object").selected_alpn_protocol() is None
    for each in (writer, other):
        each.transport.abort()


async def test_connections_of_instances_count_in_all_and_not_by_address(port: Port) -> None:
    await port.engine.start([])
    port.listener.answer_by(port.engine)
    opened = [await port.open(asking()) for _ in range(2)]
    for reader, writer in opened:
        writer.write(ASK)
        await reader.readuntil(b"}")
    reader, writer = await port.open(asking())
    assert await rest(reader) == b""
    writer.transport.abort()
    assert port.engine.connections_open == 2
    for _, writer in opened:
        writer.transport.abort()
    await until(lambda: port.engine.connections_open == 0)


async def test_another_secret_opens_nothing(port: Port) -> None:
    # The client refuses the server, and a client that accepts every server is refused by it.
    with pytest.raises(LinkBroken, match="certificate verify failed"):
        await port.link(ANOTHER)
    context = ANOTHER.client_context([*LINK_PROTOCOLS])
    context.verify_mode = ssl.CERT_NONE
    link = await Link.to(HOST, port.number, context, 5.0)
    link.send(Kind.READY)
    with pytest.raises(LinkBroken):
        await link.receive()
    link.abort()
    assert port.links == []
    assert await port.is_served()


@pytest.mark.parametrize("said", [b"", ASK, b"\x16\x03\x01\xff\xff" + bytes(100), bytes(4_096)])
async def test_a_stranger_gets_nothing_but_the_end(
    port: Port, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(listening, "HANDSHAKE_TIMEOUT_S", 0.2)
        reader, writer = await port.open()
        writer.write(said)
        answered = await rest(reader)
        writer.close()
    # An alert of TLS at most (RFC 8446 §6).
    assert answered == b"" or (answered[0] == 21 and len(answered) < 10)
    assert await port.is_served()


async def test_a_certificate_is_needed(port: Port) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([*LINK_PROTOCOLS])
    reader, writer = await port.open(context)
    writer.write(bytes(5))
    assert await rest(reader) == b""
    writer.transport.abort()
    assert port.links == []


async def test_strangers_that_say_nothing_keep_no_instance_out(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "HANDSHAKES_MAX", 4)
    silent = [await port.open() for _ in range(6)]
    assert await port.is_served()
    # The oldest ones gave way.
    for reader, _ in silent[:2]:
        assert await rest(reader) == b""
    for _, writer in silent:
        writer.transport.abort()


async def test_strangers_are_reported_now_and_then(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def knock() -> None:
        reader, writer = await port.open()
        writer.write(ASK)
        await rest(reader)
        writer.close()

    for _ in range(3):
        await knock()
    await until(lambda: len(caplog.records) == 1)
    assert "1 connection to the cluster port ended" in caplog.text
    port.clock.advance(listening.REPORT_S)
    await knock()
    await until(lambda: len(caplog.records) == 2)
    assert "3 connections to the cluster port ended" in caplog.records[1].getMessage()


async def test_a_link_to_nobody_is_told_in_one_line() -> None:
    context = CREDENTIALS.client_context([*LINK_PROTOCOLS])
    (listener,) = listen_tcp(HOST, 0, backlog=1)
    number = listener.getsockname()[1]
    with listener, pytest.raises(LinkBroken, match=r"no link to 127\.0\.0\.1, port [0-9]+: .*within 0\.1 s"):
        await Link.to(HOST, number, context, 0.1)
    with pytest.raises(LinkBroken, match=r"no link to 127\.0\.0\.1, port [0-9]+: "):
        await Link.to(HOST, number, context, 5.0)


async def test_a_link_is_none_without_its_protocol() -> None:
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), HOST, 0, ssl=CREDENTIALS.server_context([ASKING_PROTOCOL])
    )
    number = server.sockets[0].getsockname()[1]
    with pytest.raises(LinkBroken, match="speaks none of openred-link/"):
        await Link.to(HOST, number, CREDENTIALS.client_context([*LINK_PROTOCOLS]), 5.0)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("offered", [[LINK_VERSION + 1, LINK_VERSION], [LINK_VERSION], list(LINK_VERSIONS)])
async def test_a_link_has_the_highest_version_that_both_ends_speak(port: Port, offered: list[int]) -> None:
    context = CREDENTIALS.client_context([f"openred-link/{version}" for version in offered])
    link = await Link.to(HOST, port.number, context, 5.0)
    await until(lambda: len(port.links) == 1)
    assert link.version == port.links[0].version == LINK_VERSION
    link.abort()


async def test_ends_that_speak_no_version_in_common_have_no_link(port: Port) -> None:
    context = CREDENTIALS.client_context([f"openred-link/{LINK_VERSION + 2}"])
    with pytest.raises(LinkBroken, match="upgrade instances by one version at a time"):
        await Link.to(HOST, port.number, context, 5.0)
    assert port.links == []
    assert await port.is_served()


async def test_a_closed_port_ends_its_links_and_takes_no_more() -> None:
    port = Port()
    link = await port.link()
    await until(lambda: len(port.links) == 1)
    silent = socket.create_connection((HOST, port.number))
    await asyncio.sleep(0)
    await port.listener.close()
    with pytest.raises(LinkBroken):
        await link.receive()
    link.abort()
    silent.close()
    with pytest.raises(LinkBroken):
        await port.link()
