"""Synchronous HTTP/1.1 requests, for commands, tests and benchmarks: over TCP, TLS or a Unix socket."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

_PRINTED: Final = re.compile("[!-~]*")


class NoReply(Exception):
    """The server sent no usable reply. The message is one line for people."""


class HttpReply(NamedTuple):
    """A complete reply; the names of `headers` are in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class UnixConnection(http.client.HTTPConnection):
    """A connection to the Unix socket at `path`."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket. Raises `OSError`."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def request(method: str, url: str, target: str, **options: Any) -> HttpReply:
    """Send one request and return the reply. Arguments and errors are those of `opened`."""
    with opened(method, url, target, **options) as response:
        return read_reply(response)


@contextmanager
def opened(
    method: str,
    url: str,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float,
    verified: bool = True,
    unix_socket: str = "",
) -> Iterator[http.client.HTTPResponse]:
    """Send one request on a connection of its own, and yield the response with its body unread.

    `url` says where the server is. A path in `unix_socket` says where to connect instead. `target` is path
    and query below the path of `url`. Without `verified` any certificate is accepted. `timeout_s` bounds each
    wait for the server.

    Raises `ValueError` where `url` is no URL of a server, and `NoReply`.
    """
    parts = urlsplit(url)
    # `http.client` takes no space or control character in a host.
    extras = parts.query or parts.fragment or not _PRINTED.fullmatch(parts.netloc)
    if parts.scheme not in ("http", "https") or not parts.hostname or extras:
        raise ValueError(f"{url!r} is no address of a server, allowed is one such as http://127.0.0.1:8000")
    where = unix_socket or f"{parts.scheme}://{parts.netloc}"
    connection: http.client.HTTPConnection
    if unix_socket:
        connection = UnixConnection(unix_socket, timeout_s)
    elif parts.scheme == "https":
        context = ssl.create_default_context() if verified else _unverified()
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request(method, parts.path.rstrip("/") + target, body, dict(headers or {}))
        yield connection.getresponse()
    except ConnectionRefusedError:
        raise NoReply(f"connection refused: is the server running on {where}?") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoReply(f"no answer from {where}: {reason}") from None
    finally:
        connection.close()


def read_reply(response: http.client.HTTPResponse, bytes_max: int | None = None) -> HttpReply:
    """Read the body of `response`, at most `bytes_max` bytes of it. Raises what `http.client` raises."""
    headers = {name.lower(): value for name, value in response.getheaders()}
    return HttpReply(response.status, response.reason, headers, response.read(bytes_max))


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
