"""The database that instances share, and the secret by which they know each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..clock import Clock
from ..cluster.lease import lease_times
from ..listening import StartError
from ..security.sealing import Sealer
from ..settings.config import Configuration
from ..storage.keys.key_files import KeyFileError, read_secrets
from ..storage.loading import open_shared
from ..storage.postgres.access import Access, Timing

if TYPE_CHECKING:
    from ..storage.postgres.store import PostgresStore

# The name of a process in its cluster.
RUN_BYTES: Final = 8
TAG_BYTES: Final = 8


def shared_store(
    configuration: Configuration, secrets: list[bytes], clock: Clock, entropy: Callable[[int], bytes]
) -> PostgresStore:
    """Return the opened store of the settings, with what the first of `secrets` seals.

    Raises `StoreError`.
    """
    times, password_file = lease_times(configuration.lease_s), configuration.database_password_file
    access = Access(
        run=entropy(RUN_BYTES).hex(),
        sealer=Sealer(secrets[0], secrets[1:], entropy=entropy),
        # PostgreSQL has no numbers without sign.
        new_tag=lambda: int.from_bytes(entropy(TAG_BYTES), "little") >> 1,
        elapsed_s=clock.elapsed_s,
        wall_s=clock.wall_s,
        password_file=Path(password_file) if password_file else None,
        is_pooled=configuration.database_pooled,
        timing=Timing(times.renew_s, times.shown_s),
    )
    return open_shared(configuration.database, access)


def key_secrets(configuration: Configuration) -> list[bytes]:
    """Return the key secret, and others that still open what they sealed. Raises `StartError`."""
    try:
        return read_secrets(Path(configuration.key_secret_file))
    except KeyFileError as error:
        raise StartError(str(error)) from error
