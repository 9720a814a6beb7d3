"""The record that a registration yields; test_directory.py shows the permissions."""

from __future__ import annotations

import pytest

from openred_central.directory.registration import (
    SAME_TIME_S,
    Registration,
    amended,
    fingerprints,
    names_key_of,
    new_record,
    repeats_absence,
)
from openred_central.directory.state.node import DISCOVERABLE, KEYED, OBSERVED, PROVEN, Profile, Record
from openred_central.encoding import ED25519_SPKI_PREFIX, key_text
from tests.support.building import EPOCH_S, HOUR_S, at, registration

AWAY_S_MAX = 100 * HOUR_S
CANONICAL = key_text(ED25519_SPKI_PREFIX + bytes(range(32)))


def first_record(said: Registration, *, signed: bool = False) -> Record:
    return new_record(said, at(0.0), AWAY_S_MAX, slot=3, revision=7, usual_gap_s=60.0, signed=signed)


def test_a_new_record_holds_what_the_node_registers() -> None:
    said = registration("alice", services="chat", region="eu", is_observed=True)
    record = first_record(said)
    assert (record.slot, record.revision, record.usual_gap_s) == (3, 7, 60.0)
    assert (record.node_id, record.services, record.region) == ("alice", "chat", "eu")
    assert record.registered_at == record.last_seen_at == EPOCH_S
    assert record.flags == DISCOVERABLE | OBSERVED
    assert first_record(said, signed=True).flags == DISCOVERABLE | OBSERVED | PROVEN


@pytest.mark.parametrize(
    "changed",
    [
        {"services": "chat"},
        {"region": "eu"},
        {"discoverable": False},
        {"metadata": {"name": "n"}},
        {"key": "another"},
        {"next_key": "id"},
        {"away_until_at": EPOCH_S + HOUR_S},
    ],
)
def test_new_data_changes_the_record_once(changed: dict[str, object]) -> None:
    record = first_record(registration())
    said = registration(**changed)
    after = amended(record, said, at(60.0), AWAY_S_MAX)
    assert after is not None
    assert after != record
    assert amended(after, said, at(120.0), AWAY_S_MAX) is None


def test_the_observed_address_alone_is_no_change() -> None:
    record = first_record(registration(is_observed=True))
    assert amended(record, registration(is_observed=False), at(60.0), AWAY_S_MAX) is None
    after = amended(record, registration(services="chat", is_observed=False), at(60.0), AWAY_S_MAX)
    assert after is not None
    assert not after.flags & OBSERVED


def test_a_key_in_its_given_form_stays_until_it_signs() -> None:
    record = first_record(registration(key="as it was given"))
    said = registration(key=CANONICAL, is_keyed=True, key_as_given="as it was given")
    assert amended(record, said, at(60.0), AWAY_S_MAX) is None
    after = amended(record, said, at(60.0), AWAY_S_MAX, signed=True)
    assert after is not None
    assert Profile.decode(after.profile).public_key == CANONICAL
    assert after.flags == DISCOVERABLE | KEYED | PROVEN
    assert names_key_of(said, after)
    assert not names_key_of(said, record)
    assert len(fingerprints(said)) == 2, "also the name that it had as text"
    assert fingerprints(registration(key="as it was given")) < fingerprints(said)


def test_an_absence_is_limited_and_a_past_one_is_ignored() -> None:
    far = first_record(registration(away_until_at=EPOCH_S + 10 * AWAY_S_MAX))
    assert (far.away_from_s, far.away_until_s) == (0.0, AWAY_S_MAX)
    past = first_record(registration(away_until_at=EPOCH_S - 1.0))
    assert (past.away_from_s, past.away_until_s) == (0.0, 0.0)


def test_a_repeated_absence_may_end_at_another_attended_time() -> None:
    said = registration(away_until_at=EPOCH_S + 50 * HOUR_S)
    known = first_record(said)
    in_step = amended(known, said, at(60.0, wall_shift_s=SAME_TIME_S / 2), AWAY_S_MAX)
    assert in_step is None
    behind = at(60.0, wall_shift_s=HOUR_S)
    after = amended(known, said, behind, AWAY_S_MAX)
    assert after is not None
    assert repeats_absence(known, after, said)
    more = said._replace(services="chat")
    changed = amended(known, more, behind, AWAY_S_MAX)
    assert changed is not None
    assert not repeats_absence(known, changed, more)
    back = said._replace(away_until_at=0.0)
    ended = amended(known, back, behind, AWAY_S_MAX)
    assert ended is not None
    assert not repeats_absence(known, ended, back)
