"""Proofs: each state of a node, each caller, each action, with the exact status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from openred_central.api.caller import proving
from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.state.node import PROVEN
from openred_central.security.signatures import accept_signature
from openred_central.security.signing import PrivateKey, rotation_headers, signed_headers
from tests.support.options import limit_options
from tests.support.world import AUTHORITY, DAY_S, NODE, Reply, World, assert_problem, named

OWNER = PrivateKey.generate_ed25519()
FOREIGN = PrivateKey.generate_ed25519()
NEW = PrivateKey.generate_ed25519()
RSA = PrivateKey.generate_rsa()

# Days of silence that lead to each state.
SILENT_DAYS = {
    State.ACTIVE: 0,
    State.PENDING_FIRST_CHECK: 181,
    State.FAILED_FIRST_CHECK: 182 + 1 / 48,
    State.RETRY_48H: 183,
    State.RETRY_2W: 190,
    State.RETRY_2M: 250,
    State.COMA: 300,
}


def body_of(key: PrivateKey, **changes: Any) -> dict[str, Any]:
    return {**NODE, "public_key": key.public_text, **changes}


def enrol(world: World, key: PrivateKey = OWNER, **changes: Any) -> Reply:
    reply = world.signed(key, "POST", "/register", body_of(key, **changes))
    assert reply.status in (200, 201), reply
    return reply


def bound_world(state: State = State.ACTIVE, **options: Any) -> World:
    """Make a world in which ``node-1`` is bound to `OWNER`, and in `state`."""
    world = World(**options)
    enrol(world)
    world.wait(SILENT_DAYS[state] * DAY_S)
    assert state_of(world) is state
    return world


def slot_of(world: World) -> int:
    slot = world.directory.nodes.registry.slot_of("node-1")
    assert slot is not None
    return slot


def state_of(world: World) -> State:
    return world.directory.nodes.registry.state(slot_of(world))


def rotate(
    world: World,
    old: PrivateKey | None,
    new: PrivateKey,
    body: dict[str, Any] | None = None,
    *,
    path: str = "/nodes/node-1/key",
    **headers: str,
) -> Reply:
    content = orjson.dumps(body or {"public_key": new.public_text})
    nonce = f"{world.random.getrandbits(128):032x}"
    made = rotation_headers(AUTHORITY, path, content, old, new, int(world.clock.wall_s()), nonce)
    return world.call("POST", path, content, **named(made), **headers)


# A node that is bound to its key


ACTIONS: dict[str, tuple[str, str, Any]] = {
    "heartbeat": ("POST", "/heartbeat/node-1", None),
    "change": ("POST", "/heartbeat/node-1", {"port": 9_000}),
    "leave": ("DELETE", "/nodes/node-1", None),
    "forget": ("DELETE", "/nodes/node-1", {"mode": "forget"}),
    "register": ("POST", "/register", NODE),
}


def act(world: World, action: str, caller: str, session: str) -> Reply:
    method, path, body = ACTIONS[action]
    key = FOREIGN if caller == "foreign key" else OWNER
    if action == "register":
        body = body_of(key)
    if caller in ("owner's key", "foreign key"):
        return world.signed(key, method, path, body)
    headers = {
        "owner's session": {"authorization": f"OpenRed {session}"},
        "claim": {"authorization": "Claim AAAAAAAAAAAAAAAAAAAAAA"},
        "unsigned": {},
    }[caller]
    return world.call(method, path, body, **headers)


@pytest.mark.parametrize("state", LIVE_STATES)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("caller", ["owner's key", "owner's session", "foreign key", "unsigned", "claim"])
def test_only_its_key_speaks_for_a_bound_node(state: State, action: str, caller: str) -> None:
    world = bound_world(state)
    now_s = world.clock.wall_s()
    session = world.prover.sessions.mint("node-1", OWNER.key_id, now_s, now_s, 0)
    before = world.directory.nodes.registry.record(slot_of(world))
    reply = act(world, action, caller, session)
    if caller == "owner's key" or (caller == "owner's session" and action == "heartbeat"):
        assert reply.status == 200, reply
        return
    if caller == "foreign key" and action == "register":
        assert_problem(reply, 409, "node_id_taken")
    else:
        assert_problem(reply, 401, "proof_required")
        assert reply.headers["Accept-Signature"] == accept_signature(with_body=ACTIONS[action][2] is not None)
        assert reply.document["server_time"].startswith("20")
    # Nothing changed, and it was no sign of life.
    assert world.directory.nodes.registry.record(slot_of(world)) == before


def test_a_bound_node_returns_from_a_late_coma_as_itself() -> None:
    world = bound_world()
    world.wait(900 * DAY_S)
    assert_problem(world.register(public_key=FOREIGN.public_text), 401, "proof_required")
    reply = enrol(world)
    assert (reply.document["status"], reply.document["previous_state"]) == ("revived", "coma")
    assert reply.document["identity"] == "proven"


def test_the_name_of_a_dead_node_is_free_for_its_key_only() -> None:
    world = bound_world()
    world.wait(1_000 * DAY_S)
    assert_problem(world.signed(FOREIGN, "POST", "/register", body_of(FOREIGN)), 409, "node_id_taken")
    # The key is public: naming it does not prove to hold it.
    assert_problem(world.call("POST", "/register", body_of(OWNER)), 401, "proof_required")
    assert enrol(world).document["status"] == "registered"


def test_after_the_tombstone_any_key_may_take_the_name() -> None:
    world = bound_world()
    world.wait(1_400 * DAY_S)
    assert world.signed(FOREIGN, "POST", "/register", body_of(FOREIGN)).status == 201


def test_a_signed_registration_is_proven_and_gets_a_session() -> None:
    document = enrol(World()).document
    assert (document["identity"], document["key_status"]) == ("proven", "valid")
    assert document["session"].startswith("or3s.")
    assert "claim" not in document


@pytest.mark.parametrize("key", [OWNER, RSA], ids=["ed25519", "rsa"])
def test_both_kinds_of_keys_serve(key: PrivateKey) -> None:
    world = World()
    enrol(world, key)
    assert world.signed(key, "POST", "/heartbeat/node-1").status == 200
    shown = world.call("GET", "/nodes/node-1").document
    assert shown["public_key_fingerprint"] == key.key_id


def test_a_hidden_node_shows_itself_to_its_key_only() -> None:
    world = World()
    enrol(world, discoverable=False)
    assert_problem(world.call("GET", "/nodes/node-1"), 404, "node_not_found")
    assert_problem(world.signed(FOREIGN, "GET", "/nodes/node-1"), 404, "node_not_found")
    assert world.signed(OWNER, "GET", "/nodes/node-1").status == 200


# A node that is not bound


def test_an_unbound_node_is_bound_by_its_first_signature() -> None:
    for sign in (
        lambda world: world.signed(OWNER, "POST", "/register", body_of(OWNER)),
        lambda world: world.signed(OWNER, "POST", "/heartbeat/node-1"),
        lambda world: world.signed(OWNER, "POST", "/heartbeat/node-1", {"port": 9}),
    ):
        world = World()
        claim = world.register(public_key=OWNER.public_text).document["claim"]
        assert not world.directory.nodes.registry.flags[slot_of(world)] & PROVEN
        reply = sign(world)
        assert reply.status == 200, reply
        assert world.directory.nodes.registry.flags[slot_of(world)] & PROVEN
        assert world.saved_changes[-1] == world.directory.nodes.changes.last, "it waits until that is durable"
        assert_problem(world.call("DELETE", "/nodes/node-1", claim=claim), 401, "proof_required")


def test_a_foreign_signature_changes_no_node() -> None:
    world = World()
    world.register(public_key=OWNER.public_text)
    reply = world.signed(FOREIGN, "POST", "/heartbeat/node-1")
    assert_problem(reply, 401, "proof_required")
    assert reply.document["reason"] == "wrong_key"
    assert_problem(world.signed(FOREIGN, "POST", "/register", body_of(FOREIGN)), 409, "node_id_taken")


def test_a_key_may_be_written_in_any_form() -> None:
    world = World()
    world.register(public_key=RSA.public_text)
    pem = RSA.to_pem().decode()
    assert "PRIVATE" in pem
    assert_problem(world.register(public_key=pem), 400, "invalid_key", fields=["public_key"])
    assert world.register(public_key=f" {RSA.public_text}\n".replace("MII", "M\nII", 1)).status == 200


def test_a_text_key_is_kept_but_never_bound() -> None:
    world = World()
    document = world.register(public_key="base64_encoded_public_key").document
    assert (document["identity"], document["key_status"]) == ("unproven", "opaque")
    reply = world.signed(OWNER, "POST", "/heartbeat/node-1")
    assert_problem(reply, 401, "proof_required")
    # RFC 9110 §15.5.2: no 401 without a way to do better.
    assert reply.headers["WWW-Authenticate"] == "Claim"
    reply = world.signed(OWNER, "POST", "/register", {**NODE, "public_key": "text"})
    assert_problem(reply, 400, "invalid_key", fields=["public_key"])


def test_a_key_stored_by_an_earlier_server_still_matches() -> None:
    world = World()
    given = RSA.public_text
    world.register(public_key="text")
    record = world.directory.nodes.registry.record(slot_of(world))
    kept = record.profile.replace(b'"text"', f'"{given}"'.encode())
    world.directory.nodes.rewrite(record._replace(profile=kept))
    assert world.register(public_key=given).document["status"] == "updated"
    assert world.signed(RSA, "POST", "/register", body_of(RSA)).status == 409, "text proves nothing"


# Names that name their key


def test_a_self_certifying_name_belongs_to_its_key() -> None:
    world = World()
    name = f"k-{OWNER.key_id}"
    assert_problem(world.register(node_id=name, public_key=OWNER.public_text), 401, "proof_required")
    taken = world.signed(FOREIGN, "POST", "/register", body_of(FOREIGN, node_id=name))
    assert_problem(taken, 409, "node_id_taken")
    assert world.signed(OWNER, "POST", "/register", body_of(OWNER, node_id=name)).status == 201


def test_a_self_certifying_name_survives_a_key_change() -> None:
    world = World()
    name = f"k-{OWNER.key_id}"
    enrol(world, node_id=name)
    path = f"/nodes/{name}/key"
    body = orjson.dumps({"public_key": NEW.public_text})
    nonce = "nonce-of-the-change"
    headers = rotation_headers(AUTHORITY, path, body, OWNER, NEW, int(world.clock.wall_s()), nonce)
    assert world.call("POST", path, body, **named(headers)).status == 200
    moved = world.signed(NEW, "POST", "/register", body_of(NEW, node_id=name, port=9_999))
    assert moved.document["status"] == "updated"
    assert_problem(
        world.signed(OWNER, "POST", "/register", body_of(OWNER, node_id=name)), 409, "node_id_taken"
    )
    # Also after its death, the key that it was named after has no claim.
    assert world.signed(NEW, "DELETE", f"/nodes/{name}", {"mode": "forget"}).status == 200
    assert_problem(
        world.signed(OWNER, "POST", "/register", body_of(OWNER, node_id=name)), 409, "node_id_taken"
    )
    assert world.signed(NEW, "POST", "/register", body_of(NEW, node_id=name)).status == 201


# Strict mode


def test_strict_takes_nothing_unproved() -> None:
    world = World(strict=True)
    assert_problem(world.register(public_key=OWNER.public_text), 401, "proof_required")
    assert_problem(world.register(), 400, "invalid_key", fields=["public_key"])
    enrol(world)
    assert_problem(world.call("POST", "/heartbeat/node-1"), 401, "proof_required")
    assert world.call("GET", "/").document["auth"] == "strict"


def test_strict_accepts_claims_of_an_open_time() -> None:
    world = World(strict=True)
    object.__setattr__(world.prover, "strict", False)
    claim = world.register(public_key=OWNER.public_text).document["claim"]
    object.__setattr__(world.prover, "strict", True)
    assert_problem(world.call("POST", "/heartbeat/node-1"), 401, "proof_required")
    assert world.call("POST", "/heartbeat/node-1", claim=claim).status == 200
    assert world.signed(OWNER, "POST", "/heartbeat/node-1").status == 200


# Replays, times, substitutions


def test_the_same_request_is_accepted_once() -> None:
    world = bound_world()
    for nonce, status in (("n" * 16, 200), ("n" * 16, 401), ("m" * 16, 200)):
        reply = world.signed(OWNER, "POST", "/heartbeat/node-1", nonce=nonce)
        assert reply.status == status
    assert world.signed(OWNER, "POST", "/heartbeat/node-1", nonce="n" * 16).document["reason"] == "replayed"


def test_reordered_requests_are_both_accepted() -> None:
    world = bound_world()
    world.clock.advance(100)
    assert world.signed(OWNER, "POST", "/heartbeat/node-1", age_s=0).status == 200
    assert world.signed(OWNER, "POST", "/heartbeat/node-1", age_s=30).status == 200


def test_a_departed_node_s_requests_cannot_be_repeated() -> None:
    world = World()
    nonce = "r" * 16
    assert world.signed(OWNER, "POST", "/register", body_of(OWNER), nonce=nonce).status == 201
    assert world.signed(OWNER, "DELETE", "/nodes/node-1", {"mode": "forget"}).status == 200
    again = world.signed(OWNER, "POST", "/register", body_of(OWNER), nonce=nonce)
    assert again.document["reason"] == "replayed"


def test_seventeen_proofs_in_a_minute_are_too_many() -> None:
    world = bound_world()
    replies = [world.signed(OWNER, "POST", "/heartbeat/node-1") for _ in range(17)]
    assert [reply.status for reply in replies].count(200) == 15, "the registration was the first"
    assert replies[-1].status == 429
    assert replies[-1].headers["Retry-After"] == "60"
    assert replies[-1].document["violated-policies"] == ["proofs"]
    world.clock.advance(62)
    assert world.signed(OWNER, "POST", "/heartbeat/node-1").status == 200


def test_signatures_from_before_the_start_are_refused() -> None:
    world = bound_world()
    reply = world.signed(OWNER, "POST", "/heartbeat/node-1", age_s=1)
    assert_problem(reply, 401, "proof_required")
    assert reply.document["reason"] == "signature_expired"
    world.clock.jump_wall(-365 * DAY_S)
    assert world.signed(OWNER, "POST", "/heartbeat/node-1").status == 200


@pytest.mark.parametrize(("age_s", "reason"), [(61, "signature_expired"), (-31, "signature_early")])
def test_a_signature_has_its_time(age_s: float, reason: str) -> None:
    world = bound_world()
    world.clock.advance(1_000)
    reply = world.signed(OWNER, "POST", "/heartbeat/node-1", age_s=age_s)
    assert (reply.status, reply.document["reason"]) == (401, reason)
    assert world.limits.refusals.by_reason[reason] == 1


def test_failed_proofs_are_counted_by_their_reason() -> None:
    world = bound_world()
    headers = {"authorization": f"OpenRed or3s.9999999999.1.0.{'A' * 22}"}
    assert world.call("POST", "/heartbeat/node-1", **headers).status == 401
    assert world.call("POST", "/heartbeat/node-1").status == 401
    assert world.signed(PrivateKey.generate_ed25519(), "POST", "/heartbeat/node-1").status == 401
    claim = world.register(node_id="carol").document["claim"]
    assert world.call("DELETE", "/nodes/carol", authorization=f"Claim {claim[::-1]}").status == 403
    counted = {reason: count for reason, count in world.limits.refusals.by_reason.items() if count}
    assert counted == {"bad_session": 1, "proof_required": 1, "wrong_key": 1, "wrong_claim": 1}


def test_a_request_signed_for_another_directory_is_refused() -> None:
    world = bound_world()
    reply = world.signed(OWNER, "POST", "/heartbeat/node-1", authority="evil.example")
    assert (reply.status, reply.document["reason"]) == (401, "bad_signature")
    object.__setattr__(world.prover.authorities, "_allowed", frozenset({"other.example"}))
    reply = world.signed(OWNER, "POST", "/heartbeat/node-1")
    assert (reply.status, reply.document["reason"]) == (401, "wrong_authority")


def test_a_signed_request_has_no_query() -> None:
    world = bound_world()
    reply = world.signed(OWNER, "DELETE", "/nodes/node-1?mode=forget")
    assert_problem(reply, 400, "bad_request")


@pytest.mark.parametrize("name", ["signature", "signature-input"])
def test_half_a_signature_is_no_request_without_one(name: str) -> None:
    world = World()
    world.register(public_key=OWNER.public_text)
    made = signed_headers(
        "POST", AUTHORITY, "/heartbeat/node-1", b"", OWNER, int(world.clock.wall_s()), "n" * 16
    )
    half = {given: value for given, value in named(made).items() if given == name.replace("-", "_")}
    assert_problem(world.call("POST", "/heartbeat/node-1", **half), 400, "bad_request")


# Whose limits are charged


def counted_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets an entry for each signature checked from now on."""
    checked: list[str] = []
    checks: Callable[..., Any] = proving.check_proof

    def counting(*arguments: Any) -> Any:
        checked.append("")
        return checks(*arguments)

    monkeypatch.setattr(proving, "check_proof", counting)
    return checked


