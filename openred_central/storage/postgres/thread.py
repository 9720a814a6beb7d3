"""The event loop of the connections to PostgreSQL, in a thread of its own.

It goes on while the loop of the server is held up, and serves callers in any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from ..store import StoreError

Value = TypeVar("Value")


class LoopThread:
    """An event loop that runs in its own thread until `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._is_open = True
        # All that begins while it is open comes before the end.
        self._lock = threading.Lock()
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run `work` on the loop, and return its result. Raises what `begin` and `result` raise."""
        return self.result(self.begin(work))

    def begin(self, work: Coroutine[Any, Any, Value]) -> Future[Value]:
        """Begin `work` on the loop, for `result`. Raises `StoreError` where the loop is closed."""
        with self._lock:
            if not self._is_open:
                work.close()
                raise StoreError("the connections to the database are closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def result(self, begun: Future[Value]) -> Value:
        """Return the result of what was begun, once it has one.

        Raises what the work raises, and `StoreError` where the loop was closed before.
        """
        try:
            return begun.result()
        except CancelledError:
            raise StoreError("the connections to the database were closed meanwhile") from None

    def close(self) -> None:
        """End what still runs, and the thread. Closing twice is harmless."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
        if not was_open:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        """End all other tasks."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
