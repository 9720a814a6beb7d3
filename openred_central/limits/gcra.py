"""Rate limits by the generic cell rate algorithm (ITU-T I.371, annex A): one float for each key. Pure.

The float is the theoretical arrival time: the monotonic second at which everything taken so far would have
been taken at the steady pace. A key that is not known has used nothing, so forgetting one that has been idle
for as long as its burst lasts changes nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

# What an idle key has, and one that is not known.
UNUSED_S: Final = -math.inf
KEYS_MAX: Final = 65_536
# Sums of floats are off by less than this in years of uptime; nobody is refused for so little.
_ROUNDING_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `limit` requests in `window_s` seconds at a steady pace, and at most `burst` of them at once.

    Raises `ValueError` where one of them is not above 0, or the name cannot stand in a header field.
    """

    name: str
    limit: int
    window_s: int
    burst: int

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.replace("-", "").isalnum()):
            raise ValueError(f"the policy's name {self.name!r} is not made of letters, digits and hyphens")
        for name in ("limit", "window_s", "burst"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of {self.name} is {getattr(self, name)}, allowed is 1 or more")

    @property
    def interval_s(self) -> float:
        """The time in which one more request is earned."""
        return self.window_s / self.limit

    def times(self, factor: int) -> Policy:
        """The same pace for `factor` times as many requests."""
        return Policy(self.name, self.limit * factor, self.window_s, self.burst * factor)


class Verdict(NamedTuple):
    """Whether a request is `allowed`, and what is left after it.

    `remaining` requests may follow at once; in `reset_s` seconds the whole burst is there again;
    `retry_after_s` is how long one that is refused has to wait, 0 where it is not.
    """

    allowed: bool
    remaining: int
    reset_s: float
    retry_after_s: float


def charge(tat_s: float, policy: Policy, now_s: float) -> tuple[float, Verdict]:
    """Take one request from a key whose theoretical arrival time is `tat_s`, at `now_s` (monotonic).

    Returns the key's new time, which is the old one where the request is refused: waiting is all it takes,
    however often one tries meanwhile. Takes 0.6 µs.
    """
    interval_s = policy.window_s / policy.limit
    ahead_s = max(tat_s - now_s, 0.0)
    too_early_s = ahead_s - interval_s * (policy.burst - 1)
    if too_early_s > _ROUNDING_S:
        return tat_s, Verdict(False, 0, ahead_s, too_early_s)
    ahead_s += interval_s
    remaining = policy.burst - math.ceil((ahead_s - _ROUNDING_S) / interval_s)
    return now_s + ahead_s, Verdict(True, max(remaining, 0), ahead_s, 0.0)


class Table:
    """The theoretical arrival times of at most `keys_max` keys; the least recently used one gives way."""

    __slots__ = ("_keys_max", "_tats_s")

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        # In the order of last use. Not a plain dictionary, which looks for its first key past all that were
        # taken out: where all its keys are in use, charging a new one takes 3 µs instead of 10.
        self._tats_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tats_s)

    def charge(self, charges: Iterable[tuple[bytes, Policy]], now_s: float) -> Verdict:
        """Take one request from every key under its policy, or from none where one of them refuses it.

        So nobody can burn what is left to a whole network with requests that are refused anyway. The
        verdict is that of the key with the least left; there has to be at least one.
        """
        outcomes = [(key, *charge(self._tats_s.get(key, UNUSED_S), policy, now_s)) for key, policy in charges]
        tightest = min((verdict for _, _, verdict in outcomes), key=_room)
        for key, tat_s, _ in outcomes:
            if tightest.allowed:
                self._put(key, tat_s)
            elif key in self._tats_s:
                self._put(key, self._tats_s[key])
        return tightest

    def look(self, charges: Iterable[tuple[bytes, Policy]], now_s: float) -> Verdict:
        """What `charge` would say, with nothing taken."""
        verdicts = (charge(self._tats_s.get(key, UNUSED_S), policy, now_s)[1] for key, policy in charges)
        return min(verdicts, key=_room)

    def _put(self, key: bytes, tat_s: float) -> None:
        self._tats_s[key] = tat_s
        self._tats_s.move_to_end(key)
        if len(self._tats_s) > self._keys_max:
            self._tats_s.popitem(last=False)


def _room(verdict: Verdict) -> tuple[bool, int, float]:
    """Orders verdicts from the tightest to the widest."""
    return verdict.allowed, verdict.remaining, -verdict.retry_after_s
