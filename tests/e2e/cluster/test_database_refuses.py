"""The database refuses: full, read-only, no rights, a wrong password, a standby. Each case is named."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from openred_central.exit_codes import ExitCode
from tests.support.instances import Cluster, MakeCluster
from tests.support.loading import ask, register
from tests.support.parts import needs_disk
from tests.support.postgres import UNPRIVILEGED, Bench, PgServer
from tests.support.running import until

from .trial import FLAGS, trial

DISK_BYTES = 48 * 1024 * 1024

# A trigger that refuses as a full disk does: the server knows but the SQLSTATE and the text.
FULL = """
CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON openred.node
FOR EACH ROW EXECUTE FUNCTION public.full_disk()
"""


def make_full(made: Cluster) -> None:
    made.sql(FULL)


def make_room(made: Cluster) -> None:
    made.sql("DROP TRIGGER full_disk ON openred.node; DROP FUNCTION public.full_disk()")


def forbid_writes(made: Cluster) -> None:
    made.sql("ALTER SYSTEM SET default_transaction_read_only = 'on'")
    made.sql("SELECT pg_reload_conf()")


def allow_writes(made: Cluster) -> None:
    made.sql("ALTER SYSTEM RESET default_transaction_read_only")
    made.sql("SELECT pg_reload_conf()")


def test_a_database_that_refuses_writes_is_named_and_nothing_is_lost(
    cluster: MakeCluster, postgres_bench: Bench
) -> None:
    made = cluster(postgres_bench.server(), flags=FLAGS)
    made.start()
    with trial(made) as under:
        for refuse, allow, advice in (
            (make_full, make_room, "make room on the disk of the database"),
            (forbid_writes, allow_writes, "make the primary writable"),
        ):
            under.more()
            refuse(made)
            until(partial(says, made, advice), f"a line that says: {advice}")
            allow(made)
        under.more()


@pytest.fixture
def on_a_small_disk(postgres_bench: Bench) -> Iterator[PgServer]:
    """Yield a server whose disk has hardly room for one more database; its folder ``disk`` is that."""
    server = postgres_bench.server(start=False)
    disk = server.folder / "disk"
    disk.mkdir()
    needs_disk(disk, DISK_BYTES, UNPRIVILEGED)
    try:
        subprocess.run(["cp", "-a", server.data, disk], check=True)
        shutil.rmtree(server.data)
        server.data.symlink_to(disk / "data")
        yield server.start()
    finally:
        server.end()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_stops_changes_alone_and_loses_nothing(
    cluster: MakeCluster, on_a_small_disk: PgServer
) -> None:
    made = cluster(on_a_small_disk, flags=FLAGS)
    made.start()
    rest = on_a_small_disk.folder / "disk" / "rest"
    # Heartbeats and look-ups go on meanwhile, or the trial fails.
    with trial(made) as under:
        under.more()
        with suppress(OSError), rest.open("wb", buffering=0) as file:
            while file.write(bytes(4_096)):
                pass
        until(lambda: "No space left on device" in on_a_small_disk.log, "the disk to be full")
        until(lambda: refused(made), "a change to be refused")
        rest.unlink()
        # It may have ended itself, when it found no room for its own log.
        until(lambda: on_a_small_disk.answers() or not on_a_small_disk.running, "the server to be settled")
        if not on_a_small_disk.running:
            on_a_small_disk.start()
        under.more()


def refused(made: Cluster) -> bool:
    """Tell whether a change is answered by 503 now."""
    reply = ask(made.running[0], "POST", "/register", {**BODY, "node_id": os.urandom(8).hex()})
    assert reply.status in (201, 503), reply
    return reply.status == 503


def says(made: Cluster, advice: str) -> bool:
    """Tell whether an instance wrote this into its log."""
    return any(advice in instance.log for instance in made.running)


def ends(made: Cluster, url: str, *flags: str) -> tuple[int, str]:
    """Return the exit code of a start on another database, and the line of its error."""
    instance = made.instances[0]
    server = made.begin(instance, url, *flags)
    code = server.wait()
    assert "Traceback" not in server.log, server.log
    lines = [line for line in server.log.splitlines() if re.search(r" error |cannot", line)]
    assert lines, server.log
    return code, lines[-1]


@pytest.fixture
def secured(postgres_bench: Bench) -> PgServer:
    """Return a server that asks for a password, with a role that has no rights."""
    server = postgres_bench.server(password="a-password")
    server.execute("CREATE ROLE stranger LOGIN PASSWORD 'strange'")
    return server


def password_file(folder: Path, password: str) -> tuple[str, str]:
    path = folder / "password"
    path.write_text(password + "\n")
    path.chmod(0o600)
    return "--database-password-file", str(path)


def plain(server: PgServer, name: str, user: str = "postgres") -> str:
    """Return a URL without a password, which a setting must not hold."""
    return f"postgresql://{user}@127.0.0.1:{server.port}/{name}"


def test_a_start_with_a_wrong_password_says_which_file_to_look_at(
    cluster: MakeCluster, secured: PgServer, tmp_path: Path
) -> None:
    made = cluster(secured, count=1)
    code, line = ends(made, plain(secured, made.database_name), *password_file(tmp_path, "another"))
    assert code == ExitCode.CONFIG
    assert "OPENRED_DATABASE_PASSWORD_FILE" in line
    assert "another" not in line


def test_a_start_without_rights_says_what_to_grant(
    cluster: MakeCluster, secured: PgServer, tmp_path: Path
) -> None:
    made = cluster(secured, count=1)
    url = plain(secured, made.database_name, "stranger")
    code, line = ends(made, url, *password_file(tmp_path, "strange"))
    assert code == ExitCode.CONFIG
    assert "grant" in line


def test_a_start_with_a_password_in_the_url_is_refused(cluster: MakeCluster, secured: PgServer) -> None:
    made = cluster(secured, count=1)
    code, line = ends(made, secured.url(made.database_name))
    assert code == ExitCode.CONFIG
    assert "a-password" not in line
    assert "password" in line


def test_a_start_on_a_standby_alone_waits_for_a_primary(cluster: MakeCluster, postgres_bench: Bench) -> None:
    primary = postgres_bench.server()
    made = cluster(primary, count=1, flags=FLAGS)
    standby = primary.standby()
    until(
        lambda: standby.execute(f"SELECT 1 FROM pg_database WHERE datname = '{made.database_name}'"),
        "the copy",
    )
    code, line = ends(made, plain(standby, made.database_name))
    assert code == ExitCode.FAILED
    assert "standby" in line


def test_a_new_password_is_read_without_a_restart(
    cluster: MakeCluster, secured: PgServer, tmp_path: Path
) -> None:
    made = cluster(secured, count=2, flags=FLAGS)
    flags = password_file(tmp_path, "a-password")
    for instance in made.instances:
        made.begin(instance, plain(secured, made.database_name), *flags)
    leader = made.wait_ready()
    register(leader, "before")
    secured.password = "a-new-password"
    secured.execute(f"ALTER ROLE postgres PASSWORD '{secured.password}'")
    password_file(tmp_path, secured.password)
    secured.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{made.database_name}'"
    )
    until(lambda: ask(leader, "POST", "/register", BODY).status in (200, 201), "a change by the new password")


BODY = {"node_id": "after", "address": "192.0.2.1", "port": 1, "public_key": "key"}
