"""Write the log in a thread of its own, so that the event loop never waits for the reader of the log.

A full pipe, a stopped terminal or a slow disk can hold up a write for any time. So lines wait in a bounded
queue. Lines beyond the bound are dropped and counted; as soon as lines can be written again, one line reports
how many are missing.
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
# One system call writes at most so many bytes.
WRITE_BYTES_MAX: Final = 1 << 16
# How long the end of the process waits for the reader of the log.
FLUSH_S_MAX: Final = 1.0


class _Line(NamedTuple):
    """A line with its line end; `missing` is the number of dropped lines that it reports, usually 0."""

    text: bytes
    missing: int


class LogWriter:
    """The writer of lines to `descriptor`, in the order of `put`, which never waits.

    `gap` returns the line that reports so many dropped lines. The thread starts at once, and ends with the
    process. `dropped` counts the lines that were lost, also those that the descriptor refused.
    """

    def __init__(self, descriptor: int, gap: Callable[[int], bytes]) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._gap = gap
        self._changed = threading.Condition()
        self._lines: deque[_Line] = deque()
        # Bytes of the lines above, and of those that are being written.
        self._waiting_bytes = 0
        self._unreported = 0
        # True if only the beginning of a line was written.
        self._torn = False
        # A daemon: a reader that never reads must not hold up the end of the process.
        threading.Thread(target=self._run, name="log writer", daemon=True).start()

    def put(self, text: bytes) -> None:
        """Queue the line `text`, with its line end; drop it if too much waits already."""
        with self._changed:
            too_much = self._waiting_bytes + len(text) > WAITING_BYTES_MAX
            # Report the gap exactly where lines are missing: no line gets in between.
            if too_much or (self._unreported and self._waiting_bytes):
                self._lose(_Line(text, 0))
                return
            self._report_gap()
            self._take(_Line(text, 0))

    def flush(self, timeout_s: float = FLUSH_S_MAX) -> bool:
        """Wait until every line is written, for `timeout_s` seconds at most. Return whether all are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, timeout_s)

    def _take(self, line: _Line) -> None:
        self._lines.append(line)
        self._waiting_bytes += len(line.text)
        self._changed.notify_all()

    def _lose(self, line: _Line) -> None:
        self.dropped += not line.missing
        self._unreported += line.missing or 1

    def _report_gap(self) -> None:
        if self._unreported:
            missing, self._unreported = self._unreported, 0
            self._take(_Line(self._gap(missing), missing))

    def _run(self) -> None:
        while True:
            lines = self._next()
            begins = b"\n" if self._torn else b""
            written = self._write(begins + b"".join(line.text for line in lines)) - len(begins)
            with self._changed:
                all_out = self._settle(lines, written)
                if all_out:
                    self._report_gap()
                self._changed.notify_all()

    def _next(self) -> list[_Line]:
        """Wait for lines, and return as many as one write takes, at least one."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines)
            lines = [self._lines.popleft()]
            length = len(lines[0].text)
            while self._lines and length + len(self._lines[0].text) <= WRITE_BYTES_MAX:
                lines.append(self._lines.popleft())
                length += len(lines[-1].text)
            return lines

    def _settle(self, lines: Sequence[_Line], written: int) -> bool:
        """Note that the first `written` bytes of `lines` are written. Return whether that is all."""
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
        """Write `content`, however long that takes. Return how many of its bytes were written."""
        left = memoryview(content)
        with contextlib.suppress(OSError):
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:
                    # Another process with the same pipe made it non-blocking.
                    select.select([], [self._descriptor], [])
        return len(content) - len(left)
