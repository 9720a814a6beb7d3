"""Signals of a server process: each calls a function in the event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable, Iterable

from ..listening import Certificate, StartError

log = logging.getLogger("openred.server")

# Signals that stop the server in good order, also those of the keyboard, of a limit of processor time, and of
# a failing power supply.
STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGXCPU", "SIGPWR")
    if hasattr(signal, name)
)


def on_signal(callback: Callable[[], object], numbers: Iterable[int] = STOPPING) -> None:
    """Call `callback` in the event loop at each of these signals.

    The loop's own handlers would let these signals kill the process for a moment when the loop closes. A
    signal that repeats before the callback ran is ignored: a storm of signals must not fill the loop.
    """
    loop, waiting = asyncio.get_running_loop(), set[int]()

    def call(number: int) -> None:
        waiting.discard(number)
        callback()

    def received(number: int, _: object) -> None:
        if number not in waiting:
            waiting.add(number)
            loop.call_soon_threadsafe(call, number)

    for number in numbers:
        signal.signal(number, received)


def ignore_signals() -> None:
    """Ignore the signals that were handled: the loop is about to close."""
    for number in (*STOPPING, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def renew(certificate: Certificate | None, renewed: Callable[[ssl.SSLContext], None]) -> None:
    """Read the certificate and its key again, and pass them to `renewed`, for new connections."""
    if certificate is None:
        log.info("SIGHUP has no effect: there is no certificate to read again")
        return
    try:
        certificate.renew()
    except StartError as error:
        log.error("the former certificate stays in use: %s", error)
        return
    renewed(certificate.context)
    log.info("read the certificate and its key again")
