"""``POST /heartbeat/{node_id}``: a sign of life from anyone, a change only from the node itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.heartbeating import _merged
from openred_central.micro_engine.router import Answer, Answered
from openred_central.security.signing import PrivateKey
from tests.support.building import HOUR_S
from tests.support.options import limit_options
from tests.support.world import DAY_S, NODE, PEER, Commit, World, assert_problem, run

KEY = PrivateKey.generate_ed25519()
KEYS = {
    *("status", "node_id", "current_state", "previous_state", "last_heartbeat", "next_heartbeat_due"),
    *("heartbeat_advice_s", "message"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)

HEARTBEAT = "/heartbeat/node-1"

# One more than the limit: the clock of a node may run fast.
HEARTBEATS_AT_ONCE = 2


def test_a_heartbeat_is_answered_with_all_fields() -> None:
    world = World()
    world.register()
    world.wait(DAY_S)
    reply = world.call("POST", HEARTBEAT)
    advice_s = reply.document.pop("heartbeat_advice_s")
    assert reply == (
        200,
        {
            "status": "heartbeat_received",
            "node_id": "node-1",
            "current_state": "active",
            "previous_state": "active",
            "last_heartbeat": "2027-01-16T08:00:00.000Z",
            "next_heartbeat_due": "2027-07-15T08:00:00.000Z",
            "message": "Noted.",
        },
        "application/json",
        {},
    )
    assert 0.15 * HOUR_S <= advice_s <= 1.41 * HOUR_S


def test_a_heartbeat_without_a_body_waits_for_no_commit() -> None:
    world = World()
    world.register()
    world.commit = Commit()
    with pytest.raises(StopIteration):
        world.start(world.request("POST", HEARTBEAT)).send(None)


@pytest.mark.parametrize(
    ("asleep_days", "state"),
    [
        (179, "active"),
        (181, "pending_1st"),
        (182.01, "failed_1st"),
        (183, "retry_48h"),
        (190, "retry_2w"),
        (250, "retry_2m"),
        (300, "coma"),
        (987, "coma"),
    ],
)
def test_a_heartbeat_revives_from_every_state_with_identity(asleep_days: float, state: str) -> None:
    world = World()
    claim = world.claim_of(services=["relay"], metadata={"a": 1})
    before = world.call("GET", "/nodes/node-1").document
    world.wait(asleep_days * DAY_S)
    reply = world.call("POST", HEARTBEAT).document
    assert reply.keys() == KEYS
    assert (reply["previous_state"], reply["current_state"]) == (state, "active")
    after = world.call("GET", "/nodes/node-1").document
    kept = ("registered_at", "public_key", "public_key_fingerprint", "services", "metadata", "revision")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert world.register(port=9_999, claim=claim).status == 200


def test_a_heartbeat_of_an_unknown_node_is_404() -> None:
    reply = World().call("POST", HEARTBEAT)
    assert_problem(reply, 404, "node_not_found")
    assert "POST /register" in reply.document["suggestion"]
    assert_problem(World().call("POST", HEARTBEAT, {"port": 9_999}), 404, "node_not_found")


@pytest.mark.parametrize("body", [None, {"port": 9_999}])
def test_a_heartbeat_of_a_dead_node_is_410(body: Any) -> None:
    world = World()
    world.register()
    world.wait(1_000 * DAY_S)
    reply = world.call("POST", HEARTBEAT, body)
    assert_problem(reply, 410, "node_dead")
    assert "same public key" in reply.document["suggestion"]


def test_an_encoded_id_is_decoded() -> None:
    world = World()
    world.register(node_id="a:b.c")
    assert world.call("POST", "/heartbeat/a%3Ab%2Ec").document["node_id"] == "a:b.c"


# A heartbeat that brings changes


def test_a_change_with_the_claim_is_answered_once_durable() -> None:
    world = World()
    claim = world.claim_of(services=["a"])
    world.saved_changes.clear()
    world.commit = Commit()
    body = {"services": ["c", "b"], "address": "192.0.2.7", "port": 9_999, "metadata": {"x": 1}}
    endpoint = world.start(world.request("POST", HEARTBEAT, body, claim=claim))
    endpoint.send(None)
    assert world.saved_changes == [world.directory.saving.last_change]
    world.commit.done = True
    response = run(endpoint)
    assert response.status == 200
    shown = world.call("GET", "/nodes/node-1").document
    assert {name: shown[name] for name in body} == {**body, "services": ["b", "c"]}


def test_a_change_adds_revision_and_durability_to_the_answer() -> None:
    world = World()
    claim = world.claim_of()
    reply = world.call("POST", HEARTBEAT, {"port": 9_999}, claim=claim)
    assert reply.document.keys() == KEYS | {"revision", "durable"}
    assert (reply.document["revision"], reply.document["durable"]) == (2, True)
    world.durable = False
    reply = world.call("POST", HEARTBEAT, {"port": 1}, claim=claim)
    assert (reply.status, reply.document["durable"]) == (202, False)


def test_a_binding_signature_is_durable_only_once_stored() -> None:
    for durable, status in ((True, 200), (False, 202)):
        world, key = World(), PrivateKey.generate_ed25519()
        world.register(public_key=key.public_text)
        world.durable = durable
        reply = world.signed(key, "POST", HEARTBEAT)
        assert (reply.status, reply.document["durable"], reply.document["revision"]) == (status, durable, 2)
        assert reply.document["session"]
        again = world.signed(key, "POST", HEARTBEAT)
        assert again.status == 200, "it changes nothing"
        assert "durable" not in again.document


def test_a_body_without_changes_needs_no_proof() -> None:
    world = World()
    world.register(services=["a"], metadata={"x": 1})
    world.saved_changes.clear()
    for body in ({}, {"services": ["a", "a"], "metadata": {}}, {"metadata": {"y": None}}, {"later": 1}):
        reply = world.call("POST", HEARTBEAT, body)
        assert (reply.status, reply.document.keys()) == (200, KEYS)
    assert world.saved_changes == []


@pytest.mark.parametrize("asleep_days", [0, 181, 300])
@pytest.mark.parametrize(
    "body",
    [{"port": 9_999}, {"address": "192.0.2.66"}, {"services": ["x"]}, {"metadata": {"x": 1}}],
    ids=lambda body: next(iter(body)),
)
def test_a_change_without_proof_is_no_sign_of_life(body: dict[str, Any], asleep_days: int) -> None:
    world = World()
    claim = world.claim_of()
    foreign = world.claim_of(node_id="node-2")
    world.wait(asleep_days * DAY_S)
    before = world.call("GET", "/nodes/node-1").document
    world.clock.advance(1)
    reply = world.call("POST", HEARTBEAT, body)
    assert_problem(reply, 401, "proof_required")
    assert reply.headers["WWW-Authenticate"] == "OpenRed, Claim"
    for wrong in ("A" * 22, foreign, ""):
        assert_problem(world.call("POST", HEARTBEAT, body, claim=wrong), 403, "forbidden")
    world.clock.advance(-1)
    assert world.call("GET", "/nodes/node-1").document == before
    assert world.call("POST", HEARTBEAT, body, claim=claim).status == 200


def test_the_older_spellings_are_taken() -> None:
    world = World()
    claim = world.claim_of()
    world.call("POST", HEARTBEAT, {"ip_address": "192.0.2.9", "capabilities": ["old"]}, claim=claim)
    shown = world.call("GET", "/nodes/node-1").document
    assert (shown["address"], shown["services"]) == ("192.0.2.9", ["old"])
    conflict = {"services": ["a"], "capabilities": ["b"], "address": "a.example", "ip_address": "b.example"}
    reply = world.call("POST", HEARTBEAT, conflict, claim=claim)
    assert_problem(reply, 400, "bad_request", fields=["services", "address"])


def test_all_wrong_fields_are_named_and_nothing_changes() -> None:
    world = World()
    claim = world.claim_of()
    body = {"services": ["No"], "metadata": [], "address": "", "port": 0, "later": 1}
    fields = ["services", "metadata", "address", "port"]
    assert_problem(world.call("POST", HEARTBEAT, body, claim=claim), 400, "bad_request", fields=fields)
    assert world.call("GET", "/nodes/node-1").document["services"] == []


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"a"', b"true"])
def test_a_body_of_the_wrong_shape_is_refused(body: bytes) -> None:
    world = World()
    world.register()
    assert_problem(world.call("POST", HEARTBEAT, body), 400, "bad_request")


def test_a_body_without_json_is_refused() -> None:
    world = World()
    world.register()
    assert_problem(world.call("POST", HEARTBEAT, b"{"), 400, "bad_json")


def test_fields_a_heartbeat_cannot_change_are_ignored() -> None:
    world = World()
    claim = world.claim_of()
    body = {"public_key": "another", "node_id": "node-9", "discoverable": False, "region": "eu"}
    assert world.call("POST", HEARTBEAT, body, claim=claim).document.keys() == KEYS
    shown = world.call("GET", "/nodes/node-1").document
    assert (shown["public_key"], shown["discoverable"], shown["region"]) == ("key-1", True, None)


# Metadata is a merge patch

EXAMPLES_OF_RFC_7396: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES_OF_RFC_7396)
def test_patches_are_merged_as_rfc_7396_appendix_a_shows(target: Any, patch: Any, result: Any) -> None:
    assert _merged(target, patch) == result
    if isinstance(target, dict) and isinstance(patch, dict):
        world = World()
        claim = world.claim_of(metadata=target)
        assert world.call("POST", HEARTBEAT, {"metadata": patch}, claim=claim).status == 200
        assert world.call("GET", "/nodes/node-1").document["metadata"] == result


@given(JSON, JSON)
def test_a_patch_is_idempotent_and_alters_no_argument(target: Any, patch: Any) -> None:
    shown = repr((target, patch))
    once = _merged(target, patch)
    assert _merged(once, patch) == once
    assert repr((target, patch)) == shown


def test_metadata_is_measured_after_merging() -> None:
    world = World()
    claim = world.claim_of(metadata={"a": "x" * 4_000})
    reply = world.call("POST", HEARTBEAT, {"metadata": {"b": "x" * 100}}, claim=claim)
    assert_problem(reply, 400, "bad_request", fields=["metadata"])
    assert "after merging" in reply.document["fields"]["metadata"]
    swap = {"metadata": {"a": None, "b": "x" * 4_000}}
    assert world.call("POST", HEARTBEAT, swap, claim=claim).status == 200


def test_a_deeply_nested_patch_is_refused() -> None:
    world = World()
    world.register()
    body = b'{"metadata":' + b'{"a":' * 1_000 + b"null" + b"}" * 1_000 + b"}"
    assert_problem(world.call("POST", HEARTBEAT, body), 400, "bad_request", fields=["metadata"])


# Repeated heartbeats


def prepared(world: World, **headers: str) -> Answer | None:
    """Return what answers further heartbeats with these header fields."""
    request = world.request("POST", HEARTBEAT, **headers)
    route, _ = world.router.admit(request)
    assert route.prepare is not None
    return route.prepare(request)


def answer_of(world: World, node_id: str = "node-1", **headers: str) -> Answered | None:
    answer = prepared(world, **headers)
    return answer(node_id, PEER) if answer is not None else None


@pytest.mark.parametrize("silent_s", [0.0, 0.25, 70.0, DAY_S, 179 * DAY_S])
def test_a_repeated_heartbeat_has_the_effect_of_the_first(silent_s: float) -> None:
    handled, taken = World(), World()
    for world in (handled, taken):
        world.register()
        world.wait(1.0)
        world.call("POST", HEARTBEAT)
        world.wait(silent_s)
    told = run(handled.start(handled.request("POST", HEARTBEAT)))
    assert answer_of(taken) == (told.body, ())
    registries = [world.directory.nodes.registry for world in (handled, taken)]
    assert registries[0].record(0) == registries[1].record(0)
    assert [bytes(world.directory.nodes.changes.heard.marks) for world in (handled, taken)] == [b"\1"] * 2


def test_only_active_nodes_are_answered_without_their_handler() -> None:
    world = World()
    world.register()
    assert answer_of(world, "node-2") is None
    world.wait(181 * DAY_S)
    assert answer_of(world) is None
    assert world.call("POST", HEARTBEAT).document["previous_state"] == "pending_1st"
    assert answer_of(world) is not None


def test_a_bound_node_needs_a_proof_for_each_heartbeat() -> None:
    world = World()
    world.register()
    answer = prepared(world)
    assert answer is not None
    assert answer("node-1", PEER) is not None
    world.directory.bind(0)
    assert answer("node-1", PEER) is None


def test_away_and_held_nodes_go_to_the_handler() -> None:
    world = World()
    world.register(away_until="2027-12-01T00:00:00Z")
    assert answer_of(world) is None
    world = World()
    world.register()
    world.directory.hold("node-1", world.now())
    assert answer_of(world) is None


@pytest.mark.parametrize("field", ["authorization", "signature", "signature_input"])
def test_requests_with_other_proofs_go_to_the_handler(field: str) -> None:
    world = World()
    world.register()
    assert prepared(world, **{field: "x"}) is None


def test_a_strict_directory_prepares_nothing_without_a_session() -> None:
    assert prepared(World(strict=True)) is None


def test_repeated_heartbeats_are_limited() -> None:
    handled, taken = World(limits=limit_options()), World(limits=limit_options())
    for world in (handled, taken):
        world.register()
    answer = prepared(taken)
    assert answer is not None
    for _ in range(HEARTBEATS_AT_ONCE):
        told = run(handled.start(handled.request("POST", HEARTBEAT)))
        assert dict(told.headers).keys() == {"RateLimit-Policy", "RateLimit"}
        assert answer("node-1", PEER) == (told.body, told.headers)
        for world in (handled, taken):
            world.wait(1.0)
    heard_at = taken.directory.nodes.registry.last_seen_at[0]
    assert answer("node-1", PEER) is None
    assert taken.directory.nodes.registry.last_seen_at[0] == heard_at
    assert taken.call("POST", HEARTBEAT).status == 429
    # The response 429 is counted once, although the fast path came upon the limit before the handler.
    assert taken.api.limits.refusals.by_policy["heartbeat"] == 1
    for world in (handled, taken):
        world.wait(60.0)
    assert answer("node-1", PEER) is not None


def test_repeated_sessions_have_their_own_limit() -> None:
    world, session = enrolled(limits=limit_options())
    answer = prepared(world, authorization=session)
    assert answer is not None
    for _ in range(HEARTBEATS_AT_ONCE):
        world.api.limits.charge_heartbeat(world.request("POST", HEARTBEAT), 0, proved=False)
    answers = [answer("node-1", PEER) for _ in range(HEARTBEATS_AT_ONCE + 1)]
    assert [told is not None for told in answers] == [True] * HEARTBEATS_AT_ONCE + [False]


def enrolled(**options: Any) -> tuple[World, str]:
    """Make a world with a node bound to `KEY`; return it with the Authorization of its session."""
    world = World(**options)
    reply = world.signed(KEY, "POST", "/register", {**NODE, "public_key": KEY.public_text})
    return world, f"OpenRed {reply.document['session']}"


@pytest.mark.parametrize("strict", [False, True])
def test_a_repeated_session_has_the_effect_of_the_first(strict: bool) -> None:
    handled, taken = (enrolled(strict=strict) for _ in range(2))
    assert handled[1] == taken[1]
    answer = prepared(taken[0], authorization=taken[1])
    assert answer is not None
    for world, _ in (handled, taken):
        world.wait(59.0)
    told = run(handled[0].start(handled[0].request("POST", HEARTBEAT, authorization=handled[1])))
    assert answer("node-1", PEER) == (told.body, ())
    registries = [world.directory.nodes.registry for world, _ in (handled, taken)]
    assert registries[0].record(0) == registries[1].record(0)


def test_a_session_due_for_renewal_goes_to_the_handler() -> None:
    world, session = enrolled()
    answer = prepared(world, authorization=session)
    assert answer is not None
    world.wait(60.0)
    assert answer("node-1", PEER) is None
    assert world.call("POST", HEARTBEAT, authorization=session).document["session"] not in session


def test_a_repeated_session_is_of_its_node_alone() -> None:
    world, session = enrolled()
    world.signed(KEY, "POST", "/register", {**NODE, "node_id": "node-2", "public_key": KEY.public_text})
    answer = prepared(world, authorization=session)
    assert answer is not None
    assert answer("node-2", PEER) is None
    assert answer("node-1", PEER) is not None


def test_a_repeated_session_ends_with_its_generation() -> None:
    world, session = enrolled()
    answer = prepared(world, authorization=session)
    assert answer is not None
    body = {"node_id": "node-1", "all": True}
    assert world.signed(KEY, "POST", "/security/revoke", body).status == 200
    assert answer("node-1", PEER) is None
    assert_problem(world.call("POST", HEARTBEAT, authorization=session), 401, "proof_required")


def test_a_repeated_session_ends_with_its_key() -> None:
    """Also where the name is somebody else's by now, and nothing counts how often its key was changed."""
    world, session = enrolled()
    answer = prepared(world, authorization=session)
    assert answer is not None
    registry = world.directory.nodes.registry
    record = registry.record(0)
    other = PrivateKey.generate_ed25519().public_text
    profile = record.profile.replace(KEY.public_text.encode(), other.encode())
    world.directory.nodes.rewrite(record._replace(profile=profile))
    assert registry.generation(0) == record.generation
    assert answer("node-1", PEER) is None
    assert_problem(world.call("POST", HEARTBEAT, authorization=session), 401, "proof_required")


