"""The directory's own keys, put together from the settings: where they lie, and what keeps them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .clock import Clock
from .config import Configuration
from .listening import StartError
from .security.root import RootRefused
from .storage.directory_keys import DirectoryKeys
from .storage.key_files import KeyFileError, KeyFiles, read_secret
from .storage.restoring import database_path
from .tasks.keykeeper import Keykeeper

# Signatures are computed without the interpreter's lock, so that two threads are twice as fast as one.
THREADS = 2


class Vault:
    """The keykeeper of one server, with its threads. `entropy` gives so many random bytes.

    Raises `KeyFileError` where the secret that encrypts the keys cannot be read.
    """

    def __init__(self, configuration: Configuration, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._executor = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="signer")
        written = configuration.key_secret_file
        secret = read_secret(Path(written)) if written else None
        self.folder = self._folder(configuration)
        files = KeyFiles(self.folder, entropy, secret=secret)
        self.keykeeper = Keykeeper(DirectoryKeys(files, configuration.keys()), clock, self._executor)

    async def run(self) -> None:
        """Open the keys, make those that are missing, and keep them until `keykeeper.stop`.

        Raises `KeyFileError` or `RootRefused` where the server must not go on.
        """
        await self.keykeeper.open()
        await self.keykeeper.run()

    def close(self) -> None:
        """Let the threads end, and forget keys that were not to be kept."""
        self._executor.shutdown()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _folder(self, configuration: Configuration) -> Path:
        if configuration.key_folder:
            return Path(configuration.key_folder)
        folder = keys_folder(configuration.database)
        if folder is None:
            # A directory that keeps nothing has no place for its keys either.
            self._temporary = tempfile.TemporaryDirectory(prefix="openred-keys-")
            return Path(self._temporary.name)
        return folder


def open_vault(configuration: Configuration, clock: Clock, entropy: Callable[[int], bytes]) -> Vault:
    """A `Vault`. Raises `StartError` where the secret that encrypts the keys cannot be read."""
    try:
        return Vault(configuration, clock, entropy)
    except KeyFileError as error:
        raise StartError(str(error)) from None


async def keep_keys(vault: Vault) -> None:
    """Keep the directory's keys. Raises `StartError` where the server must not go on with what it found."""
    try:
        await vault.run()
    except (KeyFileError, RootRefused) as error:
        raise StartError(str(error)) from None


def keys_folder(database: str) -> Path | None:
    """Where the keys lie that belong to the database of the settings; None where that keeps nothing."""
    path = database_path(database)
    return None if path is None else path.with_name("keys")
