"""How many connections may be open: in all, and from one address. Pure: no socket, no loop."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .places import Places

# The bytes of an IPv6 network → how many times the connections of one address it may have. The holder of one
# address as a rule holds its /64, a household its /56, a site a /48 (RFC 6177 §2).
IPV6_PREFIXES: Final = {8: 1, 7: 4, 6: 8}

# The gate remembers of so many addresses whether they are exempt, which takes long to find out.
EXEMPTIONS_KEPT_MAX: Final = 4_096

# The address or the networks under which a connection is counted; empty if it is not counted by address.
GateKey = tuple[str | bytes, ...]


def plain_address(address: str) -> str:
    """Return `address` without an IPv6 zone, and IPv4 mapped into IPv6 as IPv4 (RFC 4291 §2.5.5.2)."""
    address = address.partition("%")[0]
    if address.startswith("::ffff:") and "." in address:
        return address[len("::ffff:") :]
    return address


class Gate:
    """The count of open connections, which decides whether one more is accepted.

    `connections_max` holds for all of them together, `connections_per_address_max` for one IPv4 address or
    one IPv6 /64; an IPv6 /56 may have four times, a /48 eight times as many. Addresses within
    `exempt_networks` (such as ``10.0.0.0/8``, for the proxy in front) count in all, but not by address; so do
    Unix sockets, whose address is empty. With `places`, the caps hold for all processes that share them, and
    not for this one alone. Raises `ValueError` for a text that is no network.
    """

    def __init__(
        self,
        connections_max: int,
        connections_per_address_max: int,
        exempt_networks: tuple[str, ...] = (),
        places: Places | None = None,
    ) -> None:
        self._connections_max = connections_max
        self._connections_per_address_max = connections_per_address_max
        self._exempt_networks = tuple(ipaddress.ip_network(network) for network in exempt_networks)
        self._is_exempt = lru_cache(EXEMPTIONS_KEPT_MAX)(self._find_exemption)
        self._places = places
        self._by_key: dict[str | bytes, int] = {}
        self.open = 0

    def key(self, address: str) -> GateKey:
        """Return the key under which connections from `address` count; empty if they only count in all."""
        if not address:
            return ()
        if self._exempt_networks and self._is_exempt(address):
            return ()
        if ":" in address:
            packed = socket.inet_pton(socket.AF_INET6, address)
            return tuple(packed[:prefix_bytes] for prefix_bytes in IPV6_PREFIXES)
        return (address,)

    def enter(self, key: GateKey) -> bool:
        """Count one more connection under `key`. Return False, and count nothing, if a cap is reached."""
        counts = self._by_key
        if self.open >= self._connections_max or any(counts.get(part, 0) >= self._cap(part) for part in key):
            return False
        if self._places is not None:
            if self._is_full_elsewhere(self._places, key):
                return False
            self._places.enter(key)
        for part in key:
            counts[part] = counts.get(part, 0) + 1
        self.open += 1
        return True

    def leave(self, key: GateKey) -> None:
        """Count one connection that entered under `key` no longer."""
        if self._places is not None:
            self._places.leave(key)
        self.open -= 1
        for part in key:
            self._by_key[part] -= 1
            if not self._by_key[part]:
                del self._by_key[part]

    def _is_full_elsewhere(self, places: Places, key: GateKey) -> bool:
        """Return whether a cap is reached together with the connections of other processes."""
        counts = self._by_key
        return self.open + places.all_elsewhere() >= self._connections_max or any(
            counts.get(part, 0) + places.elsewhere(part) >= self._cap(part) for part in key
        )

    def _find_exemption(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._exempt_networks)

    def _cap(self, part: str | bytes) -> int:
        times = IPV6_PREFIXES[len(part)] if isinstance(part, bytes) else 1
        return times * self._connections_per_address_max
