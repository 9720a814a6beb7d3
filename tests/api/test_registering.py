"""``POST /register``: who may add, update or revive a node, with what, and what the node is told."""

from __future__ import annotations

from typing import Any

import pytest

from openred_central.security.signing import PrivateKey
from openred_central.storage.store import StoreState
from tests.support.building import HOUR_S
from tests.support.options import lifecycle_options, limit_options
from tests.support.world import DAY_S, NODE, PEER, Commit, Reply, World, assert_problem

from .caller.test_proving import NEW, OWNER, enrol, rotate

ALWAYS = {
    *("status", "node_id", "state", "registered_at", "last_seen", "next_heartbeat_due"),
    *("heartbeat_advice_s", "observed_address", "identity", "address_source", "key_status", "durable"),
    *("revision", "message"),
}
KEYS = {
    "registered": ALWAYS | {"claim"},
    "updated": ALWAYS,
    "revived": ALWAYS | {"previous_state", "asleep_s"},
}

WRONG_VALUES: dict[str, list[Any]] = {
    "node_id": ["", "a" * 129, "-a", "a b", None, 7, ["a"]],
    "address": ["", "300.1.1.1", "a b", "fe80::1%eth0", None, 7, [[]]],
    "port": [0, 70_000, True, "80", 80.5, None, -1],
    "public_key": ["", "a" * 4_097, None, 7, {"kty": "OKP"}],
    "services": [["No"], [f"s{number}" for number in range(33)], "relay", None, [None]],
    "metadata": [[], None, {"a": {"b": {"c": {"d": {}}}}}, {"a": "x" * 4_096}],
    "region": ["EU", 7, ["eu"]],
    "addresses": [[{"address": "192.0.2.1", "port": 80}] * 9, {}, [{}], None],
    "discoverable": ["true", 1, None],
    "away_until": ["tomorrow", 1_900_000_000, True],
}


def test_a_new_node_gets_201_with_all_fields() -> None:
    world = World()
    reply = world.register()
    assert reply.status == 201
    claim = reply.document.pop("claim")
    assert reply.document == {
        "status": "registered",
        "node_id": "node-1",
        "state": "active",
        "registered_at": "2027-01-15T08:00:00.000Z",
        "last_seen": "2027-01-15T08:00:00.000Z",
        "next_heartbeat_due": "2027-07-14T08:00:00.000Z",
        "heartbeat_advice_s": reply.document["heartbeat_advice_s"],
        "observed_address": "198.51.100.7",
        "identity": "unproven",
        "address_source": "declared",
        "key_status": "opaque",
        "durable": True,
        "revision": 1,
        "message": "Welcome. Keep the claim: it proves later changes.",
    }
    assert len(claim) == 22
    assert 0.15 * HOUR_S <= reply.document["heartbeat_advice_s"] <= 1.41 * HOUR_S


def test_each_outcome_has_exactly_its_fields() -> None:
    world = World()
    replies = [world.register(), world.register()]
    world.wait(200 * DAY_S)
    replies.append(world.register())
    assert [reply.status for reply in replies] == [201, 200, 200]
    assert {reply.document["status"]: reply.document.keys() for reply in replies} == KEYS


def test_the_older_path_leads_to_the_same_place() -> None:
    assert World().call("POST", "/api/v3/nodes/register", NODE).status == 201


def test_the_older_spellings_are_taken_and_never_sent() -> None:
    world = World()
    old = {"address": ..., "ip_address": "192.0.2.9", "services": ..., "capabilities": ["relay"]}
    assert world.register(**old).status == 201
    shown = world.call("GET", "/nodes/node-1").document
    assert (shown["address"], shown["services"]) == ("192.0.2.9", ["relay"])
    assert not {"ip_address", "capabilities"} & shown.keys()


