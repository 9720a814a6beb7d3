"""Restores: a snapshot takes the place of the database, at start if that is damaged, or as an operator says.

Only a backup fixes damage: SQLite calls the file malformed or no database, pages are missing or do not fit,
the file is empty, or its content does not fit together as a directory. A file of another program or of a
newer version, a disk that fails or is full, a lack of permission, another server: those are no damage. They
keep the server from starting, and the error says what to do about them.

A database that makes room is set aside: it gets another name, and is never overwritten. A database is up to
three files, and three files cannot be renamed at once. So the new one first gets a name that says what is to
happen, `<database>.instead-of.<later name of the old one>`. From then on the swap is decided, and if the
process dies in the middle, the next one finishes it before it opens anything. A new database never meets the
log of the old one, and a start never finds nothing and takes it for a first start.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

from ...directory.state.blocks import BLOCK, is_block
from ...directory.state.changes import Batch
from ...errors import InternalBug
from ..loading import database_path, open_store
from ..private_files import clear, create_file, create_folder, describe, give, scratch_folder, sync
from ..sqlite.faults import reported
from ..sqlite.lock import FileLock
from ..sqlite.schema import APPLICATION_ID, COMPANIONS, SCHEMA_VERSION, companion, log_left
from ..sqlite.sqlite import SqliteStore
from ..store import DamageError, Store, StoreError
from .snapshots import Manifest, Snapshot, Snapshots, read_only, utc_stamp

log = logging.getLogger("openred.restore")

LoadedT = TypeVar("LoadedT")

DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
DEFAULT_FOLDER = "snapshots"
SELECT_BLOCKS = "SELECT name, value FROM kept WHERE name GLOB ?"
# A database with this in its name, before the later name of the old one, takes the place of that one.
DECIDED = ".instead-of."


class Restored(NamedTuple):
    """A restore: the damage, the new place of the damaged database, and the snapshot.

    `taken_at` is the wall time of the snapshot, `age_s` its age when it was restored. Only the file that was
    set aside may hold later changes.
    """

    reason: str
    set_aside: Path
    snapshot: str
    taken_at: float
    age_s: float

    def __str__(self) -> str:
        return (
            f"the database was damaged ({self.reason}) and is now {self.set_aside}; restored snapshot "
            f"{self.snapshot}, which is {self.age_s:.0f} s old; later changes are missing"
        )


def snapshots_of(database: Path, snapshot_folder: str) -> Snapshots:
    """Return the snapshots of a database; they lie beside it where `snapshot_folder` is empty."""
    folder = Path(snapshot_folder) if snapshot_folder else database.parent / DEFAULT_FOLDER
    return Snapshots(database, folder)


def open_or_restore(
    database: str,
    snapshot_folder: str,
    load: Callable[[Store], LoadedT],
    *,
    restore: bool,
    begin_anew: bool = False,
    wall_s: float,
) -> tuple[Store, LoadedT, Restored | None]:
    """Open the store that the settings name and load it; if it is damaged, restore its newest good snapshot.

    `load` may be called several times and raises `DamageError` where the content of the store does not fit
    together. With `restore` false, a damaged database stays where it is; `begin_anew` makes an empty database
    where there is none, although there are snapshots of it. Raises `StoreError` where the store cannot be
    opened, is damaged and no snapshot is good, or is gone.
    """
    path = database_path(database)
    if path is None:
        return *_open_and_load(database, load), None
    with reported("open", path):
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
            raise StoreError(f"{error} (no snapshot is restored: the setting restore is never)") from error
        snapshots = snapshots_of(path, snapshot_folder)
        restored = _restore(path, snapshots, load, reason, wall_s)
        if restored is None:
            raise StoreError(f"{error} (there is no good snapshot of it in {snapshots.folder})") from error
    log.error("degraded: %s", restored)
    return *_open_and_load(database, load), restored


def _open_and_load(database: str, load: Callable[[Store], LoadedT]) -> tuple[Store, LoadedT]:
    store = open_store(database, check_beside=True)
    try:
        loaded = load(store)
        # The loaded data counts only if the file is sound.
        store.finish_check()
        return store, loaded
    except BaseException:
        store.release()
        raise


def _refuse_missing(path: Path, snapshots: Snapshots) -> None:
    """Raise `StoreError` where there is no database at `path` and there are snapshots of it."""
    if path.exists() or log_left(path):
        # The store reports a log that is left alone, with or without snapshots.
        return
    newest = next(iter(snapshots.newest_first()), None)
    if newest is not None:
        raise StoreError(
            f"{path} is missing, and there are snapshots of it: put it back, or run "
            f"`openred-central restore {newest.name}`; to begin with an empty directory, start once with "
            "--begin-anew"
        )


def _finish_swap(path: Path) -> None:
    if not decided_swaps(path):
        return
    with FileLock(path).hold():
        try:
            finish_swap(path)
        except OSError as error:
            raise StoreError(f"cannot put a database in its place: {describe(error, path)}") from error
    log.warning("finished the swap that an earlier process had begun: %s was exchanged", path)


def _damage(error: StoreError, path: Path) -> str | None:
    """Return the damage of the database at `path` that caused `error`; None where damage did not."""
    if is_damage(error):
        return str(error.__cause__ or error)
    # Another server may be writing into it; then this raises.
    try:
        with FileLock(path).hold():
            return find_damage(path)
    except (StoreError, OSError):
        return None


def is_damage(error: StoreError) -> bool:
    """Return whether `error` by itself shows that the stored data is damaged."""
    cause = error.__cause__
    if isinstance(error, DamageError):
        return True
    if not isinstance(cause, sqlite3.Error):
        return False
    # SQLite's own errors have a code; Python raises one without for text that is no UTF-8.
    code = getattr(cause, "sqlite_errorcode", None)
    return code & 0xFF in DAMAGE_CODES if code is not None else isinstance(cause, sqlite3.OperationalError)


def find_damage(path: Path) -> str | None:
    """Return the damage of the database at `path`, which no process has open; None if that is unclear."""
    try:
        if not path.is_file():
            return None
        if path.stat().st_size == 0:
            return "the file is empty, which no database of ours ever is"
        # Leave no log beside a file that may not be ours, if there is none.
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
    path: Path, snapshots: Snapshots, load: Callable[[Store], LoadedT], reason: str, wall_s: float
) -> Restored | None:
    """Set the database at `path` aside and put the newest snapshot that can be loaded in its place.

    Return None, and touch nothing, where there is none.
    """
    try:
        with FileLock(path).hold(), scratch_folder(path.parent) as scratch:
            copy = scratch / path.name
            for snapshot in snapshots.newest_first():
                try:
                    manifest = _copy_loadable(snapshots, snapshot, copy, load)
                except (StoreError, OSError) as error:
                    log.warning("snapshot %s cannot be used: %s", snapshot.name, error)
                    continue
                aside = swap_in(path, copy, f"damaged-{utc_stamp(wall_s)}")
                age_s = wall_s - manifest.taken_at
                return Restored(reason, aside, snapshot.name, manifest.taken_at, age_s)
    except OSError as error:
        raise StoreError(f"cannot restore {path}: {describe(error, path)}") from error
    return None


def restore(
    snapshots: Snapshots, snapshot: Snapshot, load: Callable[[Store], object], wall_s: float
) -> tuple[Manifest, Path | None]:
    """Put a snapshot in the place of its database, which is set aside, as a whole or not at all.

    Blocks stay as they are, if the database can be read: nobody comes back whom an operator keeps out. `load`
    is as in `open_or_restore`. Return the manifest, and the new place of the former database, None if
    there was none. Raises `StoreError`: a snapshot that is not good, a database in use. Then everything is as
    before.
    """
    path = snapshots.database
    with reported("restore", path):
        create_folder(path.parent)
        with FileLock(path).hold():
            finish_swap(path)
            with scratch_folder(path.parent) as scratch:
                copy = scratch / path.name
                present = _blocks_in(path, scratch)
                manifest = _copy_loadable(snapshots, snapshot, copy, load, present)
                aside = swap_in(path, copy, f"replaced-{utc_stamp(wall_s)}")
    return manifest, aside if any(each.exists() for each in _files(aside)) else None


def _copy_loadable(
    snapshots: Snapshots,
    snapshot: Snapshot,
    copy: Path,
    load: Callable[[Store], object],
    blocks: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Copy a snapshot and load the copy once: a restored database must not be damaged, too.

    The copy gets `blocks`, values by name, in place of its own. Return the manifest. Raises `StoreError` or
    `OSError` where the snapshot is not good.
    """
    for leftover in (copy, *(companion(copy, ending) for ending in COMPANIONS)):
        leftover.unlink(missing_ok=True)
    os.close(create_file(copy))
    manifest = snapshots.verify(snapshot)
    shutil.copyfile(snapshot.database, copy)
    store = SqliteStore(copy)
    store.open()
    try:
        if blocks is not None:
            _exchange_blocks(store, blocks)
        load(store)
    finally:
        store.close()
    sync(copy)
    return manifest


