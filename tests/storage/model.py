"""A model of a store in plain dictionaries, and random batches for it.

The times of signs of life are random, so that nothing but the order of the commits tells which is newer; the
slots are few, so that each is written, freed, filled again and heard from all the time. They lie on several
pages.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.node import Record, Tombstone
from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.storage.store import Store
from tests.support.records import opened, pages_of, record, records_of, signs_on, tombstone, tombstones_of

SLOTS = range(0, 12 * 90, 90)
SEEN = ("last_seen_at", "last_seen_s", "usual_gap_s")
NAMES = "abcdef"


Contents = tuple[list[Record], list[Tombstone], Vitals | None, list[tuple[str, bytes]]]


class Model:
    """The naive store. `tell` gives all that it holds, as `held` does for a real one."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.tombstones: dict[str, Tombstone] = {}
        self.vitals: Vitals | None = None
        self.kept: dict[str, bytes] = {}

    def commit(self, batch: Batch) -> None:
        for slot in batch.freed_slots:
            self.records.pop(slot, None)
        for row in batch.records:
            self.records[row.slot] = row
        for sign in signs_on(batch.pages):
            if sign.slot in self.records:
                self.records[sign.slot] = self.records[sign.slot]._replace(**sign._asdict())
        for id_hash in batch.lifted_id_hashes:
            self.tombstones.pop(id_hash, None)
        for stone in batch.tombstones:
            self.tombstones[stone.id_hash] = stone
        for name, value in batch.kept:
            self.kept.pop(name, None)
            if value is not None:
                self.kept[name] = value
        self.vitals = batch.vitals

    def contents(self) -> Contents:
        return (
            sorted(self.records.values()),
            sorted(self.tombstones.values()),
            self.vitals,
            sorted(self.kept.items()),
        )


def held(store: Store) -> Contents:
    """All that a store holds."""
    return records_of(store), sorted(tombstones_of(store)), store.load_vitals(), list(store.load_kept())


def random_batch(random: Random, number: int, model: Model) -> Batch:
    """Return the batch of this number, and commit it to the model: a few changes of each kind.

    Attended time is a second later than before.
    """
    slots = random.sample(SLOTS, 8)
    written, freed, heard = slots[: random.randrange(3)], slots[2:4], slots[4:]
    stones = random.sample(NAMES, random.randrange(4))
    batch = Batch(
        records=[
            record(slot, node_id=f"node-{number}-{slot}", last_seen_s=random.uniform(0, 100))
            for slot in written
        ],
        # A freed slot may be filled in the same batch.
        freed_slots=[*freed[: random.randrange(3)], *written[: random.randrange(2)]],
        tombstones=[tombstone(name, random.uniform(0, 100)) for name in stones[1:]],
        lifted_id_hashes=stones[:1],
        vitals=Vitals(float(number), number, random.random()),
        last_change=number,
        kept=[
            (name, None if random.random() < 0.2 else random.randbytes(random.choice((0, 9, 9_000))))
            for name in random.sample(NAMES, random.randrange(3))
        ],
    )
    model.commit(batch)
    told = [row for slot in heard[: random.randrange(5)] if (row := model.records.get(slot)) is not None]
    for row in told:
        times = (random.uniform(0, 100), random.uniform(0, 100), float(random.randrange(100)))
        model.records[row.slot] = row._replace(**dict(zip(SEEN, times, strict=True)))
    on_pages = {row.slot // PAGE_SLOTS for row in told}
    rows = [row for row in model.records.values() if row.slot // PAGE_SLOTS in on_pages]
    return batch._replace(pages=pages_of(rows))


def copy_of(path: Path, name: str, beside: Path | None = None) -> Path:
    """Return a copy of what a crash at this moment would leave of the database at `path`.

    The copy lies in the new folder `name` in `beside`, by default in the folder of `path`. A chain of copies
    needs one `beside` for all: copies inside one another soon have a longer path than SQLite takes.
    """
    folder = (beside or path.parent) / name
    folder.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(path.with_name(path.name + ending), folder / (path.name + ending))
    return folder / path.name


def expect_after_a_crash(path: Path, model: Model, name: str) -> None:
    """A server that starts on what is at `path` now finds all of it, and so does the next one after it."""
    copy = copy_of(path, name)
    for start in ("first", "second"):
        with opened(copy) as store:
            assert held(store) == model.contents(), f"{start} start after {name}"
    shutil.rmtree(copy.parent)
