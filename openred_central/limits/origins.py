"""The origin of a request: the client's address, also behind proxies, and the keys of its limits. Pure.

The word of a proxy counts only where the proxy is trusted. Then the right-most address that is no trusted
proxy is the client, because the client itself may have written everything to the left of it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from ..micro_engine.wire.protocol import TOKEN

# The word for peers of the Unix socket among the trusted proxies: they have no address.
UNIX: Final = "unix"
# The peer of requests that another instance of the cluster handed on. No other connection has it.
INSTANCE: Final = "instance"
X_FORWARDED_FOR: Final = "x-forwarded-for"
# RFC 7239.
FORWARDED: Final = "forwarded"
# No chain of proxies is longer; hops further to the left are ignored.
HOPS_MAX: Final = 16
# The holder of an IPv6 address usually holds its /64, and at most a /48 (RFC 6177 §2).
IPV6_SITE_BYTES: Final = 8
IPV6_NETWORK_BYTES: Final = 6
# The largest port of TCP (RFC 9293 §3.1).
PORT_MAX: Final = 65_535
# Pairs of a Forwarded header: enough for a dozen proxies that write all four.
PAIRS_MAX: Final = 64
# An IPv6 address in full with brackets, a port and some space; nothing longer is an address.
HOP_CHARACTERS_MAX: Final = 64
# Addresses and hops that are cached once parsed.
_KEPT_MAX: Final = 4_096

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORT: Final = r"(?::[0-9]{1,5})?"
_IPV4_HOP: Final = re.compile(rf"([0-9.]+){_PORT}")
_IPV6_HOP: Final = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{_PORT}|([0-9A-Fa-f:.]+)")
# One pair of RFC 7239 §4, or none, and its delimiter. Values that lack their quotes are accepted, too.
# White space matches possessively, so that the time is in proportion to the length of any input.
_PAIR: Final = re.compile(
    rf'[ \t]*+(?:({TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([^\s",;=]+))[ \t]*+)?([,;]|$)', re.DOTALL
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class Origin(NamedTuple):
    """The origin of a request.

    `address` is the client's in its usual form, empty for a peer of the Unix socket without an address from
    a proxy. `keys` are the keys of its limits: the address for IPv4; the /64 and then the /48 for IPv6. No
    limit applies where `exempt`. `network` is what nodes are counted for: the /24 of IPv4, the /56 of IPv6;
    None without an address.
    """

    address: str
    keys: tuple[bytes, ...]
    exempt: bool
    network: bytes | None


class Origins:
    """The rules that find the origin of a request.

    `trusted_proxies` and `exempt_networks` are networks in CIDR notation; the former may have the word
    ``unix``, too. `header` is the lower-case name of the header in which the trusted proxies report the
    client's address: `X_FORWARDED_FOR` or `FORWARDED`. The other one is never read: most proxies forward it
    as the client wrote it. `exempts` says whether any origin is exempt, `reads_fields` whether any proxy is
    trusted. Raises `ValueError` for invalid networks.
    """

    def __init__(
        self,
        trusted_proxies: tuple[str, ...] = (),
        exempt_networks: tuple[str, ...] = (),
        header: str = X_FORWARDED_FOR,
    ) -> None:
        self._trusts_unix = UNIX in trusted_proxies
        self._trusted = tuple(ipaddress.ip_network(proxy) for proxy in trusted_proxies if proxy != UNIX)
        self._exempt = tuple(ipaddress.ip_network(network) for network in exempt_networks)
        self.exempts = bool(self._exempt)
        self.reads_fields = bool(self._trusted or self._trusts_unix)
        self._header = header
        self._read_hops = forwarded_hops if header == FORWARDED else x_forwarded_for_hops
        self._origin_of = lru_cache(_KEPT_MAX)(self._make)
        self._is_trusted = lru_cache(_KEPT_MAX)(self._trusts)
        self._address_in = lru_cache(_KEPT_MAX)(hop_address)

    def of(self, peer: str, field: Callable[[str], str | None]) -> Origin:
        """Return the origin of a request from the TCP peer `peer`, empty for the Unix socket, or `INSTANCE`.

        `field` gives the value of a header by its lower-case name. No value makes this raise: where a hop is
        invalid, the last trusted one before it is the origin.
        """
        if self.reads_fields and self._is_trusted(peer):
            value = field(self._header)
            if value is not None:
                return self._origin_of(self._client(peer, value))
        elif peer == INSTANCE:
            # It has found out by its own rules who the client is, and wrote the field itself.
            return self._origin_of(field(X_FORWARDED_FOR) or "")
        return self._origin_of(peer)

    def _client(self, peer: str, value: str) -> str:
        client = peer
        for hop in reversed(self._read_hops(value)[-HOPS_MAX:]):
            address = self._address_in(hop) if len(hop) <= HOP_CHARACTERS_MAX else None
            if address is None:
                return client
            client = address
            if not self._is_trusted(client):
                return client
        return client

    def _trusts(self, peer: str) -> bool:
        address = parse_address(peer)
        if address is None:
            return self._trusts_unix and not peer
        return any(address in network for network in self._trusted)

    def _make(self, peer: str) -> Origin:
        address = parse_address(peer)
        if address is None:
            return Origin(peer, (peer.encode(),), False, None)
        exempt = any(address in network for network in self._exempt)
        packed = address.packed
        if address.version == 4:
            return Origin(str(address), (packed,), exempt, packed[:3])
        keys = (packed[:IPV6_SITE_BYTES], packed[:IPV6_NETWORK_BYTES])
        return Origin(str(address), keys, exempt, packed[:7])


def hop_address(hop: str) -> str | None:
    """Return the address in one hop, with or without a port, IPv6 with or without brackets, or None.

    Names, ``unknown``, obfuscated identifiers (RFC 7239 §6) and zones identify no client.
    """
    hop = hop.strip(" \t")
    match = _IPV4_HOP.fullmatch(hop) or _IPV6_HOP.fullmatch(hop)
    address = parse_address(match[1] or match[2]) if match else None
    return None if address is None else str(address)


def x_forwarded_for_hops(value: str) -> list[str]:
    """Return the last hops of X-Forwarded-For, at least `HOPS_MAX` of them; the client's end is first."""
    return value.rsplit(",", HOPS_MAX)


