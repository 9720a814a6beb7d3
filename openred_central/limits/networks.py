"""A set of networks, and which of them an address is in. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

from .origins import IPAddress, parse_address

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
# Addresses whose network was found; all are forgotten when one more comes, or the set changes.
_FOUND_MAX: Final = 4_096
# The bits before the IPv4 address in an IPv4-mapped one (RFC 4291 §2.5.5.2).
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def parse_network(text: str) -> IPNetwork:
    """Return the network in CIDR notation, or of one address; one of IPv4-mapped addresses as IPv4.

    Raises `ValueError`, also for bits behind the prefix, and for a zone, which addresses of callers may lack.
    """
    if "%" in text:
        raise ValueError(f"{text!r} has a zone; leave out the % and all behind it")
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = parse_address(str(network.network_address))
        return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED.prefixlen}")
    return network


class Networks:
    """Networks of IPv4 and IPv6, each by its usual text. `texts` are all of them.

    An address is looked up once for each length of a prefix that occurs, however many networks there are.
    """

    def __init__(self) -> None:
        # By version and length of the prefix: the text of each network, by its first bits.
        self._by_length: dict[tuple[int, int], dict[int, str]] = {}
        self._found: dict[str, str | None] = {}
        self.texts: dict[str, IPNetwork] = {}

    def add(self, text: str) -> None:
        """Add a network in the text that `parse_network` gives it. Raises `ValueError` for anything else."""
        network = parse_network(text)
        if str(network) != text:
            raise ValueError(f"{text!r} is not the usual text of {network}")
        self.texts[text] = network
        self._by_length.setdefault((network.version, network.prefixlen), {})[_bits(network)] = text
        self._found.clear()

    def discard(self, text: str) -> None:
        """Remove a network, if it is there."""
        network = self.texts.pop(text, None)
        if network is None:
            return
        length = network.version, network.prefixlen
        del self._by_length[length][_bits(network)]
        if not self._by_length[length]:
            del self._by_length[length]
        self._found.clear()

    def find(self, address: str) -> str | None:
        """Return the smallest network that `address` is in, an IPv4-mapped one as IPv4; None for no network.

        Text that is no address is in none.
        """
        if not self.texts:
            return None
        try:
            return self._found[address]
        except KeyError:
            if len(self._found) >= _FOUND_MAX:
                self._found.clear()
            parsed = parse_address(address)
            found = self._found[address] = None if parsed is None else self._look_up(parsed)
            return found

    def _look_up(self, address: IPAddress) -> str | None:
        bits, found, longest = int(address), None, -1
        for (version, length), texts in self._by_length.items():
            if version == address.version and length > longest:
                text = texts.get(bits >> (address.max_prefixlen - length))
                if text is not None:
                    found, longest = text, length
        return found


def _bits(network: IPNetwork) -> int:
    """Return the first bits of all addresses in `network`."""
    return int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
