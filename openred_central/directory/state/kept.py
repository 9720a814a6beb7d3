"""Learned values, rows of figures and blocks on their way to the store, each under a name.

A value is packed only when a batch takes it, so noting it again and again costs nothing. One that cannot be
packed is left out, and keeps no batch from being stored; blocks always can.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from ...errors import InternalBug

# The most that one batch takes, so that records never wait long for it.
ENTRIES_PER_BATCH: Final = 16
BYTES_PER_BATCH: Final = 64 * 1024
# No store reads a longer value.
VALUE_BYTES_MAX: Final = BYTES_PER_BATCH
# The errors that a damaged value, or what it is made of, may raise.
UNUSABLE: Final = (
    *(InternalBug, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    struct.error,
)

Pack = Callable[[], bytes | None]


class Kept:
    """Values to store, each under its name, oldest note first."""

    def __init__(self) -> None:
        self._noted: dict[str, Pack] = {}
        # Those that do not wait for a flush. A caller may wait for them.
        self._at_once: dict[str, Pack] = {}
        # Those of the batch that is being saved.
        self._in_flight: dict[str, Pack] = {}
        self._at_once_in_flight: dict[str, Pack] = {}
        # Names whose value could not be packed, with the error. Their stored values stay as they are.
        self.set_aside: dict[str, str] = {}

    def __len__(self) -> int:
        """Return how many values wait to be stored."""
        return len(self._noted) + len(self._at_once)

    @property
    def at_once(self) -> int:
        """Number of the values that the next batch takes, whatever its limit."""
        return len(self._at_once)

    def note(self, name: str, pack: Pack, *, at_once: bool = False) -> None:
        """Note that the value under `name` changed.

        `pack` returns the value when a batch takes it, of at most `VALUE_BYTES_MAX`, or None to remove it. It
        replaces a former note, which keeps its place. A value to store `at_once` has a name of its own kind.
        """
        (self._at_once if at_once else self._noted)[name] = pack

    def take(self, limit: int) -> list[tuple[str, bytes | None]]:
        """Remove and return values for one batch, None for each that is to be removed.

        They are all that are to be stored at once, and up to `limit` others.
        """
        self._in_flight = {}
        self._at_once_in_flight, self._at_once = self._at_once, {}
        taken = [(name, pack()) for name, pack in self._at_once_in_flight.items()]
        limit += len(taken)
        left = BYTES_PER_BATCH
        while self._noted and len(taken) < limit:
            name, pack = next(iter(self._noted.items()))
            try:
                value = pack()
                if not isinstance(value, bytes | None) or len(value or b"") > VALUE_BYTES_MAX:
                    raise InternalBug(f"{name} is no value of at most {VALUE_BYTES_MAX} bytes")
            except UNUSABLE as error:
                self.set_aside[name] = f"{type(error).__name__}: {error}"
                del self._noted[name]
                continue
            left -= len(value or b"")
            if left < 0:
                break
            self._in_flight[name] = self._noted.pop(name)
            self.set_aside.pop(name, None)
            taken.append((name, value))
        return taken

    def put_back(self) -> None:
        """Make the values of the last batch pending again; those that were noted since are already."""
        self._noted = self._in_flight | self._noted
        self._at_once = self._at_once_in_flight | self._at_once
        self._in_flight, self._at_once_in_flight = {}, {}
