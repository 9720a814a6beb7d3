"""Signs of life from other processes count by their time, and only for the node that gave them."""

from __future__ import annotations

from random import Random

from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import State
from openred_central.directory.merging import Merger
from openred_central.directory.state.fills import Fills
from openred_central.directory.state.signs import SignColumns
from tests.support.building import (
    EPOCH_S,
    SHORT_LIFE,
    DictStore,
    at,
    beat,
    make_directory,
    register,
    run_until,
    save_all,
    state_of,
)


def merging(count: int = 3) -> tuple[Directory, Merger]:
    """Return a directory of nodes heard at second 0, all stored, that merges from now on."""
    directory = make_directory()
    for number in range(count):
        register(directory, f"n{number}", at(0.0))
    save_all(directory, DictStore(), at(0.0))
    return directory, Merger(directory)


def heard(*rows: tuple[int, float]) -> SignColumns:
    """Return signs of life in these slots at these times."""
    return SignColumns(*zip(*((slot, EPOCH_S + s, s, 60.0) for slot, s in rows), strict=True))


def test_the_later_time_counts() -> None:
    directory, merger = merging()
    beat(directory, "n0", at(50.0))
    last = directory.nodes.changes.last
    assert (merger.merge(heard((0, 40.0), (1, 40.0), (2, 0.0)), last, at(60.0))) == [1]
    registry = directory.nodes.registry
    assert registry.last_seen_s.tolist() == [50.0, 40.0, 0.0]
    assert registry.last_seen_at[1] == EPOCH_S + 40.0
    assert registry.usual_gap_s[1] == 60.0
    # It is stored like signs of life that came here.
    assert bytes(directory.nodes.changes.heard.marks) == b"\1"
    assert (merger.merge(heard((1, 40.0)), last, at(60.0))) == [], "nor a second time"


def test_nothing_is_heard_ahead_of_time() -> None:
    directory, merger = merging()
    assert (merger.merge(heard((0, 99.0)), directory.nodes.changes.last, at(60.0))) == [0]
    assert directory.nodes.registry.last_seen_s[0] == 60.0


def test_a_node_that_expired_meanwhile_is_revived() -> None:
    directory = make_directory(life=SHORT_LIFE)
    register(directory, "a", at(0.0))
    merger = Merger(directory)
    run_until(directory, at(11.0))
    assert state_of(directory, "a") is not State.ACTIVE
    assert (merger.merge(heard((0, 9.0)), directory.nodes.changes.last, at(11.5))) == [0]
    assert state_of(directory, "a") is State.ACTIVE
    assert directory.nodes.registry.last_seen_s[0] == 9.0


def test_no_departure_is_undone_by_a_clock_that_is_ahead() -> None:
    directory, merger = merging()
    known = directory.nodes.changes.last
    directory.leave("n0", at(10.0))
    assert (merger.merge(heard((0, 99.0)), known, at(12.0))) == []
    assert state_of(directory, "n0") is State.COMA
    beat(directory, "n0", at(13.0))
    assert state_of(directory, "n0") is State.ACTIVE, "its own heartbeat at the leader brings it back"


def test_a_slot_that_was_freed_or_filled_since_counts_for_nothing() -> None:
    directory, merger = merging()
    known = directory.nodes.changes.last
    directory.forget("n0", at(1.0))
    directory.forget("n1", at(1.0))
    register(directory, "new", at(2.0))
    slot = directory.nodes.registry.slot_of("new")
    assert slot in (0, 1)
    signs = heard((0, 50.0), (1, 50.0), (2, 50.0), (99, 50.0))
    assert (merger.merge(signs, known, at(60.0))) == [2]
    assert directory.nodes.registry.last_seen_s[slot] == 2.0
    # A sender that knows of the new node may have heard it.
    assert (merger.merge(signs, directory.nodes.changes.last, at(60.0))) == [slot]


def test_a_sender_that_knows_too_little_is_refused() -> None:
    directory, _ = merging()
    merger = Merger(directory, kept_max=2)
    known = directory.nodes.changes.last
    for number in range(3):
        register(directory, f"later{number}", at(1.0))
    assert merger.merge(heard((0, 50.0)), known, at(60.0)) is None
    assert directory.nodes.registry.last_seen_s[0] == 0.0
    assert (merger.merge(heard((0, 50.0)), known + 1, at(60.0))) == [0]


def test_fills_say_what_a_plain_account_says(seed: int) -> None:
    random, fills, account = Random(seed), Fills(0, kept_max=8), dict[int, int]()
    for change in range(1, 300):
        if random.random() < 0.5:
            slot = random.randrange(12)
            fills.note(slot, change)
            account[slot] = change
        asked = random.randrange(fills.known_from, change + 1)
        assert {slot for slot in range(12) if fills.after(slot, asked)} == {
            slot for slot, filled in account.items() if filled > asked
        }