@pytest.mark.parametrize(
    ("name", "fields"),
    [("address", {"ip_address": "192.0.2.9"}), ("services", {"services": ["a"], "capabilities": ["b"]})],
)
def test_both_spellings_with_different_values_are_refused(name: str, fields: dict[str, Any]) -> None:
    assert_problem(World().register(**fields), 400, "bad_request", fields=[name])


def test_both_spellings_with_the_same_value_are_taken() -> None:
    both = {"ip_address": NODE["address"], "services": ["a", "b"], "capabilities": ["b", "a"]}
    assert World().register(**both).status == 201


def test_unknown_fields_are_ignored() -> None:
    world = World()
    assert world.register(invented_later={"deep": [1, 2, 3]}).status == 201
    assert "invented_later" not in world.call("GET", "/nodes/node-1").document


def test_only_four_fields_are_required() -> None:
    assert World().call("POST", "/register", NODE).status == 201
    assert_problem(World().call("POST", "/register", {}), 400, "bad_request", fields=NODE)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, wrong in WRONG_VALUES.items() for value in wrong]
)
def test_a_wrong_value_is_named_and_nothing_registered(name: str, value: Any) -> None:
    world = World()
    assert_problem(world.register(**{name: value}), 400, "bad_request", fields=[name])
    assert len(world.directory) == 0


def test_all_wrong_fields_are_named_at_once() -> None:
    wrong = {name: values[0] for name, values in WRONG_VALUES.items()}
    assert_problem(World().register(**wrong), 400, "bad_request", fields=WRONG_VALUES)


def test_values_at_their_limits_are_accepted_together() -> None:
    reply = World().register(
        node_id="a" * 128,
        port=65_535,
        public_key="k" * 4_096,
        services=[f"s{number:063}" for number in range(32)],
        metadata={"a": {"b": {"c": {"d": "x" * 4_000}}}},
        region="r" * 64,
        addresses=[{"address": "a" * 60 + ".example", "port": port} for port in range(1, 9)],
    )
    assert reply.status == 201, reply


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"port": NaN}', b'{"port": 1e999}', b"\xff", b'{"a": "\\ud800"}']
)
def test_a_body_without_json_is_refused(body: bytes) -> None:
    assert_problem(World().call("POST", "/register", body), 400, "bad_json")


@pytest.mark.parametrize("body", [[], None, 7, "a", True, [NODE]])
def test_a_body_of_the_wrong_shape_is_refused(body: Any) -> None:
    content = b"null" if body is None else body
    assert_problem(World().call("POST", "/register", content), 400, "bad_request")


def test_peers_see_the_registered_data() -> None:
    world = World()
    more = [{"address": "2001:db8::1", "port": 9_000}]
    said = {"services": ["b", "a"], "metadata": {"x": [1, {"y": "ü"}]}, "region": "eu", "addresses": more}
    world.register(**said)
    shown = world.call("GET", "/nodes/node-1").document
    assert {name: shown[name] for name in said} == {**said, "services": ["a", "b"]}


# Changes and their proofs


def test_identical_data_from_any_caller_revives_a_node() -> None:
    world = World()
    first = world.register(services=["relay"]).document
    world.wait(300 * DAY_S)
    assert world.call("GET", "/nodes/node-1").document["state"] == "coma"
    reply = world.register(services=["relay"])
    assert reply.status == 200
    assert reply.document["status"] == "revived"
    assert reply.document["previous_state"] == "coma"
    assert reply.document["asleep_s"] == 300 * DAY_S
    assert reply.document["registered_at"] == first["registered_at"]
    assert reply.document["state"] == "active"
    assert reply.document["revision"] == first["revision"]


def test_identical_data_may_be_written_differently() -> None:
    world = World()
    world.register(address="2001:DB8::0:1", services=["a", "b"], metadata={"x": 1, "y": 2})
    reply = world.register(address="2001:db8::1", services=["b", "a", "a"], metadata={"y": 2, "x": 1})
    assert (reply.status, reply.document["status"]) == (200, "updated")


