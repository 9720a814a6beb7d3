"""The limit of nodes from one network: a /24 of IPv4, a /56 of IPv6. Pure.

It counts the nodes that were registered since the process started and still exist: the origin of a
registration is not stored. A known node is never refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

NODES_MAX: Final = 256
NETWORKS_MAX: Final = 65_536


class NetworkQuota:
    """The network that the node in each slot came from.

    At most `nodes_max` nodes for each of at most `networks_max` networks; beyond that, the network without a
    new node for longest is forgotten. `is_there` returns whether the node that was registered into a slot at
    that wall time still exists; only the nodes of a full network are checked.
    """

    def __init__(
        self,
        is_there: Callable[[int, float], bool],
        nodes_max: int = NODES_MAX,
        networks_max: int = NETWORKS_MAX,
    ) -> None:
        self._is_there = is_there
        self._nodes_max = nodes_max
        self._networks_max = networks_max
        # Network → slots, in the order of their last new nodes.
        self._slots: dict[bytes, array[int]] = {}
        # By slot. A slot stands in the list of one network at most, so that all of them are bounded.
        self._networks: list[bytes] = []
        self._registered_at = array("d")

    def __len__(self) -> int:
        return len(self._slots)

    def has_room(self, network: bytes) -> bool:
        """Return whether one more node may come from `network`."""
        slots = self._slots.get(network)
        if slots is None or len(slots) < self._nodes_max:
            return True
        there = array("I", (slot for slot in slots if self._is_there(slot, self._registered_at[slot])))
        self._slots[network] = there
        return len(there) < self._nodes_max

    def enter(self, network: bytes, slot: int, registered_at: float) -> None:
        """Count a node from `network` that was registered into `slot` at that wall time."""
        missing = slot + 1 - len(self._networks)
        if missing > 0:
            self._networks.extend([b""] * missing)
            self._registered_at.extend([0.0] * missing)
        former = self._slots.get(self._networks[slot])
        if former is not None and slot in former:
            former.remove(slot)
            if not former:
                del self._slots[self._networks[slot]]
        slots = self._slots.pop(network, None)
        if slots is None:
            slots = array("I")
            if len(self._slots) >= self._networks_max:
                del self._slots[next(iter(self._slots))]
        slots.append(slot)
        self._slots[network] = slots
        self._networks[slot] = network
        self._registered_at[slot] = registered_at
