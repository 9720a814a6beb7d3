"""The declaration of a command, and the arguments that several commands share.

To add a command, write a module in this folder with its `COMMAND`, and name it in `main.MODULES`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ..settings.config import SETTINGS, Configuration, load
from ..settings.texts import unknown_variables
from .console import Console

DEFAULT_URL: Final = "http://127.0.0.1:8000"
URL_VARIABLE: Final = "OPENRED_URL"


class UsageError(Exception):
    """The arguments cannot be used as they are. The message is one line."""


class CommandFailed(Exception):
    """The command failed. The message is one line."""


class Argument(NamedTuple):
    """An argument: its names and options as `ArgumentParser.add_argument` takes them."""

    names: tuple[str, ...]
    options: dict[str, Any]

    @property
    def flag(self) -> str | None:
        """Return the name of the argument if it is a flag, else None."""
        return self.names[0] if self.names[0].startswith("-") else None


def argument(*names: str, **options: Any) -> Argument:
    """Return an argument; see `ArgumentParser.add_argument`."""
    return Argument(names, options)


class Command(NamedTuple):
    """A command: `run` gets the parsed arguments and the console, and returns the exit code.

    `examples` are command lines for the help, and `notes` the text below them. A command with `settings`
    accepts a flag for each setting; `configuration_of` reads them.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace, Console], int]
    arguments: tuple[Argument, ...] = ()
    examples: str = ""
    notes: str = ""
    settings: bool = True

    @property
    def flags(self) -> list[Argument]:
        """Return the flags that the help shows, those of settings included."""
        shown = [each for each in self.arguments if each.options.get("help") != argparse.SUPPRESS]
        return [each for each in (*shown, *(SETTING_FLAGS if self.settings else ())) if each.flag]

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of this command to `parser`."""
        for names, options in self.arguments:
            parser.add_argument(*names, **options)
        if self.settings:
            add_settings(parser)


def _setting_flag(name: str) -> Argument:
    setting = SETTINGS[name]
    default = setting.kind.show(setting.default) or "nothing"
    row = f"{setting.meaning} Default: {default}. Allowed: {setting.kind.allowed}."
    # Without a default, the parsed arguments contain only the settings that were given.
    return argument(
        setting.flag, dest=name, default=argparse.SUPPRESS, metavar="VALUE", help=row.replace("%", "%%")
    )


SETTING_FLAGS: Final = tuple(map(_setting_flag, SETTINGS))
JSON: Final = argument("--json", action="store_true", help="print JSON")
URL: Final = argument(
    "--url", metavar="URL", help=f"where the directory is; default: ${URL_VARIABLE}, else {DEFAULT_URL}"
)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting to `parser`."""
    group = parser.add_argument_group("settings")
    for names, options in SETTING_FLAGS:
        group.add_argument(*names, **options)


def settings_in(options: argparse.Namespace) -> dict[str, str]:
    """Return the settings, name → text, that were given as flags."""
    return {name: value for name, value in vars(options).items() if name in SETTINGS}


def configuration_of(
    options: argparse.Namespace, console: Console, known: dict[str, str] | None = None
) -> Configuration:
    """Return the configuration: flags win over `known`, and both win over environment variables.

    Warn of variables that look like settings but are none. Raises `ConfigError`.
    """
    for warning in unknown_variables(console.environment):
        console.complain(f"warning: {warning}")
    return load({**(known or {}), **settings_in(options)}, console.environment)


def url_of(options: argparse.Namespace, console: Console) -> str:
    """Return the URL of the directory: from the flag, the variable, or the default."""
    url: str = options.url or console.environment.get(URL_VARIABLE) or DEFAULT_URL
    return url
