"""The commands of maintenance, from their arguments to their exit codes."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from ..clock import Clock
from ..directory.directory import Directory
from ..settings.config import Configuration
from ..storage.copies.restoring import database_path, snapshots_of
from ..storage.private_files import describe
from ..storage.store import StoreError
from ..wording import counted
from .exporting import export, output_file
from .importing import import_into
from .portable import Totals
from .progress import Progress
from .reading import existing_database, reading
from .verifying import Verifier

PAUSE_S = 0.5
STANDARD = "-"


class Surroundings(NamedTuple):
    """What a command is given by its process: standard streams, a clock, and where lines for people go."""

    input: BinaryIO
    output: BinaryIO
    errors: TextIO
    clock: Clock
    say: Callable[[str], None]

    def progress(self, what: str) -> Progress:
        return Progress(self.errors, what, self.clock.monotonic_s)


def run(options: argparse.Namespace, configuration: Configuration, around: Surroundings) -> int:
    """Run the command in `options` and return its exit code. Raises `StoreError` where it fails."""
    return _COMMANDS[options.command](options, configuration, around)


def _snapshot(options: argparse.Namespace, configuration: Configuration, around: Surroundings) -> int:
    database = existing_database(configuration.database)
    snapshots = snapshots_of(database, configuration.snapshot_folder)
    with closing(around.progress("copying")) as progress:
        kept = 1 if options.replace else configuration.snapshots_kept
        snapshot, manifest = snapshots.take(around.clock.wall_s(), kept=kept, progress=progress)
    around.say(
        f"snapshot {snapshot.folder}: {counted(manifest.records, 'node')}, "
        f"{counted(manifest.tombstones, 'tombstone')}, "
        f"{manifest.file_bytes:,} bytes, verified{'; it is the only one' if options.replace else ''}"
    )
    return 0


def _export(options: argparse.Namespace, configuration: Configuration, around: Surroundings) -> int:
    database = existing_database(configuration.database)
    with (
        closing(around.progress("copying")) as copying,
        reading(database, copying) as store,
        closing(around.progress("exporting")) as progress,
    ):

        def write(output: BinaryIO) -> Totals:
            return export(
                store,
                output,
                secrets=not options.without_secrets,
                created_at=around.clock.wall_s(),
                progress=progress,
            )

        try:
            if options.file == STANDARD:
                totals = write(around.output)
            else:
                with output_file(Path(options.file)) as output:
                    totals = write(output)
        except OSError as error:
            raise StoreError(f"cannot write {describe(error, Path(options.file))}") from error
    if options.file != STANDARD:
        around.say(f"exported {_counts(totals)} to {options.file}")
    return 0


def _import(options: argparse.Namespace, configuration: Configuration, around: Surroundings) -> int:
    database = database_path(configuration.database)
    if database is None:
        raise StoreError(
            f"{configuration.database} keeps nothing; name the file of a database with --database"
        )
    with _input(options.file, around) as lines, closing(around.progress("importing")) as progress:
        # What is not a file, such as a pipe, has no size.
        total = 0 if options.file == STANDARD else Path(options.file).stat().st_size
        totals, aside = import_into(
            database,
            lines,
            replace=options.replace,
            wall_s=around.clock.wall_s(),
            progress=lambda done: progress(done, total),
        )
    if aside is not None:
        around.say(f"the former database is now {aside}")
    around.say(f"imported {_counts(totals)} into {database}")
    return 0


@contextmanager
def _input(file: str, around: Surroundings) -> Iterator[BinaryIO]:
    if file == STANDARD:
        yield around.input
        return
    try:
        lines = open(file, "rb")  # noqa: SIM115 (only opening it may fail with this message)
    except OSError as error:
        raise StoreError(f"cannot read {describe(error, Path(file))}") from error
    with lines:
        yield lines


def _verify(options: argparse.Namespace, configuration: Configuration, around: Surroundings) -> int:
    database = existing_database(configuration.database)
    snapshots = snapshots_of(database, configuration.snapshot_folder)

    def make_directory() -> Directory:
        # Nothing is drawn here: randomness is for discovery.
        return Directory(
            configuration.directory(), configuration.lifecycle(), configuration.mass_silence(), lambda: 0.5
        )

    with closing(around.progress("verifying")) as progress:

        def say(line: str) -> None:
            progress.close()
            around.say(line)

        verifier = Verifier(database, make_directory, around.clock, say, progress)
        loaded = verifier.verify_store()
        taken = snapshots.newest_first()
        for snapshot in taken if options.all else taken[:1]:
            verifier.verify_snapshot(snapshots, snapshot, loaded)
        if not taken:
            say(f"no snapshot of it in {snapshots.folder}")
        if options.url and loaded is not None:
            verifier.verify_server(options.url, loaded, _pause)
    agreeing = "all that can be compared agree" if verifier.apart else "all agree"
    say(f"{verifier.problems} of these are wrong" if verifier.problems else agreeing)
    return 1 if verifier.problems else 0


def _pause() -> None:
    threading.Event().wait(PAUSE_S)


def _counts(totals: Totals) -> str:
    return (
        f"{counted(totals.nodes, 'node')}, {counted(totals.tombstones, 'tombstone')}, "
        f"{counted(totals.secrets, 'secret')}, "
        f"digest {totals.directory_digest:016x}"
    )


_COMMANDS = {"snapshot": _snapshot, "export": _export, "import": _import, "verify": _verify}
