"""The side of a follower: a replica of the directory, kept in step by frames of the leader. Pure.

Work comes in slices: each generator here yields where other work may have a turn. A frame that is missing, or
a digest that differs, ends in `Following.resync`, never in a replica that drifts.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from ..errors import InternalBug
from .directory import Directory
from .frame import Check, Frame, HabitChunk, LoadPart, Outlook
from .hearing import hearing
from .state.blocks import is_block, name_of
from .state.columns import records_of
from .state.habits import CHUNK_SLOTS
from .state.node import Record
from .state.pages import HEARD, HeardPages
from .state.signs import SignColumns, signs_in

# Rows between two turns of other work; a chunk of habits counts as several, signs of life as less.
SLICE_ROWS: Final = 200
CHUNK_ROWS: Final = 10
SIGNS_PER_ROW: Final = 10

Row = TypeVar("Row")


class Gap(Exception):
    """A frame is missing before this one."""


class Differs(Exception):
    """The replica is not what the leader says that it is."""


class Following:
    """The follower's side of replication. From now on nobody changes `directory` but the frames.

    `seq` is the number of the last frame that is in it. With the signs of life that are heard here the leader
    needs `as_of`: all changes numbered up to it are known.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._nodes = directory.nodes
        self.seq = self.as_of = 0
        self.has_loaded = False
        # Changes up to this one may have come with the load, ahead of their frames.
        self._loaded = 0
        self._nodes.is_replica = True
        # Here signs of life go on one by one.
        self._nodes.changes.heard = HeardPages(slots_each=1)
        directory.hear = hearing(directory.nodes, directory.expiry)

    @property
    def settled(self) -> bool:
        """Return whether frames have caught up with the load, as they do soon.

        Until then a frame may take a newer node back for a moment, with the signs of life heard here.
        """
        return self.as_of >= self._loaded

    def load_part(self, part: LoadPart) -> None:
        """Take a part of the first load. Frames repair what changed while the leader made the parts."""
        nodes = self._nodes
        if part.records is not None:
            # Rows whose id was met before are left out: the node has moved, which a frame will say.
            nodes.registry.restore(part.records)
            nodes.make_room(nodes.registry.slots_count)
        for tombstone in part.tombstones:
            nodes.tombstones.take(tombstone)
        for chunk in part.habits:
            self._take_habits(chunk)
        self._take_kept(part.kept)
        self._end_load(part)

    def end_first_load(self) -> None:
        """Index all nodes, once the last part is in."""
        self._nodes.index.add_all(self._nodes.registry.discoverable_slots())
        self.has_loaded = True

    def apply(self, frame: Frame) -> Iterator[None]:
        """Take in the next frame; one that is in already changes nothing.

        Raise `Gap` if a frame is missing before it, `Differs` if the replica is another afterwards.
        """
        if frame.seq <= self.seq:
            return
        if frame.seq != self.seq + 1:
            raise Gap(f"frame {frame.seq} came after frame {self.seq}")
        nodes, batch = self._nodes, frame.batch
        # A record must not be seen with its flag, and without the block that explains it.
        self._take_kept(batch.kept)
        yield from _sliced(self._free, batch.freed_slots)
        yield from _sliced(nodes.tombstones.lift, batch.lifted_id_hashes)
        yield from _sliced(self._write, batch.records)
        yield from _sliced(nodes.tombstones.take, batch.tombstones)
        for signs in frame.signs.parts(SIGNS_PER_ROW * SLICE_ROWS):
            self.take_signs(signs)
            yield
        yield from _sliced(self._take_habits, frame.habits, CHUNK_ROWS)
        self._take_outlook(frame.outlook)
        nodes.revision = batch.vitals.revision
        self.directory.expiry.silence.usual_per_h = batch.vitals.transitions_per_h
        self.seq = frame.seq
        self.as_of = max(self.as_of, batch.last_change)
        yield from _sliced(self._tell_again, batch.records)
        if frame.check is not None and self.settled and frame.check != (found := Check.of(nodes)):
            raise Differs(f"after frame {frame.seq} the replica has {found}, the leader {frame.check}")

    def resync(self, parts: Iterable[LoadPart]) -> Iterator[None]:
        """Make the replica what `parts` of a load say, while it serves, and follow on from there.

        No frame may be applied meanwhile. All that was heard here is due to be told again.
        """
        nodes, next_slot, standing, part = self._nodes, 0, set[str](), None
        blocks, kept = self.directory.blocking.blocks, set[str]()
        for part in parts:
            for record in () if part.records is None else records_of(part.records):
                yield from _sliced(self._free, range(next_slot, record.slot))
                next_slot = record.slot + 1
                self._renew(record)
            for tombstone in part.tombstones:
                standing.add(tombstone.id_hash)
                if nodes.tombstones.get(tombstone.id_hash) != tombstone:
                    nodes.tombstones.take(tombstone)
            for chunk in part.habits:
                self._take_habits(chunk)
            self._take_kept(part.kept)
            kept.update(name for name, _ in part.kept)
            yield
        if part is None:
            raise InternalBug("a load has no parts")
        yield from _sliced(self._free, range(next_slot, nodes.registry.slots_count))
        for tombstones in nodes.tombstones.slices(SLICE_ROWS):
            for tombstone in tombstones:
                if tombstone.id_hash not in standing:
                    nodes.tombstones.lift(tombstone.id_hash)
            yield
        here = [*map(name_of, blocks), *self.directory.analytics.names()]
        self._take_kept([(name, None) for name in here if name not in kept])
        self._end_load(part)
        marks = nodes.changes.heard.marks
        marks[:] = bytes([HEARD]) * len(marks)

    def heard(self) -> SignColumns:
        """Take what was heard here since the last call, also in slots that are free now."""
        return signs_in(self._nodes.registry, self._nodes.changes.heard.take_heard())

    def take_signs(self, signs: SignColumns) -> None:
        """Take those of `signs` that are later than what is known here."""
        registry = self._nodes.registry
        states, last_seen_at, last_seen_s, usual_gap_s = (
            registry.states,
            registry.last_seen_at,
            registry.last_seen_s,
            registry.usual_gap_s,
        )
        end = len(last_seen_s)
        for slot, at, at_s, gap_s in zip(*signs, strict=True):
            if slot < end and at_s > last_seen_s[slot] and states[slot]:
                last_seen_s[slot] = at_s
                last_seen_at[slot] = at
                usual_gap_s[slot] = gap_s

    def _free(self, slot: int) -> None:
        if not self._nodes.registry.is_free(slot):
            self._nodes.clear(slot)

    def _write(self, record: Record) -> None:
        nodes, registry, slot = self._nodes, self._nodes.registry, record.slot
        former = registry.slot_of(record.node_id)
        if former == slot and registry.registered_at[slot] == record.registered_at:
            nodes.write(self._latest(record))
            return
        if former is not None:
            nodes.clear(former)
        self._free(slot)
        registry.fill(record)
        nodes.settle(slot)

    def _tell_again(self, record: Record) -> None:
        """Mark a node that was heard here later than its record says.

        The leader ignored that if it took it for a sign of life of a former node, by a former `as_of`.
        """
        if self._nodes.registry.last_seen_s[record.slot] > record.last_seen_s:
            self._nodes.changes.heard.add(record.slot)

    def _renew(self, record: Record) -> None:
        """Take a record of a load, if it differs."""
        registry = self._nodes.registry
        if registry.is_free(record.slot) or registry.record(record.slot) != self._latest(record):
            self._write(record)

    def _latest(self, record: Record) -> Record:
        """Return the record of a known node with its latest sign of life, which may have come here."""
        registry, slot = self._nodes.registry, record.slot
        if registry.last_seen_s[slot] <= record.last_seen_s:
            return record
        return record._replace(
            last_seen_at=registry.last_seen_at[slot],
            last_seen_s=registry.last_seen_s[slot],
            usual_gap_s=registry.usual_gap_s[slot],
        )

    def _take_habits(self, chunk: HabitChunk) -> None:
        habits, first = self._nodes.habits, chunk.number * CHUNK_SLOTS
        habits.make_room(first + CHUNK_SLOTS)
        habits.unpack(chunk.number, chunk.packed)
        habits.odds[first : first + CHUNK_SLOTS] = array("b", chunk.odds)

    def _take_kept(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        for name, value in rows:
            if is_block(name):
                self.directory.blocking.blocks.take(name, value)
            else:
                self.directory.take_shared(name, value or b"")

    def _take_outlook(self, outlook: Outlook | None) -> None:
        forecast = self.directory.forecast
        if outlook is not None and forecast is not None:
            forecast.usual_score, forecast.fair_from_s = outlook.usual_score, outlook.fair_from_s
            self._nodes.habits.pace_first = outlook.pace_first
            forecast.returns.unpack(outlook.returns)

    def _end_load(self, part: LoadPart) -> None:
        """Follow on from the load that `part` belongs to."""
        self._take_outlook(part.outlook)
        self._nodes.revision = part.revision
        self.directory.expiry.silence.usual_per_h = part.transitions_per_h
        self.seq, self.as_of, self._loaded = part.seq, part.as_of, part.newest


def _sliced(take: Callable[[Row], object], rows: Iterable[Row], each: int = 1) -> Iterator[None]:
    """Take all `rows`, and yield where `SLICE_ROWS` were taken; each counts as `each` of them."""
    for number, row in enumerate(rows, 1):
        take(row)
        if number * each % SLICE_ROWS == 0:
            yield
