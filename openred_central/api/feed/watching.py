"""Nodes that callers watch: what happened to each, looked for once a second; subscribers and waits get it.

Heartbeats and changes tell nobody. A look compares columns with the last look, so every process sees what its
copy of the directory shows. Revisions and states are compared for many slots at once. Signs of life matter
only after a silence: a node is looked at just often enough to see its silence come, and each time from then
on. For a subscriber, only what happened to each node is kept until it reads; what it gets is how the node is
then.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from math import inf
from typing import Any, Final, NamedTuple

from ...clock import Now
from ...directory.directory import Directory
from ...directory.lifecycle import State
from ...directory.state.node import (
    LEFT,
    OBSERVED,
    PROVEN,
    is_visible,
    packed_profile,
    profile_parts,
)
from ...wording import rfc3339
from ..wire.describing import descriptions

TICK_S: Final = 1.0
# An id alone keeps proxies from dropping a quiet connection, and shows soon that a client has left.
ALIVE_TICKS: Final = 5
# Slots whose columns are compared at once.
SPAN_SLOTS: Final = 128
# Spans are looked at in turns, by their numbers.
_SPREAD: Final = 40
# Nodes and spans that are looked at, and subscribers that are woken, in one turn of the loop.
NODES_PER_TURN: Final = 1_000
WAKES_PER_TURN: Final = 64
# Nodes that one piece of a stream tells of.
NODES_PER_PIECE: Final = 50
# Another process may learn of a sign of life so much later, so a resumed stream goes back as far.
RESUME_MARGIN_S: Final = 120.0

# Events in the life of a watched node. NOW is no event: so the node is at the beginning, or after a break.
NOW, HEARD, MOVED, SERVICES, CHANGED, LEFT_NOW, GONE = (1 << bit for bit in range(7))
WHAT: Final = ("now", "heard", "moved", "services", "changed", "left", "gone")
# Flags of a node that its description shows.
_SHOWN_FLAGS: Final = OBSERVED | PROVEN
# As `Watched.seen` is while the node is unknown; attended time is never negative.
_UNSEEN: Final[tuple[int, int, float]] = (0, 0, -1.0)
_POSITION: Final = re.compile(r"([0-9]{1,12})-([0-9]{1,16})")


class Face(NamedTuple):
    """The description of a node without its times; `text` is as in `Registry.texts`."""

    text: bytes
    services: str
    region: str
    flags: int


def happened(before: Face | None, after: Face | None, *, heard: bool) -> int:
    """Return what happened to a node, as bits in the order of `WHAT`; 0 for nothing.

    A face that is None cannot be seen. `heard`: it gave a sign of life after a silence.
    """
    if after is None:
        return 0 if before is None else GONE
    if before is None:
        return HEARD
    what = HEARD if heard else 0
    if after == before:
        return what
    if after.flags & ~before.flags & LEFT:
        what |= LEFT_NOW
    if after.services != before.services:
        what |= SERVICES
    if (after.region, after.flags & _SHOWN_FLAGS) != (before.region, before.flags & _SHOWN_FLAGS):
        what |= CHANGED
    if after.text != before.text:
        where, others = _parts(before)
        where_now, others_now = _parts(after)
        what |= (MOVED if where != where_now else 0) | (CHANGED if others != others_now else 0)
    return what


def _parts(face: Face) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the endpoints of a node, and its key and metadata."""
    address, port, public_key, more, metadata = profile_parts(packed_profile(face.text))
    return (address, port, more), (public_key, metadata)


@cache
def _names(what: int) -> str:
    """Return the names of what happened, as members of a list in JSON."""
    return ",".join(f'"{name}"' for bit, name in enumerate(WHAT) if what >> bit & 1)


class _Key(NamedTuple):
    """All that an event follows from, but times; `slot` is None for a node that nobody may see."""

    node_id: str
    what: int
    slot: int | None
    revision: int


class Watched:
    """A node that somebody watches, as it was at the last look; `slot` is None if it is unknown.

    `seen` are its revision, state and last sign of life; an active node is silent after `due_s`, in attended
    seconds. A node that is unknown or hidden has no `face`. It is in the set `among`.
    """

    __slots__ = ("among", "due_s", "face", "node_id", "seen", "slot", "watchers")

    def __init__(self, node_id: str, among: set[Watched]) -> None:
        self.node_id = node_id
        self.among = among
        self.slot: int | None = None
        self.seen = _UNSEEN
        self.due_s = inf
        self.face: Face | None = None
        self.watchers: set[Watcher | Wait] = set()


