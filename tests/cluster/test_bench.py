"""The bench itself: PostgreSQL that can be killed, halted and promoted, and a network that can fail."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ENVIRONMENT
from tests.support.postgres import Bench, PgError, PgServer, installed
from tests.support.proxy import DIRECTIONS, Direction, Proxy
from tests.support.running import until

COUNT = "SELECT count(*) FROM kept"


def test_a_server_keeps_what_it_acknowledged_through_a_kill(postgres_bench: Bench) -> None:
    server = postgres_bench.server()
    server.execute("CREATE TABLE kept (i int); INSERT INTO kept VALUES (1)")
    server.kill()
    assert not server.running
    with pytest.raises(PgError):
        server.execute(COUNT)
    server.start()
    assert server.execute(COUNT) == "1"
    server.stop()


def test_a_halted_server_answers_after_its_halt(postgres_bench: Bench) -> None:
    server = postgres_bench.server()
    server.pause()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(server.execute("SELECT 1")))
    asking.start()
    asking.join(0.3)
    assert not answers
    server.go_on()
    asking.join()
    assert answers == ["1"]


def test_a_synchronous_standby_has_what_the_killed_primary_acknowledged(postgres_bench: Bench) -> None:
    primary = postgres_bench.server()
    standby = primary.standby(synchronous=True)
    primary.execute("CREATE TABLE kept (i int); INSERT INTO kept VALUES (1)")
    primary.kill()
    standby.promote()
    assert standby.execute(COUNT) == "1"
    standby.execute("INSERT INTO kept VALUES (2)")


def test_a_standby_lacks_what_its_network_swallowed(postgres_bench: Bench) -> None:
    primary = postgres_bench.server()
    with Proxy(("127.0.0.1", primary.port)) as proxy:
        standby = primary.standby(through=proxy.port)
        primary.execute("CREATE TABLE kept (i int)")
        until(lambda: standby.execute("SELECT to_regclass('kept')"), "the standby to follow")
        proxy.swallow("to_client")
        primary.execute("INSERT INTO kept VALUES (1)")
        primary.kill()
        proxy.cut()
        standby.promote()
        assert standby.execute(COUNT) == "0"


def test_a_password_is_asked_for_over_tcp(postgres_bench: Bench) -> None:
    server = postgres_bench.server(password="s:e/cret")
    assert "s%3Ae%2Fcret@" in server.url("postgres")
    psql = postgres_bench.run_psql
    assert psql(server.url("postgres"), "SELECT 1") == "1"
    with pytest.raises(PgError, match="password authentication failed"):
        psql(server.url("postgres", password="other"), "SELECT 1")


def test_each_test_has_a_database_of_its_own(postgres: PgServer, database_url: str) -> None:
    assert database_url.startswith("postgresql://")
    postgres.execute("CREATE TABLE kept (i int)", database_url.rpartition("/")[2])


def test_binaries_that_are_named_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "bin"
    named.mkdir()
    (named / "initdb").touch()
    monkeypatch.setitem(ENVIRONMENT, "OPENRED_TEST_PG_BIN", str(named))
    assert installed()[0] == named


class Echo:
    """A server that sends back what it gets, and an upper-case ``END`` when its client ends."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(1_000):
                    connection.sendall(piece)
                connection.sendall(b"END")
            except OSError:
                pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    echo = Echo()
    with Proxy(echo.address) as proxy:
        yield proxy
    echo.listener.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(proxy.address, timeout=10)


def silent(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def test_a_proxy_carries_both_ways_and_both_ends(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b"END"
        assert client.recv(10) == b""


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_is_swallowed_comes_when_the_network_is_restored(proxy: Proxy, direction: Direction) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        proxy.swallow(direction)
        client.sendall(b"two")
        assert silent(client)
        proxy.restore()
        assert client.recv(10) == b"two"


def test_a_cut_resets_connections_and_refuses_others_until_it_is_mended(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert proxy.connections == 0
    proxy.restore()
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"


def test_a_half_open_network_accepts_and_says_nothing(proxy: Proxy) -> None:
    with connect(proxy) as former:
        former.sendall(b"one")
        assert former.recv(10) == b"one"
        proxy.half_open()
        with connect(proxy) as client:
            for each in (former, client):
                each.sendall(b"two")
                assert silent(each)
            proxy.restore()
            for each in (former, client):
                assert each.recv(10) == b"two"


def test_a_delay_holds_each_way(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.delay_s = 0.3
        client.sendall(b"one")
        assert silent(client)
        assert client.recv(10) == b"one"


def test_a_server_that_refuses_resets_the_client(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.server = listener.getsockname()
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)
