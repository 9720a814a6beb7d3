"""A real Patroni with etcd and two nodes of PostgreSQL on loopback, whose primary is killed."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from tests.support.parts import needs_program
from tests.support.postgres import SUPERUSER, Bench, PgError, as_user, kill_family, run_program
from tests.support.proxy import Proxy
from tests.support.running import until
from tests.support.serving import lasting_port

HOST = "127.0.0.1"
# A start of a node copies or rewinds; a takeover waits for the shortest lease that Patroni allows.
NODE_S_MAX = 120.0
TTL_S = 20


class Node:
    """One node: Patroni, which runs PostgreSQL. Its standby follows over `network`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port = lasting_port()
        self.rest_port = lasting_port()
        self.network = Proxy((HOST, self.port))
        self.process: subprocess.Popen[bytes] | None = None

    def says(self, path: str) -> bool:
        """Tell whether Patroni answers `path` with 200, such as ``/primary``."""
        connection = http.client.HTTPConnection(HOST, self.rest_port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def postmaster(self) -> int:
        """The process id of its PostgreSQL."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])


class Patroni:
    """The manager of a database with two nodes; it stands for the server that is the primary."""

    def __init__(self, bench: Bench, *, synchronous: bool) -> None:
        self._bench = bench
        self._synchronous = synchronous
        self.folder = Path(tempfile.mkdtemp(prefix="patroni-", dir=bench.folder))
        bench.hand_over(self.folder)
        self._command, self._environment = _patroni(self.folder)
        self._etcd_port = lasting_port()
        self._names = itertools.count(1)
        self.nodes = [self._node(name) for name in ("n1", "n2")]
        self._etcd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Patroni:
        try:
            self._start_etcd()
            for node in self.nodes:
                self.start(node)
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _node(self, name: str) -> Node:
        folder = self.folder / name
        folder.mkdir()
        self._bench.hand_over(folder)
        return Node(name, folder)

    def _begin(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"HOME": str(self.folder), "PATH": os.environ["PATH"], **self._environment},
                start_new_session=True,
                **as_user(),
            )

    def _start_etcd(self) -> None:
        client, peer = f"http://{HOST}:{self._etcd_port}", f"http://{HOST}:{lasting_port()}"
        flags: list[str | Path] = ["--data-dir", self.folder / "etcd", "--initial-cluster", f"default={peer}"]
        for name, url in (("client", client), ("peer", peer)):
            flags += [f"--listen-{name}-urls", url]
        flags += ["--advertise-client-urls", client, "--initial-advertise-peer-urls", peer]
        self._etcd = self._begin("etcd", [needs_program("etcd"), *flags])

    def _configuration(self, node: Node) -> dict[str, Any]:
        parameters = {"wal_log_hints": "on", "max_connections": 50, "shared_buffers": "16MB", "fsync": "off"}
        return {
            "scope": "openred",
            "name": node.name,
            "restapi": dict.fromkeys(("listen", "connect_address"), f"{HOST}:{node.rest_port}"),
            "etcd3": {"host": f"{HOST}:{self._etcd_port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_S,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "maximum_lag_on_failover": 1 << 40,
                    # A primary that died is not started again first: the standby takes over.
                    "primary_start_timeout": 0,
                    "synchronous_mode": self._synchronous,
                    "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}],
            },
            "postgresql": {
                "listen": f"{HOST}:{node.port}",
                "connect_address": f"{HOST}:{node.network.port}",
                "data_dir": str(node.folder / "data"),
                "bin_dir": str(self._bench.binaries),
                "pgpass": str(node.folder / "pgpass"),
                "authentication": {
                    who: {"username": SUPERUSER} for who in ("superuser", "replication", "rewind")
                },
                "pg_hba": ["local all all trust"]
                + [f"host {what} all {HOST}/32 trust" for what in ("all", "replication")],
                "parameters": {"unix_socket_directories": str(node.folder)},
            },
        }

    def start(self, node: Node) -> None:
        """Start Patroni at a node; it starts, or takes over, PostgreSQL."""
        file = node.folder / "patroni.json"
        # JSON is YAML.
        file.write_bytes(orjson.dumps(self._configuration(node)))
        node.process = self._begin(node.name, [*self._command, file])

    def wait_ready(self) -> None:
        """Wait for a primary whose standby follows it, and can be promoted without loss if so set up."""
        path = "/sync" if self._synchronous else "/replica?lag=0"
        until(lambda: any(node.says("/primary") for node in self.nodes), "a primary", NODE_S_MAX)
        until(lambda: any(node.says(path) for node in self.nodes), "a standby", NODE_S_MAX)

    @property
    def primary(self) -> Node | None:
        """The node that takes writes now."""
        return next((node for node in self.nodes if node.says("/primary")), None)

    @property
    def hosts(self) -> str:
        """Both nodes, as the URL of a database names them."""
        return ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def primary_node(self) -> Node:
        """Return the primary; raise `PgError` without one."""
        node = self.primary
        if node is None:
            raise PgError("no node is the primary now")
        return node

    @property
    def port(self) -> int:
        return self.primary_node().port

    def url(self, database: str, *, port: int = 0) -> str:
        """Return the URL of a database at the primary."""
        return f"postgresql://{SUPERUSER}@{HOST}:{port or self.port}/{database}"

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Return what psql prints for `sql` at the primary."""
        return self._bench.run_psql(self.url(database), sql)

    def create_database(self) -> str:
        """Create a database with a new name; return its URL."""
        name = f"openred_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database although clients may be connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def kill_primary(self, *, machine: bool) -> Node:
        """Kill all processes of the primary, with Patroni too if the `machine` dies; return the node."""
        node = self.primary_node()
        postmaster = node.postmaster
        if machine:
            assert node.process is not None
            node.process.kill()
        kill_family(postmaster)
        if machine and node.process is not None:
            node.process.wait()
        return node

    def wait_promoted(self, killed: Node) -> None:
        """Wait until the other node takes writes."""
        other = next(node for node in self.nodes if node is not killed)
        until(lambda: self._writes(other), f"{other.name} to be the primary", NODE_S_MAX)

    def _writes(self, node: Node) -> bool:
        # Patroni says so a little earlier than PostgreSQL has left its recovery.
        with contextlib.suppress(PgError):
            recovers = self._bench.run_psql(
                self.url("postgres", port=node.port), "SELECT pg_is_in_recovery()"
            )
            return node.says("/primary") and recovers == "f"
        return False

    def close(self) -> None:
        """End all of it; show what Patroni wrote."""
        for node in self.nodes:
            if node.process is not None:
                _end(node.process)
            with contextlib.suppress(OSError, ValueError, IndexError):
                kill_family(node.postmaster)
            node.network.close()
        if self._etcd is not None:
            _end(self._etcd)
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log.name}:\n{log.read_text(errors='replace')[-5_000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _patroni(folder: Path) -> tuple[list[str | Path], dict[str, str]]:
    """Return the command that runs Patroni as the user that runs PostgreSQL, and its variables.

    Interpreter and packages are copied where that user may not read them.
    """
    packages, python = Path(sysconfig.get_path("purelib")), Path(sys.executable)
    if not _readable(packages / "patroni" / "__init__.py"):
        shutil.copytree(packages, folder / "packages", ignore=shutil.ignore_patterns("__pycache__"))
        packages = folder / "packages"
    variables = {"PYTHONPATH": str(packages)}
    if not _readable(python.resolve()):
        copy = folder / "python"
        unneeded = shutil.ignore_patterns("site-packages", "test", "__pycache__", "share", "include")
        shutil.copytree(sys.base_prefix, copy, symlinks=True, ignore=unneeded)
        python = copy / "bin" / python.resolve().name
        variables["LD_LIBRARY_PATH"] = str(copy / "lib")
    run_program([python, "-c", "import patroni, psycopg"], env=variables)
    return [python, "-m", "patroni"], variables


def _readable(path: Path) -> bool:
    """Tell whether the user that runs PostgreSQL may read a file."""
    try:
        run_program(["test", "-r", path])
    except PgError:
        return False
    return True
