"""The store on PostgreSQL, shared by the instances of a cluster: one of them leads, and it alone writes.

Any thread may call it. All that is sent runs on one private loop in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ...directory.state.changes import Batch, Vitals
from ...directory.state.columns import RecordColumns
from ...directory.state.node import Record, Tombstone
from ...directory.state.pages import PAGE_SLOTS
from ..seen import spared
from ..store import Damage, DamageError, StoreError
from .access import Access
from .address import parse
from .connecting import Server
from .filling import Filling
from .leasing import LeaseRow
from .link import Link
from .reading import SELECT_SECRET, SELECT_VITALS, Reading, sealed_name, unsealed, unsealing, vitals_in
from .rows import encode
from .schema import prepare
from .thread import LoopThread
from .writing import RENEW_TIMEOUT_S, Writer, look

CLOSE_TIMEOUT_S: Final = 2.0
# A page, if it holds for the record in a slot.
SELECT_PAGE_OF: Final = """
SELECT s.signs FROM openred.seen AS s
JOIN openred.node AS n ON n.slot = $1 AND n.commit_number <= s.commit_number WHERE s.page = $2
"""
SELECT_SECRETS: Final = """
SELECT c.lineage, array_agg(s.name), array_agg(s.value)
FROM openred.cluster AS c, openred.secret AS s GROUP BY c.lineage
"""


class PostgresStore:
    """The `Store` in the PostgreSQL database at `url`.

    It reads without the lease and writes only with it: `take_lease` begins a term, and from then on the
    thread of the store renews the lease.
    """

    durable = True
    log_bytes = 0
    tidy_due = False

    def __init__(self, url: str, access: Access) -> None:
        self.run = access.run
        self._server = Server(parse(url), access.password_file, is_pooled=access.is_pooled)
        self._access = access
        self._sealer = access.sealer
        self._watching = Link(self._server)
        self._writer = Writer(Link(self._server), access)
        self._thread: LoopThread | None = None
        self._lineage: str | None = None
        self._left_alone: frozenset[int] = frozenset()

    @property
    def location(self) -> str:
        return self._server.address.location

    @property
    def term(self) -> int | None:
        """The term that this run took last; None before, and after `goodbye`."""
        return self._writer.term

    @property
    def ended(self) -> StoreError | None:
        """The reason why nothing is written in `term` any more; None while all is well."""
        return self._writer.ended

    @property
    def seq(self) -> int:
        """The number of the last commit of this run."""
        return self._writer.seq

    @property
    def confirmed_s(self) -> float:
        """The elapsed time at which the last fenced statement that succeeded was sent; -inf before."""
        return self._writer.confirmed_s

    @property
    def shown_s(self) -> float:
        """The elapsed time at which the main loop was last seen; without it the lease is not renewed."""
        return self._writer.shown_s

    @shown_s.setter
    def shown_s(self, elapsed_s: float) -> None:
        self._writer.shown_s = elapsed_s

    def open(self, *, check_beside: bool = False) -> None:
        """Make the schema where there is none, or check it. Raises `StoreError`."""
        if self._thread is not None:
            return
        thread = LoopThread("database")
        try:
            thread.run(prepare(self._server))
        except BaseException:
            thread.close()
            raise
        self._thread = thread

    def finish_check(self) -> None: ...

    def watch(self) -> LeaseRow:
        """Return the row of the cluster as it is on the primary, over a connection of its own.

        Raises `StoreError`, also where it is the row of another directory than before.
        """
        return self._open.run(self._watch())

    async def _watch(self) -> LeaseRow:
        row = await look(self._watching)
        if self._lineage not in (None, row.lineage):
            raise StoreError(
                f"{self.location} holds another directory ({row.lineage}) than before ({self._lineage}); "
                "restart this server to go on with it"
            )
        self._lineage = row.lineage
        return row

    def take_lease(self, seen: LeaseRow, term_least: int, leader: Mapping[str, Any], at: float) -> bool:
        """Take the lease if the row is as it was `seen`, in a term above that and `term_least`.

        `leader` describes this run, `at` is wall time. Return whether the lease is taken. Raises
        `StoreError`.
        """
        return self._open.run(self._writer.take(seen, term_least, leader, at))

    def renew(self) -> None:
        """Renew the lease now. Raises `Fenced`, `RolledBack`, `StoreError`."""
        self._open.run(self._writer.renew())

    def goodbye(self) -> None:
        """Give the lease back. Raises `Fenced`, `RolledBack`, `StoreError`."""
        self._open.run(self._writer.goodbye())

    def go_on_after_rollback(self) -> None:
        """Go on from the row as it is now, with commits above all numbers known. Raises `StoreError`."""
        self._open.run(self._writer.go_on_after_rollback())

    def reading(self) -> Reading:
        """Return all that the database holds at this moment; close it. Raises `StoreError`."""
        return Reading(self._server, self._open, self._sealer, self._left_alone)

    def load_vitals(self) -> Vitals | None:
        return vitals_in(self._open.run(self._watching.read(SELECT_VITALS, (), RENEW_TIMEOUT_S)))

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        with self.reading() as reading:
            yield from reading.load_records(rows_max)

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        with self.reading() as reading:
            yield from reading.load_columns(rows_max)

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        with self.reading() as reading:
            yield from reading.load_tombstones(rows_max)

    def load_kept(self) -> Iterator[tuple[str, bytes]]:
        with self.reading() as reading:
            yield from reading.load_kept()

    def load_revocations(self) -> list[tuple[bytes, float]]:
        with self.reading() as reading:
            return reading.load_revocations()

    def leave_alone(self, slots: Iterable[int]) -> None:
        self._left_alone = frozenset(slots)

    def load_secret(self, name: str) -> bytes | None:
        row = self._open.run(self._watching.read(SELECT_SECRET, (name,), RENEW_TIMEOUT_S))
        return None if row is None else unsealed(self._sealer, self.location, row[0], name, row[1])

    def seal_again(self) -> None:
        """Seal anew, as the leader, what a former key secret sealed. Raises `StoreError`."""
        row = self._open.run(self._watching.read(SELECT_SECRETS, (), RENEW_TIMEOUT_S))
        lineage, names, values = ("", [], []) if row is None else row
        for name, sealed in zip(names, values, strict=True):
            with unsealing(self.location, name):
                renewed = self._sealer.renewed(sealed_name(lineage, name), sealed)
            if renewed is not None:
                self._open.run(self._writer.write("put_secret_1", name, renewed))

    def save_secret(self, name: str, value: bytes) -> None:
        sealed = self._sealer.seal(sealed_name(self.watch().lineage, name), value)
        self._open.run(self._writer.write("put_secret_1", name, sealed))

    def save_revocations(self, changes: Mapping[str, float | None]) -> None:
        kept = {token_id: expires_at for token_id, expires_at in changes.items() if expires_at is not None}
        gone = [token_id for token_id, expires_at in changes.items() if expires_at is None]
        if changes:
            self._open.run(self._writer.write("revoke_1", gone, list(kept), list(kept.values())))

    def commit(self, batch: Batch) -> None:
        """Commit as the leader. Returns once the outcome is known, however long the database is away.

        Raises `Fenced` and `RolledBack`, too: then nothing of the batch is in the database, or another run
        has led since.
        """
        if batch.pages and self._left_alone:
            try:
                pages = [spared(run, self._left_alone, self._stored_page) for run in batch.pages]
            except Damage as error:
                raise DamageError(f"cannot write {self.location}: {error}; restore a backup") from error
            batch = batch._replace(pages=pages)
        self._open.run(self._writer.write("commit_1", *encode(batch), is_commit=True))

    def fill(
        self,
        seen: LeaseRow,
        batches: Iterable[Batch],
        secrets: Mapping[str, bytes],
        revoked: Mapping[str, float],
    ) -> None:
        """Write a whole directory in one transaction, if the lease is as it was `seen` and nothing is there.

        Raises `StoreError`; then nothing was written, unless it says otherwise.
        """
        filling = Filling(self._server, self._access)
        try:
            self._open.run(filling.begin(seen))
            for batch in batches:
                self._open.run(filling.write("commit_1", *encode(batch), is_commit=True))
            for name, value in secrets.items():
                sealed = self._sealer.seal(sealed_name(seen.lineage, name), value)
                self._open.run(filling.write("put_secret_1", name, sealed))
            self._open.run(filling.write("revoke_1", [], list(revoked), list(revoked.values())))
            self._open.run(filling.finish())
        finally:
            self._open.run(filling.close())

    def _stored_page(self, slot: int) -> bytes | None:
        row = self._open.run(self._watching.read(SELECT_PAGE_OF, (slot, slot // PAGE_SLOTS), RENEW_TIMEOUT_S))
        return None if row is None else row[0]

    def find_loss(self) -> str | None:
        return None

    def look(self, now_s: float) -> None: ...

    def tidy(self) -> None: ...

    def close(self) -> None:
        """End all connections. The lease stays until it runs out: see `goodbye`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.run(self._writer.close(CLOSE_TIMEOUT_S))
            thread.run(self._watching.close(CLOSE_TIMEOUT_S))
            thread.close()

    def release(self) -> None:
        self.close()

    @property
    def _open(self) -> LoopThread:
        if self._thread is None:
            raise StoreError(f"{self.location} is not open")
        return self._thread