CHANGES: list[dict[str, Any]] = [
    {"address": "192.0.2.66"},
    {"port": 6_666},
    {"public_key": "another"},
    {"services": ["relay"]},
    {"metadata": {"a": 1}},
    {"region": "eu"},
    {"addresses": [{"address": "192.0.2.66", "port": 1}]},
    {"discoverable": False},
    {"away_until": "2029-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("asleep_days", [0, 181, 190, 300, 600])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_changed_data_needs_the_claim_in_every_state(change: dict[str, Any], asleep_days: int) -> None:
    world = World()
    claim = world.claim_of()
    world.wait(asleep_days * DAY_S)
    before = world.call("GET", "/nodes/node-1").document
    assert_problem(world.register(**change), 409, "node_id_taken")
    assert_problem(world.register(**change, claim="A" * 22), 403, "forbidden")
    assert world.call("GET", "/nodes/node-1").document == before
    assert world.register(**change, claim=claim).status == 200


def test_with_the_claim_changed_data_is_taken() -> None:
    world = World()
    claim = world.claim_of()
    reply = world.register(port=9_999, services=["relay"], claim=claim)
    assert (reply.status, reply.document["status"], reply.document["revision"]) == (200, "updated", 2)
    shown = world.call("GET", "/nodes/node-1").document
    assert (shown["port"], shown["services"]) == (9_999, ["relay"])


def test_the_claim_holds_after_changes_too() -> None:
    world = World()
    claim = world.claim_of()
    for port in (1, 2, 3):
        world.clock.advance(DAY_S)
        assert world.register(port=port, public_key=f"key-{port}", claim=claim).status == 200


def test_the_claim_of_another_node_proves_nothing() -> None:
    world = World()
    world.claim_of()
    foreign = world.claim_of(node_id="node-2")
    assert_problem(world.register(port=9_999, claim=foreign), 403, "forbidden")


def test_the_claim_of_an_earlier_registration_is_void() -> None:
    world = World()
    former = world.claim_of()
    assert world.call("DELETE", "/nodes/node-1?mode=forget", claim=former).status == 200
    world.clock.advance(1)
    present = world.claim_of()
    assert_problem(world.register(port=9_999, claim=former), 403, "forbidden")
    assert world.register(port=9_999, claim=present).status == 200


def test_a_claim_is_sent_once() -> None:
    world = World()
    claim = world.claim_of()
    assert "claim" not in world.register().document
    assert "claim" not in world.register(port=1, claim=claim).document
    world.wait(300 * DAY_S)
    assert "claim" not in world.register(port=1).document


@pytest.mark.parametrize("public_key", ["key-1", OWNER.public_text])
def test_a_node_whose_answer_was_lost_gets_its_claim_again(public_key: str) -> None:
    world = World()
    fields = {"address": PEER, "public_key": public_key, "addresses": [{"address": PEER, "port": 9}]}
    claim = world.claim_of(**fields)
    for _ in range(2):
        world.wait(30.0)
        again = world.register(**fields)
        assert (again.status, again.document["status"], again.document["claim"]) == (200, "updated", claim)
    # It proves later changes.
    assert world.register(**fields | {"port": 1}, claim=claim).status == 200


def test_an_announced_absence_is_part_of_what_is_repeated() -> None:
    world = World()
    fields = {"address": PEER, "away_until": "2027-01-20T08:00:00Z"}
    claim = world.claim_of(**fields)
    assert world.register(**fields).document["claim"] == claim
    assert "claim" in world.register(address=PEER).document
    assert "claim" not in world.register(address=PEER, away_until="2027-01-21T08:00:00Z").document


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"address": "192.0.2.1"},
        {"address": "node.example"},
        {"address": PEER, "addresses": [{"address": "192.0.2.1", "port": 9}]},
    ],
)
def test_no_claim_is_repeated_at_an_address_where_the_node_was_not_seen(elsewhere: dict[str, Any]) -> None:
    world = World()
    world.claim_of(**elsewhere)
    again = world.register(**elsewhere)
    assert again.document["status"] == "updated"
    assert "claim" not in again.document


