"""Parts of tests of the directory: moments, registrations, directories, a store in memory."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from openred_central.clock import Now
from openred_central.directory.consistency import check
from openred_central.directory.directory import Directory
from openred_central.directory.following import Following
from openred_central.directory.frame import LoadPart
from openred_central.directory.life.mass_silence import MassSilenceOptions
from openred_central.directory.lifecycle import DAY_S, LifecycleOptions, State
from openred_central.directory.registration import Registration
from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.columns import RecordColumns
from openred_central.directory.state.node import DISCOVERABLE, Profile, Record, Tombstone, hash_id
from openred_central.storage.refusing import refuse_rows
from openred_central.storage.store import MemoryStore
from tests.support.options import directory_options, lifecycle_options, mass_silence_options
from tests.support.records import signs_on

Row = TypeVar("Row")

EPOCH_S = 1_800_000_000.0
HOUR_S = 3_600.0
NEVER_HOLDS = mass_silence_options(share=1.0)

# A whole life in 57 seconds, each dwell time another power of two or sum of two.
SHORT_LIFE = lifecycle_options(
    heartbeat_tolerance_s=10.0,
    grace_s=2.0,
    second_look_s=1.0,
    retry_48h_s=4.0,
    retry_2w_s=6.0,
    retry_2m_s=8.0,
    coma_s=16.0,
    tombstone_s=10.0,
)
SILENT_STATES = (
    State.PENDING_FIRST_CHECK,
    State.FAILED_FIRST_CHECK,
    State.RETRY_48H,
    State.RETRY_2W,
    State.RETRY_2M,
    State.COMA,
)


def at(attended_s: float, *, wall_shift_s: float = 0.0) -> Now:
    """Return the moment when so many attended seconds have passed and no time was lost."""
    return Now(attended_s, EPOCH_S + attended_s + wall_shift_s, 1_000.0 + attended_s)


def day(days: float, hours: float = 0.0) -> Now:
    return at(days * DAY_S + hours * HOUR_S)


def registration(node_id: str = "node", **changed: Any) -> Registration:
    """Return a registration; `key` and `metadata` go to the profile, all else to `Registration`."""
    profile = Profile(
        "192.0.2.1", 9_000, changed.pop("key", f"key of {node_id}"), metadata=changed.pop("metadata", {})
    )
    return Registration(node_id, changed.pop("profile", profile), **changed)


def make_directory(
    *,
    life: LifecycleOptions | None = None,
    silence: MassSilenceOptions = NEVER_HOLDS,
    seed: int = 1,
    **options: Any,
) -> Directory:
    return Directory(
        directory_options(**{"shards": 4, **options}),
        life or lifecycle_options(),
        silence,
        random.Random(seed).random,
    )


def run_until(directory: Directory, now: Now) -> None:
    """Handle all that is due at `now`."""
    while directory.expiry.expire_due(now, 100) >= 100:
        pass


def register(directory: Directory, node_id: str, now: Now, **changed: Any) -> int:
    """Register with proof; the node's slot."""
    return directory.register(registration(node_id, **changed), proved=True, now=now).slot


def beat(directory: Directory, node_id: str, now: Now) -> State:
    """Let a node send a heartbeat; the state in which that finds it."""
    return directory.heartbeat(directory.slot(node_id, now), now)


def state_of(directory: Directory, node_id: str) -> State:
    """Return the state of a node: ABSENT where nothing is known of it, DEAD where a tombstone stands."""
    slot = directory.nodes.registry.slot_of(node_id)
    if slot is not None:
        return directory.nodes.registry.state(slot)
    return State.ABSENT if directory.nodes.tombstones.of_node(node_id) is None else State.DEAD


def record_of(directory: Directory, node_id: str) -> Record:
    slot = directory.nodes.registry.slot_of(node_id)
    assert slot is not None, f"{node_id} is not registered"
    return directory.nodes.registry.record(slot)


def expect_consistent(directory: Directory, now: Now) -> None:
    assert check(directory, now) == []


def reachable(root: object) -> list[object]:
    """Every object to which `root` refers, directly or not, as the garbage collector would find them."""
    found: dict[int, object] = {}
    pending = [root]
    while pending:
        one = pending.pop()
        if id(one) not in found and not isinstance(one, type):
            found[id(one)] = one
            pending += gc.get_referents(one)
    return list(found.values())


