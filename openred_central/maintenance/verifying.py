"""The check that memory, store and snapshots agree: their digests and counts are computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import orjson

from ..clock import Clock
from ..directory.consistency import check
from ..directory.directory import Directory
from ..directory.soundness import Unserved, find_fault
from ..directory.state.columns import DIGEST_MASK, record_digest, row_of
from ..directory.state.node import Record, hash_id
from ..directory.state.registry import shard_of
from ..http_requests import NoReply, request
from ..security.sessions import CLAIM_KEY, CLAIM_KEY_BYTES
from ..storage.copies.runs import Run, is_earlier, load_runs
from ..storage.copies.snapshots import Snapshot, Snapshots
from ..storage.loading import MISFITS, load, load_revocations
from ..storage.store import DamageError, Loads, StoreError, StoreState
from ..wording import counted
from .comparing import Difference, older_record, same_record, state_contradiction
from .portable import LineError, encode
from .reading import READ_ROWS, reading_snapshot

TICK_S = 1.0
URL_TIMEOUT_S = 10.0
# A running server always has some changes under way.
URL_ATTEMPTS = 5


class Loaded(NamedTuple):
    """A store in memory, with the `digests` of its rows by shard and other values of the store."""

    directory: Directory
    digests: list[int]
    attended_s: float
    claim_key: bytes | None
    runs: list[Run]
    # The slots of rows that cannot be served, which are in no digest.
    unserved: frozenset[int]

    @property
    def digest(self) -> int:
        return sum(self.digests) & DIGEST_MASK


class Verifier:
    """Verifies one database.

    Arguments: `database`, its name for people; `read`, which reads it as it is at one moment;
    `make_directory`, which makes an empty directory with the settings; `say`, called with lines for people;
    `progress`, called with the rows or pages done and all of them.
    """

    def __init__(
        self,
        database: str,
        read: Callable[[], AbstractContextManager[Loads]],
        make_directory: Callable[[], Directory],
        clock: Clock,
        say: Callable[[str], None],
        progress: Callable[[int, int], None],
    ) -> None:
        self._database = database
        self._read = read
        self._make_directory = make_directory
        self._clock = clock
        self._say = say
        self._progress = progress
        self.problems = 0
        # Snapshots that are sound and yet no earlier state of the store.
        self.apart = 0

    def verify_store(self) -> Loaded | None:
        """Load the store into memory, check that, and compare it with the store's rows.

        Return None where it cannot be loaded.
        """
        try:
            with self._read() as store:
                return self._verify_rows(store)
        except StoreError as error:
            self._problem(f"store {self._database}: {error}")
            return None

    def verify_snapshot(self, snapshots: Snapshots, snapshot: Snapshot, loaded: Loaded | None) -> None:
        """Verify a snapshot by itself, and compare it with the store where that could be loaded."""
        what = f"snapshot {snapshot.name}"
        try:
            manifest = snapshots.verify(snapshot)
            with reading_snapshot(snapshots.database, snapshot) as store:
                rows, shards, differences = self._compare_snapshot(store, loaded)
        except StoreError as error:
            if snapshot.folder.exists():
                self._problem(f"{what}: {error}")
            else:
                # A server keeps only the newest ones.
                self._say(f"{what}: removed meanwhile")
            return
        if rows != manifest.records:
            self._problem(f"{what}: it has {counted(rows, 'node')}, its manifest says {manifest.records}")
            return
        counts = f"{counted(rows, 'node')}, sound"
        if loaded is None:
            self._say(f"{what}: {counts}")
            return
        if isinstance(differences, str):
            self.apart += 1
            self._say(f"{what}: {counts}; {differences}")
            return
        if differences is None:
            self._problem(
                f"{what}: {counts}; it is of another directory, with another key of claims: "
                "move away the database or the snapshot, whichever is of another one"
            )
            return
        counts += f", {shards} of {len(loaded.digests)} shards as in the store"
        damage = next((one for one in differences if one.is_damage), None)
        shown = [one.describe("the snapshot", "the store") for one in (damage, *differences) if one]
        if damage is not None:
            self._problem(f"{what}: {counts}; first difference: {shown[0]}")
        elif differences:
            self._say(f"{what}: {counts}; changed since, first {shown[0]}")
        else:
            self._say(f"{what}: {counts}")

    def verify_server(self, url: str, loaded: Loaded, pause: Callable[[], object]) -> None:
        """Compare the store with the memory of a running server; `pause` lets it save changes under way."""
        digest, before, after = loaded.digest, "", ""
        try:
            for attempt in range(URL_ATTEMPTS):
                before = self._served_digest(url, loaded.runs)
                if attempt:
                    digest = self._digest_now(loaded.unserved)
                after = self._served_digest(url, loaded.runs)
                if f"{digest:016x}" in (before, after):
                    self._say(f"server {url}: its memory has the digest of the store")
                    return
                pause()
        except StoreError as error:
            self._problem(f"server {url}: {error}")
            return
        except (NoReply, ValueError, LookupError, TypeError) as error:
            self._problem(f"server {url}: cannot be compared: {error!r}")
            return
        if before != after:
            self._problem(f"server {url}: it changes too fast to be compared; try again when it is calmer")
            return
        self._problem(
            f"server {url}: its memory has digest {after}, the store has {digest:016x}, "
            f"compared {URL_ATTEMPTS} times"
        )

    def _problem(self, line: str) -> None:
        self.problems += 1
        self._say(f"WRONG {line}")

    def _verify_rows(self, store: Loads) -> Loaded:
        directory = self._make_directory()
        attended = load(directory, store, self._clock, tick_s=TICK_S)
        unserved = frozenset(row.slot for row in directory.nodes.unserved)
        for row in directory.nodes.unserved:
            self._problem(f"store {self._database}: unusable: {row}")
        registry = directory.nodes.registry
        digests = [0] * registry.shards_count
        broken = check(directory, attended.now())
        if broken:
            self._problem(f"store {self._database}: in memory {broken[0]}")
        rows, differences = 0, 0
        for records in _sound_rows(store, unserved):
            for stored in records:
                difference = self._check_row(directory, stored)
                if difference is not None:
                    if not differences:
                        self._problem(f"store {self._database}: {difference}")
                    differences += 1
                shard = shard_of(stored.node_id, len(digests))
                digests[shard] = (digests[shard] + record_digest(stored)) & DIGEST_MASK
            rows += len(records)
            self._progress(rows, len(directory))
        if differences > 1:
            self._say(f"  and {counted(differences - 1, 'more node')}")
        agreeing = sum(map(int.__eq__, digests, registry.shard_digests))
        loaded = Loaded(
            directory,
            digests,
            attended.now().attended_s,
            store.load_secret(CLAIM_KEY),
            self._verify_secrets(store),
            unserved,
        )
        aside = f" and {len(unserved)} unusable" if unserved else ""
        summary = (
            f"store {self._database}: {counted(rows, 'node')}{aside}, "
            f"{counted(len(directory.nodes.tombstones), 'tombstone')}, "
            f"revision {directory.nodes.revision}, digest {loaded.digest:016x}; memory agrees in "
            f"{agreeing} of {len(digests)} shards"
        )
        if agreeing < len(digests) or rows != len(directory):
            self._problem(summary)
        elif not differences and not broken:
            self._say(f"{summary}, every invariant holds")
        return loaded

    def _verify_secrets(self, store: Loads) -> list[Run]:
        """Check secrets and revocations, and return the runs."""
        key = store.load_secret(CLAIM_KEY)
        if key is not None and len(key) != CLAIM_KEY_BYTES:
            self._problem(
                f"store {self._database}: the key of claims has {len(key)} bytes, needed are "
                f"{CLAIM_KEY_BYTES}: a start makes a new one, and all claims void"
            )
        for damaged in load_revocations(store)[1]:
            self._problem(f"store {self._database}: unusable: {damaged}")
        try:
            return load_runs(store)
        except DamageError as error:
            self._problem(f"store {self._database}: {error}")
            return []

    def _check_row(self, directory: Directory, stored: Record) -> str | None:
        """Return the fault of a row, in itself or compared with memory; None where there is none."""
        registry = directory.nodes.registry
        shards = registry.shards_count
        try:
            encode(stored)
            difference = state_contradiction(stored, shards)
            if difference is not None:
                return difference.describe("its history", "the store")
        except (LineError, *MISFITS) as error:
            return f"shard {shard_of(stored.node_id, shards)}, node {stored.node_id!r}: {error}"
        slot = registry.slot_of(stored.node_id)
        if slot is None:
            return f"shard {shard_of(stored.node_id, shards)}, node {stored.node_id!r}: missing in memory"
        difference = same_record(registry.record(slot), stored, shards)
        return None if difference is None else difference.describe("memory", "the store")

    def _compare_snapshot(
        self, store: Loads, loaded: Loaded | None
    ) -> tuple[int, int, list[Difference] | str | None]:
        """Return the number of rows of a snapshot, the number of equal shards, and the differences.

        There is at most one difference of each kind. Text instead says why the two cannot be compared, None
        that the snapshot is of another directory.
        """
        if loaded is None:
            return sum(map(len, store.load_records(READ_ROWS))), 0, []
        comparison = _Comparison(loaded, store)
        for records in store.load_records(READ_ROWS):
            for then in records:
                comparison.add(then)
            self._progress(comparison.rows, len(loaded.directory))
        for fault in comparison.faults:
            self._problem(f"snapshot of {self._database}: {fault}")
        comparison.finish()
        agreeing = sum(map(int.__eq__, comparison.digests, loaded.digests))
        if store.load_secret(CLAIM_KEY) != loaded.claim_key:
            return comparison.rows, agreeing, None
        if not is_earlier(load_runs(store), store.load_vitals(), loaded.runs):
            explanation = "it is no earlier state of the store, which was put back to one from before it"
            return comparison.rows, agreeing, explanation
        return comparison.rows, agreeing, [one for one in (comparison.damage, comparison.change) if one]

    def _served_digest(self, url: str, runs: list[Run]) -> str:
        """Return the digest that a running server shows, which must save into this database.

        Raises `StoreError` where it is another one, `OSError`, and `ValueError` and such for its reply.
        """
        reply = request("GET", url, "/stats", timeout_s=URL_TIMEOUT_S)
        if reply.status != 200:
            raise ValueError(f"the answer is {reply.status} {reply.reason}")
        document = orjson.loads(reply.body)
        store = document["performance"]["store"]
        if not runs or store["run"] != runs[-1].name.hex():
            raise StoreError(f"it does not run on {self._database}, or that file was replaced since")
        if store["state"] == StoreState.DETACHED:
            raise StoreError("its store is detached and saves nothing; its log says why")
        return str(document["directory"]["digest"])

    def _digest_now(self, unserved: frozenset[int]) -> int:
        digest = 0
        with self._read() as store:
            for records in _sound_rows(store, unserved):
                digest += sum(map(record_digest, records))
        return digest & DIGEST_MASK


class _Comparison:
    """The comparison of a snapshot, row by row, with a store: the first difference of each kind."""

    def __init__(self, loaded: Loaded, store: Loads) -> None:
        self._directory = loaded.directory
        self._unserved = loaded.unserved
        self._vitals = store.load_vitals()
        self._attended_s = loaded.attended_s
        self._seen = bytearray(loaded.directory.nodes.registry.slots_count)
        self.digests = [0] * len(loaded.digests)
        self.rows = 0
        self.faults: list[Unserved] = []
        self.damage: Difference | None = None
        self.change: Difference | None = None

    def add(self, then: Record) -> None:
        """Take in a row of the snapshot."""
        self.rows += 1
        if then.slot in self._unserved:
            return
        fault = find_fault(row_of(then))
        if fault is not None:
            self.faults.append(Unserved(then.slot, None, fault))
            return
        shards = len(self.digests)
        shard = shard_of(then.node_id, shards)
        self.digests[shard] = (self.digests[shard] + record_digest(then)) & DIGEST_MASK
        registry = self._directory.nodes.registry
        slot = registry.slot_of(then.node_id)
        if slot is not None:
            self._seen[slot] = 1
            self._note(older_record(then, registry.record(slot), shards))
        elif self._may_be_gone(then):
            self._note(Difference(shard, then.node_id, "", then, None, False, "it has gone since"))
        else:
            explanation = "it is lost: there is no tombstone of it"
            self._note(Difference(shard, then.node_id, "", then, None, True, explanation))

    def finish(self) -> None:
        """Look for nodes that are only in the store, after all rows were taken in."""
        registry = self._directory.nodes.registry
        revision = self._vitals.revision if self._vitals is not None else 0
        for slot, seen in enumerate(self._seen):
            if seen or registry.is_free(slot):
                continue
            now = registry.record(slot)
            older = now.revision <= revision
            explanation = (
                f"its revision {now.revision} is older than the snapshot" if older else "it came since"
            )
            shard = shard_of(now.node_id, len(self.digests))
            self._note(Difference(shard, now.node_id, "", None, now, older, explanation))

    def _may_be_gone(self, then: Record) -> bool:
        tombstones = self._directory.nodes.tombstones
        if tombstones.get(hash_id(then.node_id)) is not None:
            return True
        # Tombstones are removed after their time, and when others need room.
        then_s = self._vitals.attended_s if self._vitals is not None else 0.0
        passed = self._attended_s - then_s >= self._directory.lifecycle.tombstone_s
        return passed or len(tombstones) >= self._directory.options.nodes_max

    def _note(self, difference: Difference | None) -> None:
        if difference is None:
            return
        if difference.is_damage:
            self.damage = self.damage or difference
        else:
            self.change = self.change or difference


def _sound_rows(store: Loads, unserved: frozenset[int]) -> Iterator[list[Record]]:
    for records in store.load_records(READ_ROWS):
        yield [record for record in records if record.slot not in unserved] if unserved else records
