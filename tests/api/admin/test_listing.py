"""The listing of all nodes, page by page, while they change."""

from __future__ import annotations

import random
from typing import Any

import pytest

from openred_central.api.admin import listing
from openred_central.directory.empathy.watch import Watch
from tests.support.darkness import COARSE, FINE, darken
from tests.support.world import DAY_S, assert_problem

from .helpers import Office


def pages(office: Office, query: str = "", limit: int = 7) -> list[Any]:
    """All rows, page by page."""
    rows: list[Any] = []
    cursor = "0"
    while cursor is not None:
        reply = office.call("GET", f"/admin/nodes?limit={limit}&cursor={cursor}{query}")
        assert reply.status == 200, reply
        assert len(reply.document["nodes"]) <= limit
        rows += reply.document["nodes"]
        cursor = reply.document["next"]
    return rows


def filled(count: int = 50) -> Office:
    office = Office()
    for number in range(count):
        office.world.register(node_id=f"node-{number}", discoverable=number % 2 == 0)
    return office


@pytest.mark.parametrize("limit", [1, 7, 50, 51, 1_000])
def test_every_node_is_listed_once_also_hidden_ones(limit: int) -> None:
    rows = pages(filled(), limit=limit)
    assert [row["node_id"] for row in rows] == [f"node-{number}" for number in range(50)]
    assert rows[1]["discoverable"] is False
    assert rows[1]["address"] == "192.0.2.1"


def test_a_node_that_stays_is_listed_exactly_once(seed: int) -> None:
    office, source = filled(), random.Random(seed)
    gone, rows, cursor = set(), list[str](), "0"
    while cursor is not None:
        reply = office.call("GET", f"/admin/nodes?limit=3&cursor={cursor}")
        rows += [row["node_id"] for row in reply.document["nodes"]]
        cursor = reply.document["next"]
        victim = f"node-{source.randrange(50)}"
        if victim not in gone:
            gone.add(victim)
            office.call("POST", f"/admin/nodes/{victim}/purge")
            office.world.register(node_id=f"new-{len(gone)}")
    for number in range(50):
        if f"node-{number}" not in gone:
            assert rows.count(f"node-{number}") == 1


def test_a_listing_can_be_limited_to_states() -> None:
    office = filled(10)
    office.world.wait(181 * DAY_S)
    for number in (3, 5):
        office.call("POST", f"/admin/nodes/node-{number}/wake")
    assert [row["node_id"] for row in pages(office, "&state=active")] == ["node-3", "node-5"]
    assert len(pages(office, "&state=pending_1st")) == 8
    assert len(pages(office, "&state=active,PENDING_1ST")) == 10
    assert pages(office, "&state=coma") == []


def test_one_answer_looks_at_a_bounded_number_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SLOTS_PER_ANSWER_MAX", 20)
    monkeypatch.setattr(listing, "SLOTS_PER_PIECE", 3)
    monkeypatch.setattr(listing, "ROWS_PER_PIECE", 2)
    office = filled(50)
    reply = office.call("GET", "/admin/nodes?state=coma")
    assert (reply.document["nodes"], reply.document["next"]) == ([], "20")
    assert len(pages(office, limit=100)) == 50


def test_a_row_has_the_end_of_its_state_unless_held() -> None:
    office = filled(2)
    office.call("POST", "/admin/nodes/node-1/hold")
    first, second = pages(office)
    assert first["state_ends_at"] == "2027-07-14T08:00:00.000Z"
    assert (second["state_ends_at"], second["held"]) == (None, True)


def test_of_an_empty_directory_there_is_one_empty_page() -> None:
    document = Office().call("GET", "/admin/nodes").document
    assert document == {"nodes": [], "next": None, "nodes_total": 0}


