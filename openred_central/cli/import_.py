"""`import`: make a new database from an export."""

from __future__ import annotations

import argparse
import threading
from contextlib import nullcontext
from pathlib import Path

from ..exit_codes import ExitCode
from ..maintenance.importing import import_into
from ..maintenance.sharing import import_shared, opened_shared
from ..settings.config import Configuration
from ..storage.loading import database_path
from ..storage.postgres.address import redacted
from ..storage.private_files import describe
from ..storage.store import StoreError
from .command import argument
from .console import Console
from .maintenance_command import STANDARD, counts, maintenance_command, progress_of


def run(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    """Import an export, and print what it contains."""
    database = database_path(configuration.database)
    place = str(database or redacted(configuration.database))
    if database is None and not configuration.is_shared:
        raise StoreError(f"{place} keeps nothing; name the file of a database with --database")
    if configuration.is_shared and options.replace:
        raise StoreError(f"--replace sets a file aside, and {place} is on a server; name an empty database")
    standard = nullcontext(console.input) if options.file == STANDARD else None
    try:
        source = standard or open(options.file, "rb")  # noqa: SIM115 (closed below; only opening is tried here)
    except OSError as error:
        raise StoreError(f"cannot read {describe(error, Path(options.file))}") from error
    with source as lines, progress_of(console, "importing") as progress:
        # A pipe has no size.
        total = 0 if options.file == STANDARD else Path(options.file).stat().st_size
        aside = None

        def show(done: int) -> None:
            progress(done, total)

        if database is not None:
            wall_s = console.clock.wall_s()
            totals, aside = import_into(
                database, lines, replace=options.replace, wall_s=wall_s, progress=show
            )
        else:
            with opened_shared(configuration, console.clock, console.entropy) as store:
                wait, lease_s = threading.Event().wait, configuration.lease_s
                totals = import_shared(store, lines, lease_s=lease_s, pause=wait, progress=show)
    if aside is not None:
        console.say(f"the former database is now {aside}")
    console.say(f"imported {counts(totals)} into {place}")
    return ExitCode.DONE


COMMAND = maintenance_command(
    "import",
    "make a new database from an export",
    run,
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
)