def test_bad_proofs_cost_their_sender_and_not_the_node() -> None:
    world = bound_world(limits=limit_options())
    other = "203.0.113.9"
    for number in range(1_000):
        reply = world.call(
            "POST", "/heartbeat/node-1", peer=other, authorization=f"OpenRed or3s.9999999999.1.0.{'A' * 22}"
        )
        assert reply.status == (401 if number < 30 else 429)
    assert world.signed(OWNER, "POST", "/heartbeat/node-1").status == 200


def test_beyond_the_budget_no_signature_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    world = bound_world(limits=limit_options())
    checked = counted_checks(monkeypatch)
    statuses = [world.signed(FOREIGN, "POST", "/heartbeat/node-1").status for _ in range(100)]
    assert statuses == [401] * 30 + [429] * 70
    assert len(checked) == 30


def test_registering_a_foreign_name_uses_up_none_of_its_proofs() -> None:
    world = bound_world()
    for _ in range(20):
        world.signed(FOREIGN, "POST", "/register", body_of(FOREIGN))
    assert world.signed(OWNER, "POST", "/heartbeat/node-1").status == 200


def test_a_replay_is_charged_to_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """To check a signature that was accepted before costs as much as to check one that is wrong."""
    world = bound_world(limits=limit_options())
    checked = counted_checks(monkeypatch)
    replies = [
        world.signed(OWNER, "POST", "/heartbeat/node-1", nonce="the-very-same-nonce") for _ in range(100)
    ]
    assert [reply.status for reply in replies] == [200] + [401] * 30 + [429] * 69
    assert len(checked) == 31


