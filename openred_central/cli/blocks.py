"""`blocks`: list the blocks of a running directory."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

import orjson

from ..exit_codes import ExitCode
from ..settings.config import Configuration
from .command import JSON, Command, configuration_of
from .console import Console
from .operating import ask
from .showing import Document, objects, safe, table

COLUMNS: Final = ("kind", "subject", "made_at", "ends_at", "reason")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print all blocks, oldest first."""
    found = list(listed(configuration_of(options, console)))
    if options.json:
        console.say(orjson.dumps(found).decode())
        return ExitCode.DONE
    rows = [[safe(block.get(name)) for name in COLUMNS] for block in found]
    console.say(table(COLUMNS, rows, console.style))
    return ExitCode.DONE


def listed(configuration: Configuration) -> Iterator[Document]:
    """Yield all blocks of the server with these settings."""
    cursor: object = "0"
    while cursor is not None:
        answer = ask(configuration, "GET", f"/admin/blocks?limit=1000&cursor={cursor}")
        yield from objects(answer.get("blocks"))
        cursor = answer.get("next")


COMMAND = Command(
    "blocks",
    "list the blocks of a running directory",
    run,
    (JSON,),
    "  openred-central blocks\n  openred-central blocks --json\n",
)
