"""Single nodes by their ids: seeing one, removing one, and looking up many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from openred_central.errors import CallerError
from openred_central.micro_engine.wire.messages import Response
from openred_central.storage.store import StoreState
from tests.support.world import DAY_S, Commit, World, assert_problem, run


def ways_to_end(world: World, claim: str) -> dict[str, Callable[[], object]]:
    return {
        "hidden": lambda: world.register(discoverable=False, claim=claim),
        "forgotten": lambda: world.call("DELETE", "/nodes/node-1?mode=forget", claim=claim),
        "dead": lambda: world.wait(1_000 * DAY_S),
    }


@pytest.mark.parametrize("first", ["shown", "hidden"])
@pytest.mark.parametrize("then", ["hidden", "forgotten", "dead"])
def test_gone_hidden_and_unknown_nodes_look_equal_to_strangers(first: str, then: str) -> None:
    world, empty = World(), World()
    unknown = empty.call("GET", "/nodes/node-1")
    assert_problem(unknown, 404, "node_not_found")
    claim = world.claim_of(discoverable=first == "shown")
    ways_to_end(world, claim)[then]()
    assert world.call("GET", "/nodes/node-1") == unknown
    looked_up = {"node_ids": ["node-1"]}
    assert world.call("POST", "/lookup", looked_up) == empty.call("POST", "/lookup", looked_up)


@pytest.mark.parametrize("then", ["forgotten", "dead"])
def test_a_dead_node_learns_so_by_its_heartbeat(then: str) -> None:
    world = World()
    ways_to_end(world, world.claim_of())[then]()
    assert_problem(world.call("POST", "/heartbeat/node-1"), 410, "node_dead")


# Hidden nodes


def test_a_hidden_node_is_answered_as_an_unknown_one() -> None:
    world, empty = World(), World()
    foreign = world.claim_of(node_id="node-2")
    world.register(discoverable=False)
    unknown = empty.call("GET", "/nodes/node-1")
    assert_problem(unknown, 404, "node_not_found")
    assert world.call("GET", "/nodes/node-1") == unknown
    for wrong in (foreign, "A" * 22, ""):
        assert world.call("GET", "/nodes/node-1", claim=wrong) == unknown
    assert world.call("GET", "/nodes/node-1", authorization="Bearer abc") == unknown


@pytest.mark.parametrize("asleep_days", [0, 181, 300])
def test_a_hidden_node_is_shown_to_itself(asleep_days: int) -> None:
    world = World()
    claim = world.claim_of(discoverable=False)
    world.wait(asleep_days * DAY_S)
    reply = world.call("GET", "/nodes/node-1", claim=claim)
    assert (reply.status, reply.document["discoverable"]) == (200, False)


def test_a_hidden_node_is_in_no_lookup_and_no_discovery() -> None:
    world = World()
    claim = world.claim_of(discoverable=False, services=["relay"])
    looked_up = world.call("POST", "/lookup", {"node_ids": ["node-1", "node-0"]}, claim=claim).document
    assert looked_up == {"nodes": [], "missing": ["node-1", "node-0"]}
    for query in ("", "?services=relay", "?states=active"):
        found = world.call("GET", f"/discover{query}", claim=claim).document
        assert (found["nodes"], found["total_found"]) == ([], 0)


def test_a_node_can_hide_and_show_itself_again() -> None:
    world = World()
    claim = world.claim_of()
    world.register(discoverable=False, claim=claim)
    assert world.call("GET", "/nodes/node-1").status == 404
    world.register(discoverable=True, claim=claim)
    assert world.call("GET", "/nodes/node-1").status == 200


def test_a_wrong_claim_does_not_hide_a_public_node() -> None:
    world = World()
    world.register()
    assert world.call("GET", "/nodes/node-1", claim="A" * 22).status == 200


# Departure


def test_leaving_hides_a_node_and_keeps_its_identity() -> None:
    world = World()
    claim = world.claim_of(services=["relay"])
    reply = world.call("DELETE", "/nodes/node-1", claim=claim)
    assert reply.status == 200
    assert reply.document == {
        "status": "left",
        "node_id": "node-1",
        "state": "coma",
        "durable": True,
        "message": "The node is hidden and its identity kept; a heartbeat brings it back.",
    }
    assert world.call("GET", "/discover?states=coma").document["nodes"] == []
    assert world.call("POST", "/heartbeat/node-1").document["previous_state"] == "coma"
    assert world.call("GET", "/discover?services=relay").document["total_found"] == 1
    assert world.register(services=["relay"], port=9_999, claim=claim).status == 200


def test_forgetting_erases_a_node_and_keeps_its_name() -> None:
    world = World()
    claim = world.claim_of()
    reply = world.call("DELETE", "/nodes/node-1?mode=forget", claim=claim)
    assert reply.status == 200
    assert reply.document.keys() == {"status", "node_id", "state", "durable", "message"}
    assert (reply.document["status"], reply.document["state"]) == ("forgotten", "dead")
    gone = world.call("POST", "/heartbeat/node-1")
    assert_problem(gone, 410, "node_dead")
    assert "forgotten" in gone.document["detail"]
    assert_problem(world.register(public_key="another"), 409, "node_id_taken")
    assert world.register().status == 201


@pytest.mark.parametrize("mode", ["leave", "forget"])
@pytest.mark.parametrize("asleep_days", [0, 181, 300])
def test_departure_needs_the_claim(mode: str, asleep_days: int) -> None:
    world = World()
    claim = world.claim_of()
    foreign = world.claim_of(node_id="node-2")
    world.wait(asleep_days * DAY_S)
    before = world.call("GET", "/nodes/node-1").document
    target = f"/nodes/node-1?mode={mode}"
    reply = world.call("DELETE", target)
    assert_problem(reply, 401, "proof_required")
    assert reply.headers["WWW-Authenticate"] == "OpenRed, Claim"
    for wrong in (foreign, "A" * 22):
        assert_problem(world.call("DELETE", target, claim=wrong), 403, "forbidden")
    assert world.call("GET", "/nodes/node-1").document == before
    assert world.call("DELETE", target, claim=claim).status == 200


def test_a_node_that_left_may_leave_again_or_be_forgotten() -> None:
    world = World()
    claim = world.claim_of()
    for target in ("/nodes/node-1", "/nodes/node-1?mode=leave", "/nodes/node-1?mode=forget"):
        assert world.call("DELETE", target, claim=claim).status == 200
    assert_problem(world.call("DELETE", "/nodes/node-1", claim=claim), 410, "node_dead")


@pytest.mark.parametrize("mode", ["", "Leave", "purge", "leave,forget"])
def test_another_mode_is_refused(mode: str) -> None:
    world = World()
    claim = world.claim_of()
    reply = world.call("DELETE", f"/nodes/node-1?mode={mode}", claim=claim)
    assert_problem(reply, 400, "bad_request", fields=["mode"])


def test_an_unknown_node_cannot_depart() -> None:
    assert_problem(World().call("DELETE", "/nodes/node-1", claim="A" * 22), 404, "node_not_found")


@pytest.mark.parametrize("body", [{}, {"mode": "forget"}, {"other": 1}])
def test_a_mode_in_the_query_counts_also_with_a_body(body: dict[str, Any]) -> None:
    world = World()
    claim = world.claim_of()
    reply = world.call("DELETE", "/nodes/node-1?mode=forget", body, claim=claim)
    assert (reply.status, reply.document["status"]) == (200, "forgotten")


def test_two_modes_are_refused() -> None:
    world = World()
    claim = world.claim_of()
    reply = world.call("DELETE", "/nodes/node-1?mode=forget", {"mode": "leave"}, claim=claim)
    assert_problem(reply, 400, "bad_request", fields=["mode"])
    assert world.call("GET", "/nodes/node-1").document["state"] == "active"


@pytest.mark.parametrize("mode", ["leave", "forget"])
def test_a_departure_is_not_acknowledged_before_the_commit(mode: str) -> None:
    world = World()
    claim = world.claim_of()
    (before,) = world.saved_changes
    world.commit = Commit()
    endpoint = world.start(world.request("DELETE", f"/nodes/node-1?mode={mode}", claim=claim))
    endpoint.send(None)
    assert world.saved_changes[1] > before
    world.commit.done = True
    assert run(endpoint).status == 200


@pytest.mark.parametrize("mode", ["leave", "forget"])
def test_no_node_departs_without_a_store(mode: str) -> None:
    world = World()
    claim = world.claim_of()
    world.store_state = StoreState.DETACHED
    reply = world.call("DELETE", f"/nodes/node-1?mode={mode}", claim=claim)
    assert_problem(reply, 503, "store_unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert world.call("GET", "/nodes/node-1").document["state"] == "active"


def test_a_departure_whose_commit_fails_is_202() -> None:
    world = World()
    claim = world.claim_of()
    world.durable = False
    world.commit = Commit()
    endpoint = world.start(world.request("DELETE", "/nodes/node-1", claim=claim))
    endpoint.send(None)
    world.store_state = StoreState.DETACHED
    world.commit.done = True
    response = run(endpoint)
    # The departure is stored later; until then a crash may undo it.
    assert (response.status, orjson.loads(response.body)["durable"]) == (202, False)


def test_departures_are_not_durable_without_a_durable_store() -> None:
    world = World(store_durable=False)
    claim = world.claim_of()
    reply = world.call("DELETE", "/nodes/node-1", claim=claim)
    assert (reply.status, reply.document["durable"]) == (200, False)


# Looking up


def test_a_lookup_keeps_the_order_and_names_missing_ids() -> None:
    world = World()
    for node_id in ("a", "b", "c"):
        world.register(node_id=node_id)
    reply = world.call("POST", "/lookup", {"node_ids": ["c", "x", "a", "c"], "later": 1})
    assert reply.status == 200
    assert reply.document.keys() == {"nodes", "missing"}
    assert [node["node_id"] for node in reply.document["nodes"]] == ["c", "a"]
    assert reply.document["missing"] == ["x"]


def test_a_lookup_shows_sleepers_and_misses_the_dead() -> None:
    world = World()
    world.register()
    body = {"node_ids": ["node-1"]}
    world.wait(300 * DAY_S)
    assert world.call("POST", "/lookup", body).document["nodes"][0]["state"] == "coma"
    world.wait(700 * DAY_S)
    assert world.call("POST", "/lookup", body).document == {"nodes": [], "missing": ["node-1"]}


@pytest.mark.parametrize(
    "node_ids", [[], [f"n{number}" for number in range(101)], None, "a", [None], ["a b"]]
)
def test_a_lookup_needs_1_to_100_ids(node_ids: Any) -> None:
    reply = World().call("POST", "/lookup", {"node_ids": node_ids})
    assert_problem(reply, 400, "bad_request", fields=["node_ids"])


def test_a_hundred_ids_may_be_looked_up_at_once() -> None:
    ids = [f"n{number}" for number in range(100)]
    assert World().call("POST", "/lookup", {"node_ids": ids}).document["missing"] == ids


def test_a_lookup_without_ids_is_refused() -> None:
    assert_problem(World().call("POST", "/lookup", {}), 400, "bad_request", fields=["node_ids"])
    assert_problem(World().call("POST", "/lookup", []), 400, "bad_request")
    assert_problem(World().call("POST", "/lookup", b"nope"), 400, "bad_json")


# Waiting for a change


def tag_of(world: World, **options: Any) -> str:
    return world.call("GET", "/nodes/node-1", **options).headers["ETag"]


def answered(world: World, **headers: str) -> Response:
    return run(world.start(world.request("GET", "/nodes/node-1", **headers)))


async def waiting(world: World, tag: str, wait: str = "wait=60") -> asyncio.Task[Response]:
    """Return a request that waits for a change."""
    request = world.request("GET", "/nodes/node-1", if_none_match=tag, prefer=wait)
    task = asyncio.create_task(world.start(request))
    await asyncio.sleep(0)
    return task


async def woken(task: asyncio.Task[Response]) -> Response:
    """Return the answer of a request that need not wait any more."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert task.done()
    return task.result()


