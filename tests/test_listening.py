"""Listening sockets, TLS, and the certificate of the public listener."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from openred_central.listening import (
    Certificate,
    StartError,
    WorkersListeners,
    address_of,
    adopted,
    certificate_of,
    inherited,
    listen_tcp,
    listen_unix,
    listeners,
    listeners_of_workers,
    tls_context,
)
from tests.support.certificates import certificate as make_certificate
from tests.support.serving import client_of, running

from .micro_engine.harness import get


def test_port_0_takes_a_free_port() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=5)
    with listener:
        host, port = address_of(listener).split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        assert not listener.getblocking()
        socket.create_connection((host, int(port))).close()


def test_ipv6_address_stands_in_brackets() -> None:
    (listener,) = listen_tcp("::1", 0, backlog=5)
    with listener:
        assert address_of(listener).startswith("[::1]:")


def test_name_stands_for_all_its_addresses() -> None:
    opened = listen_tcp("localhost", 0, backlog=5)
    assert {listener.getsockname()[0] for listener in opened} <= {"127.0.0.1", "::1"}
    for listener in opened:
        listener.close()


@pytest.mark.parametrize("host", ["::", ""])
def test_any_address_means_ipv4_and_ipv6_at_one_port(host: str) -> None:
    opened = listen_tcp(host, 0, backlog=5)
    addresses = [listener.getsockname()[:2] for listener in opened]
    (port,) = {port for _, port in addresses}
    assert {address for address, _ in addresses} == {"0.0.0.0", "::"}
    for family, local in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as client:
            client.connect((local, port))
    for listener in opened:
        listener.close()


# In this order, and in the reverse one.
NAMED = [
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    # No machine has it: a range for documents.
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
    (97, socket.SOCK_STREAM, 6, "", ("no such protocol", 0)),
]


@pytest.mark.parametrize("found", [NAMED, NAMED[::-1]])
def test_missing_address_is_logged_and_others_are_used(
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


def test_one_taken_address_of_several_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = [(*each[:4], (address, port)) for each in NAMED[:1] for address in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(OSError, match="cannot listen on localhost"):
            listen_tcp("localhost", port, backlog=5)


def test_taken_address_is_named() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=5)
    port = listener.getsockname()[1]
    with listener, pytest.raises(OSError, match=f"127.0.0.1, port {port}"):
        listen_tcp("127.0.0.1", port, backlog=5)


@pytest.mark.parametrize("host", ["two..dots", "x" * 64, "nobody.test"])
def test_unknown_host_is_named_once_with_its_port(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    if host == "nobody.test":

        def not_found(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", not_found)
    with pytest.raises(OSError, match=r"Name or service not known|not a host name") as caught:
        listen_tcp(host, 8000, backlog=5)
    assert str(caught.value.strerror).startswith(f"cannot listen on {host}, port 8000: ")
    assert str(caught.value.strerror).count(host) == 1
    assert (caught.value.errno or 0) > 0


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        listen_tcp("192.0.2.1", 0, backlog=5)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_unix_socket_has_the_given_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "engine.sock"
    with listen_unix(path, mode=mode, backlog=5) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert address_of(listener) == f"unix:{path}"


def test_socket_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    listen_unix(path, backlog=5).close()
    assert path.exists()
    with listen_unix(path, backlog=5), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_socket_of_a_running_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with listen_unix(path, backlog=5):
        with pytest.raises(OSError, match="another process listens there"):
            listen_unix(path, backlog=5)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_file_in_place_of_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="other than a socket"):
        listen_unix(path, backlog=5)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["no/such/folder", "x" * 200])
def test_unusable_path_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="cannot listen at") as caught:
        listen_unix(tmp_path / name, backlog=5)
    assert str(caught.value.strerror).startswith(f"cannot listen at {tmp_path / name}: ")


async def test_engine_serves_at_a_path(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"

    async with running(listeners=[listen_unix(path, backlog=5)]) as served:
        assert served.addresses == [f"unix:{path}"]
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(get("/hello/a", "Connection: close"))
        assert b'{"hello":"a","peer":""}' in await reader.read()
        writer.close()


async def test_engine_serves_tls_with_the_given_files(tmp_path: Path) -> None:
    paths = make_certificate(tmp_path)

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


def test_tls_is_1_2_at_least(tmp_path: Path) -> None:
    assert tls_context(*make_certificate(tmp_path)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_missing_certificate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        tls_context(tmp_path / "none.pem", tmp_path / "none.key")


def test_nothing_is_inherited_if_nothing_was_passed() -> None:
    assert inherited({}, 1) == []
    assert inherited({"LISTEN_PID": "2", "LISTEN_FDS": "1"}, 1) == []


@pytest.mark.parametrize("count", ["", "one", "-1", "²"])
def test_count_that_is_no_number_is_refused(count: str) -> None:
    with pytest.raises(OSError, match="LISTEN_FDS"):
        inherited({"LISTEN_PID": "1", "LISTEN_FDS": count}, 1)


# Descriptor 3 is where the service manager puts the first socket; a process of its own has it free.
INHERITING = """
import os, socket, sys
os.dup2(int(sys.argv[1]), 3)
from openred_central.micro_engine.engine import Engine
from openred_central.listening import inherited, address_of
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


