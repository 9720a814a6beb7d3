"""What can be told of the directory's keys without opening them, which takes `cryptography`: 0.2 ms, not 60.

A server looks at its keys so when it starts, and stops where they must be mended; it opens them when they are
needed. What shows only then: that the content of a key is damaged inside its PEM, or that a `cryptography`
which is new enough for a composite root key was built without ML-DSA.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import orjson

from ... import crypto
from ...security.directory_keys.root import CLASSICAL, COMPOSITE, KeyOptions, QuantumPolicy, choose_root
from .key_files import KEY, KEYRING, SIGNING, KeyFileError, KeyFiles

# The version of `cryptography` in which ML-DSA came.
ML_DSA_SINCE = 48


def check_keys(files: KeyFiles, options: KeyOptions) -> str | None:
    """The suite of the root key in `files`; None where none was made yet.

    Raises `KeyFileError` where others can get at them, the root key is missing, a file is damaged, or there
    are none and none can be made; `RootRefused` where the root key is one that cannot be used here.
    """
    files.open()
    names = files.names()
    on_disk = [suite for suite in (COMPOSITE, CLASSICAL) if root_file(suite) in names]
    expect_root(files, on_disk)
    if not on_disk and not os.access(files.folder, os.W_OK | os.X_OK):
        raise KeyFileError(f"there are no keys in {files.folder}, and none can be made: it cannot be written")
    used = CLASSICAL if options.quantum is QuantumPolicy.OFF else next(iter(on_disk), "")
    if used == COMPOSITE and not _may_be_supported():
        # Refuses it, in the words in which it would be refused when the keys are opened.
        choose_root(options.quantum, on_disk, supported=False)
    for name in names:
        if name in (KEYRING, root_file(used)) or (name.startswith(SIGNING) and name.endswith(KEY)):
            files.check(name)
    content = files.read(KEYRING)
    if content is not None:
        _check_keyring(files, content)
    return used if used in on_disk else None


def expect_root(files: KeyFiles, on_disk: Collection[str]) -> None:
    """Raise `KeyFileError` where there was a root key and it is gone. `on_disk`: suites that are there."""
    if not on_disk and KEYRING in files.names():
        raise KeyFileError(
            f"the root key is missing in {files.folder}: bring it back from a backup, or move {KEYRING} away "
            "to begin with another root key, which peers must pin anew"
        )


def root_file(suite: str) -> str:
    """The name of the file of the root key of a suite."""
    return f"root-{suite}{KEY}"


def keyring_damaged(files: KeyFiles, error: Exception) -> KeyFileError:
    """The error that tells that the schedule of the signing keys cannot be read."""
    return KeyFileError(
        f"{files.folder / KEYRING} is damaged ({error}); without it new signing keys are made: "
        "move it away, peers will fetch the new ones"
    )


def _may_be_supported() -> bool:
    """Whether this `cryptography` is new enough for composite keys. To load its version is nothing."""
    major = crypto.about.__version__.partition(".")[0]
    return not major.isdecimal() or int(major) >= ML_DSA_SINCE


def _check_keyring(files: KeyFiles, content: bytes) -> None:
    try:
        state = orjson.loads(content)
        if not isinstance(state["version"], int):
            raise TypeError("version is no number")
        for row in state["keys"]:
            str(row["public_key"])
    except (ValueError, KeyError, TypeError) as error:
        raise keyring_damaged(files, error) from None
