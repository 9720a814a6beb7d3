"""The table of the life cycle, and when each state ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.lifecycle import (
    DAY_S,
    DEADLINE_STEPS_PER_S,
    LIVE_STATES,
    STATE_BY_WIRE_NAME,
    TABLE,
    Event,
    State,
    deadline_s,
    next_state,
)
from openred_central.errors import InternalBug
from tests.support.options import lifecycle_options

DEFAULTS = lifecycle_options()
SILENCE = [
    # state, its name on the wire, its default dwell time, what follows
    (State.ACTIVE, "active", 15_552_000, State.PENDING_FIRST_CHECK),
    (State.PENDING_FIRST_CHECK, "pending_1st", 172_800, State.FAILED_FIRST_CHECK),
    (State.FAILED_FIRST_CHECK, "failed_1st", 3_600, State.RETRY_48H),
    (State.RETRY_48H, "retry_48h", 172_800, State.RETRY_2W),
    (State.RETRY_2W, "retry_2w", 1_209_600, State.RETRY_2M),
    (State.RETRY_2M, "retry_2m", 5_184_000, State.COMA),
    (State.COMA, "coma", 63_072_000, State.DEAD),
    (State.DEAD, "dead", 365 * 86_400, State.ABSENT),
]
OUTSIDE = sorted(set(itertools.product(State, Event)) - TABLE.keys(), key=str)
SIGNS = [Event.REGISTERED, Event.SIGN_OF_LIFE]


@pytest.mark.parametrize(("state", "wire", "dwell_s", "following"), SILENCE)
def test_each_state_has_its_name_dwell_time_and_successor(
    state: State, wire: str, dwell_s: float, following: State
) -> None:
    assert state.wire == wire
    assert STATE_BY_WIRE_NAME[wire] is state
    assert DEFAULTS.dwell_s(state) == dwell_s
    assert next_state(state, Event.DEADLINE) is following


def test_a_silent_node_is_in_coma_on_day_258_and_dead_on_988() -> None:
    since_s, entered_s = 0.0, {}
    for state, _, _, following in SILENCE[:-1]:
        since_s = deadline_s(state, since_s, 0.0, 0.0, DEFAULTS.dwell_s(state))
        entered_s[following] = since_s
    assert entered_s[State.PENDING_FIRST_CHECK] == 180 * DAY_S
    assert entered_s[State.COMA] == 258 * DAY_S + 3_600
    assert entered_s[State.DEAD] == 988 * DAY_S + 3_600


@pytest.mark.parametrize("event", SIGNS)
@pytest.mark.parametrize("state", LIVE_STATES)
def test_any_sign_of_life_revives_from_every_live_state(state: State, event: Event) -> None:
    assert next_state(state, event) is State.ACTIVE


@pytest.mark.parametrize("state", LIVE_STATES)
def test_every_live_node_may_leave_and_be_forgotten(state: State) -> None:
    assert next_state(state, Event.LEFT) is State.COMA
    assert next_state(state, Event.FORGOTTEN) is State.DEAD


def test_only_a_registration_follows_death() -> None:
    assert (State.DEAD, Event.SIGN_OF_LIFE) in OUTSIDE
    assert next_state(State.DEAD, Event.REGISTERED) is State.ACTIVE
    assert next_state(State.ABSENT, Event.REGISTERED) is State.ACTIVE


@pytest.mark.parametrize(("state", "event"), OUTSIDE)
def test_a_pair_outside_the_table_is_our_bug(state: State, event: Event) -> None:
    with pytest.raises(InternalBug, match=f"{event.name} in state {state.name}"):
        next_state(state, event)


def test_a_deadline_counts_from_the_last_sign_of_life_or_the_state() -> None:
    options = lifecycle_options(heartbeat_tolerance_s=100.0, grace_s=10.0)
    assert deadline_s(State.ACTIVE, 5.0, 50.0, 0.0, options.heartbeat_tolerance_s) == 150.0
    assert deadline_s(State.PENDING_FIRST_CHECK, 150.0, 50.0, 0.0, options.grace_s) == 160.0


def test_an_absence_only_postpones_the_first_check() -> None:
    options = lifecycle_options(heartbeat_tolerance_s=100.0)
    assert deadline_s(State.ACTIVE, 0.0, 0.0, 500.0, options.heartbeat_tolerance_s) == 500.0
    assert deadline_s(State.ACTIVE, 0.0, 0.0, 30.0, options.heartbeat_tolerance_s) == 100.0


times = st.floats(0.0, 1e10, allow_nan=False)


@given(
    state=st.sampled_from([*LIVE_STATES, State.DEAD]), since_s=times, last_seen_s=times, away_until_s=times
)
def test_a_promised_delay_is_never_shortened(
    state: State, since_s: float, last_seen_s: float, away_until_s: float
) -> None:
    ends_s = since_s + DEFAULTS.dwell_s(state)
    if state is State.ACTIVE:
        ends_s = max(last_seen_s + DEFAULTS.heartbeat_tolerance_s, away_until_s)
    found_s = deadline_s(state, since_s, last_seen_s, away_until_s, DEFAULTS.dwell_s(state))
    assert ends_s <= found_s < ends_s + 1 / DEADLINE_STEPS_PER_S
    assert (found_s * DEADLINE_STEPS_PER_S).is_integer()
