"""The ready files for operators, read by the programs that they are for."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from openred_central.storage.keys.key_files import KeyFileError, read_secrets
from tests.support.deployment import HAPROXY, manifest, manifests
from tests.support.parts import needs_module, needs_program
from tests.support.running import WAIT_S_MAX, Server, Start, until

# The oldest version that is supported somewhere, and the newest that the schemas know of by this name.
KUBERNETES_VERSIONS = ("1.29", "1.34")
CLIENTS = tuple(f"127.0.0.{number}" for number in range(2, 14))


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_knows_every_field(version: str) -> None:
    kubernetes_validate = needs_module("kubernetes_validate")
    kinds = [each["kind"] for each in manifests()]
    assert kinds == ["Service", "Service", "PodDisruptionBudget", "StatefulSet"]
    for each in manifests():
        kubernetes_validate.validate(each, version, strict=True)


def test_pods_have_secrets_that_the_program_accepts(tmp_path: Path) -> None:
    """Kubernetes lays links, by way of a folder of that moment, to files that the group may read."""
    (first,) = manifest("StatefulSet")["spec"]["template"]["spec"]["initContainers"]
    moment = tmp_path / "given" / "..2026_11_29"
    moment.mkdir(parents=True)
    (tmp_path / "given" / "..data").symlink_to(moment.name)
    (tmp_path / "secrets").mkdir()
    (moment / "key_secret").write_text(f"{'k' * 64}\n")
    (moment / "key_secret").chmod(0o440)
    (tmp_path / "given" / "key_secret").symlink_to(Path("..data", "key_secret"))
    with pytest.raises(KeyFileError):
        read_secrets(tmp_path / "given" / "key_secret")
    command = [word.replace("/given", f"{tmp_path}/given") for word in first["command"]]
    command = [word.replace("/secrets", f"{tmp_path}/secrets") for word in command]
    subprocess.run(command, check=True, timeout=60)
    assert read_secrets(tmp_path / "secrets" / "key_secret") == [b"k" * 64]


def test_haproxy_accepts_its_file() -> None:
    haproxy = needs_program("haproxy")
    done = subprocess.run(
        [haproxy, "-c", "-f", HAPROXY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    # Names of containers are known only beside them.
    warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line]
    assert [line for line in warnings if "could not resolve address" not in line] == []


class Behind(Protocol):
    """A server behind the balancer."""

    @property
    def address(self) -> tuple[str, int]: ...


@contextmanager
def haproxy_before(servers: Sequence[Behind], folder: Path) -> Iterator[tuple[str, int]]:
    """Run HAProxy with the ready file, `servers` in place of its containers, and yield its address."""
    haproxy = needs_program("haproxy")
    text = HAPROXY.read_text(encoding="utf-8")
    # A third container is missing, as one does while it starts.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = text.replace("bind :8000", f"bind fd@{listener.fileno()}")
        for number, server in enumerate(servers, 1):
            host, port = server.address
            text = text.replace(f" openred-{number}:8000", f" {host}:{port}")
        (folder / "haproxy.cfg").write_text(text, encoding="utf-8")
        with (folder / "haproxy.log").open("wb") as log:
            process = subprocess.Popen(
                [haproxy, "-db", "-f", folder / "haproxy.cfg"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
        try:
            address: tuple[str, int] = listener.getsockname()
            yield address
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)
            print(f"--- log of HAProxy:\n{(folder / 'haproxy.log').read_text()}")


def ask(address: tuple[str, int], client: str, *paths: str) -> list[int]:
    """Return the status of the answers to these paths, over one connection from the address `client`."""
    connection = http.client.HTTPConnection(*address, timeout=WAIT_S_MAX, source_address=(client, 0))
    try:
        found = []
        for path in paths:
            # A client may write there what it likes.
            connection.request("GET", path, headers={"X-Forwarded-For": "198.51.100.7"})
            response = connection.getresponse()
            response.read()
            found.append(response.status)
        return found
    finally:
        connection.close()


def clients_of(server: Server) -> set[str]:
    """Return the addresses of clients for which the log of `server` has requests for nodes."""
    return set(re.findall(r"path=/nodes/\S+ .* client=(\S+)", server.log))


def test_haproxy_balances_by_the_address_of_the_client_and_tells_it(start: Start, tmp_path: Path) -> None:
    flags = ("--access-log", "1", "--trusted-proxies", "127.0.0.1/32")
    servers = [start(*flags, database=f"{number}.db") for number in (1, 2)]
    with haproxy_before(servers, tmp_path) as address:
        for server in servers:
            until(lambda server=server: server.log.count("/health/ready") >= 2, "checks of both instances")
        for client in CLIENTS:
            assert ask(address, client, "/nodes/a", "/nodes/b") == [404, 404]
            assert ask(address, client, "/nodes/c") == [404]

        def served() -> list[set[str]]:
            return [clients_of(server) for server in servers]

        until(lambda: set().union(*served()) == set(CLIENTS), "the logs to tell of all")
        # Both have some, and nobody came to both.
        assert all(served())
        assert set.intersection(*served()) == set()
        # Those of an instance that stops go to the other one.
        servers[0].stop()
        for client in CLIENTS:
            until(lambda client=client: ask(address, client, "/nodes/d") == [404], "the other instance")
        until(lambda: clients_of(servers[1]) == set(CLIENTS), "the log to tell of all")
