"""The contestants: how each starts, which requests it takes, and why it may be missing here."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .databases import Databases

OURS = "ours"
LIMITED = "ours, limits on"
PROXIED = "ours, behind a proxy"
LOGGED = "ours, access log of 1 %"
WORKERS = "ours, 2 workers"
OURS_TLS = "ours, over TLS"
BARE = "bare uvloop"
BARE_CLOSING = "bare uvloop, closing"
ENGINE = "our engine, plain"
GRANIAN = "Granian"
AIOHTTP = "aiohttp"
FASTAPI = "FastAPI"
FASTWSGI = "fastwsgi"
BJOERN = "bjoern"
NGINX = "nginx, constant"
NGINX_TLS = "nginx, over TLS"
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
        listen 127.0.0.1:{port}{tls} backlog=4096;
        {certificate}
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


# Heartbeats of one node may come as often as the load sends them; every other limit is as by default.
_LIMITED = {"rate-limit-exempt": "", "limit-heartbeat": "1000000/1s"}


# Loopback is exempt from the limits by address.
UNLIMITED = {
    "max-nodes": "20000000",
    "rate-limit-exempt": "127.0.0.0/8,::1/128",
    "connections-max": "20000",
}


def ours(place: Place) -> list[str]:
    """Return the command of our server, which exempts loopback from the limits by address."""
    database = place.folder / "openred.db"
    if place.nodes and not database.exists():
        place.databases.copy(place.nodes, database)
    settings = {
        "port": str(place.port),
        "admin-port": "off",
        "database": str(database),
        **UNLIMITED,
        **place.settings,
    }
    return [sys.executable, "-m", "openred_central", "serve", *flags(settings)]


def flags(settings: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


def _ours_with(settings: dict[str, str], *, tls: bool = False) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        certificate = {}
        if tls:
            paths = new_certificate(place.folder)
            certificate = {"tls-certificate": str(paths[0]), "tls-key": str(paths[1])}
        return ours(place._replace(settings={**settings, **certificate, **place.settings}))

    return command


def new_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of an ECDSA key (P-256) in `folder`; return its path and that of the key."""
    certificate, key = folder / "tls.pem", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=localhost", "-days", "30", "-out", str(certificate), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return certificate, key


def _peer(module: str, *flags: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        given = ["--port", str(place.port), "--nodes", str(place.nodes), *flags]
        return [sys.executable, "-m", f"benchmarks.peers.{module}", *given]

    return command


def _nginx_tls(place: Place) -> list[str]:
    certificate, key = new_certificate(place.folder)
    return _nginx(
        place, " ssl", f"ssl_protocols TLSv1.3; ssl_certificate {certificate}; ssl_certificate_key {key};"
    )


def _nginx(place: Place, tls: str = "", certificate: str = "") -> list[str]:
    configuration = place.folder / "nginx.conf"
    configuration.write_text(
        NGINX_CONFIGURATION.format(
            user=pwd.getpwuid(os.getuid()).pw_name,
            folder=place.folder,
            port=place.port,
            tls=tls,
            certificate=certificate,
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


def _needs_built(module: str, beside: str = "") -> Callable[[], str]:
    """Return what says why a peer is missing that is in no extra, because it is built on installation."""
    built = f"{module} is not installed; with a compiler: pip install {module}{beside}"
    return lambda: "" if importlib.util.find_spec(module) else built


def _needs_program(name: str, package: str) -> Callable[[], str]:
    return lambda: "" if _program(name) else f"{name} is not installed; on Debian: apt install {package}"


HEARTBEATS = {kind: kind for kind in ("heartbeat", "own_heartbeat", "proxied")}
HTTP_KINDS = {**HEARTBEATS, **{kind: kind for kind in ("discover", "discover_varied", "register")}}

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant(OURS, ours, _present, {**HTTP_KINDS, "look_up": "look_up", "root": "root"}),
        Contestant(LIMITED, _ours_with(_LIMITED), _present, HTTP_KINDS),
        Contestant(PROXIED, _ours_with({**_LIMITED, "trusted-proxies": "127.0.0.1"}), _present, HTTP_KINDS),
        Contestant(LOGGED, _ours_with({"access-log": "0.01"}), _present, HTTP_KINDS),
        Contestant(WORKERS, _ours_with({"workers": "2"}), _present, HTTP_KINDS),
        Contestant(OURS_TLS, _ours_with({}, tls=True), _present, HTTP_KINDS),
        # Answers once for each piece of data, not for each request.
        Contestant(BARE, _peer("bare"), _present, HTTP_KINDS, pipelines=False),
        Contestant(BARE_CLOSING, _peer("bare", "--closing"), _present, HTTP_KINDS, pipelines=False),
        Contestant(ENGINE, _peer("engine_app"), _present, HTTP_KINDS),
        Contestant(GRANIAN, _peer("granian_app"), _needs("granian"), HTTP_KINDS),
        Contestant(AIOHTTP, _peer("aiohttp_app"), _needs("aiohttp"), HTTP_KINDS),
        Contestant(FASTAPI, _peer("fastapi_app"), _needs("fastapi", "uvicorn", "httptools"), HTTP_KINDS),
        Contestant(
            FASTWSGI,
            _peer("wsgi_app", "--server", "fastwsgi"),
            _needs_built("fastwsgi", " 'setuptools<81'"),
            HTTP_KINDS,
        ),
        Contestant(
            BJOERN,
            _peer("wsgi_app", "--server", "bjoern"),
            _needs_built("bjoern", "; it needs libev-dev"),
            HTTP_KINDS,
            pipelines=False,
        ),
        Contestant(NGINX, _nginx, _needs_program("nginx", "nginx-light"), HEARTBEATS),
        Contestant(NGINX_TLS, _nginx_tls, _needs_program("nginx", "nginx-light"), HEARTBEATS),
        Contestant(
            STDISCOSRV,
            _stdiscosrv,
            _needs_program("stdiscosrv", "syncthing-discosrv"),
            {"heartbeat": "announce"},
        ),
    )
}
