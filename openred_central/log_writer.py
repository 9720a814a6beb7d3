"""Lines brought to a descriptor by a thread of its own, so that nobody waits for the reader of the log.

A pipe that nobody empties, a terminal that was stopped, a slow disk: each holds up a write for as long as it
likes. The event loop must not stand still meanwhile. So lines wait in a bounded queue; beyond the bound they
are dropped and counted, and one line tells how many there were as soon as lines go out again.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

WAITING_BYTES_MAX: Final = 1 << 20
# One system call is given at most so many.
WRITE_BYTES_MAX: Final = 1 << 16
# How long an end waits for the reader of the log.
FLUSH_S_MAX: Final = 1.0


class _Line(NamedTuple):
    """One line with its line end; `missing` is how many dropped lines it tells of, 0 for any other line."""

    text: bytes
    missing: int


class LogWriter:
    """Writes lines to `descriptor` in the order in which they are put, and never lets `put` wait.

    `gap` returns the line that tells how many lines were dropped. The thread is made at once, and ends with
    the process. `dropped` counts the lines that were lost, also those that the descriptor refused.
    """

    def __init__(self, descriptor: int, gap: Callable[[int], bytes]) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._gap = gap
        self._changed = threading.Condition()
        self._lines: deque[_Line] = deque()
        # Bytes of the lines above, and of those that are being written.
        self._waiting_bytes = 0
        self._untold = 0
        # True if the descriptor took the beginning of a line and refused its end.
        self._torn = False
        # A daemon: a reader that never reads must not hold up the end of the process.
        threading.Thread(target=self._run, name="log writer", daemon=True).start()

    def put(self, text: bytes) -> None:
        """Have the line `text`, with its line end, written; or drop it where too much waits already."""
        with self._changed:
            too_much = self._waiting_bytes + len(text) > WAITING_BYTES_MAX
            # The gap is told where the lines are missing: nothing gets in between.
            if too_much or (self._untold and self._waiting_bytes):
                self._lose(_Line(text, 0))
                return
            self._tell_gap()
            self._take(_Line(text, 0))

    def flush(self, timeout_s: float = FLUSH_S_MAX) -> bool:
        """Wait until every line is out, for `timeout_s` seconds at most. Returns whether all are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, timeout_s)

    def _take(self, line: _Line) -> None:
        self._lines.append(line)
        self._waiting_bytes += len(line.text)
        self._changed.notify_all()

    def _lose(self, line: _Line) -> None:
        self.dropped += not line.missing
        self._untold += line.missing or 1

    def _tell_gap(self) -> None:
        if self._untold:
            missing, self._untold = self._untold, 0
            self._take(_Line(self._gap(missing), missing))

    def _run(self) -> None:
        while True:
            lines = self._next()
            begins = b"\n" if self._torn else b""
            written = self._write(begins + b"".join(line.text for line in lines)) - len(begins)
            with self._changed:
                all_out = self._settle(lines, written)
                if all_out:
                    self._tell_gap()
                self._changed.notify_all()

    def _next(self) -> list[_Line]:
        """Wait for lines, and take as many as one write is to take, at least one."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines)
            lines = [self._lines.popleft()]
            length = len(lines[0].text)
            while self._lines and length + len(self._lines[0].text) <= WRITE_BYTES_MAX:
                lines.append(self._lines.popleft())
                length += len(lines[-1].text)
            return lines

    def _settle(self, lines: Sequence[_Line], written: int) -> bool:
        """Take note that of `lines` the first `written` bytes are out. Returns whether that is all."""
        for line in lines:
            self._waiting_bytes -= len(line.text)
            if written < len(line.text):
                self._lose(line)
                self._torn = self._torn or written > 0
            else:
                self._torn = False
            written -= len(line.text)
        return written == 0

    def _write(self, content: bytes) -> int:
        """Write `content`, however long that takes. Returns how many bytes of it were taken."""
        left = memoryview(content)
        with contextlib.suppress(OSError):
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:
                    # Somebody who has the same pipe made it non-blocking.
                    select.select([], [self._descriptor], [])
        return len(content) - len(left)
