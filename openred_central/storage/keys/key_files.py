"""Files with secrets in them: for us alone, whole or not there, and encrypted where that is wanted.

A file that others can read or write is no secret any more, so it is refused with a line for the operator,
never mended silently: who knows who has read it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...encoding import pem_content
from ...security.directory_keys.envelope import is_envelope, seal, unseal
from ..private_files import PREFIX, clear, create_folder, describe, sync, write_whole

FILE_BYTES_MAX = 65_536
# A secret shorter than this is guessed, whatever it is stretched with.
SECRET_BYTES_MIN = 12

KEY = ".key"
SIGNING = "signing-"
KEYRING = "keyring.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class KeyFileError(Exception):
    """A file with a secret cannot be used as it is. The message is one line for the operator."""


class KeyFiles:
    """The files in `folder`. Those called ``*.key`` are encrypted with `secret`, where there is one.

    `entropy` gives random bytes.
    """

    def __init__(self, folder: Path, entropy: Callable[[int], bytes], *, secret: bytes | None = None) -> None:
        self.folder = folder
        self._entropy = entropy
        self._secret = secret

    def open(self) -> None:
        """Make the folder where it is missing, check it, and remove what was never finished.

        Raises `KeyFileError` where others can get at it.
        """
        with _reported(self.folder):
            create_folder(self.folder)
            _expect_private(self.folder, os.stat(self.folder), "0700")
            clear(self.folder)

    def names(self) -> list[str]:
        """The names of the files, sorted."""
        with _reported(self.folder):
            return sorted(name for name in os.listdir(self.folder) if not name.startswith(PREFIX))

    def read(self, name: str) -> bytes | None:
        """The content of the file called `name`, decrypted; None where there is none.

        A key that is not encrypted although there is a secret is encrypted now. Raises `KeyFileError`.
        """
        path = self._path(name)
        with _reported(path):
            content = _read(path)
        if content is None:
            return None
        if not is_envelope(content):
            if self._secret is not None and name.endswith(KEY):
                self.write(name, content)
            return content
        try:
            return unseal(content, self._expect_secret(path), name)
        except ValueError as error:
            raise KeyFileError(f"{path} cannot be decrypted: {error}") from None

    def check(self, name: str) -> None:
        """Tell what is wrong with the file called `name` as far as that shows without `cryptography`.

        Raises `KeyFileError`, as `read` would, also where a key that is not encrypted is no PEM.
        """
        path = self._path(name)
        with _reported(path):
            content = _read(path)
        if content is None:
            return
        if is_envelope(content):
            self._expect_secret(path)
        elif name.endswith(KEY):
            try:
                pem_content("PRIVATE KEY", content)
            except ValueError as error:
                raise damaged(name, error) from None

    def write(self, name: str, content: bytes) -> None:
        """Write the file called `name`, durably before this returns; a former content is replaced at once.

        Raises `KeyFileError`.
        """
        path = self._path(name)
        if self._secret is not None and name.endswith(KEY):
            content = seal(content, self._secret, name, self._entropy)
        with _reported(path):
            write_whole(path, content, owner_of=self.folder)

    def erase(self, name: str) -> None:
        """Overwrite the file called `name` and remove it; harmless where there is none.

        Overwriting helps on disks and file systems that write in place; no program can promise it on others.
        """
        path = self._path(name)
        with _reported(path):
            if path.exists():
                _overwrite_and_unlink(path)
                sync(self.folder)

    def _expect_secret(self, path: Path) -> bytes:
        if self._secret is None:
            raise KeyFileError(
                f"{path} is encrypted; name the file with the secret in OPENRED_KEY_SECRET_FILE"
            )
        return self._secret

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a file here")
        return self.folder / name


def damaged(name: str, error: ValueError) -> KeyFileError:
    """The error that tells what is wrong with the content of the key file called `name`."""
    return KeyFileError(f"the key file {name} is damaged: {error}; bring it back from a backup")


def read_secret(path: Path) -> bytes:
    """The secret in a file of the operator's: its first line. Raises `KeyFileError`."""
    with _reported(path):
        content = _read(path)
    if content is None:
        raise KeyFileError(
            f"{path} does not exist; it is to hold the secret that key files are encrypted with"
        )
    secret = content.split(b"\n", 1)[0].rstrip(b"\r")
    if len(secret) < SECRET_BYTES_MIN:
        raise KeyFileError(
            f"the secret in {path} has {len(secret)} bytes, allowed are {SECRET_BYTES_MIN} or more"
        )
    return secret


def _read(path: Path) -> bytes | None:
    """The content of a file that nobody else can get at; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(f"{path} is no regular file")
        _expect_private(path, found, "0600")
        if found.st_size > FILE_BYTES_MAX:
            raise KeyFileError(f"{path} has {found.st_size} bytes, allowed are {FILE_BYTES_MAX}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(FILE_BYTES_MAX)
    finally:
        os.close(descriptor)


def _expect_private(path: Path, found: os.stat_result, mode: str) -> None:
    """Raise `KeyFileError` unless a file or folder belongs to us, or to root, and is open to nobody else."""
    # systemd's credentials belong to root where they do not belong to us.
    owners = {os.geteuid(), 0}
    if os.geteuid() == 0:
        # Root may act for the server's user, to whom the folder around it belongs.
        owners.add(path.parent.stat().st_uid)
    if found.st_uid not in owners:
        raise KeyFileError(
            f"{path} belongs to user {found.st_uid}, not to {os.geteuid()} who runs this server; "
            f"if it is yours: chown {os.geteuid()} {path}"
        )
    if found.st_mode & 0o077:
        raise KeyFileError(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); what is in it may be known: "
            f"replace it, or, if nobody has read it: chmod {mode} {path}"
        )


def _overwrite_and_unlink(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(descriptor, bytes(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Raise `KeyFileError` for an error of the system."""
    try:
        yield
    except OSError as error:
        raise KeyFileError(f"cannot use {describe(error, path)}") from error