def look(world: World) -> None:
    for _ in world.api.watching.tick():
        pass


def test_times_alone_do_not_change_the_tag_of_a_node() -> None:
    world = World()
    world.register()
    tag = tag_of(world)
    world.wait(3_600.0)
    world.call("POST", "/heartbeat/node-1")
    answer = answered(world, if_none_match=tag)
    assert (answer.status, dict(answer.headers)["ETag"]) == (304, tag)


def test_the_tag_changes_with_the_record_the_state_and_what_is_shown() -> None:
    world = World()
    claim = world.claim_of()
    tags = [tag_of(world), tag_of(world, claim=claim)]
    world.register(claim=claim, address="192.0.2.9")
    tags.append(tag_of(world))
    world.wait(181 * DAY_S)
    tags.append(tag_of(world))
    world.call("POST", "/heartbeat/node-1")
    tags.append(tag_of(world))
    assert len(set(tags)) == len(tags)


def test_the_tag_changes_when_a_node_is_late_and_when_it_is_back() -> None:
    world = World()
    world.register()
    world.visit()
    world.wait(3_600.0)
    world.visit()
    tags = [tag_of(world)]
    for late in (True, False):
        if late:
            world.wait(5 * DAY_S)
        else:
            world.call("POST", "/heartbeat/node-1")
        assert world.call("GET", "/nodes/node-1").document["late"] is late
        tags.append(tag_of(world))
    assert tags[0] == tags[2] != tags[1]


