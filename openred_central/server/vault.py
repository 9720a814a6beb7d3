"""The directory's own keys, put together from the settings: where they lie, and what keeps them.

They are looked at when the server starts, and opened when they are first needed: see `key_check`. Where the
settings ask for what only opening them shows, they are opened at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..clock import Clock
from ..listening import StartError
from ..security.directory_keys.root import COMPOSITE, KeyOptions, QuantumPolicy, RootRefused
from ..settings.config import Configuration
from ..storage.keys.key_files import KeyFileError, KeyFiles, check_keys, read_secret
from ..storage.loading import database_path
from ..tasks.keykeeper import Keykeeper, NoThread

if TYPE_CHECKING:
    import tempfile

    from ..storage.keys.directory_keys import DirectoryKeys

# Signatures are computed without the interpreter's lock, so that two threads are twice as fast as one.
THREADS = 2


class Vault:
    """The keykeeper of one server, with its threads. `entropy` gives so many random bytes.

    Raises `KeyFileError` or `RootRefused` where the keys cannot be used as they are.
    """

    def __init__(self, configuration: Configuration, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._executor = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="signer")
        written = configuration.key_secret_file
        secret = read_secret(Path(written)) if written else None
        self.folder = self._folder(configuration)
        files, options = KeyFiles(self.folder, entropy, secret=secret), configuration.keys()
        self._at_once = secret is not None or _asks_for_more(options)
        root_suite = None if options.offline_root else check_keys(files, options)
        self.keykeeper = Keykeeper(lambda: _load(files, options), clock, self._executor, root_suite)

    async def run(self) -> None:
        """Keep the keys until `keykeeper.stop`, from when they are needed.

        Raises `KeyFileError` or `RootRefused` where the server must not go on.
        """
        if self._at_once:
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
            # Here and not above: it takes 2 ms, and most directories keep something.
            import tempfile

            # A directory that keeps nothing has no place for its keys either.
            self._temporary = tempfile.TemporaryDirectory(prefix="openred-keys-")
            return Path(self._temporary.name)
        return folder


def open_vault(configuration: Configuration, clock: Clock, entropy: Callable[[int], bytes]) -> Vault:
    """A `Vault`. Raises `StartError` where its keys must be mended first."""
    try:
        return Vault(configuration, clock, entropy)
    except (KeyFileError, RootRefused) as error:
        raise StartError(str(error)) from error


async def keep_keys(vault: Vault) -> None:
    """Keep the directory's keys.

    Raises `StartError` where the server must not go on with what it found, `NoThread` to be begun anew.
    """
    try:
        await vault.run()
    except NoThread:
        # It may give one later, and the keys may be as they should.
        raise
    except (KeyFileError, RootRefused) as error:
        raise StartError(str(error)) from error


def _asks_for_more(options: KeyOptions) -> bool:
    """Whether the keys have to be opened for the settings to be fulfilled, or to be refused.

    A root key that lies elsewhere has to be asked for a key set; what is to be quantum-safe may not be there.
    """
    composite = options.token_suite == COMPOSITE or options.quantum is QuantumPolicy.REQUIRE
    return options.offline_root or composite


def _load(files: KeyFiles, options: KeyOptions) -> DirectoryKeys:
    # Here and not above: it imports `cryptography`, 10 MB, which a server may never need.
    from ..storage.keys.directory_keys import DirectoryKeys

    return DirectoryKeys(files, options)


def keys_folder(database: str) -> Path | None:
    """Where the keys lie that belong to the database of the settings; None where that keeps nothing."""
    path = database_path(database)
    return None if path is None else path.with_name("keys")
