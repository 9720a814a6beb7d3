"""The secret of the operators: one line in a file that only the server's user may read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...encoding import base64url
from ...storage.copies.restoring import database_path
from ...storage.ownership import give

SECRET_BYTES = 32
# As many characters as that many bytes have in base64url; an operator's own secret is no shorter.
SECRET_CHARACTERS_MIN = 43
_FILE_MODE = 0o600
_OTHERS = 0o077


class SecretError(Exception):
    """The file cannot be used. The message is one line for the operator."""


def secret_file_beside(database: str) -> Path | None:
    """Where the secret lies that belongs to the database of the settings; None where that keeps nothing."""
    path = database_path(database)
    return None if path is None else path.with_name(f"{path.name}.admin-secret")


def read_or_make(path: Path, random_bytes: Callable[[int], bytes]) -> tuple[str, bool]:
    """The secret in the file at `path`, which is made with a new one where there is none.

    Returns the secret, and whether others than the file's owner may read it. `random_bytes` returns so
    many of them. Raises `SecretError`.
    """
    try:
        try:
            return _make(path, base64url(random_bytes(SECRET_BYTES))), False
        except FileExistsError:
            mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise SecretError(f"the secret file {path} cannot be used: {error.strerror or error}") from error
    secret = content.decode("ascii", "replace").strip()
    if len(secret) < SECRET_CHARACTERS_MIN or not all("!" <= character <= "~" for character in secret):
        raise SecretError(
            f"the secret file {path} has to hold one line of at least {SECRET_CHARACTERS_MIN} characters "
            "without spaces; remove it, and a new secret is made"
        )
    return secret, bool(mode & _OTHERS)


def _make(path: Path, secret: str) -> str:
    """Write a new file, which others may not read from its first moment on. Raises `FileExistsError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    give(path, path.parent)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
    return secret
