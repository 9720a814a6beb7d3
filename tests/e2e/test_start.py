"""Starting: what cannot work is told in one line, and every way to listen works."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openred_central.exit_codes import ExitCode
from tests.support.records import alter
from tests.support.running import WAIT_S_MAX, Client, Server, Start, run, until
from tests.support.serving import lasting_port

# Puts its own process id where the service manager would, then becomes the server.
AS_THE_SERVICE_MANAGER = (
    sys.executable,
    "-c",
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.executable, sys.argv[1:])",
    sys.executable,
    "-m",
    "openred_central",
)


# Takes away from its own process what lets an administrator into every folder (capabilities(7): both
# CAP_DAC_*), by PR_CAPBSET_DROP of prctl(2), then becomes the server. Others never had it.
WITHOUT_PRIVILEGES = (
    sys.executable,
    "-c",
    """if True:
        import ctypes, os, sys
        prctl = getattr(ctypes.CDLL(None), "prctl", None)
        for number in (1, 2) if prctl else ():
            prctl(24, number)
        os.execv(sys.executable, sys.argv[1:])
    """,
    sys.executable,
    "-m",
    "openred_central",
)


def with_room(size_bytes: int) -> tuple[str, ...]:
    """Return a command whose files cannot grow beyond so many bytes, as on a full disk."""
    limit = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size_bytes}, {size_bytes})); "
        "os.execv(sys.executable, sys.argv[1:])"
    )
    return (sys.executable, "-c", limit, sys.executable, "-m", "openred_central")


def refused(server: Server, code: int) -> str:
    """Return the one line that a server told which did not start."""
    assert server.wait() == code, server.log
    assert "Traceback" not in server.log
    (line,) = server.log.splitlines()
    return line


# Flags, variables, and what the one line has to say.
WRONG_SETTINGS: list[tuple[list[str], dict[str, str], list[str]]] = [
    (["--max-nodes", "many"], {}, ["--max-nodes", "'many'", "1 to 50000000"]),
    (["--flush-interval-s", "2h"], {}, ["--flush-interval-s", "'2h'", "0.01s to 1h"]),
    ([], {"OPENRED_GRACE_S": "-1"}, ["OPENRED_GRACE_S", "'-1'", "seconds"]),
    ([], {"OPENRED_LOG_LEVEL": "loud"}, ["OPENRED_LOG_LEVEL", "'loud'", "debug"]),
    (["--tls-key", "key.pem"], {}, ["--tls-key", "tls_certificate", "both or neither"]),
    (
        ["--heartbeat-tolerance-s", "1"],
        {"OPENRED_FLUSH_INTERVAL_S": "2"},
        ["OPENRED_FLUSH_INTERVAL_S", "2s", "--heartbeat-tolerance-s"],
    ),
]


def test_a_wrong_setting_is_reported_with_the_allowed_values(start: Start) -> None:
    servers = [start(*flags, ready=False, **variables) for flags, variables, _ in WRONG_SETTINGS]
    for server, (_, _, told) in zip(servers, WRONG_SETTINGS, strict=True):
        line = refused(server, 2)
        assert all(part in line for part in told), line


def test_an_unknown_flag_is_refused_with_the_nearest(start: Start) -> None:
    server = start("--max-node", "7", ready=False)
    assert server.wait() == 2
    assert "--max-nodes" in server.log
    assert "Traceback" not in server.log


def test_a_taken_port_is_reported(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(start("--port", str(port), ready=False), 1)
    assert f"cannot listen on 127.0.0.1, port {port}" in line


def test_a_foreign_address_is_reported(start: Start) -> None:
    hosts = ["no host", "203.0.113.1"]
    servers = [start("--host", host, database=f"{host}.db", ready=False) for host in hosts]
    for server, host in zip(servers, hosts, strict=True):
        assert f"cannot start: cannot listen on {host}, port 0: " in refused(server, 1)


def test_a_second_server_on_one_database_is_refused(start: Start) -> None:
    first = start()
    line = refused(start(ready=False), 1)
    assert "in use by another server" in line
    assert str(first.process.pid) in line
    with Client(first.address) as client:
        assert client.register("node-1").document["durable"] is True


def test_a_file_of_another_program_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (data)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert "another program" in refused(start(database="other.db", ready=False), ExitCode.CONFIG)
    (tmp_path / "text.db").write_text("Dear diary,\n" * 1_000)
    assert str(tmp_path / "text.db") in refused(start(database="text.db", ready=False), ExitCode.CONFIG)
    assert path.read_bytes() == before
    assert (tmp_path / "text.db").read_text().startswith("Dear diary")


def test_an_impossible_database_is_reported(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    # A link that leads to itself cannot be read by anybody, whatever rights the tests have.
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    wrong = {"file/nodes.db": "/file", "folder": "not a file", "loop/nodes.db": "loop"}
    servers = [start(database=database, ready=False) for database in wrong]
    servers.append(start("--database", "postgres://x", ready=False))
    for server, told in zip(servers, [*wrong.values(), "names no database"], strict=True):
        assert told in refused(server, ExitCode.CONFIG)


def test_a_database_of_a_newer_version_is_left_alone(start: Start, tmp_path: Path) -> None:
    start().stop()
    path = tmp_path / "nodes.db"
    alter(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    line = refused(start(ready=False), ExitCode.CONFIG)
    assert f"cannot start: {path} has schema version 99, this server knows versions up to" in line
    assert "start the server that wrote it" in line
    assert path.read_bytes() == before


def test_an_unreadable_folder_is_reported(start: Start, tmp_path: Path) -> None:
    start(database="there/nodes.db").stop()
    (tmp_path / "closed").mkdir()
    wrong = {"there/nodes.db": "there", "closed/nodes.db": "closed", "closed/new/nodes.db": "closed"}
    for folder in ("there", "closed"):
        (tmp_path / folder).chmod(0)
    try:
        servers = [start(database=name, command=WITHOUT_PRIVILEGES, ready=False) for name in wrong]
        for server, folder in zip(servers, wrong.values(), strict=True):
            line = refused(server, ExitCode.CONFIG)
            assert str(tmp_path / folder) in line
            assert "Permission denied; let the user of this program read and write it" in line
    finally:
        for folder in ("there", "closed"):
            (tmp_path / folder).chmod(0o700)


def assert_stopped_by(path: Path, server: Server) -> None:
    """Wait for the end of a server that may have listened before it looked at its keys."""
    assert server.wait() == ExitCode.CONFIG, server.log
    assert "Traceback" not in server.log
    assert str(path) in server.log.splitlines()[-1], server.log


def test_a_key_that_others_can_read_stops_the_start(start: Start, tmp_path: Path) -> None:
    server = start()
    with Client(server.address) as client:
        until(lambda: client.ask("GET", "/security/keys").status == 200, "the keys of a first start")
    server.stop()
    folder = tmp_path / "keys"
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)
        assert_stopped_by(path, start(ready=False))
        path.chmod(0o600)
    folder.chmod(0o755)
    assert_stopped_by(folder, start(ready=False))
    folder.chmod(0o700)
    start().stop()


def test_keys_are_made_when_they_are_needed(start: Start, tmp_path: Path) -> None:
    server = start()
    with Client(server.address) as client:
        client.register("node-1")
        assert list((tmp_path / "keys").iterdir()) == []
        assert client.ask("GET", "/").document["quantum"]["root"] is None
        root = client.ask("GET", "/security/keys").document["root"]
    server.stop()
    assert "a root key was made" in server.log
    with Client(start().address) as client:
        # Known by its file, before it is opened again.
        assert client.ask("GET", "/").document["quantum"]["root"] is not None
        assert client.ask("GET", "/security/keys").document["root"] == root


def test_a_full_disk_is_reported_and_data_stays_untouched(start: Start, tmp_path: Path) -> None:
    line = refused(start(database="new.db", command=with_room(8_192), ready=False), 1)
    assert f"cannot start: cannot open {tmp_path / 'new.db'}: " in line
    assert "no file of this server may grow beyond 8192 bytes" in line
    assert not (tmp_path / "new.db").exists()

    with Client((server := start()).address) as client:
        client.register("node-1")
    server.stop()
    path = tmp_path / "nodes.db"
    before = path.read_bytes()
    line = refused(start(command=with_room(8_192), ready=False), 1)
    assert str(path) in line
    assert "no file of this server may grow beyond 8192 bytes" in line
    assert path.read_bytes() == before
    with Client(start().address) as client:
        assert client.ask("GET", "/nodes/node-1").status == 200


def test_a_directory_in_memory_warns_that_it_keeps_nothing(start: Start) -> None:
    with Client(start("--database", "memory:").address) as client:
        assert client.register("node-1").document["durable"] is False


def test_tls_is_spoken(start: Start, certificate: tuple[Path, Path]) -> None:
    server = start("--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1]))
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with Client(server.address, context) as client:
        assert client.register("node-1").status == 201
        assert client.ask("GET", "/nodes/node-1").status == 200


def test_tls_sessions_are_resumed(start: Start, certificate: tuple[Path, Path]) -> None:
    server = start("--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1]))
    context = ssl.create_default_context(cafile=str(certificate[0]))
    session, resumed = None, []
    for _ in range(2):
        with (
            socket.create_connection(server.address, WAIT_S_MAX) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
        ):
            connection.sendall(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(9) == b"HTTP/1.1 "
            resumed.append(connection.session_reused)
            session = connection.session
    assert resumed == [False, True]


def test_missing_or_wrong_tls_files_are_reported(
    start: Start, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    files = [tmp_path / "missing.pem", certificate[0]]
    servers = [
        start("--tls-certificate", str(given), "--tls-key", str(given), database=given.name, ready=False)
        for given in files
    ]
    for given, server in zip(files, servers, strict=True):
        line = refused(server, ExitCode.CONFIG)
        assert "cannot use the certificate" in line
        assert str(given) in line


def test_a_unix_socket_is_served_beside_the_port(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = start("--unix-socket", str(path))
    assert f"unix:{path}" in server.addresses
    with Client(path) as client, Client(server.address) as other:
        assert client.register("node-1").document["observed_address"] is None
        assert other.ask("GET", "/nodes/node-1").status == 200


def test_a_unix_socket_in_use_is_reported(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        line = refused(start("--unix-socket", str(path), ready=False), 1)
    assert f"cannot listen at {path}" in line


def test_an_impossible_unix_socket_is_reported(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / "no-folder" / "socket", tmp_path / ("a" * 120)]
    servers = [
        start("--unix-socket", str(path), database=f"{number}.db", ready=False)
        for number, path in enumerate(paths)
    ]
    for server, path in zip(servers, paths, strict=True):
        assert f"cannot start: cannot listen at {path}: " in refused(server, ExitCode.CONFIG)


def test_inherited_descriptors_must_be_sockets(start: Start, tmp_path: Path) -> None:
    with handed_over_as_3(os.open(tmp_path, os.O_RDONLY)):
        server = start(command=AS_THE_SERVICE_MANAGER, pass_fds=[3], LISTEN_FDS="1", ready=False)
    assert "cannot start: descriptor 3 was passed, but it is no listening socket" in refused(
        server, ExitCode.CONFIG
    )


@contextmanager
def handed_over_as_3(descriptor: int) -> Iterator[None]:
    """Make `descriptor` number 3 for a while, and restore the former number 3 afterwards."""
    try:
        held: int | None = os.dup(3)
    except OSError:
        held = None
    os.dup2(descriptor, 3)
    os.close(descriptor)
    try:
        yield
    finally:
        if held is None:
            os.close(3)
        else:
            os.dup2(held, 3)
            os.close(held)


def test_a_socket_that_was_handed_over_is_served(start: Start) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    with handed_over_as_3(listener.detach()):
        server = start(command=AS_THE_SERVICE_MANAGER, pass_fds=[3], LISTEN_FDS="1")
    assert server.address == address
    with Client(server.address) as client:
        assert client.register("node-1").status == 201


class Loader(threading.Thread):
    """Registers nodes until the server stops; `cut_off` counts answers that were not whole."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._name = name
        self.registered: list[str] = []
        self.cut_off = 0

    def run(self) -> None:
        """Open a connection for each few requests, so that some are just being accepted when it stops."""
        number = 0
        while True:
            try:
                connection = socket.create_connection(self._server.address, timeout=30)
            except OSError:
                # Nobody listens any more.
                return
            with connection:
                for _ in range(5):
                    number += 1
                    if not self._register(connection, f"{self._name}-{number}"):
                        return

    def _register(self, connection: socket.socket, node_id: str) -> bool:
        body = f'{{"node_id":"{node_id}","address":"192.0.2.1","port":1,"public_key":"k"}}'
        head = "POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json"
        try:
            connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            received = connection.recv(65_536)
        except (BrokenPipeError, ConnectionResetError):
            # Sent when the server had closed this connection already.
            return False
        if not received:
            return False
        if b'"durable":true' not in received or not received.startswith(b"HTTP/1.1 201 "):
            self.cut_off += 1
            return False
        self.registered.append(node_id)
        return b"\r\nConnection: close" not in received


