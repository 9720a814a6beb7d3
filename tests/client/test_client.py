"""A node's side of the protocol: what goes over the wire, and what comes of the answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central import client as client_package
from openred_central.client import (
    BadAnswer,
    Client,
    ClientError,
    ClockError,
    ConnectionFailed,
    ForeignAnswer,
    ProblemError,
    RetryLater,
)
from openred_central.client.client import pause_after_failure, pause_after_refusal, pause_until_next
from openred_central.security.refusals import VerificationError
from tests.support.fake_server import Asked, FakeServer, Handler, Lost, Told
from tests.support.keys import NOW, directory_key, keyset
from tests.support.signed_requests import ed25519_key, other_key

from .test_peering import OTHER_ROOT, vouched

OWN = f"k-{ed25519_key().key_id}"
SESSION = "or3s.1.1.0.x"
CHANCE = st.floats(0, 1)


def client(server: FakeServer, *, keyed: bool = True, **options: Any) -> Client:
    return Client(
        server.connections(),
        ed25519_key() if keyed else None,
        clock=server.clock,
        entropy=random.Random(3).randbytes,
        sleep=server.sleep,
        **options,
    )


async def asked_by(
    method: Callable[[Client], Awaitable[object]], answer: Told = (200, {}), **options: Any
) -> list[Asked]:
    """Return the requests that a client sends when `method` is called."""
    server = FakeServer(lambda _: answer)

    async with client(server, **options) as node:
        await method(node)
    return server.asked


@pytest.mark.parametrize(
    ("method", "line", "said", "proof"),
    [
        (lambda c: c.heartbeat(), f"POST /heartbeat/{OWN}", None, "signature"),
        (lambda c: c.heartbeat(port=9), f"POST /heartbeat/{OWN}", {"port": 9}, "signature"),
        (lambda c: c.leave(), f"DELETE /nodes/{OWN}", {"mode": "leave"}, "signature"),
        (lambda c: c.forget(), f"DELETE /nodes/{OWN}", {"mode": "forget"}, "signature"),
        (lambda c: c.stats(), "GET /stats", None, "nothing"),
        (lambda c: c.analytics(), "GET /analytics", None, "nothing"),
        (lambda c: c.analytics(table="days"), "GET /analytics?table=days", None, "nothing"),
        (lambda c: c.analytics_csv(), "GET /analytics?format=csv", None, "nothing"),
        (lambda c: c.node("a"), "GET /nodes/a", None, "nothing"),
        (lambda c: c.node("a/b"), "GET /nodes/a%2Fb", None, "nothing"),
        (lambda c: c.lookup(["a"]), "POST /lookup", {"node_ids": ["a"]}, "nothing"),
        (lambda c: c.discover(), "GET /discover", None, "nothing"),
        (
            lambda c: c.discover(["a", "b"], max_results=3, near="x y"),
            "GET /discover?services=a%2Cb&max_results=3&near=x+y",
            None,
            "nothing",
        ),
        (lambda c: c.tokens(), "POST /security/token", {"node_id": OWN}, "signature"),
        (
            lambda c: c.tokens("bob", purpose="chat", lifetime_s=60),
            "POST /security/token",
            {"node_id": OWN, "peer_id": "bob", "purpose": "chat", "lifetime_s": 60},
            "signature",
        ),
        (lambda c: c.verify("x"), "POST /security/verify", {"token": "x"}, "nothing"),
        (lambda c: c.verify("x", "y"), "POST /security/verify", {"token_a": "x", "token_b": "y"}, "nothing"),
        (lambda c: c.revoke("x"), "POST /security/revoke", {"node_id": OWN, "token_id": "x"}, "signature"),
        (lambda c: c.revoke(), "POST /security/revoke", {"node_id": OWN, "all": True}, "signature"),
    ],
)
async def test_what_each_method_sends(
    method: Callable[[Client], Awaitable[object]], line: str, said: object, proof: str
) -> None:
    (asked,) = await asked_by(method)
    assert f"{asked.method} {asked.target}" == line
    assert (asked.said if asked.body else None) == said
    assert asked.proof == proof


async def test_a_registration_is_signed_and_says_the_key() -> None:
    (asked,) = await asked_by(
        lambda c: c.register("192.0.2.1", 7, services=["a"], metadata={"b": 1}, region="eu")
    )
    assert asked.said == {
        "node_id": OWN,
        "address": "192.0.2.1",
        "port": 7,
        "public_key": ed25519_key().public_text,
        "services": ["a"],
        "metadata": {"b": 1},
        "region": "eu",
    }
    assert (asked.target, asked.proof) == ("/register", "signature")


async def test_a_node_without_a_key_registers_and_keeps_its_claim() -> None:
    server = FakeServer(lambda _: (201, {"claim": "secret"}))

    node = client(server, keyed=False, node_id="bob")
    with pytest.raises(ValueError, match="needs a key"):
        await node.register("192.0.2.1", 7)
    await node.register("192.0.2.1", 7, public_key="some text")
    assert node.claim == "secret"
    await node.heartbeat()
    await node.heartbeat(port=8)
    await node.leave()
    assert [asked.proof for asked in server.asked] == ["nothing", "nothing", "claim", "claim"]


async def test_many_ids_are_looked_up_a_hundred_at_a_time() -> None:
    def answer(asked: Asked) -> Told:
        ids = asked.said["node_ids"]
        return 200, {"nodes": [{"node_id": ids[0]}], "missing": ids[1:]}

    server = FakeServer(answer)
    found = await client(server).lookup([str(number) for number in range(250)])
    assert [len(asked.said["node_ids"]) for asked in server.asked] == [100, 100, 50]
    assert [node["node_id"] for node in found["nodes"]] == ["0", "100", "200"]
    assert len(found["missing"]) == 247


@pytest.mark.parametrize("services", [[""], ["", ""]])
async def test_empty_service_names_are_refused(services: list[str]) -> None:
    with pytest.raises(ClientError, match="have no name"):
        await asked_by(lambda c: c.discover(services))


async def test_invalid_names_are_left_to_the_directory() -> None:
    (asked,) = await asked_by(lambda c: c.node("\udcff"))
    assert asked.target == "/nodes/%ED%B3%BF"
    (asked,) = await asked_by(lambda c: c.discover(["\udcff"]))
    assert asked.target == "/discover?services=%ED%B3%BF"


async def test_one_that_hides_is_seen_by_itself() -> None:
    def answer(asked: Asked) -> Told:
        return (200, {"node_id": OWN}) if asked.proof == "signature" else (404, {"error": "node_not_found"})

    assert (await client(FakeServer(answer)).node()) == {"node_id": OWN}
    with pytest.raises(ProblemError, match="node_not_found"):
        await client(FakeServer(answer)).node("bob")


async def test_new_key_signs_under_the_former_id() -> None:
    server = FakeServer(lambda _: (200, {}))

    node = client(server)
    await node.change_key(other_key(), next_key="n" * 43)
    assert (node.key, node.node_id) == (other_key(), OWN)
    await node.heartbeat()
    change, heartbeat = server.asked
    assert change.target == f"/nodes/{OWN}/key"
    assert change.said == {"public_key": other_key().public_text, "next_key": "n" * 43}
    assert change.headers["signature-input"].startswith("old=")
    assert f'keyid="{other_key().key_id}"' in heartbeat.headers["signature-input"]


async def test_new_registration_after_a_key_change_drops_the_old_commitment() -> None:
    server = FakeServer(
        lambda asked: (404, {"error": "node_not_found"}) if "heart" in asked.target else (200, {})
    )

    node = client(server)
    await node.register("192.0.2.1", 7, next_key=other_key().key_id)
    await node.change_key(other_key())
    task = asyncio.create_task(node.keep_alive())
    while len(server.asked) < 4:
        await asyncio.sleep(0)
    task.cancel()
    again = server.asked[3]
    assert again.target == "/register"
    assert again.said is not None
    assert "next_key" not in again.said


async def test_a_change_of_keys_is_never_sent_twice() -> None:
    """The first one may have arrived; the second would be refused, and nobody would know which key counts."""

    def lose(_: Asked) -> Told:
        raise Lost

    server = FakeServer(lambda _: (200, {}))

    node = client(server)
    await node.stats()
    server.handler = lose
    with pytest.raises(ConnectionFailed):
        await node.change_key(other_key())
    assert node.key == ed25519_key()
    assert len(server.asked) == 2


async def test_a_session_is_asked_for_by_a_signature_and_used() -> None:
    server = FakeServer(lambda _: (200, {"session": SESSION}))

    node = client(server)
    assert await node.session() == SESSION
    await node.heartbeat()
    await node.tokens("bob")
    await node.revoke()
    await node.heartbeat()
    assert server.asked[0].said == {"node_id": OWN, "purpose": "session"}
    assert [asked.proof for asked in server.asked] == [
        *("signature", "openred", "openred", "signature", "signature")
    ]


async def test_an_answer_without_a_session_is_none() -> None:
    with pytest.raises(BadAnswer, match="without session"):
        await asked_by(lambda c: c.session())


async def test_unchanged_key_set_is_fetched_once() -> None:
    def answer(asked: Asked) -> Told:
        if asked.headers.get("if-none-match") == '"1"':
            return b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'
        head = f'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: {len(content)}\r\n\r\n'
        return head.encode() + content

    content = vouched(keyset(directory_key()))
    server = FakeServer(answer)

    server.clock.jump_wall(NOW - server.clock.wall_s())
    node = client(server)
    first = await node.key_set()
    assert await node.key_set() is first
    assert node.trusted.root_key_id
    other = client(server, root_key_id=OTHER_ROOT.public.key_id)
    with pytest.raises(VerificationError, match="root key"):
        await other.key_set()
    assert [asked.headers.get("if-none-match") for asked in server.asked] == [None, '"1"', None]


async def test_key_sets_are_judged_by_our_own_clock_alone() -> None:
    """A proxy may change the time of the directory, but an expired key set stays expired."""
    content = vouched(keyset(directory_key()))

    def answer(asked: Asked) -> Told:
        if asked.target == "/security/keys":
            return f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
        if len(server.asked) > 1:
            return 200, {}
        told = {"error": "proof_required", "reason": "signature_early", "server_time": server_time}
        return 401, told

    server = FakeServer(answer)
    server.clock.jump_wall(NOW + 400 * 86_400.0 - server.clock.wall_s())
    server_time = datetime.fromtimestamp(server.clock.wall_s() - 80_000, UTC).isoformat()

    node = client(server)
    await node.heartbeat()
    assert node.clock_offset_s == pytest.approx(-80_000, abs=0.01)
    assert node.now_s() == server.clock.wall_s()
    expires_s = keyset(directory_key()).expires_at
    server.clock.jump_wall(expires_s + 100 - server.clock.wall_s())
    with pytest.raises(VerificationError, match="was valid until"):
        await node.key_set()


def test_a_url_is_all_that_a_client_needs() -> None:
    before_s = client_package.SystemClock().wall_s()
    node = client_package.Client("http://directory.example", client_package.PrivateKey.generate_ed25519())
    assert node.node_id.startswith("k-")
    assert before_s <= node.now_s() <= client_package.SystemClock().wall_s()


class Stopped(Exception):
    """Ends a loop that has no end."""


def lasting(server: FakeServer, pauses: int, before_sleep: Callable[[], object] = lambda: None) -> Client:
    """Return a client that raises `Stopped` when it has slept so often."""

    async def sleep(seconds: float) -> None:
        before_sleep()
        await server.sleep(seconds)
        if len(server.waited_s) >= pauses:
            raise Stopped

    return Client(
        server.connections(),
        ed25519_key(),
        clock=server.clock,
        entropy=random.Random(3).randbytes,
        sleep=sleep,
        wait_s_max=0.0,
    )


async def kept_alive(
    handler: Handler, pauses: int, *, registered: bool = True
) -> tuple[FakeServer, list[Any]]:
    """Let a client send heartbeats for so many pauses. Return the server and the client's reports."""
    server, told = FakeServer(handler), list[Any]()
    node = lasting(server, pauses)
    if registered:
        await node.register("192.0.2.1", 7)
    with pytest.raises(Stopped):
        await node.keep_alive(told.append)
    return server, told


