"""The server about itself: what it offers, its figures, its health, the description of its API."""

from __future__ import annotations

import orjson
import pytest

from openred_central.api.routes import NAMES
from openred_central.directory.empathy.groups import name_of
from openred_central.directory.empathy.watch import Watch
from openred_central.directory.lifecycle import LIVE_STATES
from openred_central.storage.store import StoreState
from tests.support.cluster_figures import FOLLOWER, LEADER
from tests.support.darkness import COARSE, FINE, darken
from tests.support.world import DAY_S, DOCUMENTS, World, run


def test_the_root_describes_the_server_and_its_limits() -> None:
    reply = World(nodes_max=77).call("GET", "/")
    assert reply.status == 200
    assert reply.document == {
        "name": "OpenRed Central",
        "version": "9.9.9",
        "endpoints": list(NAMES),
        "limits": {
            "nodes_max": 77,
            "services_max": 32,
            "addresses_max": 8,
            "metadata_bytes_max": 4_096,
            "metadata_depth_max": 4,
            "public_key_bytes_max": 4_096,
            "lookup_ids_max": 100,
            "results_default": 50,
            "results_max": 100,
        },
        "auth": "open",
        "quantum": {"root": None, "pq": False},
    }


def test_the_figures_have_the_dwell_time_of_each_state() -> None:
    assert World().call("GET", "/stats").document["lifecycle"]["dwell_s"] == {
        "active": 15_552_000.0,
        "pending_1st": 172_800.0,
        "failed_1st": 3_600.0,
        "retry_48h": 172_800.0,
        "retry_2w": 1_209_600.0,
        "retry_2m": 5_184_000.0,
        "coma": 63_072_000.0,
        "dead": 31_536_000.0,
    }


def test_nodes_are_counted_by_state() -> None:
    world = World()
    for number in range(3):
        world.register(node_id=f"n{number}", services=["relay"])
    figures = world.call("GET", "/stats").document["directory"]
    assert figures["by_state"] == {state.wire: 3 if state.wire == "active" else 0 for state in LIVE_STATES}
    assert (figures["nodes"], figures["tombstones"], figures["service_sets"]) == (3, 0, 1)
    world.wait(300 * DAY_S)
    world.call("POST", "/heartbeat/n0")
    figures = world.call("GET", "/stats").document["directory"]
    assert (figures["by_state"]["active"], figures["by_state"]["coma"]) == (1, 2)
    world.wait(1_000 * DAY_S)
    figures = world.call("GET", "/stats").document["directory"]
    assert (figures["nodes"], figures["tombstones"]) == (0, 3)


def test_every_kind_of_transition_is_counted() -> None:
    world = World()
    world.register(node_id="a")
    world.register(node_id="b")
    world.wait(181 * DAY_S)
    world.call("POST", "/heartbeat/a")
    document = world.call("GET", "/stats").document
    assert document["lifecycle"]["transitions"] == [
        {"from": "absent", "to": "active", "reason": "registered", "count": 2},
        {"from": "active", "to": "pending_1st", "reason": "deadline", "count": 2},
        {"from": "pending_1st", "to": "active", "reason": "sign_of_life", "count": 1},
    ]
    assert document["empathy"]["revived"] == 1
    assert document["empathy"]["patience_left_for"] == 1


def test_the_figures_explain_a_hold_for_mass_silence() -> None:
    world = World()
    assert world.call("GET", "/stats").document["empathy"]["mass_silence"]["held"] is False
    for number in range(300):
        world.register(node_id=f"n{number}")
    world.wait(181 * DAY_S)
    told = world.call("GET", "/stats").document["empathy"]["mass_silence"]
    assert told["held"] is True
    assert told["since"] == "2027-07-15T08:00:00.000Z"
    assert told["reason"]
    assert told["waiting"] > 0


def test_the_figures_list_all_holds() -> None:
    world = World()
    told = world.call("GET", "/stats").document["empathy"]["holds"]
    assert told == []
    world.register()
    for _ in range(2):
        world.directory.expiry.attend(world.now())
        world.clock.advance(30 * DAY_S)
    world.directory.expiry.attend(world.now())
    (hold,) = world.call("GET", "/stats").document["empathy"]["holds"]
    assert (hold["kind"], hold["group"]) == ("onset", "all")
    assert hold["reason"].startswith("none of 1 active nodes was heard for ")
    world.directory.expiry.release_hold(world.now())
    for number in range(300):
        world.register(node_id=f"n{number}")
    world.wait(181 * DAY_S)
    (hold,) = world.call("GET", "/stats").document["empathy"]["holds"]
    assert (hold["kind"], hold["since"]) == ("transitions", "2027-09-13T08:00:00.000Z")


def test_the_figures_say_how_good_expectations_are() -> None:
    world = World()
    world.register()
    world.visit()
    told = world.call("GET", "/stats").document["empathy"]["forecast"]
    assert (told["late"], told["obeying"], told["visits"], told["dues"]) == (0, 1, 1, 0)
    assert (told["brier"], told["calibration_error"]) == (None, None)
    world.wait(2 * DAY_S)
    world.visit()
    told = world.call("GET", "/stats").document["empathy"]["forecast"]
    assert (told["late"], told["visits"], told["dues"]) == (1, 2, 1)
    # A new node was expected, with some chance, and did not come.
    assert 0.0 < told["brier"] < told["calibration_error"] < 1.0
    assert World(forecast=False).call("GET", "/stats").document["empathy"]["forecast"] is None


