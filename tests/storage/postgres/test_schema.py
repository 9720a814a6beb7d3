"""The schema is made once, brought up to date, and gives each role what it needs and nothing more."""

from __future__ import annotations

import asyncio
import datetime
import math
import struct
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest

from openred_central.directory.lifecycle import LIVE_STATES
from openred_central.directory.state.node import DISCOVERABLE, LEFT
from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.storage.postgres import schema
from openred_central.storage.postgres.store import PostgresStore
from openred_central.storage.store import StoreError
from openred_central.storage.versions import SCHEMA_VERSION, SCHEMA_VERSION_MAX
from tests.support.postgres import PgError, PgServer
from tests.support.postgres_store import access, leading
from tests.support.records import batch, pages_of, record, records_of
from tests.support.waiting import until

# As in the documents: an owner, the role of the servers, and that of analysts.
ROLES = """
GRANT USAGE ON SCHEMA openred TO running, analysing;
GRANT SELECT ON ALL TABLES IN SCHEMA openred TO running;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA openred TO running;
GRANT SELECT ON openred.nodes TO analysing;
"""


class Database:
    """A database on the shared server, as SQL sees it."""

    def __init__(self, server: PgServer, url: str) -> None:
        self.server, self.url, self.name = server, url, url.rpartition("/")[2]

    def execute(self, sql: str, *, user: str | None = None) -> str:
        return self.server.execute(f"SET ROLE {user}; {sql}" if user else sql, self.name)

    def as_user(self, user: str) -> str:
        return self.server.url(self.name, user=user)


@pytest.fixture
def database(postgres: PgServer, database_url: str) -> Database:
    return Database(postgres, database_url)


@pytest.fixture(scope="module")
def roles(postgres: PgServer) -> None:
    for role in ("owning", "running", "analysing", "nobody"):
        postgres.execute(f"CREATE ROLE {role} LOGIN")


@pytest.fixture
def shared(database: Database, roles: None) -> Database:
    """A database whose schema belongs to another role than the one that runs."""
    database.execute(f'GRANT CREATE ON DATABASE "{database.name}" TO owning')
    with leading(database.as_user("owning")) as store:
        store.commit(batch(record(1)))
        store.save_secret("key", b"secret of the directory")
    database.execute(ROLES)
    return database


def test_servers_that_start_at_once_make_one_schema(database: Database) -> None:
    def lineage(_: int) -> str:
        store = PostgresStore(database.url, access())
        try:
            store.open()
            return store.watch().lineage
        finally:
            store.close()

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(lineage, range(4)))) == 1


def test_an_older_schema_is_brought_up_to_date_and_keeps_what_is_there(database: Database) -> None:
    with leading(database.url) as store:
        store.commit(batch(record(1)))
        lineage = store.watch().lineage
    database.execute("UPDATE openred.cluster SET schema_version = 0; DROP FUNCTION openred.renew_1")
    with leading(database.url) as store:
        assert records_of(store) == [record(1)]
        store.renew()
        assert store.watch().lineage == lineage
    assert database.execute("SELECT schema_version FROM openred.cluster") == str(SCHEMA_VERSION)


def test_the_schema_of_the_next_version_serves_this_one(database: Database) -> None:
    with leading(database.url):
        pass
    database.execute(f"UPDATE openred.cluster SET schema_version = {SCHEMA_VERSION_MAX}")
    with leading(database.url) as store:
        store.commit(batch(record(1)))
    assert database.execute("SELECT schema_version FROM openred.cluster") == str(SCHEMA_VERSION_MAX)


def test_a_schema_of_a_later_version_is_refused(database: Database) -> None:
    with leading(database.url):
        pass
    database.execute(f"UPDATE openred.cluster SET schema_version = {SCHEMA_VERSION_MAX + 1}")
    with pytest.raises(
        StoreError, match=f"has schema version {SCHEMA_VERSION_MAX + 1}, this server works with"
    ) as raised:
        PostgresStore(database.url, access()).open()
    # Its causes decide about the exit code, so they have to end.
    assert raised.value.__cause__ is None