async def test_heartbeats_follow_the_advised_pace() -> None:
    server, told = await kept_alive(lambda _: (200, {"heartbeat_advice_s": 1_000}), 5)
    assert server.waited_s == [60.0] * 5
    assert len(told) == 1


async def test_heartbeat_comes_when_it_is_due() -> None:
    heard_s: list[float] = []

    def answer(asked: Asked) -> Told:
        heard_s.append(server.clock.elapsed_s())
        return 200, {"heartbeat_advice_s": 1_000}

    server = FakeServer(answer)
    with pytest.raises(Stopped):
        await lasting(server, pauses=35).keep_alive()
    assert [later - earlier for earlier, later in pairwise(heard_s)] == [1_000.0, 1_000.0]


async def test_heartbeat_follows_a_suspend_at_once() -> None:
    heard_s: list[float] = []

    def answer(asked: Asked) -> Told:
        heard_s.append(server.clock.elapsed_s())
        return 200, {"heartbeat_advice_s": 86_400}

    server = FakeServer(answer)
    server.clock.advance(86_400.0)

    def suspend() -> None:
        if len(server.waited_s) == 900:
            server.clock.suspend(9 * 3_600.0)

    with pytest.raises(Stopped):
        await lasting(server, pauses=1_000, before_sleep=suspend).keep_alive()
    suspended_at_s = heard_s[0] + 900 * 60
    assert heard_s[1] == max(suspended_at_s + 9 * 3_600 + 60, heard_s[0] + 86_400)


