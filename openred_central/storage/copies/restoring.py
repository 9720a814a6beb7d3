"""What happens at start where the database is damaged: the newest good snapshot takes its place.

Damage is what a backup mends and nothing else does: SQLite calls the file malformed or no database, pages
are missing or do not fit, the file is empty, or what is in it does not fit together as a directory. A file of
another program or of a newer version, a disk that fails or is full, a lack of permission, another server:
those are no damage. They keep the server from starting, and the error tells what is to be done about them.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..locate import MEMORY, open_store
from ..private_files import clear, create_file, describe, scratch_folder, sync
from ..sqlite.faults import telling
from ..sqlite.lock import FileLock
from ..sqlite.schema import APPLICATION_ID, COMPANIONS, SCHEMA_VERSION, companion, log_left
from ..sqlite.sqlite import SqliteStore
from ..store import DamageError, Store, StoreError
from .manifest import Manifest
from .snapshots import Snapshot, Snapshots, read_only, utc_stamp
from .swapping import decided_swaps, finish_swap, swap_in

log = logging.getLogger("openred.restore")

Loaded = TypeVar("Loaded")

DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
DEFAULT_FOLDER = "snapshots"


class Restored(NamedTuple):
    """A server that runs on a snapshot: why, where the damaged database is now, and which snapshot it is.

    `taken_at` is the wall time of the snapshot, `age_s` how old it was when it was restored: what was
    acknowledged in between is in the file that was set aside, if anywhere.
    """

    reason: str
    set_aside: Path
    snapshot: str
    taken_at: float
    age_s: float

    def __str__(self) -> str:
        return (
            f"the database was damaged ({self.reason}) and is now {self.set_aside}; restored snapshot "
            f"{self.snapshot}, which is {self.age_s:.0f} s old; what came after it is missing"
        )


def database_path(database: str) -> Path | None:
    """The file that the setting `database` stands for; None where it stands for none."""
    return None if database == MEMORY else Path(os.path.realpath(database))


def snapshots_of(database: Path, snapshot_folder: str) -> Snapshots:
    """The snapshots of a database; they lie beside it where the setting `snapshot_folder` is empty."""
    folder = Path(snapshot_folder) if snapshot_folder else database.parent / DEFAULT_FOLDER
    return Snapshots(database, folder)


def open_or_restore(
    database: str,
    snapshot_folder: str,
    load: Callable[[Store], Loaded],
    *,
    restore: bool,
    begin_anew: bool = False,
    wall_s: float,
) -> tuple[Store, Loaded, Restored | None]:
    """Open the store that the settings name and load it; where it is damaged, its newest good snapshot.

    `load` may be called several times and raises `DamageError` where what the store holds does not fit
    together. `restore` False leaves a damaged database where it is; `begin_anew` makes an empty database
    where there is none, although there are snapshots of it. Raises `StoreError` where the store cannot be
    opened, is damaged and no snapshot is good, or is gone.
    """
    path = database_path(database)
    if path is None:
        return *_open_and_load(database, load), None
    with telling("open", path):
        clear(path.parent)
        _finish_swap(path)
        if not begin_anew:
            _refuse_missing(path, snapshots_of(path, snapshot_folder))
    try:
        return *_open_and_load(database, load), None
    except StoreError as error:
        reason = _damage(error, path)
        if reason is None:
            raise
        if not restore:
            raise StoreError(
                f"{error} (snapshots are not restored by themselves: restore is never)"
            ) from error
        snapshots = snapshots_of(path, snapshot_folder)
        restored = _restore(path, snapshots, load, reason, wall_s)
        if restored is None:
            raise StoreError(f"{error} (there is no good snapshot of it in {snapshots.folder})") from error
    log.error("degraded: %s", restored)
    return *_open_and_load(database, load), restored


def _open_and_load(database: str, load: Callable[[Store], Loaded]) -> tuple[Store, Loaded]:
    store = open_store(database, check_beside=True)
    try:
        loaded = load(store)
        # What was loaded counts only if the file is sound.
        store.finish_check()
        return store, loaded
    except BaseException:
        store.release()
        raise


def _refuse_missing(path: Path, snapshots: Snapshots) -> None:
    """Raise `StoreError` where there is no database at `path` and there are snapshots of it."""
    if path.exists() or log_left(path):
        # The log alone is told of by the store, with or without snapshots.
        return
    newest = next(iter(snapshots.newest_first()), None)
    if newest is not None:
        raise StoreError(
            f"{path} is missing, and there are snapshots of it: put it back, or copy {newest.database} "
            "into its place; to begin with an empty directory, start once with --begin-anew"
        )


def _finish_swap(path: Path) -> None:
    if not decided_swaps(path):
        return
    lock = FileLock(path)
    lock.acquire()
    try:
        finish_swap(path)
    except OSError as error:
        raise StoreError(f"cannot put a database in its place: {describe(error, path)}") from error
    finally:
        lock.release()
    log.warning("finished what an earlier process had begun: %s was exchanged", path)


def _damage(error: StoreError, path: Path) -> str | None:
    """What is damaged, where `error` came of damage of the database at `path`; None where it did not."""
    if is_damage(error):
        return str(error.__cause__ or error)
    # Another server may be writing into it; then this raises, and says so.
    lock = FileLock(path)
    try:
        lock.acquire()
    except (StoreError, OSError):
        return None
    try:
        return find_damage(path)
    finally:
        lock.release()


def is_damage(error: StoreError) -> bool:
    """Whether `error` says by itself that what is stored is damaged."""
    cause = error.__cause__
    if isinstance(error, DamageError):
        return True
    if not isinstance(cause, sqlite3.Error):
        return False
    # SQLite's own errors have a code; one without was raised on a text that is no text.
    code = getattr(cause, "sqlite_errorcode", None)
    return code & 0xFF in DAMAGE_CODES if code is not None else isinstance(cause, sqlite3.OperationalError)


def find_damage(path: Path) -> str | None:
    """What is damaged in the database at `path`, which nobody has open; None where that cannot be said."""
    try:
        if not path.is_file():
            return None
        if path.stat().st_size == 0:
            return "the file is empty, which no database of ours ever is"
        # Without a log there is no need to leave one beside a file that may not be ours.
        log_there = companion(path, "-wal").exists()
        with closing(read_only(path, immutable=not log_there)) as connection:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application_id != APPLICATION_ID or version > SCHEMA_VERSION:
                return None
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return None if finding == "ok" else " ".join(finding.split())
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE_CODES
        return str(error) if damaged else None
    except OSError:
        return None


def _restore(
    path: Path, snapshots: Snapshots, load: Callable[[Store], Loaded], reason: str, wall_s: float
) -> Restored | None:
    """Set the database at `path` aside and put the newest snapshot that can be loaded in its place.

    None, and nothing is touched, where there is none.
    """
    lock = FileLock(path)
    try:
        lock.acquire()
        with scratch_folder(path.parent) as scratch:
            copy = scratch / path.name
            for snapshot in snapshots.newest_first():
                manifest = _copy_loadable(snapshots, snapshot, copy, load)
                if manifest is not None:
                    aside = swap_in(path, copy, f"damaged-{utc_stamp(wall_s)}")
                    age_s = wall_s - manifest.taken_at
                    return Restored(reason, aside, snapshot.name, manifest.taken_at, age_s)
    except OSError as error:
        raise StoreError(f"cannot restore {path}: {describe(error, path)}") from error
    finally:
        lock.release()
    return None


def _copy_loadable(
    snapshots: Snapshots, snapshot: Snapshot, copy: Path, load: Callable[[Store], Loaded]
) -> Manifest | None:
    """Copy a snapshot and load the copy once: a restored database must not turn out to be damaged, too.

    None where it is not good.
    """
    for leftover in (copy, *(companion(copy, ending) for ending in COMPANIONS)):
        leftover.unlink(missing_ok=True)
    os.close(create_file(copy))
    try:
        manifest = snapshots.verify(snapshot)
        shutil.copyfile(snapshot.database, copy)
        store = SqliteStore(copy)
        store.open()
        try:
            load(store)
        finally:
            store.close()
        sync(copy)
    except (StoreError, OSError) as error:
        log.warning("snapshot %s cannot be used: %s", snapshot.name, error)
        return None
    return manifest
