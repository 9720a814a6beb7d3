"""A run with its store on a real database. As a program it changes and proves what it can while it leads.

It prints a line for each success, with the elapsed time at which it began.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from openred_central.clock import SYSTEM_CLOCK
from openred_central.cluster.leadership import Leadership
from openred_central.cluster.lease import Role, lease_times
from openred_central.storage.postgres import connecting
from openred_central.storage.postgres.access import Timing
from openred_central.storage.postgres.leasing import Fenced
from openred_central.storage.postgres.store import PostgresStore
from openred_central.storage.store import StoreError
from tests.support.postgres_store import PATIENCE_S, access
from tests.support.records import batch, record
from tests.support.waiting import until

# Short, so that a test takes few seconds, and long enough for a machine with other things to do.
TTL_S = 2.0
TIMES = lease_times(TTL_S)


class Instance:
    """A run with its store; `begin` lets its loop run, and `pause` lets it stand still."""

    def __init__(self, url: str, name: str) -> None:
        timing = Timing(TIMES.renew_s, TIMES.shown_s)
        self.store = PostgresStore(url, access(name, elapsed_s=SYSTEM_CLOCK.elapsed_s, timing=timing))
        self.store.open()
        self.rollbacks = 0
        self.leadership = Leadership(
            self.store,
            SYSTEM_CLOCK,
            TIMES,
            may_lead=True,
            leader={"name": name},
            is_behind=lambda _: False,
            differs=lambda: False,
            changed=self._changed,
            went_back=self._went_back,
        )
        self._task: asyncio.Task[None] | None = None

    def _changed(self) -> None:
        """Lead as soon as the lease is taken: there is nothing to load."""
        term = self.leadership.term
        if term is not None and self.leadership.role is Role.CATCHING_UP:
            asyncio.get_running_loop().call_soon(self.leadership.caught_up, term)

    def _went_back(self) -> None:
        self.rollbacks += 1

    @property
    def leads(self) -> bool:
        return self.leadership.may_change()

    def begin(self) -> None:
        self._task = asyncio.create_task(self.leadership.run())

    async def pause(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def commit(self, slot: int = 1) -> None:
        await asyncio.to_thread(self.store.commit, batch(record(slot)))

    async def proves(self) -> bool:
        return await self.leadership.confirmed(SYSTEM_CLOCK.elapsed_s(), 5.0)


@asynccontextmanager
async def instance(url: str, name: str) -> AsyncIterator[Instance]:
    """Run an instance of the database at `url`."""
    one = await asyncio.to_thread(Instance, url, name)
    one.begin()
    try:
        yield one
    finally:
        await one.leadership.goodbye()
        await one.pause()
        await asyncio.to_thread(one.store.close)


async def work(url: str, name: str) -> None:
    """Lead, and work until fenced: all that succeeds is told, with when it began."""
    async with instance(url, name) as one:
        await until(lambda: one.leads)
        for slot in range(1, 100_000):
            began_s = SYSTEM_CLOCK.elapsed_s()
            if one.leads:
                print(f"may change {began_s}", flush=True)
            if await one.proves():
                print(f"proves {began_s}", flush=True)
            try:
                await one.commit(slot)
                print(f"commits {began_s}", flush=True)
            except Fenced:
                print(f"is fenced {began_s}", flush=True)
                break
            except StoreError as error:
                print(f"fails {began_s}: {error}", file=sys.stderr)
        # From now on nothing may succeed.
        for _ in range(20):
            began_s = SYSTEM_CLOCK.elapsed_s()
            if one.leads:
                print(f"may change {began_s}", flush=True)
            if await one.leadership.confirmed(began_s, 0.1):
                print(f"proves {began_s}", flush=True)
            with suppress(StoreError):
                await one.commit()
                print(f"commits {began_s}", flush=True)
        print(f"ends {SYSTEM_CLOCK.elapsed_s()}", flush=True)


if __name__ == "__main__":
    connecting.HOST_TIMEOUT_S = PATIENCE_S
    asyncio.run(work(*sys.argv[1:3]))