def test_socket_of_the_service_manager_is_used() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=5)
    with listener, inherit(listener) as process:
        with socket.create_connection(listener.getsockname(), timeout=20) as client:
            assert client.recv(100).decode() == f"{address_of(listener)} False"
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_descriptor_that_does_not_listen_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, inherit(theirs) as process:
        output, _ = process.communicate(timeout=20)
        assert "refused" in output
        assert "no listening socket" in output


def test_descriptor_that_was_not_passed_is_refused() -> None:
    # No process listens on whatever is open here under that number.
    with pytest.raises(OSError, match="descriptor 3 was passed, but it is no listening socket"):
        inherited({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, 1)


def test_umask_of_the_process_is_restored(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        listen_unix(tmp_path / "engine.sock", backlog=5).close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


# The public listener


def listening(host: str = "127.0.0.1", port: int = 0, unix_socket: str = "") -> list[socket.socket]:
    return listeners(host, port, unix_socket, backlog=5, environment={}, process_id=os.getpid())


def test_server_listens_on_address_and_path(tmp_path: Path) -> None:
    opened = listening(unix_socket=str(tmp_path / "socket"))
    assert [listener.family for listener in opened] == [socket.AF_INET, socket.AF_UNIX]
    for listener in opened:
        listener.close()


def test_taken_address_fails_the_start_in_one_line() -> None:
    (taken,) = listening()
    with taken, pytest.raises(StartError, match=r"127\.0\.0\.1, port"):
        listening(port=taken.getsockname()[1])


def test_unusable_path_leaves_the_address_free(tmp_path: Path) -> None:
    (free,) = listening()
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(StartError):
        listening(port=port, unix_socket=str(tmp_path / "missing" / "socket"))
    (again,) = listening(port=port)
    again.close()


def test_wrongly_passed_sockets_fail_the_start_in_one_line() -> None:
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": "many"}
    with pytest.raises(StartError, match="LISTEN_FDS is 'many'"):
        listeners("127.0.0.1", 0, "", backlog=5, environment=environment, process_id=7)


# The public listener of several workers


def listening_for(
    workers: int, host: str = "127.0.0.1", port: int = 0, unix_socket: str = ""
) -> WorkersListeners:
    return listeners_of_workers(
        workers, host, port, unix_socket, backlog=50, environment={}, process_id=os.getpid()
    )


def accepted(listener: socket.socket) -> int:
    """Return how many connections waited at `listener`, closed by now."""
    for count in range(1000):
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError("connections come for ever")


def test_each_worker_has_sockets_of_its_own_at_one_port() -> None:
    opened = listening_for(3, "::")
    assert opened.shared == []
    groups = [[listener.getsockname()[:2] for listener in group] for group in opened.own]
    assert groups[0] == groups[1] == groups[2]
    assert {host for host, _ in groups[0]} == {"0.0.0.0", "::"}
    (port,) = {port for _, port in groups[0]}
    assert port > 0
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    counts = [sum(map(accepted, group)) for group in opened.own]
    assert sum(counts) == 60
    assert all(counts)
    assert not any(listener.getblocking() for group in opened.own for listener in group)
    for client in clients:
        client.close()
    opened.close()
    listening(port=port)[0].close()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_two_servers_never_share_a_port(workers: int) -> None:
    opened = listening_for(workers)
    port = opened.own[0][0].getsockname()[1]
    for open_again in (listening_for, lambda _, port: listening(port=port)):
        with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1, port {port}: "):
            open_again(2, port=port)  # type: ignore[operator]
    opened.close()
    (single,) = listening(port=port)
    with single, pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1, port {port}: "):
        listening_for(2, port=port)


def test_workers_share_the_socket_at_a_path(tmp_path: Path) -> None:
    opened = listening_for(2, unix_socket=str(tmp_path / "socket"))
    assert [listener.family for group in opened.own for listener in group] == [socket.AF_INET] * 2
    assert [address_of(listener) for listener in opened.shared] == [f"unix:{tmp_path / 'socket'}"]
    opened.close()


def test_path_that_fails_leaves_the_address_of_workers_free(tmp_path: Path) -> None:
    opened = listening_for(2)
    port = opened.own[0][0].getsockname()[1]
    opened.close()
    with pytest.raises(StartError, match="cannot listen at"):
        listening_for(2, port=port, unix_socket=str(tmp_path / "missing" / "socket"))
    listening_for(2, port=port).close()


def test_workers_share_the_sockets_of_the_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    (passed,) = listening()
    address = address_of(passed)
    descriptor = passed.detach()
    monkeypatch.setattr("openred_central.listening.LISTEN_FDS_START", descriptor)
    opened = listeners_of_workers(
        2, "127.0.0.1", 0, "", backlog=5, environment={"LISTEN_PID": "7", "LISTEN_FDS": "1"}, process_id=7
    )
    assert opened.own == [[], []]
    assert [address_of(listener) for listener in opened.shared] == [address]
    opened.close()


def test_passed_sockets_are_adopted() -> None:
    (listener,) = listening()
    copy = listener.dup()
    listener.setblocking(True)
    address = address_of(listener)
    (same,) = adopted([listener.detach()])
    with same, copy:
        assert address_of(same) == address
        assert not same.getblocking()
        assert not os.get_inheritable(same.fileno())


def test_descriptor_of_a_connection_is_not_adopted() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for descriptor in (ours.fileno(), 9_999):
            with pytest.raises(
                OSError, match=f"descriptor {descriptor} was passed, but it is no listening socket"
            ):
                adopted([descriptor])
        theirs.sendall(b"still open")
        assert ours.recv(10) == b"still open"


def test_no_certificate_means_no_tls() -> None:
    assert certificate_of("", "") is None


def test_unusable_certificate_is_named_with_its_key(tmp_path: Path) -> None:
    wrong = tmp_path / "chain.pem"
    wrong.write_text("no certificate")
    for certificate in (str(wrong), str(tmp_path / "missing.pem")):
        with pytest.raises(
            StartError, match=f"cannot use the certificate {certificate} with the key key.pem"
        ):
            certificate_of(certificate, "key.pem")


def test_certificate_knows_its_end_and_is_renewed(tmp_path: Path) -> None:
    paths = make_certificate(tmp_path)
    certificate = Certificate(*map(str, paths))
    assert certificate.expires_at == datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    before = certificate.context
    paths[1].write_text("no key")
    with pytest.raises(StartError):
        certificate.renew()
    assert certificate.context is before
    make_certificate(tmp_path)
    certificate.renew()
    assert certificate.context is not before


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_key_is_refused(tmp_path: Path, form: PrivateFormat) -> None:
    certificate, key = make_certificate(tmp_path)
    plain = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(plain.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"x")))
    with pytest.raises(StartError, match=r"key\.pem: the key is encrypted; write it without a passphrase"):
        Certificate(str(certificate), str(key))