def test_only_a_valid_session_alone_is_prepared() -> None:
    world, session = enrolled()
    assert prepared(world, authorization=session) is not None
    assert prepared(world, authorization=session[:-1] + "!") is None
    assert prepared(world, authorization=session.replace("OpenRed", "Claim")) is None
    assert prepared(world, authorization=session, signature="sig1=:AA==:") is None
    world.wait(300.0)
    assert prepared(world, authorization=session) is None
    world = World()
    world.register(public_key="text")
    assert prepared(world, authorization=session) is None


def test_a_heartbeat_ends_a_probe() -> None:
    world = World()
    world.register()
    expiry = world.directory.expiry
    expiry.set_aside[0] = "broken"
    assert answer_of(world) is not None
    assert 0 not in expiry.set_aside


@pytest.mark.parametrize("proxies", [(), ("192.0.2.0/24",), ("unix",)])
def test_prepared_answers_exempt_those_that_the_handler_exempts(proxies: tuple[str, ...]) -> None:
    exempt = limit_options(exempt_networks=(PEER,), trusted_proxies=proxies)
    world = World(limits=exempt)
    world.register()
    answer = prepared(world)
    if proxies:
        # A field of the request may say that the caller is exempt, and prepared answers do not read it.
        assert answer is None
        return
    assert answer is not None
    limited = answer("node-1", "198.51.100.8")
    assert limited is not None
    assert [name for name, _ in limited[1]] == ["RateLimit-Policy", "RateLimit"]
    for _ in range(2 * HEARTBEATS_AT_ONCE):
        told = answer("node-1", PEER)
        assert told is not None
        assert told[1] == ()


def test_heartbeats_behind_a_proxy_are_prepared_where_nobody_is_exempt() -> None:
    assert prepared(World(limits=limit_options(trusted_proxies=(PEER,)))) is not None
