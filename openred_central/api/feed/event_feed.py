"""Transitions as events that anybody may see: a few by name, all of them as counts. Pure.

A million transitions at once are not a million events: each tick tells how many there were of each kind,
exactly, and names a bounded number of nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...directory.lifecycle import State
from ...directory.nodes import Nodes
from ...directory.state.node import DISCOVERABLE, Transition, transition_kind
from ..wire.times import rfc3339
from .event_log import EventLog

# So many nodes are named in one tick.
NAMED_PER_TICK_MAX = 50

# What stands in an event instead of a node that is not to be seen.
_HIDDEN = {"node_id": None, "hidden": True}


class EventFeed:
    """Gathers transitions and writes them to `log`; `nodes` tells who may be named."""

    def __init__(self, log: EventLog, nodes: Nodes) -> None:
        self.log = log
        self._nodes = nodes
        self._counts: Counter[tuple[State, State, str]] = Counter()
        self._named: list[Transition] = []

    def offer(self, transitions: Sequence[Transition]) -> None:
        """Take what happened since the last call."""
        room = NAMED_PER_TICK_MAX - len(self._named)
        self._named += transitions[:room]
        self._counts.update(map(transition_kind, transitions))

    def conceal(self) -> bool:
        """Take the names of nodes that hid or were forgotten since the last call out of the log.

        To be called before anything is read from the log. Returns whether there were any.
        """
        concealed = self._nodes.concealed
        if not concealed:
            return False
        self.log.forget(concealed, _HIDDEN)
        concealed.clear()
        return True

    def tick(self, wall_s: float) -> None:
        """Write what was gathered as events."""
        self.conceal()
        if not self._counts:
            return
        for transition in self._named:
            self._append(transition)
        kinds = [
            {
                "from": kind[0].wire,
                "to": kind[1].wire,
                "reason": kind[2],
                "count": count,
                # With totals a reader that also asks for statistics counts nothing twice.
                "total": self._nodes.transitions.counts[kind],
            }
            for kind, count in self._counts.items()
        ]
        summary = {
            "at": rfc3339(wall_s),
            "count": self._counts.total(),
            "named": len(self._named),
            "kinds": kinds,
        }
        self.log.append("transitions", summary)
        self._counts.clear()
        self._named.clear()

    def _append(self, transition: Transition) -> None:
        name = transition.node_id if self._may_be_seen(transition.node_id) else None
        document: dict[str, Any] = {
            "at": rfc3339(transition.at),
            **({"node_id": name, "hidden": False} if name is not None else _HIDDEN),
            "from": transition.from_state.wire,
            "to": transition.to_state.wire,
            "reason": transition.reason,
        }
        self.log.append("transition", document, subject=name)

    def _may_be_seen(self, node_id: str) -> bool:
        """Whether anybody may see the node; of one that is no more it is not known whether they might."""
        registry = self._nodes.registry
        slot = registry.slot_of(node_id)
        return slot is not None and bool(registry.flags(slot) & DISCOVERABLE)
