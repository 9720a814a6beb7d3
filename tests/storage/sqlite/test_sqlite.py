"""Commits are kept whole and exactly; the fault of a file is named."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.storage.sqlite.schema import PAGE_BYTES, SCHEMA_VERSION, companion
from openred_central.storage.sqlite.sqlite import WAL_BYTES_DUE, SqliteStore
from openred_central.storage.store import Store, StoreError
from tests.support.records import (
    VITALS,
    alter,
    batch,
    opened,
    pages_of,
    record,
    records_of,
    tombstone,
    tombstones_of,
)

from ..conftest import Fallible


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "openred.db"


def test_a_batch_that_fails_at_its_end_leaves_nothing(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), record(2)))
        with pytest.raises(StoreError, match=rf"cannot write {path}: NOT NULL constraint failed: vitals"):
            store.commit(
                batch(
                    record(3),
                    record(1, region="changed"),
                    freed_slots=[2],
                    vitals=VITALS._replace(attended_s=float("nan")),
                )
            )
        assert records_of(store) == [record(1), record(2)]
        store.commit(batch(record(3)))
        assert records_of(store) == [record(1), record(2), record(3)]


def test_opened_here_and_written_by_another_thread(path: Path) -> None:
    with opened(path) as store:
        writer = threading.Thread(target=store.commit, args=(batch(record(1)),))
        writer.start()
        writer.join()
        assert records_of(store) == [record(1)]


def test_the_log_is_copied_between_commits(connections: list[Fallible], path: Path) -> None:
    with opened(path) as store:
        assert connections[-1].execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        new_bytes = path.stat().st_size
        log = path.with_name("openred.db-wal")
        commits = 0
        while not store.tidy_due:
            store.commit(batch(*(record(slot) for slot in range(commits * 500, commits * 500 + 500))))
            commits += 1
        assert path.stat().st_size == new_bytes
        assert WAL_BYTES_DUE / 4 < log.stat().st_size < WAL_BYTES_DUE * 2
        store.tidy()
        assert path.stat().st_size > new_bytes
        assert not store.tidy_due
        log_bytes = log.stat().st_size
        store.commit(batch(record(0)))
        assert log.stat().st_size == log_bytes, "the log is written over"
        assert len(records_of(store)) == commits * 500


def test_scattered_changes_count_as_the_pages_they_touch(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(20_000))))
        store.tidy()
        scattered = [record(slot) for slot in range(0, 5_000, 16)]
        store.commit(batch(*scattered))
        assert not store.tidy_due
        store.commit(batch(*scattered, tombstones=[tombstone(f"{n}") for n in range(10)]))
        assert store.tidy_due


def test_secrets_fill_the_log_too(path: Path) -> None:
    """They may be written for days with nothing else."""
    with opened(path) as store:
        log = path.with_name("openred.db-wal")
        for number in range(10):
            store.save_secret("large", bytes([number]) * 1_000_000)
            while store.tidy_due:
                store.tidy()
        assert log.stat().st_size < 3 * WAL_BYTES_DUE


def test_revocations_fill_the_log_too(path: Path) -> None:
    with opened(path) as store:
        log = path.with_name("openred.db-wal")
        store.save_revocations({f"{number:022}": 1.0 for number in range(20_000)})
        for number in range(0, 20_000, 10):
            store.save_revocations({f"{number:022}": None, f"{number:021}A": 1.0})
            while store.tidy_due:
                store.tidy()
        assert log.stat().st_size < 3 * WAL_BYTES_DUE


def test_closing_copies_the_log_and_leaves_one_file(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    store.open()
    store.commit(batch(record(1)))
    assert path.with_name("openred.db-wal").stat().st_size > 0
    store.close()
    store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["openred.db", "openred.db.lock"]


def test_closing_copies_the_log_beside_a_reader(path: Path) -> None:
    with opened(path) as store, closing(sqlite3.connect(path)) as onlooker:
        assert onlooker.execute("SELECT count(*) FROM node").fetchone() == (0,)
        store.commit(batch(record(1)))
        store.close()
        assert path.with_name("openred.db-wal").stat().st_size == 0


def test_a_store_that_is_not_open_says_so(path: Path) -> None:
    store: Store = SqliteStore(path)
    with pytest.raises(StoreError, match=f"{path} is not open"):
        store.commit(batch(record(1)))


def test_all_files_are_ours_alone(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    names = ("openred.db", "openred.db-wal", "openred.db-shm", "openred.db.lock")
    assert modes == dict.fromkeys(names, 0o600)


def test_a_database_that_others_may_read_is_closed_to_them(path: Path) -> None:
    with opened(path):
        pass
    path.chmod(0o664)
    with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_server_is_refused_through_any_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with opened(path) as store:
        store.commit(batch(record(1)))
        for second in (SqliteStore(path), SqliteStore(link)):
            with pytest.raises(StoreError, match=rf"{path} is in use by another server \(process"):
                second.open()
        assert records_of(store) == [record(1)]
    with opened(link) as store:
        assert records_of(store) == [record(1)]


def test_a_reader_beside_the_server_is_not_shut_out(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        alter(path, "SELECT count(*) FROM node")


# Files that cannot be opened.


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as error, opened(path):
        pass
    message = str(error.value)
    assert "\n" not in message
    return message


def filled(path: Path) -> int:
    """A database with many records at `path`; its size in bytes."""
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(2_000))))
    return path.stat().st_size


DAMAGED = "is damaged: restore it from a backup, or move it away to start empty"


def changed(path: Path, statement: str) -> None:
    filled(path)
    alter(path, statement)


def without_header(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (Path.touch, "PATH is empty, which no database of ours ever is; restore it from a backup, or"),
    "only a log": (
        lambda path: companion(path, "-wal").write_bytes(b"records"),
        "PATH is missing, but its log openred.db-wal is there",
    ),
    "text": (
        lambda path: path.write_text("Dear diary, " * 1_000),
        "cannot open PATH: file is not a database; it is damaged or no database",
    ),
    "no header": (without_header, "cannot open PATH: file is not a database"),
    "cut": (lambda path: os.truncate(path, filled(path) // 2), DAMAGED),
    "a folder": (Path.mkdir, "PATH is not a file; choose the path of a file"),
    "another program": (
        lambda path: alter(path, "CREATE TABLE diary (entry TEXT)"),
        "PATH is a database of another program (application id 0x00000000",
    ),
    "a negative id": (
        lambda path: changed(path, "PRAGMA application_id = -2"),
        "PATH is a database of another program (application id 0xfffffffe",
    ),
    "a newer version": (
        lambda path: changed(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}"),
        f"PATH has schema version {SCHEMA_VERSION + 1}, this server knows versions up to {SCHEMA_VERSION};",
    ),
    "version 0": (lambda path: changed(path, "PRAGMA user_version = 0"), "PATH has schema version 0, this"),
}


@pytest.mark.parametrize(("spoil", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_file_is_refused_and_left_alone(
    spoil: Callable[[Path], object], message: str, path: Path
) -> None:
    spoil(path)
    before = {file: file.is_file() and file.read_bytes() for file in path.parent.iterdir()}
    for _ in range(2):
        assert message in refusal(path).replace(str(path), "PATH"), "no lock is left either"
    after = {file: file.is_file() and file.read_bytes() for file in path.parent.iterdir()}
    after.pop(path.with_name("openred.db.lock"), None)
    before.pop(path.with_name("openred.db.lock"), None)
    assert after == before


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    path = tmp_path / "data" / "openred.db"
    assert refusal(path).startswith(f"cannot open {path}: {tmp_path / 'data'}: File exists; ")


def test_a_damaged_page_anywhere_is_named(path: Path, seed: int) -> None:
    pages = filled(path) // PAGE_BYTES
    for page in Random(seed).sample(range(1, pages), 5):
        damaged = path.with_name(f"damaged-{page}.db")
        shutil.copy(path, damaged)
        with damaged.open("r+b") as file:
            file.seek(page * PAGE_BYTES)
            file.write(b"\0" * PAGE_BYTES)
        assert DAMAGED in refusal(damaged), f"page {page}"


def test_a_full_disk_is_reported_and_survived(connections: list[Fallible], path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        pages = connections[-1].execute("PRAGMA page_count").fetchone()[0]
        connections[-1].execute(f"PRAGMA max_page_count = {pages + 1}")
        many = batch(*(record(slot) for slot in range(1_000)))
        with pytest.raises(StoreError, match=rf"cannot write {path}: database or disk is full; make room on"):
            store.commit(many)
        assert records_of(store) == [record(1)]
        connections[-1].execute(f"PRAGMA max_page_count = {pages + 1_000}")
        store.commit(many)
        assert len(records_of(store)) == 1_000


NOBODY = 65_534


@contextmanager
def folder_of_nobody() -> Iterator[Path]:
    """A folder, and in it no more rights than any user has, even where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_file_that_cannot_be_written_is_named() -> None:
    with folder_of_nobody() as folder:
        path = folder / "openred.db"
        filled(path)
        path.chmod(0o400)
        assert refusal(path) == (
            f"cannot open {path}: attempt to write a readonly database; "
            "let the user of this server write the file and its folder"
        )