# Sessions


def test_a_session_is_renewed_by_each_heartbeat_for_an_hour() -> None:
    world = World()
    session = enrol(world).document["session"]
    for _ in range(14):
        world.clock.advance(240)
        reply = world.call("POST", "/heartbeat/node-1", authorization=f"OpenRed {session}")
        session = reply.document["session"]
    # Used or not, the session ends an hour after the last signature.
    world.clock.advance(240)
    reply = world.call("POST", "/heartbeat/node-1", authorization=f"OpenRed {session}")
    assert (reply.status, reply.document["reason"]) == (401, "session_expired")


def test_a_session_is_not_renewed_in_its_first_minute() -> None:
    world = World()
    session = enrol(world).document["session"]
    for seconds, same in ((0, True), (59, True), (1, False)):
        world.clock.advance(seconds)
        reply = world.call("POST", "/heartbeat/node-1", authorization=f"OpenRed {session}")
        assert (reply.document["session"] == session) is same
    assert world.signed(OWNER, "POST", "/heartbeat/node-1").document["session"] != session, "signed anew"


def test_a_session_is_not_renewed_by_a_process_that_others_cannot_reach() -> None:
    world = World()
    session = enrol(world).document["session"]
    world.directory.may_change = lambda: False
    for status in (200, 200, 401):
        world.clock.advance(120)
        reply = world.call("POST", "/heartbeat/node-1", authorization=f"OpenRed {session}")
        assert reply.status == status
        assert status == 401 or reply.document["session"] == session


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_clock_change_lengthens_no_session(jump_s: float) -> None:
    world = bound_world()
    world.clock.jump_wall(jump_s)
    session = world.signed(OWNER, "POST", "/heartbeat/node-1").document["session"]
    world.clock.jump_wall(-jump_s)
    authorization = f"OpenRed {session}"
    assert world.call("POST", "/heartbeat/node-1", authorization=authorization).status == 200
    world.clock.advance(301)
    reply = world.call("POST", "/heartbeat/node-1", authorization=authorization)
    assert (reply.status, reply.document["reason"]) == (401, "session_expired")


