"""`serve`: start the server."""

from __future__ import annotations

import argparse
import importlib
from functools import partial

from ..server import server
from .command import Command, argument, configuration_of, settings_in
from .console import Console


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the server until a signal ends it.

    Modules that only some servers need are imported here, so that others do not wait for them.
    """
    configuration = configuration_of(options, console)
    if configuration.is_shared:
        instance = importlib.import_module("..server.instance", __package__)
        return server.serve(configuration, make_instance=instance.Instance)
    if configuration.workers == 1:
        return server.serve(configuration, begin_anew=options.begin_anew)
    crew = importlib.import_module("..server.crew", __package__)
    return server.serve(
        configuration,
        begin_anew=options.begin_anew,
        make_front=partial(crew.Crew, flags=settings_in(options)),
    )


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
