"""All states of the lease up to a bound are visited: breadth first, over a model with whole seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from openred_central.cluster.lease import Lease, LeaseTimes
from openred_central.storage.postgres.leasing import LeaseRow
from tests.conftest import SOAK

from .lease_world import Broken, Kind, Move, Rules, World

TIMES = LeaseTimes(valid_s=1, idle_s=3, behind_s=1, differs_s=1, gap_s=2, watch_s=1, renew_s=1, shown_s=1)
STATES_MAX = 100_000 if SOAK else 12_000

# The last move, and the way before it.
Way = tuple[str, "Way"] | None


class WithoutClock(Lease):
    """A lease that changes its mind only when it hears something."""

    def is_valid(self, now_s: float) -> bool:
        return self._valid_until_s > 0


class LeadsUnproved(Lease):
    """A lease by which a run leads as soon as it has caught up."""

    def caught_up(self, term: int) -> None:
        super().caught_up(term)
        self._valid_until_s += 10


class Forgetful(Lease):
    """A lease that knows no other attended time than that of the row."""

    def observe(self, row: LeaseRow, now_s: float, *, behind: bool = False, differs: bool = False) -> bool:
        self.attended_s = row.attended_s
        return super().observe(row, now_s, behind=behind, differs=differs)


def moves(world: World) -> Iterator[Move]:
    """Yield all that may happen next."""
    yield from world.moves()
    yield "a second passes", lambda world: world.pass_time(1)
    if world.left["wrong_ticks"]:
        for name in world.runs:
            for by_s in (1, -1):
                yield (
                    f"a second passes, {name} counts {1 + by_s}",
                    partial(World.pass_time, seconds=1, wrong=name, by_s=by_s),
                )


def search(world: World, states_max: int) -> int:
    """Visit up to `states_max` states from `world`; return how many. Raises `Broken`, with the way there."""
    seen = {world.key()}
    waiting: deque[tuple[World, Way]] = deque([(world, None)])
    while waiting and len(seen) < states_max:
        here, way = waiting.popleft()
        for label, move in list(moves(here)):
            there = here.copy()
            try:
                move(there)
            except Broken as broken:
                raise Broken(f"{broken}: {told((label, way))}") from None
            if (key := there.key()) not in seen:
                seen.add(key)
                waiting.append((there, (label, way)))
    return len(seen)


def told(way: Way) -> str:
    labels = []
    while way is not None:
        label, way = way
        labels.append(label)
    return ", ".join(reversed(labels))


def led_world(times: LeaseTimes, rules: Rules, names: str = "AB") -> World:
    """Return a world in which the first run leads, and all others know that."""
    world = World(names, times, rules)
    world.lead(names[0])
    for name in names:
        world.observe(name)
    return world


@pytest.mark.parametrize(
    ("names", "rules"),
    [
        ("AB", Rules()),
        ("ABC", Rules()),
        ("AB", Rules(losses=2, commits=2)),
        ("AB", Rules(wrong_ticks=2)),
        ("AB", Rules(rollbacks=1, commits=2, questions=1)),
        ("AB", Rules(goodbyes=1, commits=1)),
        ("AB", Rules(clocks_stopped=True, questions=1)),
    ],
    ids=["two", "three", "losses", "wrong clocks", "rollback", "goodbye", "stopped clocks"],
)
def test_all_states_keep_the_promises(names: str, rules: Rules) -> None:
    states = search(led_world(TIMES, rules, names), STATES_MAX)
    print(f"{states} states visited")
    assert states >= STATES_MAX


def test_database_that_forgets_a_whole_term_has_one_leader() -> None:
    world = World("AB", TIMES, Rules(rollbacks=1, commits=2, questions=1))
    world.observe("B")
    world.stand_still()
    world.lead("A")
    assert search(world, STATES_MAX) >= STATES_MAX


def replaced_world(rules: Rules) -> World:
    """Return a world in which B leads, and A led in the term to which the database may go back."""
    world = led_world(TIMES, rules)
    world.stand_still()
    replace_leader(world)
    return world


def replace_leader(world: World) -> None:
    """Let B lead, as A does nothing."""
    while world.runs["B"].may_send(Kind.TAKE):
        world.pass_time(1)
        world.observe("B")
    world.finish_taking("B")


def test_former_leader_may_go_on_in_the_past() -> None:
    rules = Rules(rollbacks=1, commits=2, questions=1)
    assert search(replaced_world(rules), STATES_MAX) >= STATES_MAX
    with pytest.raises(Broken, match="B goes on from 1, which it never saw"):
        search(replaced_world(replace(rules, looks_again=False)), 200_000)


def let_time_be_lost(rules: Rules) -> World:
    """Let B see a commit of A that is lost, and lead."""
    world = led_world(TIMES, rules)
    world.stand_still()
    world.pass_time(1)
    world.send("A", Kind.COMMIT)
    world.arrive("A", 0)
    world.answer("A", 0)
    world.observe("B")
    world.roll_back()
    replace_leader(world)
    return world


def test_leader_goes_on_from_the_time_that_the_database_has_lost() -> None:
    rules = Rules(rollbacks=1, commits=1)
    world = let_time_be_lost(rules)
    assert world.runs["B"].attended_s == 1.0 > world.row.attended_s
    with pytest.raises(Broken, match="attended time falls"):
        let_time_be_lost(replace(rules, lease=Forgetful))


@pytest.mark.parametrize(
    ("what", "times", "rules"),
    [
        ("committed after", TIMES, Rules(rollbacks=1, commits=2, fenced_by_tag=False)),
        ("two runs may change", TIMES, Rules(counted_from_sending=False)),
        ("two runs may change", TIMES._replace(valid_s=2, idle_s=2), Rules(wrong_ticks=2)),
        ("two runs may change", TIMES, Rules(lease=LeadsUnproved)),
        ("two runs may change", TIMES, Rules(lease=WithoutClock)),
        ("two runs proved", TIMES, Rules(clocks_stopped=True, questions=1, proved_by_sending=False)),
    ],
    ids=[
        "no tag",
        "counted from the answer",
        "no margin",
        "leads unproved",
        "no clock",
        "proved by the past",
    ],
)
def test_search_finds_the_fault_without(what: str, times: LeaseTimes, rules: Rules) -> None:
    with pytest.raises(Broken, match=what):
        search(led_world(times, rules), 200_000)