@pytest.mark.parametrize("jump_s", [90.0, 7_200.0, DAY_S])
def test_clock_changes_allow_no_replay(jump_s: float) -> None:
    world = bound_world()
    nonce = "0123456789abcdef"
    assert world.signed(OWNER, "POST", "/heartbeat/node-1", nonce=nonce).status == 200
    world.clock.jump_wall(jump_s)
    assert world.signed(OWNER, "POST", "/heartbeat/node-1").status == 200
    world.clock.jump_wall(-jump_s)
    world.clock.advance(2)
    reply = world.signed(OWNER, "POST", "/heartbeat/node-1", nonce=nonce, age_s=2.0)
    assert (reply.status, reply.document["reason"]) == (401, "replayed")


def test_a_session_is_for_heartbeats_only() -> None:
    world = World()
    authorization = f"OpenRed {enrol(world).document['session']}"
    for method, path, body in (
        ("POST", "/register", body_of(OWNER, port=9)),
        ("POST", "/heartbeat/node-1", {"port": 9}),
        ("DELETE", "/nodes/node-1", None),
        ("POST", "/nodes/node-1/key", {"public_key": FOREIGN.public_text}),
    ):
        assert world.call(method, path, body, authorization=authorization).status == 401


# Changing keys


def test_both_keys_sign_a_key_change_and_the_former_is_void() -> None:
    world = World()
    session = enrol(world).document["session"]
    reply = rotate(world, OWNER, NEW)
    assert reply.status == 200, reply
    assert (reply.document["key_generation"], reply.document["durable"]) == (1, True)
    old = world.signed(OWNER, "POST", "/heartbeat/node-1")
    assert (old.status, old.document["reason"]) == (401, "wrong_key")
    assert_problem(world.signed(OWNER, "POST", "/register", body_of(OWNER)), 409, "node_id_taken")
    assert world.call("POST", "/heartbeat/node-1", authorization=f"OpenRed {session}").status == 401
    assert world.signed(NEW, "POST", "/heartbeat/node-1").status == 200
    fresh = f"OpenRed {reply.document['session']}"
    assert world.call("POST", "/heartbeat/node-1", authorization=fresh).status == 200


