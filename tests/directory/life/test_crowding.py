"""A node that proved its key, was ever heard, is held or away keeps its place in a full directory."""

from __future__ import annotations

from typing import Any

import pytest

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.life.expiry import UNHEARD_S, is_crowded
from openred_central.directory.lifecycle import State
from openred_central.errors import CallerError
from tests.support.building import (
    DictStore,
    at,
    beat,
    day,
    expect_consistent,
    make_directory,
    register,
    restarted,
    save_all,
    state_of,
)


def test_at_nine_tenths_a_directory_is_crowded() -> None:
    assert [is_crowded(nodes, 100) for nodes in (0, 89, 90, 100)] == [False, False, True, True]


def full_directory(**options: Any) -> Directory:
    """Room for 10 nodes, and as many that were registered three days before `day(3)`."""
    directory = make_directory(nodes_max=10)
    for number in range(10):
        register(directory, f"old-{number}", day(0), **options)
    return directory


def refused(directory: Directory, now: Now) -> bool:
    """Return whether a new node finds no place."""
    try:
        register(directory, "new", now)
    except CallerError as error:
        return error.code == "directory_full"
    return False


@pytest.mark.parametrize(
    ("signed", "heard", "unheard_s", "keeps"),
    [
        (False, False, UNHEARD_S - 1, True),
        (False, False, UNHEARD_S, False),
        (False, True, 1_000 * UNHEARD_S, True),
        (True, False, 1_000 * UNHEARD_S, True),
    ],
)
def test_only_unproved_nodes_never_heard_again_make_room(
    signed: bool, heard: bool, unheard_s: float, keeps: bool
) -> None:
    directory = full_directory()
    for number in range(10):
        if signed:
            directory.bind(number)
        if heard:
            beat(directory, f"old-{number}", day(0, 1))
    assert refused(directory, at(unheard_s)) is keeps


def test_held_nodes_never_make_room() -> None:
    directory = full_directory()
    for number in range(10):
        directory.hold(f"old-{number}", day(0, 1))
    assert refused(directory, day(3))
    assert len(directory) == 10
    store = DictStore()
    save_all(directory, store, day(3))
    loaded = restarted(store, nodes_max=10)
    assert refused(loaded, day(300))
    assert len(loaded) == 10
    expect_consistent(loaded, day(300))


def test_the_time_of_a_hold_is_not_silence() -> None:
    directory = full_directory()
    for number in range(10):
        directory.hold(f"old-{number}", day(0, 1))
        directory.release(f"old-{number}", day(3))
    assert refused(directory, day(4, 23))
    assert not refused(directory, day(5))


def test_absent_nodes_make_no_room_until_after_their_return() -> None:
    directory = full_directory(away_until_at=day(30).wall_s)
    assert refused(directory, day(3))
    assert refused(directory, day(31, 23))
    assert len(directory) == 10
    assert not refused(directory, day(32))
    assert len(directory) == 9


def test_a_refused_registration_erases_no_node() -> None:
    """As where the server starts with a smaller `nodes_max` than there are nodes."""
    directory = full_directory()
    store = DictStore()
    save_all(directory, store, day(0))
    loaded = restarted(store, nodes_max=5)
    for _ in range(20):
        assert refused(loaded, day(3))
    assert len(loaded) == 10
    assert all(state_of(loaded, f"old-{number}") is State.ACTIVE for number in range(10))


def test_unheard_nodes_make_room_for_bytes() -> None:
    directory = make_directory(nodes_bytes_max=10_000)
    fat = {"padding": "x" * 2_000}
    for number in range(4):
        register(directory, f"old-{number}", day(0), metadata=fat)
    # Four more do not fit; nobody is erased for one that is longer than all who give way.
    with pytest.raises(CallerError, match="directory_full"):
        register(directory, "huge", day(3), metadata={"padding": "x" * 9_000})
    assert len(directory) == 4
    for number in range(4):
        register(directory, f"new-{number}", day(3), metadata=fat)
    assert all(state_of(directory, f"new-{number}") is State.ACTIVE for number in range(4))
    with pytest.raises(CallerError, match="directory_full"):
        register(directory, "late", day(3), metadata=fat)
    expect_consistent(directory, day(3))


def test_nobody_makes_room_while_a_sign_of_life_may_be_on_its_way() -> None:
    directory = full_directory()
    directory.expiry.may_bury = lambda: False
    assert refused(directory, day(3))
    directory.expiry.may_bury = lambda: True
    assert not refused(directory, day(3))
