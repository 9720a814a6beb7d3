"""A follower answers what changes nothing and proves nothing but a session; all else goes to the leader."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from openred_central.api.endpoint import Where
from openred_central.api.handing_on import AHEAD_MAX, WAITING_MAX, handing_on, numbering
from openred_central.api.routes import ENDPOINTS, install
from openred_central.errors import CallerError
from openred_central.micro_engine.router import Router
from openred_central.micro_engine.wire.messages import Request, Response
from openred_central.security.sessions import SESSION_SCHEME
from tests.support.world import NODE, Reply, Routes, World, read_reply, run

from .caller.test_proving import OWNER, enrol

FROM_LEADER = Response.json({"from": "leader"}, headers=(("OpenRed-Seq", "ab12-9"),))
RUN = "ab12"


class FakeLeader:
    """A leader that answers all alike, and commits that come when `arriving` says so."""

    def __init__(self) -> None:
        self.run = RUN
        self.seq = 5
        self.waiting = 0
        self.arriving = True
        self.asked: list[Request] = []
        self.reached_for: list[tuple[int, float]] = []

    async def reached(self, seq: int, timeout_s: float) -> bool:
        self.reached_for.append((seq, timeout_s))
        if self.arriving:
            self.seq = max(self.seq, seq)
        return self.arriving

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        return FROM_LEADER


class Follower:
    """The endpoints of a world, as a follower serves them."""

    def __init__(self, **options: Any) -> None:
        self.world = World(**options)
        self.leader = FakeLeader()
        self.router = Router(1024 * 1024)
        install(
            Routes(self.router),  # type: ignore[arg-type]
            self.world.api,
            lambda endpoint, handler: handing_on(endpoint, self.world.api, handler, self.leader),
        )

    def answer(self, method: str, target: str, body: Any = None, **options: Any) -> Response:
        request = self.world.request(method, target, body, **options)
        route, parameters = self.router.admit(request)
        try:
            return run(route.handler(request, *parameters))
        except CallerError as error:
            return Response.problem(error)

    def call(self, method: str, target: str, body: Any = None, **options: Any) -> Reply:
        return read_reply(self.answer(method, target, body, **options))

    def hands_on(self, method: str, target: str, body: Any = None, **options: Any) -> bool:
        before = len(self.leader.asked)
        self.answer(method, target, body, **options)
        return len(self.leader.asked) > before


@pytest.fixture
def follower() -> Follower:
    return Follower()


SIGNED = {"signature": "sig=:AA==:", "signature_input": 'sig=("@method")'}
READS = [
    *("/discover", "/nodes/node-1", "/nodes/unknown", "/dashboard", "/health", "/health/live"),
    *("/health/ready", "/health/leader", "/openapi.json", "/docs", "/analytics", "/analytics?table=days"),
]


PROOFS: list[dict[str, Any]] = [
    *(SIGNED, {"claim": "x" * 22}, {"authorization": f"{SESSION_SCHEME} or3s.1.1.0.x"})
]


@pytest.mark.parametrize("target", READS)
def test_reads_are_answered_here_unless_they_bear_a_proof_that_counts(
    follower: Follower, target: str
) -> None:
    follower.world.register()
    assert not follower.hands_on("GET", target)
    assert not follower.hands_on("HEAD", target)
    for proof in PROOFS:
        assert follower.hands_on("GET", target, **proof) is target.startswith("/nodes/")


@pytest.mark.parametrize("proof", PROOFS)
def test_nobody_gets_an_answer_without_end_handed_on(follower: Follower, proof: dict[str, Any]) -> None:
    assert not follower.hands_on("GET", "/events", **proof)


def test_a_look_up_is_a_read(follower: Follower) -> None:
    assert not follower.hands_on("POST", "/lookup", {"node_ids": ["node-1"]})
    assert not follower.hands_on("POST", "/lookup", {"node_ids": ["node-1"]}, **SIGNED)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        *(("GET", "/"), ("GET", "/stats"), ("GET", "/security/keys"), ("POST", "/register")),
        *(("DELETE", "/nodes/node-1"), ("POST", "/nodes/node-1/key"), ("POST", "/security/token")),
        *(("POST", "/security/verify"), ("POST", "/security/revoke")),
    ],
)
def test_changes_and_what_the_leader_alone_knows_are_handed_on(
    follower: Follower, method: str, target: str
) -> None:
    follower.world.register()
    assert follower.hands_on(method, target, {} if method == "POST" else None)


def test_a_plain_heartbeat_of_an_active_unbound_node_is_heard_here(follower: Follower) -> None:
    follower.world.register()
    assert not follower.hands_on("POST", "/heartbeat/node-1")
    assert follower.hands_on("POST", "/heartbeat/node-1", {"services": ["chat"]})
    assert follower.hands_on("POST", "/heartbeat/node-1", **SIGNED)
    assert follower.hands_on("POST", "/heartbeat/node-1", claim="x" * 22)
    # Nobody is told on the word of a follower that there is no such node.
    assert follower.hands_on("POST", "/heartbeat/unknown")


def test_a_heartbeat_that_revives_is_handed_on(follower: Follower) -> None:
    follower.world.register()
    follower.world.wait(200 * 86_400.0)
    assert follower.hands_on("POST", "/heartbeat/node-1")


def test_a_bound_node_is_heard_here_by_its_session_alone(follower: Follower) -> None:
    world = follower.world
    enrol(world)
    session = world.signed(OWNER, "POST", "/heartbeat/node-1").document["session"]
    assert follower.hands_on("POST", "/heartbeat/node-1")
    assert follower.hands_on("POST", "/heartbeat/node-1", authorization=f"{SESSION_SCHEME} or3s.1.1.0.x")
    assert not follower.hands_on("POST", "/heartbeat/node-1", authorization=f"{SESSION_SCHEME} {session}")
    # A revocation ends it here as soon as the record is here.
    slot = world.directory.nodes.registry.slot_of("node-1")
    assert slot is not None
    world.directory.revoke_all(slot)
    assert follower.hands_on("POST", "/heartbeat/node-1", authorization=f"{SESSION_SCHEME} {session}")


def test_in_strict_mode_no_heartbeat_without_a_session_is_heard_here() -> None:
    follower = Follower(strict=True)
    enrol(follower.world)
    assert follower.hands_on("POST", "/heartbeat/node-1")


def test_every_endpoint_that_may_change_something_is_the_leaders() -> None:
    for endpoint in ENDPOINTS:
        if endpoint.where is Where.ANYWHERE:
            assert endpoint.method == "GET" or endpoint.path == "/lookup"
        elif endpoint.where is Where.SIGN_OF_LIFE:
            assert endpoint.path == "/heartbeat/{node_id}"


def test_a_caller_finds_its_change_here_with_its_next_request(follower: Follower) -> None:
    follower.call("POST", "/register", {})
    assert follower.leader.reached_for == [(9, 0.25)]
    assert follower.leader.seq == 9


def test_a_request_waits_for_the_change_that_it_names(follower: Follower) -> None:
    follower.world.register()
    assert follower.call("GET", "/nodes/node-1", openred_seq="ab12-5").status == 200
    assert follower.leader.reached_for == []
    assert follower.call("GET", "/nodes/node-1", openred_seq="ab12-7").status == 200
    assert follower.leader.reached_for == [(7, 1.0)]


def test_a_change_that_does_not_come_in_time_is_told(follower: Follower) -> None:
    follower.world.register()
    follower.leader.arriving = False
    reply = follower.call("GET", "/nodes/node-1", openred_seq="ab12-7")
    assert (reply.status, reply.document["error"]) == (503, "behind")
    assert reply.headers["Retry-After"] == "1"


def test_no_more_than_so_many_requests_wait(follower: Follower) -> None:
    follower.leader.waiting = WAITING_MAX
    assert follower.call("GET", "/discover", openred_seq="ab12-7").status == 503
    assert follower.leader.reached_for == []


@pytest.mark.parametrize("value", ["", "7", "ab12", "cd34-700", "ab12--7", "AB12-7", "ab12-7777777777777777"])
def test_a_number_of_another_run_or_none_is_ignored(follower: Follower, value: str) -> None:
    assert follower.call("GET", "/discover", openred_seq=value).status == 200
    assert follower.leader.reached_for == []


def test_a_number_that_no_client_can_have_is_refused(follower: Follower) -> None:
    reply = follower.call("GET", "/discover", openred_seq=f"ab12-{5 + AHEAD_MAX + 1}")
    assert (reply.status, reply.document["error"]) == (400, "bad_request")
    assert follower.call("GET", "/discover", openred_seq=f"ab12-{5 + AHEAD_MAX}").status == 200


def test_the_leader_tells_the_number_of_its_last_commit_with_each_change() -> None:
    world, router = World(), Router(1024 * 1024)
    install(
        Routes(router),  # type: ignore[arg-type]
        world.api,
        lambda endpoint, handler: numbering(endpoint, world.api, handler, RUN, lambda: 17),
    )

    def answer(method: str, target: str, body: Any = None, **options: Any) -> Response:
        request = world.request(method, target, body, **options)
        route, parameters = router.admit(request)
        return run(route.handler(request, *parameters))

    registered = answer("POST", "/register", NODE)
    assert dict(registered.headers)["OpenRed-Seq"] == "ab12-17"
    left = answer("DELETE", "/nodes/node-1", claim=orjson.loads(registered.body)["claim"])
    assert dict(left.headers)["OpenRed-Seq"] == "ab12-17"
    assert "OpenRed-Seq" not in dict(answer("GET", "/stats").headers)
