"""`import`: make a new database from an export."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from ..exit_codes import ExitCode
from ..maintenance.importing import import_into
from ..settings.config import Configuration
from ..storage.loading import database_path
from ..storage.private_files import describe
from ..storage.store import StoreError
from .command import argument
from .console import Console
from .maintenance_command import STANDARD, counts, maintenance_command, progress_of


def run(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    """Import an export, and print what it contains."""
    database = database_path(configuration.database)
    if database is None:
        raise StoreError(
            f"{configuration.database} keeps nothing; name the file of a database with --database"
        )
    standard = nullcontext(console.input) if options.file == STANDARD else None
    try:
        source = standard or open(options.file, "rb")  # noqa: SIM115 (closed below; only opening is tried here)
    except OSError as error:
        raise StoreError(f"cannot read {describe(error, Path(options.file))}") from error
    with source as lines, progress_of(console, "importing") as progress:
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
    console.say(f"imported {counts(totals)} into {database}")
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