def test_no_claim_is_repeated_to_another_address() -> None:
    world = World()
    claim = world.claim_of(address=PEER)
    again = world.call("POST", "/register", NODE | {"address": PEER}, peer="198.51.100.8")
    assert again.document["status"] == "updated"
    assert "claim" not in again.document
    # Nor where the node has moved to from elsewhere.
    world.call("POST", "/register", NODE | {"address": PEER, "port": 2}, claim=claim, peer="198.51.100.8")
    assert "claim" not in world.register(address=PEER, port=2).document


def test_no_claim_is_repeated_later() -> None:
    world = World()
    world.claim_of(address=PEER)
    world.wait(61.0)
    assert "claim" not in world.register(address=PEER).document
    # Nor after a jump of the clock to long before.
    world.clock.jump_wall(-300.0)
    assert "claim" not in world.register(address=PEER).document


@pytest.mark.parametrize("change", ["services", "departure", "key", "signature", "silence", "hold"])
def test_no_claim_is_repeated_once_anything_changed(change: str) -> None:
    world = World(lifecycle=lifecycle_options(heartbeat_tolerance_s=10.0))
    fields: dict[str, Any] = {"address": PEER, "public_key": OWNER.public_text}
    claim = world.claim_of(**fields)
    if change == "services":
        assert world.register(**fields, services=["relay"], claim=claim).status == 200
    elif change == "departure":
        assert world.call("DELETE", "/nodes/node-1?mode=leave", claim=claim).status == 200
    elif change == "key":
        assert rotate(world, None, NEW, claim=claim).status == 200
        fields["public_key"] = NEW.public_text
    elif change == "signature":
        # Neither for the one who signs, whose key is all the proof that counts now.
        assert "claim" not in [*enrol(world, address=PEER).document, *enrol(world, address=PEER).document]
    elif change == "silence":
        world.wait(20.0)
        assert world.register(**fields).document["status"] == "revived"
    else:
        world.directory.hold("node-1", world.now())
    assert "claim" not in world.register(**fields).document


def test_after_death_only_the_same_key_may_have_the_name() -> None:
    world = World()
    former = world.claim_of()
    world.wait(1_000 * DAY_S)
    assert_problem(world.call("POST", "/heartbeat/node-1"), 410, "node_dead")
    assert_problem(world.register(public_key="another", claim=former), 409, "node_id_taken")
    reply = world.register(address="192.0.2.2")
    assert (reply.status, reply.document["status"]) == (201, "registered")
    assert reply.document["claim"] != former


def test_after_the_tombstone_any_key_may_have_the_name() -> None:
    world = World()
    world.claim_of()
    world.wait(1_000 * DAY_S)
    world.wait(365 * DAY_S)
    assert world.register(public_key="another").status == 201


# Limits of the directory


def test_a_full_directory_refuses_new_nodes_only() -> None:
    world = World(nodes_max=1)
    claim = world.claim_of()
    reply = world.register(node_id="node-2")
    assert_problem(reply, 503, "directory_full")
    assert int(reply.headers["Retry-After"]) > 0
    assert world.register().status == 200
    assert world.register(port=9_999, claim=claim).status == 200
    assert world.call("POST", "/heartbeat/node-1").status == 200
    world.wait(300 * DAY_S)
    assert world.register(port=9_999).document["status"] == "revived"


# Announced absence


def test_an_absence_postpones_the_check_until_withdrawn() -> None:
    world = World()
    claim = world.claim_of()
    away = world.register(away_until="2028-01-15T08:00:00Z", claim=claim).document
    assert away["next_heartbeat_due"] == "2028-01-15T08:00:00.000Z"
    assert world.call("GET", "/nodes/node-1").document["away_until"] == "2028-01-15T08:00:00.000Z"
    back = world.register(away_until=None, claim=claim).document
    assert back["next_heartbeat_due"] == "2027-07-14T08:00:00.000Z"
    assert world.call("GET", "/nodes/node-1").document["away_until"] is None


