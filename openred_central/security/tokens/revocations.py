"""Tokens that count no more, and those that were made lately. Both are bounded, whoever fills them.

Whether a token is genuine is decided by its signature alone. So what falls out of the recent tokens is as
valid as before, and what is revoked stays so until it would have expired anyway: a full set refuses new
entries, it forgets none.
"""

from __future__ import annotations

import heapq
import math
import re
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from ...clock import Now
from ..refused import LIFETIME_S_MAX

# 17.6 MB of recent tokens at most, and a few of revoked ones.
TOKENS_MAX = 65_536
# So many of those that have expired go with each further revocation.
SWEPT_MAX = 100
# The id of a token, and when it expires.
_REVOCATION = struct.Struct("<22sd")
_TOKEN_ID = re.compile(rb"[A-Za-z0-9_-]{22}")


class RevocationsFull(Exception):
    """So many tokens are revoked that no more can be remembered. Some expire with every minute."""


class Revocations:
    """The ids of tokens that were revoked, each until the token expires. Times are wall times in seconds.

    A revocation goes when both clocks say that the token has expired: the wall clock, and the monotonic one,
    counted from when the revocation came. So a wall clock that is set forward and back brings no token back.

    Changes that a store does not hold yet are noted: `take_unsaved` gives them. Nothing here takes longer
    where there are more of them.
    """

    def __init__(self, tokens_max: int = TOKENS_MAX) -> None:
        self._tokens_max = tokens_max
        self._expires_at: dict[str, float] = {}
        # By monotonic time.
        self._by_end: list[tuple[float, str]] = []
        # When the token expires, or None where the store is to forget it.
        self._unsaved: dict[str, float | None] = {}

    def __len__(self) -> int:
        return len(self._expires_at)

    def __contains__(self, token_id: str) -> bool:
        return token_id in self._expires_at

    def revoke(self, token_id: str, expires_at: float, now: Now) -> None:
        """Revoke the token of that id, which expires at `expires_at`. Harmless where it is revoked already.

        Raises `RevocationsFull`.
        """
        self.sweep(now)
        if token_id in self._expires_at or expires_at <= now.wall_s:
            return
        if len(self._expires_at) >= self._tokens_max:
            raise RevocationsFull(f"{self._tokens_max} tokens are revoked, more are not remembered")
        self._expires_at[token_id] = self._unsaved[token_id] = expires_at
        heapq.heappush(self._by_end, (now.monotonic_s + expires_at - now.wall_s, token_id))

    def restore(self, revoked: Mapping[str, float], monotonic_s: float) -> None:
        """Take in what a store holds at `monotonic_s`, by id when each expires.

        Each is kept for as long as a token may last, whatever a wall clock says that may be wrong at a start.
        """
        self._expires_at |= revoked
        self._by_end = [(monotonic_s + LIFETIME_S_MAX, token_id) for token_id in self._expires_at]
        heapq.heapify(self._by_end)

    def take_unsaved(self) -> dict[str, float | None]:
        """Take the changes for a store, noted no longer: by id when the token expires, None to forget it."""
        unsaved, self._unsaved = self._unsaved, {}
        return unsaved

    def put_back(self, unsaved: dict[str, float | None]) -> None:
        """Note again what was taken and could not be stored; what was noted since then counts."""
        unsaved.update(self._unsaved)
        self._unsaved = unsaved

    def sweep(self, now: Now) -> None:
        """Forget tokens that have expired, `SWEPT_MAX` at most: a request waits for it."""
        for _ in range(SWEPT_MAX):
            if not self._by_end or self._by_end[0][0] > now.monotonic_s:
                return
            _, token_id = heapq.heappop(self._by_end)
            left_s = self._expires_at[token_id] - now.wall_s
            if left_s > 0:
                # The wall clock was set back. It is asked again, at the latest when a token made now ends.
                again_s = now.monotonic_s + min(left_s, LIFETIME_S_MAX)
                heapq.heappush(self._by_end, (again_s, token_id))
                continue
            del self._expires_at[token_id]
            # A store need not forget what it was never told.
            if self._unsaved.pop(token_id, None) is None:
                self._unsaved[token_id] = None


def encode_revocations(revoked: Mapping[str, float]) -> bytes:
    """Revocations, by id when each token expires, as one piece of 30 bytes each."""
    return b"".join(
        _REVOCATION.pack(token_id.encode("ascii"), expires_at) for token_id, expires_at in revoked.items()
    )


def decode_revocations(encoded: bytes) -> dict[str, float]:
    """Read what `encode_revocations` wrote. Raises `ValueError` for all else, and for more than are kept."""
    if len(encoded) % _REVOCATION.size:
        raise ValueError(f"{len(encoded)} bytes are no revocations of {_REVOCATION.size} bytes each")
    if len(encoded) > TOKENS_MAX * _REVOCATION.size:
        raise ValueError(f"{len(encoded) // _REVOCATION.size} tokens are revoked, allowed are {TOKENS_MAX}")
    revoked: dict[str, float] = {}
    for token_id, expires_at in _REVOCATION.iter_unpack(encoded):
        fault = find_fault(token_id, expires_at)
        if fault is not None:
            raise ValueError(fault)
        revoked[token_id.decode("ascii")] = expires_at
    return revoked


def is_token_id(text: bytes) -> bool:
    """Whether `text` could be the id of a token."""
    return _TOKEN_ID.fullmatch(text) is not None


def find_fault(token_id: bytes, expires_at: float) -> str | None:
    """Return the fault of a stored revocation, or None."""
    if not is_token_id(token_id):
        return f"{token_id!r} is revoked, which is no id of a token"
    if not (isinstance(expires_at, float) and math.isfinite(expires_at)):
        return (
            f"the token {token_id.decode('ascii')} is revoked and expires at {expires_at!r}, which is no time"
        )
    return None


class RecentToken(NamedTuple):
    """What the directory remembers of a token: whom it is about, until when, and its counterpart in a pair.

    `generation` is that of the node's key; `peer_token_id` is None where the token was made alone.
    """

    node_id: str
    expires_at: float
    generation: int
    peer_token_id: str | None


class RecentTokens:
    """The tokens that were made or asked for lately, by id. Beyond `tokens_max` the least recent one goes."""

    def __init__(self, tokens_max: int = TOKENS_MAX) -> None:
        self._tokens_max = tokens_max
        # In the order of last use; what is asked for is put at the end again. Not a plain dictionary, which
        # looks for its first key past all that were taken out.
        self._tokens: OrderedDict[str, RecentToken] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, token_id: str, token: RecentToken) -> None:
        """Remember a token that was made."""
        self._tokens[token_id] = token
        self._tokens.move_to_end(token_id)
        if len(self._tokens) > self._tokens_max:
            self._tokens.popitem(last=False)

    def get(self, token_id: str, now_s: float) -> RecentToken | None:
        """What is remembered of a token that has not expired at wall time `now_s`."""
        token = self._tokens.pop(token_id, None)
        if token is None or token.expires_at <= now_s:
            return None
        self._tokens[token_id] = token
        return token

    def sweep(self, now_s: float) -> None:
        """Forget expired tokens, from the least recent one on as far as they are expired."""
        while self._tokens:
            token_id, token = next(iter(self._tokens.items()))
            if token.expires_at > now_s:
                return
            del self._tokens[token_id]
