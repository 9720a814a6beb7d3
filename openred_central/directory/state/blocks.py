"""Blocks: the ids, keys and networks that operators keep out, each with a reason and perhaps an end. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from ...limits.networks import Networks

# Operators add no more. All that a store or a leader has hold nevertheless.
BLOCKS_MAX: Final = 10_000
REASON_CHARACTERS_MAX: Final = 200
# The first part of the names under which a store keeps blocks; kind and subject follow.
BLOCK: Final = "block"


class Kind(StrEnum):
    """A kind of subjects: the id of a node, the fingerprint of a key, a network in CIDR notation."""

    ID = "id"
    KEY = "key"
    NETWORK = "network"


class Block(NamedTuple):
    """One block. `made_at` and `ends_at` are wall times; without an end it holds for ever."""

    kind: Kind
    subject: str
    reason: str
    made_at: float
    ends_at: float | None


class Blocks:
    """All blocks by kind and subject, oldest first. They hold until they are removed.

    `networks` finds the blocked network of an address.
    """

    def __init__(self) -> None:
        self.networks = Networks()
        self._blocks: dict[tuple[Kind, str], Block] = {}
        self._counts = dict.fromkeys(Kind, 0)

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks.values())

    def count(self, kind: Kind) -> int:
        """Return how many blocks of `kind` there are."""
        return self._counts[kind]

    def get(self, kind: Kind, subject: str) -> Block | None:
        return self._blocks.get((kind, subject))

    def put(self, block: Block) -> None:
        """Add a block, in place of a former one of the subject.

        Raise `ValueError` for a network in no usual text.
        """
        place = block.kind, block.subject
        if place not in self._blocks:
            if block.kind is Kind.NETWORK:
                self.networks.add(block.subject)
            self._counts[block.kind] += 1
        self._blocks[place] = block

    def remove(self, kind: Kind, subject: str) -> Block | None:
        """Remove and return a block; None if there is none."""
        block = self._blocks.pop((kind, subject), None)
        if block is not None:
            self._counts[kind] -= 1
            if kind is Kind.NETWORK:
                self.networks.discard(subject)
        return block

    def of_address(self, address: str) -> Block | None:
        """Return the block of the smallest network that `address` is in; None for one that is in none."""
        network = self.networks.find(address)
        return None if network is None else self._blocks[Kind.NETWORK, network]

    def first_end_at(self) -> float:
        """Return the wall time at which the next block ends; infinity if none does."""
        return min((block.ends_at for block in self if block.ends_at is not None), default=math.inf)

    def ended(self, wall_s: float) -> list[Block]:
        """Return the blocks that have ended."""
        return [block for block in self if block.ends_at is not None and block.ends_at <= wall_s]

    def take(self, name: str, value: bytes | None) -> None:
        """Take what a store or a leader has under `name`; None removes it. Raise as `unpack` and `put`."""
        if value is None:
            _, kind, subject = name.split("/", 2)
            self.remove(Kind(kind), subject)
        else:
            self.put(unpack(name, value))


def name_of(block: Block) -> str:
    """Return the name under which a store keeps `block`."""
    return f"{BLOCK}/{block.kind.value}/{block.subject}"


def is_block(name: str) -> bool:
    """Return whether a store keeps a block under `name`."""
    return name.startswith(f"{BLOCK}/")


def pack(block: Block) -> bytes:
    """Return `block` without kind and subject, which stand in `name_of`."""
    return orjson.dumps({"reason": block.reason, "made_at": block.made_at, "ends_at": block.ends_at})


def unpack(name: str, value: bytes) -> Block:
    """Return the block that `pack` made `value` of. Raise `ValueError` or `LookupError` for anything else."""
    _, kind, subject = name.split("/", 2)
    fields: dict[str, Any] = orjson.loads(value)
    reason, made_at, ends_at = fields["reason"], fields["made_at"], fields["ends_at"]
    if not (isinstance(reason, str) and len(reason) <= REASON_CHARACTERS_MAX):
        raise ValueError(f"the reason is {str(reason)[:80]!r}")
    if not (_is_time(made_at) and (ends_at is None or _is_time(ends_at))):
        raise ValueError(f"the times are {made_at!r} and {ends_at!r}")
    return Block(Kind(kind), subject, reason, float(made_at), None if ends_at is None else float(ends_at))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
