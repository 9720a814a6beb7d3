"""The groups that a node belongs to: its networks, its region, and all nodes. Pure.

A network is the prefix of a literal address, packed: the lengths tell a /24 (3 bytes) and a /16 (2) of IPv4,
and a /48 (6) and a /32 (4) of IPv6 apart. A region is its name, and `ALL` has no bytes.
"""

from __future__ import annotations

import ipaddress
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, NamedTuple

from ..state.registry import Registry

Group = bytes | str

ALL: Final = b""
# By the bytes of an address: those of its finer and of its coarser network.
_FINE: Final = {4: 3, 16: 6}
_COARSE: Final = {4: 2, 16: 4}
# The begin of an IPv4 address within IPv6 (RFC 4291 §2.5.5.2).
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Groups(NamedTuple):
    """The groups of a node, the smallest first.

    Each comes with the smaller group of the node in it: a part of the group that must not explain it alone.
    Nodes with DNS names are one such part together.
    """

    groups: tuple[Group, ...]
    parts: tuple[bytes, ...]


def groups_of(registry: Registry, slot: int) -> Groups:
    """Return the groups of the node in `slot`."""
    region = registry.service_set(slot).region
    wide: tuple[Group, ...] = (region, ALL) if region else (ALL,)
    packed = _packed(registry.address(slot))
    if not packed:
        return Groups(wide, (ALL,) * len(wide))
    fine, coarse = packed[: _FINE[len(packed)]], packed[: _COARSE[len(packed)]]
    # No part of a fine network is seen.
    return Groups((fine, coarse, *wide), (fine, fine, *(coarse,) * len(wide)))


def is_public(group: Group) -> bool:
    """Return whether everybody may see `group`: a finer network could be one household or firm."""
    return isinstance(group, str) or len(group) not in _FINE.values()


def name_of(group: Group) -> str:
    """Return a group as text: ``all``, ``region:eu``, ``198.51.0.0/16`` or ``2001:db8::/32``."""
    if isinstance(group, str):
        return f"region:{group}"
    if not group:
        return "all"
    size = 4 if len(group) in (_FINE[4], _COARSE[4]) else 16
    return f"{ipaddress.ip_address(group.ljust(size, bytes(1)))}/{8 * len(group)}"


def _packed(address: str) -> bytes:
    """Return the bytes of a literal address, none of a DNS name. It is much faster than `ipaddress`."""
    try:
        if ":" not in address:
            # Names rarely end with a digit, and failing is slow.
            return inet_pton(AF_INET, address) if address[-1:].isdigit() else b""
        packed = inet_pton(AF_INET6, address)
    except (OSError, ValueError):
        return b""
    return packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed
