"""Instances of a cluster on loopback: started, killed, halted, cut off from their database and the others."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from math import inf
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import orjson

from tests.support.history import Sight
from tests.support.loading import AUTHORITY
from tests.support.postgres import SUPERUSER, PgError
from tests.support.proxy import Proxy
from tests.support.running import POLL_S, WAIT_S_MAX, Server, until
from tests.support.serving import lasting_port

NAMES = ("a", "b", "c", "d", "e")
LEADS = "/health/leader"
# The default of the setting.
LEASE_S = 2.5
READY_S_MAX = 60.0
# A halted instance answers nothing.
ASK_S_MAX = 3.0


class Instance:
    """One instance, with the same name and ports in each of its runs.

    `database` and `link` are the networks between it and the database, and between the others and its cluster
    port. `server` is its last run.
    """

    def __init__(self, name: str, folder: Path, target: tuple[str, int]) -> None:
        self.name = name
        self._folder = folder
        self._port = lasting_port()
        self.cluster_port = lasting_port()
        self.database = Proxy(target)
        self.link = Proxy(("127.0.0.1", self.cluster_port))
        self.server: Server | None = None
        self.runs: list[Server] = []

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    @property
    def running(self) -> bool:
        return self.server is not None and self.server.running

    @property
    def log(self) -> str:
        """All that its last run wrote."""
        assert self.server is not None
        return self.server.log

    def start(self, flags: Iterable[str], **settings: str) -> Server:
        """Begin a run; it need not be ready."""
        assert not self.running, f"{self.name} runs already"
        given = ["--port", str(self._port), "--admin-port", "off", "--instance", self.name]
        given += [
            "--cluster-port",
            str(self.cluster_port),
            "--cluster-url",
            "{}:{}".format(*self.link.address),
        ]
        path = self._folder / f"{self.name}-{len(self.runs) + 1}.log"
        self.server = Server(path, ["serve", *given, *flags], pass_fds=(), **settings)
        self.runs.append(self.server)
        return self.server

    def ask(self, path: str) -> tuple[int, Any]:
        """Return status and document of a `GET`; status 0 where no answer comes."""
        connection = http.client.HTTPConnection(*self.address, timeout=ASK_S_MAX)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, orjson.loads(response.read())
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    @property
    def ready(self) -> bool:
        return self.ask("/health/ready")[0] == 200

    @property
    def leads(self) -> bool:
        """True if it says now that it leads."""
        return self.ask(LEADS)[0] == 200

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self.server is not None
        self.server.kill()

    def pause(self) -> None:
        """Halt it."""
        assert self.server is not None
        self.server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after a halt."""
        assert self.server is not None
        self.server.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it by SIGTERM; it has to end well."""
        assert self.server is not None
        self.server.stop()

    def end(self) -> None:
        """End it and its networks, whatever their state is."""
        if self.running:
            self.go_on()
            self.kill()
        self.database.close()
        self.link.close()


class Primary(Protocol):
    """The server that takes writes: a `PgServer`, or what stands for it."""

    @property
    def port(self) -> int: ...

    def url(self, database: str, *, port: int = 0) -> str: ...
    def execute(self, sql: str, database: str = ...) -> str: ...
    def create_database(self) -> str: ...
    def drop_database(self, name: str) -> None: ...


class Cluster:
    """Instances on one database of `primary`, which `follow` exchanges after a promotion.

    Where `hosts` names several servers, instances find the primary among them by themselves.
    """

    def __init__(
        self,
        folder: Path,
        primary: Primary,
        count: int = 3,
        flags: Iterable[str] = (),
        hosts: str = "",
        **settings: str,
    ) -> None:
        self._hosts = hosts
        self.folder = folder
        self.primary: Primary = primary
        self.flags = list(flags)
        self.settings = {"OPENRED_AUTHORITY": AUTHORITY, **settings}
        self.database_name = urlsplit(primary.create_database()).path.lstrip("/")
        self.secret_file = folder / "key-secret"
        self.secret_file.write_text(secrets.token_urlsafe(32) + "\n")
        self.secret_file.chmod(0o600)
        target = ("127.0.0.1", primary.port)
        self.instances = [Instance(name, folder, target) for name in NAMES[:count]]

    def __getitem__(self, name: str) -> Instance:
        return next(instance for instance in self.instances if instance.name == name)

    @property
    def running(self) -> list[Instance]:
        return [instance for instance in self.instances if instance.running]

    def start(self, *instances: Instance, ready: bool = True, **settings: str) -> None:
        """Start these instances, by default all; wait until they are ready and one leads."""
        for instance in instances or self.instances:
            self.begin(instance, **settings)
        if ready:
            self.wait_ready()

    def begin(self, instance: Instance, url: str = "", *flags: str, **settings: str) -> Server:
        """Begin a run of an instance, by default on the database of the cluster; it need not be ready."""
        given = ["--database", url or self.url(instance), "--key-secret-file", str(self.secret_file)]
        return instance.start([*given, *self.flags, *flags], **{**self.settings, **settings})

    def url(self, instance: Instance) -> str:
        """Return the URL of the database as an instance has it."""
        if self._hosts:
            return f"postgresql://{SUPERUSER}@{self._hosts}/{self.database_name}"
        return self.primary.url(self.database_name, port=instance.database.port)

    def wait_ready(self) -> Instance:
        """Wait until all that run are ready, and return the leader."""
        for instance in self.running:
            until(partial(_ready_or_ended, instance), f"{instance.name} to be ready", READY_S_MAX)
            assert instance.running, f"{instance.name} ended:\n{instance.log}"
        return self.leader()

    def leaders(self) -> list[Instance]:
        """Return those that say that they lead, asked one after the other."""
        return [instance for instance in self.running if instance.leads]

    def leader(self, other_than: Instance | None = None, wait_s: float = WAIT_S_MAX) -> Instance:
        """Wait until exactly one leads, and not `other_than`; return it."""

        def one() -> Instance | None:
            found = self.leaders()
            return found[0] if len(found) == 1 and found[0] is not other_than else None

        leader: Instance = until(one, "an instance to lead", wait_s)
        return leader

    def followers(self) -> list[Instance]:
        """Return those that run and do not lead, once there is a leader."""
        leader = self.leader()
        return [instance for instance in self.running if instance is not leader]

    def follow(self, primary: Primary) -> None:
        """Let all networks to the database lead to another server from now on, as its manager would."""
        self.primary = primary
        for instance in self.instances:
            instance.database.cut()
            instance.database.server = ("127.0.0.1", primary.port)
            instance.database.restore()

    def sql(self, statement: str) -> str:
        """Return what psql prints for a statement in the database, which no `Proxy` stands before."""
        return self.primary.execute(statement, self.database_name)

    def stored(self) -> dict[str, str]:
        """Return the state of each node in the database."""
        rows = self.sql("SELECT node_id, state FROM openred.nodes").splitlines()
        return {name: state for name, _, state in (row.partition("|") for row in rows)}

    def wait_at_rest(self) -> None:
        """Wait until all that run show each node that is stored, alike; they may show others as well."""

        def at_rest() -> bool:
            for name, state in self.stored().items():
                looks = {_look(instance, name) for instance in self.running}
                if len(looks) > 1 or looks.pop()[0] != state:
                    return False
            return True

        until(at_rest, "all instances to show what is stored")

    def close(self) -> None:
        """End all of it, and show what the instances wrote."""
        for instance in self.instances:
            instance.end()
            for number, run in enumerate(instance.runs, 1):
                print(f"--- log of run {number} of {instance.name}:\n{run.log[-20_000:]}")
        with contextlib.suppress(Exception):
            self.primary.drop_database(self.database_name)


def _look(instance: Instance, name: str) -> tuple[str, ...]:
    """Return how an instance shows a node: state, key and port, or the status of another answer."""
    status, document = instance.ask(f"/nodes/{name}")
    if status != HTTPStatus.OK:
        return (str(status),)
    return document["state"], document["public_key"], str(document["port"])


def _ready_or_ended(instance: Instance) -> bool:
    return instance.ready or not instance.running


MakeCluster = Callable[..., Cluster]


@contextlib.contextmanager
def clusters_in(folder: Path, default: Callable[[], Primary]) -> Iterator[MakeCluster]:
    """Let a test make clusters, by default on the server that `default` returns; end them."""
    made: list[Cluster] = []

    def make(primary: Primary | None = None, **options: Any) -> Cluster:
        place = folder / f"cluster-{len(made) + 1}"
        place.mkdir()
        made.append(Cluster(place, primary or default(), **options))
        return made[-1]

    try:
        yield make
    finally:
        for cluster in made:
            cluster.close()


# Ways in which a look at the row may fail while its server dies.
NOT_SEEN = (
    *(OSError, TimeoutError, PgError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)


class Watcher(threading.Thread):
    """Looks at the row of a cluster again and again, also over changes of its primary, until told to end."""

    PAUSE_S = 0.05
    QUERY = "SELECT lineage, term, holder, renewals, seq, attended_s FROM openred.cluster"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._ending = threading.Event()
        self.sights: list[Sight] = []

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join(WAIT_S_MAX)

    def run(self) -> None:
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        while not self._ending.is_set():
            primary = self._cluster.primary
            with contextlib.suppress(*NOT_SEEN):
                connection = await asyncpg.connect(primary.url(self._cluster.database_name), timeout=2)
                try:
                    while not self._ending.is_set() and primary is self._cluster.primary:
                        row = await connection.fetchrow(self.QUERY, timeout=2)
                        self.sights.append(Sight(time.monotonic(), *row))
                        await asyncio.sleep(self.PAUSE_S)
                finally:
                    connection.terminate()
            await asyncio.sleep(self.PAUSE_S)


class Believers(threading.Thread):
    """Asks each instance again and again whether it leads: `rivals` tells of two at once."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._ending = threading.Event()
        self.said: list[tuple[float, float, str]] = []

    def __enter__(self) -> Believers:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join(WAIT_S_MAX)

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._ask, args=(one,), daemon=True) for one in self._cluster.instances
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self, instance: Instance) -> None:
        while not self._ending.wait(POLL_S):
            sent_s = time.monotonic()
            if instance.running and instance.leads:
                self.said.append((sent_s, time.monotonic(), instance.name))

    def rivals(self) -> list[str]:
        """Return a complaint for each moment at which two led: an answer between two answers of another."""
        found = []
        for began_s, ended_s, name in self.said:
            for other in {who for _, _, who in self.said} - {name}:
                theirs = [(begin, end) for begin, end, who in self.said if who == other]
                before = max((end for _, end in theirs if end <= began_s), default=-inf)
                after = min((begin for begin, _ in theirs if begin >= ended_s), default=inf)
                # Within less than a lease nobody can have taken the lead and given it back.
                if after - before < LEASE_S:
                    found.append(f"{name} led at {began_s:.3f}, {other} at {before:.3f} and {after:.3f}")
        return found
