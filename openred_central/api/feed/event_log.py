"""Recent events, encoded as server-sent events (WHATWG HTML §9.2), and the transitions they report. Pure.

The log is a ring bounded in bytes. A subscriber is only a number, its place in the ring, so a slow one costs
nothing. Each tick reports the exact count of each kind of transition, and names a bounded number of nodes.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson

from ...clock import Now
from ...directory.empathy.groups import is_public, name_of
from ...directory.empathy.watch import Darkness
from ...directory.lifecycle import State
from ...directory.nodes import Nodes
from ...directory.state.node import Transition, is_visible, transition_kind
from ...wording import rfc3339

# A few minutes of a busy directory, days of a quiet one.
LOG_BYTES_MAX = 256 * 1024
# The most that one subscriber is sent at once, and so holds beside the ring.
PIECE_BYTES_MAX = 32 * 1024
# The most nodes named in one tick.
NAMED_PER_TICK_MAX = 50

_EVENT_ID = re.compile(r"([0-9A-Za-z_]{1,32})-([0-9]{1,16})")
# Stands in an event for a node that nobody may see.
_HIDDEN = {"node_id": None, "hidden": True}


def event_bytes(event_id: str, name: str, document: Mapping[str, Any]) -> bytes:
    """Encode one event; its document becomes JSON, which never has a line break."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), orjson.dumps(document))


class KeptEvent(NamedTuple):
    """One event of the ring; `subject` is the node that it names, `rewrite` as in `Cursor`, 0 for none."""

    encoded: bytes
    name: str
    subject: str | None
    document: Mapping[str, Any]
    rewrite: int = 0


class Cursor(NamedTuple):
    """How far a follower knows a log: up to the event `number`, and of the events before to `rewrite`.

    Rewritten events are counted, so that each has a number as a rewrite as well.
    """

    number: int
    rewrite: int


BEGINNING = Cursor(0, 0)


