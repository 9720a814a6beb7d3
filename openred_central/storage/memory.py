"""The store that keeps nothing, for trying things out. It says so: `durable` is False."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..directory.state.changes import Batch, Vitals
from ..directory.state.columns import RecordColumns
from ..directory.state.node import Record, Tombstone


class MemoryStore:
    """Takes every change and forgets it: the directory lives in the memory of this process alone."""

    durable = False
    location = "memory (nothing is kept)"
    loss = None
    log_bytes = 0
    tidy_due = False

    def open(self, *, check_beside: bool = False) -> None:
        """Nothing to do."""

    def finish_check(self) -> None:
        """Nothing to do."""

    def load_vitals(self) -> Vitals | None:
        """None: there never was an earlier batch."""
        return None

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        """No records."""
        return iter(())

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        """No records."""
        return iter(())

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        """No tombstones."""
        return iter(())

    def leave_alone(self, slots: Iterable[int]) -> None:
        """Nothing to do."""

    def load_secret(self, name: str) -> bytes | None:
        """None: every process makes its own secrets."""
        return None

    def save_secret(self, name: str, value: bytes) -> None:
        """Forgets the secret."""

    def load_revocations(self) -> list[tuple[bytes, float]]:
        """No revocations."""
        return []

    def save_revocations(self, changes: Mapping[str, float | None]) -> None:
        """Forgets them."""

    def commit(self, batch: Batch) -> None:
        """Forgets the batch."""

    def look(self, now_s: float) -> None:
        """Nothing to see."""

    def tidy(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def release(self) -> None:
        """Nothing to do."""
