"""Probes connect only where they may, not too often, and report open, closed or unknown."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.life.expiry import PROBE_ANSWER_S, ProbeRequest
from openred_central.tasks.prober import (
    CONNECT_TIMEOUT_S_MAX,
    NETWORK_INTERVAL_S,
    Prober,
    Submission,
    has_route,
    probe_refusal,
)
from tests.support.clock import VirtualClock
from tests.support.options import prober_options
from tests.support.serving import closed_port

HERE = "127.0.0.1"

NEVER = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "::127.0.0.1": "loopback",
    "::ffff:0:127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "2002:7f00:1::": "loopback",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "::ffff:0.0.0.0": "unspecified",
    "169.254.169.254": "link-local",
    "::ffff:169.254.169.254": "link-local",
    "64:ff9b::169.254.169.254": "link-local",
    "2002:a9fe:a9fe::1": "link-local",
    "fe80::1": "link-local",
    "febf::1": "link-local",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "ff02::1": "multicast",
    "255.255.255.255": "reserved",
    "240.0.0.1": "reserved",
    "192.0.0.170": "reserved",
    "192.0.2.1": "reserved",
    "203.0.113.9": "reserved",
    "2001:db8::1": "reserved",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "reserved",
    "100::1": "reserved",
    "4000::1": "reserved",
    "5f00::1": "reserved",
}
PRIVATE = (
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "198.18.0.1",
    "fd00::1",
    "fc00::1",
    "fec0::1",
    "::ffff:10.0.0.1",
    "::ffff:100.64.0.1",
    "64:ff9b::c0a8:1",
    "64:ff9b:1::1",
    "2002:ac10:1::1",
)
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "169.253.255.255",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a01:4f8::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
)
NOT_LITERAL = (
    "",
    "localhost",
    "example.org",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1:80",
    "[::1]",
    "8.8.8.8 ",
    "fe80::1%eth0",
    "2606:4700::1%1",
    "１.1.1.1",
)


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("allow_private", [False, True])
def test_addresses_of_no_other_machine_are_never_probed(address: str, allow_private: bool) -> None:
    assert probe_refusal(address, 4242, allow_private) == f"a {NEVER[address]} address"


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_probed_only_if_allowed(address: str) -> None:
    assert probe_refusal(address, 4242, False) == "a private address"
    assert probe_refusal(address, 4242, True) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_probed(address: str) -> None:
    assert probe_refusal(address, 4242, False) is None


@pytest.mark.parametrize("address", NOT_LITERAL)
def test_only_a_literal_address_is_probed(address: str) -> None:
    assert probe_refusal(address, 4242, True) == "not a literal IP address"


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_only_a_real_port_is_probed(port: int) -> None:
    assert probe_refusal("8.8.8.8", port, True) == f"port {port} is not between 1 and 65535"


@given(st.text())
def test_any_text_is_judged(address: str) -> None:
    assert probe_refusal(address, 4242, False) is None or probe_refusal(address, 4242, False)


@given(st.ip_addresses(v=4))
def test_an_embedded_ipv4_address_is_judged_like_the_plain_one(address: Any) -> None:
    judged = probe_refusal(str(address), 4242, False)
    number = int(address)
    for wrapped in (
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"::ffff:0:{address}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
    ):
        assert probe_refusal(wrapped, 4242, False) == judged


class Results:
    """The results of a prober; `wait` for a number of them."""

    def __init__(self) -> None:
        self.results: list[tuple[int, str, bool]] = []
        self._added = asyncio.Event()

    def __call__(self, slot: int, node_id: str, alive: bool) -> None:
        self.results.append((slot, node_id, alive))
        self._added.set()

    async def wait(self, count: int) -> list[tuple[int, str, bool]]:
        async with asyncio.timeout(20):
            while len(self.results) < count:
                self._added.clear()
                await self._added.wait()
        return self.results


def anywhere(address: str, port: int) -> None:
    """Refuse no address: the nodes of these tests are on this machine."""


def prober(
    clock: VirtualClock | None = None,
    refusal: Callable[[str, int], str | None] = anywhere,
    on_result: Callable[[int, str, bool], None] = lambda slot, node_id, alive: None,
    has_route: Callable[[str], bool] = has_route,
    **options: Any,
) -> Prober:
    return Prober(clock or VirtualClock(), refusal, on_result, prober_options(**options), has_route)


@pytest.mark.both_loops
async def test_an_open_port_is_a_sign_of_life_and_a_closed_one_is_not() -> None:
    greeted = asyncio.get_running_loop().create_future()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(greet, HERE, 0)
    port = server.sockets[0].getsockname()[1]
    results = Results()
    clock = VirtualClock()
    probes = prober(clock, on_result=results)
    task = asyncio.create_task(probes.run())
    assert probes.submit(ProbeRequest(7, "open", HERE, port)) is Submission.ACCEPTED
    await results.wait(1)
    clock.advance(NETWORK_INTERVAL_S)
    assert probes.submit(ProbeRequest(8, "closed", HERE, closed_port())) is Submission.ACCEPTED
    assert await results.wait(2) == [(7, "open", True), (8, "closed", False)]
    assert await greeted == b"", "a probe sends nothing"
    await probes.stop()
    await task
    server.close()
    await server.wait_closed()


async def test_a_lack_of_descriptors_is_no_silence_of_the_node() -> None:
    results = Results()
    probes = prober(on_result=results)
    task = asyncio.create_task(probes.run())
    await asyncio.sleep(0)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, allowed[1]))
    try:
        assert probes.submit(ProbeRequest(7, "node", HERE, 9)) is Submission.ACCEPTED
        assert await results.wait(1) == [(7, "node", None)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    await probes.stop()
    await task


@pytest.mark.parametrize(
    ("routes", "alive"),
    [
        # Without any route, the network of this machine is down, and nothing is known about the node.
        ([], None),
        # With a route elsewhere, this machine will never reach the node, so its silence counts.
        (["192.0.2.1"], False),
        (["2001:db8::1"], False),
        ([HERE], False),
    ],
)
async def test_a_lack_of_network_is_no_silence_of_the_node(routes: list[str], alive: bool | None) -> None:
    results = Results()
    probes = prober(on_result=results, has_route=routes.__contains__)
    task = asyncio.create_task(probes.run())
    assert probes.submit(ProbeRequest(7, "node", HERE, closed_port())) is Submission.ACCEPTED
    assert await results.wait(1) == [(7, "node", alive)]
    await probes.stop()
    await task


def test_routes_of_this_machine_are_known() -> None:
    assert has_route(HERE)
    # A link-local address means nothing without its link.
    assert not has_route("fe80::1")


@pytest.mark.both_loops
async def test_a_connection_that_hangs_times_out() -> None:
    # A listener whose backlog is full lets a connection hang, as a silent host does.
    with socket.socket() as server:
        server.bind((HERE, 0))
        server.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            fillers.append(filler)
        results = Results()
        probes = prober(on_result=results, connect_timeout_s=0.05)
        task = asyncio.create_task(probes.run())
        assert probes.submit(ProbeRequest(1, "silent", HERE, server.getsockname()[1])) is Submission.ACCEPTED
        assert await results.wait(1) == [(1, "silent", False)]
        await probes.stop()
        await task
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "example.org", "10.0.0.1"])
def test_a_refused_address_is_not_queued(address: str) -> None:
    probes = prober(refusal=partial(probe_refusal, allow_private=False))
    assert probes.submit(ProbeRequest(1, "node", address, 4242)) is Submission.REFUSED


def test_a_name_is_never_queued() -> None:
    assert prober().submit(ProbeRequest(1, "node", "localhost", 4242)) is Submission.REFUSED


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        ("8.8.8.8", "8.8.8.9", "8.8.9.8"),
        ("2a01:4f8:1::1", "2a01:4f8:1:2::9", "2a01:4f8:2::1"),
        ("8.8.8.8", "::ffff:8.8.8.9", "::ffff:8.8.9.8"),
        ("64:ff9b::808:808", "2002:808:808::1", "2002:808:908::1"),
    ],
)
def test_a_network_is_probed_at_most_once_in_ten_minutes(first: str, second: str, third: str) -> None:
    clock = VirtualClock()
    probes = prober(clock)
    assert probes.submit(ProbeRequest(1, "a", first, 4242)) is Submission.ACCEPTED
    assert probes.submit(ProbeRequest(2, "b", second, 4243)) is Submission.LATER
    assert probes.submit(ProbeRequest(3, "c", third, 4242)) is Submission.ACCEPTED, (
        "the adjacent network is another one"
    )
    clock.advance(NETWORK_INTERVAL_S - 1)
    assert probes.submit(ProbeRequest(2, "b", second, 4243)) is Submission.LATER
    clock.advance(1)
    assert probes.submit(ProbeRequest(2, "b", second, 4243)) is Submission.ACCEPTED


async def test_the_ten_minutes_begin_with_the_connection() -> None:
    clock = VirtualClock()
    results = Results()
    probes = prober(clock, on_result=results)
    port = closed_port()
    assert probes.submit(ProbeRequest(1, "a", HERE, port)) is Submission.ACCEPTED
    clock.advance(NETWORK_INTERVAL_S - 1)
    task = asyncio.create_task(probes.run())
    await results.wait(1)
    clock.advance(NETWORK_INTERVAL_S - 1)
    assert probes.submit(ProbeRequest(1, "a", HERE, port)) is Submission.LATER
    clock.advance(1)
    assert probes.submit(ProbeRequest(1, "a", HERE, port)) is Submission.ACCEPTED
    await probes.stop()
    await task


def test_the_table_of_networks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.tasks.prober.NETWORKS_MAX", 3)
    clock = VirtualClock()
    probes = prober(clock)
    for third_octet in range(3):
        assert probes.submit(ProbeRequest(1, "a", f"8.8.{third_octet}.8", 4242)) is Submission.ACCEPTED
        clock.advance(1)
    assert probes.submit(ProbeRequest(1, "a", "8.8.77.8", 4242)) is Submission.LATER
    clock.advance(NETWORK_INTERVAL_S - 3)
    assert probes.submit(ProbeRequest(1, "a", "8.8.77.8", 4242)) is Submission.ACCEPTED, (
        "the oldest one has been forgotten"
    )


def test_a_probe_beyond_the_queue_is_postponed() -> None:
    probes = prober(concurrency=1, connect_timeout_s=PROBE_ANSWER_S / 4)
    assert probes.submit(ProbeRequest(1, "a", "8.8.1.8", 4242)) is Submission.ACCEPTED
    assert probes.submit(ProbeRequest(2, "b", "8.8.2.8", 4242)) is Submission.ACCEPTED
    assert probes.submit(ProbeRequest(3, "c", "8.8.3.8", 4242)) is Submission.LATER


@pytest.mark.parametrize("concurrency", [1, 32, 1_024])
@pytest.mark.parametrize("connect_timeout_s", [0.125, 2.0, 7.0, CONNECT_TIMEOUT_S_MAX])
def test_every_queued_probe_ends_in_time(concurrency: int, connect_timeout_s: float) -> None:
    """Even the last one in the queue, if a round is under way and every connection times out."""
    queue_max = prober_options(concurrency=concurrency, connect_timeout_s=connect_timeout_s).queue_max
    rounds_before = 1 + (queue_max - 1) // concurrency
    assert queue_max >= concurrency
    assert (rounds_before + 1) * connect_timeout_s <= PROBE_ANSWER_S - connect_timeout_s


async def test_a_prober_without_probes_has_no_workers() -> None:
    results = Results()
    clock = VirtualClock()
    probes = prober(clock, on_result=results, concurrency=2)
    task = asyncio.create_task(probes.run())
    for count in range(3):
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 2, "this test and the prober"
        assert probes.submit(ProbeRequest(1, "a", HERE, closed_port())) is Submission.ACCEPTED
        assert len(asyncio.all_tasks()) == 3
        clock.advance(NETWORK_INTERVAL_S)
        await results.wait(count + 1)
        await asyncio.sleep(0)
        clock.advance(NETWORK_INTERVAL_S)
    await probes.stop()
    await task


async def test_a_probe_submitted_as_the_last_worker_ends_is_made() -> None:
    results = Results()
    probes = prober(on_result=results, concurrency=1)

    async def connect(address: str, port: int) -> bool:
        # This runs after the worker's last look at the queue, and before its task is done.
        asyncio.get_running_loop().call_soon(submit_another)
        return True

    def submit_another() -> None:
        if len(results.results) == 1:
            assert probes.submit(ProbeRequest(2, "b", "8.8.9.8", 4242)) is Submission.ACCEPTED

    probes.is_open = connect  # type: ignore[method-assign]
    task = asyncio.create_task(probes.run())
    assert probes.submit(ProbeRequest(1, "a", "8.8.8.8", 4242)) is Submission.ACCEPTED
    assert await results.wait(2) == [(1, "a", True), (2, "b", True)]
    await probes.stop()
    await task


@pytest.mark.both_loops
async def test_simultaneous_connections_are_bounded() -> None:
    under_way, most = 0, 0
    release = asyncio.Event()
    results = Results()
    probes = prober(on_result=results, concurrency=2)

    async def connect(address: str, port: int) -> bool:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await release.wait()
        under_way -= 1
        return True

    probes.is_open = connect  # type: ignore[method-assign]
    for number in range(6):
        assert probes.submit(ProbeRequest(number, "a", f"8.8.{number}.8", 4242)) is Submission.ACCEPTED
    task = asyncio.create_task(probes.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert under_way == 2
    release.set()
    await results.wait(6)
    assert most == 2
    await probes.stop()
    await task


async def test_a_result_that_fails_does_not_end_the_prober(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results = Results()

    def take(slot: int, node_id: str, alive: bool) -> None:
        results(slot, node_id, alive)
        if slot == 1:
            raise RuntimeError("no such node")

    clock = VirtualClock()
    probes = prober(clock, on_result=take, concurrency=1)
    task = asyncio.create_task(probes.run())
    assert probes.submit(ProbeRequest(1, "a", HERE, closed_port())) is Submission.ACCEPTED
    await results.wait(1)
    clock.advance(NETWORK_INTERVAL_S)
    assert probes.submit(ProbeRequest(2, "b", HERE, closed_port())) is Submission.ACCEPTED
    await results.wait(2)
    await probes.stop()
    await task
    assert "the node in slot 1 was lost" in caplog.text


async def test_no_result_comes_after_a_stop() -> None:
    results = Results()
    probes = prober(on_result=results)
    begun = asyncio.Event()

    async def connect(address: str, port: int) -> bool:
        begun.set()
        await asyncio.Event().wait()
        return True

    probes.is_open = connect  # type: ignore[method-assign]
    task = asyncio.create_task(probes.run())
    assert probes.submit(ProbeRequest(1, "a", "8.8.8.8", 4242)) is Submission.ACCEPTED
    await begun.wait()
    await probes.stop()
    await task
    assert results.results == []
    assert probes.submit(ProbeRequest(2, "b", "8.8.9.8", 4242)) is Submission.LATER


async def test_run_after_stop_ends_at_once() -> None:
    probes = prober()
    await probes.stop()
    await probes.run()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"concurrency": 0}, "concurrency is 0, allowed is anything above 0"),
        ({"connect_timeout_s": 0}, "connect_timeout_s is 0, allowed is anything above 0 up to 20"),
        ({"connect_timeout_s": 20.5}, "connect_timeout_s is 20.5, allowed is anything above 0 up to 20"),
    ],
)
def test_an_option_out_of_range_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prober_options(**option)
