"""Prepare the process before the rest of the package is imported: standard descriptors and signals.

It imports nearly nothing: a signal that comes during the other imports must find everything prepared.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from .exit_codes import ExitCode

# The default action of each signal ends the process, and a server has no reason to stop for any of them.
# SIGHUP and SIGUSR1 get a meaning once the server is up.
IGNORED: Final = (
    *("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGSTKFLT", "SIGEMT"),
)
_NOT_SERVING: Final = ("-h", "--help", "--version")


def begin(arguments: Sequence[str]) -> None:
    """Prepare the process for the command in `arguments`."""
    # Nothing has begun yet that would need an orderly end.
    signal.signal(signal.SIGINT, _end_at_once)
    open_standard_descriptors()
    if serves(arguments):
        numbers = [getattr(signal, name) for name in IGNORED if hasattr(signal, name)]
        if sys.platform == "linux":
            numbers += range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


def begun() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` from now on, as in every Python program."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted() -> int:
    """Let a further Ctrl-C end the process silently, and return the exit code of an interruption."""
    signal.signal(signal.SIGINT, _end_at_once)
    return ExitCode.INTERRUPTED


def _end_at_once(*_: object) -> None:
    os._exit(ExitCode.INTERRUPTED)


def serves(arguments: Sequence[str]) -> bool:
    """Return whether `arguments` start a server: `serve`, `worker`, no command at all, or settings alone."""
    if not arguments or arguments[0] in ("serve", "worker"):
        return True
    return arguments[0].startswith("-") and arguments[0] not in _NOT_SERVING


def open_standard_descriptors() -> None:
    """Open /dev/null in place of each standard descriptor that is closed.

    Otherwise the database or a socket would get its number and receive whatever is printed.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        # Python makes no stream for a descriptor that was closed when the interpreter began.
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, descriptor)
            if opened != descriptor:
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
