"""Snapshots: whole, verified copies of the database, made while a server writes into it.

A snapshot is a folder, `<database>-<number>-<time>`, that holds a copy of the database and its manifest. It
is made under another name, checked as it was written to the disk, and then renamed: a folder with such a name
is complete. Numbers rise, whatever the clock says, so the highest is the newest.

All pages are copied within one read transaction: the copy is the database at one moment, with everything that
was acknowledged before it began. It needs no log beside it. No row passes through Python, and SQLite and the
digest work without the interpreter's lock, so a server can do this in a thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson

from ...directory.state.changes import Vitals
from ..private_files import (
    clear,
    create_file,
    create_folder,
    describe,
    discard,
    give,
    scratch_folder,
    sync,
    write_whole,
)
from ..sqlite.schema import APPLICATION_ID
from ..sqlite.sqlite import SELECT_VITALS
from ..store import StoreError

MANIFEST = "manifest.json"
# 1 MiB is synced at once, so that the commits of a server do not wait for long.
STEP_PAGES = 256

_KINDS: dict[str, type | tuple[type, ...]] = {
    "database": str,
    "taken_at": (int, float),
    "schema_version": int,
    "file_bytes": int,
    "sha256": str,
    "records": int,
    "tombstones": int,
}

Progress = Callable[[int, int], None]


class Manifest(NamedTuple):
    """A JSON document beside the copy: the facts about a snapshot that need no look into the copy.

    `taken_at` is wall time; `file_bytes` and `sha256` (hexadecimal) are those of the copy.
    """

    database: str
    taken_at: float
    schema_version: int
    file_bytes: int
    sha256: str
    records: int
    tombstones: int
    vitals: Vitals | None

    def encode(self) -> bytes:
        """Return the manifest as JSON for people and programs."""
        fields = self._asdict()
        fields["vitals"] = None if self.vitals is None else self.vitals._asdict()
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def decode(cls, encoded: bytes) -> Manifest:
        """Return the manifest that `encode` wrote. Raises `ValueError` for anything else."""
        fields = orjson.loads(encoded)
        if not isinstance(fields, dict) or fields.keys() != set(cls._fields):
            raise ValueError(f"a manifest has the fields {', '.join(cls._fields)}")
        vitals = fields["vitals"]
        if vitals is not None:
            if not isinstance(vitals, dict) or vitals.keys() != set(Vitals._fields):
                raise ValueError(f"the vitals of a manifest are {', '.join(Vitals._fields)}")
            fields["vitals"] = Vitals(**vitals)
        manifest = cls(**fields)
        for name, kind in _KINDS.items():
            if not isinstance(getattr(manifest, name), kind):
                raise ValueError(f"the manifest's {name} is {getattr(manifest, name)!r}")
        return manifest


class SnapshotError(StoreError):
    """A snapshot cannot be used. The message says why."""


class Snapshot(NamedTuple):
    """A finished snapshot: where it lies, and its number."""

    folder: Path
    number: int
    database: Path

    @property
    def name(self) -> str:
        return self.folder.name


def utc_stamp(wall_s: float) -> str:
    """Return a wall time as it stands in the names of files: ``20270115T080000Z``."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")


