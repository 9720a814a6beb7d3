"""The content of a store becomes a directory, or is reported as damaged."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from openred_central.directory.consistency import check
from openred_central.directory.directory import Directory
from openred_central.directory.state.node import Record, hash_id
from openred_central.errors import CallerError
from openred_central.storage.loading import load, open_store
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import DamageError, MemoryStore, StoreError
from tests.support.clock import VirtualClock
from tests.support.options import directory_options, lifecycle_options, mass_silence_options
from tests.support.records import alter, batch, opened, pages_of, record, records_of, tombstone
from tests.support.world import DAY_S, NODE, World, run


def directory() -> Directory:
    return Directory(directory_options(), lifecycle_options(), mass_silence_options(), lambda: 0.5)


def loaded(store: SqliteStore | MemoryStore) -> tuple[Directory, float]:
    filled = directory()
    attended = load(filled, store, VirtualClock(), tick_s=1.0)
    return filled, attended.now().attended_s


def test_a_loaded_directory_goes_on_in_time(tmp_path: Path) -> None:
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
        {"node_id": "node-1", "revision": 1},
        {"node_id": 'a"b'},
        {"state": 0},
        {"state": 8},
        {"state": 200},
        {"state": -1},
        {"flags": 256},
        {"revision": -1},
        {"longest": 256},
        {"last_seen_s": 12.6},
        {"last_seen_s": 1e300},
        {"since_s": 1e300, "state": 3},
        {"away_until_s": 1e300},
        {"profile": b"x"},
        {"history": "garbage"},
        {"slot": 100_000_000},
        {"slot": 4_294_967_290},
    ],
)
def test_a_record_that_no_directory_wrote_is_not_served(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        good = {"last_seen_s": 10.0}
        store.commit(batch(record(1, **good), record(2, **good)._replace(**change), record(3, **good)))
        before = rows_of(path)
        filled, _ = loaded(store)
        assert [row.slot for row in filled.nodes.unserved] == [change.get("slot", 2)]
        assert filled.nodes.registry.slots_count <= 4
        assert sorted(filled.nodes.registry.node_ids()) == ["node-1", "node-3"]
    assert rows_of(path) == before
    assert gc.isenabled()


def test_an_unserved_row_takes_no_signs_of_life(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.commit(batch(record(1, last_seen_s=1.0), record(2, last_seen_s=1.0)))
        store.commit(batch(pages=pages_of(record(slot, last_seen_s=2.0) for slot in (1, 2))))
        alter(path, "UPDATE node SET profile = 'x' WHERE slot = 2")
        filled, _ = loaded(store)
        assert [row.slot for row in filled.nodes.unserved] == [2]
        assert filled.nodes.registry.last_seen_s[1] == 2.0
        assert [row.last_seen_s for row in records_of(store)] == [2.0, 1.0]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM vitals", "it holds nodes, and no vitals"),
        ("UPDATE vitals SET attended_s = 0.0", "3 nodes were seen after that, more than before"),
        ("UPDATE vitals SET attended_s = -1.0", "its vitals have attended_s -1.0, which is not in 0 to"),
        ("UPDATE vitals SET attended_s = 9e999", "its vitals have attended_s inf"),
        ("UPDATE vitals SET revision = 9223372036854775807", "its vitals have revision 9223372036854775807"),
        ("UPDATE vitals SET transitions_per_h = -0.5", "its vitals have transitions_per_h -0.5"),
    ],
)
def test_vitals_that_are_wrong_are_damage_of_the_whole(tmp_path: Path, statement: str, told: str) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.commit(batch(*(record(slot, last_seen_s=10.0) for slot in range(3))))
        alter(path, statement)
        with pytest.raises(DamageError, match=rf"does not fit together: .*{told}"):
            loaded(store)


def test_a_node_that_is_dead_as_well_is_not_served(tmp_path: Path) -> None:
    with opened(tmp_path / "openred.db") as store:
        stones = [tombstone(hash_id("node-1"))]
        store.commit(batch(record(1, last_seen_s=10.0), record(2, last_seen_s=10.0), tombstones=stones))
        filled, _ = loaded(store)
    assert [row.slot for row in filled.nodes.unserved] == [1]
    assert len(filled) == 1


# Values that another program might write into one column of one row.

LOOSE = """
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(sql, ' STRICT', ''), ' NOT NULL', '');
PRAGMA writable_schema = RESET;
"""
COLUMNS = (*Record._fields, "commit_number")
VALUES = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=12)
    | st.text(max_size=12)
    | st.none()
    | st.sampled_from(
        [0, 1, 2, 7, 8, 9, 64, 255, -5, 12.5, 1e300, "node-3", "a,b", "a,,b", "1.0,active,coma,left"]
    )
    | st.sampled_from(['["a",1,"k",[],{}]', '["a",1,"k",[]', '{"a":1}', b"\xff\xfe", "x" * 300_000])
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of three nodes, whose schema forbids nothing."""
    path = tmp_path_factory.mktemp("template") / "openred.db"
    profile = b'["192.0.2.1",80,"key",[],{"name":"x"}]'
    rows = [
        record(slot, last_seen_s=10.0, profile=profile, history="1.000,absent,active,registered")
        for slot in range(1, 4)
    ]
    with opened(path) as store:
        store.commit(batch(*rows))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(LOOSE)
    return path