class EventLog:
    """The last events, numbered from 1 without gaps, in at most `bytes_max` bytes.

    `epoch` identifies this run of the server in every id: numbers of another run mean nothing here. A log can
    follow that of another process, by its `news`: then ids are equal in both.
    """

    def __init__(self, epoch: str, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        if not _EVENT_ID.fullmatch(f"{epoch}-0"):
            raise ValueError(f"the epoch is {epoch!r}, allowed are 1 to 32 letters, digits and _")
        self.epoch = epoch
        self._bytes_max = bytes_max
        self._kept: deque[KeptEvent] = deque()
        self._bytes = 0
        # The number of the newest event, 0 before the first.
        self.last = 0
        # How often an event was rewritten, and how often a follower began anew.
        self.rewrites = 0
        self.emptied = 0
        # The last piece that was read, for all subscribers at the same place.
        self._read_from = -1
        self._read: tuple[bytes, int] = (b"", 0)

    @property
    def first(self) -> int:
        """The number of the oldest event kept, or of the next event if none is kept."""
        return self.last - len(self._kept) + 1

    def event_id(self, number: int) -> str:
        """Return the id of an event, by which a subscriber can resume behind it."""
        return f"{self.epoch}-{number}"

    def number(self, event_id: str) -> int | None:
        """Return the number of the event `event_id`; None if the events behind it are no longer kept."""
        match = _EVENT_ID.fullmatch(event_id)
        if match is None or match[1] != self.epoch:
            return None
        number = int(match[2])
        return number if self.holds(number) else None

    def holds(self, number: int) -> bool:
        """Return whether everything behind the event `number` is still kept."""
        return self.first - 1 <= number <= self.last

    def append(self, name: str, document: Mapping[str, Any], *, subject: str | None = None) -> None:
        """Add an event, and drop the oldest ones if needed. `subject` is the node that the document names."""
        self.last += 1
        encoded = event_bytes(self.event_id(self.last), name, document)
        self._kept.append(KeptEvent(encoded, name, subject, document))
        self._bytes += len(encoded)
        while self._bytes > self._bytes_max:
            self._drop_oldest()
        self._read_from = -1

    def read(self, number: int) -> tuple[bytes, int]:
        """Return the events behind `number`, and the number of the last of them; `holds(number)` is true.

        They are at most `PIECE_BYTES_MAX` bytes, or one event.
        """
        if number != self._read_from:
            piece = bytearray()
            end = number
            for kept in islice(self._kept, number + 1 - self.first, None):
                if piece and len(piece) + len(kept.encoded) > PIECE_BYTES_MAX:
                    break
                piece += kept.encoded
                end += 1
            self._read_from, self._read = number, (bytes(piece), end)
        return self._read

    def forget(self, subjects: set[str], changes: Mapping[str, Any]) -> None:
        """Apply `changes` to every event that names one of `subjects`."""
        first = self.first
        for place, kept in enumerate(self._kept):
            if kept.subject in subjects:
                self._rewrite(first + place, {**kept.document, **changes})

    def news(self, since: Cursor) -> tuple[dict[str, Any], Cursor]:
        """Return what a follower does not know yet, for its `follow`, and how far it knows the log then.

        An unchanged cursor means that there is nothing new. It is plain data for JSON: `PIECE_BYTES_MAX`
        bytes of events at most, or one event, and as much of rewritten ones. Call it again for more.
        """
        first, known = self.first, max(since.number, self.first - 1)
        rewritten, rewrite = self._rewritten(since)
        events, size = list[list[Any]](), 0
        for number, kept in enumerate(islice(self._kept, known + 1 - first, None), known + 1):
            size += len(kept.encoded)
            if events and size > PIECE_BYTES_MAX:
                break
            known = number
            events.append([number, kept.name, kept.document, kept.subject])
        news = {"epoch": self.epoch, "first": first, "rewritten": rewritten, "events": events}
        return news, Cursor(known, rewrite)

    def rewrite(self, news: Mapping[str, Any]) -> bool:
        """Rewrite the events that the log has and that were rewritten elsewhere. Return whether any was.

        Names that nobody may see leave a follower by this at once; the rest of the news can wait.
        """
        before = self.rewrites
        for number, document in news["rewritten"]:
            if news["epoch"] == self.epoch and self.first <= number <= self.last:
                self._rewrite(number, document)
        return self.rewrites != before

    def follow(self, news: Mapping[str, Any]) -> None:
        """Do what the log did that `news` come from, under the same numbers. Known events are skipped.

        After a gap, and with the events of another run, the log begins anew.
        """
        if news["epoch"] != self.epoch:
            self.epoch = news["epoch"]
            self._empty(0)
        self.rewrite(news)
        # Events that the other log dropped are rewritten no more, so they must not be kept here.
        while self._kept and self.first < news["first"]:
            self._drop_oldest()
        for number, name, document, subject in news["events"]:
            if number > self.last + 1:
                self._empty(number - 1)
            if number > self.last:
                self.append(name, document, subject=subject)

    def _rewritten(self, since: Cursor) -> tuple[list[list[Any]], int]:
        """Return the rewritten events that a follower knows as they were, and the last rewrite among them."""
        if since.rewrite == self.rewrites:
            return [], since.rewrite
        changed = sorted(
            (kept.rewrite, number, kept)
            for number, kept in enumerate(self._kept, self.first)
            if number <= since.number and kept.rewrite > since.rewrite
        )
        found, size = list[list[Any]](), 0
        for rewrite, number, kept in changed:
            size += len(kept.encoded)
            if found and size > PIECE_BYTES_MAX:
                return found, rewrite - 1
            found.append([number, kept.document])
        return found, self.rewrites

    def _rewrite(self, number: int, document: Mapping[str, Any]) -> None:
        """Replace the document of an event that is kept by one that names nobody."""
        place = number - self.first
        kept = self._kept[place]
        encoded = event_bytes(self.event_id(number), kept.name, document)
        self._bytes += len(encoded) - len(kept.encoded)
        self.rewrites += 1
        self._kept[place] = KeptEvent(encoded, kept.name, None, document, self.rewrites)
        self._read_from = -1

    def _drop_oldest(self) -> None:
        self._bytes -= len(self._kept.popleft().encoded)

    def _empty(self, last: int) -> None:
        """Begin anew behind the event `last`."""
        self._kept.clear()
        self._bytes = 0
        self.last = last
        self.emptied += 1
        self._read_from = -1


class EventFeed:
    """The writer of transitions to `log`; `nodes` decides which nodes may be named."""

    def __init__(self, log: EventLog, nodes: Nodes) -> None:
        self.log = log
        self._nodes = nodes
        self._counts: Counter[tuple[State, State, str]] = Counter()
        self._named: list[Transition] = []
        self._networks: list[dict[str, Any]] = []

    def offer(self, transitions: Sequence[Transition]) -> None:
        """Collect the transitions since the last call."""
        room = NAMED_PER_TICK_MAX - len(self._named)
        self._named += transitions[:room]
        self._counts.update(map(transition_kind, transitions))

    def offer_network(self, darkness: Darkness, is_dark: bool, now: Now) -> None:
        """Collect that a network or region became dark, or is back, if everybody may know."""
        if is_public(darkness.group):
            state = "dark" if is_dark else "back"
            self._networks.append(
                {"at": rfc3339(now.wall_s), "group": name_of(darkness.group), "state": state}
            )

    def conceal(self) -> bool:
        """Remove the names of nodes that hid or were forgotten since the last call from the log.

        Call it before anything is read from the log. Returns whether there were any.
        """
        concealed = self._nodes.concealed
        if not concealed:
            return False
        self.log.forget(concealed, _HIDDEN)
        concealed.clear()
        return True

    def tick(self, wall_s: float) -> None:
        """Write the collected transitions, and dark networks, as events."""
        self.conceal()
        for document in self._networks:
            self.log.append("network", document)
        self._networks.clear()
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
                # With totals, a subscriber that also reads the figures counts nothing twice.
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

    def news(self, since: Cursor) -> tuple[dict[str, Any], Cursor]:
        """Return what is new for a follower, as `EventLog.news`, without any name that was concealed."""
        self.conceal()
        return self.log.news(since)

    def _append(self, transition: Transition) -> None:
        # A removed node may have been hidden.
        registry = self._nodes.registry
        slot = registry.slot_of(transition.node_id)
        seen = slot is not None and is_visible(registry.flags[slot])
        name = transition.node_id if seen else None
        document: dict[str, Any] = {
            "at": rfc3339(transition.at),
            **({"node_id": name, "hidden": False} if name is not None else _HIDDEN),
            "from": transition.from_state.wire,
            "to": transition.to_state.wire,
            "reason": transition.reason,
        }
        self.log.append("transition", document, subject=name)


class FollowingFeed:
    """The writer of another process's events to `log`, under their ids.

    New events wait for the tick, like those of `EventFeed`: subscribers are all at the same place then.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._waiting: list[Mapping[str, Any]] = []
        self._concealed = False

    def receive(self, news: Mapping[str, Any]) -> None:
        """Take the `news` of the other process's feed, in order."""
        self._concealed |= self.log.rewrite(news)
        self._waiting.append(news)

    def conceal(self) -> bool:
        """Return whether names left the log since the last call."""
        concealed, self._concealed = self._concealed, False
        return concealed

    def tick(self, _: float) -> None:
        """Write the events that were received."""
        for news in self._waiting:
            self.log.follow(news)
        self._waiting.clear()
