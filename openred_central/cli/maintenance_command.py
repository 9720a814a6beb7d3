"""A command that works on files, beside a server, and what several such commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

from ..maintenance.portable import Totals
from ..maintenance.progress import Progress
from ..maintenance.reading import existing_database, reading
from ..maintenance.sharing import opened_shared
from ..settings.config import Configuration
from ..storage.store import Loads, StoreError
from ..wording import counted
from .command import Argument, Command, CommandFailed, configuration_of
from .console import Console

# The name of a file that means standard input or output.
STANDARD: Final = "-"

Work = Callable[[argparse.Namespace, Configuration, Console], int]


def maintenance_command(
    name: str, meaning: str, work: Work, arguments: tuple[Argument, ...], examples: str, notes: str = ""
) -> Command:
    """Return a command that does `work` with the configuration; a `StoreError` makes it fail."""

    def run(options: argparse.Namespace, console: Console) -> int:
        configuration = configuration_of(options, console)
        try:
            return work(options, configuration, console)
        except StoreError as error:
            raise CommandFailed(str(error)) from error

    return Command(name, meaning, run, arguments, examples, notes)


def progress_of(console: Console, what: str) -> closing[Progress]:
    """Return the display of the progress of the step `what`, for a `with` statement."""
    return closing(Progress(console.errors, what, console.clock.monotonic_s))


@contextmanager
def source_of(configuration: Configuration, console: Console) -> Iterator[Loads]:
    """Yield the database of the settings as it is now, also while servers use it. Raises `StoreError`."""
    with ExitStack() as stack:
        if configuration.is_shared:
            store = stack.enter_context(opened_shared(configuration, console.clock, console.entropy))
            yield stack.enter_context(store.reading())
        else:
            database = existing_database(configuration.database)
            copying = stack.enter_context(progress_of(console, "copying"))
            yield stack.enter_context(reading(database, copying))


def counts(totals: Totals) -> str:
    """Return the content of an export in words."""
    return (
        f"{counted(totals.nodes, 'node')}, {counted(totals.tombstones, 'tombstone')}, "
        f"{counted(totals.secrets, 'secret')}, digest {totals.directory_digest:016x}"
    )