@given(st.floats(70, 3_000), st.floats(3_600, 100 * 3_600))
async def test_heartbeat_missed_in_a_suspend_comes_within_a_slice_of_its_end(
    awake_s: float, suspended_s: float
) -> None:
    heard_s, asleep = list[float](), list[float]()

    def answer(asked: Asked) -> Told:
        heard_s.append(server.clock.elapsed_s())
        return 200, {"heartbeat_advice_s": 3_600}

    def suspend() -> None:
        if not asleep and server.clock.elapsed_s() >= heard_s[0] + awake_s:
            asleep.append(server.clock.elapsed_s())
            server.clock.suspend(suspended_s)

    server = FakeServer(answer)
    with pytest.raises(Stopped):
        await lasting(server, pauses=200, before_sleep=suspend).keep_alive()
    woken_s = asleep[0] + suspended_s
    assert woken_s <= heard_s[1] <= woken_s + 60
    # The next one is on time again.
    assert heard_s[2] == pytest.approx(heard_s[1] + 3_600, abs=0.001)


async def test_no_heartbeat_waits_longer_because_the_clock_is_set_back() -> None:
    server = FakeServer(lambda _: (200, {"heartbeat_advice_s": 600}))
    with pytest.raises(Stopped):
        await lasting(server, pauses=12, before_sleep=lambda: server.clock.suspend(-60.0)).keep_alive()
    assert len(server.asked) == 2


