"""All nodes in memory: an index of ids in shards over columns of plain values.

A node is a slot, a small integer, and its values stand in columns at that slot. A million nodes are a few
dozen arrays instead of a million objects. They take a third of the memory and the garbage collector walks
none of them. The index from id to slot is split into shards by a hash of the id, so that no dictionary ever
grows by more than its share at once. Shards are the unit of long work.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, repeat
from operator import eq, lt, mod, not_, rshift
from typing import Any

from ...errors import InternalBug
from ..lifecycle import STATES, State
from ..octaves import CODE_MAX
from .columns import DIGEST_MASK, RecordColumns, picker, record_digest, record_digests, record_of, spread
from .node import (
    BLOCKED,
    HELD,
    Record,
    is_discoverable,
    pack,
    pack_all,
    packed_address,
    packed_profile,
    text_bytes,
)
from .pages import NO_SIGN_S, PAGE_SLOTS, PageRun
from .service_sets import ServiceSet, ServiceSets

# For `bytes.translate`: 1 for the flags of nodes that may be discovered, of held, and of blocked nodes. Free
# slots have no flags and so are none of these.
_DISCOVERABLE = bytes(map(is_discoverable, range(256)))
_HELD = bytes(bool(flags & HELD) for flags in range(256))
_BLOCKED = bytes(bool(flags & BLOCKED) for flags in range(256))


# Slots have 32 bits in the deadlines and in stores.
SLOTS_MAX = 1 << 32
# Dictionaries use the lower bits of the same hash, which would be alike for all ids of a shard.
SHARD_SHIFT = 20


def shard_of(node_id: str, shards: int) -> int:
    """Return the shard of an id, 0 to `shards` - 1, which is constant within one process only.

    Python keys its hash of text anew for each process (SipHash, PEP 456), so nobody can choose ids that all
    fall into one shard. Nothing that is stored or passed on may depend on the shard.
    """
    return (hash(node_id) >> SHARD_SHIFT) % shards


class Registry:
    """Records by slot, slots by id. It knows no rules: its callers have decided already.

    A free slot has no id, no flags and state ABSENT. The public columns hold the fields of `Record`; in place
    of services and region, `set_ids` has the number of their set in `sets`; `away` has begin and end of
    announced absences by slot, and `texts` id and profile. `apart` are the slots of nodes with an announced
    absence, or with a `longest` from `apart_from` on. All may read them at a slot that they got from
    `slot_of`. Only a sign of life writes `last_seen_at`, `last_seen_s` and `usual_gap_s` there; the methods
    change everything else.
    """

    def __init__(self, shards: int, *, apart_from: int = CODE_MAX + 1) -> None:
        self._shards: tuple[dict[str, int], ...] = tuple({} for _ in range(shards))
        self.shards_count = shards
        self.shard_digests = [0] * shards
        self.state_counts = [0] * len(State)
        self._count = 0
        # Slots that `next_slot` gives; a replica gives none (`fill`).
        self._free: list[int] = []
        # Slots that no node may have.
        self._barred: set[int] = set()
        self.sets = ServiceSets()
        # Id and profile by `node.pack`; empty for a free slot. They are one object, because a description of
        # many nodes waits for the memory of each object.
        self.texts: list[bytes] = []
        self.histories: list[str] = []
        self.away: dict[int, tuple[float, float]] = {}
        self.apart = set[int]()
        self._apart_from = apart_from
        # Few nodes ever change their key or name the next one.
        self._key_changes: dict[int, tuple[int, str]] = {}
        # Sum of the `text_bytes` of all nodes.
        self._text_bytes = 0
        self.states = array("B")
        self.flags = array("B")
        self.registered_at = array("d")
        self.last_seen_at = array("d")
        self.last_seen_s = array("d")
        self.since_s = array("d")
        self.usual_gap_s = array("f")
        self.revisions = array("Q")
        self.set_ids = array("I")
        self.longest = array("B")
        # The columns of numbers in the order of `Record`, from its field `state` to `revision`.
        self._columns: tuple[array[Any], ...] = (
            *(self.states, self.flags, self.registered_at, self.last_seen_at),
            *(self.last_seen_s, self.since_s, self.usual_gap_s, self.revisions),
        )

    def __len__(self) -> int:
        """Return how many nodes are registered. The dead are not."""
        return self._count

    @property
    def slots_count(self) -> int:
        """End of the range of slots, exclusive. Some of them may be free."""
        return len(self.texts)

    @property
    def bytes_held(self) -> int:
        """Approximate memory of all records in bytes, without the columns, which `nodes_max` bounds."""
        return self._text_bytes + self.sets.bytes_held

    def slot_of(self, node_id: str) -> int | None:
        """Return the slot of a node by its id; None if it is not registered."""
        # `shard_of` written out, because nearly every request needs it.
        return self._shards[(hash(node_id) >> SHARD_SHIFT) % self.shards_count].get(node_id)

    def slots_in_shard(self, shard: int) -> Iterator[tuple[str, int]]:
        """Iterate over the (node_id, slot) pairs of one shard, which must not change meanwhile."""
        return iter(self._shards[shard].items())

    @property
    def ids_count(self) -> int:
        """Number of ids that lead to a slot: as many as there are nodes."""
        return sum(map(len, self._shards))

    def node_ids(self) -> Iterator[str]:
        """Iterate over the ids of all nodes, shard by shard. They must not change meanwhile."""
        return chain.from_iterable(self._shards)

    def taken_slots(self) -> list[int]:
        """Return all slots that are not free, in rising order."""
        slots = range(len(self.texts))
        return list(slots if len(self) == len(slots) else compress(slots, self.texts))

    def text_bytes(self, slot: int) -> int:
        """Return the `node.text_bytes` of the node in `slot`."""
        return text_bytes(self.node_id(slot), self.profile(slot), self.histories[slot], self.next_key(slot))

    def is_free(self, slot: int) -> bool:
        return slot >= len(self.texts) or not self.texts[slot]

    def node_id(self, slot: int) -> str:
        """Return the id of the node in `slot`. Raise `InternalBug` if the slot is free."""
        text = self.texts[slot]
        if not text:
            raise InternalBug(f"slot {slot} is free")
        return text[: text.index(0)].decode()

    def profile(self, slot: int) -> bytes:
        """Return the `Record.profile` of the node in `slot`."""
        return packed_profile(self.texts[slot])

    def address(self, slot: int) -> str:
        """Return the address of the node in `slot`, without its port."""
        return packed_address(self.texts[slot])

    def packed_columns(self, slots: Sequence[int]) -> list[list[str]]:
        """Return the five texts of `node.pack` of the nodes in `slots`, none of which is free, by columns."""
        texts = b"\0".join(picker(slots)(self.texts)).decode().split("\0") if slots else []
        return [texts[place::5] for place in range(5)]

    def discoverable_slots(self) -> list[int]:
        """Return the slots of all nodes that may be discovered in some state, in rising order."""
        return list(compress(range(len(self.flags)), self.flags.tobytes().translate(_DISCOVERABLE)))

    def blocked_slots(self) -> list[int]:
        """Return the slots of all nodes that have the flag `BLOCKED`, in rising order."""
        return list(compress(range(len(self.flags)), self.flags.tobytes().translate(_BLOCKED)))

    def state(self, slot: int) -> State:
        return STATES[self.states[slot]]

    def any_held(self, slots: Iterable[int]) -> bool:
        """Return whether an operator holds any of the nodes in `slots`."""
        return any(bytes(map(self.flags.__getitem__, slots)).translate(_HELD))

    def discoverable(self, slots: Iterable[int]) -> bytes:
        """Return 1 for each of `slots` whose node may be discovered in some state, 0 for the others."""
        return bytes(map(self.flags.__getitem__, slots)).translate(_DISCOVERABLE)

    def service_set(self, slot: int) -> ServiceSet:
        return self.sets[self.set_ids[slot]]

    def count_offering(self, slots: Iterable[int], names: frozenset[str]) -> int:
        """Return how many of the nodes in `slots` offer all of `names`."""
        sets, set_ids = self.sets, self.set_ids
        return sum(names <= sets[set_ids[slot]].names for slot in slots)

    @property
    def has_absences(self) -> bool:
        """True if any node has announced an absence."""
        return bool(self.away)

    def is_away(self, slot: int, now_s: float) -> bool:
        """Return whether a node announced an absence that lasts at `now_s`, and was not heard in it."""
        from_s, until_s = self.away_s(slot)
        return until_s > now_s and self.last_seen_s[slot] <= from_s

    def away_s(self, slot: int) -> tuple[float, float]:
        """Return begin and end of an announced absence in attended seconds; both are 0 without one."""
        return self.away.get(slot, (0.0, 0.0))

    def generation(self, slot: int) -> int:
        """Return the `Record.generation` of the node in `slot`."""
        return self._key_changes[slot][0] if slot in self._key_changes else 0

    def revision(self, slot: int) -> int:
        """Return the `Record.revision` of the node in `slot`."""
        return self.revisions[slot]

    def next_key(self, slot: int) -> str:
        """Return the `Record.next_key` of the node in `slot`."""
        return self._key_changes[slot][1] if slot in self._key_changes else ""

    def record(self, slot: int) -> Record:
        """Return the whole record in `slot`. Raise `InternalBug` if the slot is free."""
        service_set = self.service_set(slot)
        away_from_s, away_until_s = self.away_s(slot)
        values = (
            slot,
            self.node_id(slot),
            *[column[slot] for column in self._columns],
            service_set.services,
            service_set.region,
            self.profile(slot),
            away_from_s,
            away_until_s,
            self.histories[slot],
            *self._key_changes.get(slot, (0, "")),
            self.longest[slot],
        )
        return Record._make(values)

    def records(self, slots: Sequence[int]) -> list[Record]:
        """Return the `record` of each of `slots`, none of which is free: cheaper than one by one."""
        set_ids = list(map(self.set_ids.__getitem__, slots))
        sets = {set_id: self.sets[set_id] for set_id in set(set_ids)}
        texts = [self.texts[slot] for slot in slots]
        rows = zip(
            slots,
            [text[: text.index(0)].decode() for text in texts],
            *(map(column.__getitem__, slots) for column in self._columns),
            [sets[set_id].services for set_id in set_ids],
            [sets[set_id].region for set_id in set_ids],
            map(packed_profile, texts),
            *(repeat(0.0), repeat(0.0)),
            map(self.histories.__getitem__, slots),
            *(repeat(0), repeat("")),
            map(self.longest.__getitem__, slots),
            strict=False,
        )
        records = list(map(tuple.__new__, repeat(Record), rows))
        if self.away or self._key_changes:
            for place, slot in enumerate(slots):
                if slot in self.away or slot in self._key_changes:
                    records[place] = self.record(slot)
        return records

    def pages(self, numbers: range) -> PageRun:
        """Return these pages of the signs of life of all nodes."""
        slots = slice(numbers.start * PAGE_SLOTS, numbers.stop * PAGE_SLOTS)
        columns = self.last_seen_at[slots], self.last_seen_s[slots], self.usual_gap_s[slots]
        states = self.states[slots].tobytes()
        place = states.find(State.ABSENT)
        while place >= 0:
            columns[1][place] = NO_SIGN_S
            place = states.find(State.ABSENT, place + 1)
        return PageRun(numbers.start, *columns)

    @property
    def free_slots(self) -> Sequence[int]:
        """Slots below `slots_count` that new nodes get."""
        return self._free

    def next_slot(self) -> int:
        return self._free[-1] if self._free else len(self.texts)

    def insert(self, record: Record) -> None:
        """Write a new node to the slot that `next_slot` returned.

        Raise `InternalBug` for another slot, or if the id is registered already.
        """
        if record.slot != self.next_slot() or self.slot_of(record.node_id) is not None:
            raise InternalBug(f"cannot insert {record.node_id!r} into slot {record.slot}")
        if self._free:
            self._free.pop()
            self._write(record)
        else:
            self._append(record)

    def put(self, record: Record) -> None:
        """Write a node that is not registered to any free slot.

        Raise `InternalBug` if the id is registered already.
        """
        if self.slot_of(record.node_id) is not None:
            raise InternalBug(f"cannot put {record.node_id!r} into slot {record.slot}: it is registered")
        while record.slot >= len(self.texts):
            self._free.append(len(self.texts))
            self._grow()
        self._free.remove(record.slot)
        self._write(record)

    def fill(self, record: Record) -> None:
        """Write a node that is not registered to a free slot that `next_slot` never returns, in a replica.

        Raise `InternalBug` if the id is registered already, or the slot is taken.
        """
        if self.slot_of(record.node_id) is not None or not self.is_free(record.slot):
            raise InternalBug(f"cannot fill slot {record.slot} with {record.node_id!r}")
        while record.slot >= len(self.texts):
            self._append_empty()
        self._write(record)

    def bar(self, slots: Iterable[int]) -> None:
        """Keep `slots`, all of them free, from new nodes: the store holds something there."""
        self._barred.update(slots)
        self._free = [slot for slot in self._free if slot not in self._barred]
        self._pass_barred()

    def restore(self, columns: RecordColumns) -> list[Record]:
        """Write records as loaded from a store. Slots rise within and between calls; missing ones are free.

        Return the records whose id is registered already; they are left out. Raise `InternalBug` if a slot
        comes out of order. Whole columns cost far less than one record after the other.
        """
        slots, first = columns.slot, len(self.texts)
        if not (first <= slots[0] and slots[-1] < SLOTS_MAX and all(map(lt, slots, slots[1:]))):
            raise InternalBug(f"cannot restore slots {slots[0]} to {slots[-1]} behind slot {first - 1}")
        node_ids = list(map(bytes.decode, columns.node_id))
        # `shard_of` by columns.
        shards = list(
            map(mod, map(rshift, map(hash, node_ids), repeat(SHARD_SHIFT)), repeat(self.shards_count))
        )
        found = list(map(dict.setdefault, map(self._shards.__getitem__, shards), node_ids, slots))
        if not all(map(eq, found, slots)):
            return self._restore_once(columns, list(map(eq, found, slots)))
        self._restore_digests(shards, columns)
        self._count += len(slots)
        # Most nodes have no history.
        histories = list(map(bytes.decode, columns.history)) if any(columns.history) else [""] * len(slots)
        for state, count in Counter(columns.state).items():
            self.state_counts[state] += count
        set_ids = self.sets.acquire_many(columns.services, columns.region)
        if len(slots) < slots[-1] + 1 - first:
            self._free.extend(sorted(set(range(first, slots[-1] + 1)).difference(slots)))
        self.texts.extend(spread(pack_all(columns.node_id, columns.profile), slots, first, b""))
        self.histories.extend(spread(histories, slots, first, ""))
        for column, values in zip(self._columns, columns[2:10], strict=True):
            # An array takes values of its own kind far faster than others.
            column.extend(array(column.typecode, spread(values, slots, first, 0)))
        self.set_ids.extend(spread(set_ids, slots, first, 0))
        self.longest.extend(spread(columns.longest, slots, first, 0))
        if any(columns.away_until_s) or any(columns.away_from_s):
            absences = zip(slots, columns.away_from_s, columns.away_until_s, strict=True)
            self.away.update(
                (slot, (from_s, until_s)) for slot, from_s, until_s in absences if until_s or from_s
            )
            self.apart.update(self.away)
        if max(columns.longest) >= self._apart_from:
            self.apart.update(compress(slots, map(self._apart_from.__le__, columns.longest)))
        self._text_bytes += sum(map(len, chain(node_ids, columns.profile, histories)))
        if any(columns.generation) or any(columns.next_key):
            next_keys = list(map(bytes.decode, columns.next_key))
            self._text_bytes += sum(map(len, next_keys))
            changes = zip(slots, columns.generation, next_keys, strict=True)
            self._key_changes.update(
                (slot, (count, named)) for slot, count, named in changes if count or named
            )
        return []

    def _restore_once(self, columns: RecordColumns, is_first: list[bool]) -> list[Record]:
        """Restore the records that are the first of their id. Return the others."""
        rows = list(zip(*columns, strict=True))
        firsts = list(compress(rows, is_first))
        if firsts:
            self.restore(RecordColumns._make(zip(*firsts, strict=True)))
        return [record_of(row) for row in compress(rows, map(not_, is_first))]

    def _restore_digests(self, shards: list[int], columns: RecordColumns) -> None:
        sums, digests = self.shard_digests, record_digests(columns)
        for shard, digest in zip(shards, digests, strict=True):
            sums[shard] += digest
        sums[:] = [digest & DIGEST_MASK for digest in sums]

    def bytes_added(self, record: Record) -> int:
        """Return by how much `record`, new or in place of the one in its slot, increases `bytes_held`."""
        added = text_bytes(record.node_id, record.profile, record.history, record.next_key)
        if self.is_free(record.slot):
            return added + self.sets.bytes_added(record.services, record.region)
        added -= self.text_bytes(record.slot)
        known = self.service_set(record.slot)
        if (known.services, known.region) == (record.services, record.region):
            return added
        freed = self.sets.bytes_freed(self.set_ids[record.slot])
        return added + self.sets.bytes_added(record.services, record.region) - freed

    def replace(self, record: Record) -> None:
        """Replace the record of a node. Raise `InternalBug` if another node is in that slot."""
        if self.node_id(record.slot) != record.node_id:
            raise InternalBug(f"slot {record.slot} does not hold {record.node_id!r}")
        self._unwrite(record.slot)
        self._write(record)

    def remove(self, slot: int) -> None:
        """Free `slot` for another node. Raise `InternalBug` if it is free already."""
        self.clear(slot)
        self.offer(slot)

    def offer(self, slot: int) -> None:
        """Let `next_slot` return a slot that was cleared."""
        self._free.append(slot)

    def clear(self, slot: int) -> None:
        """Remove the node in `slot`. Raise `InternalBug` if it is free already.

        No new node gets the slot unless it is offered: in a replica, another process gives the slots.
        """
        node_id = self.node_id(slot)
        self._unwrite(slot)
        del self._shards[shard_of(node_id, self.shards_count)][node_id]
        self.texts[slot] = b""
        self.histories[slot] = ""
        # Readers of a whole column see that the slot is free.
        self.states[slot] = self.flags[slot] = self.longest[slot] = 0

    def set_states(
        self,
        slots: Sequence[int],
        from_state: State,
        to_state: State,
        since_s: Sequence[float],
        histories: Sequence[str],
    ) -> None:
        """Move many nodes, as `set_state` does, from one state to another."""
        self.state_counts[from_state] -= len(slots)
        self.state_counts[to_state] += len(slots)
        states, sinces_s, kept = self.states, self.since_s, self.histories
        self._text_bytes += sum(map(len, histories)) - sum(map(len, map(kept.__getitem__, slots)))
        for slot, at_s, history in zip(slots, since_s, histories, strict=True):
            states[slot] = to_state
            sinces_s[slot] = at_s
            kept[slot] = history

    def set_state(self, slot: int, state: State, since_s: float, history: str) -> None:
        """Move the node in `slot` to `state`, entered at attended `since_s`."""
        self.state_counts[self.states[slot]] -= 1
        self.state_counts[state] += 1
        self.states[slot] = state
        self.since_s[slot] = since_s
        self._text_bytes += len(history) - len(self.histories[slot])
        self.histories[slot] = history

    def set_longest(self, slot: int, longest: int, revision: int) -> None:
        """Write the `Record.longest` of the node in `slot`, and the revision of this change."""
        record = self.record(slot)
        shard = shard_of(record.node_id, self.shards_count)
        digest = record_digest(record._replace(longest=longest, revision=revision)) - record_digest(record)
        self.shard_digests[shard] = (self.shard_digests[shard] + digest) & DIGEST_MASK
        self.longest[slot] = longest
        if longest >= self._apart_from:
            self.apart.add(slot)
        self.revisions[slot] = revision

    def _grow(self) -> None:
        self._append_empty()
        self._pass_barred()

    def _pass_barred(self) -> None:
        """Skip the barred slots that come next, so that the slot at the end may always be given."""
        while len(self.texts) in self._barred:
            self._append_empty()

    def _append_empty(self) -> None:
        self.texts.append(b"")
        self.histories.append("")
        for column in (*self._columns, self.set_ids, self.longest):
            column.append(0)

    def _append(self, record: Record) -> None:
        """Write a new node behind all slots: cheaper than to append an empty slot and write that."""
        set_id = self._enter(record)
        self.texts.append(pack(record.node_id.encode(), record.profile))
        self.histories.append(record.history)
        for column, value in zip(self._columns, record[2:10], strict=True):
            column.append(value)
        self.set_ids.append(set_id)
        self.longest.append(record.longest)
        self._pass_barred()

    def _write(self, record: Record) -> None:
        set_id = self._enter(record)
        slot = record.slot
        self.texts[slot] = pack(record.node_id.encode(), record.profile)
        self.states[slot] = record.state
        self.flags[slot] = record.flags
        self.registered_at[slot] = record.registered_at
        self.last_seen_at[slot] = record.last_seen_at
        self.last_seen_s[slot] = record.last_seen_s
        self.since_s[slot] = record.since_s
        self.usual_gap_s[slot] = record.usual_gap_s
        self.revisions[slot] = record.revision
        self.set_ids[slot] = set_id
        self.longest[slot] = record.longest
        self.histories[slot] = record.history

    def _enter(self, record: Record) -> int:
        """Count a record, and hold what has no column. Return the number of its set."""
        slot, node_id = record.slot, record.node_id
        shard = shard_of(node_id, self.shards_count)
        self._shards[shard][node_id] = slot
        self.shard_digests[shard] = (self.shard_digests[shard] + record_digest(record)) & DIGEST_MASK
        self._count += 1
        self.state_counts[record.state] += 1
        if record.away_until_s or record.away_from_s:
            self.away[slot] = (record.away_from_s, record.away_until_s)
            self.apart.add(slot)
        if record.longest >= self._apart_from:
            self.apart.add(slot)
        if record.generation or record.next_key:
            self._key_changes[slot] = (record.generation, record.next_key)
        self._text_bytes += text_bytes(node_id, record.profile, record.history, record.next_key)
        return self.sets.acquire(record.services, record.region)

    def _unwrite(self, slot: int) -> None:
        """Undo what `_enter` counted and held for the record in `slot`."""
        record = self.record(slot)
        shard = shard_of(record.node_id, self.shards_count)
        self.shard_digests[shard] = (self.shard_digests[shard] - record_digest(record)) & DIGEST_MASK
        self._count -= 1
        self.state_counts[self.states[slot]] -= 1
        self._text_bytes -= text_bytes(record.node_id, record.profile, record.history, record.next_key)
        self.sets.release(self.set_ids[slot])
        self.away.pop(slot, None)
        self.apart.discard(slot)
        self._key_changes.pop(slot, None)
