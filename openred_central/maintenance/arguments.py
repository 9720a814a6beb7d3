"""The meanings and arguments of the commands of maintenance, and the arguments of a start beside settings.

Imports nothing that takes long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

MEANINGS = {
    "snapshot": "take a snapshot of the database now, also while a server uses it",
    "export": "write everything to a file of JSON Lines, also while a server runs",
    "import": "make a new database of such a file",
    "verify": "compare memory, database and snapshots by recomputing what they say of themselves",
}

EXAMPLES = {
    "snapshot": """\
  openred-central snapshot
  openred-central snapshot --replace
  openred-central snapshot --database /var/lib/openred/openred.db --snapshot-folder /backup/openred
""",
    "export": """\
  openred-central export directory.jsonl
  openred-central export --without-secrets - | gzip > directory.jsonl.gz
""",
    "import": """\
  openred-central import directory.jsonl --database new.db
  gunzip < directory.jsonl.gz | openred-central import - --database data/openred.db --replace
""",
    "verify": """\
  openred-central verify
  openred-central verify --all --url http://127.0.0.1:8000

exit codes: 0 all agree, 1 a difference or damage, 2 wrong usage
""",
}


def add_arguments(command: argparse.ArgumentParser, name: str) -> None:
    """Give the parser of the command `name`, one of maintenance or `serve`, what is not a setting."""
    from argparse import RawDescriptionHelpFormatter

    if name == "serve":
        command.add_argument(
            "--begin-anew",
            action="store_true",
            help="make an empty database where it is missing although there are snapshots of it",
        )
        return
    command.formatter_class = RawDescriptionHelpFormatter
    command.epilog = f"examples:\n{EXAMPLES[name]}"
    if name in ("export", "import"):
        command.usage = f"openred-central {name} FILE [--setting VALUE ...]"
    if name == "snapshot":
        command.add_argument(
            "--replace",
            action="store_true",
            help="remove all older snapshots once it is verified: they keep what was forgotten since",
        )
    elif name == "export":
        command.add_argument("file", metavar="FILE", help="where to write; - for standard output")
        command.add_argument(
            "--without-secrets",
            action="store_true",
            help="leave out the key of the claims: without it the claims of all nodes become void",
        )
    elif name == "import":
        command.add_argument("file", metavar="FILE", help="an export; - for standard input")
        command.add_argument(
            "--replace", action="store_true", help="set a database with nodes aside instead of refusing"
        )
    elif name == "verify":
        command.add_argument("--all", action="store_true", help="verify every snapshot, not only the newest")
        command.add_argument(
            "--url", metavar="URL", help="compare with the memory of the server at this address, too"
        )
