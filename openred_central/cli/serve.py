"""`serve`: start the server."""

from __future__ import annotations

import argparse

from ..server import server
from .command import Command, argument, configuration_of
from .console import Console


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the server until a signal ends it."""
    return server.serve(configuration_of(options, console), begin_anew=options.begin_anew)


COMMAND = Command(
    "serve",
    "start the server; the default command",
    run,
    (
        argument(
            "--begin-anew",
            action="store_true",
            help="make an empty database although there are snapshots of the missing one",
        ),
    ),
)
