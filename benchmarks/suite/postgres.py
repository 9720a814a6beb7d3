"""A PostgreSQL for the instances of a cluster: made on loopback, and removed in the end."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

from .. import machine
from .servers import LOG_SHOWN, LOOK_S, START_S_MAX, ServerError, free_port, stop

# PostgreSQL refuses to run as root: then another user owns its processes and files.
UNPRIVILEGED = 65_534
SUPERUSER = "postgres"
INSTALLED = Path("/usr/lib/postgresql")


class Postgres(NamedTuple):
    """A server that answers: the folder of its programs, and its port."""

    programs: Path
    port: int

    def create(self, database: str) -> str:
        """Create a database and return its URL. Raises `CalledProcessError`."""
        _run(self.programs / "createdb", *_place(self.port), "-U", SUPERUSER, database)
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"


def programs(installed: Path = INSTALLED) -> Path | None:
    """Return the folder with the programs of the newest PostgreSQL; None without one."""
    found = [path.parent for path in installed.glob("*/bin/initdb")]
    return max(
        found, key=lambda folder: [int(digits) for digits in re.findall(r"\d+", str(folder))], default=None
    )


def missing() -> str:
    """Return why no cluster can start here, in one line; nothing if it can."""
    if importlib.util.find_spec("asyncpg") is None:
        return "asyncpg is missing; pip install 'openred-central[postgres]'"
    if programs() is None:
        return f"PostgreSQL is missing: there is no {INSTALLED}/*/bin/initdb; apt install postgresql"
    return ""


@contextmanager
def running(cores: frozenset[int]) -> Iterator[Postgres]:
    """Run a server that waits for the disk with each commit. Raises `ServerError`, `CalledProcessError`."""
    binaries, port = programs(), free_port()
    assert binaries is not None, missing()
    with tempfile.TemporaryDirectory(prefix="openred-bench-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
        data, log = folder / "data", folder / "log"
        _run(
            binaries / "initdb", "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "-D", data
        )
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on",
        }
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with machine.on_cores(cores), log.open("wb") as output:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                **_as_user(),
            )
        try:
            _wait_until_ready(binaries, port, process, log)
            yield Postgres(binaries, port)
        finally:
            # A fast shutdown: clients are sent away.
            stop(process, signal.SIGINT)


def _wait_until_ready(binaries: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_s = perf_counter() + START_S_MAX
    while perf_counter() < ends_s and process.poll() is None:
        if subprocess.run([binaries / "pg_isready", "-q", *_place(port)], check=False).returncode == 0:
            return
        sleep(LOOK_S)
    raise ServerError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-LOG_SHOWN:]}")


def _place(port: int) -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(port)]


def _run(program: Path, *arguments: str | Path) -> None:
    subprocess.run([program, *arguments], check=True, capture_output=True, cwd="/", **_as_user())


def _as_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
