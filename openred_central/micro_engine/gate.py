"""How many connections may be open: in all, and from one address. Pure: no socket, no loop."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

# Whoever holds one IPv6 address as a rule holds its /64 (RFC 6177 §2): that is what counts as one address.
IPV6_PREFIX_BYTES: Final = 8

GateKey = str | bytes | None


def plain_address(address: str) -> str:
    """`address` without an IPv6 zone, and as IPv4 where it is one mapped into IPv6 (RFC 4291 §2.5.5.2)."""
    address = address.partition("%")[0]
    if address.startswith("::ffff:") and "." in address:
        return address[len("::ffff:") :]
    return address


class Gate:
    """Counts the connections that are open and says whether one more may come in.

    `connections_max` holds for all of them together, `connections_per_address_max` for one IPv4 address or
    one IPv6 /64. Addresses within `exempt_networks` (such as ``10.0.0.0/8``, for the proxy in front) count
    in all, but not by address; so do Unix sockets, whose address is empty. Raises `ValueError` for
    networks that are none.
    """

    __slots__ = ("_by_key", "_connections_max", "_connections_per_address_max", "_exempt_networks", "open")

    def __init__(
        self,
        connections_max: int,
        connections_per_address_max: int,
        exempt_networks: tuple[str, ...] = (),
    ) -> None:
        self._connections_max = connections_max
        self._connections_per_address_max = connections_per_address_max
        self._exempt_networks = tuple(ipaddress.ip_network(network) for network in exempt_networks)
        self._by_key: dict[str | bytes, int] = {}
        self.open = 0

    def key(self, address: str) -> GateKey:
        """What connections from `address` are counted under; None where they are not counted by address."""
        if not address:
            return None
        if self._exempt_networks:
            parsed = ipaddress.ip_address(address)
            if any(parsed in network for network in self._exempt_networks):
                return None
        if ":" in address:
            return socket.inet_pton(socket.AF_INET6, address)[:IPV6_PREFIX_BYTES]
        return address

    def enter(self, key: GateKey) -> bool:
        """Count one more connection under `key`. False, and nothing counted, where a cap is reached."""
        if self.open >= self._connections_max:
            return False
        if key is not None:
            count = self._by_key.get(key, 0)
            if count >= self._connections_per_address_max:
                return False
            self._by_key[key] = count + 1
        self.open += 1
        return True

    def leave(self, key: GateKey) -> None:
        """One connection that entered under `key` is gone."""
        self.open -= 1
        if key is not None:
            count = self._by_key[key] - 1
            if count:
                self._by_key[key] = count
            else:
                del self._by_key[key]

    def check(self) -> None:
        """Assert what always holds: no count is empty, and none exceeds its cap."""
        assert 0 <= self.open <= self._connections_max
        assert sum(self._by_key.values()) <= self.open
        assert all(0 < count <= self._connections_per_address_max for count in self._by_key.values())
