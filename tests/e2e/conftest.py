"""Servers and a browser for the tests of this folder. Each server has to end well when its test ends."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .browser import browser, chrome  # noqa: F401
from .running import Server

Start = Callable[..., Server]


@contextmanager
def servers_in(folder: Path) -> Iterator[Start]:
    """Lets servers be started whose files lie in `folder`; in the end, those that run have to stop well."""
    servers: list[Server] = []

    def run(*flags: str, database: str = "nodes.db", ready: bool = True, **options: Any) -> Server:
        given = ["--port", "0", "--admin-port", "off", "--database", str(folder / database), *flags]
        server = Server(folder / f"server-{len(servers) + 1}.log", given, **options)
        servers.append(server)
        return server.wait_ready() if ready else server

    try:
        yield run
    finally:
        for server in servers:
            print(f"--- log of the server with process id {server.process.pid}:\n{server.log[-20_000:]}")
        running = [server for server in servers if server.running]
        try:
            for server in running:
                server.stop()
        finally:
            for server in running:
                server.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server: flags as arguments, variables as keywords; `database` is its file's name.

    `ready=False` does not wait until it listens. Whatever the servers wrote is shown where the test fails.
    """
    with servers_in(tmp_path) as run:
        yield run


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    begins = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begins, begins + datetime.timedelta(days=9))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "certificate.pem", folder / "key.pem"
