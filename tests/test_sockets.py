"""Listening sockets and TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openred_central.sockets import address_of, inherited, listen_tcp, listen_unix, tls_context

from .micro_engine.harness import get
from .micro_engine.serving import certificate, client_of, running, serve


def test_a_free_port_is_found_and_told() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=5)
    with listener:
        host, port = address_of(listener).split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        assert not listener.getblocking()
        socket.create_connection((host, int(port))).close()


def test_an_ipv6_address_is_told_in_brackets() -> None:
    (listener,) = listen_tcp("::1", 0, backlog=5)
    with listener:
        assert address_of(listener).startswith("[::1]:")


def test_a_name_stands_for_all_its_addresses() -> None:
    listeners = listen_tcp("localhost", 0, backlog=5)
    assert {listener.getsockname()[0] for listener in listeners} <= {"127.0.0.1", "::1"}
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("host", ["::", ""])
def test_every_address_is_that_of_either_protocol_at_one_port(host: str) -> None:
    listeners = listen_tcp(host, 0, backlog=5)
    addresses = [listener.getsockname()[:2] for listener in listeners]
    (port,) = {port for _, port in addresses}
    assert {address for address, _ in addresses} == {"0.0.0.0", "::"}
    for family, local in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as client:
            client.connect((local, port))
    for listener in listeners:
        listener.close()


# In this order, and in the reverse one.
NAMED = [
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    # No machine has it: a range for documents.
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
    (97, socket.SOCK_STREAM, 6, "", ("no such protocol", 0)),
]


@pytest.mark.parametrize("found", [NAMED, NAMED[::-1]])
def test_an_address_that_the_machine_lacks_is_told_and_the_others_are_listened_on(
    found: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (listener,) = listen_tcp("localhost", 0, backlog=5)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    assert sorted(message.split(",")[0] for message in caplog.messages) == [
        "cannot listen on 2001:db8::1",
        "cannot listen on no such protocol",
    ]
    caplog.clear()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: NAMED[1:])
    with pytest.raises(OSError, match="cannot listen on localhost, port 0: "):
        listen_tcp("localhost", 0, backlog=5)
    assert caplog.messages == []


def test_an_address_of_several_that_is_taken_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = [(*each[:4], (address, port)) for each in NAMED[:1] for address in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(OSError, match="cannot listen on localhost"):
            listen_tcp("localhost", port, backlog=5)


def test_a_taken_address_is_named() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=5)
    port = listener.getsockname()[1]
    with listener, pytest.raises(OSError, match=f"127.0.0.1, port {port}"):
        listen_tcp("127.0.0.1", port, backlog=5)


@pytest.mark.parametrize("host", ["two..dots", "x" * 64, "nobody.test"])
def test_a_host_that_is_not_found_is_named_once_with_its_port(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    if host == "nobody.test":

        def not_found(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", not_found)
    with pytest.raises(OSError, match=r"Name or service not known|no host name") as caught:
        listen_tcp(host, 8000, backlog=5)
    assert str(caught.value.strerror).startswith(f"cannot listen on {host}, port 8000: ")
    assert str(caught.value.strerror).count(host) == 1
    assert (caught.value.errno or 0) > 0


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        listen_tcp("192.0.2.1", 0, backlog=5)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_unix_socket_has_the_permissions_asked_for(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "engine.sock"
    with listen_unix(path, mode=mode, backlog=5) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert address_of(listener) == f"unix:{path}"


def test_a_socket_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    listen_unix(path, backlog=5).close()
    assert path.exists()
    with listen_unix(path, backlog=5), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_at_which_somebody_listens_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with listen_unix(path, backlog=5):
        with pytest.raises(OSError, match="another process listens there"):
            listen_unix(path, backlog=5)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        listen_unix(path, backlog=5)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["no/such/folder", "x" * 200])
def test_a_path_where_nothing_can_listen_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="cannot listen at") as caught:
        listen_unix(tmp_path / name, backlog=5)
    assert str(caught.value.strerror).startswith(f"cannot listen at {tmp_path / name}: ")


def test_an_engine_serves_at_a_path(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"

    async def test() -> None:
        async with running(listeners=[listen_unix(path, backlog=5)]) as served:
            assert served.addresses == [f"unix:{path}"]
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(get("/hello/a", "Connection: close"))
            assert b'{"hello":"a","peer":""}' in await reader.read()
            writer.close()

    serve(test)


def test_tls_is_served_with_the_given_files(tmp_path: Path) -> None:
    paths = certificate(tmp_path)

    async def test() -> None:
        async with running(tls=tls_context(*paths)) as served:
            trusting = ssl.create_default_context(cafile=paths[0])
            async with client_of(served, trusting) as client:
                for target in ("/hello/a", "https://127.0.0.1/hello/a"):
                    assert (await client.ask(get(target)))[0] == 200
                status, headers, _ = await client.ask(get("/hello/b", "Connection: close"))
                assert (status, headers["connection"]) == (200, "close")
                assert await client.rest() == b""
            async with client_of(served) as plain:
                plain.writer.write(get("/hello/a"))
                assert await plain.rest() == b""

    serve(test)


def test_tls_older_than_1_2_is_not_spoken(tmp_path: Path) -> None:
    assert tls_context(*certificate(tmp_path)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        tls_context(tmp_path / "none.pem", tmp_path / "none.key")


def test_nothing_is_inherited_where_nothing_was_passed() -> None:
    assert inherited({}, 1) == []
    assert inherited({"LISTEN_PID": "2", "LISTEN_FDS": "1"}, 1) == []


@pytest.mark.parametrize("count", ["", "one", "-1", "²"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(OSError, match="LISTEN_FDS"):
        inherited({"LISTEN_PID": "1", "LISTEN_FDS": count}, 1)


# Descriptor 3 is where the service manager puts the first socket; a process of its own has it free.
INHERITING = """
import os, socket, sys
os.dup2(int(sys.argv[1]), 3)
from openred_central.micro_engine import Engine
from openred_central.sockets import inherited, address_of
try:
    (listener,) = inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, os.getpid())
except OSError as error:
    sys.stdout.write(f"refused: {error}")
else:
    listener.setblocking(True)
    client, _ = listener.accept()
    client.sendall(f"{address_of(listener)} {os.get_inheritable(3)}".encode())
    client.close()
"""


def inherit(passed: socket.socket) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INHERITING, str(passed.fileno())]
    return subprocess.Popen(command, pass_fds=[passed.fileno()], stdout=subprocess.PIPE, text=True)


def test_a_socket_of_the_service_manager_is_used() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=5)
    with listener, inherit(listener) as process:
        with socket.create_connection(listener.getsockname(), timeout=20) as client:
            assert client.recv(100).decode() == f"{address_of(listener)} False"
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_a_descriptor_that_does_not_listen_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, inherit(theirs) as process:
        output, _ = process.communicate(timeout=20)
        assert "refused" in output
        assert "no listening socket" in output


def test_a_descriptor_that_was_not_passed_is_refused() -> None:
    # Whatever is open here under that number, nobody listens on it.
    with pytest.raises(OSError, match="descriptor 3 was passed, but it is no listening socket"):
        inherited({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, 1)


def test_the_process_mask_is_put_back(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        listen_unix(tmp_path / "engine.sock", backlog=5).close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