class Snapshots:
    """The snapshots of the database at `database`, in `folder`, which may hold those of others as well."""

    def __init__(self, database: Path, folder: Path) -> None:
        # Named after the file itself, through whatever link it is reached.
        self.database = Path(os.path.realpath(database))
        self.folder = folder
        self._name = re.compile(re.escape(self.database.name) + r"-(\d{6,})-\d{8}T\d{6}Z")

    def newest_first(self) -> list[Snapshot]:
        """Return all finished snapshots, also those that no longer verify."""
        found = []
        with self._reported("list"):
            names = os.listdir(self.folder) if self.folder.is_dir() else []
        for name in names:
            if match := self._name.fullmatch(name):
                folder = self.folder / name
                found.append(Snapshot(folder, int(match[1]), folder / self.database.name))
        return sorted(found, key=lambda snapshot: snapshot.number, reverse=True)

    def take(self, wall_s: float, *, kept: int, progress: Progress) -> tuple[Snapshot, Manifest]:
        """Make a snapshot at wall time `wall_s`, verify it, and remove all but the newest `kept`.

        `progress` is called with the pages copied so far and all pages; an error that it raises ends the work
        and leaves nothing behind. Raises `StoreError`.
        """
        with self._reported("make"):
            new = [] if self.folder.is_dir() else [self.folder]
            create_folder(self.folder)
            with scratch_folder(self.folder) as scratch:
                copy = scratch / self.database.name
                copy_database(self.database, copy, progress)
                manifest = self._describe(copy, wall_s)
                write_whole(scratch / MANIFEST, manifest.encode())
                # The server has to read, keep and remove a snapshot that root has taken.
                for made in (copy, scratch / MANIFEST, scratch, *new):
                    give(made, self.database)
                sync(scratch)
                # Compare the bytes on the disk, not in memory: a restore will find those.
                _drop_from_memory(copy)
                self._compare(copy, manifest)
                snapshot = self._finish(scratch, wall_s)
            # The one just made is the newest, and has been verified.
            for older in self.newest_first()[max(kept, 1) :]:
                discard(older.folder)
        return snapshot, manifest

    def verify(self, snapshot: Snapshot) -> Manifest:
        """Return the manifest of a snapshot that agrees with it. Raises `SnapshotError` where it does not."""
        with self._reported("verify", snapshot.name):
            manifest = self.manifest(snapshot)
            self._compare(snapshot.database, manifest)
        return manifest

    def manifest(self, snapshot: Snapshot) -> Manifest:
        """Return the manifest of a snapshot. Raises `SnapshotError` where that cannot be read."""
        with self._reported("read the manifest of", snapshot.name):
            try:
                return Manifest.decode((snapshot.folder / MANIFEST).read_bytes())
            except ValueError as error:
                raise SnapshotError(
                    f"the manifest of snapshot {snapshot.name} is damaged: {error}"
                ) from error

    def newest_at(self) -> float | None:
        """Return the wall time of the newest snapshot; None where no manifest has it."""
        snapshots = self.newest_first()
        try:
            return self.manifest(snapshots[0]).taken_at if snapshots else None
        except SnapshotError:
            return None

    def clear(self) -> None:
        """Remove the unfinished work of killed processes in the folder."""
        with self._reported("clear"):
            clear(self.folder)

    def _describe(self, copy: Path, wall_s: float) -> Manifest:
        with closing(read_only(copy, immutable=True)) as connection:
            ((application_id,),) = connection.execute("PRAGMA application_id").fetchall()
            if application_id != APPLICATION_ID:
                raise SnapshotError(f"{self.database} is a database of another program")
            ((version,),) = connection.execute("PRAGMA user_version").fetchall()
            ((records,),) = connection.execute("SELECT count(*) FROM node").fetchall()
            ((tombstones,),) = connection.execute("SELECT count(*) FROM tombstone").fetchall()
            vitals = connection.execute(SELECT_VITALS).fetchone()
        return Manifest(
            database=self.database.name,
            taken_at=wall_s,
            schema_version=version,
            file_bytes=copy.stat().st_size,
            sha256=sha256_of(copy),
            records=records,
            tombstones=tombstones,
            vitals=None if vitals is None else Vitals._make(vitals),
        )

    def _compare(self, copy: Path, manifest: Manifest) -> None:
        """Raise `SnapshotError` unless `copy` is the database that `manifest` describes."""
        where = f"snapshot {copy.parent.name}"
        size = copy.stat().st_size
        if size != manifest.file_bytes:
            raise SnapshotError(f"{where} has {size} bytes, its manifest says {manifest.file_bytes}")
        if sha256_of(copy) != manifest.sha256:
            raise SnapshotError(f"{where} is not the file that was written: its SHA-256 is another one")
        with closing(read_only(copy, immutable=True)) as connection:
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise SnapshotError(f"{where} is damaged: {' '.join(finding.split())}")

    def _finish(self, scratch: Path, wall_s: float) -> Snapshot:
        """Give the folder `scratch` its name and number, which no other process has taken."""
        existing = self.newest_first()
        number = existing[0].number + 1 if existing else 1
        while True:
            folder = self.folder / f"{self.database.name}-{number:06d}-{utc_stamp(wall_s)}"
            try:
                # Refused where there is such a folder, which is never empty.
                scratch.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                number += 1
                continue
            sync(self.folder)
            return Snapshot(folder, number, folder / self.database.name)

    @contextmanager
    def _reported(self, doing: str, name: str = "") -> Iterator[None]:
        """Raise `SnapshotError` for errors of SQLite and of the system."""
        what = f"snapshot {name}" if name else f"snapshots of {self.database} in {self.folder}"
        try:
            yield
        except sqlite3.Error as error:
            raise SnapshotError(f"cannot {doing} {what}: {error}") from error
        except OSError as error:
            raise SnapshotError(f"cannot {doing} {what}: {describe(error, self.folder)}") from error


def copy_database(source: Path, target: Path, progress: Progress) -> None:
    """Copy the database at `source`, which may be in use, to the new file `target`, durably.

    `progress` as in `Snapshots.take`. Raises `sqlite3.Error` and `OSError`.
    """
    descriptor = create_file(target)

    def step(status: int, remaining: int, total: int) -> None:
        # Little by little: the commits of a server would have to wait for an fsync of everything at once.
        os.fsync(descriptor)
        progress(total - remaining, total)

    try:
        with (
            closing(read_only(source)) as reader,
            closing(sqlite3.connect(target, isolation_level=None)) as writer,
        ):
            # An unfinished copy is thrown away, so it needs no journal.
            writer.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            # One read transaction around all steps: they all see one moment.
            reader.executescript("BEGIN; SELECT count(*) FROM sqlite_schema;")
            reader.backup(writer, pages=STEP_PAGES, progress=step)
            # A plain file, which needs no log and can be opened where nothing can be written.
            writer.execute("PRAGMA journal_mode = DELETE").fetchone()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_only(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """Return a connection that cannot write. `immutable` promises that no other program does."""
    mode = "mode=ro&immutable=1" if immutable else "mode=ro"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)


def sha256_of(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _drop_from_memory(path: Path) -> None:
    """Drop the pages of a synced file from the memory of the system, where it can."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
