"""The seed of everything random, the profiles of hypothesis, the loops of coroutine tests, and no skipping.

Environment: `OPENRED_SEED` repeats a run that failed; `OPENRED_PROFILE=soak` lets hypothesis try a hundred
times as many examples; `OPENRED_NO_SKIP=1` makes a test fail that would be skipped.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import uvloop

if TYPE_CHECKING:
    from tests.support.postgres import Bench, PgServer

# Taken out at once: no server under test may read the settings of the person at the keyboard.
ENVIRONMENT = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENRED_")}

# A shell lets what it starts in the background ignore Ctrl-C, and so would all programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

SEED = int(ENVIRONMENT.get("OPENRED_SEED") or secrets.randbits(32))
NO_SKIP = ENVIRONMENT.get("OPENRED_NO_SKIP", "") not in ("", "0")

# No deadline and no "too slow": a test must not depend on the speed of the machine. Without `derandomize`,
# hypothesis would try the same examples for ever where it finds itself in continuous integration.
hypothesis.settings.register_profile(
    "quick",
    max_examples=50,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("soak", hypothesis.settings.get_profile("quick"), max_examples=5_000)
PROFILE = ENVIRONMENT.get("OPENRED_PROFILE", "quick")
SOAK = PROFILE == "soak"
hypothesis.settings.load_profile(PROFILE)


@pytest.fixture
def seed() -> int:
    """Return the seed of this run, for `random.Random(seed)`. Printed beside the test if it fails."""
    print(f"repeat with OPENRED_SEED={SEED}")
    return SEED


@pytest.fixture(scope="session")
def postgres_bench() -> Iterator[Bench]:
    """Yield what makes PostgreSQL servers: `postgres_bench.server()`. All of them end with the session."""
    from tests.support.postgres import Bench  # noqa: PLC0415

    with Bench() as bench:
        yield bench


@pytest.fixture(scope="session")
def postgres(postgres_bench: Bench) -> PgServer:
    """Return the PostgreSQL server that tests share; stop and change others, of `postgres_bench`."""
    return postgres_bench.server()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores of this process wait longer for PostgreSQL than those of a server do."""
    from openred_central.storage.postgres import connecting, store, writing  # noqa: PLC0415
    from tests.support.postgres_store import PATIENCE_S  # noqa: PLC0415

    monkeypatch.setattr(connecting, "HOST_TIMEOUT_S", PATIENCE_S)
    for module in (store, writing):
        monkeypatch.setattr(module, "RENEW_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(writing, "WRITE_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def database_url(postgres: PgServer, patience: None) -> Iterator[str]:
    """Yield the URL of a new database on the shared server."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url.rpartition("/")[2])


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let hypothesis draw by the seed of this run, so that repeating the run repeats its examples."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = SEED


# Only a test that hangs takes so long.
TEST_S_MAX = 120.0
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run coroutine tests on uvloop, as the server runs; those marked `both_loops` on asyncio's loop, too."""
    return LOOPS if item.get_closest_marker("both_loops") else {"uvloop": LOOPS["uvloop"]}


def pytest_itemcollected(item: pytest.Item) -> None:
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = bounded(item.obj)


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return `test` as a coroutine that fails instead of hanging."""

    @functools.wraps(test)
    async def within(*args: Any, **fixtures: Any) -> None:
        async with asyncio.timeout(TEST_S_MAX):
            await test(*args, **fixtures)

    return within


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"seed {SEED}: repeat with OPENRED_SEED={SEED}")


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the report of a skipped test, or of one that was expected to fail, into a failure."""
    if NO_SKIP and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} did not run to its end ({reason}). Here every test must."


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report)
    return report
