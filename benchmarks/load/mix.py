"""Which kinds of requests are sent, and in what proportion: ``heartbeat=80,discover=15,register=5``."""

from __future__ import annotations

import random
from collections.abc import Collection

SHARE_MAX = 10_000


class MixError(ValueError):
    """A mix cannot be read. The message says what is wrong and what is allowed."""


def parse(text: str, kinds: Collection[str]) -> dict[str, int]:
    """Kind → share of a mix such as ``heartbeat=80,discover=20``; a kind alone has the share 1.

    Raises `MixError`.
    """
    shares: dict[str, int] = {}
    for part in text.split(","):
        kind, given, share = (piece.strip() for piece in part.partition("="))
        if kind not in kinds:
            raise MixError(f"{kind!r} is no kind of request; there are {', '.join(kinds)}")
        if kind in shares:
            raise MixError(f"{kind} is there twice; give its whole share once")
        if given and not (share.isascii() and share.isdecimal() and 0 < int(share) <= SHARE_MAX):
            raise MixError(f"the share of {kind} is {share!r}, allowed is a whole number, 1 to {SHARE_MAX}")
        shares[kind] = int(share) if given else 1
    return shares


def deal(shares: dict[str, int], chance: random.Random) -> list[str]:
    """One whole round of a mix, shuffled: each kind as often as its share says."""
    dealt = [kind for kind, share in shares.items() for _ in range(share)]
    chance.shuffle(dealt)
    return dealt