def _blocks_in(database: Path, scratch: Path) -> dict[str, bytes] | None:
    """Return the blocks that `database` keeps, values by name; None if it cannot be read.

    The database is set aside later, so SQLite must not change it: a reader may remove a log.
    """
    try:
        if not log_left(database):
            with closing(read_only(database, immutable=True)) as connection:
                return dict(connection.execute(SELECT_BLOCKS, (f"{BLOCK}/*",)).fetchall())
        former = scratch / "former.db"
        for ending in ("", "-wal"):
            shutil.copyfile(companion(database, ending), companion(former, ending))
        with closing(read_only(former)) as connection:
            return dict(connection.execute(SELECT_BLOCKS, (f"{BLOCK}/*",)).fetchall())
    except (sqlite3.Error, FileNotFoundError):
        return None


def _exchange_blocks(store: Store, blocks: Mapping[str, bytes]) -> None:
    """Let `store` keep `blocks`, values by name, and no others."""
    vitals = store.load_vitals()
    former = {name: value for name, value in store.load_kept() if is_block(name)}
    if vitals is not None and blocks != former:
        kept: dict[str, bytes | None] = {**dict.fromkeys(former), **blocks}
        store.commit(Batch([], [], [], [], vitals, 0, kept=list(kept.items())))


def swap_in(database: Path, new: Path, called: str) -> Path:
    """Put the file `new` in the place of `database`; return the new place of the old one, if there was one.

    `new` is complete, synced, on the same file system, and needs no file beside it. `called` is added to the
    name of the old one, such as ``damaged-20270115T080000Z``; a number follows where there is such a file
    already. Call this with the database locked and closed. Raises `OSError`.
    """
    if any(path.exists() for path in _files(new)[1:]):
        raise InternalBug(f"{new} was not closed: a part of it is still beside it")
    free, count = called, 1
    while any(path.exists() for path in _files(database.with_name(f"{database.name}.{free}"))):
        count += 1
        free = f"{called}-{count}"
    give(new, database if database.exists() else database.parent)
    new.rename(database.with_name(f"{database.name}{DECIDED}{free}"))
    sync(database.parent)
    finish_swap(database)
    return database.with_name(f"{database.name}.{free}")


def decided_swaps(database: Path) -> list[Path]:
    """Return the new databases that were to take the place of `database` when a process died."""
    prefix = f"{database.name}{DECIDED}"
    if not database.parent.is_dir():
        return []
    return sorted(path for path in database.parent.iterdir() if path.name.startswith(prefix))


def finish_swap(database: Path) -> None:
    """Finish a swap that `swap_in` has decided; harmless where there is none. Call this like `swap_in`."""
    for new in decided_swaps(database):
        aside = database.with_name(f"{database.name}.{new.name.removeprefix(database.name + DECIDED)}")
        for old, kept in zip(_files(database), _files(aside), strict=True):
            if old.exists() and not kept.exists():
                old.rename(kept)
        sync(database.parent)
        new.rename(database)
        sync(database.parent)


def _files(database: Path) -> list[Path]:
    return [database, *(companion(database, ending) for ending in COMPANIONS)]