def test_an_absence_left_out_of_a_registration_stays() -> None:
    world = World()
    claim = world.claim_of(away_until="2028-01-15T08:00:00Z")
    assert world.register(port=2, claim=claim).document["next_heartbeat_due"] == "2028-01-15T08:00:00.000Z"


def test_withdrawing_no_absence_changes_nothing() -> None:
    world = World()
    world.register()
    assert world.register(away_until=None).document["status"] == "updated"


@pytest.mark.parametrize(
    "away_until",
    ["2027-01-15T08:00:00Z", "2020-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1969-01-01T00:00:00Z"],
)
def test_an_absence_has_to_end_in_the_future(away_until: str) -> None:
    assert_problem(World().register(away_until=away_until), 400, "bad_request", fields=["away_until"])


def test_an_absence_lasts_at_most_as_long_as_a_coma() -> None:
    def world() -> World:
        return World(lifecycle=lifecycle_options(coma_s=100 * DAY_S, heartbeat_tolerance_s=DAY_S))

    assert world().register(away_until="2027-04-25T08:00:00Z").status == 201
    reply = world().register(away_until="2027-04-25T08:00:01Z")
    assert_problem(reply, 400, "bad_request", fields=["away_until"])
    assert "8640000 seconds" in reply.document["fields"]["away_until"]


# Acknowledgements


def test_the_answer_waits_for_the_commit() -> None:
    world = World()
    world.commit = Commit()
    endpoint = world.start(world.request("POST", "/register", NODE))
    for _ in range(3):
        endpoint.send(None)
    world.commit.done = True
    with pytest.raises(StopIteration) as answered:
        endpoint.send(None)
    assert answered.value.value.status == 201
    assert world.saved_changes == [world.directory.saving.last_change]


def test_an_unchanged_registration_waits_for_the_first_commit() -> None:
    world = World()
    world.register()
    world.register()
    assert len(world.saved_changes) == 2
    assert world.saved_changes[1] >= world.saved_changes[0]


def test_a_registration_not_on_disk_yet_is_202() -> None:
    world = World()
    world.durable = False
    reply = world.register()
    assert (reply.status, reply.document["durable"]) == (202, False)
    assert reply.document.keys() == KEYS["registered"]
    assert "not on disk yet" in reply.document["message"]
    assert world.register().status == 202


def test_registrations_are_not_durable_without_a_durable_store() -> None:
    world = World(store_durable=False)
    reply = world.register()
    assert (reply.status, reply.document["durable"]) == (201, False)
    assert "keeps nothing" in reply.document["message"]
    assert world.register().status == 200


def test_a_caller_by_a_unix_socket_has_no_observed_address() -> None:
    world = World()
    request = world.request("POST", "/register", NODE)
    request.peer = ""
    endpoint = world.start(request)
    with pytest.raises(StopIteration) as answered:
        endpoint.send(None)
    assert b'"observed_address":null' in answered.value.value.body


def test_repeating_known_data_needs_no_valid_proof() -> None:
    world = World()
    world.register()
    again = world.register(claim="A" * 22)
    assert (again.status, again.document["status"]) == (200, "updated")


def test_a_repeated_absence_changes_nothing() -> None:
    world = World()
    until = "2027-02-01T00:00:00Z"
    world.register(away_until=until)
    world.wait(10.25)
    again = world.register(away_until=until)
    assert (again.status, again.document["revision"]) == (200, 1)


