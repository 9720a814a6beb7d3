"""Brings revocations to the store: a revoked token that a crash brought back would be a hole."""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import Executor
from contextlib import suppress

from ..security.tokens.revocations import Revocations, find_fault, is_token_id
from ..storage.store import Store

log = logging.getLogger("openred.saver")

# The secret that an export has them in, as databases of earlier versions had.
REVOCATIONS = "revocations"
# What was answered as not yet durable is tried again this often, until it is.
RETRY_S = 1.0


def load_revocations(store: Store) -> tuple[dict[str, float], list[str]]:
    """Return the revocations in `store`, by id when each token expires, and a line for each damaged one.

    A damaged one stays in the store as it is. While its id can be read it counts, and does not expire. Raises
    `StoreError`.
    """
    revoked: dict[str, float] = {}
    damaged: list[str] = []
    for token_id, expires_at in store.load_revocations():
        fault = find_fault(token_id, expires_at)
        if fault is not None:
            damaged.append(fault)
        if is_token_id(token_id):
            revoked[token_id.decode("ascii")] = expires_at if fault is None else math.inf
    left = store.load_secret(REVOCATIONS)
    if left is not None:
        damaged.append(f"not all revocations of an earlier version can be read, in {len(left)} bytes")
    return revoked, damaged


class RevocationSaver:
    """Stores `revocations` in `store`, by the one thread of `writer`, which also commits changes.

    It tries again every `retry_s` where it cannot store them: nobody may ask a second time. `stop` ends that,
    after `stop_timeout_s` at the latest.
    """

    def __init__(
        self,
        revocations: Revocations,
        store: Store,
        writer: Executor,
        *,
        stop_timeout_s: float,
        retry_s: float = RETRY_S,
    ) -> None:
        self.revocations = revocations
        self._store = store
        self._writer = writer
        self._retry_s = retry_s
        self._stop_timeout_s = stop_timeout_s
        self._gave_up = False
        self._retrying: asyncio.Task[None] | None = None
        # One at a time; whoever came while it ran is in the next one.
        self._turn = asyncio.Lock()
        self._asked = 0
        self._saved = 0

    @property
    def gave_up(self) -> bool:
        """Whether the last revocations could not be stored in time, and are lost with the process."""
        return self._gave_up

    async def save(self) -> bool:
        """Wait until all revocations so far are stored. Returns whether they survive the process."""
        self._asked += 1
        try:
            await self._save(self._asked)
        except Exception as error:  # noqa: BLE001
            # Not of the store alone: the system may give no thread.
            if self._retrying is None:
                log.error("a revocation cannot be saved, to be tried again: %s", error)
                self._retrying = asyncio.create_task(self._retry())
            return False
        return self._store.durable

    async def stop(self) -> None:
        """Store what is not stored yet, or give up after `stop_timeout_s`, saying so."""
        if self._retrying is not None:
            self._retrying.cancel()
        last_error = "none, the last attempt still runs"
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                while self._saved < self._asked:
                    try:
                        await self._save(self._asked)
                    except Exception as error:  # noqa: BLE001
                        last_error = str(error) or repr(error)
                        await asyncio.sleep(self._retry_s)
        except TimeoutError:
            self._gave_up = True
            log.error(
                "gave up saving the last revocations after %g s; last error: %s",
                self._stop_timeout_s,
                last_error,
            )

    async def _save(self, asked: int) -> None:
        """Store what so many calls have asked for. Raises what the store does, or the lack of a thread."""
        async with self._turn:
            if self._saved < asked:
                covered, unsaved = self._asked, self.revocations.take_unsaved()
                try:
                    await asyncio.get_running_loop().run_in_executor(
                        self._writer, self._store.save_revocations, unsaved
                    )
                except BaseException:
                    # Whether it was stored or not, to store it again changes nothing.
                    self.revocations.put_back(unsaved)
                    raise
                self._saved = covered

    async def _retry(self) -> None:
        while self._saved < self._asked:
            await asyncio.sleep(self._retry_s)
            with suppress(Exception):
                await self._save(self._asked)
        self._retrying = None
        log.warning("revocations are saved again")
