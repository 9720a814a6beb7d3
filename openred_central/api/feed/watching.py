"""Nodes that callers watch: what happened to each, looked for once a second; subscribers and waits get it.

Heartbeats and changes tell nobody. A look compares a few columns of the watched nodes with the last look, so
every process sees what its copy of the directory shows, and nodes that nobody watches cost nothing. For a
subscriber, only what happened to each node is kept until it reads; what it gets is how the node is then.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from ...clock import Now
from ...directory.directory import Directory
from ...directory.lifecycle import State
from ...directory.state.columns import picker
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
# Comments keep proxies from dropping the connection; here, the id alone does, and moves on with the time.
ALIVE_TICKS: Final = 15
# Nodes that are looked at, and subscribers that are woken, in one turn of the loop.
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
_POSITION: Final = re.compile(r"([0-9]{1,12})-([0-9]{1,16})")


class Face(NamedTuple):
    """The description of a node without its times; `text` is as in `Registry.texts`."""

    text: bytes
    services: str
    region: str
    flags: int

    @property
    def is_shown(self) -> bool:
        """Return whether everybody may see it."""
        return is_visible(self.flags)


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


class Watched:
    """A node that somebody watches, as it was at the last look; `slot` is None if it is unknown.

    `seen` are its revision, state and last sign of life; it is silent after `due_s`, in attended seconds.
    """

    __slots__ = ("due_s", "face", "node_id", "seen", "slot", "watchers")

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.slot: int | None = None
        self.seen: tuple[int, int, float] = (0, 0, 0.0)
        self.due_s = 0.0
        self.face: Face | None = None
        self.watchers: set[Watcher | Wait] = set()


class Wait:
    """A request that waits until something happens to one node. Leave it with `Watching.leave`."""

    __slots__ = ("_happened", "nodes")

    def __init__(self, node: Watched) -> None:
        self.nodes = (node,)
        self._happened: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the present wait."""
        if self._happened is not None and not self._happened.done():
            self._happened.set_result(None)

    async def until(self, ends_s: float) -> None:
        """Wait until something happens, or until `ends_s` by the clock of the loop."""
        loop = asyncio.get_running_loop()
        self._happened = loop.create_future()
        timer = loop.call_at(ends_s, self.wake)
        try:
            await self._happened
        finally:
            timer.cancel()
            self._happened = None


class Watcher:
    """A subscriber of some nodes: iterates over the pieces of its stream until it is closed.

    `pending` has what happened to each node that it has not been told. `itself` is the node that the
    subscriber proved to be, with what the proof rests on; None without a proof.
    """

    def __init__(
        self, watching: Watching, head: bytes, nodes: Sequence[Watched], itself: Itself | None
    ) -> None:
        self._watching = watching
        self._head = head
        self.nodes = nodes
        self.itself = itself
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