async def test_a_request_waits_until_the_node_changes() -> None:
    world = World()
    claim = world.claim_of()
    task = await waiting(world, tag_of(world))
    look(world)
    await asyncio.sleep(0)
    world.call("POST", "/heartbeat/node-1")
    look(world)
    await asyncio.sleep(0)
    assert not task.done()
    world.register(claim=claim, address="192.0.2.9")
    look(world)
    answer = await woken(task)
    assert (answer.status, orjson.loads(answer.body)["address"]) == (200, "192.0.2.9")
    assert dict(answer.headers)["Preference-Applied"] == "wait=60"
    assert not world.api.watching.waits


async def test_a_request_waits_for_the_return_of_a_node() -> None:
    world = World()
    world.register()
    world.visit()
    world.wait(5 * DAY_S)
    task = await waiting(world, tag_of(world))
    world.call("POST", "/heartbeat/node-1")
    look(world)
    assert orjson.loads((await woken(task)).body)["late"] is False


def in_step(world: World) -> None:
    """Let a node be expected within days."""
    world.register()
    world.visit()
    world.wait(3_600.0)
    world.visit()


async def test_a_request_waits_until_the_node_is_late() -> None:
    world = World()
    in_step(world)
    task = await waiting(world, tag_of(world))
    look(world)
    await asyncio.sleep(0)
    assert not task.done()
    world.wait(5 * DAY_S)
    look(world)
    answer = await woken(task)
    assert (answer.status, orjson.loads(answer.body)["late"]) == (200, True)


