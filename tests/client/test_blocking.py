"""The blocking client does what `Client` does, for threads that wait for each answer."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from openred_central.client import BlockingClient, Client, ClientError, ProblemError
from openred_central.client import blocking as module
from tests.support.fake_server import Asked, FakeServer, Told
from tests.support.running import until
from tests.support.signed_requests import ed25519_key

from .test_watching import GONE, NOW_IS, chunks, encoded

WAIT_S = 60.0


def node(server: FakeServer) -> BlockingClient:
    return BlockingClient(server.connections(), ed25519_key())


def named(asked: Asked) -> Told:
    return 200, {"node_id": asked.target.rpartition("/")[2]}


def busy(_: Asked) -> Told:
    """Let the client wait before it asks again."""
    return 503, {"error": "store_unavailable"}, {"Retry-After": "5"}


def public(kind: type, wanted: Callable[[Any], bool]) -> dict[str, Any]:
    return {name: member for name, member in vars(kind).items() if name[0] != "_" and wanted(member)}


def test_it_has_all_that_the_client_has() -> None:
    asynchronous = public(Client, inspect.iscoroutinefunction)
    for name, method in asynchronous.items():
        if name == "close":
            continue
        twin = getattr(BlockingClient, name)
        assert not inspect.iscoroutinefunction(twin)
        parameters = [inspect.signature(each).parameters for each in (method, twin)]
        assert list(parameters[0].values()) == list(parameters[1].values()), name
        assert twin.__doc__
    missing = public(Client, callable).keys() - public(BlockingClient, callable).keys()
    assert missing == set(), "add it to BlockingClient"
    properties = public(Client, lambda member: isinstance(member, property)).keys() | {"trusted"}
    assert public(BlockingClient, lambda member: isinstance(member, property)).keys() == properties


def test_it_answers_and_refuses_as_the_client_does() -> None:
    server = FakeServer(lambda asked: (404, {"error": "gone"}) if asked.target == "/stats" else (200, {}))
    with node(server) as alice:
        assert alice.register("192.0.2.1", 7, services=["storage"]) == {}
        assert server.asked[0].said["services"] == ["storage"]
        assert alice.node_id == f"k-{ed25519_key().key_id}"
        assert (alice.key, alice.claim, alice.clock_offset_s) == (ed25519_key(), None, 0.0)
        assert alice.trusted.key_set is None
        assert alice.now_s() > 0
        with pytest.raises(ProblemError) as caught:
            alice.stats()
    assert caught.value.error == "gone"


def test_several_threads_use_it_at_once() -> None:
    with node(FakeServer(named)) as alice, ThreadPoolExecutor(8) as threads:
        names = [f"n{number}" for number in range(200)]
        answers = list(threads.map(alice.node, names))
    assert [answer["node_id"] for answer in answers] == names


def beside(call: Callable[[], object]) -> Future[object]:
    """Return what becomes of a call that another thread makes."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_closing_ends_calls_that_wait_and_the_thread() -> None:
    server = FakeServer(busy)
    alice = node(server)
    waiting, alive = beside(alice.stats), beside(alice.keep_alive)
    until(lambda: len(server.asked) >= 2, "both to have asked")
    threads = [thread for thread in threading.enumerate() if thread.name == "openred-client"]
    for _ in range(2):
        alice.close()
    assert isinstance(waiting.exception(WAIT_S), ClientError)
    assert alive.result(WAIT_S) is None
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(ClientError, match="the client is closed"):
        alice.stats()
    assert alice.keep_alive() is None  # type: ignore[func-returns-value]


def test_keep_alive_reports_and_raises_what_the_directory_refuses() -> None:
    refused = iter([False, True])
    server = FakeServer(
        lambda _: (403, {"error": "forbidden"}) if next(refused) else (200, {"heartbeat_advice_s": 1})
    )
    reports: list[object] = []
    with node(server) as alice, pytest.raises(ProblemError):
        alice.keep_alive(reports.append)
    assert reports == [{"heartbeat_advice_s": 1}]


def test_a_report_that_calls_the_client_is_told() -> None:
    with node(FakeServer(lambda _: (200, {}))) as alice:
        with pytest.raises(ClientError, match="a report may not call the client"):
            alice.keep_alive(lambda _: alice.stats())
        assert alice.stats() == {}


def test_a_watch_yields_events_until_it_or_the_client_is_closed() -> None:
    server = FakeServer(lambda _: chunks(encoded(NOW_IS), encoded(GONE)))
    with node(server) as alice:
        events = alice.watch(["a"])
        assert [next(events), next(events)] == [NOW_IS, GONE]
        events.close()
        assert list(events) == []
        others = alice.watch(["a"])
        assert next(others) == NOW_IS
    with pytest.raises(ClientError, match="the client is closed"):
        next(others)


def test_a_watch_that_is_refused_says_why() -> None:
    with (
        node(FakeServer(lambda _: (403, {"error": "forbidden"}))) as alice,
        pytest.raises(ProblemError),
    ):
        next(alice.watch(["a"]))


def test_it_does_not_outlast_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    with node(FakeServer(lambda _: (200, {}))) as alice:
        monkeypatch.setattr(module.os, "getpid", lambda: -1)
        with pytest.raises(ClientError, match="does not outlast a fork"):
            alice.stats()
        # Closing it there leaves the parent's alone.
        alice.close()
        monkeypatch.undo()
        assert alice.stats() == {}
