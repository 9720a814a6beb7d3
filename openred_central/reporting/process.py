"""What the operating system knows of this process."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_STATM = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")


class ProcessFigures(NamedTuple):
    """Processor time in seconds; resident memory and open descriptors, None where the system has no /proc."""

    processor_s: float
    resident_bytes: int | None
    descriptors_open: int | None
    descriptors_max: int


def process_figures() -> ProcessFigures:
    """The figures of this moment."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    descriptors_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resident_bytes: int | None
    descriptors_open: int | None
    try:
        # The second number is the resident set in pages (proc_pid_statm(5)).
        resident_bytes = int(_STATM.read_text().split()[1]) * resource.getpagesize()
        # One of them is that of the listing itself.
        descriptors_open = len(os.listdir(_DESCRIPTORS)) - 1
    except OSError:
        resident_bytes = descriptors_open = None
    return ProcessFigures(used.ru_utime + used.ru_stime, resident_bytes, descriptors_open, descriptors_max)
