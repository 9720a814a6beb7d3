"""A client for programs without an event loop: each method waits for its answer.

The protocol is that of `Client`. A thread of the client's own runs it on a loop of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..security.signing import PrivateKey
from .answers import ClientError
from .asking import WAIT_S_MAX
from .client import Client, Document
from .connections import Connections
from .peering import TrustedKeys
from .watching import NodeEvent

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    """Return a method that waits for the answer of a method of `Client`."""

    @wraps(method)
    def call(self: BlockingClient, /, *arguments: P.args, **options: P.kwargs) -> T:
        return self._wait(lambda client: method(client, *arguments, **options))

    return call


class BlockingClient:
    """A node of one directory, as `Client`, whose arguments and exceptions it shares.

    All methods may be called by several threads at a time. `close` it, or use it in a ``with`` statement;
    calls that wait then raise `ClientError`, and so do later ones. After a fork, the child makes a client of
    its own.
    """

    def __init__(
        self,
        url: str | Connections,
        key: PrivateKey | None = None,
        *,
        node_id: str | None = None,
        claim: str | None = None,
        root_key_id: str | None = None,
        classical_root_key_id: str | None = None,
        wait_s_max: float = WAIT_S_MAX,
    ) -> None:
        self._client = Client(
            url,
            key,
            node_id=node_id,
            claim=claim,
            root_key_id=root_key_id,
            classical_root_key_id=classical_root_key_id,
            wait_s_max=wait_s_max,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openred-client", daemon=True)
        self._process_id = os.getpid()
        # Held while a call is handed to the loop, so that none is handed to a loop that has ended.
        self._turn = threading.Lock()
        self._is_closed = False
        self._thread.start()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections, the thread, and all calls that wait."""
        with self._turn:
            if self._is_closed or os.getpid() != self._process_id:
                return
            self._is_closed = True
            closing = asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        closing.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def node_id(self) -> str:
        return self._client.node_id

    @property
    def key(self) -> PrivateKey | None:
        return self._client.key

    @property
    def claim(self) -> str | None:
        """The secret of a node without a key. Keep it: the directory sends it to new nodes only."""
        return self._client.claim

    @property
    def trusted(self) -> TrustedKeys:
        """The newest key set, and the root key that must have signed it."""
        return self._client.trusted

    @property
    def clock_offset_s(self) -> float:
        """The seconds by which the directory last reported its clock ahead of ours; 0.0 where it did not."""
        return self._client.clock_offset_s

    def now_s(self) -> float:
        """Return the time by which to judge key sets and tokens: our own clock's, in Unix seconds."""
        return self._client.now_s()

    register = _blocking(Client.register)
    heartbeat = _blocking(Client.heartbeat)
    discover = _blocking(Client.discover)
    node = _blocking(Client.node)
    lookup = _blocking(Client.lookup)
    stats = _blocking(Client.stats)
    analytics = _blocking(Client.analytics)
    analytics_csv = _blocking(Client.analytics_csv)
    leave = _blocking(Client.leave)
    forget = _blocking(Client.forget)
    change_key = _blocking(Client.change_key)
    session = _blocking(Client.session)
    tokens = _blocking(Client.tokens)
    verify = _blocking(Client.verify)
    revoke = _blocking(Client.revoke)
    key_set = _blocking(Client.key_set)

    def keep_alive(self, report: Callable[[Document | ClientError], object] | None = None) -> None:
        """Send heartbeats as `Client.keep_alive` does, until another thread calls `close`.

        Run it in a thread of its own. `report` is called by the client's thread, and may not call the client.
        Raises `ProblemError` where the directory itself refuses.
        """
        try:
            self._wait(lambda client: client.keep_alive(report))
        except _Closed:
            return

    def watch(self, node_ids: Iterable[str]) -> Generator[NodeEvent, None, None]:
        """Yield events as `Client.watch` does, until it is closed or another thread calls `close`.

        Raises `ProblemError` where the directory itself refuses, `ClientError` where the client is closed.
        """
        events = self._client.watch(node_ids)

        async def follow() -> NodeEvent:
            return await anext(events)

        async def end() -> None:
            await events.aclose()

        while True:
            event = self._wait(lambda _: follow())
            try:
                yield event
            except GeneratorExit:
                with suppress(ClientError):
                    self._wait(lambda _: end())
                raise

    def _wait(self, start: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Return what the call that `start` begins returns. Raises its exceptions."""
        if os.getpid() != self._process_id:
            raise ClientError("a client does not outlast a fork; make another one in this process")
        if threading.current_thread() is self._thread:
            raise ClientError("a report may not call the client, whose thread it would hold up; use another")
        with self._turn:
            if self._is_closed:
                raise _Closed
            future = asyncio.run_coroutine_threadsafe(start(self._client), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise _Closed from None
        finally:
            # Where this thread is interrupted, by Ctrl-C say, nobody waits for the answer.
            future.cancel()

    async def _shut(self) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.close()
        await self._loop.shutdown_default_executor()


class _Closed(ClientError):
    """The client was closed, by this thread or another one."""

    def __init__(self) -> None:
        super().__init__("the client is closed; make another one")
