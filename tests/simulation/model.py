"""A naive directory, written from the page about the life of a node and from nothing else.

Plain dictionaries; whatever can be computed is computed anew each time. It does not decide *when* silence is
looked at, which is the scheduler's: it is told each transition by silence and judges whether that was due,
and it tells afterwards who is still due.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from openred_central.clock import Now
from openred_central.directory.lifecycle import LifecycleOptions, State
from openred_central.directory.state.node import Transition, hash_id

SILENCE = {
    State.ACTIVE: (State.PENDING_FIRST_CHECK, "heartbeat_tolerance_s"),
    State.PENDING_FIRST_CHECK: (State.FAILED_FIRST_CHECK, "grace_s"),
    State.FAILED_FIRST_CHECK: (State.RETRY_48H, "second_look_s"),
    State.RETRY_48H: (State.RETRY_2W, "retry_48h_s"),
    State.RETRY_2W: (State.RETRY_2M, "retry_2w_s"),
    State.RETRY_2M: (State.COMA, "retry_2m_s"),
    State.COMA: (State.DEAD, "coma_s"),
}
HISTORY_KEPT = 16
SAME_ABSENCE_S = 1.0


class Refused(Exception):
    """The model would not do that either; the message is the code of the error."""


@dataclass
class Said:
    """The statement of a node when it registers."""

    key: str
    services: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    discoverable: bool = True
    away_until_at: float | None = None


def remembered(said: Said) -> Said:
    """Return the part to keep: the end of an absence is kept apart, in attended time."""
    return replace(said, away_until_at=None)


@dataclass
class Node:
    """One node of the model. Times in `_s` are attended, those in `_at` are wall times."""

    said: Said
    registered_at: float
    state: State
    since_s: float
    last_seen_s: float
    last_seen_at: float
    away_until_s: float = 0.0
    left: bool = False
    longest_s: float = 0.0
    history: list[tuple[State, State, str]] = field(default_factory=list)

    def identity(self) -> tuple[object, ...]:
        """Return the acknowledged facts, which must survive everything but death."""
        said = self.said
        return (
            said.key,
            said.services,
            repr(said.metadata),
            said.discoverable,
            self.registered_at,
            self.left,
            self.longest_s,
        )


@dataclass
class Grave:
    """The remains of a dead node."""

    key: str
    died_s: float
    reason: str


@dataclass
class Model:
    """All nodes and graves by id, and the clock of the life cycle."""

    life: LifecycleOptions
    nodes_max: int
    tick_s: float
    patience: float = 1.0
    nodes: dict[str, Node] = field(default_factory=dict)
    # In the order in which they were put up.
    graves: dict[str, Grave] = field(default_factory=dict)
    # When each node, also a dead one, last moved on by silence, until it is heard, leaves or is forgotten.
    silent_s: dict[str, float] = field(default_factory=dict)
    attended_s: float = 0.0
    attending: bool = True
    # Transitions that must be announced next, as (node_id, from, to, reason), those by silence left out.
    expected: list[tuple[str, State, State, str]] = field(default_factory=list)
    happened: Counter[tuple[State, State, str]] = field(default_factory=Counter)

    def attended_after_s(self, passed_s: float) -> float:
        """Return the attended time when `passed_s` monotonic seconds have passed since the last tick."""
        return self.attended_s + min(passed_s, 2 * self.tick_s) if self.attending else self.attended_s

    def due_s(self, node: Node) -> float:
        """When the state of `node` ends by silence."""
        _, setting = SILENCE[node.state]
        dwell_s: float = getattr(self.life, setting)
        most = {State.ACTIVE: self.patience, State.COMA: min(self.patience, 1.5)}.get(node.state, 1.0)
        dwell_s = max(dwell_s, min(most * dwell_s, 1.5 * node.longest_s))
        if node.state is State.ACTIVE:
            return max(node.last_seen_s + dwell_s, node.away_until_s)
        return node.since_s + dwell_s

    def grave_ends_s(self, grave: Grave) -> float:
        return grave.died_s + self.life.tombstone_s

    def register(self, node_id: str, said: Said, now: Now, *, proved: bool) -> str:
        node = self.nodes.get(node_id)
        if node is None:
            return self._register_new(node_id, said, now)
        changed = remembered(said) != node.said
        away_until_s = self._away_until_s(said, now, node.away_until_s)
        if away_until_s != node.away_until_s and not proved:
            # An absence that is told again lies elsewhere in attended time once the directory was away.
            if not (said.away_until_at and node.away_until_s):
                raise Refused("node_id_taken")
            away_until_s = node.away_until_s
        if changed and not proved:
            raise Refused("node_id_taken")
        node.said, node.away_until_s = remembered(said), away_until_s
        return "updated" if self._heard(node_id, "registered", now) is State.ACTIVE else "revived"

    def heartbeat(self, node_id: str, now: Now) -> State:
        """Return the state in which the heartbeat found the node."""
        self._require(node_id)
        return self._heard(node_id, "sign_of_life", now)

    def amend(self, node_id: str, said: Said, now: Now) -> None:
        """Apply the statement of a node with a heartbeat."""
        node = self.nodes[node_id]
        node.away_until_s = self._away_until_s(said, now, node.away_until_s)
        node.said = remembered(said)

    def came_back(self, node_id: str, absence_s: float) -> None:
        """Remember an absence, rounded up to the next eighth of an octave above a minute."""
        rounded_s, step = 60.0, 0
        while rounded_s < absence_s:
            step += 1
            rounded_s = float(round(60 * 2 ** (step / 8)))
        node = self.nodes[node_id]
        node.longest_s = max(node.longest_s, rounded_s)

    def leave(self, node_id: str, now: Now) -> None:
        self._require(node_id)
        self._heard(node_id, "sign_of_life", now)
        node = self.nodes[node_id]
        node.left, node.away_until_s = True, 0.0
        self._enter(node_id, State.COMA, "left", now.attended_s)

    def forget(self, node_id: str, now: Now) -> None:
        self._require(node_id)
        self.silent_s.pop(node_id, None)
        self._bury(node_id, "forgotten", now.attended_s)

    def silence(self, transition: Transition, now: Now) -> None:
        """Check an announced transition by silence: the node was due for it at that very time."""
        if transition.from_state is State.DEAD:
            self._forget_grave(transition, now)
            return
        node = self.nodes[transition.node_id]
        due_s = self.due_s(node)
        assert due_s <= now.attended_s, f"{transition} came {due_s - now.attended_s} s early"
        assert (transition.from_state, transition.to_state) == (node.state, SILENCE[node.state][0])
        assert transition.at_s == due_s, f"{transition} counts from another time than its deadline {due_s}"
        assert abs(transition.at - (now.wall_s - (now.attended_s - due_s))) < 0.001
        if transition.to_state is State.DEAD:
            self._bury(transition.node_id, "deadline", due_s)
        else:
            self._enter(transition.node_id, transition.to_state, "deadline", due_s)
        self.silent_s[transition.node_id] = now.attended_s
        # It was announced already.
        self.expected.pop()

    def due(self, now: Now) -> list[str]:
        """Return the nodes whose deadlines have passed."""
        return [node_id for node_id, node in self.nodes.items() if self.due_s(node) <= now.attended_s]

    def silent_since(self, attended_s: float) -> int:
        """Return how many nodes moved on by silence after `attended_s` and were not heard since."""
        return sum(at_s > attended_s for at_s in self.silent_s.values())

    def grave_due(self, now: Now) -> bool:
        """Return whether the oldest grave of a kind should be gone; a younger one may wait for an older."""
        return any(self.grave_ends_s(self.graves[name]) <= now.attended_s for name in self._oldest_graves())

    def rolled_back(self, nodes: dict[str, Node], graves: dict[str, Grave], attended_s: float) -> None:
        """Let the process die: only stored data remains."""
        self.nodes = copy.deepcopy(nodes)
        self.graves = dict(sorted(graves.items(), key=lambda item: item[1].died_s))
        self.attended_s, self.attending = attended_s, True
        self.silent_s.clear()
        self.expected.clear()
        self.happened.clear()

    def _register_new(self, node_id: str, said: Said, now: Now) -> str:
        grave = self.graves.get(node_id)
        if grave is not None and grave.key != said.key:
            raise Refused("node_id_taken")
        if len(self.nodes) >= self.nodes_max:
            raise Refused("directory_full")
        self.graves.pop(node_id, None)
        self.silent_s.pop(node_id, None)
        away_until_s = self._away_until_s(said, now, None)
        self.nodes[node_id] = Node(
            remembered(said),
            now.wall_s,
            State.ACTIVE,
            now.attended_s,
            now.attended_s,
            now.wall_s,
            away_until_s,
        )
        from_state = State.ABSENT if grave is None else State.DEAD
        if grave is not None:
            self.nodes[node_id].history.append((State.DEAD, State.ACTIVE, "registered"))
        self._announce(node_id, from_state, State.ACTIVE, "registered")
        return "registered"

    def _away_until_s(self, said: Said, now: Now, before_s: float | None) -> float:
        if said.away_until_at is None:
            return before_s or 0.0
        ahead_s = said.away_until_at - now.wall_s
        told_s = now.attended_s + min(ahead_s, self.life.coma_s) if ahead_s > 0 else 0.0
        # Told again, the same absence is not another one.
        return told_s if before_s is None or abs(told_s - before_s) > SAME_ABSENCE_S else before_s

    def _require(self, node_id: str) -> None:
        if node_id not in self.nodes:
            raise Refused("node_dead" if node_id in self.graves else "node_not_found")

    def _heard(self, node_id: str, reason: str, now: Now) -> State:
        node = self.nodes[node_id]
        state = node.state
        self.silent_s.pop(node_id, None)
        node.last_seen_s, node.last_seen_at = max(node.last_seen_s, now.attended_s), now.wall_s
        node.left = False
        if state is not State.ACTIVE:
            self._enter(node_id, State.ACTIVE, reason, now.attended_s)
        return state

    def _enter(self, node_id: str, state: State, reason: str, at_s: float) -> None:
        node = self.nodes[node_id]
        node.history = [*node.history, (node.state, state, reason)][-HISTORY_KEPT:]
        self._announce(node_id, node.state, state, reason)
        node.state, node.since_s = state, at_s

    def _bury(self, node_id: str, reason: str, at_s: float) -> None:
        node = self.nodes.pop(node_id)
        self.graves.pop(node_id, None)
        self.graves[node_id] = Grave(node.said.key, at_s, reason)
        alike = [name for name, grave in self.graves.items() if grave.reason == reason]
        if len(alike) > self.nodes_max:
            del self.graves[alike[0]]
        self._announce(node_id, node.state, State.DEAD, reason)

    def _forget_grave(self, transition: Transition, now: Now) -> None:
        first_s = min(self.graves[name].died_s for name in self._oldest_graves())
        (oldest,) = (name for name in self._oldest_graves() if transition.node_id == f"#{hash_id(name)}")
        assert self.graves[oldest].died_s == first_s
        ends_s = self.grave_ends_s(self.graves[oldest])
        assert ends_s <= now.attended_s, f"the tombstone of {oldest} went early"
        assert (transition.to_state, transition.at_s) == (State.ABSENT, ends_s)
        del self.graves[oldest]
        self.happened[State.DEAD, State.ABSENT, "deadline"] += 1

    def _oldest_graves(self) -> list[str]:
        """Return the oldest grave of nodes that died by silence, and of forgotten ones."""
        oldest: dict[str, str] = {}
        for name, grave in self.graves.items():
            oldest.setdefault(grave.reason, name)
        return list(oldest.values())

    def _announce(self, node_id: str, from_state: State, to_state: State, reason: str) -> None:
        self.expected.append((node_id, from_state, to_state, reason))
        self.happened[from_state, to_state, reason] += 1
