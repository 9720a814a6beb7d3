"""A real server in a process of its own, and clients small enough to be trusted."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tests.support.world import Reply

# Nothing here waits longer than this, however slow the machine is.
WAIT_S_MAX = 30.0
POLL_S = 0.02
READY = re.compile(r'ready: \d+ nodes from .*, listening on ([^"\n]+)')
ROOT = Path(__file__).resolve().parents[2]


# All of a test's clients have one address.
UNLIMITED = {"OPENRED_RATE_LIMIT_EXEMPT": "127.0.0.0/8,::1/128"}


def environment(**settings: str) -> dict[str, str]:
    """Return the variables for a server: ours, those of Python's, no rate limits, and `settings`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **UNLIMITED, **settings}


def until(ready: Callable[[], Any], what: str, wait_s: float = WAIT_S_MAX) -> Any:
    """Poll until `ready` returns something true, and return that."""
    ends_s = time.monotonic() + wait_s
    while not (found := ready()):
        assert time.monotonic() < ends_s, f"waited {wait_s} s in vain for {what}"
        time.sleep(POLL_S)
    return found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return subprocess.run(
        [sys.executable, "-m", "openred_central", *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def allow_descriptors(count: int) -> None:
    """Let this process, and those it starts, have `count` files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class Server:
    """One run of the server with the given flags. `log` is all that it has written so far."""

    def __init__(
        self,
        log_path: Path,
        flags: Sequence[str],
        *,
        command: Sequence[str] = (sys.executable, "-m", "openred_central"),
        pass_fds: Sequence[int] = (),
        **settings: str,
    ) -> None:
        self._log_path = log_path
        with log_path.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(**settings),
                pass_fds=tuple(pass_fds),
                cwd=log_path.parent,
            )

    @property
    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_ready(self) -> Server:
        """Wait until it listens."""
        until(lambda: READY.search(self.log) or not self.running, "the server to listen")
        assert self.running, f"the server ended:\n{self.log}"
        return self

    @property
    def addresses(self) -> list[str]:
        """The addresses of its listeners, such as ``127.0.0.1:8000`` or ``unix:/path``."""
        found = READY.search(self.log)
        assert found is not None
        return found[1].split(", ")

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.addresses[0].rpartition(":")
        return host, int(port)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Return the exit code."""
        return self.process.wait(WAIT_S_MAX)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal; it has to end well."""
        self.send_signal(number)
        code = self.wait()
        assert code == 0, f"exit code {code}\n{self.log}"
        assert "Traceback" not in self.log, self.log

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S_MAX)


Start = Callable[..., Server]


@contextlib.contextmanager
def servers_in(folder: Path) -> Iterator[Start]:
    """Let a test start servers whose files lie in `folder`; at the end, those that run must stop well."""
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


class Client:
    """One keep-alive connection that speaks JSON."""

    def __init__(self, address: tuple[str, int] | Path, tls: ssl.SSLContext | None = None) -> None:
        if isinstance(address, Path):
            self._connection = http.client.HTTPConnection("localhost", timeout=WAIT_S_MAX)
            self._connection.sock = socket.socket(socket.AF_UNIX)
            self._connection.sock.settimeout(WAIT_S_MAX)
            self._connection.sock.connect(str(address))
        elif tls is not None:
            self._connection = http.client.HTTPSConnection(*address, context=tls, timeout=WAIT_S_MAX)
        else:
            self._connection = http.client.HTTPConnection(*address, timeout=WAIT_S_MAX)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def port(self) -> int:
        """The port on this side; connect by the first request."""
        port: int = self._connection.sock.getsockname()[1]
        return port

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        """Send one request; `body` is made JSON unless it is bytes. Names of headers have ``_`` for ``-``."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            fields.setdefault("Content-Type", "application/json")
        content = body if isinstance(body, bytes | None) else orjson.dumps(body)
        return _reply(*self.fetch(method, target, content, **fields))

    def fetch(
        self, method: str, target: str, content: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; return status, headers and body of the response."""
        self._connection.request(method, target, content, headers)
        response = self._connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()

    def stream(self, target: str, **headers: str) -> http.client.HTTPResponse:
        """Send a request whose answer does not end; read it from what is returned."""
        self._connection.request("GET", target, headers=headers)
        return self._connection.getresponse()

    def register(self, node_id: str, *, claim: str | None = None, **fields: Any) -> Reply:
        """Register a node whose key is made of its name."""
        body = {"node_id": node_id, "address": "192.0.2.1", "port": 8001, "public_key": f"key of {node_id}"}
        return self.ask("POST", "/register", {**body, **fields}, **proof(claim))


def proof(claim: str | None) -> dict[str, str]:
    return {} if claim is None else {"Authorization": f"Claim {claim}"}


class Answer(NamedTuple):
    """One response as it came over a raw socket; `fields` with lower-case names."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.fields.get("connection") == "close"

    def reply(self) -> Reply:
        return _reply(self.status, {"Content-Type": self.fields.get("content-type", "")}, self.body)


def _reply(status: int, headers: dict[str, str], body: bytes) -> Reply:
    return Reply(status, orjson.loads(body) if body else None, headers.get("Content-Type"), headers)


def send(address: tuple[str, int], content: bytes, *, half_close: bool = True) -> bytes:
    """Everything that comes back for `content` until the server closes; `TimeoutError` if it never does."""
    with socket.create_connection(address, timeout=WAIT_S_MAX) as connection:
        received = b""
        # A server that has seen enough closes before all was sent; what it answered is still to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(content)
            if half_close:
                _end_input(connection)
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                received += piece
        return received


def _end_input(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        # The other side has closed it all.
        if error.errno != errno.ENOTCONN:
            raise


def answers(received: bytes) -> Iterator[Answer]:
    """`received` as responses with a Content-Length. Fails on a byte that belongs to none."""
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received
        status_line, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 ([1-5]\d\d) [ -~]+", status_line)
        assert match, received
        fields = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon, line
            assert name.lower() not in fields, line
            fields[name.lower()] = value
        length = int(fields.get("content-length", "0"))
        assert len(rest) >= length, received
        yield Answer(int(match[1]), fields, rest[:length])
        received = rest[length:]
