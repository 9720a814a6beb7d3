"""The system's figures of this process."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_STATM = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")


class ProcessFigures(NamedTuple):
    """The system's figures of this process; those from /proc are None on a system without it."""

    processor_s: float
    resident_bytes: int | None
    descriptors_open: int | None
    descriptors_max: int


def process_figures() -> ProcessFigures:
    """Read the current figures."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    descriptors_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resident_bytes: int | None
    descriptors_open: int | None
    try:
        # The second number is the resident set in pages (proc_pid_statm(5)).
        resident_bytes = int(_STATM.read_text().split()[1]) * resource.getpagesize()
        # One of them belongs to the listing itself.
        descriptors_open = len(os.listdir(_DESCRIPTORS)) - 1
    except OSError:
        resident_bytes = descriptors_open = None
    return ProcessFigures(used.ru_utime + used.ru_stime, resident_bytes, descriptors_open, descriptors_max)
