"""Open connections counted across processes, in memory that they share, so that caps hold for all together.

Each process has a row of counters, which it alone writes and all read. The owner of the processes makes the
memory with `shared_memory`, and passes on its descriptor with a random key. A process gives its `Places` to
its engine. When one has ended, however it did, the owner clears its row.
"""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

COLUMNS: Final = 65_536
COLUMN_BYTES: Final = 2
# Counters of 32 bits: no process can have so many descriptors that one would run over.
CELL_FORMAT: Final = "I"
CELL_BYTES: Final = 4
# The last cell of a row counts all connections of its process.
ROW_CELLS: Final = COLUMNS + 1
ROW_BYTES: Final = ROW_CELLS * CELL_BYTES
KEY_BYTES: Final = 32
# The columns of so many parts are remembered: a connection that comes and goes needs each several times.
COLUMNS_KEPT_MAX: Final = 4_096


def shared_memory(rows: int) -> int:
    """Return the descriptor of memory with so many `rows`, all zero. No other process finds it by name.

    Raises `OSError` if the system has no room for it.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("openred-places")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, rows * ROW_BYTES)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def mapped(descriptor: int) -> mmap.mmap:
    """Return the memory behind `descriptor`, which may be closed afterwards. Raises `OSError`."""
    return mmap.mmap(descriptor, 0)


def clear(memory: bytearray | mmap.mmap, row: int) -> None:
    """Forget the connections of the process that had `row`, and that has ended."""
    memory[row * ROW_BYTES : (row + 1) * ROW_BYTES] = bytes(ROW_BYTES)


class Places:
    """The places at the gates of all processes, seen from the one that has `row` in `memory`.

    A part of a gate key has a column, found by a hash with `key`, which has `KEY_BYTES` and is secret: so no
    caller can choose the column of another. Two given parts share one by chance, once in 65,536. Then the
    connections that one of them has in other processes also count for the other, which so may be refused
    before its cap. No part gets more than its cap, but for two processes that both give the last place at the
    same instant.
    """

    def __init__(self, memory: bytearray | mmap.mmap, row: int, key: bytes) -> None:
        self._cells = memoryview(memory).cast(CELL_FORMAT)
        self._first = row * ROW_CELLS
        self._key = key
        self._column = lru_cache(COLUMNS_KEPT_MAX)(self._find_column)

    def elsewhere(self, part: str | bytes) -> int:
        """Return how many connections under `part` of a gate key the other processes have."""
        return self._others(self._column(part))

    def all_elsewhere(self) -> int:
        """Return how many connections the other processes have."""
        return self._others(COLUMNS)

    def enter(self, key: tuple[str | bytes, ...]) -> None:
        """Count one more connection of this process, under the parts of the gate `key`."""
        for cell in self._own(key):
            self._cells[cell] += 1

    def leave(self, key: tuple[str | bytes, ...]) -> None:
        """Count one connection of this process less, which entered under `key`."""
        for cell in self._own(key):
            self._cells[cell] -= 1

    def _own(self, key: tuple[str | bytes, ...]) -> Iterator[int]:
        """Yield the numbers of the cells that count a connection of this process."""
        yield self._first + COLUMNS
        for part in key:
            yield self._first + self._column(part)

    def _others(self, column: int) -> int:
        return sum(self._cells[column::ROW_CELLS]) - self._cells[self._first + column]

    def _find_column(self, part: str | bytes) -> int:
        # As bytes, an IPv4 address is shorter than any network, so that none equals one.
        packed = part if isinstance(part, bytes) else socket.inet_aton(part)
        digest = blake2b(packed, digest_size=COLUMN_BYTES, key=self._key)
        return int.from_bytes(digest.digest(), "little")
