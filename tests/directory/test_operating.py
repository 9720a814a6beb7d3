"""The acts of an operator on a node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import HELD
from openred_central.errors import CallerError
from tests.support.building import (
    SHORT_LIFE,
    SILENT_STATES,
    DictStore,
    at,
    beat,
    expect_consistent,
    make_directory,
    register,
    restarted,
    run_until,
    save_all,
    state_of,
)
from tests.support.options import mass_silence_options


def silent_in(state: State) -> tuple[Directory, float]:
    """A directory with a node that has just fallen into `state`, and when that was."""
    directory = make_directory(life=SHORT_LIFE)
    register(directory, "node", at(0.0))
    for second in range(60):
        run_until(directory, at(float(second)))
        if state_of(directory, "node") is state:
            return directory, float(second)
    raise AssertionError(f"never {state.name}")


@pytest.mark.parametrize("state", [State.ACTIVE, *SILENT_STATES])
def test_a_held_node_is_never_moved_on_by_silence(state: State) -> None:
    directory, now_s = silent_in(state)
    directory.hold("node", at(now_s))
    for later_s in (100.0, 1e4, 3e9):
        run_until(directory, at(now_s + later_s))
        assert state_of(directory, "node") is state
        expect_consistent(directory, at(now_s + later_s))


@pytest.mark.parametrize("state", SILENT_STATES)
def test_a_released_node_waits_out_its_state_anew(state: State) -> None:
    directory, now_s = silent_in(state)
    directory.hold("node", at(now_s))
    released_s = now_s + 1_000.0
    run_until(directory, at(released_s))
    directory.release("node", at(released_s))
    dwell_s = SHORT_LIFE.dwell_s(state)
    run_until(directory, at(released_s + dwell_s - 0.01))
    assert state_of(directory, "node") is state
    run_until(directory, at(released_s + dwell_s))
    assert state_of(directory, "node") is State(state + 1)


def test_a_released_node_beyond_its_tolerance_begins_its_grace() -> None:
    directory, _ = silent_in(State.ACTIVE)
    directory.hold("node", at(1.0))
    directory.release("node", at(1_000.0))
    run_until(directory, at(1_000.0))
    assert state_of(directory, "node") is State.PENDING_FIRST_CHECK
    run_until(directory, at(1_001.9))
    assert state_of(directory, "node") is State.PENDING_FIRST_CHECK
    expect_consistent(directory, at(1_001.9))


def test_a_short_hold_takes_nothing_from_the_tolerance() -> None:
    directory, _ = silent_in(State.ACTIVE)
    directory.hold("node", at(1.0))
    directory.release("node", at(2.0))
    run_until(directory, at(9.9))
    assert state_of(directory, "node") is State.ACTIVE
    run_until(directory, at(10.0))
    assert state_of(directory, "node") is State.PENDING_FIRST_CHECK


def test_a_hold_outlives_the_server() -> None:
    directory, _ = silent_in(State.ACTIVE)
    store = DictStore()
    directory.hold("node", at(1.0))
    save_all(directory, store, at(1.0))
    loaded = restarted(store, life=SHORT_LIFE)
    run_until(loaded, at(500.0))
    assert state_of(loaded, "node") is State.ACTIVE
    loaded.release("node", at(500.0))


def test_a_sign_of_life_revives_a_held_node_and_keeps_the_hold() -> None:
    directory, now_s = silent_in(State.COMA)
    directory.hold("node", at(now_s))
    beat(directory, "node", at(now_s + 1.0))
    assert state_of(directory, "node") is State.ACTIVE
    run_until(directory, at(now_s + 1_000.0))
    assert state_of(directory, "node") is State.ACTIVE


def test_a_held_node_may_leave_and_be_forgotten() -> None:
    directory, _ = silent_in(State.ACTIVE)
    directory.hold("node", at(1.0))
    directory.leave("node", at(2.0))
    assert state_of(directory, "node") is State.COMA
    directory.forget("node", at(3.0))
    assert state_of(directory, "node") is State.DEAD
    expect_consistent(directory, at(3.0))


def test_a_waiting_node_can_be_held() -> None:
    directory = make_directory(life=SHORT_LIFE, silence=mass_silence_options(share=0.1, nodes_min=1))
    for number in range(10):
        register(directory, f"node-{number}", at(0.0))
    run_until(directory, at(10.0))
    waiting = [number for number in range(10) if state_of(directory, f"node-{number}") is State.ACTIVE]
    assert len(directory.expiry.waiting) == len(waiting) > 5
    directory.hold(f"node-{waiting[0]}", at(10.0))
    assert len(directory.expiry.waiting) == len(waiting) - 1
    directory.expiry.release_hold(at(10.0))
    for later_s in range(11, 2_000, 60):
        run_until(directory, at(float(later_s)))
    assert state_of(directory, f"node-{waiting[0]}") is State.ACTIVE
    expect_consistent(directory, at(2_000.0))


def test_holding_twice_is_holding_once() -> None:
    directory, _ = silent_in(State.ACTIVE)
    directory.hold("node", at(1.0))
    revision = directory.nodes.revision
    directory.hold("node", at(2.0))
    assert directory.nodes.revision == revision
    directory.release("node", at(3.0))
    slot = directory.nodes.registry.slot_of("node")
    assert slot is not None
    assert not directory.nodes.registry.flags[slot] & HELD
    with pytest.raises(CallerError, match="node_not_held"):
        directory.release("node", at(4.0))


@pytest.mark.parametrize("state", SILENT_STATES)
def test_a_woken_node_is_as_if_heard(state: State) -> None:
    directory, now_s = silent_in(state)
    change = directory.wake("node", at(now_s))
    assert change == directory.saving.last_change
    assert state_of(directory, "node") is State.ACTIVE
    run_until(directory, at(now_s + 9.9))
    assert state_of(directory, "node") is State.ACTIVE
    assert directory.nodes.transitions.take()[-1].reason == "sign_of_life"


def test_a_node_that_left_is_not_woken() -> None:
    directory, _ = silent_in(State.ACTIVE)
    directory.leave("node", at(1.0))
    with pytest.raises(CallerError, match="node_left"):
        directory.wake("node", at(2.0))
    assert state_of(directory, "node") is State.COMA


@pytest.mark.parametrize(
    "act", [Directory.wake, Directory.hold, Directory.release, Directory.leave, Directory.forget, beat]
)
def test_an_unknown_node_is_not_found(act: Callable[[Directory, str, Now], object]) -> None:
    directory = make_directory()
    with pytest.raises(CallerError, match="node_not_found"):
        act(directory, "nobody", at(0.0))
