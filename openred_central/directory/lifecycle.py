"""The life of a node, as a table.

Rules of this file:

- One table holds every (state, event) → state. A pair outside the table is our bug and raises.
- The deadline of a state is a pure function of the record and the options. It is computed, never patched, so
  that a restart reaches exactly the state that an uninterrupted run would have reached.
- All times here are attended seconds (`clock.AttendedTime`): our own absence ages no node.
- A state that ends by its deadline ends *at* its deadline, however late we handle it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from ..errors import InternalBug


class State(IntEnum):
    """State of a node. `ABSENT`: the directory knows nothing under this name."""

    ABSENT = 0
    ACTIVE = 1
    PENDING_FIRST_CHECK = 2
    FAILED_FIRST_CHECK = 3
    RETRY_48H = 4
    RETRY_2W = 5
    RETRY_2M = 6
    COMA = 7
    DEAD = 8

    # States and events are looked up in tables all the time, and the hash of an enumeration is slow.
    __hash__ = int.__hash__

    @property
    def wire(self) -> str:
        """Name of the state on the wire, such as ``pending_1st``."""
        return WIRE_NAMES[self]


WIRE_NAMES = (
    "absent",
    "active",
    "pending_1st",
    "failed_1st",
    "retry_48h",
    "retry_2w",
    "retry_2m",
    "coma",
    "dead",
)
# By number, because `State(number)` is slow.
STATES = tuple(State)
STATE_BY_WIRE_NAME = dict(zip(WIRE_NAMES, State, strict=True))

# The states of nodes that are in the registry, in the order in which silence passes through them.
LIVE_STATES = tuple(state for state in State if state not in (State.ABSENT, State.DEAD))


class Event(StrEnum):
    """An event in the life of a node."""

    REGISTERED = "registered"
    SIGN_OF_LIFE = "sign_of_life"
    DEADLINE = "deadline"
    LEFT = "left"
    FORGOTTEN = "forgotten"

    __hash__ = str.__hash__


TABLE: dict[tuple[State, Event], State] = {
    (State.ABSENT, Event.REGISTERED): State.ACTIVE,
    # Silence: each state lasts its dwell time.
    (State.ACTIVE, Event.DEADLINE): State.PENDING_FIRST_CHECK,
    (State.PENDING_FIRST_CHECK, Event.DEADLINE): State.FAILED_FIRST_CHECK,
    (State.FAILED_FIRST_CHECK, Event.DEADLINE): State.RETRY_48H,
    (State.RETRY_48H, Event.DEADLINE): State.RETRY_2W,
    (State.RETRY_2W, Event.DEADLINE): State.RETRY_2M,
    (State.RETRY_2M, Event.DEADLINE): State.COMA,
    (State.COMA, Event.DEADLINE): State.DEAD,
    # Death is final for the record, not for the name.
    (State.DEAD, Event.REGISTERED): State.ACTIVE,
    (State.DEAD, Event.DEADLINE): State.ABSENT,
    (State.DEAD, Event.FORGOTTEN): State.ABSENT,
    # Any valid sign of life revives at once. A node that leaves is hidden, one that is forgotten is erased.
    **{(state, Event.REGISTERED): State.ACTIVE for state in LIVE_STATES},
    **{(state, Event.SIGN_OF_LIFE): State.ACTIVE for state in LIVE_STATES},
    **{(state, Event.LEFT): State.COMA for state in LIVE_STATES},
    **{(state, Event.FORGOTTEN): State.DEAD for state in LIVE_STATES},
}


def next_state(state: State, event: Event) -> State:
    """Return the state after `event` in `state`. Raise `InternalBug` for a pair outside the table."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise InternalBug(f"no life-cycle transition for {event.name} in state {state.name}") from None


# The field of `LifecycleOptions` with the dwell time of each state.
DWELL_SETTINGS = {
    State.ACTIVE: "heartbeat_tolerance_s",
    State.PENDING_FIRST_CHECK: "grace_s",
    State.FAILED_FIRST_CHECK: "second_look_s",
    State.RETRY_48H: "retry_48h_s",
    State.RETRY_2W: "retry_2w_s",
    State.RETRY_2M: "retry_2m_s",
    State.COMA: "coma_s",
    State.DEAD: "tombstone_s",
}

DAY_S = 86_400.0


@dataclass(frozen=True)
class LifecycleOptions:
    """Dwell time of each state, in attended seconds; fractions are allowed.

    With `second_look_s` of 0, nodes pass that state at once, and it is still recorded.
    """

    heartbeat_tolerance_s: float
    grace_s: float
    second_look_s: float
    retry_48h_s: float
    retry_2w_s: float
    retry_2m_s: float
    coma_s: float
    tombstone_s: float

    def dwell_s(self, state: State) -> float:
        """Return how long `state` lasts; ABSENT does not end by itself."""
        dwell_s: float = getattr(self, DWELL_SETTINGS[state])
        return dwell_s


# Deadlines are whole steps. A power of two makes a deadline in seconds exact as a float.
DEADLINE_STEPS_PER_S = 1_024
DEADLINE_STEP_S = 1 / DEADLINE_STEPS_PER_S
# A hundred years: longer than any promise, and so small that sums of dwell times stay exact in steps.
DWELL_S_MAX = 36_525 * DAY_S


def deadline_s(
    state: State, since_s: float, last_seen_s: float, away_until_s: float, dwell_s: float
) -> float:
    """Return when silence ends `state`, which lasts `dwell_s`, in attended seconds on a whole deadline step.

    `since_s` is when the node entered the state, `last_seen_s` its last sign of life, and `away_until_s` the
    end of an announced absence (0 without one), before which an active node does not expire.
    """
    end_s = max(last_seen_s + dwell_s, away_until_s) if state is State.ACTIVE else since_s + dwell_s
    # Rounded up, because a promised delay is never shortened.
    return math.ceil(end_s * DEADLINE_STEPS_PER_S) / DEADLINE_STEPS_PER_S
