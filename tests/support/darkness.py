"""A directory in which a /24 and a /16 are dark."""

from __future__ import annotations

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.empathy.watch import Watch
from openred_central.directory.state.node import PROVEN, Profile
from tests.support.building import HOUR_S, register

FINE = "192.0.2.0/24"
COARSE = "198.51.0.0/16"


def darken(directory: Directory, watch: Watch, now: Now) -> None:
    """Register nodes, and let `watch` hear within an hour that all of them were missed."""
    addresses = [f"192.0.2.{number}" for number in range(60)]
    addresses += [f"198.51.{number % 6}.{number}" for number in range(60)]
    slots = [
        register(directory, f"dark-{number}", now, profile=Profile(address, 1, "key"))
        for number, address in enumerate(addresses)
    ]
    for slot in slots:
        directory.nodes.registry.flags[slot] |= PROVEN
    for _ in range(2 + directory.nodes.registry.slots_count // 8):
        watch.regroup(now)
    for hours in (0.0, 1.5):
        later = Now(now.attended_s + hours * HOUR_S, now.wall_s + hours * HOUR_S, now.monotonic_s)
        for slot in slots:
            watch.sample(slot, 0.95, False, later)
