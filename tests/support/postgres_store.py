"""Stores on real PostgreSQL servers, for tests of the folders that use them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openred_central.storage.postgres.access import Access
from openred_central.storage.postgres.store import PostgresStore

# A machine that has much else to do may keep a store waiting for so long.
PATIENCE_S = 30.0


class PlainSealer:
    """Secrets that are only marked, so that a test sees what was sealed for what."""

    def seal(self, name: str, value: bytes) -> bytes:
        return b"sealed " + name.encode() + b" " + value

    def unseal(self, name: str, sealed: bytes) -> bytes:
        begin = b"sealed " + name.encode() + b" "
        if not sealed.startswith(begin):
            raise ValueError("it was sealed for something else")
        return sealed.removeprefix(begin)


def access(run: str = "run-1", **options: Any) -> Access:
    """Return how a process named `run` uses a database."""
    defaults = Access(run, PlainSealer(), lambda: random.getrandbits(63), time.monotonic, time.time)
    return defaults._replace(**options)


class LeadingStore(PostgresStore):
    """A store on the database at `url` that takes the lease when it is opened.

    `options` are those of `Access`.
    """

    def __init__(self, url: str, run: str = "run-1", **options: Any) -> None:
        super().__init__(url, access(run, **options))

    def open(self, *, check_beside: bool = False) -> None:
        super().open(check_beside=check_beside)
        self.lead()

    def lead(self) -> None:
        """Take the lease, whoever has it."""
        assert self.take_lease(self.watch(), 0, {"name": self.run}, time.time())


@contextmanager
def leading(url: str, run: str = "run-1", **options: Any) -> Iterator[LeadingStore]:
    """Yield a store on `url` that leads."""
    store = LeadingStore(url, run, **options)
    try:
        store.open()
        yield store
    finally:
        store.close()
