"""Deleted records soon vanish from all files, even while another process reads."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.storage.sqlite.schema import companion
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.sqlite.wiping import HELD_S, WIPE_INTERVAL_S
from tests.support.records import SignOfLife, batch, opened, pages_of, record, records_of, tombstone

NAME = b"forgotten-name"
PROFILE = b'["198.51.100.99",1,"its key",[],{}]'
SEEN = SignOfLife(7, 1_812_345_678.125, 812_345.5, 12_345.75)
# As a page packs it.
PACKED = struct.pack("<d", SEEN.last_seen_at)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "openred.db"


def remember(store: SqliteStore, path: Path) -> None:
    """Store the node that is to be forgotten, among others, so that every file holds something of it."""
    others = [record(slot) for slot in range(100) if slot != SEEN.slot]
    store.commit(batch(record(SEEN.slot, node_id=NAME.decode(), profile=PROFILE), *others))
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    store.commit(batch(record(SEEN.slot, node_id=NAME.decode(), profile=PROFILE, region="moved")))
    store.commit(batch(pages=pages_of([record(**SEEN._asdict())])))


def forget(store: SqliteStore) -> None:
    """Remove the record, and then, in the next flush, the times of its slot."""
    store.commit(batch(freed_slots=[SEEN.slot], tombstones=[tombstone("hash")]))
    store.commit(batch(pages=pages_of([record(1)])))


def tidied(store: SqliteStore, now_s: float) -> None:
    """Do what a server does once a second."""
    store.look(now_s)
    while store.tidy_due:
        store.tidy()


def files(path: Path) -> bytes:
    return path.read_bytes() + companion(path, "-wal").read_bytes()


def found_in(path: Path) -> list[bytes]:
    content = files(path)
    return [part for part in (NAME, PROFILE, PACKED) if part in content]


def test_forgotten_records_are_wiped_from_database_and_log(path: Path) -> None:
    with opened(path) as store:
        remember(store, path)
        tidied(store, 0.0)
        remember(store, path)
        forget(store)
        assert found_in(path) == [NAME, PROFILE, PACKED]
        tidied(store, 1.0)
        assert found_in(path) == [NAME, PROFILE, PACKED], "not with every look"
        tidied(store, WIPE_INTERVAL_S)
        assert found_in(path) == []
        assert len(records_of(store)) == 99


def test_the_log_stays_if_nothing_is_forgotten(path: Path) -> None:
    with opened(path) as store:
        tidied(store, 0.0)
        remember(store, path)
        log_bytes = companion(path, "-wal").stat().st_size
        tidied(store, 10 * WIPE_INTERVAL_S)
        assert companion(path, "-wal").stat().st_size == log_bytes > 0


def test_the_times_of_a_node_are_wiped_once_its_page_was_written_anew(path: Path) -> None:
    with opened(path) as store:
        tidied(store, 0.0)
        remember(store, path)
        store.commit(batch(freed_slots=[SEEN.slot]))
        tidied(store, WIPE_INTERVAL_S)
        assert found_in(path) == [PACKED]
        store.commit(batch(pages=pages_of([record(1)])))
        tidied(store, 2 * WIPE_INTERVAL_S)
        assert found_in(path) == []


def test_pages_are_wiped_that_were_written_with_other_deletions(path: Path) -> None:
    with opened(path) as store:
        tidied(store, 0.0)
        remember(store, path)
        store.commit(batch(freed_slots=[SEEN.slot]))
        store.commit(batch(pages=pages_of([record(1)]), freed_slots=[PAGE_SLOTS]))
        tidied(store, WIPE_INTERVAL_S)
        assert found_in(path) == []


def test_times_are_wiped_where_another_node_took_the_slot_at_once(path: Path) -> None:
    with opened(path) as store:
        tidied(store, 0.0)
        remember(store, path)
        store.commit(batch(record(SEEN.slot, node_id="new"), tombstones=[tombstone("hash")]))
        tidied(store, WIPE_INTERVAL_S)
        store.commit(batch(pages=pages_of([record(1)])))
        tidied(store, 2 * WIPE_INTERVAL_S)
        assert found_in(path) == []


def test_after_a_kill_the_next_run_wipes(path: Path) -> None:
    with opened(path) as store:
        remember(store, path)
        forget(store)
        killed = path.with_name("killed.db")
        killed.write_bytes(path.read_bytes())
        companion(killed, "-wal").write_bytes(companion(path, "-wal").read_bytes())
    with opened(killed) as store:
        assert NAME in files(killed)
        tidied(store, 0.0)
        assert found_in(killed) == []


def test_a_reader_that_delays_wiping_is_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        tidied(store, 0.0)
        remember(store, path)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM node").fetchone()
        forget(store)
        for second in range(4, 20):
            tidied(store, float(second))
            assert NAME in files(path)
            store.commit(batch(record(3)))
        (told,) = caplog.messages
        assert told == (
            "forgotten records are still in the log of the database after 10 s: a program that reads the "
            "database keeps it from being emptied; find that program and end it"
        )
        assert HELD_S < 15.0
        reader.execute("COMMIT")
        tidied(store, 20.0)
        assert found_in(path) == []
        assert caplog.messages[1:] == ["forgotten records are out of the log of the database"]


def test_a_wipe_that_met_an_error_is_begun_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: sqlite3.Connection, *, wait: bool) -> bool:
        raise sqlite3.OperationalError("not now")

    with opened(path) as store:
        tidied(store, 0.0)
        remember(store, path)
        forget(store)
        with monkeypatch.context() as patch:
            patch.setattr("openred_central.storage.sqlite.wiping.truncate_log", fail)
            with pytest.raises(Exception, match="not now"):
                tidied(store, WIPE_INTERVAL_S)
            assert not store.tidy_due
        tidied(store, 2 * WIPE_INTERVAL_S)
        assert found_in(path) == []