@pytest.mark.parametrize("state", LIVE_STATES)
def test_only_the_node_changes_its_key_in_every_state(state: State) -> None:
    world = bound_world(state)
    assert_problem(rotate(world, None, FOREIGN), 401, "proof_required")
    assert_problem(rotate(world, FOREIGN, NEW), 401, "proof_required")
    # The new key has to sign as well, and be the one that is named.
    swapped = rotate(world, OWNER, FOREIGN, {"public_key": NEW.public_text})
    assert (swapped.status, swapped.document["reason"]) == (401, "wrong_key")


def test_a_committed_key_takes_over_alone() -> None:
    world = World()
    enrol(world, next_key=NEW.key_id)
    assert rotate(world, None, FOREIGN).status == 401
    assert rotate(world, None, NEW).status == 200
    assert rotate(world, None, NEW).status == 401, "it was named once"


def test_the_present_key_alone_does_not_break_a_commitment() -> None:
    """As a thief has it, who cannot keep the owner from taking the node back."""
    world = World()
    enrol(world, next_key=NEW.key_id)
    assert_problem(rotate(world, OWNER, FOREIGN), 403, "forbidden")
    named = {"public_key": FOREIGN.public_text, "next_key": FOREIGN.key_id}
    assert_problem(rotate(world, OWNER, FOREIGN, named), 403, "forbidden")
    for broken in (None, FOREIGN.key_id):
        reply = world.signed(OWNER, "POST", "/register", body_of(OWNER, port=9, next_key=broken))
        assert_problem(reply, 403, "forbidden")
    assert world.signed(OWNER, "POST", "/heartbeat/node-1", {"port": 10}).status == 200
    assert enrol(world, port=11, next_key=NEW.key_id).status == 200
    assert enrol(world, port=12).status == 200
    assert world.call("GET", "/nodes/node-1").document["next_key"] == NEW.key_id
    assert rotate(world, None, NEW).status == 200