def test_only_the_node_moves_its_absence() -> None:
    # After three days in which the directory was away, the same time lies elsewhere in attended time.
    world = World()
    claim = world.claim_of(away_until="2027-02-01T00:00:00Z")
    before = world.call("GET", "/nodes/node-1").document["away_until"]
    assert world.register(away_until="2027-02-04T00:00:00Z").status == 200
    assert world.call("GET", "/nodes/node-1").document["away_until"] == before
    assert world.register(away_until="2027-02-04T00:00:00Z", claim=claim).document["revision"] == 2
    assert world.call("GET", "/nodes/node-1").document["away_until"] != before


# Where the caller was seen


def test_an_address_is_observed_if_the_caller_has_it() -> None:
    world = World()
    assert world.register(address=PEER).document["address_source"] == "observed"
    assert world.call("GET", "/nodes/node-1").document["address_source"] == "observed"
    claim = world.claim_of(node_id="node-2")
    assert world.call("GET", "/nodes/node-2").document["address_source"] == "declared"
    world.call("POST", "/heartbeat/node-2", {"address": PEER}, claim=claim)
    assert world.call("GET", "/nodes/node-2").document["address_source"] == "observed"


@pytest.mark.parametrize(
    ("addresses", "source"),
    [
        ([PEER], "observed"),
        ([f"::ffff:{PEER}"], "observed"),
        (["192.0.2.1"], "declared"),
        ([PEER, "192.0.2.1"], "declared"),
        (["victim.example"], "declared"),
    ],
)
def test_a_node_is_observed_only_at_all_its_endpoints(addresses: list[str], source: str) -> None:
    world = World()
    more = [{"address": address, "port": 80} for address in addresses]
    claim = world.claim_of(address=PEER, addresses=more)
    assert world.call("GET", "/nodes/node-1").document["address_source"] == source
    assert world.register(address=PEER, addresses=[], claim=claim).document["address_source"] == "observed"
    assert world.register(address=PEER, addresses=more, claim=claim).document["address_source"] == source


@pytest.mark.parametrize("address", [f"::ffff:{PEER}", "::FFFF:C633:6407"])
def test_another_spelling_of_the_address_is_observed_as_well(address: str) -> None:
    assert World().register(address=address).document["address_source"] == "observed"


def test_a_move_by_heartbeat_renews_the_observation() -> None:
    world = World()
    claim = world.claim_of(addresses=[{"address": "203.0.113.1", "port": 80}])
    assert world.call("POST", "/heartbeat/node-1", {"address": PEER}, claim=claim).status == 200
    assert world.call("GET", "/nodes/node-1").document["address_source"] == "declared"


def test_to_be_seen_elsewhere_is_no_change() -> None:
    world = World()
    world.register(address=PEER)
    body = {**NODE, "address": PEER}
    assert world.call("POST", "/register", body, peer="203.0.113.9").status == 200
    assert world.call("GET", "/nodes/node-1").document["address_source"] == "observed"


def test_a_strict_directory_takes_no_address_of_another_network() -> None:
    key = PrivateKey.generate_ed25519()
    world = World(strict=True, limits=limit_options())
    body = {**NODE, "public_key": key.public_text}
    assert_problem(world.signed(key, "POST", "/register", body), 400, "bad_request", fields=["address"])
    for address in ("198.51.100.200", "node.example"):
        assert world.signed(key, "POST", "/register", {**body, "address": address}).status in (200, 201)
    moved = world.signed(key, "POST", "/heartbeat/node-1", {"address": "192.0.2.1"})
    assert_problem(moved, 400, "bad_request", fields=["address"])


VICTIMS = [
    "192.0.2.1",
    "::ffff:192.0.2.1",
    "::ffff:c000:201",
    "2001:db8::1",
    "::192.0.2.1",
    "64:ff9b::192.0.2.1",
    "2002:c000:201::1",
]