def forwarded_hops(value: str) -> list[str]:
    """Return the ``for`` of each element of Forwarded (RFC 7239 §4), empty where it does not occur once.

    A header that is malformed anywhere, or has more than `PAIRS_MAX` pairs, gives no hops at all: an open
    quote of the client could hide the pair that the proxy appends.
    """
    hops, given, position = list[str](), list[str](), 0
    for _ in range(PAIRS_MAX):
        match = _PAIR.match(value, position)
        if match is None:
            return []
        name, quoted, plain, ending = match.groups()
        if name and name.lower() == "for":
            given.append(plain if quoted is None else _ESCAPE.sub(r"\1", quoted))
        if ending != ";":
            hops.append(given[0] if len(given) == 1 else "")
            given = []
        if not ending:
            return hops
        position = match.end()
    return []


def may_be_at(origin: Origin, address: str) -> bool:
    """Return whether a caller of that origin may be at `address`: a name, or in the same /24 or IPv6 /56.

    A caller without an address, at the Unix socket, may be anywhere.
    """
    network, claimed = origin.network, parse_address(address)
    if network is None or claimed is None:
        return True
    return claimed.packed[: len(network)] == network and claimed.version == (4 if len(network) == 3 else 6)


def is_at(origin: Origin, address: str) -> bool:
    """Return whether a caller of that origin is at `address`, in any spelling; a name never matches."""
    if origin.address == address:
        return bool(address)
    # Only IPv6 has more than one accepted spelling.
    claimed = parse_address(address) if ":" in address else None
    return claimed is not None and str(claimed) == origin.address


def parse_address(text: str) -> IPAddress | None:
    """Return the address in `text`, an IPv4-mapped one (RFC 4291 §2.5.5.2) as IPv4, or None."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
