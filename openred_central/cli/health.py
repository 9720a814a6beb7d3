"""`health`: asks a running server how it is, for people, scripts and containers."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path, PurePath
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ..settings.config import SETTINGS, Configuration

TIMEOUT_S: Final = 5.0
LIVE: Final = "/health/live"
READY: Final = "/health/ready"
PROCESSES: Final = Path("/proc")
# Names of the program in a command line: as a script, and behind `-m`.
PROGRAMS: Final = ("openred-central", "openred_central")


class Health(NamedTuple):
    """Whether all is well, and one line that says it."""

    well: bool
    line: str


def own_url(configuration: Configuration) -> str:
    """Where the server with these settings is reached from its own machine."""
    everywhere = configuration.host in ("", "0.0.0.0", "::")
    host = "127.0.0.1" if everywhere else configuration.host
    scheme = "https" if configuration.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{configuration.port}"


def flags_of(process_id: str, processes: Path = PROCESSES) -> dict[str, str]:
    """The settings, name → text, that the command line of the server with this process id gives.

    For a health check in a container, which has the variables of the server and not its flags. `processes` is
    where the system tells of processes (proc(5)). None are found where that process runs no server: in a
    container whose first process is another, the variables have to do.
    """
    try:
        written = (processes / process_id / "cmdline").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return {}
    words = iter(written.split("\0"))
    names = {setting.flag: setting.name for setting in SETTINGS.values()}
    found: dict[str, str] = {}
    # An interpreter may stand before the program, and an init process before that.
    if not any(PurePath(word).name in PROGRAMS for word in words):
        return found
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in names:
            found[names[flag]] = value if equals else next(words, "")
    return found


def ask_server(configuration: Configuration, url: str | None, *, live: bool) -> Health:
    """Ask the server at `url`, by default the one with these settings, whether it is ready, or `live`.

    Raises `ValueError` where `url` is none.
    """
    try:
        return ask(url or own_url(configuration), LIVE if live else READY, verified=bool(url))
    except ValueError as error:
        raise ValueError(f"--url: {error}") from error


def ask(url: str, path: str, *, verified: bool, timeout_s: float = TIMEOUT_S) -> Health:
    """Ask the server at `url` for `path`: `LIVE`, that it answers, or `READY`, that it takes changes too.

    Over TLS its certificate has to be good where `verified`; it is not verified where a server is asked by
    the address of its own machine, for which no certificate is made out.

    Raises `ValueError` where `url` is none.
    """
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or not parts.netloc.isascii()
    ):
        raise ValueError(f"{url!r} is no address of a server, allowed is one such as http://127.0.0.1:8000")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers={"Connection": "close"})
        response = connection.getresponse()
    except ConnectionRefusedError:
        return Health(False, f"nobody answers at {url}: connection refused; is the server running there?")
    except (OSError, http.client.HTTPException) as error:
        return Health(False, f"no answer from {url}: {error or type(error).__name__}")
    finally:
        connection.close()
    word = "ready" if path == READY else "live"
    if response.status == 200:
        return Health(True, f"{url} is {word}")
    return Health(False, f"{url} is not {word}: it answers {path} with {response.status} {response.reason}")
