"""A revocation is answered as durable when it is, and is there after a restart."""

from __future__ import annotations

import asyncio
import struct
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openred_central.security.revocations import TOKENS_MAX, Revocations
from openred_central.storage.memory import MemoryStore
from openred_central.storage.sqlite import SqliteStore
from openred_central.storage.store import Store, StoreError
from openred_central.tasks.revocation_saver import REVOCATIONS, RevocationSaver, load_revocations

TOKEN = "A" * 22
OTHER = "B" * 22


class Here(Executor):
    """Runs everything at once; `fails` makes it fail. `runs` counts."""

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


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "openred.db")
    store.open()
    revocations = Revocations()
    revocations.revoke(TOKEN, 200.0, 100.0)
    revocations.revoke(OTHER, 150.0, 100.0)
    with ThreadPoolExecutor(1) as writer:
        assert asyncio.run(_save(revocations, store, writer))
    store.close()
    store.open()
    loaded = load_revocations(store, 160.0)
    assert TOKEN in loaded
    assert OTHER not in loaded, "it has expired"
    store.close()


def test_more_revocations_than_are_ever_kept_are_damage(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "openred.db")
    store.open()
    many = b"".join(b"%022d" % number + struct.pack("<d", 200.0) for number in range(TOKENS_MAX + 1))
    store.save_secret(REVOCATIONS, many)
    with pytest.raises(ValueError, match="65536 tokens are revoked, more are not remembered"):
        load_revocations(store, 100.0)
    store.close()


async def _save(revocations: Revocations, store: Store, writer: Executor) -> bool:
    return await RevocationSaver(revocations, store, writer, stop_timeout_s=1.0).save()


def test_a_store_that_keeps_nothing_or_fails_promises_nothing() -> None:
    writer, store = Here(), MemoryStore()
    store.open()
    assert not asyncio.run(_save(Revocations(), store, writer))
    writer.fails = True
    assert not asyncio.run(_save(Revocations(), store, writer))


def test_what_was_not_durable_becomes_so_without_another_word(tmp_path: Path) -> None:
    store, writer = SqliteStore(tmp_path / "openred.db"), Here()
    store.open()
    revocations = Revocations()
    revocations.revoke(TOKEN, 200.0, 100.0)

    async def save_while_it_fails() -> None:
        saver = RevocationSaver(revocations, store, writer, stop_timeout_s=1.0, retry_s=0.001)
        writer.fails = True
        assert not await saver.save()
        assert not await saver.save()
        assert len(asyncio.all_tasks()) == 2, "this one, and one that tries again"
        writer.fails = False
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await task
        assert await saver.save()

    asyncio.run(save_while_it_fails())
    assert TOKEN in load_revocations(store, 100.0)
    assert writer.runs <= 5
    store.close()


async def test_many_at_once_share_a_write(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "openred.db")
    store.open()
    revocations = Revocations()

    async def save_many(writer: Executor) -> None:
        saver = RevocationSaver(revocations, store, writer, stop_timeout_s=1.0)
        assert all(await asyncio.gather(*(saver.save() for _ in range(50))))

    with ThreadPoolExecutor(1) as writer:
        await save_many(writer)
    here = Here()
    await save_many(here)
    assert here.runs <= 2
    store.close()


def test_damage_is_told(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "openred.db")
    store.open()
    store.save_secret(REVOCATIONS, b"half")
    with pytest.raises(ValueError, match="no revocations"):
        load_revocations(store, 0.0)
    store.close()


class Fails(MemoryStore):
    """Refuses revocations so many times more as `failures` says."""

    durable = True

    def __init__(self, failures: float) -> None:
        self.failures = failures

    def save_secret(self, name: str, value: bytes) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise StoreError("the disk is full")


async def _save_then_stop(store: Store, *, stop_timeout_s: float) -> RevocationSaver:
    revocations = Revocations()
    revocations.revoke(TOKEN, 200.0, 100.0)
    with ThreadPoolExecutor(1) as writer:
        saver = RevocationSaver(revocations, store, writer, stop_timeout_s=stop_timeout_s, retry_s=0.001)
        assert not await saver.save()
        await saver.stop()
    return saver


async def test_the_end_stores_what_was_not_durable(caplog: pytest.LogCaptureFixture) -> None:
    store = Fails(3)
    saver = await _save_then_stop(store, stop_timeout_s=60.0)
    assert store.failures == -1, "tried until it was stored, and no more"
    assert not saver.gave_up
    assert "gave up" not in caplog.text


async def test_what_cannot_be_stored_at_the_end_is_given_up_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saver = await _save_then_stop(Fails(float("inf")), stop_timeout_s=0.05)
    assert saver.gave_up
    assert "gave up saving the last revocations after 0.05 s; last error: the disk is full" in caplog.text


async def test_an_end_with_nothing_to_store_asks_for_nothing() -> None:
    writer = Here()
    saver = RevocationSaver(Revocations(), MemoryStore(), writer, stop_timeout_s=1.0)
    await saver.stop()
    assert (writer.runs, saver.gave_up) == (0, False)