def test_a_server_of_two_versions_later_leaves_instances_at_work_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_PAUSE_S", 0.1)
    later = PostgresStore(database.url, access("later"))
    with leading(database.url) as store:
        monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
        store.shown_s = math.inf
        with pytest.raises(StoreError, match="upgrade by one version at a time, or stop all"):
            later.open()
        store.goodbye()
    later.open()
    later.close()


async def test_a_leader_goes_on_while_a_newer_schema_waits_for_a_reader(database: Database) -> None:
    newer = PostgresStore(database.url, access("newer"))
    with leading(database.url) as store:
        store.commit(batch(record(1)))
        database.execute(
            "UPDATE openred.cluster SET schema_version = 0;"
            " ALTER TABLE openred.seen ALTER signs SET STORAGE EXTENDED"
        )
        reader = await asyncpg.connect(database.url)
        try:
            await reader.execute("BEGIN; SELECT FROM openred.seen")
            opening = asyncio.create_task(asyncio.to_thread(newer.open))
            await until(lambda: database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0")
            await asyncio.to_thread(store.commit, batch(pages=pages_of([record(1)])))
            assert not opening.done()
        finally:
            await reader.close()
        await opening
    newer.close()
    assert database.execute("SELECT schema_version FROM openred.cluster") == str(SCHEMA_VERSION)


async def test_an_upgrade_locks_no_table_in_which_it_changes_nothing(database: Database) -> None:
    with leading(database.url):
        database.execute("UPDATE openred.cluster SET schema_version = 0")
        tables = database.execute("SELECT string_agg(relid::regclass::text, ',') FROM pg_stat_user_tables")
        assert "openred.cluster" in tables
        reader = await asyncpg.connect(database.url)
        try:
            await reader.execute(f"BEGIN; LOCK TABLE {tables} IN ROW EXCLUSIVE MODE")
            newer = PostgresStore(database.url, access("newer"))
            await asyncio.to_thread(newer.open)
            newer.close()
        finally:
            await reader.close()
        assert database.execute("SELECT schema_version FROM openred.cluster") == str(SCHEMA_VERSION)


def test_a_schema_of_another_program_is_refused(database: Database) -> None:
    database.execute("CREATE SCHEMA openred; CREATE TABLE openred.cluster (name text)")
    with pytest.raises(StoreError, match="its schema is damaged or of another version"):
        PostgresStore(database.url, access()).open()


def test_the_running_role_serves_and_owns_nothing(shared: Database) -> None:
    with leading(shared.as_user("running")) as store:
        assert (records_of(store), store.load_secret("key")) == ([record(1)], b"secret of the directory")
        store.commit(batch(record(2), pages=pages_of([record(1)]), kept=[("name", b"value")]))
        store.save_secret("key", b"value")
        store.save_revocations({"token": 1.5})
        store.renew()
        store.goodbye()
    for statement in (
        "UPDATE openred.cluster SET term = 9",
        "DELETE FROM openred.node",
        "INSERT INTO openred.secret VALUES ('a', '')",
        "CREATE TABLE openred.mine (a integer)",
        "DROP FUNCTION openred.commit_1",
    ):
        with pytest.raises(PgError, match=r"permission denied|must be owner"):
            shared.execute(statement, user="running")


def test_the_running_role_cannot_make_the_schema(database: Database, roles: None) -> None:
    with pytest.raises(StoreError, match=r"42501.*take the owner of the schema"):
        PostgresStore(database.as_user("running"), access()).open()


def test_a_role_without_rights_is_told_so(shared: Database) -> None:
    with pytest.raises(StoreError, match=r"permission denied for schema openred.*grant the user of the URL"):
        PostgresStore(shared.as_user("nobody"), access()).open()


def test_analysts_see_the_view_alone(shared: Database) -> None:
    assert shared.execute("SELECT node_id FROM openred.nodes", user="analysing") == "node-1"
    for table in ("cluster", "node", "tombstone", "seen", "kept", "revocation", "secret"):
        with pytest.raises(PgError, match="permission denied"):
            shared.execute(f"SELECT * FROM openred.{table}", user="analysing")
    with pytest.raises(PgError, match="permission denied for function"):
        shared.execute("SELECT openred.renew_1(1, 'a', 1, 1, 1, 1)", user="analysing")


def test_others_have_no_rights(shared: Database) -> None:
    for statement in ("SELECT * FROM openred.nodes", "SELECT openred.renew_1(1, 'a', 1, 1, 1, 1)"):
        with pytest.raises(PgError, match="permission denied"):
            shared.execute(statement, user="nobody")


class TestView:
    """The view of analysts names what the tables hold as numbers."""

    def test_states_have_their_names(self, database: Database) -> None:
        with leading(database.url) as store:
            store.commit(batch(*(record(slot, state=int(state)) for slot, state in enumerate(LIVE_STATES))))
        shown = database.execute("SELECT state FROM openred.nodes ORDER BY node_id").splitlines()
        assert shown == [state.wire for state in LIVE_STATES]

    def test_nodes_that_nobody_may_discover_are_marked(self, database: Database) -> None:
        with leading(database.url) as store:
            flags = (DISCOVERABLE, 0, DISCOVERABLE | LEFT, DISCOVERABLE | 64)
            store.commit(batch(*(record(slot, flags=each) for slot, each in enumerate(flags))))
        shown = database.execute("SELECT discoverable FROM openred.nodes ORDER BY node_id").splitlines()
        assert shown == ["t", "f", "f", "t"]

    def test_no_address_key_or_secret_is_shown(self, database: Database) -> None:
        with leading(database.url) as store:
            store.commit(batch(record(1, next_key="the next key")))
        shown = database.execute("SELECT to_jsonb(n) FROM openred.nodes n")
        for part in ("198.51.100.7", "key", "Jürgen"):
            assert part not in shown
        assert '"services": ["relay", "storage"]' in shown

    def test_the_last_sign_of_life_is_that_of_the_latest_commit(self, database: Database) -> None:
        last = 3 * PAGE_SLOTS
        at = [1_800_000_000.0, 1_700_000_000.25, 1_600_000_000.123456]
        with leading(database.url) as store:
            store.commit(batch(*(record(slot, last_seen_at=at[0]) for slot in (0, 1, 2, last))))
            heard = [record(slot, last_seen_at=at[1]) for slot in (0, 1, last)]
            store.commit(batch(pages=pages_of(heard)))
            store.commit(batch(record(1, last_seen_at=at[2])))
        shown = database.execute(
            'SELECT extract(epoch FROM last_seen) FROM openred.nodes ORDER BY node_id COLLATE "C"'
        )
        assert list(map(float, shown.splitlines())) == [at[1], at[2], at[0], at[1]]

    def test_times_are_times(self, database: Database) -> None:
        with leading(database.url) as store:
            store.commit(batch(record(1)))
        shown = database.execute("SET timezone = 'UTC'; SELECT to_json(registered) FROM openred.nodes")
        registered = datetime.datetime.fromisoformat(shown.strip('"'))
        assert registered.timestamp() == record(1).registered_at

    @pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.5, 1_800_000_000.25, 2.0**-1000, 1.7e308, -1e-300])
    def test_numbers_are_read_from_their_bytes(self, database: Database, value: float) -> None:
        with leading(database.url):
            pass
        packed = struct.pack("<d", value).hex()
        shown = database.execute(f"SELECT openred.double_in('\\x00{packed}', 1)")
        assert float(shown) == value


def test_a_commit_is_synchronous_whatever_the_session_says(database: Database) -> None:
    with leading(database.url):
        pass
    shown = database.execute(
        "SET synchronous_commit = off; BEGIN; SELECT openred.renew_1(1, 'run-1', 0, 0, 0, 0);"
        " SHOW synchronous_commit; SHOW lock_timeout; COMMIT"
    )
    assert shown.splitlines()[-2:] == ["on", "300ms"]


def test_a_caller_cannot_put_own_functions_in_place_of_ours(database: Database) -> None:
    with leading(database.url):
        pass
    database.execute(
        "CREATE SCHEMA trap; CREATE FUNCTION trap.set_config(text, text, boolean) RETURNS text"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$"
    )
    trap = "SET search_path = trap, pg_catalog; SELECT"
    with pytest.raises(PgError, match="trapped"):
        database.execute(f"{trap} set_config('a.b', 'c', true)")
    assert database.execute(f"{trap} openred.renew_1(1, 'run-1', 0, 0, 0, 0)") == "t"
