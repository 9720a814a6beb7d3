"""Key files: private, written whole, encrypted if the operator gives a secret; and their check at start.

A file that others can read or write is no secret any more. It is refused with a line for the operator and
never fixed silently: others may have read it.

A server checks its keys at start without opening them, because loading `cryptography` takes long, and refuses
to start where the operator must fix something. Two faults show only when the keys are opened: content that is
damaged inside its PEM, and a `cryptography` that is new enough for a composite root key but was built without
ML-DSA.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import orjson

from ... import crypto
from ...encoding import pem_content
from ...security.directory_keys.envelope import is_envelope, seal, unseal
from ...security.directory_keys.root import CLASSICAL, COMPOSITE, KeyOptions, QuantumPolicy, choose_root
from ..private_files import PREFIX, clear, create_folder, describe, sync, write_whole

FILE_BYTES_MAX = 65_536
# The version of `cryptography` in which ML-DSA came.
ML_DSA_SINCE = 48
# A shorter secret can be guessed, however it is stretched.
SECRET_BYTES_MIN = 12

KEY = ".key"
SIGNING = "signing-"
KEYRING = "keyring.json"
# The second root key, for peers without ML-DSA. Its name is none of `root_file`: it never replaces the first.
CLASSICAL_ROOT = f"classical-root{KEY}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class KeyFileError(Exception):
    """A file with a secret cannot be used as it is. The message is one line for the operator."""


class KeysAway(KeyFileError):
    """The keys cannot be reached now, and may be later."""


class KeyPlace(Protocol):
    """The place where a directory keeps its keys, each a file with a name. All may raise `KeyFileError`."""

    @property
    def advice(self) -> str:
        """Return what operators must keep a copy of, for the log."""

    def where(self, name: str = "") -> str:
        """Return the place of the file called `name`, or of all, for people."""

    def may_write(self) -> bool:
        """Return whether files can be made there, as far as that can be seen."""

    def open(self) -> None:
        """Make the place ready."""

    def names(self) -> list[str]:
        """Return the names of all files."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None where there is none."""

    def check(self, name: str) -> None:
        """Check a file, as far as possible without `cryptography`."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file as a whole, durably before this returns."""

    def erase(self, name: str) -> None:
        """Erase a file; harmless where there is none."""


class KeyFiles:
    """The files in `folder`. Those called ``*.key`` are encrypted with `secret`, where there is one.

    `entropy` gives random bytes.
    """

    def __init__(self, folder: Path, entropy: Callable[[int], bytes], *, secret: bytes | None = None) -> None:
        self.folder = folder
        self._entropy = entropy
        self._secret = secret

    @property
    def advice(self) -> str:
        return f"keep a copy of {self.folder}, which is in no snapshot and no export"

    def where(self, name: str = "") -> str:
        return str(self.folder / name)

    def may_write(self) -> bool:
        return os.access(self.folder, os.W_OK | os.X_OK)

    def open(self) -> None:
        """Make the folder where it is missing, check it, and remove unfinished files.

        Raises `KeyFileError` where others can read or write it.
        """
        with _reported(self.folder):
            create_folder(self.folder)
            _expect_private(self.folder, os.stat(self.folder), "0700")
            clear(self.folder)

    def names(self) -> list[str]:
        with _reported(self.folder):
            return sorted(name for name in os.listdir(self.folder) if not name.startswith(PREFIX))

    def read(self, name: str) -> bytes | None:
        """Return the content of the file called `name`, decrypted; None where there is none.

        If there is a secret, a key that is not encrypted yet is encrypted now. Raises `KeyFileError`.
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
        """Check the file called `name`, as far as possible without `cryptography`.

        Raises `KeyFileError`, as `read` would, also where a key that is not encrypted is no PEM.
        """
        path = self._path(name)
        with _reported(path):
            content = _read(path)
        if content is None:
            return
        if is_envelope(content):
            self._expect_secret(path)
        else:
            check_content(name, content)

    def write(self, name: str, content: bytes) -> None:
        """Write the file called `name`, durably before this returns; former content is replaced as a whole.

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


def check_content(name: str, content: bytes) -> None:
    """Raise `KeyFileError` if the file called `name` must be PEM and `content` is none."""
    if name.endswith(KEY):
        try:
            pem_content("PRIVATE KEY", content)
        except ValueError as error:
            raise damaged(name, error) from None


def damaged(name: str, error: ValueError) -> KeyFileError:
    return KeyFileError(f"the key file {name} is damaged: {error}; bring it back from a backup")


def read_secret(path: Path) -> bytes:
    """Return the first line of a file of the operator's, the secret. Raises `KeyFileError`."""
    return _long_enough(path, _lines(path)[0])


