"""Cost of durability, and time to load: `python -m benchmarks.storage`, fifteen seconds.

    python -m benchmarks.storage                           loads 100,000 records
    python -m benchmarks.storage --rows 100000 1000000     and a million; takes about a minute and a half
    python -m benchmarks.storage --folder /mnt/disk        on that disk instead of the temporary folder

Commits stand beside a bare write and fsync of one page on the same disk, signs of life beside an UPDATE of
their records, loading beside a bare SELECT of the same rows. These ratios compare between machines.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import sqlite3
import tempfile
from array import array
from contextlib import closing
from itertools import count
from pathlib import Path
from time import perf_counter

import orjson

from openred_central.directory.saving import PAGE_ROWS
from openred_central.directory.state.pages import PAGE_SLOTS, PageRun
from openred_central.storage.sqlite.schema import PAGE_BYTES, companion
from openred_central.storage.sqlite.sqlite import SqliteStore

from . import machine
from .population import BATCH_ROWS, batch, filled, record, records
from .suite.databases import select_s

MEASURED_S = 1.0
SIGNS = 10_000
LOAD_ROWS_MAX = 10_000


def bare_syncs_per_s(folder: Path) -> float:
    """Return how often a second this disk durably writes one page: the floor of every commit."""
    page = os.urandom(PAGE_BYTES)
    with open(folder / "bare", "w+b", buffering=0) as file:
        # Like the log of the database, the file is overwritten.
        file.write(page * 64)
        os.fsync(file.fileno())
        began, syncs = perf_counter(), 0
        while perf_counter() - began < MEASURED_S:
            os.pwrite(file.fileno(), page, syncs % 64 * PAGE_BYTES)
            os.fdatasync(file.fileno())
            syncs += 1
        return syncs / (perf_counter() - began)


def commits_per_s(store: SqliteStore, records_each: int) -> float:
    """Return commits a second of so many new records, with housekeeping."""
    slots = count()
    passed_s, commits = 0.0, 0
    while passed_s < MEASURED_S:
        changes = batch([record(next(slots)) for _ in range(records_each)], [])
        began = perf_counter()
        store.commit(changes)
        if store.tidy_due:
            store.tidy()
        passed_s += perf_counter() - began
        commits += 1
    return commits / passed_s


def print_commits(folder: Path) -> None:
    """Measure and print the commits on the disk of a folder."""
    bare = bare_syncs_per_s(folder)
    print(f"bare write and fsync of one page       {bare:10,.0f} /s")
    for records_each in (1, 64, BATCH_ROWS):
        store = SqliteStore(folder / f"commits-{records_each}.db")
        store.open()
        rate = commits_per_s(store, records_each)
        store.close()
        print(
            f"commits of {records_each:5,} records                {rate:10,.0f} /s   {1e3 / rate:8.2f} ms, "
            f"{bare / rate:.1f} bare fsyncs"
        )


# The statement that a store without pages would need.
UPDATE = """
UPDATE node SET
    last_seen_at = sign.value ->> 1, last_seen_s = sign.value ->> 2, usual_gap_s = sign.value ->> 3
FROM json_each(CAST(? AS TEXT)) AS sign WHERE node.slot = sign.value ->> 0
"""


def heard_slots(rows: int, signs: int) -> list[int]:
    """Return the random slots of so many signs of life."""
    return random.Random(1).choices(range(rows), k=signs)


def commit_s(store: SqliteStore, slots: list[int]) -> float:
    """Return the seconds to commit the pages of `slots`, in batches, with checkpoints."""
    columns = [array(code, [1_000.0]) * PAGE_SLOTS for code in "ddf"]
    pages = [PageRun(number, *columns) for number in sorted({slot // PAGE_SLOTS for slot in slots})]
    began, each = perf_counter(), BATCH_ROWS // PAGE_ROWS
    for first in range(0, len(pages), each):
        store.commit(batch([], pages[first : first + each]))
        if store.tidy_due:
            store.tidy()
    return perf_counter() - began


def update_s(path: Path, slots: list[int]) -> float:
    """Return the seconds to write signs of life to the records in `slots`, in batches."""
    rows = [(slot, 1_800_000_001.5 + slot, slot + 0.25, 3.5) for slot in slots]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")
        began = perf_counter()
        for first in range(0, len(slots), BATCH_ROWS):
            connection.execute(UPDATE, (orjson.dumps(rows[first : first + BATCH_ROWS]),))
        return perf_counter() - began


def print_load(folder: Path, rows: int) -> None:
    """Fill a database, add signs of life, and load it as a start after a kill does."""
    path = folder / f"load-{rows}.db"
    store = filled(path, records(rows))
    print(f"\n{rows:,} records in {path.stat().st_size / 2**20:,.0f} MiB")
    slots = heard_slots(rows, SIGNS)
    pages_s, table_s = min(commit_s(store, slots) for _ in range(3)), update_s(path, slots)
    print(f"{SIGNS:,} signs of life of random nodes {pages_s * 1e3:8.1f} ms", end="")
    print(f"   an UPDATE takes {table_s * 1e3:.0f} ms")
    commit_s(store, list(range(rows)))
    killed = folder / "killed.db"
    for ending in ("", "-wal"):
        shutil.copy(companion(path, ending), companion(killed, ending))
    store.close()

    store = SqliteStore(killed)
    began = perf_counter()
    store.open()
    open_s = perf_counter() - began
    # As in the server: loaded records stay, so collecting them is useless.
    gc.disable()
    # Read once untimed, so that the file is in memory for both.
    select_s(killed)
    bare_s, load_s = select_s(killed), loaded(store, rows)
    gc.enable()
    store.close()
    for file in (path, killed):
        file.unlink()
    print(f"open and check                         {open_s:8.2f} s")
    print(f"bare SELECT of all rows                {bare_s:8.2f} s")
    print(f"load, with all pages                   {load_s:8.2f} s    {load_s / bare_s:.2f} bare SELECTs")


def loaded(store: SqliteStore, rows: int) -> float:
    """Return the seconds to load all records and keep them."""
    began = perf_counter()
    kept = list(store.load_records(LOAD_ROWS_MAX))
    passed_s = perf_counter() - began
    if sum(map(len, kept)) != rows:
        raise RuntimeError(f"loaded {sum(map(len, kept))} records of {rows}")
    return passed_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description="Commits and loading.")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[100_000], help="numbers of records to load (100000)"
    )
    parser.add_argument("--folder", default=None, help="folder to measure in (a temporary one)")
    arguments = parser.parse_args()
    print(machine.sentence())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print_commits(Path(folder))
        for rows in arguments.rows:
            print_load(Path(folder), rows)


if __name__ == "__main__":
    main()