def record(slot: int, node_id: str = "node", **changed: object) -> Record:
    """Return a record, with all that every node has; `changed` are other fields of `Record`."""
    filled = Record(
        slot=slot,
        node_id=node_id,
        state=State.ACTIVE,
        flags=DISCOVERABLE,
        registered_at=1.5,
        last_seen_at=2.5,
        last_seen_s=3.5,
        since_s=4.5,
        usual_gap_s=60.0,
        revision=7,
        services="chat,mail",
        region="eu",
        profile=b"[]",
        away_from_s=0.0,
        away_until_s=0.0,
        history="",
    )
    return filled._replace(**changed)


def columns_of(records: Iterable[Record]) -> RecordColumns:
    """Return records as a store gives them to be restored."""
    rows = [[value.encode() if isinstance(value, str) else value for value in record] for record in records]
    return RecordColumns._make(zip(*rows, strict=True))


class DictStore(MemoryStore):
    """A store in dictionaries, which survives its closing.

    It refuses a name in two slots, and signs of life of a slot that the very batch frees.
    """

    durable = True

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.tombstones: dict[str, Tombstone] = {}
        self._slots: dict[str, int] = {}
        self._secrets: dict[str, bytes] = {}
        self._revocations: dict[str, float] = {}
        self.kept: dict[str, bytes] = {}
        self.vitals: Vitals | None = None
        self.last_change = 0

    def load_vitals(self) -> Vitals | None:
        return self.vitals

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        return parts([self.records[slot] for slot in sorted(self.records)], rows_max)

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        return map(columns_of, self.load_records(rows_max))

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        oldest_first = sorted(self.tombstones.values(), key=lambda stone: stone.died_s)
        return parts(oldest_first, rows_max)

    def load_kept(self) -> Iterator[tuple[str, bytes]]:
        return iter(sorted(self.kept.items()))

    def load_secret(self, name: str) -> bytes | None:
        return self._secrets.get(name)

    def save_secret(self, name: str, value: bytes) -> None:
        self._secrets[name] = value

    def load_revocations(self) -> list[tuple[bytes, float]]:
        return sorted((token_id.encode(), expires_at) for token_id, expires_at in self._revocations.items())

    def save_revocations(self, changes: Mapping[str, float | None]) -> None:
        self._revocations |= {each: ends for each, ends in changes.items() if ends is not None}
        for token_id in [each for each, ends in changes.items() if ends is None]:
            self._revocations.pop(token_id, None)

    def commit(self, batch: Batch) -> None:
        refuse_rows(batch)
        for slot in (*batch.freed_slots, *(record.slot for record in batch.records)):
            former = self.records.pop(slot, None)
            if former is not None:
                del self._slots[former.node_id]
        for record in batch.records:
            assert record.node_id not in self._slots, f"{record.node_id} stands in two slots"
            self.records[record.slot] = record
            self._slots[record.node_id] = record.slot
        for sign in signs_on(batch.pages):
            if sign.slot in self.records:
                self.records[sign.slot] = self.records[sign.slot]._replace(**sign._asdict())
        for id_hash in batch.lifted_id_hashes:
            self.tombstones.pop(id_hash, None)
        for tombstone in batch.tombstones:
            self.tombstones[tombstone.id_hash] = tombstone
        for record in batch.records:
            assert hash_id(record.node_id) not in self.tombstones, f"{record.node_id} is alive and dead"
        for name, value in batch.kept:
            if value is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = value
        self.vitals = batch.vitals
        self.last_change = max(self.last_change, batch.last_change)

    def restore_into(self, directory: Directory) -> float:
        """Fill an empty directory; the attended time to go on from."""
        if self.vitals is None:
            return 0.0
        directory.saving.restore_vitals(self.vitals)
        directory.saving.restore_records(self.load_columns(1_000))
        for tombstones in self.load_tombstones(1_000):
            directory.saving.restore_tombstones(tombstones)
        assert directory.restore_kept(self.load_kept()) == []
        return self.vitals.attended_s


def load(following: Following, parts: Iterable[LoadPart]) -> None:
    """Fill an empty replica."""
    for part in parts:
        following.load_part(part)
    following.end_first_load()


def parts(rows: list[Row], rows_max: int) -> Iterator[list[Row]]:
    for first in range(0, len(rows), rows_max):
        yield rows[first : first + rows_max]


def save_all(directory: Directory, store: DictStore, now: Now, limit: int = 1_000) -> None:
    """Commit until nothing is pending."""
    while (batch := directory.saving.take_changes(limit, now)) is not None:
        store.commit(batch)


def restarted(store: DictStore, **options: Any) -> Directory:
    """Return a new directory with what the store holds."""
    directory = make_directory(**options)
    store.restore_into(directory)
    return directory