class Span:
    """Watched nodes in a run of slots, and the revisions and states of that run at the last look.

    All of its nodes are looked at again at `next_s`, in attended seconds.
    """

    __slots__ = ("columns", "next_s", "nodes")

    def __init__(self, next_s: float) -> None:
        self.nodes: set[Watched] = set()
        self.columns: tuple[Sequence[int], ...] = ()
        self.next_s = next_s


class Wait:
    """A request that waits until something happens to one node, which was `late` or not at the last look.

    Leave it with `Watching.leave`.
    """

    __slots__ = ("_ended", "_woken", "late", "nodes")

    def __init__(self, node: Watched, *, late: bool) -> None:
        self.nodes = (node,)
        self.late = late
        self._woken: asyncio.Future[None] | None = None
        self._ended = False

    def wake(self) -> None:
        """End the present wait: something happened."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def end(self) -> None:
        """End the present wait, and all that would follow."""
        self._ended = True
        self.wake()

    async def until(self, ends_s: float) -> bool:
        """Wait until something happens. Return False at `ends_s` of the loop, and by `end`."""
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        timer = loop.call_at(ends_s, self.end)
        try:
            await self._woken
        finally:
            timer.cancel()
            self._woken = None
        return not self._ended


class Watcher:
    """A subscriber of some nodes: iterates over the pieces of its stream until it is closed.

    `pending` has what happened to each node that it has not been told.
    """

    def __init__(self, watching: Watching, head: bytes, nodes: Sequence[Watched]) -> None:
        self._watching = watching
        self._head = head
        self.nodes = nodes
        self.pending: dict[Watched, int] = {}
        self.alive_tick = watching.ticks
        self._woken: asyncio.Future[None] | None = None

    def note(self, node: Watched, what: int) -> None:
        """Keep what happened to a node until it is told."""
        self.pending[node] = self.pending.get(node, 0) | what

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> bytes:
        head, self._head = self._head, b""
        while self in self._watching.watchers:
            piece = head + self._watching.take(self)
            if piece:
                return piece
            if self._watching.stopped:
                break
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Unsubscribe; may be called again."""
        self._watching.leave(self)


