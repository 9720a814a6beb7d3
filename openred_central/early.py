"""Prepares the process before the rest of the program is imported: standard descriptors, and signals.

Imports nothing of the package: a signal that comes while the rest is imported must find all prepared.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Final

# Each ends a process where nobody handles it, and says nothing that a server would have to stop for. SIGHUP
# and SIGUSR1 get a meaning once the server is up.
IGNORED: Final = (
    *("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGSTKFLT", "SIGEMT"),
)
INTERRUPTED: Final = 130
_NOT_SERVING: Final = ("-h", "--help", "--version")


def begin(arguments: Sequence[str]) -> None:
    """Prepare the process for the command in `arguments`."""
    # While the rest is imported nothing has begun that would have to be ended with care.
    signal.signal(signal.SIGINT, _end_at_once)
    open_standard_descriptors()
    if serves(arguments):
        for number in _ignored():
            signal.signal(number, signal.SIG_IGN)


def begun() -> None:
    """Let Ctrl-C be an exception from now on, as it is in every program in Python."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted() -> int:
    """Let a further Ctrl-C end the process without a word, and return the exit code of one."""
    signal.signal(signal.SIGINT, _end_at_once)
    return INTERRUPTED


def _end_at_once(*_: object) -> None:
    os._exit(INTERRUPTED)


def serves(arguments: Sequence[str]) -> bool:
    """Whether `arguments` start the server: also without any command, or with settings alone."""
    if not arguments or arguments[0] == "serve":
        return True
    return arguments[0].startswith("-") and arguments[0] not in _NOT_SERVING


def open_standard_descriptors() -> None:
    """Open /dev/null in the place of a standard descriptor that is closed.

    Otherwise the database or a socket would get its number, and whatever is printed would go there.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        # Python leaves out the stream of a descriptor that was closed when it began.
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, descriptor)
            if opened != descriptor:
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def _ignored() -> Iterator[int]:
    """The numbers of those of `IGNORED` that this system has, and of its real-time signals."""
    for name in IGNORED:
        if number := getattr(signal, name, None):
            yield number
    if sys.platform == "linux":
        yield from range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
