"""The interface of a store, which keeps the directory durably, and the store that keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Protocol

from ..directory.state.changes import Batch, Vitals
from ..directory.state.columns import RecordColumns
from ..directory.state.node import Record, Tombstone


class StoreError(Exception):
    """The store cannot do a call. The message is one line for the operator."""


class DamageError(StoreError):
    """The stored data was ours and cannot be read any more, or does not fit together: a backup is needed."""


class Damage(Exception):
    """Stored content that this server cannot have written. The message says where it is."""


class PassingError(StoreError):
    """The store cannot do it now, and may later, without a change of a setting or a file."""


class NotLeading(StoreError):
    """Another process changes what this store holds, so this one must not, now or later."""


class RowsRefused(StoreError):
    """A batch holds rows that no store could keep, such as a name with half a character in it.

    Nothing of the batch was committed. `remaining` is the batch without those rows, `refused` has one line
    for each of them.
    """

    def __init__(self, remaining: Batch, refused: list[str]) -> None:
        super().__init__(f"{len(refused)} rows cannot be stored: {refused[0]}")
        self.remaining = remaining
        self.refused = refused


class StoreState(StrEnum):
    """`BEHIND`: changes wait longer than they should; `DETACHED`: the store takes no changes."""

    OK = "ok"
    BEHIND = "behind"
    DETACHED = "detached"


class Loads(Protocol):
    """The content of a store, or of a copy of one. Every method may raise `StoreError`."""

    @property
    def location(self) -> str:
        """Where the data lies, for people."""

    def load_vitals(self) -> Vitals | None:
        """Return the vitals of the last batch; None in a new store."""

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        """Yield all records in the order of their slots, in lists of at most `rows_max`."""

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        """Yield all records as `load_records` does, but by columns, which are never empty."""

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        """Yield all tombstones, oldest first, in lists of at most `rows_max`."""

    def load_kept(self) -> Iterator[tuple[str, bytes]]:
        """Yield all names in their order, and their values in `Batch.kept`.

        One that cannot be read is logged and left out.
        """

    def leave_alone(self, slots: Iterable[int]) -> None:
        """Change nothing that is stored for `slots`: neither their rows nor their signs of life."""

    def load_secret(self, name: str) -> bytes | None:
        """Return the secret kept under `name`; None where there is none."""

    def load_revocations(self) -> list[tuple[bytes, float]]:
        """Return the id of each revoked token, as the stored bytes, and the wall time when it expires."""


class Store(Loads, Protocol):
    """Where records survive. Called from one thread at a time; every method may raise `StoreError`."""

    @property
    def durable(self) -> bool:
        """True if commits survive the process."""

    def open(self, *, check_beside: bool = False) -> None:
        """Make the store ready; create it where there is none. Opening twice is harmless.

        With `check_beside`, the check of the stored data runs on beside what the caller does next.
        """

    def finish_check(self) -> None:
        """Wait for the check that `open` has left running. Raises `DamageError`."""

    def save_secret(self, name: str, value: bytes) -> None:
        """Keep a secret under `name`, durably before this returns."""

    def save_revocations(self, changes: Mapping[str, float | None]) -> None:
        """Keep revocations, by token id when the token expires, or remove those that are None; durably."""

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, as a whole or not at all.

        Removals come first: a slot that is both freed and in `records` holds the record afterwards, a
        tombstone that is both lifted and put up stands. Names in `Batch.kept` come once. Raises `RowsRefused`
        too.
        """

    def find_loss(self) -> str | None:
        """Return how the file has ceased to be what its name leads to; None while all is well.

        Asks the system, without waiting for the disk. Any thread may call it. Raises `OSError`.
        """

    @property
    def log_bytes(self) -> int:
        """The size of the log of changes, as it was last seen."""

    def look(self, now_s: float) -> None:
        """Check that the files are still those that were opened, and plan what `tidy` has to do.

        `now_s` is monotonic time. Call this about once a second; it takes no longer than `tidy`.
        """

    @property
    def tidy_due(self) -> bool:
        """True if `tidy` has something to do. Cheap, for any thread."""

    def tidy(self) -> None:
        """Do one short step of housekeeping. Call this between two commits as long as `tidy_due`."""

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""

    def release(self) -> None:
        """Release everything and tidy nothing, because the data may be damaged. Raises nothing."""


class MemoryStore:
    """A store that takes every change and keeps none: the directory lives in this process alone."""

    durable = False
    location = "memory (nothing is kept)"
    log_bytes = 0
    tidy_due = False

    def open(self, *, check_beside: bool = False) -> None: ...

    def finish_check(self) -> None: ...

    def load_vitals(self) -> Vitals | None:
        return None

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        return iter(())

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        return iter(())

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        return iter(())

    def load_kept(self) -> Iterator[tuple[str, bytes]]:
        return iter(())

    def leave_alone(self, slots: Iterable[int]) -> None: ...

    def load_secret(self, name: str) -> bytes | None:
        return None

    def save_secret(self, name: str, value: bytes) -> None: ...

    def load_revocations(self) -> list[tuple[bytes, float]]:
        return []

    def save_revocations(self, changes: Mapping[str, float | None]) -> None: ...

    def commit(self, batch: Batch) -> None: ...

    def find_loss(self) -> str | None:
        return None

    def look(self, now_s: float) -> None: ...

    def tidy(self) -> None: ...

    def close(self) -> None: ...

    def release(self) -> None: ...
