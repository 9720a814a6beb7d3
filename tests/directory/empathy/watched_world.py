"""A population whose dues are met by chance: each due is a sample for the watch, as visits give them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from openred_central.clock import Now
from openred_central.directory.empathy.watch import Darkness, Watch
from openred_central.directory.life.pace import Pace
from openred_central.directory.lifecycle import DAY_S
from openred_central.directory.state.node import OBSERVED, Profile
from tests.support.building import HOUR_S, at, make_directory, register


class WatchedWorld:
    """Nodes that beat at one pace; those in `cut` slots are not heard. Time passes in hours."""

    def __init__(self, seed: int, *, pace_s: float = DAY_S) -> None:
        self.random = random.Random(seed)
        self.directory = make_directory(nodes_max=20_000)
        self.registry = self.directory.nodes.registry
        self.days = bytearray(20_000)
        self.watch = Watch(self.registry, self.days)
        self.pace = Pace(pace_s)
        self.hours = 1
        self.cut: set[int] = set()
        # By slot: the chance that a due is met, when it is, and whether the last one was missed.
        self.chances: list[float] = []
        self.dues_s: list[float] = []
        self.late: set[int] = set()
        # Reports of the watch: the group, whether it is dark or back, and the hour.
        self.reports: list[tuple[Darkness, bool, int]] = []
        self.watch.observers.append(lambda *report: self.reports.append((*report[:2], self.hours)))

    @property
    def now(self) -> Now:
        return at(self.hours * HOUR_S)

    def add(self, addresses: Iterable[str], region: str = "", *, vouched: bool = True) -> list[int]:
        """Register nodes at these addresses, and return their slots."""
        return self.add_all([(address, region) for address in addresses], vouched=vouched)

    def add_all(self, nodes: Iterable[tuple[str, str]], *, vouched: bool = True) -> list[int]:
        """Register nodes of addresses and regions; most are up nearly always, others half of the time."""
        slots = []
        for address, region in nodes:
            name = f"n{len(self.chances)}"
            slot = register(self.directory, name, self.now, profile=Profile(address, 1, "key"), region=region)
            assert slot == len(self.chances)
            self.registry.flags[slot] |= OBSERVED if vouched else 0
            self.days[slot] = 20
            self.chances.append(self.random.choice((0.98, 0.95, 0.9, 0.5)))
            self.dues_s.append(self.now.attended_s + self.pace.advice_s(slot, self.now.attended_s))
            slots.append(slot)
        return slots

    def run(self, hours: int, *, others: Callable[[], float] = lambda: 1.0) -> None:
        """Let time pass. `others` makes all chances wrong, by a factor."""
        for _ in range(hours):
            factor, count = others(), len(self.dues_s)
            for slot, due_s in enumerate(self.dues_s):
                seconds = slot * HOUR_S / count
                if due_s > self.now.attended_s + seconds or (
                    slot in self.late and self.random.random() < 0.5
                ):
                    continue
                # Slots are visited one after the other, within an hour.
                now = at(self.now.attended_s + seconds)
                up = slot not in self.cut and self.random.random() < factor * self.chances[slot]
                if slot not in self.late:
                    self.watch.sample(slot, self.chances[slot], up, now)
                (self.late.discard if up else self.late.add)(slot)
                if up:
                    self.registry.last_seen_s[slot] = now.attended_s
                    self.dues_s[slot] = now.attended_s + self.pace.advice_s(slot, now.attended_s)
            self.hours += 1
            for _ in range(-(-count // 16)):
                self.watch.regroup(self.now)


def network(first: str, count: int, networks: int) -> Sequence[str]:
    """Return addresses in a /16 that begins so, in so many of its /24."""
    return [f"{first}.{number % networks}.{1 + number // networks}" for number in range(count)]