def test_a_file_that_cannot_be_read_is_named() -> None:
    with folder_of_nobody() as folder:
        path = folder / "openred.db"
        filled(path)
        path.chmod(0)
        assert refusal(path) == (
            f"cannot open {path}: unable to open database file; "
            "let the user of this server read and write the file and its folder"
        )


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_folder_that_is_closed_to_us_is_named(mode: int) -> None:
    with folder_of_nobody() as folder:
        folder.chmod(mode)
        path = folder / "openred.db"
        assert refusal(path).startswith(f"cannot open {path}: {path}.lock: Permission denied; let the user")
        below = folder / "deeper" / "openred.db"
        assert refusal(below).startswith(f"cannot open {below}: {folder / 'deeper'}: Permission denied; let")


# A killed server.

COMMIT_UNTIL_KILLED = """
import sys
from itertools import count
from pathlib import Path
from openred_central.storage.sqlite.sqlite import SqliteStore
from tests.storage.sqlite.test_sqlite import batch_number

store = SqliteStore(Path(sys.argv[1]))
early = sys.argv[2:] == ["early"]
store.open()


def acknowledge(number):
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()


vitals = store.load_vitals()
for number in count(vitals.revision + 1 if vitals else 0):
    if early:
        acknowledge(number)
    store.commit(batch_number(number))
    if not early:
        acknowledge(number)
    if store.tidy_due:
        store.tidy()
"""

