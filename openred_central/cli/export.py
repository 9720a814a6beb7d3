"""`export`: write all data to a file of JSON Lines."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from ..exit_codes import ExitCode
from ..maintenance.exporting import export, output_file
from ..settings.config import Configuration
from ..storage.private_files import describe
from ..storage.store import StoreError
from .command import argument
from .console import Console
from .maintenance_command import STANDARD, counts, maintenance_command, progress_of, source_of


def run(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    """Write an export, and print what it contains."""
    with source_of(configuration, console) as store, progress_of(console, "exporting") as progress:
        standard = nullcontext(console.output) if options.file == STANDARD else None
        secrets, now_s = not options.without_secrets, console.clock.wall_s()
        try:
            with standard or output_file(Path(options.file)) as output:
                totals = export(store, output, secrets=secrets, created_at=now_s, progress=progress)
        except OSError as error:
            raise StoreError(f"cannot write {describe(error, Path(options.file))}") from error
    if options.file != STANDARD:
        console.say(f"exported {counts(totals)} to {options.file}")
    return ExitCode.DONE


COMMAND = maintenance_command(
    "export",
    "write all data to a file of JSON Lines, also while a server runs",
    run,
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
)