@pytest.mark.parametrize("address", VICTIMS)
def test_a_strict_directory_refuses_endpoints_of_other_networks(address: str) -> None:
    key = PrivateKey.generate_ed25519()
    world = World(strict=True, limits=limit_options())
    mine = {**NODE, "address": PEER, "public_key": key.public_text}
    victim = {"address": address, "port": 80}
    own = {"address": "198.51.100.200", "port": 81}

    def post(path: str, body: Any) -> Reply:
        world.wait(10)
        return world.signed(key, "POST", path, body)

    for more in ([victim], [own, victim]):
        refused = post("/register", {**mine, "addresses": more})
        assert_problem(refused, 400, "bad_request", fields=["addresses"])
        assert f"[{len(more) - 1}]" in refused.document["fields"]["addresses"]
    both = post("/register", {**mine, "address": address, "addresses": [victim]})
    assert_problem(both, 400, "bad_request", fields=["address", "addresses"])
    older = {name: value for name, value in mine.items() if name != "address"}
    assert_problem(
        post("/register", {**older, "ip_address": address}), 400, "bad_request", fields=["address"]
    )
    assert len(world.directory) == 0
    assert post("/register", {**mine, "addresses": [own]}).status == 201
    for name in ("address", "ip_address"):
        assert_problem(post("/heartbeat/node-1", {name: address}), 400, "bad_request", fields=["address"])
    assert_problem(
        post("/register", {**mine, "addresses": [own, victim]}), 400, "bad_request", fields=["addresses"]
    )
    assert world.call("GET", "/nodes/node-1").document["addresses"] == [own]


def test_a_strict_directory_takes_names_as_declared() -> None:
    key = PrivateKey.generate_ed25519()
    world = World(strict=True, limits=limit_options())
    more = [{"address": "node.example", "port": 80}]
    body = {**NODE, "address": PEER, "public_key": key.public_text, "addresses": more}
    assert world.signed(key, "POST", "/register", body).document["address_source"] == "declared"


def test_strict_moves_do_not_check_earlier_endpoints() -> None:
    """Addresses that a heartbeat does not name are not held against it, and are told as declared."""
    key = PrivateKey.generate_ed25519()
    world = World(limits=limit_options())
    body = {**NODE, "public_key": key.public_text, "addresses": [{"address": "192.0.2.9", "port": 80}]}
    assert world.signed(key, "POST", "/register", body).status == 201
    object.__setattr__(world.prover, "strict", True)
    assert world.signed(key, "POST", "/heartbeat/node-1", {"address": PEER}).status == 200
    assert world.call("GET", "/nodes/node-1").document["address_source"] == "declared"


def test_a_key_change_without_a_valid_key_is_refused() -> None:
    world = World()
    enrol(world)
    assert_problem(world.call("POST", "/nodes/node-1/key", {}), 400, "bad_request", fields=["public_key"])
    reply = world.call("POST", "/nodes/node-1/key", {"public_key": "text"})
    assert_problem(reply, 400, "invalid_key", fields=["public_key"])
    reply = world.call("POST", "/nodes/node-1/key", {"public_key": NEW.public_text, "next_key": "short"})
    assert_problem(reply, 400, "bad_request", fields=["next_key"])


def test_the_key_of_an_unknown_node_cannot_change() -> None:
    reply = World().call("POST", "/nodes/node-1/key", {"public_key": NEW.public_text})
    assert_problem(reply, 404, "node_not_found")


def test_a_key_change_waits_for_the_store() -> None:
    world = World()
    enrol(world)
    world.store_state = StoreState.DETACHED
    assert_problem(rotate(world, OWNER, NEW), 503, "store_unavailable")
    world.store_state = StoreState.OK
    world.durable = False
    reply = rotate(world, OWNER, NEW)
    assert (reply.status, reply.document["durable"]) == (202, False)


def test_a_key_change_can_name_the_next_key() -> None:
    world = World()
    enrol(world, next_key=NEW.key_id)
    reply = rotate(world, None, NEW, {"public_key": NEW.public_text, "next_key": OWNER.key_id})
    assert reply.document["next_key"] == OWNER.key_id
    assert world.call("GET", "/nodes/node-1").document["next_key"] == OWNER.key_id
