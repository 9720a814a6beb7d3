"""What being durable costs, and how long a start takes: `python -m benchmarks.storage`, about ten seconds.

    python -m benchmarks.storage                           loads 100,000 records
    python -m benchmarks.storage --rows 100000 1000000     and a million; takes about half a minute
    python -m benchmarks.storage --folder /mnt/disk        on that disk instead of the temporary folder

Commits are printed beside a bare write and fsync of one page on the same disk, loading beside a bare SELECT
of the same rows: these ratios compare between machines, the absolute numbers do not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from time import perf_counter

import uvloop

from openred_central.clock import AttendedTime, SystemClock
from openred_central.directory.batch import Batch, Vitals
from openred_central.directory.directory import Directory, DirectoryOptions, Registration
from openred_central.directory.lifecycle import LifecycleOptions
from openred_central.directory.mass_silence import MassSilenceOptions
from openred_central.directory.node import Profile, Record, SignOfLife
from openred_central.storage.schema import PAGE_BYTES
from openred_central.storage.sqlite import SELECT_RECORDS, SqliteStore
from openred_central.tasks.saver import Saver, SaverOptions

MEASURED_S = 1.0
CLIENTS = 64
BATCH_ROWS = 5_000
LOAD_ROWS_MAX = 10_000
NODES_MAX = 1_000_000

VITALS = Vitals(0.0, 0, 0.0)


def profile(number: int) -> Profile:
    """A profile of usual size, about 200 bytes."""
    return Profile("8.8.8.8", 4242, f"ed25519:{number:043d}", metadata={"name": f"node {number}", "rooms": 3})


def record(slot: int) -> Record:
    """A record as it is a while after its registration."""
    return Record(
        slot=slot,
        node_id=f"node-{slot:08d}",
        state=1,
        flags=1,
        registered_at=1_800_000_000.0 + slot * 0.123_456,
        last_seen_at=1_800_000_000.0 + slot * 0.654_321,
        last_seen_s=slot * 0.765_432,
        since_s=slot * 0.123_456,
        usual_gap_s=86_400.5,
        revision=slot,
        services="relay,storage",
        region="eu-west",
        profile=profile(slot).encode(),
        away_from_s=0.0,
        away_until_s=0.0,
        history="1800000000.000,absent,active,registered",
    )


def batch(records: list[Record], signs_of_life: list[SignOfLife]) -> Batch:
    """A batch of these changes alone."""
    return Batch(records, [], signs_of_life, [], [], VITALS, 0)


def bare_syncs_per_s(folder: Path) -> float:
    """How often this disk takes one page and says that it has it: the floor of every commit."""
    page = os.urandom(PAGE_BYTES)
    with open(folder / "bare", "w+b", buffering=0) as file:
        # Room is made first: like the log of the database, the file is written over.
        file.write(page * 64)
        os.fsync(file.fileno())
        began, syncs = perf_counter(), 0
        while perf_counter() - began < MEASURED_S:
            os.pwrite(file.fileno(), page, syncs % 64 * PAGE_BYTES)
            os.fdatasync(file.fileno())
            syncs += 1
        return syncs / (perf_counter() - began)


def commits_per_s(store: SqliteStore, records_each: int) -> float:
    """Commits of so many new records, one after the other, housekeeping included."""
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


async def registrations_per_s(store: SqliteStore) -> tuple[float, float]:
    """Registrations acknowledged to many clients at once, a second, and how many shared a commit."""
    directory = Directory(
        DirectoryOptions(nodes_max=NODES_MAX), LifecycleOptions(), MassSilenceOptions(), random.random
    )
    attended = AttendedTime(SystemClock())
    numbers = count()
    with ThreadPoolExecutor(1) as writer:
        saver = Saver(directory.saving, store, writer, attended.now, SaverOptions())
        running = asyncio.create_task(saver.run())
        await asyncio.sleep(0)
        began = perf_counter()

        async def client() -> int:
            acknowledged = 0
            while perf_counter() - began < MEASURED_S:
                number = next(numbers)
                registration = Registration(f"node-{number:08d}", profile(number), "relay,storage")
                registered = directory.register(registration, proved=True, now=attended.now())
                if not await saver.saved(registered.change):
                    raise RuntimeError(saver.stats.last_error)
                acknowledged += 1
            return acknowledged

        acknowledged = sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))
        passed_s = perf_counter() - began
        batches = saver.stats.batches
        await saver.stop()
        await running
    return acknowledged / passed_s, acknowledged / batches


def print_commits(folder: Path) -> None:
    """The commits of one folder's disk, all in one run."""
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
    store = SqliteStore(folder / "clients.db")
    store.open()
    rate, shared = uvloop.run(registrations_per_s(store))
    store.close()
    print(
        f"registrations by {CLIENTS} clients, acknowledged {rate:7,.0f} /s   {shared:.0f} share a commit, "
        f"{rate / bare:.1f} for each bare fsync"
    )


def print_load(folder: Path, rows: int) -> None:
    """Fill a database, update some of it, and load it as a start does."""
    path = folder / f"load-{rows}.db"
    store = SqliteStore(path)
    store.open()
    for first in range(0, rows, BATCH_ROWS):
        store.commit(batch([record(slot) for slot in range(first, min(first + BATCH_ROWS, rows))], []))
        if store.tidy_due:
            store.tidy()
    slots = random.Random(1).sample(range(rows), min(BATCH_ROWS, rows))
    signs_of_life = [SignOfLife(slot, 1_800_000_001.5, 2.5, 3.5) for slot in slots]
    began = perf_counter()
    store.commit(batch([], signs_of_life))
    update_s = perf_counter() - began
    store.close()
    print(f"\n{rows:,} records in {path.stat().st_size / 2**20:,.0f} MiB")
    print(f"{len(signs_of_life):,} signs of life, all over        {update_s * 1e3:8.1f} ms")

    began = perf_counter()
    store.open()
    open_s = perf_counter() - began
    # As the server does: what is loaded stays, and collecting it would be in vain.
    gc.disable()
    # Read once before either is timed, so that both find the file in memory.
    bare_rows(path)
    bare_s, load_s = bare_rows(path), loaded(store, rows)
    gc.enable()
    store.close()
    print(f"open and check                         {open_s:8.2f} s")
    print(f"bare SELECT of all rows                {bare_s:8.2f} s")
    print(f"load as records                        {load_s:8.2f} s    {load_s / bare_s:.2f} bare SELECTs")


def bare_rows(path: Path) -> float:
    """Seconds to have every row as a plain tuple."""
    with closing(sqlite3.connect(path)) as connection:
        began = perf_counter()
        kept = connection.execute(SELECT_RECORDS, (-1, -1)).fetchall()
        passed_s = perf_counter() - began
    del kept
    return passed_s


def loaded(store: SqliteStore, rows: int) -> float:
    """Seconds to have all records, and keep them."""
    began = perf_counter()
    kept = list(store.load_records(LOAD_ROWS_MAX))
    passed_s = perf_counter() - began
    if sum(map(len, kept)) != rows:
        raise RuntimeError(f"loaded {sum(map(len, kept))} records of {rows}")
    return passed_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description="Commits and loading.")
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000], help="sizes to load")
    parser.add_argument("--folder", default=None, help="where to measure; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print_commits(Path(folder))
        for rows in arguments.rows:
            print_load(Path(folder), rows)


if __name__ == "__main__":
    main()
