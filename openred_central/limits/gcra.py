"""Rate limits by the generic cell rate algorithm (ITU-T I.371, annex A): one float for each key. Pure.

The float is the theoretical arrival time: the monotonic second at which everything taken so far would have
been taken at the steady pace. An unknown key has used nothing, so forgetting one that has been idle for as
long as its burst lasts changes nothing.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

# The arrival time of a key that is idle or unknown.
UNUSED_S: Final = -math.inf
KEYS_MAX: Final = 65_536
# Larger than the errors of float sums in years of uptime; too little to refuse anybody.
_ROUNDING_S: Final = 1e-6


@dataclass(frozen=True)
class Policy:
    """At most `limit` requests in `window_s` seconds at a steady pace, and at most `burst` of them at once.

    Raises `ValueError` where one of them is not above 0, or the name cannot stand in a header.
    """

    name: str
    limit: int
    window_s: int
    burst: int

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.replace("-", "").isalnum()):
            raise ValueError(f"the name {self.name!r} of a policy may have letters, digits and hyphens only")
        for name in ("limit", "window_s", "burst"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of {self.name} is {getattr(self, name)}, allowed is 1 or more")

    @property
    def interval_s(self) -> float:
        """The time in which one more request is earned."""
        return self.window_s / self.limit

    def times(self, factor: int) -> Policy:
        return Policy(self.name, self.limit * factor, self.window_s, self.burst * factor)


class Verdict(NamedTuple):
    """The decision whether a request is `allowed`, and the rest of the budget.

    `remaining` requests may follow at once; in `reset_s` seconds the whole burst is available again;
    `retry_after_s` is how long a refused request has to wait, 0 for an allowed one.
    """

    allowed: bool
    remaining: int
    reset_s: float
    retry_after_s: float


def charge(tat_s: float, policy: Policy, now_s: float) -> tuple[float, Verdict]:
    """Charge one request to a key whose theoretical arrival time is `tat_s`, at `now_s` (monotonic).

    Returns the key's new time with the verdict. A refusal leaves the time unchanged, so attempts during the
    wait do not prolong it.
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

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        # In the order of last use. A plain dictionary would search for its first key among all that were
        # taken out.
        self._tats_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tats_s)

    def charge(self, charges: Iterable[tuple[bytes, Policy]], now_s: float) -> Verdict:
        """Charge one request to every key under its policy, or to none where one of them refuses it.

        So refused requests of one address cannot use up the budget of its network. The verdict is that of the
        key with the smallest rest; there must be at least one key.
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
        """Return the verdict that `charge` would give, and charge nothing."""
        verdicts = (charge(self._tats_s.get(key, UNUSED_S), policy, now_s)[1] for key, policy in charges)
        return min(verdicts, key=_room)

    def _put(self, key: bytes, tat_s: float) -> None:
        self._tats_s[key] = tat_s
        self._tats_s.move_to_end(key)
        if len(self._tats_s) > self._keys_max:
            self._tats_s.popitem(last=False)


class NodeLimit:
    """The use that each node has made of one policy: a float in a column by slot, which nobody can displace.

    Slot and wall time of registration identify a node, so a new node in the slot of a former one starts with
    nothing used. 16 bytes for each slot up to the highest that was charged.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._tats_s = array("d")
        self._registered_at = array("d")

    def __len__(self) -> int:
        return len(self._tats_s)

    def charge(self, slot: int, registered_at: float, now_s: float) -> Verdict:
        """Charge one request to the node in `slot`, at `now_s` (monotonic)."""
        missing = slot + 1 - len(self._tats_s)
        if missing > 0:
            self._tats_s.extend([UNUSED_S] * missing)
            self._registered_at.extend([registered_at] * missing)
        tat_s = self._tats_s[slot]
        if self._registered_at[slot] != registered_at:
            self._registered_at[slot] = registered_at
            tat_s = UNUSED_S
        self._tats_s[slot], verdict = charge(tat_s, self.policy, now_s)
        return verdict


def _room(verdict: Verdict) -> tuple[bool, int, float]:
    """Return a key that sorts verdicts from the tightest to the widest."""
    return verdict.allowed, verdict.remaining, -verdict.retry_after_s
