"""The directory's own keys as the settings say: where they lie, and the task that keeps them.

The start only checks the files of the keys (`check_keys`), and the first use opens them. The start opens them
at once if nothing else shows whether the settings can be met.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from ..clock import Clock
from ..listening import StartError
from ..security.directory_keys.root import COMPOSITE, KeyOptions, QuantumPolicy, RootRefused
from ..settings.config import Configuration
from ..storage.keys.directory_keys import DirectoryKeys
from ..storage.keys.key_files import KeyFileError, KeyFiles, KeyPlace, KeysAway, check_keys, read_secret
from ..storage.keys.stored_keys import StoredKeys
from ..storage.loading import database_path
from ..storage.store import PassingError, Store
from ..tasks.keykeeper import Keykeeper

# Signatures are computed without the lock of the interpreter, so two threads are twice as fast as one.
THREADS = 2


class Vault:
    """The keykeeper of one server, with its threads. `entropy` returns so many random bytes.

    The keys lie in a folder. Where instances share `store`, and no folder is named, they lie there; `writer`
    has the thread that uses it. Raises `KeyFileError` or `RootRefused` if the keys cannot be used as they
    are.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock,
        entropy: Callable[[int], bytes],
        store: Store,
        writer: Executor,
    ) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._executor = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="signer")
        written, options = configuration.key_secret_file, configuration.keys()
        files: KeyPlace
        if configuration.is_shared and not configuration.key_folder:
            files = StoredKeys(store, writer)
        else:
            secret = read_secret(Path(written)) if written else None
            files = KeyFiles(self._folder(configuration), entropy, secret=secret)
        self._at_once = bool(written) or _need_opening(options)
        root_suite = None if options.offline_root else check_keys(files, options)
        self.keykeeper = Keykeeper(lambda: DirectoryKeys(files, options), clock, self._executor, root_suite)

    async def run(self) -> None:
        """Keep the keys, from their first use until `keykeeper.stop`.

        Raises `StartError` if the server must not go on with these keys.
        """
        try:
            if self._at_once:
                await self.keykeeper.open()
        except KeysAway as error:
            self.keykeeper.open_later(error)
        except (KeyFileError, RootRefused) as error:
            raise StartError(str(error)) from error
        await self.keykeeper.run()

    def close(self) -> None:
        """Let the threads end, and remove temporary keys."""
        self._executor.shutdown()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _folder(self, configuration: Configuration) -> Path:
        if configuration.key_folder:
            return Path(configuration.key_folder)
        folder = keys_folder(configuration.database)
        if folder is None:
            # A directory in memory stores no keys either.
            self._temporary = tempfile.TemporaryDirectory(prefix="openred-keys-")
            return Path(self._temporary.name)
        return folder


def open_vault(
    configuration: Configuration,
    clock: Clock,
    entropy: Callable[[int], bytes],
    store: Store,
    writer: Executor,
) -> Vault:
    """Return a `Vault`.

    Raises `StartError` if the operator has to fix its keys first, `PassingError` if they are out of reach.
    """
    try:
        return Vault(configuration, clock, entropy, store, writer)
    except KeysAway as error:
        raise PassingError(str(error)) from error
    except (KeyFileError, RootRefused) as error:
        raise StartError(str(error)) from error


def _need_opening(options: KeyOptions) -> bool:
    """Return whether only opening the keys shows that the options can be met.

    A root key on another machine has to sign a key set. The library for quantum-safe keys may be missing.
    """
    composite = options.token_suite == COMPOSITE or options.quantum is QuantumPolicy.REQUIRE
    return options.offline_root or composite


def keys_folder(database: str) -> Path | None:
    """Return the folder of the keys beside the database of the settings; None for one in memory."""
    path = database_path(database)
    return None if path is None else path.with_name("keys")