def test_the_present_key_may_sign_a_committed_change_too() -> None:
    world = World()
    enrol(world, next_key=NEW.key_id)
    assert_problem(rotate(world, FOREIGN, NEW), 401, "proof_required")
    assert rotate(world, OWNER, NEW).status == 200


@pytest.mark.parametrize("end", ["forgotten", "purged", "silent"])
def test_a_commitment_outlives_its_node(end: str) -> None:
    world = World()
    enrol(world, next_key=NEW.key_id)
    if end == "forgotten":
        assert world.signed(OWNER, "DELETE", "/nodes/node-1", {"mode": "forget"}).status == 200
    elif end == "purged":
        world.directory.forget("node-1", world.now())
    else:
        world.wait(1_100 * DAY_S)
    assert world.directory.nodes.registry.slot_of("node-1") is None
    for broken in (None, FOREIGN.key_id):
        reply = world.signed(OWNER, "POST", "/register", body_of(OWNER, next_key=broken))
        assert_problem(reply, 403, "forbidden")
    assert enrol(world).status == 201
    assert world.call("GET", "/nodes/node-1").document["next_key"] == NEW.key_id
    assert_problem(rotate(world, OWNER, FOREIGN), 403, "forbidden")
    assert rotate(world, None, NEW).status == 200


