"""Patience lengthens deadlines within its bounds, everywhere alike, and never shortens one."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.wire.describing import explain
from openred_central.directory.directory import Directory
from openred_central.directory.life.expiry import TOGETHER_MIN
from openred_central.directory.lifecycle import (
    DAY_S,
    DEADLINE_STEPS_PER_S,
    DWELL_S_MAX,
    DWELL_SETTINGS,
    LIVE_STATES,
    Event,
    LifecycleOptions,
    State,
    deadline_s,
)
from openred_central.directory.octaves import CODE_MAX, seconds_of
from openred_central.directory.patience import COMA_FACTOR_MAX, FACTOR_MAX, PATIENCE_FACTOR, Patience
from openred_central.directory.state.node import HELD, Record, Transition
from openred_central.maintenance.portable import decode, encode
from tests.support.building import (
    HOUR_S,
    DictStore,
    at,
    beat,
    columns_of,
    expect_consistent,
    make_directory,
    record,
    register,
    restarted,
    run_until,
    save_all,
)
from tests.support.options import lifecycle_options

# A whole life in 36 hours, with absences that one byte tells apart.
LIFE = lifecycle_options(
    heartbeat_tolerance_s=6 * HOUR_S,
    grace_s=HOUR_S,
    second_look_s=0.5 * HOUR_S,
    retry_48h_s=HOUR_S,
    retry_2w_s=2 * HOUR_S,
    retry_2m_s=3 * HOUR_S,
    coma_s=12 * HOUR_S,
    tombstone_s=5 * HOUR_S,
)
DWELLS = st.floats(0.001, DWELL_S_MAX)
LIVES = st.builds(LifecycleOptions, **dict.fromkeys(DWELL_SETTINGS.values(), DWELLS))
FACTORS = st.floats(1.0, FACTOR_MAX)
CODES = st.integers(0, CODE_MAX)
MOST = {State.ACTIVE: FACTOR_MAX, State.COMA: COMA_FACTOR_MAX}


def test_a_node_is_waited_for_half_as_long_again_as_it_once_was_away() -> None:
    patience = Patience(lifecycle_options(), 2.0)

    def days(state: State, away_days: float) -> float:
        longest = next(code for code in range(256) if seconds_of(code) >= away_days * DAY_S)
        assert seconds_of(longest) < 1.1 * away_days * DAY_S or not away_days
        return patience.dwell_s(state, longest) / DAY_S

    assert [days(State.ACTIVE, away) for away in (0, 100, 300)] == [180, 180, 360]
    assert 1.5 * 150 <= days(State.ACTIVE, 150) < 1.1 * 1.5 * 150
    assert [days(State.COMA, away) for away in (0, 400, 900)] == [730, 730, 1_095]
    assert days(State.PENDING_FIRST_CHECK, 900) == 2


@pytest.mark.parametrize("factor", [0.99, 4.01, float("nan"), float("inf"), -1.0])
def test_a_factor_out_of_bounds_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="allowed is 1 to 4"):
        Patience(LIFE, factor)


@given(LIVES, FACTORS, CODES, st.sampled_from(LIVE_STATES))
def test_patience_never_shortens_and_never_exceeds_its_bound(
    life: LifecycleOptions, factor: float, longest: int, state: State
) -> None:
    floor_s, dwell_s = life.dwell_s(state), Patience(life, factor).dwell_s(state, longest)
    assert floor_s <= dwell_s <= min(factor, MOST.get(state, 1.0)) * floor_s
    assert dwell_s <= max(floor_s, PATIENCE_FACTOR * seconds_of(longest))
    assert Patience(life, factor).dwell_s(state, 0) == floor_s
    if longest:
        assert dwell_s >= Patience(life, factor).dwell_s(state, longest - 1)
    assert Patience(life, 1.0).dwell_s(state, longest) == floor_s


@given(
    LIVES,
    FACTORS,
    st.lists(
        st.tuples(st.sampled_from(LIVE_STATES), CODES, *[st.floats(0, 1e9)] * 3), min_size=1, max_size=20
    ),
)
def test_every_deadline_lies_between_the_usual_one_and_the_bound(
    life: LifecycleOptions, factor: float, drawn: list[tuple[State, int, float, float, float]]
) -> None:
    rows = [
        record(
            slot,
            f"n{slot}",
            profile=b'["192.0.2.1",1,"key",[],{}]',
            state=state,
            longest=longest,
            last_seen_s=seen_s,
            since_s=since_s,
            away_until_s=away_s,
        )
        for slot, (state, longest, seen_s, since_s, away_s) in enumerate(drawn)
    ]
    patient = make_directory(life=life, patience_factor_max=factor)
    patient.saving.restore_records([columns_of(rows)])
    assert len(patient) == len(rows)
    for row in rows:
        state, found_s = State(row.state), patient.nodes.deadline_s(row.slot)
        usual_s = deadline_s(state, row.since_s, row.last_seen_s, row.away_until_s, life.dwell_s(state))
        added_s = (min(factor, MOST.get(state, 1.0)) - 1) * life.dwell_s(state)
        assert usual_s <= found_s <= usual_s + added_s * (1 + 1e-9) + 1 / DEADLINE_STEPS_PER_S
    steps = patient.nodes.deadline_steps([row.slot for row in rows])
    assert steps == [patient.nodes.deadline_s(row.slot) * DEADLINE_STEPS_PER_S for row in rows]


def expected_s(state: State, longest: int, factor: float) -> float:
    """Return how long a state lasts, by the rule as it is written down."""
    floor_s = LIFE.dwell_s(state)
    if state not in MOST:
        return floor_s
    return max(floor_s, min(min(factor, MOST[state]) * floor_s, 1.5 * seconds_of(longest)))


def of_nodes(directory: Directory) -> dict[str, list[Transition]]:
    """Return the transitions by silence of each node, in order."""
    found: dict[str, list[Transition]] = defaultdict(list)
    for transition in directory.nodes.transitions.take():
        if transition.reason == Event.DEADLINE.value:
            found[transition.node_id].append(transition)
    return found


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("factor", [1.0, 1.7, 4.0])
def test_all_places_agree_on_every_deadline_to_the_step(together: bool, factor: float, seed: int) -> None:
    """Crowds, single nodes, descriptions and releases go by one time for each state."""
    chance = random.Random(seed)
    directory = make_directory(life=LIFE, patience_factor_max=factor)
    codes = {f"n{number}": chance.randrange(60, 100) for number in range(3 * TOGETHER_MIN)}
    told: dict[str, list[float]] = {}
    for name, code in codes.items():
        slot = register(directory, name, at(100.0))
        directory.nodes.raise_longest(slot, seconds_of(code))
        deadlines = explain(directory, slot, at(100.0), private=True)["explain"]["deadlines"]
        told[name] = [100.0 + one["in_s"] for one in deadlines]
        extended_s = sum(one.get("extended_s", 0.0) for one in deadlines)
        usual_s = 100.0 + sum(map(LIFE.dwell_s, LIVE_STATES))
        assert told[name][-1] == pytest.approx(usual_s + extended_s, abs=0.01)
    if together:
        run_until(directory, at(100.0 + 72 * HOUR_S))
    else:
        # Nodes that are looked at one by one, in small steps of time.
        for minute in range(72 * 60):
            while directory.expiry.expire_due(at(100.0 + minute * 60.0), TOGETHER_MIN - 1):
                pass
    found = of_nodes(directory)
    for name, code in codes.items():
        ends_s = 100.0
        assert [each.from_state for each in found[name]] == list(LIVE_STATES)
        for transition, announced_s in zip(found[name], told[name], strict=True):
            ends_s += expected_s(transition.from_state, code, factor)
            assert transition.at_s == pytest.approx(ends_s, abs=8 / DEADLINE_STEPS_PER_S)
            assert announced_s == pytest.approx(transition.at_s, abs=0.001)
    assert not len(directory)


def test_a_crowd_and_single_nodes_move_on_at_the_same_times(seed: int) -> None:
    chance = random.Random(seed)
    codes = {f"n{number}": chance.randrange(60, 100) for number in range(2 * TOGETHER_MIN)}
    crowd = make_directory(life=LIFE)
    alone: dict[str, list[Transition]] = {}
    for name, code in codes.items():
        single = make_directory(life=LIFE)
        for directory in (crowd, single):
            slot = register(directory, name, at(5.0))
            directory.nodes.raise_longest(slot, seconds_of(code))
        run_until(single, at(72 * HOUR_S))
        alone |= of_nodes(single)
    run_until(crowd, at(72 * HOUR_S))
    assert of_nodes(crowd) == alone


def test_a_release_takes_nothing_from_a_patient_node() -> None:
    directory = make_directory(life=LIFE)
    slot = register(directory, "node", at(0.0))
    directory.nodes.raise_longest(slot, 7 * HOUR_S)
    due_s = directory.nodes.deadline_s(slot)
    assert due_s > 10 * HOUR_S
    directory.hold("node", at(HOUR_S))
    directory.release("node", at(9 * HOUR_S))
    assert directory.nodes.registry.record(slot).away_until_s == 0.0
    assert directory.nodes.deadline_s(slot) == due_s
    directory.hold("node", at(10 * HOUR_S))
    directory.release("node", at(due_s + HOUR_S))
    assert directory.nodes.deadline_s(slot) == due_s + HOUR_S
    expect_consistent(directory, at(due_s + HOUR_S))


def test_the_time_that_a_node_is_told_follows_its_patience() -> None:
    directory = make_directory(life=LIFE)
    slot = register(directory, "node", at(0.0))
    assert directory.heartbeat_due_at(at(0.0), slot) == directory.heartbeat_due_at(at(0.0))
    assert slot not in directory.nodes.registry.apart
    directory.nodes.raise_longest(slot, 3 * HOUR_S)
    assert slot not in directory.nodes.registry.apart, "its next time is the usual one"
    directory.nodes.raise_longest(slot, 7 * HOUR_S)
    assert slot in directory.nodes.registry.apart
    store = DictStore()
    save_all(directory, store, at(0.0))
    assert restarted(store, life=LIFE).nodes.registry.apart == {slot}
    later_s = directory.heartbeat_due_at(at(0.0), slot) - directory.heartbeat_due_at(at(0.0))
    assert later_s == expected_s(State.ACTIVE, directory.nodes.registry.longest[slot], 2.0) - 6 * HOUR_S
    directory.forget("node", at(1.0))
    assert directory.nodes.registry.apart == set()


class Deed(NamedTuple):
    """Event in the life of one node, after so many minutes."""

    minutes: int
    name: str
    kind: str


DEEDS = st.lists(
    st.builds(
        Deed,
        st.integers(1, 15 * 60),
        st.sampled_from("abc"),
        st.sampled_from(
            ["beat"] * 5 + ["register", "leave", "hold", "release", "forget", "restart", "import"]
        ),
    ),
    min_size=1,
    max_size=25,
)


class Run:
    """A directory to which deeds happen, and the time of each transition by silence.

    `silence` has them by node, by how often the node was heard or left before, and by the state that ended.
    """

    def __init__(self, **options: float) -> None:
        self.directory = make_directory(life=LIFE, **options)
        self.silence: dict[tuple[str, int, State], float] = {}
        self._deeds: Counter[str] = Counter()

    def act(self, deed: Deed, now_s: float, restart: Callable[[Directory], Directory] | None) -> None:
        """Let silence take its course until now, then do the deed; a visit finds each return at once."""
        self.run_until(now_s)
        now, directory = at(now_s), self.directory
        slot = directory.nodes.registry.slot_of(deed.name)
        self._deeds[deed.name] += deed.kind in ("beat", "register", "leave", "forget") or slot is None
        if deed.kind in ("restart", "import"):
            if restart is not None:
                self.directory = restart(directory)
        elif slot is None:
            register(directory, deed.name, now)
        elif deed.kind in ("beat", "register"):
            absence_s = now_s - directory.nodes.registry.last_seen_s[slot]
            (beat if deed.kind == "beat" else register)(directory, deed.name, now)
            directory.nodes.raise_longest(slot, absence_s)
        elif deed.kind != "release" or directory.nodes.registry.flags[slot] & HELD:
            getattr(directory, deed.kind)(deed.name, now)
        self._take()
        expect_consistent(self.directory, now)

    def run_until(self, now_s: float) -> None:
        run_until(self.directory, at(now_s))
        self._take()

    def _take(self) -> None:
        for name, transitions in of_nodes(self.directory).items():
            for one in transitions:
                if one.from_state is not State.DEAD:
                    self.silence[name, self._deeds[name], one.from_state] = one.at_s


@given(DEEDS, st.sampled_from([1.5, 2.0, 4.0]))
def test_no_node_moves_on_earlier_than_without_patience(deeds: list[Deed], factor: float) -> None:
    patient, usual = Run(patience_factor_max=factor), Run()
    # The other run goes by the options alone.
    usual.directory.nodes.patience.dwells_s = tuple(
        (LIFE.dwell_s(state) if state else 0.0,) * (CODE_MAX + 1) for state in State
    )
    now_s, parted = 0.0, set[str]()
    for deed in deeds:
        now_s += 60.0 * deed.minutes
        for one in (patient, usual):
            one.run_until(now_s)
        # A node that died in one run alone would live another life from here on.
        parted |= {name for name in "abc" if lives(patient, name) is not lives(usual, name)}
        if deed.name not in parted:
            for one in (patient, usual):
                one.act(deed, now_s, None)
    for one in (patient, usual):
        one.run_until(now_s + 1_000 * HOUR_S)
    for key, at_s in patient.silence.items():
        assert at_s >= usual.silence[key]


def lives(run: Run, name: str) -> bool:
    return run.directory.nodes.registry.slot_of(name) is not None


def saved_and_restarted(directory: Directory) -> Directory:
    store = DictStore()
    save_all_of(directory, store)
    return restarted(store, life=LIFE)


def exported_and_imported(directory: Directory) -> Directory:
    """Return the directory of an import, in which nodes have other slots."""
    store = DictStore()
    save_all_of(directory, store)
    lines = [encode(record) for record in store.records.values()]
    records = [decode(line, slot) for slot, line in enumerate(reversed(lines))]
    store.records = {one.slot: one for one in records if isinstance(one, Record)}
    return restarted(store, life=LIFE)


def save_all_of(directory: Directory, store: DictStore) -> None:
    for tombstone in directory.nodes.tombstones:
        store.tombstones[tombstone.id_hash] = tombstone
    registry = directory.nodes.registry
    store.records = {slot: registry.record(slot) for slot in registry.taken_slots()}
    batch = directory.saving.take_changes(1, at(1e9), closing=True)
    assert batch is not None
    store.vitals = batch.vitals


@given(DEEDS)
def test_a_restart_or_an_import_changes_no_deadline(deeds: list[Deed]) -> None:
    restarting, uninterrupted = Run(), Run()
    now_s = 0.0
    for deed in deeds:
        now_s += 60.0 * deed.minutes
        again = exported_and_imported if deed.kind == "import" else saved_and_restarted
        restarting.act(deed, now_s, again)
        uninterrupted.act(deed, now_s, None)
    for one in (restarting, uninterrupted):
        one.run_until(now_s + 1_000 * HOUR_S)
    assert restarting.silence == uninterrupted.silence


def test_a_lowered_factor_is_told_with_the_nodes_that_it_concerns() -> None:
    store = DictStore()
    directory = make_directory(life=LIFE, patience_factor_max=2.0)
    assert directory.nodes.lowered_patience() is None
    for name, hours in (("a", 1.0), ("b", 7.0), ("c", 30.0)):
        directory.nodes.raise_longest(register(directory, name, at(0.0)), hours * HOUR_S)
    save_all(directory, store, at(0.0))
    for factor, told in (
        (2.0, None),
        (4.0, None),
        (1.9, (4.0, 1)),
        (1.9, None),
        (1.0, (1.9, 2)),
        (1.0, None),
    ):
        directory = restarted(store, life=LIFE, patience_factor_max=factor)
        assert directory.nodes.lowered_patience() == told
        save_all(directory, store, at(1.0))


@pytest.mark.parametrize("value", [b"", b"much", b"nan", b"9", b"\xff"])
def test_a_damaged_factor_is_left_out(value: bytes) -> None:
    directory = make_directory()
    (fault,) = directory.restore_kept([("patience", value)])
    assert "'patience' of " in fault
    assert directory.nodes.lowered_patience() is None
