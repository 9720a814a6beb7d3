"""The composition root. tests/e2e shows that all parts work together."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from openred_central.exit_codes import ExitCode
from openred_central.listening import StartError
from openred_central.server.crew import Crew
from openred_central.server.lead import _until
from openred_central.server.server import _close, serve
from openred_central.server.signals import STOPPING
from openred_central.settings.config import load
from openred_central.storage.sqlite.sqlite import SqliteStore
from tests.support.maintenance import fill, take


async def test_the_server_runs_until_it_must_stop() -> None:
    stop = asyncio.Event()
    part = asyncio.create_task(asyncio.Event().wait())
    waiting = asyncio.create_task(_until(stop, [part]))  # type: ignore[list-item]
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    stop.set()
    await waiting
    part.cancel()


async def test_a_start_error_of_a_part_ends_the_server() -> None:
    async def breaks() -> None:
        raise StartError("a part broke")

    with pytest.raises(StartError, match="a part broke"):
        await _until(asyncio.Event(), [asyncio.create_task(breaks())])


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore the handlers of the signals that a stopping server ignores for good."""
    numbers = (*STOPPING, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_an_impossible_start_of_workers_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    configuration = load({"database": "postgres://x", "workers": "2"}, {})
    assert serve(configuration, make_front=partial(Crew, flags={})) == ExitCode.CONFIG
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("signals")
def test_an_impossible_start_is_one_line_and_its_exit_code(caplog: pytest.LogCaptureFixture) -> None:
    assert serve(load({"database": "postgres://x"}, {})) == ExitCode.CONFIG
    (message,) = caplog.messages
    assert message.startswith("cannot start: 'postgres://x' names no database")


@pytest.mark.usefixtures("signals")
def test_a_missing_database_with_snapshots_refuses_to_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "openred.db"
    fill(database, [])
    take(database)
    database.unlink()
    assert serve(load({"database": str(database)}, {})) == ExitCode.CONFIG
    (message,) = caplog.messages
    assert message.startswith(f"cannot start: {database} is missing, and there are snapshots of it: ")
    assert not database.exists()


def test_a_failed_close_is_no_failed_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk, SQLite cannot copy its write-ahead log into the database."""
    store = SqliteStore(tmp_path / "nodes.db")
    store.open()
    store.save_secret("name", b"value")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        _close(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (message,) = caplog.messages
    assert message.startswith(
        f"no data is lost, but the next start has more to read: cannot close {tmp_path}"
    )
    store.open()
    assert store.load_secret("name") == b"value"
    store.close()


# Few servers need these modules at all, or before a request does.
LATE = ("cryptography.hazmat", "openred_central.client", "openred_central.maintenance.verifying")


def test_a_start_imports_nothing_that_few_servers_need(tmp_path: Path) -> None:
    program = f"""if True:
        import os, signal, sys
        from openred_central.cli import main as cli
        from openred_central.tasks.notifier import Notifier

        def ready(self):
            print(sorted(set({LATE!r}) & set(sys.modules)))
            os.kill(os.getpid(), signal.SIGTERM)

        Notifier.ready = ready
        sys.exit(cli.main(["serve", "--port", "0", "--admin-port", "off", "--database", sys.argv[1]]))
        """
    command = [sys.executable, "-c", program, str(tmp_path / "nodes.db")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stdout) == (0, "[]\n"), finished.stderr
