"""The contestants: how each starts, which requests it takes, and why it may be missing here."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .databases import Databases

OURS = "ours"
BARE = "bare uvloop"
ENGINE = "our engine, plain"
GRANIAN = "Granian"
AIOHTTP = "aiohttp"
FASTAPI = "FastAPI"
NGINX = "nginx, constant"
STDISCOSRV = "stdiscosrv"

NGINX_CONFIGURATION = """
user {user};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type application/json;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""


class Place(NamedTuple):
    """Where a contestant runs: its port, its own folder, its nodes at the start, settings for our server."""

    port: int
    folder: Path
    nodes: int
    databases: Databases
    settings: dict[str, str]


class Contestant(NamedTuple):
    """`kinds`: kind of request → the kind to send instead. `missing` returns why it cannot start."""

    name: str
    command: Callable[[Place], list[str]]
    missing: Callable[[], str]
    kinds: dict[str, str]
    pipelines: bool = True


def ours(place: Place) -> list[str]:
    """Return the command of our server, which exempts loopback from the limits by address."""
    database = place.folder / "openred.db"
    if place.nodes and not database.exists():
        place.databases.copy(place.nodes, database)
    settings = {
        "port": str(place.port),
        "admin-port": "off",
        "database": str(database),
        "max-nodes": "20000000",
        "rate-limit-exempt": "127.0.0.0/8,::1/128",
        "connections-max": "20000",
        **place.settings,
    }
    return [sys.executable, "-m", "openred_central", "serve", *flags(settings)]


def flags(settings: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


def _peer(module: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        given = ["--port", str(place.port), "--nodes", str(place.nodes)]
        return [sys.executable, "-m", f"benchmarks.peers.{module}", *given]

    return command


def _nginx(place: Place) -> list[str]:
    configuration = place.folder / "nginx.conf"
    configuration.write_text(
        NGINX_CONFIGURATION.format(
            user=pwd.getpwuid(os.getuid()).pw_name,
            folder=place.folder,
            port=place.port,
            # The length of an answer to a heartbeat.
            answer="x" * 270,
        )
    )
    return [_program("nginx") or "nginx", "-p", str(place.folder), "-c", str(configuration), "-e", "stderr"]


def _stdiscosrv(place: Place) -> list[str]:
    given = ["-http", "-listen", f"127.0.0.1:{place.port}", "-db-dir", str(place.folder / "discovery.db")]
    keys = ["-cert", str(place.folder / "cert.pem"), "-key", str(place.folder / "key.pem")]
    return [_program("stdiscosrv") or "stdiscosrv", *given, *keys]


def _program(name: str) -> str | None:
    # Debian installs nginx outside of the usual PATH.
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")


def _present() -> str:
    return ""


def _needs(*modules: str) -> Callable[[], str]:
    def missing() -> str:
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        return f"{', '.join(absent)} is not installed; `make bench` does that" if absent else ""

    return missing


def _needs_program(name: str, package: str) -> Callable[[], str]:
    return lambda: "" if _program(name) else f"{name} is not installed; on Debian: apt install {package}"


HTTP_KINDS = {kind: kind for kind in ("heartbeat", "discover", "register")}
HEARTBEAT = {"heartbeat": "heartbeat"}

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant(OURS, ours, _present, {**HTTP_KINDS, "look_up": "look_up", "root": "root"}),
        # Answers once for each piece of data, not for each request.
        Contestant(BARE, _peer("bare"), _present, HEARTBEAT, pipelines=False),
        Contestant(ENGINE, _peer("engine_app"), _present, HTTP_KINDS),
        Contestant(GRANIAN, _peer("granian_app"), _needs("granian"), HTTP_KINDS),
        Contestant(AIOHTTP, _peer("aiohttp_app"), _needs("aiohttp"), HTTP_KINDS),
        Contestant(FASTAPI, _peer("fastapi_app"), _needs("fastapi", "uvicorn", "httptools"), HTTP_KINDS),
        Contestant(NGINX, _nginx, _needs_program("nginx", "nginx-light"), HEARTBEAT),
        Contestant(
            STDISCOSRV,
            _stdiscosrv,
            _needs_program("stdiscosrv", "syncthing-discosrv"),
            {"heartbeat": "announce"},
        ),
    )
}
