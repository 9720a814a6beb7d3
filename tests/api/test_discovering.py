"""``GET /discover``: what may be asked, and what is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.discovering import read_query
from openred_central.directory.discovery import Query
from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.errors import CallerError
from tests.support.options import limit_options
from tests.support.world import DAY_S, World, assert_problem, read_reply, run

AWAKE = tuple(state for state in LIVE_STATES if state is not State.COMA)


def names(reply: Any) -> set[str]:
    assert reply.status == 200, reply
    return {node["node_id"] for node in reply.document["nodes"]}


def test_an_empty_query_wants_fifty_nodes_outside_coma() -> None:
    assert read_query("")[0] == Query(names=frozenset(), states=AWAKE, max_results=50)


def test_everything_can_be_asked() -> None:
    query, ignored = read_query(
        "services=a,b&max_results=7&states=ACTIVE,coma,retry_2w&exclude_states=Retry_2W"
        "&min_last_seen=1970-01-01T00:01:00Z&min_availability=0.75&region=eu&near=eu-west&later=1"
    )
    assert ignored == ("later",)
    assert query == Query(
        names=frozenset({"a", "b"}),
        states=(State.ACTIVE, State.COMA),
        fallback_states=tuple(state for state in LIVE_STATES if state is not State.RETRY_2W),
        max_results=7,
        min_last_seen_at=60.0,
        min_score=0.75,
        region="eu",
        near="eu-west",
    )


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("exclude_states=", LIVE_STATES),
        ("exclude_states=dead", LIVE_STATES),
        ("exclude_states=active,pending_1st", LIVE_STATES[2:]),
        ("states=", AWAKE),
        ("states=coma", (State.COMA,)),
        ("states=coma&exclude_states=coma", ()),
        ("states=dead", ()),
    ],
)
def test_states_are_chosen_and_left_out(text: str, states: tuple[State, ...]) -> None:
    assert read_query(text)[0].states == states


@pytest.mark.parametrize("query", ["exclude_states=active", "states=dead", "states=coma&exclude_states=coma"])
def test_excluded_states_never_come_back(query: str) -> None:
    world = World()
    world.register()
    document = world.call("GET", f"/discover?{query}").document
    assert (document["nodes"], document["degraded"]) == ([], False)


def test_capabilities_is_the_older_name_of_services() -> None:
    assert read_query("capabilities=a,b")[0].names == {"a", "b"}
    assert read_query("capabilities=a,b&services=b,a")[0].names == {"a", "b"}
    with pytest.raises(CallerError) as raised:
        read_query("capabilities=a&services=b")
    assert (raised.value.status, set(raised.value.fields or ())) == (400, {"services"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("services", "No"),
        ("services", ",".join(f"s{number}" for number in range(33))),
        ("capabilities", "No"),
        ("max_results", "0"),
        ("max_results", "101"),
        ("max_results", "many"),
        ("max_results", ""),
        ("states", "asleep"),
        ("exclude_states", "absent"),
        ("min_last_seen", "yesterday"),
        ("min_last_seen", ""),
        ("min_last_seen", "1800000000"),
        *(("min_availability", value) for value in ("", "-0.1", "1.01", "nan", "1e1", ".5", "high")),
        ("region", "EU"),
        ("near", "E%20U"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    assert_problem(World().call("GET", f"/discover?{name}={value}"), 400, "bad_request", fields=[name])


def test_all_wrong_values_are_named_at_once() -> None:
    target = "/discover?services=No&max_results=0&states=x&exclude_states=x&min_last_seen=x&region=X&near=X"
    wrong = ["services", "max_results", "states", "exclude_states", "min_last_seen", "region", "near"]
    assert_problem(World().call("GET", target), 400, "bad_request", fields=wrong)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("service", "services"), ("serivces", "services"), ("max_result", "max_results"),
     ("Region", "region"), ("nearby", "near"), ("min_lastseen", "min_last_seen")],
)  # fmt: skip
def test_a_misspelt_parameter_is_refused_with_a_suggestion(slip: str, meant: str) -> None:
    reply = World().call("GET", f"/discover?{slip}=storage")
    assert_problem(reply, 400, "bad_request", fields=[slip])
    assert reply.document["fields"][slip] == f"is no parameter of this endpoint; did you mean {meant}?"


def test_a_parameter_of_a_newer_protocol_is_ignored_and_named() -> None:
    world = World()
    world.register(services=["storage"])
    document = world.call("GET", "/discover?services=storage&latency_below=5&token").document
    assert document["returned"] == 1
    assert document["ignored"] == ["latency_below", "token"]
    assert "ignored" not in world.call("GET", "/discover?services=storage").document


@given(
    st.dictionaries(
        st.sampled_from(
            ["services", "capabilities", "max_results", "states", "exclude_states", "min_last_seen", "region"]
        ),
        st.text(alphabet="aZ019,.:-_T+% é", max_size=12),
    )
)
def test_any_query_is_understood_or_the_callers_fault(values: dict[str, str]) -> None:
    reply = World().call("GET", "/discover?" + "&".join(f"{name}={value}" for name, value in values.items()))
    if reply.status != 200:
        assert_problem(reply, 400, "bad_request", fields=reply.document.get("fields", ()))


def test_an_answer_has_exactly_what_is_promised() -> None:
    world = World()
    world.register(services=["relay"])
    reply = world.call("GET", "/discover?services=relay")
    assert reply.document.keys() == {"nodes", "total_found", "returned", "query_time_ms", "degraded"}
    assert reply.document["total_found"] == reply.document["returned"] == 1
    assert reply.document["degraded"] is False
    assert reply.document["query_time_ms"] >= 0


def test_the_older_path_leads_to_the_same_place() -> None:
    world = World()
    world.register(services=["relay"])
    assert names(world.call("GET", "/api/v3/nodes/discover?capabilities=relay")) == {"node-1"}


def test_all_services_are_required() -> None:
    world = World()
    for node_id, services in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y", "z"])):
        world.register(node_id=node_id, services=services)
    assert names(world.call("GET", "/discover?services=x")) == {"a", "b"}
    assert names(world.call("GET", "/discover?services=y,x")) == {"b"}
    assert names(world.call("GET", "/discover?services=x,z")) == set()
    assert names(world.call("GET", "/discover")) == {"a", "b", "c"}


def test_a_region_is_required_and_nearness_only_preferred() -> None:
    world = World()
    for node_id, region in (("a", "eu"), ("b", "us"), ("c", None)):
        world.register(node_id=node_id, region=region)
    assert names(world.call("GET", "/discover?region=us")) == {"b"}
    assert names(world.call("GET", "/discover?near=us")) == {"a", "b", "c"}
    nearest = world.call("GET", "/discover?near=us&max_results=1")
    assert names(nearest) == {"b"}
    assert nearest.document["total_found"] == 3


def test_results_are_limited_and_all_matches_counted() -> None:
    world = World()
    for number in range(120):
        world.register(node_id=f"n{number}")
    for query, returned in (("", 50), ("?max_results=1", 1), ("?max_results=100", 100)):
        document = world.call("GET", f"/discover{query}").document
        assert (document["total_found"], document["returned"]) == (120, returned)
        assert len({node["node_id"] for node in document["nodes"]}) == returned


def test_the_better_available_come_first() -> None:
    world = World()
    for node_id in ("a", "b", "c"):
        world.register(node_id=node_id)
        world.clock.advance(10 * DAY_S)
    nodes = world.call("GET", "/discover").document["nodes"]
    assert [node["availability"] for node in nodes] == sorted(
        (node["availability"] for node in nodes), reverse=True
    )
    assert nodes[0]["node_id"] == "c"


def test_sleepers_are_left_out_unless_asked_for() -> None:
    world = World()
    world.register(node_id="sleeper")
    world.wait(300 * DAY_S)
    world.register(node_id="awake")
    assert names(world.call("GET", "/discover")) == {"awake"}
    assert names(world.call("GET", "/discover?states=coma")) == {"sleeper"}
    assert names(world.call("GET", "/discover?exclude_states=")) == {"awake", "sleeper"}


def test_without_healthy_nodes_the_best_others_come_back() -> None:
    world = World()
    world.register(services=["relay"])
    world.wait(300 * DAY_S)
    document = world.call("GET", "/discover?services=relay").document
    assert document["degraded"] is True
    assert [node["state"] for node in document["nodes"]] == ["coma"]
    assert world.call("GET", "/discover?services=other").document["degraded"] is False


def test_nodes_not_heard_since_a_time_can_be_excluded() -> None:
    world = World()
    world.register(node_id="early")
    world.clock.advance(DAY_S)
    world.register(node_id="late")
    assert names(world.call("GET", "/discover?min_last_seen=2027-01-15T12:00:00Z")) == {"late"}
    assert names(world.call("GET", "/discover?min_last_seen=2027-01-15T14:00:00%2B02:00")) == {"late"}


@pytest.mark.parametrize("forecast", [True, False])
def test_nodes_that_hardly_answer_can_be_left_out(*, forecast: bool) -> None:
    world = World(forecast=forecast)
    world.register(node_id="silent")
    world.visit()
    world.wait(30 * DAY_S)
    world.register(node_id="heard")
    assert names(world.call("GET", "/discover?min_availability=5e-1")) == {"heard"}
    assert names(world.call("GET", "/discover?min_availability=0")) == {"heard", "silent"}
    # The directory never answers with nobody.
    reply = world.call("GET", "/discover?min_availability=1")
    assert reply.document["degraded"] == forecast
    assert "heard" in names(reply)


def test_a_long_search_lets_others_run_and_completes() -> None:
    world = World(nodes_max=5_000)
    for number in range(2_000):
        world.register(node_id=f"n{number}")
    world.clock.advance(1)
    world.register(node_id="late")
    request = world.request("GET", "/discover?min_last_seen=2027-01-15T08:00:01Z&max_results=5")
    endpoint = world.start(request)
    endpoint.send(None)
    # Others have their turn now, and one of them leaves.
    world.directory.forget("n1", world.now())
    assert names(read_reply(run(endpoint))) == {"late"}


async def test_long_searches_run_one_after_the_other() -> None:
    world = World(nodes_max=5_000)
    for number in range(2_000):
        world.register(node_id=f"n{number}")
    request = world.request("GET", "/discover?min_last_seen=2028-01-01T00:00:00Z&max_results=5")

    async with world.api.walks:
        searching = asyncio.create_task(world.start(request))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not searching.done()
    assert read_reply(await searching).document["degraded"] is True


def test_each_caller_gets_a_draw_of_its_own() -> None:
    world = World(nodes_max=1_000)
    for number in range(500):
        world.register(node_id=f"n-{number}")
    answers = [world.call("GET", "/discover?max_results=10").document["nodes"] for _ in range(5)]
    assert len({frozenset(node["node_id"] for node in nodes) for nodes in answers}) == 5


def test_no_caller_can_page_through_all_nodes() -> None:
    """There is nothing to go on from: a client draws at random, a hundred at most, and only so often."""
    world = World(nodes_max=1_000, limits=limit_options(nodes_per_network_max=1_000))
    for number in range(500):
        world.clock.advance(6)
        assert world.register(node_id=f"n-{number}").status == 201
    assert world.call("GET", "/discover?max_results=101").status == 400
    further = ("offset=100", "page=2", "cursor=n-99", "after=n-99", "limit=1000", "node_ids=n-1")
    drawn = []
    for query in further * 20:
        reply = world.call("GET", f"/discover?max_results=100&{query}")
        if reply.status == 200:
            drawn.append(tuple(node["node_id"] for node in reply.document["nodes"]))
    assert [len(nodes) for nodes in drawn] == [100] * 59, "with the refused one, sixty in a minute"
    assert len(set(drawn)) == 59, "whatever is asked for, it is another draw"
    world.clock.advance(60)
    for path in ("/nodes", "/nodes/", "/nodes/*", "/api/v3/nodes", "/export", "/admin", "/debug"):
        assert world.call("GET", path).status in (400, 404), path
