"""``keys rotate`` and ``keys revoke``: a running server does it, asked by its operators' listener."""

from __future__ import annotations

import http.client
import socket

import orjson

from ..settings.config import ConfigError, Configuration
from ..storage.keys.admin_secret import secret_file_beside
from ..storage.keys.key_files import KeyFileError
from .showing import safe

# A new key takes up to half a second to make.
TIMEOUT_S = 10.0


def act(configuration: Configuration, path: str) -> str:
    """Have the running server of these settings do what `path` of the operators' listener does to its keys.

    Returns what it answers, in a line. Raises `KeyFileError` where it is not reached, or refuses.
    """
    address, headers = _operators(configuration)
    connection = _connect(configuration, address)
    try:
        connection.request("POST", path, headers=headers)
        response = connection.getresponse()
        answer = orjson.loads(response.read())
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        raise KeyFileError(
            f"no answer from the operators' listener at {address}: {error}; is the server running with these "
            "settings? Without it keys need no rotating: it does so every day"
        ) from None
    finally:
        connection.close()
    if response.status != 200:
        raise KeyFileError(f"{safe(answer.get('message'))} {safe(answer.get('suggestion'))}")
    return safe(answer["message"])


def _operators(configuration: Configuration) -> tuple[str, dict[str, str]]:
    """Where operators are heard, and what admits them there."""
    options = configuration.operators()
    if options.socket is not None:
        return str(options.socket), {}
    if not options.port:
        raise ConfigError(
            "name the operators' listener by --admin-port or --admin-socket, as the server does"
        )
    secret_file = options.secret_file or secret_file_beside(configuration.database)
    if secret_file is None:
        raise ConfigError("a directory in memory has no secret file; name it with --admin-secret-file")
    try:
        secret = secret_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"the operators' secret in {secret_file} cannot be read: {error}") from None
    return f"{options.host}:{options.port}", {"Authorization": f"Bearer {secret}"}


def _connect(configuration: Configuration, address: str) -> http.client.HTTPConnection:
    if configuration.admin_socket:
        connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT_S)
        try:
            connection.sock.connect(configuration.admin_socket)
        except OSError as error:
            connection.close()
            raise KeyFileError(
                f"nobody is heard at {address}: {error.strerror}; is the server running with these settings?"
            ) from None
        return connection
    return http.client.HTTPConnection(configuration.admin_host, configuration.admin_port, timeout=TIMEOUT_S)
