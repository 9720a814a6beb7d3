"""The progress of a long command: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

BAR_WIDTH = 30
REDRAW_S = 0.1
LINE_S = 10.0


class Progress:
    """The display of the progress of the step `what` on `stream`. Call it with the work done and all work.

    `monotonic_s` returns the time. A step that ends at once shows nothing.
    """

    def __init__(self, stream: TextIO, what: str, monotonic_s: Callable[[], float]) -> None:
        self._stream = stream
        self._what = what
        self._monotonic_s = monotonic_s
        self._is_terminal = stream.isatty()
        self._shown_s = monotonic_s()
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`; a `total` of 0 is not known."""
        now_s = self._monotonic_s()
        if now_s - self._shown_s < (REDRAW_S if self._is_terminal else LINE_S):
            return
        self._shown_s = now_s
        share = min(done / total, 1.0) if total else 0.0
        figures = f"{share:4.0%}" if total else f"{done:,}"
        if self._is_terminal:
            bar = f"[{'#' * int(share * BAR_WIDTH):{BAR_WIDTH}}] " if total else ""
            self._write(f"\r\x1b[K{self._what} {bar}{figures}")
            self._drawn = True
        else:
            self._write(f"{self._what}: {figures.strip()}\n")

    def close(self) -> None:
        """Leave a clean line to what is printed next."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
