"""Probe the registered address of a silent node: an open port is a sign of life.

Strangers register addresses, so every probe connects where a stranger wants. Hence only literal addresses are
probed (no name is looked up), and only public ones unless the operator allows private ones. A probe is one
connection without a byte sent or read; there are few per network, and the answer is one bit.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from ..clock import Clock
from ..directory.life.expiry import PROBE_ANSWER_S, ProbeRequest
from ..limits.origins import PORT_MAX

log = logging.getLogger("openred.prober")

PRIVATE = "private"

# The IANA special-purpose address registries (RFC 6890), by the kind of address. The answers of `ipaddress`
# differ between versions of Python. Networks for documentation (RFC 5737, RFC 3849, RFC 9637) are reserved:
# no node can live there.
NETWORKS = {
    "unspecified": "0.0.0.0/8 ::/128",
    "loopback": "127.0.0.0/8 ::1/128",
    "link-local": "169.254.0.0/16 fe80::/10",
    "multicast": "224.0.0.0/4 ff00::/8",
    # RFC 1918, shared address space (RFC 6598), benchmarking (RFC 2544), unique local (RFC 4193), the
    # old site-local addresses, and NAT64 within one network (RFC 8215).
    PRIVATE: "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 198.18.0.0/15 fc00::/7 fec0::/10 "
    "64:ff9b:1::/48",
    "reserved": "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 "
    "2001::/23 2001:db8::/32 3fff::/20",
}
# All of IPv6 that has been allocated (RFC 4291 §2.4); the rest is reserved.
GLOBAL_IPV6 = IPv6Network("2000::/3")

# Networks whose last 32 bits are the IPv4 address that is reached: mapped and compatible (RFC 4291 §2.5.5),
# translated (RFC 2765 §2.1), NAT64 (RFC 6052 §2.1). In 6to4 it follows the prefix (RFC 3056 §2).
EMBEDDING_LAST = tuple(map(IPv6Network, ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
EMBEDDING_6TO4 = IPv6Network("2002::/16")

# Errors that say nothing about the node: this machine lacks descriptors or memory for a while. An error that
# may last, such as that of a local firewall, is not among them: no probe would ever count.
OUR_FAILURES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# A machine without a route to either is not on the Internet. The addresses are for documentation (RFC 5737,
# RFC 3849), and nothing is sent to them.
SOMEWHERE = ("192.0.2.1", "2001:db8::1")
# Three rounds of connections must fit into the time for an answer.
CONNECT_TIMEOUT_S_MAX = PROBE_ANSWER_S / 3
# The least time between two probes of one network, however many nodes it has.
NETWORK_INTERVAL_S = 600.0
NETWORK_BITS_IPV4 = 24
NETWORK_BITS_IPV6 = 48
# Beyond this many networks in one interval no new one is probed.
NETWORKS_MAX = 65_536


def _meant(address: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a connection to `address` would reach; None for other text."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv4Address):
        return parsed
    if parsed.scope_id is not None:
        return None
    if parsed in EMBEDDING_6TO4:
        return IPv4Address(int(parsed) >> 80 & 0xFFFFFFFF)
    # ::1 and :: are addresses in their own right.
    if int(parsed) > 1 and any(parsed in network for network in EMBEDDING_LAST):
        return IPv4Address(int(parsed) & 0xFFFFFFFF)
    return parsed


@cache
def _kinds() -> tuple[tuple[IPv4Network | IPv6Network, str], ...]:
    """Parse `NETWORKS` on first use, which few servers need."""
    return tuple(
        (ipaddress.ip_network(network), kind)
        for kind, networks in NETWORKS.items()
        for network in networks.split()
    )


def _kind(address: IPv4Address | IPv6Address) -> str | None:
    for network, kind in _kinds():
        if address in network:
            return kind
    return "reserved" if address.version == 6 and address not in GLOBAL_IPV6 else None


def probe_refusal(address: str, port: int, allow_private: bool) -> str | None:
    """Return why `address` and `port` must not be probed, in a few words; None if they may.

    `allow_private` permits private networks, for a directory that serves one. Loopback, link-local,
    multicast, unspecified and reserved addresses are never probed: no other machine has them, or the metadata
    service of a cloud does. An IPv6 address that carries an IPv4 address is judged by that one.
    """
    if not 1 <= port <= PORT_MAX:
        return f"port {port} is not between 1 and {PORT_MAX}"
    meant = _meant(address)
    if meant is None:
        return "not a literal IP address"
    kind = _kind(meant)
    if kind is None or (kind == PRIVATE and allow_private):
        return None
    return f"a {kind} address"


def has_route(address: str) -> bool:
    """Return whether this machine has a route to `address`; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect((address, PORT_MAX))
    except OSError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class ProberOptions:
    """How many nodes are probed at once, and for how long."""

    concurrency: int
    connect_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.concurrency > 0:
            raise ValueError(f"concurrency is {self.concurrency}, allowed is anything above 0")
        if not 0 < self.connect_timeout_s <= CONNECT_TIMEOUT_S_MAX:
            raise ValueError(
                f"connect_timeout_s is {self.connect_timeout_s}, "
                f"allowed is anything above 0 up to {CONNECT_TIMEOUT_S_MAX:g}"
            )

    @property
    def queue_max(self) -> int:
        """Return how many probes may wait so that the last one ends within `PROBE_ANSWER_S`.

        All probes before it may time out, in rounds of `concurrency`. One round is under way already, and the
        last probe needs one itself.
        """
        rounds = int(PROBE_ANSWER_S / self.connect_timeout_s)
        return self.concurrency * (rounds - 2)