async def test_a_request_waits_until_the_node_counts_as_late_no_more() -> None:
    world = World()
    in_step(world)
    world.wait(5 * DAY_S)
    task = await waiting(world, tag_of(world))
    look(world)
    await asyncio.sleep(0)
    assert not task.done()
    forecast = world.api.directory.forecast
    assert forecast is not None
    # After an outage, nobody counts as late for a while.
    forecast.fair_from_s = world.api.now().attended_s + DAY_S
    look(world)
    answer = await woken(task)
    assert (answer.status, orjson.loads(answer.body)["late"]) == (200, False)


async def test_a_node_that_is_late_wakes_a_request_that_has_every_tag_only_once() -> None:
    world = World()
    in_step(world)
    task = await waiting(world, "*")
    (wait,) = world.api.watching.waits
    world.wait(5 * DAY_S)
    look(world)
    await asyncio.sleep(0)
    assert wait.late
    assert not task.done()
    world.api.watching.stop()
    assert (await woken(task)).status == 304


async def test_a_request_whose_client_ends_its_side_gives_up_its_place_with_an_answer() -> None:
    world = World()
    world.register()
    request = world.request("GET", "/nodes/node-1", if_none_match=tag_of(world), prefer="wait=60")
    task = asyncio.create_task(world.start(request))
    await asyncio.sleep(0)
    assert request.on_input_end is not None
    assert len(world.api.watching.waits) == 1
    request.on_input_end()
    assert (await woken(task)).status == 304
    assert not world.api.watching.waits
    request.on_input_end()


async def test_a_request_that_was_woken_for_nothing_still_ends_with_its_client() -> None:
    world = World()
    world.register()
    request = world.request("GET", "/nodes/node-1", if_none_match=tag_of(world), prefer="wait=60")
    task = asyncio.create_task(world.start(request))
    await asyncio.sleep(0)
    (wait,) = world.api.watching.waits
    assert request.on_input_end is not None
    wait.wake()
    request.on_input_end()
    assert (await woken(task)).status == 304


async def test_a_request_waits_no_longer_than_it_prefers() -> None:
    world = World()
    world.register()
    answer = await (await waiting(world, tag_of(world), "wait=1"))
    assert (answer.status, dict(answer.headers)["Preference-Applied"]) == (304, "wait=1")


async def test_a_request_that_waits_ends_with_the_process() -> None:
    world = World()
    world.register()
    tasks = [await waiting(world, tag_of(world)) for _ in range(2)]
    world.api.watching.stop()
    assert [(await woken(task)).status for task in tasks] == [304, 304]
    assert answered(world, if_none_match=tag_of(world), prefer="wait=60").status == 304


async def test_a_request_that_waits_does_not_see_a_node_that_hides() -> None:
    world = World()
    claim = world.claim_of()
    task = await waiting(world, tag_of(world))
    world.register(claim=claim, discoverable=False)
    look(world)
    with pytest.raises(CallerError) as caught:
        await woken(task)
    assert caught.value.code == "node_not_found"


async def test_above_the_limit_of_waits_the_answer_comes_at_once() -> None:
    world = World()
    world.register()
    tag = tag_of(world)
    tasks = [await waiting(world, tag) for _ in range(world.api.watching.waits_max)]
    answer = answered(world, if_none_match=tag, prefer="wait=60")
    assert (answer.status, "Preference-Applied" in dict(answer.headers)) == (304, False)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert not world.api.watching.waits


def test_a_request_with_a_proof_does_not_wait() -> None:
    world = World()
    claim = world.claim_of()
    tag = tag_of(world, claim=claim)
    answer = answered(world, if_none_match=tag, prefer="wait=60", authorization=f"Claim {claim}")
    assert (answer.status, "Preference-Applied" in dict(answer.headers)) == (304, False)