@given(st.sampled_from(COLUMNS), VALUES)
def test_any_row_is_served_or_left_out(template: Path, column: str, value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "openred.db"
        shutil.copyfile(template, path)
        try:
            # Bytes as text, which a column of text holds whatever they are.
            given_as = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute(f"UPDATE node SET {column} = {given_as} WHERE slot = 2", (value,))
        except sqlite3.Error:
            # Slots are integers, each there once, by any schema.
            reject()
        before, world = rows_of(path), World()
        world.clock.advance(20.0)
        with opened(path) as store:
            load(world.directory, store, world.clock, tick_s=1.0)
            unserved = {row.slot for row in world.directory.nodes.unserved}
            served = set(world.directory.nodes.registry.taken_slots())
            assert unserved | served == {row[0] for row in before}
            assert not unserved & served
            expect_answers(world, "GET")
            save(world, store)
        assert rows_of(path) == before, "who only reads changes no row"
        with opened(path) as store:
            store.leave_alone(unserved)
            expect_answers(world, "POST")
            world.wait(200 * DAY_S)
            world.wait(700 * DAY_S)
            expect_answers(world, "GET")
            save(world, store)
        after = rows_of(path)
        assert [row for row in after if row[0] in unserved] == [row for row in before if row[0] in unserved]


@given(VALUES, VALUES)
def test_any_kept_value_is_taken_or_left_out(template: Path, name: object, value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, filled = Path(folder) / "openred.db", directory()
        shutil.copyfile(template, path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            given_as = ["CAST(? AS TEXT)" if isinstance(one, bytes) else "?" for one in (name, value)]
            connection.execute("INSERT INTO kept VALUES ('zz', CAST('sound' AS BLOB))")
            try:
                connection.execute(f"INSERT INTO kept VALUES ({', '.join(given_as)})", (name, value))
            except (sqlite3.Error, OverflowError):
                reject()
        with opened(path) as store:
            kept = dict(store.load_kept())
            assert kept["zz"] == b"sound"
            assert all(type(name) is str and type(value) is bytes for name, value in kept.items())
            load(filled, store, VirtualClock(), tick_s=1.0)
            assert len(filled) == 3


def test_a_kept_value_that_cannot_be_used_is_logged_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, filled, taken = tmp_path / "openred.db", directory(), list[bytes]()

    def take(name: str, value: bytes) -> None:
        if value == b"damaged":
            raise ValueError("it is damaged")
        taken.append(value)

    filled.keepers["shelf"] = take
    with opened(path) as store:
        rows = [("shelf/1", b"damaged"), ("shelf/2", b"sound"), ("shelf", b"too"), ("unknown/1", b"odd")]
        store.commit(batch(kept=rows))
        alter(
            path,
            "INSERT INTO kept VALUES ('shelf/3', zeroblob(65537))",
            "INSERT INTO kept VALUES (CAST(x'73ff' AS TEXT), x'00')",
        )
        load(filled, store, VirtualClock(), tick_s=1.0)
    assert taken == [b"too", b"sound"]
    told = [entry.getMessage() for entry in caplog.records]
    assert len(told) == 3
    assert told[0] == f"left out b'shelf/3' of what {path} keeps: its value has 65537 bytes"
    assert f"left out b's\\xff' of what {path} keeps: 'utf-8' codec can't decode" in told[1]
    assert told[2] == f"left out what {path} keeps as 'shelf/1' of 7 bytes: ValueError: it is damaged"


def expect_answers(world: World, method: str) -> None:
    """Every endpoint about nodes answers, whatever it is, without a failure of its own, and in JSON."""
    names = ["node-1", "node-2", "node-3", *world.directory.nodes.registry.node_ids()]
    targets: list[tuple[str, Any]] = [("/heartbeat/" + quote(name, safe=""), None) for name in names]
    targets += [("/register", {**NODE, "node_id": name}) for name in ("node-2", "new-1", "new-2")]
    targets += [("/lookup", {"node_ids": ["node-1", "node-2", "node-3"]})]
    if method == "GET":
        targets = [("/nodes/" + quote(name, safe=""), None) for name in names]
        targets += [
            (f"/discover{query}", None) for query in ("", "?services=relay", "?near=eu-west&states=coma")
        ]
        targets += [("/stats", None), ("/health", None)]
    for target, body in targets:
        try:
            orjson.loads(run(world.start(world.request(method, target, body))).body)
        except CallerError as error:
            # Any other error is a failure.
            if error.status not in (400, 401, 403, 404, 409, 410):
                raise
    assert check(world.directory, world.now()) == []


def save(world: World, store: SqliteStore) -> None:
    while (changes := world.directory.saving.take_changes(100, world.now())) is not None:
        store.commit(changes)


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    """All rows of nodes as they are in the file, with the types of their values."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        types = ", ".join(f"typeof({name})" for name in COLUMNS)
        return connection.execute(f"SELECT {', '.join(COLUMNS)}, {types} FROM node ORDER BY slot").fetchall()


def test_memory_keeps_nothing() -> None:
    store = open_store("memory:")
    assert not store.durable
    store.close()


def test_anything_else_is_a_path_and_the_store_is_open(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "openred.db"
    store = open_store(str(path))
    assert store.durable
    assert store.location == str(path)
    assert store.load_vitals() is None
    store.close()


@pytest.mark.parametrize("database", ["", ":memory:", "postgresql://localhost/openred", "data/\0.db"])
def test_text_that_names_no_store_is_refused(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"names no database; give the path of a file .* 'memory:'"):
        open_store(database)
    assert list(tmp_path.iterdir()) == []