def test_a_stop_under_load_keeps_all_accepted_requests(start: Start) -> None:
    server = start("--connections-per-address-max", "1000")
    loaders = [Loader(server, f"loader-{number}") for number in range(4)]
    for loader in loaders:
        loader.start()
    until(lambda: sum(len(loader.registered) for loader in loaders) > 60, "some load")
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Traceback" not in server.log
    assert "0 connections were cut" in server.log
    for loader in loaders:
        loader.join(30)
        assert not loader.is_alive()
        assert loader.cut_off == 0
    registered = [node_id for loader in loaders for node_id in loader.registered]
    with Client(start().address) as client:
        # Every accepted connection was answered.
        assert client.ask("GET", "/stats").document["directory"]["nodes"] == len(registered)
        for begin in range(0, len(registered), 100):
            wanted = {"node_ids": registered[begin : begin + 100]}
            assert client.ask("POST", "/lookup", wanted).document["missing"] == []


def test_health_asks_a_server_where_its_flags_say(start: Start) -> None:
    port = lasting_port()
    server = start("--port", str(port))
    asked = run("health", "--live", "--process", str(server.process.pid))
    assert (asked.returncode, asked.stdout) == (0, f"http://127.0.0.1:{port} is live\n")
    # A flag of its own counts more; this test is no server.
    other = run("health", "--live", "--process", str(os.getpid()), "--port", str(port))
    assert (other.returncode, other.stdout) == (0, asked.stdout)
