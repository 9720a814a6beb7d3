"""Rate limits of single nodes: a float for each in a column by slot, which nobody can push out. Pure."""

from __future__ import annotations

from array import array

from .gcra import UNUSED_S, Policy, Verdict, charge


class NodeLimit:
    """What each node has used of one policy.

    A node is told by its slot and the wall time of its registration, so that one that takes over the slot
    of another begins with nothing used. 16 bytes for each slot up to the highest that was charged.
    """

    __slots__ = ("_registered_at", "_tats_s", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._tats_s = array("d")
        self._registered_at = array("d")

    def __len__(self) -> int:
        return len(self._tats_s)

    def charge(self, slot: int, registered_at: float, now_s: float) -> Verdict:
        """Take one request from the node in `slot`, at `now_s` (monotonic)."""
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
