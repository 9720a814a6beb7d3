"""Tells of something that fails again and again: when it begins and when it ends, and no more.

A disk that is nearly full takes one commit and refuses the next, many times a second. Each would begin and
end a trouble of its own; so a beginning is told at most once in `TELL_S`, and an end only of what was told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ..clock import Now

TELL_S: Final = 60.0


class Trouble:
    """Tells `log` of what may fail; `fails` and `works` are what is said of it, `now` is the time."""

    def __init__(self, log: logging.Logger, now: Callable[[], Now], fails: str, works: str) -> None:
        self._log = log
        self._now = now
        self._fails = fails
        self._works = works
        self._failures = 0
        self._told = False
        self._told_s: float | None = None

    def failed(self, what: object) -> None:
        """Note a failure, and tell it where none was told for `TELL_S` and none is told already."""
        self._failures += 1
        now_s = self._now().monotonic_s
        if self._told or (self._told_s is not None and now_s - self._told_s < TELL_S):
            return
        self._told, self._told_s = True, now_s
        self._log.error("%s, to be tried again: %s", self._fails, what)

    def worked(self) -> None:
        """Note a success, and tell it where a failure was told."""
        if self._told:
            self._told = False
            self._log.warning("%s, after %d failures in all", self._works, self._failures)
