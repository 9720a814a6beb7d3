"""`verify`: compare memory, database and snapshots."""

from __future__ import annotations

import argparse
import threading
from typing import Final

from ..directory.directory import Directory
from ..exit_codes import ExitCode
from ..maintenance.reading import existing_database
from ..maintenance.verifying import Verifier
from ..settings.config import Configuration
from ..storage.copies.restoring import snapshots_of
from ..storage.postgres.address import redacted
from .command import argument
from .console import Console
from .maintenance_command import maintenance_command, progress_of, source_of

PAUSE_S: Final = 0.5


def run(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    """Print the result of each comparison."""

    def make_directory() -> Directory:
        # Randomness is for discovery only.
        return Directory(
            configuration.directory(), configuration.lifecycle(), configuration.mass_silence(), lambda: 0.5
        )

    with progress_of(console, "verifying") as progress:

        def say(line: str) -> None:
            progress.close()
            console.say(line)

        place = redacted(configuration.database)
        if not configuration.is_shared:
            database = existing_database(configuration.database)
            place, snapshots = str(database), snapshots_of(database, configuration.snapshot_folder)
            # Listed first: a snapshot that a server takes meanwhile is newer than what is read of the store.
            taken = snapshots.newest_first()
        verifier = Verifier(
            place, lambda: source_of(configuration, console), make_directory, console.clock, say, progress
        )
        loaded = verifier.verify_store()
        if not configuration.is_shared:
            for snapshot in taken if options.all else taken[:1]:
                verifier.verify_snapshot(snapshots, snapshot, loaded)
            if not taken:
                say(f"no snapshot of this database in {snapshots.folder}")
        if options.url and loaded is not None:
            verifier.verify_server(options.url, loaded, lambda: threading.Event().wait(PAUSE_S))
    agreeing = "all that can be compared agree" if verifier.apart else "all agree"
    say(f"{verifier.problems} of these are wrong" if verifier.problems else agreeing)
    return ExitCode.FAILED if verifier.problems else ExitCode.DONE


COMMAND = maintenance_command(
    "verify",
    "compare memory, database and snapshots by recomputing their digests",
    run,
    (
        argument("--all", action="store_true", help="verify every snapshot, not only the newest"),
        argument("--url", metavar="URL", help="compare also with the memory of this running server"),
    ),
    """\
  openred-central verify
  openred-central verify --all --url http://127.0.0.1:8000
""",
    f"exit codes: {ExitCode.DONE:d} all agree, {ExitCode.FAILED:d} a difference or damage, "
    f"{ExitCode.USAGE:d} wrong usage\n",
)
