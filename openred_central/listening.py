"""The public listener's sockets and certificate, or one line that says why the server cannot start."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from . import crypto
from .sockets import inherited, listen_tcp, listen_unix, tls_context


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


class Certificate:
    """The certificate of the public listener and its key, as the PEM files `certificate` and `key` hold them.

    `context` serves over TLS with both; `expires_at` is the wall time at which the certificate ends, 0 where
    its file does not tell. Raises `StartError` where the files cannot be used.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = certificate, key
        self.context, self.expires_at = self._read()

    def renew(self) -> None:
        """Read both files again. Raises `StartError`; all is then as it was."""
        self.context, self.expires_at = self._read()

    def _read(self) -> tuple[ssl.SSLContext, float]:
        certificate, key = map(Path, self._files)
        try:
            return tls_context(certificate, key), _expires_at(certificate.read_bytes())
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"cannot use the certificate {certificate} with the key {key}: {error.strerror or error}"
            ) from error


def certificate_of(certificate: str, key: str) -> Certificate | None:
    """Return the certificate in the two files; None where none is named. Raises as `Certificate`."""
    return Certificate(certificate, key) if certificate else None


def _expires_at(content: bytes) -> float:
    try:
        return crypto.x509.load_pem_x509_certificate(content).not_valid_after_utc.timestamp()
    except ValueError:
        # OpenSSL has taken it all the same.
        return 0.0