@pytest.mark.parametrize("node_id", ["node-1", f"k-{OWNER.key_id}"])
def test_a_committed_key_may_take_the_name_of_a_dead_node(node_id: str) -> None:
    world = World()
    enrol(world, node_id=node_id, next_key=NEW.key_id)
    assert world.signed(OWNER, "DELETE", f"/nodes/{node_id}", {"mode": "forget"}).status == 200
    assert world.signed(FOREIGN, "POST", "/register", body_of(FOREIGN, node_id=node_id)).status == 409
    assert world.register(node_id=node_id, public_key=NEW.public_text).status == 401
    assert enrol(world, NEW, node_id=node_id, next_key=FOREIGN.key_id).status == 201
    assert world.call("GET", f"/nodes/{node_id}").document["next_key"] == FOREIGN.key_id
    assert_problem(
        world.signed(OWNER, "POST", "/register", body_of(OWNER, node_id=node_id)), 409, "node_id_taken"
    )


def test_naming_the_next_key_needs_a_signature() -> None:
    world = World()
    reply = world.register(public_key=OWNER.public_text, next_key=FOREIGN.key_id)
    assert_problem(reply, 400, "bad_request", fields=["next_key"])


def test_a_claim_brings_a_node_without_a_key_to_one() -> None:
    world = World()
    claim = world.register().document["claim"]
    assert rotate(world, None, NEW).status == 401
    assert rotate(world, None, NEW, authorization="Claim AAAAAAAAAAAAAAAAAAAAAA").status == 403
    assert rotate(world, None, NEW, authorization=f"Claim {claim}").status == 200
    assert world.signed(NEW, "POST", "/heartbeat/node-1").status == 200
