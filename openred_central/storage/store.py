"""What the directory asks of a store: the durable truth behind the registry in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from ..directory.state.changes import Batch, Vitals
from ..directory.state.columns import RecordColumns
from ..directory.state.node import Record, Tombstone


class StoreError(Exception):
    """The store cannot do what was asked. The message is one line for the operator."""


class DamageError(StoreError):
    """What is stored was ours and cannot be read any more, or does not fit together. A backup is needed."""


class PassingError(StoreError):
    """The store cannot do it now; it may later, although nobody mends a setting or a file."""


class RowsRefused(StoreError):
    """A batch holds rows that no store could keep, such as a name with half a character in it.

    Nothing of the batch was committed. `remaining` is the batch without those rows, `refused` has one line
    for each of them.
    """

    def __init__(self, remaining: Batch, refused: list[str]) -> None:
        super().__init__(f"{len(refused)} rows cannot be stored: {refused[0]}")
        self.remaining = remaining
        self.refused = refused


class Store(Protocol):
    """Where records survive. Called from one thread at a time; every method may raise `StoreError`."""

    @property
    def durable(self) -> bool:
        """Whether what is committed survives the process."""

    @property
    def location(self) -> str:
        """Where the data lies, for people."""

    def open(self, *, check_beside: bool = False) -> None:
        """Make the store ready; creates it where there is none. Opening twice is harmless.

        What is checked then may run on beside what comes next, where `check_beside` is true.
        """

    def finish_check(self) -> None:
        """Wait for the check that `open` has left running. Raises `DamageError`."""

    def load_vitals(self) -> Vitals | None:
        """What the last batch said of the directory itself; None in a new store."""

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        """All records in the order of their slots, in lists of at most `rows_max`."""

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        """The same by columns, never empty ones: at half the cost, to be restored."""

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        """All tombstones, oldest first, in lists of at most `rows_max`."""

    def leave_alone(self, slots: Iterable[int]) -> None:
        """Change nothing in the rows of `slots`, whatever signs of life are still to be applied to them."""

    def load_secret(self, name: str) -> bytes | None:
        """The secret kept under `name`; None where there is none."""

    def save_secret(self, name: str, value: bytes) -> None:
        """Keep a secret under `name`, durably before this returns."""

    def load_revocations(self) -> list[tuple[bytes, float]]:
        """The id of each revoked token as the bytes that are stored, and the wall time when it expires."""

    def save_revocations(self, changes: Mapping[str, float | None]) -> None:
        """Keep revocations, by id when the token expires, or remove those that are None; durably."""

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, as a whole or not at all.

        What frees comes before what fills: a slot that is both freed and in `records` holds the record
        afterwards, a tombstone that is both lifted and put up stands. Raises `RowsRefused` too.
        """

    @property
    def loss(self) -> str | None:
        """How the file has ceased to be what its name leads to; None while all is well.

        Cheap, and may be asked from any thread. May raise `OSError`.
        """

    @property
    def log_bytes(self) -> int:
        """The size of the log of changes, as it was when it was last looked at."""

    def look(self, now_s: float) -> None:
        """See that the files are still those that were opened, and what is to be tidied.

        `now_s` is monotonic time. To be called about once a second; takes no longer than `tidy`.
        """

    @property
    def tidy_due(self) -> bool:
        """Whether `tidy` has something to do. Cheap, and may be asked from any thread."""

    def tidy(self) -> None:
        """One short step of housekeeping, to be called between two commits as long as `tidy_due`."""

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""

    def release(self) -> None:
        """Release everything and tidy nothing, because it may be damaged. Raises nothing."""
