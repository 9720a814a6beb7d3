"""Reading and filling a database that instances share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..cluster.lease import lease_times
from ..directory.state.changes import Batch
from ..listening import StartError
from ..security.sessions import CLAIM_KEY
from ..server.sharing import key_secrets, shared_store
from ..settings.config import Configuration
from ..storage.loading import load_revocations
from ..storage.private_files import scratch_folder
from ..storage.sqlite.faults import reported
from ..storage.sqlite.sqlite import SqliteStore
from ..storage.store import Loads, StoreError
from .importing import build_copy
from .portable import Totals, is_carried

if TYPE_CHECKING:
    from ..clock import Clock
    from ..storage.postgres.store import PostgresStore

# Rows of one call of the database.
BATCH_ROWS = 2_000


@contextmanager
def opened_shared(
    configuration: Configuration, clock: Clock, entropy: Callable[[int], bytes]
) -> Iterator[PostgresStore]:
    """Yield the store on the server that the settings name. Raises `StoreError`."""
    try:
        secrets = key_secrets(configuration)
    except StartError as error:
        raise StoreError(str(error)) from error
    with closing(shared_store(configuration, secrets, clock, entropy)) as store:
        yield store


def import_shared(
    store: PostgresStore,
    lines: BinaryIO,
    *,
    lease_s: float,
    pause: Callable[[float], object],
    progress: Callable[[int], None],
) -> Totals:
    """Write an export into the empty database of `store`, as a whole or not at all; return its totals.

    `lease_s` is the setting; `pause` waits for so many seconds. Raises `StoreError`: a bad line, an export
    that is cut short or was changed, a database that holds a directory or that an instance leads.
    """
    scratch_parent = Path(tempfile.gettempdir())
    with reported("import through", scratch_parent), scratch_folder(scratch_parent) as scratch:
        copy = scratch / "import.db"
        totals = build_copy(copy, lines, progress)
        seen = store.watch()
        if seen.holder:
            pause(lease_times(lease_s).idle_s)
        with closing(SqliteStore(copy)) as source:
            source.open()
            store.fill(seen, _batches(source), _secrets(source), load_revocations(source)[0])
    return totals


def _batches(source: Loads) -> Iterator[Batch]:
    """Yield all rows of `source`, the vitals with each part of them."""
    vitals = source.load_vitals()
    if vitals is None:
        return
    empty = Batch([], [], [], [], vitals, 0)
    yield empty
    yield empty._replace(kept=[each for each in source.load_kept() if is_carried(each[0])])
    for tombstones in source.load_tombstones(BATCH_ROWS):
        yield empty._replace(tombstones=tombstones)
    for records in source.load_records(BATCH_ROWS):
        yield empty._replace(records=records)


def _secrets(source: Loads) -> Mapping[str, bytes]:
    claim_key = source.load_secret(CLAIM_KEY)
    return {} if claim_key is None else {CLAIM_KEY: claim_key}
