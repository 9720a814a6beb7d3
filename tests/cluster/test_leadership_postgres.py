"""Two runs on one real database: one leads, and the other takes over when it is gone, silent or cut off."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from openred_central.clock import SYSTEM_CLOCK
from openred_central.cluster.lease import Role
from openred_central.storage.postgres import connecting
from openred_central.storage.postgres.leasing import Fenced
from tests.support.postgres import PgServer
from tests.support.postgres_store import PATIENCE_S
from tests.support.project import ROOT
from tests.support.proxy import Proxy
from tests.support.waiting import until

from .lease_instance import TTL_S, Instance, instance


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only a start wait for long: afterwards instances give up as those of a server do."""
    monkeypatch.setattr(connecting, "HOST_TIMEOUT_S", PATIENCE_S)


async def stored_seq(postgres: PgServer, url: str) -> int:
    """Return the number of the last commit in the database at `url`."""
    query, name = "SELECT seq FROM openred.cluster", url.rpartition("/")[2]
    return int(await asyncio.to_thread(postgres.execute, query, name))


@asynccontextmanager
async def pair(first_url: str, second_url: str) -> AsyncIterator[tuple[Instance, Instance]]:
    """Run two instances, of which the first leads."""
    async with instance(first_url, "first") as first:
        await until(lambda: first.leads)
        async with instance(second_url, "second") as second:
            await until(lambda: second.leadership.row)
            yield first, second


async def test_second_instance_follows_and_takes_over_after_a_goodbye(database_url: str) -> None:
    async with pair(database_url, database_url) as (first, second):
        assert await first.proves()
        assert not await second.proves()
        await asyncio.sleep(2 * TTL_S)
        assert first.leadership.term == 1
        assert second.leadership.role is Role.FOLLOWER
        await first.leadership.goodbye()
        assert not first.leads
        await until(lambda: second.leads)
        assert await second.proves()
        assert second.leadership.term == 2


async def test_leader_whose_loop_stands_still_is_replaced_and_fenced(database_url: str) -> None:
    async with pair(database_url, database_url) as (first, second):
        await first.pause()
        await until(lambda: second.leads)
        assert not first.leads
        with pytest.raises(Fenced, match="second leads in term 2"):
            await first.commit()
        assert not await first.proves()
        await second.commit()
        first.begin()
        await until(lambda: first.leadership.row and first.leadership.row.holder == "second")
        assert first.leadership.role is Role.FOLLOWER


async def test_row_that_another_client_locks_is_led_again_when_it_is_free(database_url: str) -> None:
    async with pair(database_url, database_url) as (first, second):
        client = await asyncpg.connect(database_url)
        try:
            async with client.transaction():
                await client.execute("SELECT 1 FROM openred.cluster FOR UPDATE")
                await until(lambda: not first.leads)
                assert not second.leads, "nobody can take it either"
        finally:
            client.terminate()
        await until(lambda: first.leads or second.leads)
        assert not (first.leads and second.leads)
        leader = first if first.leads else second
        assert await leader.proves()
        await leader.commit()


async def test_leader_that_is_cut_from_the_database_is_replaced(
    postgres: PgServer, database_url: str
) -> None:
    with Proxy(("127.0.0.1", postgres.port)) as proxy:
        through = postgres.url(database_url.rpartition("/")[2], port=proxy.port)
        async with pair(through, database_url) as (first, second):
            proxy.half_open()
            asked_s = SYSTEM_CLOCK.elapsed_s()
            proof = asyncio.create_task(first.leadership.confirmed(asked_s, 60.0))
            await until(lambda: second.leads)
            assert not first.leads
            assert not proof.done()
            proxy.restore()
            assert not await proof, "it was asked before it was replaced, and cannot prove it any more"
            await until(lambda: first.leadership.role is Role.FOLLOWER)


@pytest.mark.parametrize("forgets_the_term", [False, True])
async def test_quiet_leader_keeps_its_lease_when_the_database_goes_back(
    postgres: PgServer, database_url: str, forgets_the_term: bool
) -> None:
    name = database_url.rpartition("/")[2]
    copy, back = (
        "CREATE TABLE former AS TABLE openred.cluster",
        "UPDATE openred.cluster SET (%s) = (SELECT %s)",
    )
    columns = "term, holder, renewals, seq, tag, leader"
    go_back = back % (columns, f"{columns} FROM former")
    if forgets_the_term:
        await asyncio.to_thread(Instance, database_url, "maker")
        await asyncio.to_thread(postgres.execute, copy, name)
    async with pair(database_url, database_url) as (first, second):
        if not forgets_the_term:
            await asyncio.to_thread(postgres.execute, copy, name)
        await first.commit()
        await asyncio.to_thread(postgres.execute, go_back, name)
        await until(lambda: first.rollbacks)
        await asyncio.sleep(2 * TTL_S)
        await until(lambda: first.leads)
        assert await first.proves()
        assert second.leadership.role is Role.FOLLOWER
        assert first.leadership.term == 1 + forgets_the_term
        await first.commit()
        assert await stored_seq(postgres, database_url) == 2


async def test_no_clock_of_the_database_counts(postgres: PgServer, database_url: str) -> None:
    """The row tells wall times of the future and of the past, and nobody takes the lease for that."""
    name = database_url.rpartition("/")[2]
    async with pair(database_url, database_url) as (first, second):
        for at in (0.0, 9e9, -9e9):
            await asyncio.to_thread(postgres.execute, f"UPDATE openred.cluster SET at = {at}", name)
            await asyncio.sleep(TTL_S / 2)
        assert second.leadership.role is Role.FOLLOWER
        assert first.leadership.term == 1


async def test_process_that_was_stopped_proves_and_changes_nothing_when_it_wakes_up(
    postgres: PgServer, database_url: str
) -> None:
    command = [sys.executable, "-m", "tests.cluster.lease_instance", database_url, "stopped"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while "commits" not in await asyncio.to_thread(process.stdout.readline):
                assert process.poll() is None
            process.send_signal(signal.SIGSTOP)
            async with instance(database_url, "other") as other:
                await until(lambda: other.leads)
                taken_s, seq = SYSTEM_CLOCK.elapsed_s(), other.store.seq
                process.send_signal(signal.SIGCONT)
                told = (await asyncio.to_thread(process.communicate))[0].splitlines()
                assert await stored_seq(postgres, database_url) == seq
        finally:
            process.kill()
    after = [line for line in told if float(line.rpartition(" ")[2]) > taken_s]
    assert {line.rpartition(" ")[0] for line in after} <= {"is fenced", "ends"}
    assert any("ends" in line for line in after)
