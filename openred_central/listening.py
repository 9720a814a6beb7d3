"""The public listener's sockets and certificate, or one line that says why the server cannot start."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from .micro_engine.sockets import inherited, listen_tcp, listen_unix, tls_context


class StartError(Exception):
    """The server cannot start. The message is one line for the operator."""


def listeners(
    host: str,
    port: int,
    unix_socket: str,
    *,
    backlog: int,
    environment: Mapping[str, str],
    process_id: int,
) -> list[socket.socket]:
    """What systemd passed to `process_id` by `environment`, or else `host`, `port` and `unix_socket`.

    The latter is a path, or empty for none. Raises `StartError`, with nothing left open.
    """
    opened: list[socket.socket] = []
    try:
        opened = inherited(environment, process_id)
        if opened:
            return opened
        opened = listen_tcp(host, port, backlog=backlog)
        if unix_socket:
            opened.append(listen_unix(Path(unix_socket), backlog=backlog))
    except OSError as error:
        for listener in opened:
            listener.close()
        raise StartError(error.strerror or str(error)) from error
    return opened


def tls(certificate: str, key: str) -> ssl.SSLContext | None:
    """What serves over TLS with the PEM files `certificate` and `key`; None where there is no certificate.

    Raises `StartError` where they cannot be used.
    """
    if not certificate:
        return None
    try:
        return tls_context(Path(certificate), Path(key))
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"cannot use the certificate {certificate} with the key {key}: {error}") from error