async def test_pauses_grow_while_the_directory_is_away() -> None:
    tries_s: list[float] = []

    def lose(asked: Asked) -> Told:
        tries_s.append(server.clock.elapsed_s())
        raise Lost

    server, told = FakeServer(lose), list[Any]()
    with pytest.raises(Stopped):
        await lasting(server, pauses=40).keep_alive(told.append)
    pauses_s = [later - earlier for earlier, later in pairwise(tries_s)]
    assert pauses_s[0] <= 2 < pauses_s[3] < 300 <= pauses_s[-1] <= 600
    assert all(isinstance(error, ConnectionFailed) for error in told)


async def test_node_with_a_wrong_clock_keeps_trying() -> None:
    def answer(asked: Asked) -> Told:
        if asked.target == "/register":
            return 201, {}
        if len(server_times) > 1:
            return 401, {
                "error": "proof_required",
                "reason": "signature_expired",
                "server_time": server_times.pop(),
            }
        return 200, {"heartbeat_advice_s": 60}

    server_times = ["2100-01-01T00:00:00+00:00"] * 3
    server, told = await kept_alive(answer, 3)
    assert [type(said) for said in told] == [ClockError, ClockError, dict]
    assert server.waited_s[0] <= 2


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_directory_that_cannot_just_now_is_asked_again(status: int) -> None:
    answers = [(201, {}), (status, {}), (200, {"heartbeat_advice_s": 60})]
    server, told = await kept_alive(lambda _: answers.pop(0), 2)
    assert server.waited_s[0] <= 2
    assert server.waited_s[1] >= 54
    assert isinstance(told[0], ProblemError)


