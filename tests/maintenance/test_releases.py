"""Databases and exports of every released schema are read by this server with everything in them.

A change of the schema adds a database and an export that the last server before it has made.
"""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from openred_central.directory.directory import Directory
from openred_central.directory.state.node import Record, Tombstone
from openred_central.maintenance.exporting import export
from openred_central.maintenance.importing import import_into
from openred_central.settings.config import Configuration
from openred_central.storage.loading import load
from openred_central.storage.sqlite.schema import SCHEMA_VERSION
from openred_central.storage.sqlite.sqlite import SqliteStore
from tests.support.clock import VirtualClock
from tests.support.records import RELEASES, build_released, opened, records_of, tombstones_of

VERSIONS = range(1, SCHEMA_VERSION + 1)
EXPORTED_VERSIONS = range(2, SCHEMA_VERSION + 1)


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")]


def lines_of(exported: bytes) -> list[dict[str, Any]]:
    """The lines of an export but for header and footer, in an order of their own."""
    return sorted(map(orjson.loads, exported.splitlines()[1:-1]), key=orjson.dumps)


def exported_at(content: bytes) -> float:
    created_at: float = orjson.loads(content.splitlines()[0])["created_at"]
    return created_at


def exported_by(store: SqliteStore, created_at: float) -> list[dict[str, Any]]:
    output = io.BytesIO()
    export(store, output, secrets=True, created_at=created_at, progress=lambda done, total: None)
    return lines_of(output.getvalue())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_database_opens_with_every_row(version: int, tmp_path: Path) -> None:
    path = build_released(version, tmp_path / "openred.db")
    nodes, tombstones, secrets = rows(path, "node"), rows(path, "tombstone"), rows(path, "secret")
    heard_in = {1: None, 6: "seen", 7: "seen"}.get(version, "journal")
    heard = {"last_seen_at", "last_seen_s", "usual_gap_s"} if heard_in and rows(path, heard_in) else set()
    with opened(path) as store:
        found = [row._asdict() | {"profile": row.profile.decode()} for row in records_of(store)]
        assert len(found) == len(nodes) == (3 if version < 3 else 4)
        for row, record in zip(nodes, found, strict=True):
            names = row.keys() & set(Record._fields) - heard
            assert {name: row[name] for name in names} == {name: record[name] for name in names}
        stones = sorted(tombstones_of(store))
        assert len(stones) == len(tombstones) == (2 if version < 3 else 3)
        for row, stone in zip(tombstones, stones, strict=True):
            names = row.keys() & set(Tombstone._fields)
            assert {name: row[name] for name in names} == {name: stone._asdict()[name] for name in names}
        for secret in secrets:
            if secret["name"] != "revocations":
                assert store.load_secret(secret["name"]) == secret["value"]
        assert len(store.load_revocations()) == (0 if version < 3 else 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_database_is_served_whole(version: int, tmp_path: Path) -> None:
    configuration = Configuration()
    directory = Directory(
        configuration.directory(), configuration.lifecycle(), configuration.mass_silence(), lambda: 0.5
    )
    with opened(build_released(version, tmp_path / "openred.db")) as store:
        load(directory, store, VirtualClock(), tick_s=1.0)
        assert len(directory) == len(records_of(store))
    assert list(directory.nodes.unserved) == []


@pytest.mark.parametrize("version", EXPORTED_VERSIONS)
def test_a_released_database_is_exported_as_its_own_server_did(version: int, tmp_path: Path) -> None:
    content = (RELEASES / f"version_{version}.jsonl").read_bytes()
    with opened(build_released(version, tmp_path / "openred.db")) as store:
        assert exported_by(store, exported_at(content)) == lines_of(content)


@pytest.mark.parametrize("version", EXPORTED_VERSIONS)
def test_a_released_export_is_imported_with_every_line(version: int, tmp_path: Path) -> None:
    content = (RELEASES / f"version_{version}.jsonl").read_bytes()
    database = tmp_path / "openred.db"
    import_into(database, io.BytesIO(content), replace=False, wall_s=0.0, progress=lambda done: None)
    with opened(database) as store:
        assert exported_by(store, exported_at(content)) == lines_of(content)
