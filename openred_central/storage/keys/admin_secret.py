"""The secret of the operators: one line in a file that only the server's user may read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...encoding import base64url
from ..loading import database_path
from ..private_files import create_folder, describe, write_whole

SECRET_BYTES = 32
# The length of that many bytes in base64url; an operator's own secret must not be shorter.
SECRET_CHARACTERS_MIN = 43
_OTHERS = 0o077


class SecretError(Exception):
    """The file cannot be used. The message is one line for the operator."""


def secret_file_beside(database: str) -> Path | None:
    """Return the default file of the secret, beside the database; None where the database keeps nothing."""
    path = database_path(database)
    return None if path is None else path.with_name(f"{path.name}.admin-secret")


def read_or_make(path: Path, random_bytes: Callable[[int], bytes]) -> tuple[str, bool]:
    """Return the secret in the file `path`, and whether others than the file's owner may read it.

    A missing file is made with a new secret; `random_bytes` returns as many bytes as it is asked for. Raises
    `SecretError`.
    """
    try:
        if not path.exists():
            create_folder(path.parent)
            made = f"{base64url(random_bytes(SECRET_BYTES))}\n".encode("ascii")
            # Another process may have been faster.
            with suppress(FileExistsError):
                write_whole(path, made, owner_of=path.parent, replace=False)
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise SecretError(f"cannot use the secret file {describe(error, path)}") from error
    secret = content.decode("ascii", "replace").strip()
    if len(secret) < SECRET_CHARACTERS_MIN or not all("!" <= character <= "~" for character in secret):
        raise SecretError(
            f"the secret file {path} has to hold one line of at least {SECRET_CHARACTERS_MIN} characters "
            "without spaces; remove it, and a new secret is made"
        )
    return secret, bool(mode & _OTHERS)
