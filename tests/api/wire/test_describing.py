"""A node as others see it, and its life explained: why, since when, and every deadline ahead."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.wire.describing import (
    address_source_of,
    describe,
    descriptions,
    explain,
    identity_of,
)
from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.octaves import seconds_of
from openred_central.directory.state.node import (
    HISTORY_ENTRIES_MAX,
    KEYED,
    NodeEndpoint,
    Profile,
    Record,
    key_fingerprint,
)
from openred_central.wording import rfc3339
from tests.support.building import at, make_directory, record
from tests.support.options import lifecycle_options
from tests.support.world import DAY_S, World

EXPLAIN_KEYS = {
    *("why", "silent_s", "usual_gap_s", "in_state_since", "what_to_do", "deadlines", "history"),
}
LIFE = ["pending_1st", "failed_1st", "retry_48h", "retry_2w", "retry_2m", "coma", "dead"]


def explained(world: World) -> dict[str, Any]:
    reply = world.call("GET", "/nodes/node-1")
    assert reply.status == 200
    explain: dict[str, Any] = reply.document["explain"]
    return explain


def test_a_new_node_is_described_whole() -> None:
    world = World()
    more = [{"address": "2001:db8::1", "port": 9_000}]
    world.register(services=["b", "a"], metadata={"x": 1}, region="eu", addresses=more)
    shown = world.call("GET", "/nodes/node-1").document
    explain = shown.pop("explain")
    assert shown.pop("forecast")["words"].startswith("It is probably up now.")
    assert shown == {
        "node_id": "node-1",
        "address": "192.0.2.1",
        "port": 8001,
        "addresses": more,
        "services": ["a", "b"],
        "state": "active",
        "last_seen": "2027-01-15T08:00:00.000Z",
        "metadata": {"x": 1},
        "public_key_fingerprint": "vil0VGl443OebW2oXEvp8zTOMt8rn9S2_xtVwNV-nUQ",
        "identity": "unproven",
        "address_source": "declared",
        "region": "eu",
        "availability": 0.83,
        "late": False,
        "public_key": "key-1",
        "key_status": "opaque",
        "key_generation": 0,
        "next_key": None,
        "registered_at": "2027-01-15T08:00:00.000Z",
        "revision": 1,
        "discoverable": True,
        "away_until": None,
    }
    assert explain.keys() == EXPLAIN_KEYS


def test_every_deadline_ahead_is_exact() -> None:
    world = World()
    world.register()
    assert explained(world)["deadlines"] == [
        {"state": "pending_1st", "at": "2027-07-14T08:00:00.000Z", "in_s": 180 * DAY_S},
        {"state": "failed_1st", "at": "2027-07-16T08:00:00.000Z", "in_s": 182 * DAY_S},
        {"state": "retry_48h", "at": "2027-07-16T09:00:00.000Z", "in_s": 182 * DAY_S + 3_600},
        {"state": "retry_2w", "at": "2027-07-18T09:00:00.000Z", "in_s": 184 * DAY_S + 3_600},
        {"state": "retry_2m", "at": "2027-08-01T09:00:00.000Z", "in_s": 198 * DAY_S + 3_600},
        {"state": "coma", "at": "2027-09-30T09:00:00.000Z", "in_s": 258 * DAY_S + 3_600},
        {"state": "dead", "at": "2029-09-29T09:00:00.000Z", "in_s": 988 * DAY_S + 3_600},
    ]


def test_announced_deadlines_come_true() -> None:
    world = World()
    world.register()
    told = explained(world)["deadlines"]
    for number, deadline in enumerate(told[:-1]):
        world.clock.advance(-world.now().wall_s + 1_800_000_000 + deadline["in_s"] + 1)
        world.directory.expiry.expire_due(world.now(), 10)
        shown = world.call("GET", "/nodes/node-1").document
        assert shown["state"] == deadline["state"]
        assert shown["explain"]["in_state_since"] == deadline["at"]
        assert [(one["state"], one["at"]) for one in shown["explain"]["deadlines"]] == [
            (one["state"], one["at"]) for one in told[number + 1 :]
        ]
    world.wait(731 * DAY_S)
    assert world.call("GET", "/nodes/node-1").status == 404
    assert world.call("POST", "/heartbeat/node-1").status == 410


@pytest.mark.parametrize(
    ("asleep_days", "why", "what_to_do"),
    [
        (1, "within the tolerance", "Nothing"),
        (181, "grace period", "heartbeat brings it back"),
        (182.01, "still silent after its grace period", "heartbeat brings it back"),
        (183, "first of three further waits", "heartbeat brings it back"),
        (190, "second of three further waits", "heartbeat brings it back"),
        (250, "third of three further waits", "heartbeat brings it back"),
        (300, "dormant", "heartbeat brings it back"),
    ],
)
def test_every_state_is_explained(asleep_days: float, why: str, what_to_do: str) -> None:
    world = World()
    world.register()
    world.wait(asleep_days * DAY_S)
    explain = explained(world)
    assert why in explain["why"]
    assert f"{int(asleep_days)} day" in explain["why"]
    assert what_to_do in explain["what_to_do"]
    assert explain["silent_s"] == round(asleep_days * DAY_S, 3)


def test_a_state_without_duration_is_still_listed() -> None:
    world = World(lifecycle=lifecycle_options(second_look_s=0.0))
    world.register()
    deadlines = explained(world)["deadlines"]
    assert [deadline["state"] for deadline in deadlines] == LIFE
    assert deadlines[1]["at"] == deadlines[2]["at"]
    world.wait(182 * DAY_S)
    assert [entry["to"] for entry in explained(world)["history"]][-2:] == ["failed_1st", "retry_48h"]


def test_an_absence_moves_all_deadlines_and_is_explained() -> None:
    world = World()
    world.register(away_until="2028-01-15T08:00:00Z")
    explain = explained(world)
    assert explain["deadlines"][0] == {
        "state": "pending_1st",
        "at": "2028-01-15T08:00:00.000Z",
        "in_s": 365 * DAY_S,
    }
    world.wait(200 * DAY_S)
    assert "absence until 2028-01-15T08:00:00.000Z" in explained(world)["why"]
    world.wait(165 * DAY_S)
    shown = world.call("GET", "/nodes/node-1").document
    assert (shown["state"], shown["away_until"]) == ("pending_1st", None)


def test_a_later_deadline_is_explained_to_the_node_itself_and_to_operators() -> None:
    world = World()
    claim = world.claim_of()
    foreign = world.claim_of(node_id="node-2")
    directory, slot = world.directory, world.directory.slot("node-1", world.now())
    directory.nodes.raise_longest(slot, 200 * DAY_S)
    public = explained(world)["deadlines"]
    assert {tuple(deadline) for deadline in public} == {("state", "at", "in_s")}
    assert world.call("GET", "/nodes/node-1", claim=foreign).document["explain"]["deadlines"] == public
    told = world.call("GET", "/nodes/node-1", claim=claim).document["explain"]["deadlines"]
    assert told == explain(directory, slot, world.now(), private=True)["explain"]["deadlines"]
    assert [{name: one[name] for name in ("state", "at", "in_s")} for one in told] == public
    first, *others = told
    away_s = seconds_of(directory.nodes.registry.longest[slot])
    assert first["in_s"] == round(1.5 * away_s, 3)
    assert first["extended_s"] == round(1.5 * away_s - 180 * DAY_S, 3)
    assert first["because"] == (
        "It once was away for up to 216 days 11 hours, so it is waited for 324 days 17 hours "
        "instead of 180 days."
    )
    assert not any("because" in one for one in others)
    directory.nodes.raise_longest(slot, 900 * DAY_S)
    told = world.call("GET", "/nodes/node-1", claim=claim).document["explain"]["deadlines"]
    extended = [(one["state"], one["extended_s"]) for one in told if "extended_s" in one]
    assert extended == [("pending_1st", 180 * DAY_S), ("dead", 365 * DAY_S)]


def test_an_absence_that_lasts_longer_than_patience_is_the_reason() -> None:
    world = World()
    claim = world.claim_of(away_until="2028-01-15T08:00:00Z")
    world.directory.nodes.raise_longest(world.directory.slot("node-1", world.now()), 220 * DAY_S)
    first, *_ = world.call("GET", "/nodes/node-1", claim=claim).document["explain"]["deadlines"]
    assert (first["in_s"], "because" in first) == (365 * DAY_S, False)


def test_a_held_node_is_explained_without_deadlines() -> None:
    world = World()
    world.register()
    world.directory.hold("node-1", world.now())
    world.wait(1_000 * DAY_S)
    shown = world.call("GET", "/nodes/node-1").document
    assert shown["state"] == "active"
    assert "An operator holds it" in shown["explain"]["why"]
    assert shown["explain"]["deadlines"] == []
    assert "until an operator releases it" in shown["explain"]["what_to_do"]


def test_a_node_that_left_is_explained_so() -> None:
    world = World()
    claim = world.claim_of()
    world.call("DELETE", "/nodes/node-1", claim=claim)
    explain = explained(world)
    assert "left on its own request" in explain["why"]
    assert "brings it back as itself" in explain["what_to_do"]


def test_history_begins_with_the_registration() -> None:
    world = World()
    world.register()
    assert explained(world)["history"] == [
        {"at": "2027-01-15T08:00:00.000Z", "from": "absent", "to": "active", "reason": "registered"}
    ]


def test_history_has_every_transition_in_order() -> None:
    world = World()
    world.register()
    world.wait(300 * DAY_S)
    world.call("POST", "/heartbeat/node-1")
    world.wait(181 * DAY_S)
    world.register()
    history = explained(world)["history"]
    assert [(entry["from"], entry["to"], entry["reason"]) for entry in history] == [
        ("absent", "active", "registered"),
        ("active", "pending_1st", "deadline"),
        ("pending_1st", "failed_1st", "deadline"),
        ("failed_1st", "retry_48h", "deadline"),
        ("retry_48h", "retry_2w", "deadline"),
        ("retry_2w", "retry_2m", "deadline"),
        ("retry_2m", "coma", "deadline"),
        ("coma", "active", "sign_of_life"),
        ("active", "pending_1st", "deadline"),
        ("pending_1st", "active", "registered"),
    ]
    assert [entry["at"] for entry in history] == sorted(entry["at"] for entry in history)


def test_history_keeps_the_last_16_and_the_registration_still_leads() -> None:
    world = World()
    world.register()
    for _ in range(12):
        world.wait(181 * DAY_S)
        world.register()
    history = explained(world)["history"]
    assert len(history) == HISTORY_ENTRIES_MAX + 1
    assert (history[0]["from"], history[0]["at"]) == ("absent", "2027-01-15T08:00:00.000Z")
    assert [entry["to"] for entry in history[1:]] == ["pending_1st", "active"] * 8


def test_a_life_after_death_begins_its_history_with_that() -> None:
    world = World()
    world.register()
    world.wait(1_000 * DAY_S)
    world.register()
    (entry,) = explained(world)["history"]
    assert (entry["from"], entry["to"], entry["reason"]) == ("dead", "active", "registered")


def test_downtime_does_not_move_the_time_in_a_state() -> None:
    world = World()
    world.register()
    # A restart after three days: wall time went on, attended time did not.
    world.clock.jump_wall(3 * DAY_S)
    explain = explained(world)
    assert explain["in_state_since"] == "2027-01-15T08:00:00.000Z"
    assert explain["deadlines"][0]["at"] == "2027-07-17T08:00:00.000Z"


def test_availability_has_three_digits_without_habits() -> None:
    world = World(forecast=False, heartbeat_advice_s=DAY_S)
    world.register()
    world.wait(3 * DAY_S)
    assert world.call("GET", "/nodes/node-1").document["availability"] == 0.333


# Text joined by hand

TEXTS = st.text(max_size=12) | st.sampled_from(['"', "\\", '",[],', '\\",[],{', ",", "ключ", "\u2028"])


def general_description(record: Record, expected: str) -> dict[str, Any]:
    """The public description of a record, member by member."""
    profile = Profile.decode(record.profile)
    return {
        "node_id": record.node_id,
        "address": profile.address,
        "port": profile.port,
        "addresses": [{"address": one.address, "port": one.port} for one in profile.addresses],
        "services": record.services.split(",") if record.services else [],
        "state": State(record.state).wire,
        "last_seen": rfc3339(record.last_seen_at),
        "metadata": profile.metadata,
        "public_key_fingerprint": key_fingerprint(profile.public_key, record.flags),
        "identity": identity_of(record.flags),
        "address_source": address_source_of(record.flags),
        "region": record.region or None,
        **orjson.loads(f"{{{expected}}}"),
    }


PROFILES = st.builds(
    Profile,
    TEXTS,
    st.integers(1, 65_535),
    TEXTS,
    st.lists(st.builds(NodeEndpoint, TEXTS, st.integers(1, 65_535)), max_size=2).map(tuple),
    st.dictionaries(TEXTS, TEXTS | st.integers(-9, 9) | st.floats(-1e9, 1e9) | st.lists(TEXTS), max_size=3),
)
RECORDS = st.builds(
    record,
    st.just(0),
    state=st.sampled_from(LIVE_STATES),
    flags=st.integers(0, 63).map(lambda flags: flags & ~KEYED),
    last_seen_at=st.floats(-1e9, 1e10),
    last_seen_s=st.floats(0.0, 1e6),
    usual_gap_s=st.sampled_from([60.0, 86_400.0]),
    services=st.sampled_from(["", "chat", "chat,mail"]),
    region=st.sampled_from(["", "eu"]),
    profile=PROFILES.map(Profile.encode),
)


@given(st.lists(RECORDS, min_size=1, max_size=4), st.data())
def test_any_nodes_are_described_as_their_records_say(records: list[Record], data: st.DataObject) -> None:
    directory, now = make_directory(forecast=data.draw(st.booleans())), at(1e6)
    registry = directory.nodes.registry
    for slot, one in enumerate(records):
        spki = bytes([slot]) * (32 if slot % 2 else 90)
        keyed = Profile.decode(one.profile)._replace(public_key=b64encode(spki).decode()).encode()
        changed = one._replace(flags=one.flags | KEYED, profile=keyed) if data.draw(st.booleans()) else one
        registry.insert(changed._replace(slot=slot, node_id=f"node-{slot}"))
        directory.nodes.habits.make_room(slot + 1)
        directory.nodes.habits.odds[slot] = data.draw(st.integers(-127, 127))
    slots = data.draw(st.permutations(range(len(records))))
    scores = directory.ranking.scores(slots, now.attended_s)
    expected = [
        general_description(registry.record(slot), directory.ranking.told(score))
        for slot, score in zip(slots, scores, strict=True)
    ]
    for told in (descriptions(directory, slots, now), descriptions(directory, slots, now, scores)):
        assert [orjson.loads(text) for text in told] == expected
        assert [list(orjson.loads(text)) for text in told] == [list(one) for one in expected]
    assert descriptions(directory, [], now) == []


@pytest.mark.parametrize("silent_days", [0.0, 1.0, 2.0, 7.1, 1_000.0])
def test_many_are_described_as_each_of_them(silent_days: float) -> None:
    world = World(forecast=False)
    for number in range(3):
        world.register(
            node_id=f"node-{number}",
            public_key=f'"{number}\\',
            services=["b", "a"][:number],
            region="eu"[number:],
        )
    world.clock.advance(silent_days * DAY_S)
    slots, now = [2, 0, 1], world.now()
    told = [orjson.loads(text) for text in descriptions(world.directory, slots, now)]
    assert told == [describe(world.directory, slot, now) for slot in slots]
    assert [node["node_id"] for node in told] == ["node-2", "node-0", "node-1"]
    assert [node["services"] for node in told] == [["a", "b"], [], ["b"]]
    assert [node["region"] for node in told] == [None, "eu", "u"]
    assert {node["availability"] for node in told} == {round(min(1.0, 1 / max(silent_days, 1.0)), 3)}
