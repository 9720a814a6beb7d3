"""Replay: clients of nodes that come and go send signs of life to a real `Directory` under a virtual clock.

The directory hears what a directory hears. When each node really was up is used to ask questions at random
moments, and to score the answers.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from openred_central.clock import Now
from openred_central.directory.lifecycle import DAY_S
from openred_central.directory.registration import Registration
from openred_central.directory.state.node import Profile
from openred_central.settings.config import Configuration
from openred_central.simulation.clients import Client, Kind, Next
from openred_central.simulation.policies import ADAPTIVE, make_directory
from openred_central.simulation.population import Presence

from .baselines import Curve, Heard

HOUR_S = 3_600.0
# Nodes in one question, as many as a discovery draws.
DRAWN = 50
# The attended time at which a replay begins.
BEGIN_S = DAY_S
_EXPIRED_MAX = 1_000_000
# So few nodes may fall silent together.
POLICY = ADAPTIVE._replace(guarded=False)


class Options(NamedTuple):
    """One replay: the pace advised, the kinds of clients, and how many of them ignore the advice.

    The directory visits each node every `visits_apart_s`. With a `pace_min_s`, it chooses the pace of each
    node from there to `pace_s`. Questions are asked at `moments` random times after `warm_up_s`.
    """

    pace_s: float = DAY_S
    kinds: tuple[Kind, ...] = (Kind.OFFLINE,)
    ignore: float = 0.2
    moments: int = 2_000
    warm_up_s: float = 14 * DAY_S
    pace_min_s: float | None = None
    visits_apart_s: float = HOUR_S


class Question(NamedTuple):
    """One node at a random moment: whether it is up, in how many seconds it is up again, and what is known.

    Nothing is known of it after `known_s` more seconds.
    """

    number: int
    slot: int
    heard: Heard
    is_up: bool
    back_s: float
    known_s: float


class Replay:
    """The nodes of a trace and their directory. Everything is drawn from one seed."""

    def __init__(self, nodes: Sequence[Presence], options: Options, seed: int) -> None:
        self.options = options
        self.nodes = nodes
        self.curve = Curve()
        self.beats = 0
        self.heard: dict[int, Heard] = {}
        self._chance = Random(seed)
        self._begin_at = min(node.observed[0][0] for node in nodes)
        self._end_at = max(node.observed[-1][1] for node in nodes)
        self.directory = make_directory(
            POLICY,
            Configuration(),
            nodes_max=2 * len(nodes) + 100,
            paces_s=(options.pace_min_s or options.pace_s, options.pace_s),
            random=self._chance.random,
        )
        if self.directory.visiting is None or self.directory.forecast is None:
            raise ValueError("a directory without forecasts predicts nothing")
        self._visiting, self.forecast = self.directory.visiting, self.directory.forecast
        self._visiting.begin()
        self._visit_at = self._begin_at
        self._clients = [
            Client(
                self._chance.choice(options.kinds),
                node.up,
                options.pace_s,
                self._chance.random() < options.ignore,
                self._chance,
            )
            for node in nodes
        ]
        self._starts = [[start for start, _ in node.up] for node in nodes]
        # Nodes that are registered and observed, and the place of each in the list.
        self._known: list[int] = []
        self._places: dict[int, int] = {}
        self._events: list[tuple[float, int, Next | None]] = []

    def now(self, at: float) -> Now:
        attended_s = BEGIN_S + at - self._begin_at
        return Now(attended_s, at, attended_s)

    def run(self, ask: Callable[[Now, list[Question]], None]) -> None:
        """Let all events happen in order; at random moments call `ask` with the questions of that moment."""
        for number, (node, client) in enumerate(zip(self.nodes, self._clients, strict=True)):
            first = client.first()
            self._events.append((first.at, number, first))
            self._events.append((node.observed[-1][1], number, None))
        heapq.heapify(self._events)
        first_at = self._begin_at + self.options.warm_up_s
        moments = sorted(self._chance.uniform(first_at, self._end_at) for _ in range(self.options.moments))
        moments.append(math.inf)
        asked, passed_at = 0, self._begin_at
        while self._events:
            at, number, event = heapq.heappop(self._events)
            while moments[asked] < at:
                self._let_pass(passed_at, moments[asked])
                passed_at = moments[asked]
                self._ask(passed_at, ask)
                asked += 1
            if at >= passed_at + HOUR_S:
                self._let_pass(passed_at, at)
                passed_at = at
            self._visit_until(at)
            if event is None:
                self._forget(number, at)
            else:
                self._beat(number, event)

    def _beat(self, number: int, event: Next) -> None:
        """Let a node send a sign of life, and plan its next one."""
        if event.at >= self.nodes[number].observed[-1][1]:
            return
        directory, name, now = self.directory, f"n{number}", self.now(event.at)
        slot = directory.nodes.registry.slot_of(name)
        if slot is None or event.registers:
            slot = directory.register(_registration(name), proved=False, now=now).slot
        directory.heartbeat(slot, now)
        self.beats += 1
        advice_s = directory.advice_s(slot, now)
        due_s = now.attended_s + advice_s + directory.paces.slack_s[directory.nodes.habits.paces[slot]]
        known = self.heard.get(number)
        if known is None:
            self.heard[number] = Heard(now.attended_s, due_s, self.options.pace_s)
            self._places[number] = len(self._known)
            self._known.append(number)
        else:
            if known.is_late(now.attended_s):
                self._expose(known, now.attended_s, returned=True)
            known.again(now.attended_s, due_s)
        upcoming = self._clients[number].next(event.at, advice_s)
        if upcoming is not None:
            heapq.heappush(self._events, (upcoming.at, number, upcoming))

    def _forget(self, number: int, at: float) -> None:
        """End the observation of a node: nothing more is known of it."""
        place = self._places.pop(number, None)
        if place is None:
            return
        last = self._known.pop()
        if last != number:
            self._known[place] = last
            self._places[last] = place
        known = self.heard.pop(number)
        now = self.now(at)
        if known.is_late(now.attended_s):
            self._expose(known, now.attended_s, returned=False)
        if self.directory.nodes.registry.slot_of(f"n{number}") is not None:
            self.directory.forget(f"n{number}", now)

    def _let_pass(self, passed_at: float, at: float) -> None:
        """Let the directory do what it does by itself up to a time."""
        self._visit_until(at)
        now = self.now(at)
        self.directory.expiry.expire_due(now, _EXPIRED_MAX)
        # Once a day.
        if at // DAY_S > passed_at // DAY_S:
            for known in self.heard.values():
                if known.is_late(now.attended_s):
                    self._expose(known, now.attended_s, returned=False)

    def _visit_until(self, at: float) -> None:
        """Let the directory visit its nodes, each at its time."""
        while self._visit_at <= at:
            now = self.now(self._visit_at)
            while (next_s := self._visiting.next_s(now.attended_s)) <= now.attended_s:
                self._visiting.visit(now)
            # Visits that come too late are made up for, each once.
            further_s = self.options.visits_apart_s - self._visiting.visit_s
            self._visit_at = self._begin_at + next_s - BEGIN_S + max(0.0, further_s)

    def _expose(self, known: Heard, now_s: float, *, returned: bool) -> None:
        late_s = now_s - known.due_s
        self.curve.expose(known.exposed_s, late_s, returned=returned)
        known.exposed_s = late_s

    def _ask(self, at: float, ask: Callable[[Now, list[Question]], None]) -> None:
        now = self.now(at)
        self.curve.renew(now.attended_s)
        drawn = self._chance.sample(self._known, min(DRAWN, len(self._known)))
        questions = [self._question(number, at) for number in drawn]
        ask(now, [question for question in questions if question is not None])

    def _question(self, number: int, at: float) -> Question | None:
        """Return the question about a node, with its answer; None where nobody observed the node."""
        node = self.nodes[number]
        slot = self.directory.nodes.registry.slot_of(f"n{number}")
        if slot is None or not any(start <= at < end for start, end in node.observed):
            return None
        place = bisect_right(self._starts[number], at) - 1
        is_up = place >= 0 and at < node.up[place][1]
        following = node.up[place + 1][0] if place + 1 < len(node.up) else math.inf
        back_s = 0.0 if is_up else following - at
        return Question(number, slot, self.heard[number], is_up, back_s, node.observed[-1][1] - at)


def _registration(name: str) -> Registration:
    return Registration(name, Profile("192.0.2.1", 7_000, f"key of {name}", metadata={}), services="storage")
