"""Work of many threads runs on one loop, and nobody waits for a loop that ended."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from openred_central.storage.postgres.thread import LoopThread
from openred_central.storage.store import StoreError


@pytest.fixture
def loop() -> LoopThread:
    return LoopThread("test")


async def name_of(value: int) -> tuple[str, int]:
    await asyncio.sleep(0)
    return threading.current_thread().name, value


def test_work_of_all_threads_runs_in_one(loop: LoopThread) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: loop.run(name_of(number)), range(100)))
    assert found == [("test", number) for number in range(100)]
    loop.close()


def test_an_error_reaches_the_caller(loop: LoopThread) -> None:
    async def fail() -> None:
        raise KeyError("name")

    with pytest.raises(KeyError):
        loop.run(fail())
    loop.close()


def test_closing_ends_all_work(loop: LoopThread) -> None:
    """However many begin while it closes: each has its result, or the error."""
    forever = [loop.begin(asyncio.sleep(3_600)) for _ in range(3)]
    with ThreadPoolExecutor(8) as threads:
        others = [threads.submit(loop.run, asyncio.sleep(3_600)) for _ in range(20)]
        loop.close()
        for each in others:
            with pytest.raises(StoreError, match="closed"):
                each.result(30)
    for begun in forever:
        with pytest.raises(StoreError, match="were closed meanwhile"):
            loop.result(begun)
    loop.close()
    with pytest.raises(StoreError, match="are closed"):
        loop.run(name_of(1))
