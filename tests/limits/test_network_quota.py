"""The nodes of a network are counted exactly, in bounded memory."""

from __future__ import annotations

import random

from openred_central.limits.network_quota import NetworkQuota


class Nodes:
    """The node in each slot, identified by its time of registration."""

    def __init__(self) -> None:
        self.by_slot: dict[int, float] = {}
        self.asked = 0

    def is_there(self, slot: int, registered_at: float) -> bool:
        self.asked += 1
        return self.by_slot.get(slot) == registered_at


def test_full_network_has_room_once_a_node_is_gone() -> None:
    nodes = Nodes()
    quota = NetworkQuota(nodes.is_there)
    for slot in range(256):
        assert quota.has_room(b"net")
        nodes.by_slot[slot] = float(slot)
        quota.enter(b"net", slot, float(slot))
    assert nodes.asked == 0
    assert not quota.has_room(b"net")
    assert quota.has_room(b"other")
    # Another node in the slot is not the one that was counted.
    nodes.by_slot[100] = 1_000.0
    assert quota.has_room(b"net")
    quota.enter(b"net", 300, 1.0)
    nodes.by_slot[300] = 1.0
    assert not quota.has_room(b"net")


def test_counts_match_the_nodes(seed: int) -> None:
    random_, nodes = random.Random(seed), Nodes()
    quota, network_of = NetworkQuota(nodes.is_there, nodes_max=5), dict[int, bytes]()
    for step in range(5_000):
        if network_of and random_.random() < 0.5:
            slot = random_.choice(list(network_of))
            del network_of[slot], nodes.by_slot[slot]
            continue
        network = bytes([random_.randrange(8)])
        there = list(network_of.values()).count(network)
        assert quota.has_room(network) == (there < 5)
        if there < 5:
            slot = min(set(range(100)) - network_of.keys())
            quota.enter(network, slot, float(step))
            network_of[slot], nodes.by_slot[slot] = network, float(step)


def test_a_million_networks_stay_within_bounds() -> None:
    quota = NetworkQuota(lambda slot, at: False, networks_max=1_000)
    for number in range(1_000_000):
        quota.enter(number.to_bytes(3, "big"), number % 5_000, float(number))
    assert len(quota) == 1_000


def test_reused_slots_are_counted_once() -> None:
    nodes = Nodes()
    quota = NetworkQuota(nodes.is_there, nodes_max=8)
    for number in range(10_000):
        quota.enter(bytes([number % 3]), number % 7, float(number))
    assert len(quota) == 3
    # With eight slots listed, the nodes of a network would have been checked.
    assert all(quota.has_room(bytes([network])) for network in range(3))
    assert nodes.asked == 0
