"""Brings revocations to the store: a revoked token that a crash brought back would be a hole."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor

from ..security.revocations import Revocations
from ..storage.store import Store, StoreError

log = logging.getLogger("openred.saver")

# The name under which a store keeps them, all together: they are few, and gone within the hour.
REVOCATIONS = "revocations"


def load_revocations(store: Store, wall_s: float) -> Revocations:
    """What `store` keeps of them and has not expired. Raises `StoreError`, or `ValueError` for damage."""
    revocations = Revocations()
    encoded = store.load_secret(REVOCATIONS)
    if encoded is not None:
        revocations.restore(encoded, wall_s)
    return revocations


class RevocationSaver:
    """Stores `revocations` in `store`, by the one thread of `writer`, which also commits changes."""

    def __init__(self, revocations: Revocations, store: Store, writer: Executor) -> None:
        self._revocations = revocations
        self._store = store
        self._writer = writer
        # One at a time; whoever came while it ran is in the next one.
        self._turn = asyncio.Lock()
        self._asked = 0
        self._saved = 0

    async def save(self) -> bool:
        """Wait until all revocations so far are stored. Returns whether they survive the process."""
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._saved < mine:
                covered, encoded = self._asked, self._revocations.encode()
                try:
                    await asyncio.get_running_loop().run_in_executor(
                        self._writer, self._store.save_secret, REVOCATIONS, encoded
                    )
                except StoreError as error:
                    log.error("a revocation cannot be saved: %s", error)
                    return False
                self._saved = covered
        return self._store.durable
