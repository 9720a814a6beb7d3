"""All nodes, in memory: an index of ids in shards over columns of plain values.

A node is a slot, a small integer, and its values stand in columns at that slot. A million nodes are so a few
dozen arrays instead of a million objects: a third of the memory, nothing for the garbage collector to walk,
and a heartbeat writes three numbers. The id → slot index is split into shards by a hash of the id, so
that no dictionary ever grows by more than its share at once; shards are the unit of long work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, repeat
from operator import eq, is_not, lt, mod, not_, rshift

from ...errors import InternalBug
from ..lifecycle import State
from ..weights import text_bytes
from .columns import RecordColumns, record_of, spread
from .digests import DIGEST_MASK, record_digest, record_digests
from .node import Record
from .slots import Slots

# Slots are 32-bit in the deadlines and in stores.
SLOTS_MAX = 1 << 32


# Dictionaries go by the lower bits of the same hash, which would then be alike for all ids of a shard.
SHARD_SHIFT = 20


def shard_of(node_id: str, shards: int) -> int:
    """The shard, 0 to `shards` - 1, that an id belongs to: always the same one in a process, and only there.

    Python keys its hash of text anew for each process (SipHash, PEP 456), so that nobody can choose ids that
    all fall into one shard. Nothing that is stored, or passed on, may depend on it.
    """
    return (hash(node_id) >> SHARD_SHIFT) % shards


class Registry(Slots):
    """Records by slot, slots by id. Knows no rules: whoever writes here has already decided.

    The columns `states`, `last_seen_at`, `last_seen_s` and `usual_gap_s` are open to the heartbeat path,
    which reads and writes them at a slot it got from `slot_of`; all else is changed by the methods.
    """

    def __init__(self, shards: int) -> None:
        super().__init__()
        self._shards: tuple[dict[str, int], ...] = tuple({} for _ in range(shards))
        self.shards_count = shards
        self.shard_digests = [0] * shards
        self.state_counts = [0] * len(State)
        self._free: list[int] = []
        # Slots that nobody may have, and how many of them lie below `slots_count`.
        self._barred: set[int] = set()
        self._barred_below = 0

    def __len__(self) -> int:
        """How many nodes are registered; the dead are not."""
        return len(self._node_ids) - len(self._free) - self._barred_below

    def slot_of(self, node_id: str) -> int | None:
        """The slot of a node by its id; None where it is not registered."""
        # `shard_of` written out: nearly every request comes by here.
        return self._shards[(hash(node_id) >> SHARD_SHIFT) % self.shards_count].get(node_id)

    def slots_in_shard(self, shard: int) -> Iterator[tuple[str, int]]:
        """The (node_id, slot) pairs of one shard, which must not change meanwhile."""
        return iter(self._shards[shard].items())

    @property
    def ids_count(self) -> int:
        """How many ids lead to a slot; as many as there are nodes."""
        return sum(map(len, self._shards))

    def node_ids(self) -> Iterator[str]:
        """The ids of all nodes, shard by shard, which must not change meanwhile."""
        return chain.from_iterable(self._shards)

    def taken_slots(self) -> list[int]:
        """All slots that are not free, rising."""
        slots = range(len(self._node_ids))
        all_taken = len(self) == len(slots)
        return list(slots if all_taken else compress(slots, map(is_not, self._node_ids, repeat(None))))

    def next_slot(self) -> int:
        """The slot that a new node is to have."""
        return self._free[-1] if self._free else len(self._node_ids)

    def insert(self, record: Record) -> None:
        """Write a new node to the slot that `next_slot` told.

        Raises `InternalBug` where it is another slot or the id is registered already.
        """
        if record.slot != self.next_slot() or self.slot_of(record.node_id) is not None:
            raise InternalBug(f"cannot insert {record.node_id!r} into slot {record.slot}")
        if self._free:
            self._free.pop()
        else:
            self._grow()
        self._write(record)

    def put(self, record: Record) -> None:
        """Write a node that is not registered to a slot in which nobody is, whichever it is.

        Raises `InternalBug` where the id is registered already.
        """
        if self.slot_of(record.node_id) is not None:
            raise InternalBug(f"cannot put {record.node_id!r} into slot {record.slot}: it is registered")
        while record.slot >= len(self._node_ids):
            self._free.append(len(self._node_ids))
            self._grow()
        self._free.remove(record.slot)
        self._write(record)

    def bar(self, slots: Iterable[int]) -> None:
        """Give `slots`, in none of which a node is, to nobody: a store keeps something there."""
        self._barred.update(slots)
        free = [slot for slot in self._free if slot not in self._barred]
        self._barred_below += len(self._free) - len(free)
        self._free = free
        self._pass_barred()

    def restore(self, columns: RecordColumns) -> list[Record]:
        """Write records as loaded from a store; slots rise within and from call to call, left out are free.

        Returns those whose id is registered already, which are left out. Raises `InternalBug` where a slot
        comes out of order. Column by column costs a quarter of one record after the other.
        """
        slots, first = columns.slot, len(self._node_ids)
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
        # Most nodes have none.
        histories = list(map(bytes.decode, columns.history)) if any(columns.history) else [""] * len(slots)
        for state, count in Counter(columns.state).items():
            self.state_counts[state] += count
        set_ids = self.sets.acquire_many(columns.services, columns.region)
        if len(slots) < slots[-1] + 1 - first:
            self._free.extend(sorted(set(range(first, slots[-1] + 1)).difference(slots)))
        self._node_ids.extend(spread(node_ids, slots, first, None))
        self._profiles.extend(spread(columns.profile, slots, first, b""))
        self._histories.extend(spread(histories, slots, first, ""))
        self.states.extend(spread(columns.state, slots, first, 0))
        self._flags.extend(spread(columns.flags, slots, first, 0))
        self._registered_at.extend(spread(columns.registered_at, slots, first, 0.0))
        self.last_seen_at.extend(spread(columns.last_seen_at, slots, first, 0.0))
        self.last_seen_s.extend(spread(columns.last_seen_s, slots, first, 0.0))
        self._since_s.extend(spread(columns.since_s, slots, first, 0.0))
        self.usual_gap_s.extend(spread(columns.usual_gap_s, slots, first, 0.0))
        self._revisions.extend(spread(columns.revision, slots, first, 0))
        self._set_ids.extend(spread(set_ids, slots, first, 0))
        if any(columns.away_until_s) or any(columns.away_from_s):
            absences = zip(slots, columns.away_from_s, columns.away_until_s, strict=True)
            self._away.update(
                (slot, (from_s, until_s)) for slot, from_s, until_s in absences if until_s or from_s
            )
        for texts in (node_ids, columns.profile, histories):
            self._text_bytes += sum(map(len, texts))
        if any(columns.generation) or any(columns.next_key):
            next_keys = list(map(bytes.decode, columns.next_key))
            self._text_bytes += sum(map(len, next_keys))
            changes = zip(slots, columns.generation, next_keys, strict=True)
            self._key_changes.update(
                (slot, (count, named)) for slot, count, named in changes if count or named
            )

        return []

    def _restore_once(self, columns: RecordColumns, is_first: list[bool]) -> list[Record]:
        """The `restore` of those records that are the first of their id; returns the others."""
        rows = list(zip(*columns, strict=True))
        firsts = list(compress(rows, is_first))
        if firsts:
            self.restore(RecordColumns._make(zip(*firsts, strict=True)))
        return [record_of(row) for row in compress(rows, map(not_, is_first))]

    def _restore_digests(self, shards: list[int], columns: RecordColumns) -> None:
        """Take in the digests of records, which lie in `shards`."""
        sums, digests = self.shard_digests, record_digests(columns)
        for shard, digest in zip(shards, digests, strict=True):
            sums[shard] += digest
        sums[:] = [digest & DIGEST_MASK for digest in sums]
        self._digests.extend(spread(digests, columns.slot, len(self._digests), 0))

    def bytes_added(self, record: Record) -> int:
        """How many more bytes would be held with `record`, new or instead of the one in its slot."""
        added = text_bytes(record.node_id, record.profile, record.history, record.next_key)
        if self.is_free(record.slot):
            return added + self.sets.bytes_added(record.services, record.region)
        added -= self.text_bytes(record.slot)
        known = self.service_set(record.slot)
        if (known.services, known.region) == (record.services, record.region):
            return added
        freed = self.sets.bytes_freed(self.set_id(record.slot))
        return added + self.sets.bytes_added(record.services, record.region) - freed

    def replace(self, record: Record) -> None:
        """Write a changed record over the one of the same node. Raises `InternalBug` for another node."""
        if self.node_id(record.slot) != record.node_id:
            raise InternalBug(f"slot {record.slot} does not hold {record.node_id!r}")
        self._unwrite(record.slot)
        self._write(record)

    def remove(self, slot: int) -> None:
        """Free `slot`. Raises `InternalBug` where it is free already."""
        node_id = self.node_id(slot)
        self._unwrite(slot)
        del self._shards[shard_of(node_id, self.shards_count)][node_id]
        self._node_ids[slot] = None
        self._profiles[slot] = b""
        self._histories[slot] = ""
        # What looks at a whole column sees that nobody is there.
        self.states[slot] = self._flags[slot] = 0
        self._free.append(slot)

    def set_states(
        self,
        slots: Sequence[int],
        from_state: State,
        to_state: State,
        since_s: Sequence[float],
        histories: Sequence[str],
    ) -> None:
        """The `set_state` of many, all of which leave one state for another."""
        self.state_counts[from_state] -= len(slots)
        self.state_counts[to_state] += len(slots)
        states, sinces_s, kept = self.states, self._since_s, self._histories
        self._text_bytes += sum(map(len, histories)) - sum(map(len, self.histories(slots)))
        for slot, at_s, history in zip(slots, since_s, histories, strict=True):
            states[slot] = to_state
            sinces_s[slot] = at_s
            kept[slot] = history

    def set_state(self, slot: int, state: State, since_s: float, history: str) -> None:
        """Move the node in `slot` to `state`, entered at attended `since_s`."""
        self.state_counts[self.states[slot]] -= 1
        self.state_counts[state] += 1
        self.states[slot] = state
        self._since_s[slot] = since_s
        self._text_bytes += len(history) - len(self._histories[slot])
        self._histories[slot] = history

    def _grow(self) -> None:
        """Add a slot at the end."""
        self._append_empty()
        self._pass_barred()

    def _pass_barred(self) -> None:
        """Leave the barred slots behind that come next: the one at the end may always be given."""
        while len(self._node_ids) in self._barred:
            self._append_empty()
            self._barred_below += 1

    def _append_empty(self) -> None:
        self._node_ids.append(None)
        self._profiles.append(b"")
        self._histories.append("")
        for column in self._columns:
            column.append(0)

    def _write(self, record: Record) -> None:
        slot = record.slot
        shard = shard_of(record.node_id, self.shards_count)
        digest = record_digest(record)
        self._shards[shard][record.node_id] = slot
        self.shard_digests[shard] = (self.shard_digests[shard] + digest) & DIGEST_MASK
        self.state_counts[record.state] += 1
        self._node_ids[slot] = record.node_id
        self._profiles[slot] = record.profile
        self.states[slot] = record.state
        self._flags[slot] = record.flags
        self._registered_at[slot] = record.registered_at
        self.last_seen_at[slot] = record.last_seen_at
        self.last_seen_s[slot] = record.last_seen_s
        self._since_s[slot] = record.since_s
        self.usual_gap_s[slot] = record.usual_gap_s
        self._revisions[slot] = record.revision
        self._digests[slot] = digest
        self._set_ids[slot] = self.sets.acquire(record.services, record.region)
        if record.away_until_s or record.away_from_s:
            self._away[slot] = (record.away_from_s, record.away_until_s)
        if record.generation or record.next_key:
            self._key_changes[slot] = (record.generation, record.next_key)
        self._histories[slot] = record.history
        self._text_bytes += self.text_bytes(slot)

    def _unwrite(self, slot: int) -> None:
        """Take back what `_write` counted and held for the record in `slot`."""
        shard = shard_of(self.node_id(slot), self.shards_count)
        self.shard_digests[shard] = (self.shard_digests[shard] - self._digests[slot]) & DIGEST_MASK
        self.state_counts[self.states[slot]] -= 1
        self._text_bytes -= self.text_bytes(slot)
        self.sets.release(self._set_ids[slot])
        self._away.pop(slot, None)
        self._key_changes.pop(slot, None)