class Watching:
    """All watched nodes, and who watches them. Run it with `run`, end it with `stop`.

    `now` reads the clocks; `waits_max` is the limit of requests that wait.
    """

    def __init__(self, directory: Directory, now: Callable[[], Now], *, waits_max: int) -> None:
        self._directory = directory
        self._registry = directory.nodes.registry
        self._now = now
        self.waits_max = waits_max
        self.watchers: set[Watcher] = set()
        self.waits: set[Wait] = set()
        self.ticks = 0
        self.stopped = False
        self._stopping = asyncio.Event()
        self.nodes: dict[str, Watched] = {}
        # By number. All nodes are in one of them, or unknown.
        self._spans: dict[int, Span] = {}
        self._unknown: set[Watched] = set()
        # Active nodes that may fall silent before the next look at all nodes of their span, or have.
        self._close: set[Watched] = set()
        # From one look at all nodes of a span to the next. After a sign of life, no node is silent for three
        # times as long, so each such sign is seen in time, or its node is close already.
        self._round_s = min(directory.paces.slack_s) / 3
        # Descriptions that were made since the last tick began, for all subscribers.
        self._made: dict[_Key, bytes] = {}
        # Until then, every subscriber was told of everything or has it pending: attended seconds, revision.
        self._position = self._present_position(now())

    def join(self, head: bytes, node_ids: Iterable[str], last_id: str) -> Watcher:
        """Add a subscriber of some nodes; it gets `head`, and then how these are.

        With the id of its last event, only of nodes to which something may have happened since.
        """
        since = self._read_position(last_id)
        watcher = Watcher(self, head, [self._watched(node_id) for node_id in node_ids])
        self.watchers.add(watcher)
        for node in watcher.nodes:
            node.watchers.add(watcher)
            if since is None or self._may_have_changed(node, *since):
                watcher.note(node, NOW)
        return watcher

    def wait(self, node_id: str) -> Wait | None:
        """Add a request that waits; None if there are too many, or the process stops."""
        if self.stopped or len(self.waits) >= self.waits_max:
            return None
        node = self._watched(node_id)
        wait = Wait(node, late=self._is_late(node, self._now()))
        self.waits.add(wait)
        wait.nodes[0].watchers.add(wait)
        return wait

    def leave(self, watcher: Watcher | Wait) -> None:
        """Remove a subscriber or a request that waits; may be called again."""
        self.watchers.discard(watcher)
        self.waits.discard(watcher)
        for node in watcher.nodes:
            node.watchers.discard(watcher)
            if not node.watchers:
                self.nodes.pop(node.node_id, None)
                node.among.discard(node)
                self._close.discard(node)

    def take(self, watcher: Watcher) -> bytes:
        """Return what `watcher` has not been told, or a part of it; nothing if it knows everything."""
        told = list(islice(watcher.pending.items(), NODES_PER_PIECE))
        events = self._events(told)
        for node, _ in told:
            del watcher.pending[node]
        is_due = self.ticks - watcher.alive_tick >= ALIVE_TICKS
        if watcher.pending or not (events or is_due):
            return events
        watcher.alive_tick = self.ticks
        # An id without data is no event, but a place to resume from (§9.2.6).
        return events + b"id: %d-%d\n\n" % self._position

    def tick(self) -> Iterator[None]:
        """Look at all watched nodes and wake those who watch them; yield where others may have a turn."""
        now = self._now()
        self._made.clear()
        self.ticks += 1
        position = self._present_position(now)
        woken: list[Watcher | Wait] = []
        yield from self._look_at_spans(now, woken)
        yield from self._look_at_others(now, woken)
        self._position = position
        waits = list(self.waits)
        for first in range(0, len(waits), NODES_PER_TURN):
            woken += self._past_due(waits[first : first + NODES_PER_TURN], now)
            yield
        woken += (each for each in self.watchers if self.ticks - each.alive_tick >= ALIVE_TICKS)
        for number, watcher in enumerate(woken, 1):
            watcher.wake()
            if number % WAKES_PER_TURN == 0:
                yield

    async def run(self) -> None:
        """Tick until `stop`. Run it as a task, once."""
        while not self.stopped:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_S)
            for _ in self.tick():
                if self.stopped:
                    break
                await asyncio.sleep(0)

    def stop(self) -> None:
        """End every stream, every wait, and `run`."""
        self.stopped = True
        self._stopping.set()
        for watcher in self.watchers:
            watcher.wake()
        for wait in self.waits:
            wait.end()

    def _watched(self, node_id: str) -> Watched:
        """Return the node as it is watched already, or as it is now."""
        node = self.nodes.get(node_id)
        if node is None:
            node = self.nodes[node_id] = Watched(node_id, self._unknown)
            self._see(node, self._registry.slot_of(node_id), self._now())
        return node

    def _look_at_spans(self, now: Now, woken: list[Watcher | Wait]) -> Iterator[None]:
        """Look at nodes whose record or state changed, and now and then at all nodes of a span."""
        revisions, states, looked_at = self._registry.revisions, self._registry.states, 0
        for number, span in list(self._spans.items()):
            slots = slice(number * SPAN_SLOTS, (number + 1) * SPAN_SLOTS)
            columns, is_due = (revisions[slots], states[slots]), span.next_s <= now.attended_s
            if not span.nodes:
                del self._spans[number]
            elif is_due or columns != span.columns:
                span.columns = columns
                if is_due:
                    span.next_s = now.attended_s + self._round_s
                # A look may move a node to another span.
                for node in list(span.nodes):
                    if is_due or self._columns_of(node.slot)[:2] != node.seen[:2]:
                        woken += self._look(node, now)
                looked_at += len(span.nodes)
            looked_at += 1
            if looked_at >= NODES_PER_TURN:
                looked_at = 0
                yield

    def _look_at_others(self, now: Now, woken: list[Watcher | Wait]) -> Iterator[None]:
        """Look at nodes that may be silent, and at those that were unknown."""
        slot_of = self._registry.slot_of
        for nodes in (list(self._close), list(self._unknown)):
            for first in range(0, len(nodes), NODES_PER_TURN):
                for node in nodes[first : first + NODES_PER_TURN]:
                    # Meanwhile, nobody may watch it any more.
                    if node.watchers and (node.slot is not None or slot_of(node.node_id) is not None):
                        woken += self._look(node, now)
                yield

    def _look(self, node: Watched, now: Now) -> Sequence[Watcher | Wait]:
        """Find out what happened to a node. Return who is to be woken."""
        (revision, state, last_s), before, due_s = node.seen, node.face, node.due_s
        if node.slot is not None:
            present = self._columns_of(node.slot)
            if present == node.seen or (present[:2] == (revision, state) and present[2] <= due_s):
                # Nothing, or a sign of life in time.
                self._hear(node, present, now)
                return ()
        self._see(node, self._registry.slot_of(node.node_id), now)
        revision_now, state_now, last_s = node.seen
        heard = state_now == State.ACTIVE and (last_s > due_s or state != State.ACTIVE)
        if (revision_now, state_now) == (revision, state) and not heard:
            return ()
        what = happened(before, node.face, heard=heard)
        woken = list[Watcher | Wait]()
        for watcher in node.watchers:
            if isinstance(watcher, Wait):
                # The record may have changed in a way that the face does not show.
                woken.append(watcher)
            elif what:
                watcher.note(node, what)
                woken.append(watcher)
        return woken

    def _past_due(self, waits: Sequence[Wait], now: Now) -> list[Wait]:
        """Return those of `waits` whose node is late now, or late no more: time alone does that."""
        changed = [wait for wait in waits if self._is_late(wait.nodes[0], now) != wait.late]
        for wait in changed:
            wait.late = not wait.late
        return changed

    def _is_late(self, node: Watched, now: Now) -> bool:
        forecast = self._directory.forecast
        return forecast is not None and node.slot is not None and forecast.is_late(node.slot, now.attended_s)

    def _see(self, node: Watched, slot: int | None, now: Now) -> None:
        """Note how a node is now."""
        registry, node.slot = self._registry, slot
        node.among.discard(node)
        node.among = self._unknown if slot is None else self._span_of(slot, now).nodes
        node.among.add(node)
        self._hear(node, self._columns_of(slot), now)
        if slot is None or not is_visible(registry.flags[slot]):
            node.face = None
            return
        held = registry.service_set(slot)
        node.face = Face(registry.texts[slot], held.services, held.region, registry.flags[slot])

    def _columns_of(self, slot: int | None) -> tuple[int, int, float]:
        if slot is None:
            return _UNSEEN
        registry = self._registry
        return registry.revisions[slot], registry.states[slot], registry.last_seen_s[slot]

    def _span_of(self, slot: int, now: Now) -> Span:
        number = slot // SPAN_SLOTS
        if number not in self._spans:
            self._spans[number] = Span(now.attended_s + number % _SPREAD / _SPREAD * self._round_s)
        return self._spans[number]

    def _hear(self, node: Watched, seen: tuple[int, int, float], now: Now) -> None:
        """Note the columns of a node, and whether it may be silent soon."""
        _, state, last_s = seen
        if node.slot is None or state != State.ACTIVE:
            node.due_s = inf
        elif last_s != node.seen[2] or node.due_s == inf:
            node.due_s = self._silent_from_s(node.slot, last_s)
        node.seen = seen
        if node.due_s < now.attended_s + 2 * self._round_s:
            self._close.add(node)
        else:
            self._close.discard(node)

    def _silent_from_s(self, slot: int, last_s: float) -> float:
        """Return from when on a node that was heard at `last_s` counts as silent."""
        habits, paces = self._directory.nodes.habits, self._directory.paces
        code, usual_gap_s = habits.paces[slot], self._registry.usual_gap_s[slot]
        return paces.due_s(slot, last_s, code, usual_gap_s, obeys=habits.follows(slot)) + paces.slack_s[code]

    def _events(self, told: Iterable[tuple[Watched, int]]) -> bytes:
        """Return the events that tell how nodes are now, where everybody may know."""
        registry, keys = self._registry, list[_Key]()
        for node, what in told:
            slot = registry.slot_of(node.node_id)
            if slot is not None and is_visible(registry.flags[slot]):
                keys.append(_Key(node.node_id, what, slot, registry.revisions[slot]))
            else:
                keys.append(_Key(node.node_id, what if what == NOW else GONE, None, 0))
        self._make([key for key in keys if key not in self._made])
        return b"".join(map(self._made.__getitem__, keys))

    def _make(self, keys: Sequence[_Key]) -> None:
        """Make events, together, which is cheaper than one by one."""
        now = self._now()
        at = rfc3339(now.wall_s)
        nodes = iter(descriptions(self._directory, [key.slot for key in keys if key.slot is not None], now))
        for key in keys:
            node = "null" if key.slot is None else next(nodes)
            # Nothing in an id needs escaping.
            self._made[key] = (
                f'event: node\ndata: {{"at":"{at}","node_id":"{key.node_id}","what":[{_names(key.what)}],'
                f'"node":{node}}}\n\n'
            ).encode()

    def _may_have_changed(self, node: Watched, since_s: float, revision: int) -> bool:
        registry, slot = self._registry, node.slot
        if slot is None or node.face is None:
            # Nobody is told when it was hidden, so it is told each time, like one that never was there.
            return True
        return registry.revisions[slot] > revision or registry.last_seen_s[slot] >= since_s - RESUME_MARGIN_S

    def _read_position(self, last_id: str) -> tuple[float, int] | None:
        """Return the place to resume from; None for one that this process cannot know."""
        read = _POSITION.fullmatch(last_id)
        if read is None:
            return None
        since_s, revision = int(read[1]), int(read[2])
        if since_s > self._now().attended_s + RESUME_MARGIN_S or revision > self._directory.nodes.revision:
            return None
        return float(since_s), revision

    def _present_position(self, now: Now) -> tuple[int, int]:
        return int(now.attended_s), self._directory.nodes.revision
