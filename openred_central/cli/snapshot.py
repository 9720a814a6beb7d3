"""`snapshot`: take a snapshot of the database."""

from __future__ import annotations

import argparse

from ..exit_codes import ExitCode
from ..maintenance.reading import existing_database
from ..settings.config import Configuration
from ..storage.copies.restoring import snapshots_of
from ..wording import counted
from .command import argument
from .console import Console
from .maintenance_command import maintenance_command, progress_of


def run(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    """Take a snapshot, and print where it is."""
    database = existing_database(configuration.database)
    snapshots = snapshots_of(database, configuration.snapshot_folder)
    with progress_of(console, "copying") as progress:
        kept = 1 if options.replace else configuration.snapshots_kept
        snapshot, manifest = snapshots.take(console.clock.wall_s(), kept=kept, progress=progress)
    console.say(
        f"snapshot {snapshot.folder}: {counted(manifest.records, 'node')}, "
        f"{counted(manifest.tombstones, 'tombstone')}, "
        f"{manifest.file_bytes:,} bytes, verified{'; it is the only one' if options.replace else ''}"
    )
    return ExitCode.DONE


COMMAND = maintenance_command(
    "snapshot",
    "take a snapshot of the database now, also while a server uses it",
    run,
    (
        argument(
            "--replace",
            action="store_true",
            help="remove all older snapshots once this one is verified: they hold nodes forgotten since",
        ),
    ),
    """\
  openred-central snapshot
  openred-central snapshot --replace
  openred-central snapshot --database /var/lib/openred/openred.db --snapshot-folder /backup/openred
""",
)
