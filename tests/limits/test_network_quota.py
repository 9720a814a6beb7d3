"""How many nodes one network may bring, counted exactly, in bounded memory."""

from __future__ import annotations

import random

from openred_central.limits.network_quota import NetworkQuota


class Nodes:
    """Which node, told by its time of registration, is in which slot."""

    def __init__(self) -> None:
        self.by_slot: dict[int, float] = {}
        self.asked = 0

    def is_there(self, slot: int, registered_at: float) -> bool:
        self.asked += 1
        return self.by_slot.get(slot) == registered_at


def slots_listed(quota: NetworkQuota) -> int:
    """How many slots stand in all its lists."""
    return sum(map(len, quota._slots.values()))


def test_a_full_network_has_no_room_until_one_of_its_nodes_is_gone() -> None:
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


def test_what_is_counted_is_what_is_there(seed: int) -> None:
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
        assert slots_listed(quota) <= 100


def test_a_million_networks_keep_no_more_than_there_are_slots_or_places() -> None:
    quota = NetworkQuota(lambda slot, at: False, networks_max=1_000)
    for number in range(1_000_000):
        quota.enter(number.to_bytes(3, "big"), number % 5_000, float(number))
    assert len(quota) == 1_000
    assert slots_listed(quota) == 1_000


def test_slots_that_are_used_again_are_listed_once() -> None:
    quota = NetworkQuota(lambda slot, at: False)
    for number in range(10_000):
        quota.enter(bytes([number % 251]), number % 7, float(number))
    assert slots_listed(quota) == 7
    assert len(quota) == 7