class Itself(NamedTuple):
    """The node that a subscriber proved to be; another life or key of the node voids the proof."""

    node_id: str
    registered_at: float
    generation: int


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
        # Descriptions that were made since the last tick began, for all subscribers.
        self._made: dict[tuple[str, int, int, bool], bytes] = {}
        # Until then, every subscriber was told of everything or has it pending: attended seconds, revision.
        self._position = (0, 0)
        self._note_position()

    def join(
        self, head: bytes, node_ids: Iterable[str], last_id: str | None, itself: Itself | None
    ) -> Watcher:
        """Add a subscriber of some nodes; it gets `head`, and then how these are.

        With the id of its last event, only of nodes to which something may have happened since.
        """
        since = self._read_position(last_id)
        watcher = Watcher(self, head, [self._watched(node_id) for node_id in node_ids], itself)
        self.watchers.add(watcher)
        for node in watcher.nodes:
            node.watchers.add(watcher)
            if since is None or self._may_have_changed(node, watcher, *since):
                watcher.note(node, NOW)
        return watcher

    def wait(self, node_id: str) -> Wait | None:
        """Add a request that waits; None if there are too many, or the process stops."""
        if self.stopped or len(self.waits) >= self.waits_max:
            return None
        wait = Wait(self._watched(node_id))
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

    def take(self, watcher: Watcher) -> bytes:
        """Return what `watcher` has not been told, or a part of it; nothing if it knows everything."""
        told = list(islice(watcher.pending.items(), NODES_PER_PIECE))
        events = [self._event(watcher, node, what) for node, what in told]
        for node, _ in told:
            del watcher.pending[node]
        is_due = self.ticks - watcher.alive_tick >= ALIVE_TICKS
        if watcher.pending or not (events or is_due):
            return b"".join(events)
        watcher.alive_tick = self.ticks
        # An id without data is no event, but a place to resume from (§9.2.6).
        return b"".join(events) + b"id: %d-%d\n\n" % self._position

    def tick(self) -> Iterator[None]:
        """Look at all watched nodes and wake those who watch them; yield where others may have a turn."""
        now = self._now()
        self._made.clear()
        self.ticks += 1
        position = self._present_position(now)
        woken: list[Watcher | Wait] = []
        nodes = list(self.nodes.values())
        for first in range(0, len(nodes), NODES_PER_TURN):
            for node in self._differing(nodes[first : first + NODES_PER_TURN]):
                woken += self._look(node)
            yield
        self._position = position
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
        everybody: list[Watcher | Wait] = [*self.watchers, *self.waits]
        for watcher in everybody:
            watcher.wake()

    def _watched(self, node_id: str) -> Watched:
        """Return the node as it is watched already, or as it is now."""
        node = self.nodes.get(node_id)
        if node is None:
            node = self.nodes[node_id] = Watched(node_id)
            self._see(node, self._registry.slot_of(node_id))
        return node

    def _differing(self, nodes: Sequence[Watched]) -> list[Watched]:
        """Return those of `nodes` that are not as they were, and those that are known now."""
        registry = self._registry
        known = [node for node in nodes if node.slot is not None]
        pick = picker([node.slot for node in known if node.slot is not None])
        seen = zip(pick(registry.revisions), pick(registry.states), pick(registry.last_seen_s), strict=True)
        found = [node for node, present in zip(known, seen, strict=True) if present != node.seen]
        if len(known) < len(nodes):
            slot_of = registry.slot_of
            found += [node for node in nodes if node.slot is None and slot_of(node.node_id) is not None]
        return found

    def _look(self, node: Watched) -> list[Watcher | Wait]:
        """Find out what happened to a node. Return who is to be woken."""
        slot, before, due_s = self._registry.slot_of(node.node_id), node.face, node.due_s
        revision, state, _ = node.seen
        self._see(node, slot)
        revision_now, state_now, last_s = node.seen
        heard = state_now == State.ACTIVE and (last_s > due_s or state != State.ACTIVE)
        if (revision_now, state_now) == (revision, state) and not heard:
            return []
        what = happened(_shown(before), _shown(node.face), heard=heard)
        woken = list[Watcher | Wait]()
        for watcher in node.watchers:
            told = what
            if isinstance(watcher, Wait):
                # The record may have changed in a way that the face does not show.
                woken.append(watcher)
                continue
            if watcher.itself is not None and watcher.itself.node_id == node.node_id:
                told = self._happened_to_itself(watcher, slot, before, node.face, heard=heard)
            if told:
                watcher.note(node, told)
                woken.append(watcher)
        return woken

    def _happened_to_itself(
        self, watcher: Watcher, slot: int | None, before: Face | None, after: Face | None, *, heard: bool
    ) -> int:
        if self._is_itself(watcher, slot):
            return happened(before, after, heard=heard)
        # The proof is void: from now on it sees what everybody sees.
        watcher.itself = None
        return happened(before, _shown(after), heard=heard)

    def _see(self, node: Watched, slot: int | None) -> None:
        """Note how a node is now."""
        registry, node.slot = self._registry, slot
        if slot is None:
            node.seen, node.face, node.due_s = (0, 0, 0.0), None, 0.0
            return
        last_s = registry.last_seen_s[slot]
        if node.face is None or node.seen[2] != last_s:
            node.due_s = self._silent_from_s(slot, last_s)
        node.seen = (registry.revisions[slot], registry.states[slot], last_s)
        held = registry.service_set(slot)
        node.face = Face(registry.texts[slot], held.services, held.region, registry.flags[slot])

    def _silent_from_s(self, slot: int, last_s: float) -> float:
        """Return from when on a node that was heard at `last_s` counts as silent."""
        habits, paces = self._directory.nodes.habits, self._directory.paces
        code, usual_gap_s = habits.paces[slot], self._registry.usual_gap_s[slot]
        return paces.due_s(slot, last_s, code, usual_gap_s, obeys=habits.follows(slot)) + paces.slack_s[code]

    def _is_itself(self, watcher: Watcher, slot: int | None) -> bool:
        """Return whether the proof of a subscriber still holds for the node in `slot`."""
        if watcher.itself is None or slot is None:
            return False
        registry = self._registry
        is_now = Itself(registry.node_id(slot), registry.registered_at[slot], registry.generation(slot))
        return is_now == watcher.itself

    def _may_see(self, watcher: Watcher, slot: int | None) -> bool:
        """Return whether there is a node in `slot` that a subscriber may see."""
        if slot is None:
            return False
        return is_visible(self._registry.flags[slot]) or self._is_itself(watcher, slot)

    def _event(self, watcher: Watcher, node: Watched, what: int) -> bytes:
        """Return the event that tells a subscriber how a node is now, if it may know."""
        registry, slot = self._registry, self._registry.slot_of(node.node_id)
        if slot is not None and not is_visible(registry.flags[slot]) and not self._is_itself(watcher, slot):
            slot = None
        if slot is None and what != NOW:
            what = GONE
        key = (node.node_id, what, 0 if slot is None else registry.revisions[slot], slot is None)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._encoded(node.node_id, what, slot)
        return made

    def _encoded(self, node_id: str, what: int, slot: int | None) -> bytes:
        now = self._now()
        head = {
            "at": rfc3339(now.wall_s),
            "node_id": node_id,
            "what": [name for bit, name in enumerate(WHAT) if what >> bit & 1],
        }
        described = "null" if slot is None else descriptions(self._directory, [slot], now)[0]
        return b'event: node\ndata: %b,"node":%b}\n\n' % (orjson.dumps(head)[:-1], described.encode())

    def _may_have_changed(self, node: Watched, watcher: Watcher, since_s: float, revision: int) -> bool:
        registry, slot = self._registry, node.slot
        if slot is None or not self._may_see(watcher, slot):
            # Nobody is told when it was hidden, so it is told each time, like one that never was there.
            return True
        return registry.revisions[slot] > revision or registry.last_seen_s[slot] >= since_s - RESUME_MARGIN_S

    def _read_position(self, last_id: str | None) -> tuple[float, int] | None:
        """Return the place to resume from; None for one that this process cannot know."""
        read = _POSITION.fullmatch(last_id or "")
        if read is None:
            return None
        since_s, revision = int(read[1]), int(read[2])
        if since_s > self._now().attended_s + RESUME_MARGIN_S or revision > self._directory.nodes.revision:
            return None
        return float(since_s), revision

    def _note_position(self) -> None:
        self._position = self._present_position(self._now())

    def _present_position(self, now: Now) -> tuple[int, int]:
        return int(now.attended_s), self._directory.nodes.revision


def _shown(face: Face | None) -> Face | None:
    """Return the face as everybody sees it."""
    return face if face is not None and face.is_shown else None
