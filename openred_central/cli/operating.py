"""Requests of commands to the operators' listener of a running server."""

from __future__ import annotations

from typing import Any, Final

import orjson

from ..http_requests import NoReply, request
from ..settings.config import ConfigError, Configuration
from ..storage.keys.admin_secret import secret_file_beside
from .command import CommandFailed
from .showing import safe

# Making a key takes a while, and so does judging a million nodes.
TIMEOUT_S: Final = 60.0


def operate(configuration: Configuration, path: str) -> str:
    """Send a POST for `path` to the operators' listener of the server with these settings.

    Return the message of its answer. Raises `CommandFailed` if the server is not reached or refuses.
    """
    return safe(ask(configuration, "POST", path).get("message"))


def ask(configuration: Configuration, method: str, path: str) -> dict[str, Any]:
    """Send a request to the operators' listener of the server with these settings. Return its answer.

    Raises `CommandFailed` if the server is not reached or refuses.
    """
    url, headers = _operators(configuration)
    try:
        reply = request(
            method, url, path, headers=headers, timeout_s=TIMEOUT_S, unix_socket=configuration.admin_socket
        )
        answer = orjson.loads(reply.body)
        if not isinstance(answer, dict):
            raise ValueError("the answer is no JSON object")
    except (NoReply, ValueError) as error:
        raise CommandFailed(
            f"cannot reach the operators' listener: {error}; is the server running with these settings?"
        ) from None
    if reply.status not in (200, 202):
        raise CommandFailed(f"{safe(answer.get('message'))} {safe(answer.get('suggestion'))}")
    return answer


def _operators(configuration: Configuration) -> tuple[str, dict[str, str]]:
    """Return the URL of the operators' listener, and the headers that it requires."""
    options = configuration.operators()
    if options.socket is not None:
        return "http://localhost", {}
    if not options.port:
        raise ConfigError(
            "name the operators' listener by --admin-port or --admin-socket, as the server does"
        )
    secret_file = options.secret_file or secret_file_beside(configuration.database)
    if secret_file is None:
        raise ConfigError("there is no secret file beside this database; name it with --admin-secret-file")
    try:
        secret = secret_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"the operators' secret in {secret_file} cannot be read: {error}") from None
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{host}:{options.port}", {"Authorization": f"Bearer {secret}"}
