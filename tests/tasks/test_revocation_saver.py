"""A revocation that is reported as durable outlives a restart."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openred_central.clock import Now
from openred_central.security.refusals import LIFETIME_S_MAX
from openred_central.security.tokens.revocations import SWEPT_MAX, TOKENS_MAX, Revocations
from openred_central.storage.loading import load_revocations
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import MemoryStore, Store, StoreError
from openred_central.tasks.saver import RevocationSaver
from tests.support.clock import VirtualClock
from tests.support.records import alter, opened

TOKEN = "A" * 22
OTHER = "B" * 22
CLOCK_S = VirtualClock().monotonic_s


def at(seconds: float) -> Now:
    """Return the moment at which all clocks read `seconds`."""
    return Now(seconds, seconds, seconds)


class Here(Executor):
    """An executor that runs work at once, or fails if `fails` is set; `runs` counts."""

    def __init__(self) -> None:
        self.fails = False
        self.runs = 0

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.runs += 1
        if self.fails:
            future.set_exception(StoreError("no room"))
        else:
            future.set_result(work(*arguments))
        return future


async def test_acknowledged_revocations_survive_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "openred.db")
    store.open()
    revocations = Revocations()
    revocations.revoke(TOKEN, 200.0, at(100.0))
    revocations.revoke(OTHER, 150.0, at(100.0))
    with ThreadPoolExecutor(1) as writer:
        assert await _save(revocations, store, writer)
    store.close()
    store.open()
    assert load_revocations(store) == ({TOKEN: 200.0, OTHER: 150.0}, [])
    store.close()


async def test_one_more_in_a_full_set_is_one_row_in_the_store(tmp_path: Path) -> None:
    store, revocations = SqliteStore(tmp_path / "openred.db"), Revocations()
    store.open()
    many = {f"{number:022}": 200.0 for number in range(TOKENS_MAX - 1)}
    store.save_revocations(many)
    while store.tidy_due:
        store.tidy()
    revocations.restore(load_revocations(store)[0], 150.0 - LIFETIME_S_MAX)
    log, bytes_before = tmp_path / "openred.db-wal", 0
    with ThreadPoolExecutor(1) as writer:
        saver = RevocationSaver(revocations, store, writer, CLOCK_S, stop_timeout_s=1.0)
        # Restored revocations are stored already.
        assert await saver.save()
        bytes_before = log.stat().st_size
        revocations.revoke(TOKEN, 200.0, at(100.0))
        assert await saver.save()
    assert log.stat().st_size - bytes_before < 64 * 1_024
    assert load_revocations(store) == (many | {TOKEN: 200.0}, [])
    store.close()


async def test_expired_revocations_leave_the_store(tmp_path: Path) -> None:
    store, revocations = SqliteStore(tmp_path / "openred.db"), Revocations()
    store.open()
    store.save_revocations({f"{number:022}": 150.0 for number in range(SWEPT_MAX + 10)})
    revocations.restore(load_revocations(store)[0], 150.0 - LIFETIME_S_MAX)
    with ThreadPoolExecutor(1) as writer:
        saver = RevocationSaver(revocations, store, writer, CLOCK_S, stop_timeout_s=1.0)
        for token_id, left in ((TOKEN, 11), (OTHER, 2)):
            revocations.revoke(token_id, 300.0, at(200.0))
            assert await saver.save()
            assert len(load_revocations(store)[0]) == left
    assert load_revocations(store) == ({TOKEN: 300.0, OTHER: 300.0}, [])
    store.close()


async def _save(revocations: Revocations, store: Store, writer: Executor) -> bool:
    return await RevocationSaver(revocations, store, writer, CLOCK_S, stop_timeout_s=1.0).save()


async def test_a_failing_or_memory_store_promises_nothing() -> None:
    writer, store = Here(), MemoryStore()
    store.open()
    assert not (await _save(Revocations(), store, writer))
    writer.fails = True
    assert not (await _save(Revocations(), store, writer))


async def test_failed_revocations_are_saved_without_another_call(tmp_path: Path) -> None:
    store, writer = SqliteStore(tmp_path / "openred.db"), Here()
    store.open()
    revocations = Revocations()
    revocations.revoke(TOKEN, 200.0, at(100.0))

    saver = RevocationSaver(revocations, store, writer, CLOCK_S, stop_timeout_s=1.0, retry_s=0.001)
    writer.fails = True
    assert not await saver.save()
    assert not await saver.save()
    assert len(asyncio.all_tasks()) == 2, "this test, and one task that retries"
    writer.fails = False
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await task
    assert await saver.save()
    assert TOKEN in load_revocations(store)[0]
    assert writer.runs <= 5
    store.close()


async def test_many_at_once_share_a_write(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "openred.db")
    store.open()
    revocations = Revocations()

    async def save_many(writer: Executor) -> None:
        saver = RevocationSaver(revocations, store, writer, CLOCK_S, stop_timeout_s=1.0)
        assert all(await asyncio.gather(*(saver.save() for _ in range(50))))

    with ThreadPoolExecutor(1) as writer:
        await save_many(writer)
    here = Here()
    await save_many(here)
    assert here.runs <= 2
    store.close()


def test_a_damaged_row_is_named_and_counts_if_readable(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.save_revocations({TOKEN: 200.0, OTHER: 200.0})
    alter(
        path,
        f"UPDATE revocation SET expires_at = 9e999 WHERE token_id = '{OTHER}'",
        "INSERT INTO revocation VALUES (CAST(x'ff' AS TEXT), 200.0)",
        "INSERT INTO secret VALUES ('revocations', x'0102')",
    )
    with opened(path) as store:
        revoked, damaged = load_revocations(store)
        assert revoked == {TOKEN: 200.0, OTHER: math.inf}
        assert damaged == [
            f"the token {OTHER} is revoked and expires at inf, which is no time",
            "b'\\xff' is revoked, which is no id of a token",
            "not all revocations of an earlier version can be read, in 2 bytes",
        ]
        revocations = Revocations()
        revocations.restore(revoked, 150.0 - LIFETIME_S_MAX)
        revocations.sweep(at(1e12))
        assert OTHER in revocations, "its expiry is unknown, so it is kept"
        store.save_revocations(revocations.take_unsaved())
        assert len(store.load_revocations()) == 2, "the readable one has expired"


class Fails(MemoryStore):
    """A store that refuses revocations `failures` times."""

    durable = True

    def __init__(self, failures: float, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or StoreError("the disk is full")

    def save_revocations(self, changes: Mapping[str, float | None]) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise self.error


async def _save_then_stop(store: Store, *, stop_timeout_s: float) -> RevocationSaver:
    revocations = Revocations()
    revocations.revoke(TOKEN, 200.0, at(100.0))
    with ThreadPoolExecutor(1) as writer:
        saver = RevocationSaver(
            revocations,
            store,
            writer,
            CLOCK_S,
            stop_timeout_s=stop_timeout_s,
            retry_s=0.001,
        )
        assert not await saver.save()
        await saver.finish()
    return saver


@pytest.mark.parametrize("error", [StoreError("the disk is full"), RuntimeError("no thread"), ValueError()])
async def test_finish_stores_the_rest(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    store = Fails(3, error)
    saver = await _save_then_stop(store, stop_timeout_s=60.0)
    assert store.failures == -1, "it was tried until it succeeded"
    assert not saver.gave_up
    assert "gave up" not in caplog.text


async def test_finish_gives_up_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saver = await _save_then_stop(Fails(float("inf")), stop_timeout_s=0.05)
    assert saver.gave_up
    assert "gave up saving the last revocations after 0.05 s; last error: the disk is full" in caplog.text


async def test_finish_without_revocations_writes_nothing() -> None:
    writer = Here()
    saver = RevocationSaver(Revocations(), MemoryStore(), writer, CLOCK_S, stop_timeout_s=1.0)
    await saver.finish()
    assert (writer.runs, saver.gave_up) == (0, False)