def test_coarse_networks_that_are_dark_are_shown_to_all() -> None:
    world = World()
    assert world.call("GET", "/stats").document["empathy"]["dark"] == []
    world.directory.watch = Watch(world.directory.nodes.registry, b"\xff" * 1_000)
    world.directory.watch.observers.append(world.feed.offer_network)
    darken(world.directory, world.directory.watch, world.now())
    assert {name_of(each.group) for each in world.directory.watch.dark} == {FINE, COARSE}
    (dark,) = world.call("GET", "/stats").document["empathy"]["dark"]
    assert dark == {
        "group": COARSE,
        "since": "2027-01-15T08:00:00.000Z",
        "expected": dark["expected"],
        "heard": 0,
        "members": 60,
    }
    world.feed.tick(world.clock.wall_s())
    assert b"event: network" in (news := world.feed.log.read(0)[0])
    assert orjson.loads(news.partition(b"event: network\ndata: ")[2].partition(b"\n")[0]) == {
        "at": "2027-01-15T09:30:00.000Z",
        "group": COARSE,
        "state": "dark",
    }
    assert FINE.encode() not in news


def test_a_running_process_is_live() -> None:
    world = World()
    world.store_state = StoreState.DETACHED
    assert world.call("GET", "/health/live")[:2] == (200, {"status": "ok"})


def test_readiness_follows_the_store() -> None:
    world = World()
    for path in ("/health/ready", "/health", "/api/v3/health"):
        world.store_state = StoreState.OK
        well = {"status": "ok", "checks": {"directory": "ok", "store": "ok"}}
        assert world.call("GET", path)[:2] == (200, well)
        world.store_state = StoreState.DETACHED
        ill = {"status": "degraded", "checks": {"directory": "ok", "store": "detached"}}
        assert world.call("GET", path)[:2] == (503, ill)
        # A store that is behind still takes changes, so requests may come.
        world.store_state = StoreState.BEHIND
        slow = {"status": "degraded", "checks": {"directory": "ok", "store": "behind"}}
        assert world.call("GET", path)[:2] == (200, slow)


def test_instances_stay_in_a_balancer_while_nobody_leads() -> None:
    world = World()
    world.store_state = StoreState.DETACHED
    world.cluster = FOLLOWER
    assert world.call("GET", "/health/ready").status == 503
    world.cluster = FOLLOWER._replace(leader=None)
    told = {"status": "degraded", "checks": {"directory": "ok", "store": "detached"}}
    assert world.call("GET", "/health/ready")[:2] == (200, told)
    world.stopping = True
    assert world.call("GET", "/health/ready").status == 503


def test_a_stopping_server_is_not_ready() -> None:
    world = World()
    world.stopping = True
    told = {"status": "degraded", "checks": {"directory": "stopping", "store": "ok"}}
    assert world.call("GET", "/health/ready")[:2] == (503, told)


def test_a_server_in_no_cluster_leads_itself() -> None:
    world = World()
    assert world.call("GET", "/health/leader")[:2] == (200, {"status": "ok", "leader": None})
    assert world.call("GET", "/stats").document["cluster"] is None


def test_balancers_find_the_leader_of_a_cluster() -> None:
    world = World()
    world.cluster = LEADER
    assert world.call("GET", "/health/leader")[:2] == (200, {"status": "ok", "leader": "one"})
    world.cluster = FOLLOWER
    assert world.call("GET", "/health/leader")[:2] == (503, {"status": "degraded", "leader": "one"})
    # Neither is one that holds the lease and does not serve yet, nor one whose lease has run out.
    for role in ("catching_up", "without_lease"):
        world.cluster = LEADER._replace(role=role)
        assert world.call("GET", "/health/leader").status == 503


def test_the_figures_tell_of_the_cluster() -> None:
    world = World()
    world.cluster = LEADER
    assert world.call("GET", "/stats").document["cluster"] == {
        "instance": "one",
        "role": "leader",
        "term": 3,
        "leader": "one",
        "seq": 17,
        "behind_s": 0.0,
        "instances": [
            {"name": "one", "role": "leader", "heard_s": 0.0, "version": "3.0.0"},
            {"name": "two", "role": "follower", "heard_s": 0.5, "version": None},
        ],
    }


@pytest.mark.parametrize(
    ("path", "content_type"), [("/openapi.json", "application/json"), ("/docs", "text/html; charset=utf-8")]
)
def test_a_cached_description_is_not_sent_again(path: str, content_type: str) -> None:
    world = World()
    first = run(world.start(world.request("GET", path)))
    assert (first.status, first.content_type) == (200, content_type)
    tag = dict(first.headers)["ETag"]
    again = run(world.start(world.request("GET", path, if_none_match=tag)))
    assert (again.status, again.body) == (304, b"")


def test_the_description_has_the_version_of_the_server() -> None:
    assert World().call("GET", "/openapi.json").document["info"]["version"] == "9.9.9"


def test_the_description_is_made_once() -> None:
    world = World()
    bodies = [run(world.start(world.request("GET", "/openapi.json"))).body for _ in range(2)]
    assert bodies[0] is bodies[1] is DOCUMENTS.openapi.body
    assert orjson.loads(bodies[0])["openapi"] == "3.1.0"


def test_the_reference_page_may_run_and_load_nothing() -> None:
    world = World()
    headers = dict(run(world.start(world.request("GET", "/docs"))).headers)
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "style-src 'unsafe-inline'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("script" in rule or "http" in rule for rule in policy)
