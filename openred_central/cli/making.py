"""``keygen``: a new key for a node, in a file of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..security.node_keys import RSA_BITS_MIN
from ..security.signing import PrivateKey
from ..storage.private_files import describe, write_whole


class CannotMake(Exception):
    """A key or its file cannot be made; the message says why, in one line."""


class MadeKey(NamedTuple):
    """What is told of a new key: the text for ``public_key``, its id, and the name of its own."""

    public_key: str
    key_id: str
    node_id: str


def keygen(path: str, kind: str, bits: int | None) -> MadeKey:
    """Make a key, ``ed25519`` or ``rsa``, and write it to a new file at `path` that only its owner can read.

    Raises `CannotMake`, also where there is such a file.
    """
    if kind != "rsa" and bits is not None:
        raise CannotMake("--bits is for RSA keys: add --kind rsa")
    file = Path(path)
    taken = CannotMake(f"{path} is there already, and no key is ever overwritten")
    if os.path.lexists(file):
        raise taken
    try:
        key = (
            PrivateKey.generate_rsa(bits or RSA_BITS_MIN) if kind == "rsa" else PrivateKey.generate_ed25519()
        )
        write_whole(file, key.to_pem(), replace=False)
    except ValueError as error:
        raise CannotMake(str(error)) from None
    except FileExistsError:
        raise taken from None
    except OSError as error:
        raise CannotMake(f"cannot write {describe(error, file)}") from None
    return MadeKey(key.public_text, key.key_id, f"k-{key.key_id}")
