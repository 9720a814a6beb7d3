"""`restore`: put a snapshot in the place of the database."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..exit_codes import ExitCode
from ..server.assembly import Assembly
from ..settings.config import Configuration
from ..storage.copies.restoring import restore, snapshots_of
from ..storage.copies.snapshots import Snapshot, Snapshots
from ..storage.loading import database_path
from ..storage.postgres.address import redacted
from ..storage.store import StoreError
from ..wording import counted, rfc3339, span
from .command import argument
from .console import Console
from .maintenance_command import maintenance_command

NEWEST = "newest"


def run(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    """Restore the snapshot, and print what it holds and where the former database is."""
    database = database_path(configuration.database)
    if database is None:
        place = redacted(configuration.database)
        raise StoreError(f"{place} has no snapshots; name the file of a database with --database")
    snapshots = snapshots_of(database, configuration.snapshot_folder)
    snapshot, wall_s = chosen(snapshots, options.snapshot), console.clock.wall_s()
    manifest, aside = restore(snapshots, snapshot, Assembly.here(configuration).load, wall_s)
    console.say(
        f"restored {snapshot.name} to {database}: {counted(manifest.records, 'node')}, "
        f"{counted(manifest.tombstones, 'tombstone')}, taken at {rfc3339(manifest.taken_at)}, "
        f"{span(wall_s - manifest.taken_at)} ago"
    )
    if aside is not None:
        console.say(f"the former database is now {aside}; it alone has later changes")
    console.say(
        "keys and blocks are as before; tokens that were revoked since are valid again until they expire"
    )
    return ExitCode.DONE


def chosen(snapshots: Snapshots, named: str) -> Snapshot:
    """Return the snapshot of that name, number or folder, or the newest. Raises `StoreError`."""
    known = snapshots.newest_first()
    if named == NEWEST:
        found = known[:1]
    else:
        name = Path(named).name
        found = [each for each in known if name == each.name or named == str(each.number)]
    if found:
        return found[0]
    if not known:
        raise StoreError(f"there is no snapshot of {snapshots.database} in {snapshots.folder}")
    names = ", ".join(each.name for each in known)
    raise StoreError(f"{named!r} is none of the snapshots in {snapshots.folder}: {names}")


COMMAND = maintenance_command(
    "restore",
    "put a snapshot in the place of the database of a server that is stopped",
    run,
    (
        argument(
            "snapshot",
            metavar="SNAPSHOT",
            help=f"name, number or folder of a snapshot of this database, or {NEWEST!r}",
        ),
    ),
    """\
  openred-central restore newest
  openred-central restore openred.db-000042-20270115T080000Z
  openred-central restore 42 --database /var/lib/openred/openred.db
""",
    """\
The snapshot is verified and loaded before anything changes. The former database is kept beside, under a name
with `.replaced-`. A crash leaves the one or the other in place; the next start finishes what was decided.
""",
)
