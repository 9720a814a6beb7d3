"""Records, batches and stores for the tests of this folder."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.node import Record, Tombstone
from openred_central.directory.state.pages import NO_SIGN_S, PAGE_SLOTS, PageRun
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import Store

# The folder in which a process finds the package.
ROOT = Path(__file__).resolve().parents[2]

# A database, as SQL, and an export of the last server of each schema version; version 1 had no exports.
RELEASES = Path(__file__).resolve().parents[1] / "storage" / "releases"

VITALS = Vitals(attended_s=12.5, revision=3, transitions_per_h=0.25)


def record(slot: int, **changes: Any) -> Record:
    return Record(
        slot=slot,
        node_id=f"node-{slot}",
        state=1,
        flags=1,
        registered_at=1_800_000_000.25,
        last_seen_at=1_800_000_100.5,
        last_seen_s=100.5,
        since_s=0.25,
        usual_gap_s=86_400.0,
        revision=slot + 1,
        services="relay,storage",
        region="eu-west",
        profile=b'["198.51.100.7",4242,"key",[],{"name":"J\xc3\xbcrgen"}]',
        away_from_s=0.0,
        away_until_s=0.0,
        history="",
    )._replace(**changes)


def tombstone(id_hash: str, died_s: float = 5.0, flags: int = 0) -> Tombstone:
    return Tombstone(id_hash, "fingerprint", 1_800_000_000.5, died_s, "deadline", 9, flags)


def batch(*records: Record, **changes: Any) -> Batch:
    return Batch(list(records), [], [], [], VITALS, 1)._replace(**changes)


class SignOfLife(NamedTuple):
    """The fields of a `Record` that a heartbeat changes."""

    slot: int
    last_seen_at: float
    last_seen_s: float
    usual_gap_s: float


def signs_on(runs: Iterable[PageRun]) -> list[SignOfLife]:
    """Return the signs of life on pages."""
    signs = (SignOfLife(*sign) for run in runs for sign in zip(run.slots, *run[1:], strict=True))
    return [sign for sign in signs if sign.last_seen_s >= 0]


def pages_of(records: Iterable[Record]) -> list[PageRun]:
    """Return the pages that tell what `records` say, and nothing of other slots."""
    on: dict[int, list[Record]] = {}
    for row in records:
        on.setdefault(row.slot // PAGE_SLOTS, []).append(row)
    return [page(number, rows) for number, rows in sorted(on.items())]


def page(number: int, records: Iterable[Record]) -> PageRun:
    """Return a page; its slots without one of `records` tell nothing."""
    at, attended, gap = (array(code, [0.0]) * PAGE_SLOTS for code in "ddf")
    attended[:] = array("d", [NO_SIGN_S]) * PAGE_SLOTS
    for row in records:
        place = row.slot - number * PAGE_SLOTS
        at[place], attended[place], gap[place] = row.last_seen_at, row.last_seen_s, row.usual_gap_s
    return PageRun(number, at, attended, gap)


def records_of(store: Store) -> list[Record]:
    return [row for rows in store.load_records(1_000) for row in rows]


def tombstones_of(store: Store) -> list[Tombstone]:
    return [row for rows in store.load_tombstones(1_000) for row in rows]


@contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    """Yield a store on `path`, closed at the end."""
    store = SqliteStore(path)
    store.open()
    try:
        yield store
    finally:
        store.close()


def alter(path: Path, *statements: str) -> None:
    """Change a database as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


def build_released(version: int, path: Path) -> Path:
    """Make the database at `path` that a server of schema `version` left when it was killed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((RELEASES / f"version_{version}.sql").read_text("utf-8"))
    return path
