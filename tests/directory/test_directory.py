"""The operations of the directory, their permissions and their answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import DAY_S, State
from openred_central.directory.registration import Registration
from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.node import LEFT, Profile
from openred_central.directory.state.tombstones import GRANTED_S_MAX
from openred_central.errors import CallerError
from tests.support.building import (
    EPOCH_S,
    SHORT_LIFE,
    DictStore,
    at,
    beat,
    day,
    expect_consistent,
    make_directory,
    record_of,
    register,
    registration,
    restarted,
    run_until,
    save_all,
    state_of,
)
from tests.support.options import directory_options, lifecycle_options

WHOLE = {"services": "chat,mail", "region": "eu", "metadata": {"version": 3}}


@contextmanager
def refused(status: int, code: str) -> Iterator[pytest.ExceptionInfo[CallerError]]:
    with pytest.raises(CallerError) as caught:
        yield caught
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_new_node_is_active_with_all_its_data() -> None:
    directory = make_directory()
    said = registration("a", **WHOLE)
    outcome = directory.register(said, proved=False, now=at(7.0))
    assert outcome[:4] == ("registered", 0, State.ABSENT, 0.0)
    record = record_of(directory, "a")
    assert (record.registered_at, record.last_seen_at, record.last_seen_s) == (
        EPOCH_S + 7.0,
        EPOCH_S + 7.0,
        7.0,
    )
    assert (record.state, record.services, record.region) == (State.ACTIVE, "chat,mail", "eu")
    assert Profile.decode(record.profile) == said.profile
    assert (record.history, record.away_until_s) == ("", 0.0)
    assert len(directory) == 1


def test_a_proved_registration_changes_all_but_the_first_time() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), **WHOLE)
    outcome = directory.register(registration("a", key="other", services="files"), proved=True, now=at(5.0))
    assert outcome[:4] == ("updated", 0, State.ACTIVE, 5.0)
    record = record_of(directory, "a")
    assert (record.services, record.region, record.registered_at) == ("files", "", EPOCH_S)
    assert Profile.decode(record.profile).public_key == "other"


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "other"},
        {"services": "chat"},
        {"region": "us"},
        {"metadata": {}},
        {"discoverable": False},
        {"away_until_at": EPOCH_S + 50.0},
    ],
)
def test_without_proof_nothing_is_changed_and_nothing_is_heard(changed: dict[str, object]) -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), **WHOLE)
    before = record_of(directory, "a")
    with refused(409, "node_id_taken"):
        directory.register(registration("a", **{**WHOLE, **changed}), proved=False, now=at(5.0))
    assert record_of(directory, "a") == before


def test_an_unproved_registration_without_changes_is_a_sign_of_life() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), **WHOLE)
    before = record_of(directory, "a")
    again = directory.register(registration("a", **WHOLE), proved=False, now=at(5.0))
    assert again.outcome == "updated"
    assert record_of(directory, "a") == before._replace(last_seen_s=5.0, last_seen_at=EPOCH_S + 5.0)
    # The caller waits until the repeated registration is durable, too.
    assert directory.nodes.changes.is_noted(again.slot)


@pytest.mark.parametrize("days", [181, 182.01, 183, 190, 200, 500])
def test_a_registration_revives_and_reports_the_silence(days: float) -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), **WHOLE)
    before = record_of(directory, "a")
    run_until(directory, day(days))
    asleep = state_of(directory, "a")
    outcome = directory.register(registration("a", **WHOLE), proved=False, now=day(days))
    assert outcome[:4] == ("revived", 0, asleep, days * DAY_S)
    after = record_of(directory, "a")
    kept = ("node_id", "flags", "registered_at", "revision", "services", "region", "profile")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert state_of(directory, "a") is State.ACTIVE


def test_the_last_sign_of_life_never_goes_back() -> None:
    directory = make_directory()
    register(directory, "a", at(100.0))
    beat(directory, "a", at(90.0))
    record = record_of(directory, "a")
    assert (record.last_seen_s, record.last_seen_at) == (100.0, EPOCH_S + 100.0)


@pytest.mark.parametrize("jump_s", [2 * 365 * DAY_S, -2 * 365 * DAY_S])
def test_a_jump_of_the_wall_clock_ages_no_node(jump_s: float) -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    register(directory, "b", at(0.0))
    jumped = at(10.0, wall_shift_s=jump_s)
    run_until(directory, jumped)
    assert beat(directory, "a", jumped) is State.ACTIVE
    run_until(directory, at(180 * DAY_S, wall_shift_s=jump_s))
    assert state_of(directory, "a") is State.ACTIVE
    assert state_of(directory, "b") is State.PENDING_FIRST_CHECK
    expect_consistent(directory, at(180 * DAY_S, wall_shift_s=jump_s))


def test_a_heartbeat_of_an_active_node_touches_no_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = make_directory()
    for number in range(50):
        register(directory, f"n{number}", at(0.0))
    deadlines = directory.nodes.deadlines

    def touched(*_: object) -> None:
        raise AssertionError("the deadlines were touched")

    for method in ("arm", "disarm", "pop_due", "_sweep_some"):
        monkeypatch.setattr(type(deadlines), method, touched)
    for second in range(1, 200):
        beat(directory, f"n{second % 50}", at(float(second)))


def test_a_node_with_heartbeats_is_looked_at_once_a_tolerance() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    looks = 0
    for days in range(1, 1_000):
        beat(directory, "a", day(days))
        looks += directory.expiry.expire_due(day(days), 10)
    assert looks == 5
    assert directory.nodes.deadlines.pop_due(1e9, 10)[1] == 1


def test_the_usual_gap_follows_the_pace_of_the_node() -> None:
    directory = make_directory(heartbeat_advice_s=1_000.0)
    register(directory, "a", at(0.0))
    assert record_of(directory, "a").usual_gap_s == 1_000.0
    for number in range(1, 60):
        beat(directory, "a", at(number * 200.0))
    assert 200.0 <= record_of(directory, "a").usual_gap_s < 201.0


def test_one_absence_does_not_spoil_the_usual_gap() -> None:
    directory = make_directory(heartbeat_advice_s=1_000.0)
    register(directory, "a", at(0.0))
    beat(directory, "a", day(90))
    assert record_of(directory, "a").usual_gap_s == pytest.approx(1_100.0)
    beat(directory, "a", at(90 * 86_400.0 + 1_000.0))
    assert record_of(directory, "a").usual_gap_s == pytest.approx(1_050.0)


@pytest.mark.parametrize("gap_s", [0.1, 59.0, 100.0])
def test_node_that_is_heard_twice_at_each_start_keeps_its_usual_gap(gap_s: float) -> None:
    directory = make_directory(heartbeat_advice_s=1_000.0)
    register(directory, "a", at(0.0))
    for number in range(1, 60):
        beat(directory, "a", at(number * 1_000.0))
        beat(directory, "a", at(number * 1_000.0 + gap_s))
    assert 850.0 <= record_of(directory, "a").usual_gap_s <= 1_000.0


@pytest.mark.parametrize("tolerance_s", [0.01, 1.0, 2.5, 30.0, 3_600.0])
def test_two_heartbeats_fit_into_the_tolerance_whatever_is_advised(tolerance_s: float) -> None:
    paces = make_directory(life=lifecycle_options(heartbeat_tolerance_s=tolerance_s)).paces.each
    advised_s = [
        pace.advice_s(slot, now_s / 7) for pace in paces for slot in range(50) for now_s in range(50)
    ]
    assert min(advised_s) > 0
    assert max(advised_s) <= tolerance_s / 2 + (0.5 if tolerance_s > 20 else 0.001)


# Departure.


@pytest.mark.parametrize("days", [0, 181, 182.01, 183, 190, 200, 500])
def test_a_node_that_leaves_is_hidden_and_returns_as_itself(days: float) -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), **WHOLE)
    before = record_of(directory, "a")
    run_until(directory, day(days))
    change = directory.leave("a", day(days))
    batch = directory.saving.take_changes(1, day(days))
    assert batch is not None
    assert (batch.last_change >= change, batch.records) == (True, [record_of(directory, "a")])
    assert state_of(directory, "a") is State.COMA
    assert list(directory.nodes.index.members()) == []
    expect_consistent(directory, day(days))
    beat(directory, "a", day(days + 1))
    after = record_of(directory, "a")
    assert (after.flags, after.services, after.profile) == (before.flags, before.services, before.profile)
    assert after.registered_at == before.registered_at
    assert list(directory.nodes.index.members()) == [(0, State.ACTIVE)]
    expect_consistent(directory, day(days + 1))


def test_a_node_that_left_dies_after_a_whole_coma() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    directory.leave("a", day(10))
    # Told again, it was there again.
    directory.leave("a", day(20))
    run_until(directory, at(day(750).attended_s - 1))
    assert record_of(directory, "a").flags & LEFT
    run_until(directory, day(750))
    assert state_of(directory, "a") is State.DEAD


def test_a_node_that_leaves_in_a_coma_begins_a_new_coma() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    run_until(directory, day(988))
    assert state_of(directory, "a") is State.COMA
    directory.leave("a", day(988))
    left = record_of(directory, "a")
    assert (left.since_s, left.last_seen_s) == (988 * DAY_S, 988 * DAY_S)
    run_until(directory, at(day(988 + 730).attended_s - 1))
    assert state_of(directory, "a") is State.COMA
    run_until(directory, day(988 + 730))
    assert state_of(directory, "a") is State.DEAD


@pytest.mark.parametrize("days", [0, 181, 500])
def test_a_node_is_forgotten_at_once(days: float) -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    run_until(directory, day(days))
    directory.forget("a", day(days))
    assert state_of(directory, "a") is State.DEAD
    assert len(directory) == 0
    with refused(410, "node_dead"):
        directory.forget("a", day(days))
    expect_consistent(directory, day(days))


# Tombstones.


def dead() -> Directory:
    directory = make_directory(life=SHORT_LIFE)
    register(directory, "a", at(0.0))
    run_until(directory, at(47.0))
    assert state_of(directory, "a") is State.DEAD
    return directory


def test_a_heartbeat_of_a_dead_node_is_answered_with_advice() -> None:
    directory = dead()
    for later_s, ago in ((0.0, "less than a second"), (61.0, "1 minute 1 second"), (DAY_S, "1 day")):
        with refused(410, "node_dead") as caught:
            beat(directory, "a", at(47.0 + later_s))
        assert f"removed {ago} ago (reason: deadline)" in caught.value.message
    assert "same public key" in (caught.value.suggestion or "")


def test_the_same_key_takes_a_dead_name_at_once() -> None:
    directory = dead()
    outcome = directory.register(registration("a"), proved=False, now=at(48.0))
    assert outcome[:3] == ("registered", 0, State.DEAD)
    assert len(directory.nodes.tombstones) == 0
    record = record_of(directory, "a")
    assert record.registered_at == EPOCH_S + 48.0
    assert "dead" in record.history
    expect_consistent(directory, at(48.0))


def test_another_key_takes_a_dead_name_only_after_the_tombstone() -> None:
    directory = dead()
    other = registration("a", key="other")
    run_until(directory, at(56.9))
    with refused(409, "node_id_taken") as caught:
        directory.register(other, proved=True, now=at(56.9))
    assert "the name is free in less than a second" in caught.value.message
    run_until(directory, at(57.0))
    assert directory.register(other, proved=False, now=at(57.0)).previous_state is State.ABSENT


def test_a_bound_node_needs_a_proof() -> None:
    directory = make_directory()
    directory.register(registration("a"), proved=False, signed=True, now=at(0.0))
    with refused(409, "node_id_taken"):
        directory.register(registration("a"), proved=False, now=at(1.0))
    with refused(409, "node_id_taken"):
        directory.register(registration("a", key="other"), proved=True, now=at(1.0))
    with refused(409, "node_id_taken"):
        directory.register(registration("a", key="other"), proved=True, signed=True, now=at(1.0))
    assert record_of(directory, "a").last_seen_s == 0.0
    assert directory.register(registration("a"), proved=True, now=at(2.0)).outcome == "updated"


def test_the_name_of_a_dead_bound_node_needs_a_signature() -> None:
    directory = make_directory()
    directory.register(registration("a"), proved=False, signed=True, now=at(0.0))
    directory.forget("a", at(1.0))
    with refused(409, "node_id_taken"):
        directory.register(registration("a"), proved=False, now=at(2.0))
    with refused(409, "node_id_taken"):
        directory.register(registration("a", key="other"), proved=False, signed=True, now=at(2.0))
    directory.register(registration("a"), proved=False, signed=True, now=at(3.0))


def test_grants_of_a_former_bearer_are_void_for_the_next() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    directory.revoke_all(0)
    assert record_of(directory, "a").generation == 1
    directory.forget("a", at(1.0))
    register(directory, "a", at(2.0))
    assert record_of(directory, "a").generation > record_of(directory, "a").revision > 1


def generations(directory: Directory, *, lives: int) -> list[int]:
    """Those in which tokens can be granted to a node that is forgotten and registered again at one moment."""
    found = []
    for _ in range(lives):
        slot = register(directory, "a", at(5.0))
        found.append(record_of(directory, "a").generation)
        directory.revoke_all(slot)
        found.append(record_of(directory, "a").generation)
        directory.forget("a", at(5.0))
    return found


def test_no_two_lives_of_a_name_share_a_generation() -> None:
    found = generations(make_directory(), lives=5)
    assert len(set(found)) == len(found)


def test_no_generation_comes_twice_after_a_crowded_out_tombstone() -> None:
    directory = make_directory(nodes_max=2)
    register(directory, "a", at(0.0))
    directory.forget("a", at(1.0))
    for number in range(2):
        register(directory, f"other-{number}", at(2.0))
        directory.forget(f"other-{number}", at(2.0))
    assert state_of(directory, "a") is State.ABSENT
    register(directory, "a", at(2.0 + GRANTED_S_MAX - 0.1))
    assert record_of(directory, "a").generation > 0
    register(directory, "b", at(2.0 + GRANTED_S_MAX))
    assert record_of(directory, "b").generation == 0, "whatever was granted before has ended"


def test_no_generation_comes_twice_after_a_short_tombstone() -> None:
    directory = make_directory(life=SHORT_LIFE)
    register(directory, "a", at(0.0))
    directory.forget("a", at(1.0))
    run_until(directory, at(20.0))
    assert state_of(directory, "a") is State.ABSENT
    register(directory, "a", at(20.0))
    assert record_of(directory, "a").generation > 0
    register(directory, "b", at(20.0 + GRANTED_S_MAX))
    assert record_of(directory, "b").generation == 0, "whatever was granted before has ended"


def test_no_generation_comes_twice_after_a_late_death() -> None:
    directory = make_directory(life=SHORT_LIFE)
    register(directory, "a", at(0.0))
    late_s = 2 * GRANTED_S_MAX
    run_until(directory, at(late_s))
    assert state_of(directory, "a") is State.ABSENT
    register(directory, "a", at(late_s + 1.0))
    assert record_of(directory, "a").generation > 0


def test_no_generation_comes_twice_after_a_restart() -> None:
    directory = make_directory()
    directory.saving.restore_vitals(Vitals(100.0, 7, 0.0))
    register(directory, "a", at(101.0))
    assert record_of(directory, "a").generation > 0
    register(directory, "b", at(100.0 + GRANTED_S_MAX))
    assert record_of(directory, "b").generation == 0


def test_no_generation_comes_twice_after_a_crash_or_snapshot() -> None:
    found = set()
    for run in range(20):
        directory = make_directory(seed=run)
        directory.saving.restore_vitals(Vitals(100.0, 7, 0.0))
        register(directory, "a", at(101.0))
        assert record_of(directory, "a").revision == 8
        found.add(record_of(directory, "a").generation)
    assert len(found) == 20
    assert max(found) < 1 << 53


def test_nothing_is_known_after_the_tombstone() -> None:
    directory = dead()
    run_until(directory, at(57.0))
    with refused(404, "node_not_found"):
        beat(directory, "a", at(57.0))


# A full directory.


def test_a_full_directory_refuses_only_new_names() -> None:
    directory = make_directory(life=SHORT_LIFE, nodes_max=3)
    for name in ("a", "b", "c"):
        register(directory, name, at(0.0))
    with refused(503, "directory_full") as caught:
        register(directory, "d", at(1.0))
    assert dict(caught.value.headers)["Retry-After"]
    run_until(directory, at(10.0))
    assert beat(directory, "a", at(11.0)) is State.PENDING_FIRST_CHECK
    assert directory.register(registration("b"), proved=False, now=at(11.0)).outcome == "revived"
    register(directory, "c", at(11.0), region="eu")
    directory.forget("c", at(12.0))
    register(directory, "d", at(12.0))
    with refused(503, "directory_full"):
        register(directory, "c", at(12.0))


# Announced absences.


def test_an_announced_absence_is_not_checked_until_its_end() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), away_until_at=EPOCH_S + 400 * DAY_S)
    run_until(directory, day(399.9))
    assert state_of(directory, "a") is State.ACTIVE
    run_until(directory, day(400))
    assert state_of(directory, "a") is State.PENDING_FIRST_CHECK


def test_an_absence_is_no_longer_than_a_coma() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), away_until_at=EPOCH_S + 10_000 * DAY_S)
    assert record_of(directory, "a").away_until_s == 730 * DAY_S


def test_an_absence_in_the_past_is_none() -> None:
    directory = make_directory()
    register(directory, "a", at(100.0), away_until_at=EPOCH_S + 50.0)
    assert (record_of(directory, "a").away_from_s, record_of(directory, "a").away_until_s) == (0.0, 0.0)


def test_a_withdrawn_absence_no_longer_counts() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), away_until_at=EPOCH_S + 400 * DAY_S)
    register(directory, "a", day(1), away_until_at=0.0)
    run_until(directory, day(181))
    assert state_of(directory, "a") is State.PENDING_FIRST_CHECK


def test_a_repeated_absence_needs_no_proof() -> None:
    directory = make_directory()
    said = registration("a", away_until_at=EPOCH_S + 400 * DAY_S)
    directory.register(said, proved=False, now=at(0.0))
    before = record_of(directory, "a")
    # The clocks are never quite in step.
    directory.register(said, proved=False, now=at(50.0, wall_shift_s=0.3))
    after = record_of(directory, "a")
    assert (after.away_until_s, after.revision) == (before.away_until_s, before.revision)


def test_a_registration_without_an_absence_keeps_the_known_one() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0), away_until_at=EPOCH_S + 400 * DAY_S)
    register(directory, "a", day(1), region="eu")
    assert record_of(directory, "a").away_until_s == 400 * DAY_S


# Changes that come with a heartbeat.


def amend(directory: Directory, slot: int, said: Registration) -> int:
    record = directory.amended(slot, said, at(1.0))
    assert record is not None
    return directory.amend(record)


def test_amending_writes_what_differs_and_nothing_else() -> None:
    directory = make_directory()
    slot = register(directory, "a", at(0.0), **WHOLE)
    assert directory.amended(slot, registration("a", **WHOLE), at(1.0)) is None
    assert (
        amend(directory, slot, registration("a", **{**WHOLE, "region": "us"})) == directory.saving.last_change
    )
    assert record_of(directory, "a").region == "us"


# A budget of bytes.

FAT = {"padding": "x" * 2_000}


def test_a_full_byte_budget_refuses_new_nodes_and_longer_records() -> None:
    directory = make_directory(nodes_bytes_max=4_300)
    slot = register(directory, "a", at(0.0), metadata=FAT)
    register(directory, "b", at(0.0), metadata=FAT)
    with refused(503, "directory_full") as caught:
        register(directory, "c", at(1.0), metadata=FAT)
    assert "of 4300 bytes" in str(caught.value)
    assert dict(caught.value.headers)["Retry-After"]
    longer = registration("a", metadata={"padding": "x" * 3_000})
    with refused(503, "directory_full"):
        directory.register(longer, proved=True, now=at(1.0))
    with refused(503, "directory_full"):
        amend(directory, slot, longer)
    with refused(503, "directory_full"):
        amend(directory, slot, registration("a", metadata=FAT, services="storage"))
    assert directory.bytes_refusals == 4
    assert record_of(directory, "a").revision == 1
    assert state_of(directory, "c") is State.ABSENT
    expect_consistent(directory, at(1.0))


def test_a_full_byte_budget_accepts_records_of_equal_length() -> None:
    directory = make_directory(life=SHORT_LIFE, nodes_bytes_max=4_300)
    slot = register(directory, "a", at(0.0), metadata=FAT)
    register(directory, "b", at(0.0), metadata=FAT)
    run_until(directory, at(10.0))
    assert beat(directory, "a", at(11.0)) is State.PENDING_FIRST_CHECK
    same = registration("b", metadata=FAT)
    assert directory.register(same, proved=False, now=at(11.0)).outcome == "revived"
    other = registration("b", metadata={"padding": "y" * 2_000})
    assert directory.register(other, proved=True, now=at(11.0)).outcome == "updated"
    # A node that was robbed of its key can change it, whatever room there is.
    assert directory.change_key(slot, "k" * 800, "")
    assert amend(directory, slot, registration("a"))
    register(directory, "c", at(12.0))
    directory.forget("b", at(13.0))
    register(directory, "d", at(13.0), metadata=FAT)
    expect_consistent(directory, at(13.0))


def test_a_directory_with_a_smaller_byte_budget_keeps_its_nodes() -> None:
    directory = make_directory()
    for name in ("a", "b", "c"):
        register(directory, name, at(0.0), metadata=FAT, services="chat,mail", next_key="k" * 43)
    store = DictStore()
    save_all(directory, store, at(0.0))
    loaded = restarted(store, nodes_bytes_max=1)
    assert len(loaded) == 3
    assert loaded.nodes.registry.bytes_held == directory.nodes.registry.bytes_held
    with refused(503, "directory_full"):
        register(loaded, "d", at(1.0))
    assert beat(loaded, "a", at(1.0)) is State.ACTIVE
    expect_consistent(loaded, at(1.0))


@pytest.mark.parametrize(
    ("nodes_max", "nodes_bytes_max", "bytes_max"),
    [(100_000, 0, 204_800_000), (1, 0, 1_048_576), (512, 0, 1_048_576), (1_024, 0, 2_097_152), (1, 5, 5)],
)
def test_the_default_byte_budget_follows_from_the_nodes(
    nodes_max: int, nodes_bytes_max: int, bytes_max: int
) -> None:
    assert directory_options(nodes_max=nodes_max, nodes_bytes_max=nodes_bytes_max).bytes_max == bytes_max