def test_a_hidden_node_is_explained_to_an_operator() -> None:
    office = filled(2)
    assert office.call("GET", "/admin/nodes/node-1").document["explain"]["why"]
    assert_problem(office.call("GET", "/admin/nodes/nobody"), 404, "node_not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=" + "9" * 5_000, "limit"),
        ("cursor=-1", "cursor"),
        ("cursor=4294967297", "cursor"),
        ("cursor=%D9%A3", "cursor"),
        ("state=happy", "state"),
    ],
)
def test_an_invalid_query_is_refused(query: str, field: str) -> None:
    assert_problem(Office().call("GET", f"/admin/nodes?{query}"), 400, "bad_request", fields=[field])


def test_operators_see_all_dark_networks() -> None:
    office = Office()
    directory = office.world.directory
    assert office.call("GET", "/admin/networks").document == {"dark": [], "watched": 0}
    directory.watch = Watch(directory.nodes.registry, b"\xff" * 1_000)
    darken(directory, directory.watch, office.world.now())
    told = office.call("GET", "/admin/networks").document
    assert {each["group"] for each in told["dark"]} == {FINE, COARSE}
    assert told["watched"] == 4, "and 192.0.0.0/16, and all"


def ids(office: Office, query: str) -> list[str]:
    return [row["node_id"] for row in pages(office, query)]


def test_a_listing_can_be_limited_to_a_region_services_and_a_part_of_the_id() -> None:
    office = Office()
    for node_id, services, region in (
        ("Alpha", ["chat", "storage"], "eu"),
        ("beta", ["storage"], "eu"),
        ("alpine", ["chat"], None),
    ):
        office.world.register(node_id=node_id, services=services, region=region)
    assert ids(office, "&region=eu") == ["Alpha", "beta"]
    assert ids(office, "&region=") == ["alpine"]
    assert ids(office, "&services=storage") == ["Alpha", "beta"]
    assert ids(office, "&services=storage,chat") == ["Alpha"]
    assert ids(office, "&search=ALP") == ["Alpha", "alpine"]
    assert ids(office, "&search=&region=eu&services=chat") == ["Alpha"]
    assert ids(office, "&search=none") == []


def test_a_part_that_no_id_can_hold_is_refused() -> None:
    for part in ("a b", "%C3%A4", "x" * 129, "%3Cb%3E"):
        reply = Office().call("GET", f"/admin/nodes?search={part}")
        assert_problem(reply, 400, "bad_request", fields=["search"])


def test_nodes_are_counted_as_they_are_listed(seed: int) -> None:
    office, source = Office(), random.Random(seed)
    for number in range(60):
        services = source.sample(["chat", "relay", "storage"], source.randrange(4))
        region = source.choice([None, "eu", "us"])
        office.world.register(
            node_id=f"node-{number}", services=services, region=region, discoverable=source.random() < 0.5
        )
    office.world.wait(181 * DAY_S)
    for number in range(0, 60, 7):
        office.call("POST", f"/admin/nodes/node-{number}/wake")
    office.call("POST", "/admin/nodes/node-1/purge")
    counted = office.call("GET", "/admin/counts").document
    assert counted["nodes"] == len(ids(office, "")) == 59
    assert {state: len(ids(office, f"&state={state}")) for state in counted["by_state"]} == counted[
        "by_state"
    ]
    assert {name: len(ids(office, f"&region={name or ''}")) for name, _ in counted["regions"]} == dict(
        counted["regions"]
    )
    assert {name: len(ids(office, f"&services={name}")) for name, _ in counted["services"]} == dict(
        counted["services"]
    )
    assert [nodes for _, nodes in counted["regions"]] == sorted(
        dict(counted["regions"]).values(), reverse=True
    )


def test_only_the_largest_regions_and_services_are_named() -> None:
    office = Office()
    for number in range(listing.COUNTED_MAX + 5):
        office.world.register(node_id=f"node-{number}", services=[f"s{number}"], region=f"r{number}")
    counted = office.call("GET", "/admin/counts").document
    assert len(counted["regions"]) == len(counted["services"]) == listing.COUNTED_MAX