def read_secrets(path: Path) -> list[bytes]:
    """Return the secret in a file of the operator's, and further ones, a line each, that open values, too.

    Raises `KeyFileError`.
    """
    first, *others = _lines(path)
    return [_long_enough(path, secret) for secret in (first, *filter(None, others))]


def _lines(path: Path) -> list[bytes]:
    with _reported(path):
        content = _read(path)
    if content is None:
        raise KeyFileError(f"{path} does not exist; it must hold the secret that encrypts key files")
    return [line.rstrip(b"\r") for line in content.split(b"\n")]


def _long_enough(path: Path, secret: bytes) -> bytes:
    if len(secret) < SECRET_BYTES_MIN:
        raise KeyFileError(
            f"the secret in {path} has {len(secret)} bytes, allowed are {SECRET_BYTES_MIN} or more"
        )
    return secret


def check_keys(files: KeyPlace, options: KeyOptions) -> str | None:
    """Return the suite of the root key in `files`; None where none was made yet.

    Raises `KeyFileError` where others can read or write them, the root key is missing, a file is damaged, or
    no key can be made; `RootRefused` where the root key cannot be used here.
    """
    files.open()
    names = files.names()
    on_disk = [suite for suite in (COMPOSITE, CLASSICAL) if root_file(suite) in names]
    expect_root(files, on_disk)
    if not on_disk and not files.may_write():
        raise KeyFileError(
            f"there are no keys in {files.where()}, and none can be made: it cannot be written"
        )
    used = CLASSICAL if options.quantum is QuantumPolicy.OFF else next(iter(on_disk), "")
    if used == COMPOSITE and not _may_be_supported():
        # Refuses it in the words that opening the keys would use.
        choose_root(options.quantum, on_disk, supported=False)
    needed = {KEYRING, root_file(used)} | ({CLASSICAL_ROOT} if options.classical_root else set())
    for name in names:
        if name in needed or (name.startswith(SIGNING) and name.endswith(KEY)):
            files.check(name)
    content = files.read(KEYRING)
    if content is not None:
        _check_keyring(files, content)
    return used if used in on_disk else None


def expect_root(files: KeyPlace, on_disk: Collection[str]) -> None:
    """Raise `KeyFileError` if there was a root key and it is gone. `on_disk` are the suites of root keys."""
    if not on_disk and KEYRING in files.names():
        raise KeyFileError(
            f"the root key is missing in {files.where()}: bring it back from a backup, or move {KEYRING} "
            "away to begin with another root key, which peers must pin anew"
        )


def root_file(suite: str) -> str:
    return f"root-{suite}{KEY}"


def keyring_damaged(files: KeyPlace, error: Exception) -> KeyFileError:
    """Return the error for a schedule of the signing keys that cannot be read."""
    return KeyFileError(
        f"{files.where(KEYRING)} is damaged ({error}); without it new signing keys are made: "
        "move it away, and peers will fetch the new ones"
    )


def _read(path: Path) -> bytes | None:
    """Return the content of a private file; None where there is none."""
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
    """Raise `KeyFileError` unless a file or folder belongs to us, or to root, and is closed to others."""
    # systemd's credentials belong to root where they do not belong to us.
    owners = {os.geteuid(), 0}
    if os.geteuid() == 0:
        # Root may act for the server's user, who owns the folder around it.
        owners.add(path.parent.stat().st_uid)
    if found.st_uid not in owners:
        raise KeyFileError(
            f"{path} belongs to user {found.st_uid}, and this server runs as user {os.geteuid()}; "
            f"if it is yours: chown {os.geteuid()} {path}"
        )
    # An access list, by which systemd lets a service read a credential, looks like a right of root's group.
    others = 0o037 if found.st_uid == found.st_gid == 0 and os.geteuid() != 0 else 0o077
    if found.st_mode & others:
        raise KeyFileError(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); its content may be known: "
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
    try:
        yield
    except OSError as error:
        raise KeyFileError(f"cannot use {describe(error, path)}") from error


def _may_be_supported() -> bool:
    """Return whether this `cryptography` is new enough for composite keys; its version is quick to load."""
    major = crypto.about.__version__.partition(".")[0]
    return not major.isdecimal() or int(major) >= ML_DSA_SINCE


def _check_keyring(files: KeyPlace, content: bytes) -> None:
    try:
        state = orjson.loads(content)
        if not isinstance(state["version"], int):
            raise TypeError("version is no number")
        for row in state["keys"]:
            str(row["public_key"])
    except (ValueError, KeyError, TypeError) as error:
        raise keyring_damaged(files, error) from None