async def test_a_directory_that_says_when_is_asked_then() -> None:
    answers = [(201, {}), (429, {}, {"Retry-After": "60"}), (200, {"heartbeat_advice_s": 60})]
    server, told = await kept_alive(lambda _: answers.pop(0), 2)
    assert 60 <= server.waited_s[0] <= 66
    assert isinstance(told[0], RetryLater)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_node_that_is_known_no_more_registers_again(status: int) -> None:
    answers = [(201, {}), (status, {}), (201, {"heartbeat_advice_s": 60}), (200, {"heartbeat_advice_s": 60})]
    server, _ = await kept_alive(lambda _: answers.pop(0), 2)
    assert [asked.target for asked in server.asked] == [
        *("/register", f"/heartbeat/{OWN}", "/register", f"/heartbeat/{OWN}")
    ]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 410, 421, 429, 502])
@pytest.mark.parametrize("body", [b"", b"<h1>No</h1>", b'{"error":"node_not_found"}'])
async def test_proxy_answers_change_nothing(status: int, body: bytes) -> None:
    def answer(asked: Asked) -> Told:
        if len(server_answers) > 1:
            return server_answers.pop(0)
        return 200, {"heartbeat_advice_s": 60}

    proxy = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    server_answers: list[Told] = [(201, {}), proxy, proxy, (200, {})]
    server, told = await kept_alive(answer, 3)
    assert [type(said) for said in told] == [ForeignAnswer, ForeignAnswer, dict]
    assert [asked.target for asked in server.asked].count("/register") == 1
    assert server.waited_s[0] <= 2


@pytest.mark.parametrize("status", [408, 429])
async def test_passing_refusals_are_retried(status: int) -> None:
    answers = [(201, {}), (status, {}), (200, {"heartbeat_advice_s": 60})]
    _, told = await kept_alive(lambda _: answers.pop(0), 2)
    assert [type(said) for said in told] == [ProblemError, dict]


@pytest.mark.parametrize("status", [400, 401, 404, 410])
async def test_a_refusal_that_will_not_pass_ends_it(status: int) -> None:
    server = FakeServer(lambda _: (status, {"error": "x"}))
    with pytest.raises(ClientError, match=str(status)):
        await client(server).keep_alive()
    assert server.waited_s == []


@given(st.floats(1, 14 * 86_400))
def test_heartbeat_is_due_as_advised(advice_s: float) -> None:
    assert pause_until_next(advice_s) == advice_s


@pytest.mark.parametrize("advice_s", [None, "soon", -5, 0, 1e300, float("inf"), True, [1]])
def test_advice_that_is_none_does_no_harm(advice_s: object) -> None:
    assert 1.0 <= pause_until_next(advice_s) <= 14 * 86_400


@given(st.floats(0, 3_600), CHANCE)
def test_no_retry_before_the_given_time(retry_after_s: float, chance: float) -> None:
    assert max(1.0, retry_after_s) <= pause_after_refusal(retry_after_s, chance) <= 1.1 * retry_after_s + 1.1


@given(st.integers(1, 10**6), CHANCE)
def test_pauses_grow_to_ten_minutes_and_differ(failures: int, chance: float) -> None:
    pause_s = pause_after_failure(failures, chance)
    assert 1.0 <= pause_s <= 600.0
    assert pause_s <= pause_after_failure(failures + 1, chance)
    assert pause_after_failure(failures, 1.0) == 2 * pause_after_failure(failures, 0.0)
