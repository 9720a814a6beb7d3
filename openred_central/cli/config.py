"""`config`: print the settings."""

from __future__ import annotations

import argparse

from ..exit_codes import ExitCode
from ..settings.config import SETTINGS
from ..settings.texts import settings_markdown
from ..storage.postgres.address import redacted
from .command import Command, argument, configuration_of
from .console import Console


def run(options: argparse.Namespace, console: Console) -> int:
    """Print every setting, or the table of settings in Markdown."""
    if options.markdown:
        console.say(settings_markdown().rstrip("\n"))
        return ExitCode.DONE
    configuration = configuration_of(options, console)
    width = max(map(len, SETTINGS))
    for name, setting in SETTINGS.items():
        value = setting.kind.show(getattr(configuration, name)) or "nothing"
        if name == "database":
            value = redacted(value)
        console.say(f"{name:{width}}  {value:20}  {_origin(configuration.given_as.get(name, ''))}")
    return ExitCode.DONE


def _origin(given_as: str) -> str:
    if not given_as:
        return "default"
    return f"flag {given_as}" if given_as.startswith("--") else f"environment {given_as}"


COMMAND = Command(
    "config",
    "print every setting, its value and its origin",
    run,
    (
        argument(
            "--markdown",
            action="store_true",
            help="print the table of settings in Markdown instead, as in docs/settings.md",
        ),
    ),
)
