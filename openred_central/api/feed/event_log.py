"""What happened lately, as server-sent events (WHATWG HTML §9.2) that are ready to be sent. Pure.

The log is a ring bounded in bytes. A reader is no more than a number, its place in the ring, so that a
thousand readers cost what one does, and one that is slow costs nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import orjson

# A few minutes of a busy directory, days of a quiet one.
LOG_BYTES_MAX = 256 * 1024
# What a reader that lies behind is given at once, so that it never holds more than this beside the ring.
PIECE_BYTES_MAX = 32 * 1024

_EVENT_ID = re.compile(r"([0-9A-Za-z_]{1,32})-([0-9]{1,16})")


def event_bytes(event_id: str, name: str, document: Mapping[str, Any]) -> bytes:
    """One event as it goes over the wire; the document is JSON, which never has a line break."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), orjson.dumps(document))


class Kept(NamedTuple):
    """One event of the ring; `subject` is the node that it names, with the `document` to say it without."""

    encoded: bytes
    name: str
    subject: str | None
    document: Mapping[str, Any] | None


class EventLog:
    """The last events, numbered from 1 on without gaps, in at most `bytes_max` bytes.

    `epoch` names this run of the server and stands in every id: numbers of another run mean nothing here.
    """

    def __init__(self, epoch: str, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        if not _EVENT_ID.fullmatch(f"{epoch}-0"):
            raise ValueError(f"the epoch is {epoch!r}, allowed are 1 to 32 letters, digits and _")
        self._epoch = epoch
        self._bytes_max = bytes_max
        self._kept: deque[Kept] = deque()
        self._bytes = 0
        # The number of the newest event, 0 as long as there is none.
        self.last = 0
        # What the last reader was given, for those at the same place: made once for all of them.
        self._read_from = -1
        self._read: tuple[bytes, int] = (b"", 0)

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; that of the next one where none is."""
        return self.last - len(self._kept) + 1

    def event_id(self, number: int) -> str:
        """The id of an event, by which a reader may go on behind it."""
        return f"{self._epoch}-{number}"

    def number(self, event_id: str) -> int | None:
        """The number of the event called `event_id`; None where what came behind it is not known any more."""
        match = _EVENT_ID.fullmatch(event_id)
        if match is None or match[1] != self._epoch:
            return None
        number = int(match[2])
        return number if self.holds(number) else None

    def holds(self, number: int) -> bool:
        """Whether everything behind the event of that number is still here."""
        return self.first - 1 <= number <= self.last

    def append(self, name: str, document: Mapping[str, Any], *, subject: str | None = None) -> None:
        """Add an event; the oldest ones give way. `subject` is the node that the document names."""
        self.last += 1
        encoded = event_bytes(self.event_id(self.last), name, document)
        self._kept.append(Kept(encoded, name, subject, document if subject is not None else None))
        self._bytes += len(encoded)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._kept.popleft().encoded)
        self._read_from = -1

    def read(self, number: int) -> tuple[bytes, int]:
        """What came behind `number`, which `holds`: at most `PIECE_BYTES_MAX`, or one event; and the last."""
        if number != self._read_from:
            piece = bytearray()
            end = number
            for kept in islice(self._kept, number + 1 - self.first, None):
                if piece and len(piece) + len(kept.encoded) > PIECE_BYTES_MAX:
                    break
                piece += kept.encoded
                end += 1
            self._read_from, self._read = number, (bytes(piece), end)
        return self._read

    def forget(self, subjects: set[str], changes: Mapping[str, Any]) -> None:
        """Have `changes` applied to every event that names one of `subjects`."""
        first = self.first
        for place, kept in enumerate(self._kept):
            if kept.subject in subjects and kept.document is not None:
                encoded = event_bytes(self.event_id(first + place), kept.name, {**kept.document, **changes})
                self._bytes += len(encoded) - len(kept.encoded)
                self._kept[place] = Kept(encoded, kept.name, None, None)
        self._read_from = -1