EARLY_KILLS_MAX = 20
ROWS_PER_BATCH = 200
# A node that a batch registered is heard in so many after it.
HEARD_BATCHES = 8
# A hundred times as many when soaking.
KILLS = 3 * settings().max_examples // 50


def batch_number(number: int) -> Any:
    """Every batch fills one range of slots, frees half of the one before, and tells of some before that."""
    first = number * ROWS_PER_BATCH
    heard_from = max(0, first - HEARD_BATCHES * ROWS_PER_BATCH)
    pages = {slot // PAGE_SLOTS for slot in range(heard_from + 1, first, 2)}
    told = {slot: seen_s for slot, seen_s in seen_after(number).items() if slot // PAGE_SLOTS in pages}
    return batch(
        *(record(slot, revision=number) for slot in range(first, first + ROWS_PER_BATCH)),
        freed_slots=[slot for slot in range(first - ROWS_PER_BATCH, first, 2) if slot >= 0],
        pages=pages_of(record(slot, last_seen_s=s) for slot, s in told.items()),
        tombstones=[tombstone(f"{number}", float(number))],
        vitals=Vitals(float(number), number, 0.0),
    )


def seen_after(number: int) -> dict[int, float]:
    """Slots and when they were seen last, after this batch."""
    last = number * ROWS_PER_BATCH
    seen = {slot: record(slot).last_seen_s for slot in range(last, last + ROWS_PER_BATCH)}
    for slot in range(1, last, 2):
        seen[slot] = float(min(number, slot // ROWS_PER_BATCH + HEARD_BATCHES))
    return seen


def kill_and_look(path: Path, random: Random, *how: str) -> None:
    """Kill a server that commits and acknowledges batches, and see that nothing acknowledged is lost."""
    command = [sys.executable, "-c", COMMIT_UNTIL_KILLED, str(path), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for _ in range(random.randint(1, 40)):
            acknowledged = int(server.stdout.readline())
        server.kill()
        rest = server.stdout.read()
    acknowledged = int(rest.splitlines()[-1]) if rest.endswith("\n") else acknowledged
    assert server.returncode == -signal.SIGKILL
    with opened(path) as store:
        vitals = store.load_vitals()
        assert vitals is not None, "nothing is there"
        assert vitals.revision >= acknowledged, "an acknowledged batch is lost"
        assert {row.slot: row.last_seen_s for row in records_of(store)} == seen_after(vitals.revision)
        assert len(tombstones_of(store)) == vitals.revision + 1


def kill_and_look_often(path: Path, random: Random, rounds: int, *how: str) -> None:
    for _ in range(rounds):
        kill_and_look(path, random, *how)


def test_kill_9_loses_no_acknowledged_commit(path: Path, seed: int) -> None:
    kill_and_look_often(path, Random(seed), KILLS)


def test_an_early_acknowledgement_would_be_noticed(path: Path, seed: int) -> None:
    with pytest.raises(AssertionError, match=r"nothing is there|an acknowledged batch is lost"):
        # A kill finds the server between the two in nearly every round.
        kill_and_look_often(path, Random(seed), EARLY_KILLS_MAX, "early")
