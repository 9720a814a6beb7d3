"""Revoked tokens, and tokens that were made lately. Both are bounded.

The signature alone decides whether a token is genuine. So a token that falls out of the recent ones is as
valid as before. A revocation lasts until the token would have expired: a full set refuses new entries and
forgets none.
"""

from __future__ import annotations

import heapq
import math
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from ...clock import Now
from ...encoding import TOKEN_ID
from ..refusals import LIFETIME_S_MAX

TOKENS_MAX = 65_536
# How many expired revocations go with each new one.
SWEPT_MAX = 100
# The id of a token, and when it expires.
_REVOCATION = struct.Struct("<22sd")


class RevocationsFull(Exception):
    """The limit of revoked tokens is reached. Some expire with every minute."""


class Revocations:
    """The ids of tokens that were revoked, each until the token expires. Times are wall times in seconds.

    A revocation goes when both clocks say that the token has expired: the wall clock, and the monotonic one,
    counted from the revocation. So a wall clock that is set forward and back brings no token back.

    `take_unsaved` gives the changes that a store does not hold yet.
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
        """Revoke the token of that id, which expires at `expires_at`. To repeat it changes nothing.

        Raises `RevocationsFull`.
        """
        self.sweep(now)
        if token_id in self._expires_at or expires_at <= now.wall_s:
            return
        if len(self._expires_at) >= self._tokens_max:
            raise RevocationsFull(f"{self._tokens_max} tokens are revoked, which is the limit")
        self._expires_at[token_id] = self._unsaved[token_id] = expires_at
        heapq.heappush(self._by_end, (now.monotonic_s + expires_at - now.wall_s, token_id))

    def restore(self, revoked: Mapping[str, float], monotonic_s: float) -> None:
        """Take over the revocations of a store at `monotonic_s`, by id when each token expires.

        The wall clock may be wrong at a start, so each is kept for as long as a token may last.
        """
        self._expires_at |= revoked
        self._by_end = [(monotonic_s + LIFETIME_S_MAX, token_id) for token_id in self._expires_at]
        heapq.heapify(self._by_end)

    def store_all(self) -> None:
        """Let a store that has lost some get all revocations again."""
        self._unsaved = {**self._expires_at, **self._unsaved}

    def take_unsaved(self) -> dict[str, float | None]:
        """Return and clear the changes for a store: by id when the token expires, None to forget it."""
        unsaved, self._unsaved = self._unsaved, {}
        return unsaved

    def put_back(self, unsaved: dict[str, float | None]) -> None:
        """Note again changes that could not be stored; newer ones take precedence."""
        unsaved.update(self._unsaved)
        self._unsaved = unsaved

    def sweep(self, now: Now) -> None:
        """Forget tokens that have expired, at most `SWEPT_MAX`, because a request waits."""
        for _ in range(SWEPT_MAX):
            if not self._by_end or self._by_end[0][0] > now.monotonic_s:
                return
            _, token_id = heapq.heappop(self._by_end)
            left_s = self._expires_at[token_id] - now.wall_s
            if left_s > 0:
                # The wall clock was set back. Look again, at the latest when a token made now ends.
                again_s = now.monotonic_s + min(left_s, LIFETIME_S_MAX)
                heapq.heappush(self._by_end, (again_s, token_id))
                continue
            del self._expires_at[token_id]
            # A store need not forget a revocation that it never got.
            if self._unsaved.pop(token_id, None) is None:
                self._unsaved[token_id] = None


def encode_revocations(revoked: Mapping[str, float]) -> bytes:
    """Return revocations, by id when each token expires, as 30 bytes each."""
    return b"".join(
        _REVOCATION.pack(token_id.encode("ascii"), expires_at) for token_id, expires_at in revoked.items()
    )


def decode_revocations(encoded: bytes) -> dict[str, float]:
    """Return the revocations that `encode_revocations` wrote. Raises `ValueError`, also for too many."""
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
    """Return whether `text` could be the id of a token."""
    return TOKEN_ID.fullmatch(text.decode("latin-1")) is not None


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
    """A token as the directory remembers it: its node, its end, and its counterpart in a pair.

    `generation` is that of the node's key; `peer_token_id` is None where the token was made alone.
    """

    node_id: str
    expires_at: float
    generation: int
    peer_token_id: str | None


class RecentTokens:
    """The tokens that were made or looked up lately, by id. Beyond `tokens_max` the least recent one goes."""

    def __init__(self, tokens_max: int = TOKENS_MAX) -> None:
        self._tokens_max = tokens_max
        # In the order of last use. A plain dictionary would search for its first key among all that were
        # taken out.
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
        """Return a remembered token that has not expired at wall time `now_s`, or None."""
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