class Submission(Enum):
    """The decision about a requested probe."""

    ACCEPTED = "accepted"
    # The address must never be probed: no result will come.
    REFUSED = "refused"
    # No probe is possible now, for reasons of this server: submit it again later.
    LATER = "later"


class Probe(NamedTuple):
    """One connection to be made; `network` is the network that it reaches."""

    request: ProbeRequest
    network: int


class Prober:
    """The task that probes nodes, `ProberOptions.concurrency` at a time.

    `refusal` returns why an address and port must not be probed, or None (`probe_refusal`). `on_result` gets
    slot, node id, and whether the port was open, None if this machine could not find out. `has_route` returns
    whether this machine has a route to an address.
    """

    def __init__(
        self,
        clock: Clock,
        refusal: Callable[[str, int], str | None],
        on_result: Callable[[int, str, bool | None], None],
        options: ProberOptions,
        has_route: Callable[[str], bool] = has_route,
    ) -> None:
        self._clock = clock
        self._refusal = refusal
        self._has_route = has_route
        self._on_result = on_result
        self._options = options
        self._queue: deque[Probe] = deque()
        # A worker exists only while there is something to do.
        self._workers: set[asyncio.Task[None]] = set()
        self._working = 0
        self._running = False
        self._stopping = asyncio.Event()
        # When each network was last requested or probed, in that order.
        self._probed_s: dict[int, float] = {}

    def submit(self, request: ProbeRequest) -> Submission:
        """Queue a probe.

        Return `REFUSED` if the address must not be probed. Return `LATER` if its network was probed within
        `NETWORK_INTERVAL_S`, if the queue is full, and after `stop`.
        """
        meant = _meant(request.address)
        if meant is None or self._refusal(request.address, request.port) is not None:
            return Submission.REFUSED
        if self._stopping.is_set() or len(self._queue) >= self._options.queue_max:
            return Submission.LATER
        network = _network(meant)
        if not self._may_probe(network):
            return Submission.LATER
        self._note(network)
        self._queue.append(Probe(request, network))
        if self._running:
            self._add_worker()
        return Submission.ACCEPTED

    async def run(self) -> None:
        """Probe submitted nodes until `stop`. Run it as a task, once."""
        if self._stopping.is_set():
            return
        self._running = True
        for _ in range(len(self._queue)):
            self._add_worker()
        try:
            await self._stopping.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Cancel the probes under way and end `run`; no result comes after this returns."""
        self._running = False
        self._stopping.set()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _add_worker(self) -> None:
        """Start one more worker, up to the limit."""
        if self._working < self._options.concurrency:
            self._working += 1
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while self._queue:
            probe = self._queue.popleft()
            slot, node_id, address, port = probe.request
            # The interval begins with the connection, not with the request.
            self._note(probe.network)
            try:
                self._on_result(slot, node_id, await self.is_open(str(ipaddress.ip_address(address)), port))
            except Exception:
                log.exception("the result of probing the node in slot %d was lost", slot)
        # Count down here: the task ends a turn of the loop later. A probe submitted in between would wait for
        # this worker in vain.
        self._working -= 1

    async def is_open(self, address: str, port: int) -> bool | None:
        """Return whether a connection to `port` succeeds, None if this machine could not find out."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.setblocking(False)
                async with asyncio.timeout(self._options.connect_timeout_s):
                    await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except OSError as error:
            # Refused, unreachable or timed out: the node is silent, unless this machine is offline.
            return None if error.errno in OUR_FAILURES or self._is_offline(address) else False
        return True

    def _is_offline(self, address: str) -> bool:
        """Return whether this machine has a route neither to `address` nor to anywhere else.

        A machine that lacks only one kind of address, such as IPv6, will keep lacking it, so the silence of
        the node counts.
        """
        return not any(map(self._has_route, (address, *SOMEWHERE)))

    def _may_probe(self, network: int) -> bool:
        """Return whether `network` may be probed again, and the table has room for it."""
        oldest_s = self._clock.monotonic_s() - NETWORK_INTERVAL_S
        while self._probed_s:
            first = next(iter(self._probed_s))
            if self._probed_s[first] > oldest_s:
                break
            del self._probed_s[first]
        return network not in self._probed_s and len(self._probed_s) < NETWORKS_MAX

    def _note(self, network: int) -> None:
        self._probed_s.pop(network, None)
        self._probed_s[network] = self._clock.monotonic_s()


def _network(address: IPv4Address | IPv6Address) -> int:
    """Return the /24 or /48 around an address, as a number that is unique over both families."""
    if isinstance(address, IPv4Address):
        return int(address) >> (32 - NETWORK_BITS_IPV4)
    # Larger than the number of any IPv4 network, which has 24 bits.
    return 1 << NETWORK_BITS_IPV6 | int(address) >> (128 - NETWORK_BITS_IPV6)
