"""The server within the walls that its unit puts up around it, as far as they can be had without systemd."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from openred_central.cli.systemd_unit import service_unit
from openred_central.settings.config import load
from tests.support.running import Client, Server, Start, until

from . import system_calls
from .test_operators import scrape, tcp

# prctl(2): no memory is ever both writable and executable, nor becomes executable once it was writable.
# Kernels before 6.3 do not know it, and the call fails. It stays in force in the program that takes over.
WITHOUT_WRITABLE_CODE = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.executable, sys.argv[1:])",
    sys.executable,
    "-m",
    "openred_central",
)


def test_the_server_needs_no_memory_that_is_writable_and_executable(start: Start, tmp_path: Path) -> None:
    """As `MemoryDenyWriteExecute` has it, with all three libraries and SQLite in use."""
    server = start("--probe", "tcp", "--snapshot-interval-s", "0.05", command=WITHOUT_WRITABLE_CODE)
    with Client(server.address) as client:
        claim = client.register("alice").document["claim"]
        assert client.register("alice", claim=claim, port=9).status == 200
        assert client.ask("POST", "/heartbeat/alice").status == 200
        assert client.ask("GET", "/stats").status == 200
    if sys.platform == "linux":
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "uvloop" in maps
        assert not re.search(r"^\S+ .w.x|^\S+ .wx", maps, re.MULTILINE)


# Closes its standard descriptors, and becomes the server.
WITHOUT_DESCRIPTORS = (
    "import os, sys; [os.close(each) for each in range(3)]; os.execv(sys.argv[1], sys.argv[1:])"
)


def test_the_server_serves_without_standard_descriptors(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = (sys.executable, "-c", WITHOUT_DESCRIPTORS, sys.executable, "-m", "openred_central")
    server = start("--unix-socket", str(path), ready=False, command=command)
    until(lambda: accepts(path), "the server to listen")
    with Client(path) as client:
        assert client.register("alice").status == 201
    server.stop()
    assert server.log == ""


def accepts(path: Path) -> bool:
    """Return whether somebody listens at a socket; it is there a moment before."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def test_the_server_writes_nowhere_but_beside_its_database(start: Start, tmp_path: Path) -> None:
    """As `ProtectSystem=strict` has it: its other folders are read-only, and nothing is made in them."""
    (tmp_path / "state").mkdir()
    others = [tmp_path / "home", tmp_path / "tmp"]
    for folder in others:
        folder.mkdir()
    server = start(
        *("--snapshot-interval-s", "0.05"),
        database="state/nodes.db",
        HOME=str(others[0]),
        TMPDIR=str(others[1]),
        PYTHONDONTWRITEBYTECODE="1",
    )
    with Client(server.address) as client:
        for number in range(20):
            client.register(f"node-{number}")
    server.stop()
    assert [list(folder.iterdir()) for folder in others] == [[], []]
    assert {entry.name for entry in tmp_path.iterdir()} == {"state", "home", "tmp", "server-1.log"}
    assert os.listdir(tmp_path / "state")


def assert_filtered(command: tuple[str, ...]) -> None:
    """Fail where the filter refuses nothing: the test below would then show nothing."""
    lowers = "import os; os.setpriority(os.PRIO_PROCESS, 0, 19)"
    run = subprocess.run([*command[:-2], "-c", lowers], capture_output=True, timeout=60, check=False)
    assert b"PermissionError" in run.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_server_makes_no_system_call_that_its_unit_refuses(
    start: Start, tmp_path: Path, certificate: tuple[Path, Path], workers: str
) -> None:
    """As `SystemCallFilter` has it, through all that a server does."""
    unit = service_unit(load({}, {}), sys.executable)
    allowed = system_calls.allowed_by(re.findall("^SystemCallFilter=(.*)$", unit, re.MULTILINE))
    if allowed is None:
        # The threads' own tests say what a refused call does, on a machine without systemd.
        return
    command = system_calls.command(allowed)
    assert_filtered(command)
    tls = ("--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1]))
    sockets = ("--unix-socket", str(tmp_path / "s"), "--admin-socket", str(tmp_path / "operators"))
    flags = ("--probe", "tcp", "--heartbeat-tolerance-s", "2", "--admin-port", "0", "--workers", workers)
    server: Server = start(*flags, *tls, *sockets, command=command)
    with Client(tmp_path / "s") as client, Client(tmp_path / "operators") as operator:
        claim = client.register("alice").document["claim"]
        assert client.register("alice", claim=claim, port=9).status == 200
        assert client.ask("POST", "/heartbeat/alice").status == 200
        until(lambda: client.ask("GET", "/security/keys").status == 200, "the keys of a first start")
        assert operator.ask("POST", "/admin/snapshot").document["nodes"] == 1
        assert operator.ask("POST", "/admin/keys/rotate").status == 200
        assert "process_open_fds" in scrape(tcp(server))
    server.stop()
    assert "Errno 1]" not in server.log
    # A second start has everything to read.
    start(*tls, command=command).stop()
