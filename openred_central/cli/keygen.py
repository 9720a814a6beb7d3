"""`keygen`: make a key for a node, in a file of its own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import orjson

from ..exit_codes import ExitCode
from ..security.node_keys import RSA_BITS_MIN
from ..security.signing import PrivateKey
from ..storage.private_files import describe, write_whole
from .command import JSON, Command, CommandFailed, argument
from .console import Console
from .showing import pairs


class MadeKey(NamedTuple):
    """A new key: the text for ``public_key``, the key id, and the node id that follows from it."""

    public_key: str
    key_id: str
    node_id: str


def run(options: argparse.Namespace, console: Console) -> int:
    """Make a key and print the values for its registration."""
    made = keygen(options.file, options.kind, options.bits)
    if options.json:
        console.say(orjson.dumps(made._asdict()).decode())
    else:
        rows = [(name.replace("_", " "), value) for name, value in made._asdict().items()]
        console.say(pairs(rows, console.style))
    return ExitCode.DONE


def keygen(path: str, kind: str, bits: int | None) -> MadeKey:
    """Make a key, ``ed25519`` or ``rsa``, and write it to a new file `path` that only its owner can read.

    Raises `CommandFailed`, also if the file exists.
    """
    if kind != "rsa" and bits is not None:
        raise CommandFailed("--bits is for RSA keys: add --kind rsa")
    file = Path(path)
    taken = CommandFailed(f"{path} exists already, and no key is ever overwritten")
    if os.path.lexists(file):
        raise taken
    try:
        key = (
            PrivateKey.generate_rsa(bits or RSA_BITS_MIN) if kind == "rsa" else PrivateKey.generate_ed25519()
        )
        write_whole(file, key.to_pem(), replace=False)
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    except FileExistsError:
        raise taken from None
    except OSError as error:
        raise CommandFailed(f"cannot write {describe(error, file)}") from None
    return MadeKey(key.public_text, key.key_id, f"k-{key.key_id}")


COMMAND = Command(
    "keygen",
    "make a key for a node",
    run,
    (
        argument("file", metavar="FILE", help="where to write the key; no file is ever overwritten"),
        argument("--kind", choices=("ed25519", "rsa"), default="ed25519", help="kind of the key"),
        argument("--bits", metavar="BITS", type=int, help="size of an RSA key, 2048 (default) to 4096"),
        JSON,
    ),
    """\
  openred-central keygen node.pem
  openred-central keygen --kind rsa --bits 3072 node.pem
""",
    settings=False,
)
