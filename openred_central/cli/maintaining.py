"""The commands that work on files, beside a server: snapshot, export, import, verify."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ..directory.directory import Directory
from ..exit_codes import ExitCode
from ..maintenance.exporting import export, output_file
from ..maintenance.importing import import_into
from ..maintenance.portable import Totals
from ..maintenance.progress import Progress
from ..maintenance.reading import existing_database, reading
from ..maintenance.verifying import Verifier
from ..settings.config import Configuration
from ..storage.copies.restoring import snapshots_of
from ..storage.loading import database_path
from ..storage.private_files import describe
from ..storage.store import StoreError
from ..wording import counted
from .command import Argument, Command, CommandFailed, argument, configuration_of
from .console import Console

PAUSE_S: Final = 0.5
STANDARD: Final = "-"

Work = Callable[[argparse.Namespace, Configuration, Console], int]


def _snapshot(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    database = existing_database(configuration.database)
    snapshots = snapshots_of(database, configuration.snapshot_folder)
    with closing(_progress(console, "copying")) as progress:
        kept = 1 if options.replace else configuration.snapshots_kept
        snapshot, manifest = snapshots.take(console.clock.wall_s(), kept=kept, progress=progress)
    console.say(
        f"snapshot {snapshot.folder}: {counted(manifest.records, 'node')}, "
        f"{counted(manifest.tombstones, 'tombstone')}, "
        f"{manifest.file_bytes:,} bytes, verified{'; it is the only one' if options.replace else ''}"
    )
    return ExitCode.DONE


def _export(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    database = existing_database(configuration.database)
    with (
        closing(_progress(console, "copying")) as copying,
        reading(database, copying) as store,
        closing(_progress(console, "exporting")) as progress,
    ):

        def write(output: BinaryIO) -> Totals:
            return export(
                store,
                output,
                secrets=not options.without_secrets,
                created_at=console.clock.wall_s(),
                progress=progress,
            )

        try:
            if options.file == STANDARD:
                totals = write(console.output)
            else:
                with output_file(Path(options.file)) as output:
                    totals = write(output)
        except OSError as error:
            raise StoreError(f"cannot write {describe(error, Path(options.file))}") from error
    if options.file != STANDARD:
        console.say(f"exported {_counts(totals)} to {options.file}")
    return ExitCode.DONE


def _import(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    database = database_path(configuration.database)
    if database is None:
        raise StoreError(
            f"{configuration.database} keeps nothing; name the file of a database with --database"
        )
    with _input(options.file, console) as lines, closing(_progress(console, "importing")) as progress:
        # A pipe has no size.
        total = 0 if options.file == STANDARD else Path(options.file).stat().st_size
        totals, aside = import_into(
            database,
            lines,
            replace=options.replace,
            wall_s=console.clock.wall_s(),
            progress=lambda done: progress(done, total),
        )
    if aside is not None:
        console.say(f"the former database is now {aside}")
    console.say(f"imported {_counts(totals)} into {database}")
    return ExitCode.DONE


@contextmanager
def _input(file: str, console: Console) -> Iterator[BinaryIO]:
    if file == STANDARD:
        yield console.input
        return
    try:
        lines = open(file, "rb")  # noqa: SIM115 (only opening it may fail with this message)
    except OSError as error:
        raise StoreError(f"cannot read {describe(error, Path(file))}") from error
    with lines:
        yield lines


def _verify(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    database = existing_database(configuration.database)
    snapshots = snapshots_of(database, configuration.snapshot_folder)

    def make_directory() -> Directory:
        # Randomness is for discovery only.
        return Directory(
            configuration.directory(), configuration.lifecycle(), configuration.mass_silence(), lambda: 0.5
        )

    with closing(_progress(console, "verifying")) as progress:

        def say(line: str) -> None:
            progress.close()
            console.say(line)

        verifier = Verifier(database, make_directory, console.clock, say, progress)
        # Listed first: a snapshot that a server takes meanwhile is newer than what is read of the store.
        taken = snapshots.newest_first()
        loaded = verifier.verify_store()
        for snapshot in taken if options.all else taken[:1]:
            verifier.verify_snapshot(snapshots, snapshot, loaded)
        if not taken:
            say(f"no snapshot of this database in {snapshots.folder}")
        if options.url and loaded is not None:
            verifier.verify_server(options.url, loaded, _pause)
    agreeing = "all that can be compared agree" if verifier.apart else "all agree"
    say(f"{verifier.problems} of these are wrong" if verifier.problems else agreeing)
    return ExitCode.FAILED if verifier.problems else ExitCode.DONE


def _pause() -> None:
    threading.Event().wait(PAUSE_S)


def _counts(totals: Totals) -> str:
    return (
        f"{counted(totals.nodes, 'node')}, {counted(totals.tombstones, 'tombstone')}, "
        f"{counted(totals.secrets, 'secret')}, "
        f"digest {totals.directory_digest:016x}"
    )


def _progress(console: Console, what: str) -> Progress:
    return Progress(console.errors, what, console.clock.monotonic_s)


def _command(
    name: str, meaning: str, work: Work, arguments: tuple[Argument, ...], examples: str, notes: str = ""
) -> Command:
    def run(options: argparse.Namespace, console: Console) -> int:
        configuration = configuration_of(options, console)
        try:
            return work(options, configuration, console)
        except StoreError as error:
            raise CommandFailed(str(error)) from error

    return Command(name, meaning, run, arguments, examples, notes)


COMMANDS = (
    _command(
        "snapshot",
        "take a snapshot of the database now, also while a server uses it",
        _snapshot,
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
    ),
    _command(
        "export",
        "write all data to a file of JSON Lines, also while a server runs",
        _export,
        (
            argument("file", metavar="FILE", help="where to write; - for standard output"),
            argument(
                "--without-secrets",
                action="store_true",
                help="leave out the key of the claims: without it the claims of all nodes become void",
            ),
        ),
        """\
  openred-central export directory.jsonl
  openred-central export --without-secrets - | gzip > directory.jsonl.gz
""",
    ),
    _command(
        "import",
        "make a new database from an export",
        _import,
        (
            argument("file", metavar="FILE", help="an export; - for standard input"),
            argument(
                "--replace", action="store_true", help="set a database with nodes aside instead of refusing"
            ),
        ),
        """\
  openred-central import directory.jsonl --database new.db
  gunzip < directory.jsonl.gz | openred-central import - --database data/openred.db --replace
""",
    ),
    _command(
        "verify",
        "compare memory, database and snapshots by recomputing their digests",
        _verify,
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
    ),
)
