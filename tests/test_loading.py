"""What a store holds becomes a directory, or it is told that it cannot."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from openred_central.clock import VirtualClock
from openred_central.directory.directory import Directory, DirectoryOptions
from openred_central.directory.lifecycle import LifecycleOptions
from openred_central.directory.mass_silence import MassSilenceOptions
from openred_central.loading import load
from openred_central.storage.memory import MemoryStore
from openred_central.storage.sqlite import SqliteStore
from openred_central.storage.store import DamageError

from .storage.records import alter, batch, opened, record, tombstone


def directory() -> Directory:
    return Directory(DirectoryOptions(), LifecycleOptions(), MassSilenceOptions(), lambda: 0.5)


def loaded(store: SqliteStore | MemoryStore) -> tuple[Directory, float]:
    filled = directory()
    attended = load(filled, store, VirtualClock(), tick_s=1.0)
    return filled, attended.now().attended_s


def test_a_directory_is_what_the_store_holds_and_time_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path / "openred.db") as store:
        rows = [record(slot, last_seen_s=10.0) for slot in (0, 3, 4)]
        store.commit(batch(*rows, tombstones=[tombstone("a")]))
        filled, attended_s = loaded(store)
    assert [filled.nodes.registry.record(row.slot) for row in rows] == rows
    assert len(filled.nodes.tombstones) == 1
    assert (filled.nodes.revision, attended_s) == (3, 12.5)
    assert gc.isenabled()


def test_an_empty_store_is_an_empty_directory() -> None:
    filled, attended_s = loaded(MemoryStore())
    assert (len(filled), attended_s) == (0, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"node_id": "node-1"},
        {"state": 0},
        {"state": 8},
        {"state": 200},
        {"state": -1},
        {"flags": 256},
        {"revision": -1},
        {"last_seen_s": 12.6},
        {"last_seen_s": 1e300},
        {"since_s": 1e300, "state": 3},
        {"away_until_s": 1e300},
    ],
)
def test_a_record_that_no_directory_wrote_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    with opened(tmp_path / "openred.db") as store:
        good = {"last_seen_s": 10.0}
        store.commit(batch(record(1, **good), record(2, **{**good, **change})))
        with pytest.raises(DamageError, match=r"cannot be loaded|does not fit together"):
            loaded(store)
    assert gc.isenabled()


def test_a_store_that_has_lost_its_own_time_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.commit(batch(record(1, last_seen_s=10.0)))
    alter(path, "DELETE FROM vitals")
    with opened(path) as store, pytest.raises(DamageError, match=r"last seen 10.000 s from now"):
        loaded(store)
