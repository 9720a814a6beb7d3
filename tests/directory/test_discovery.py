"""Discovery: exact totals, a fair draw, the most available first, and the best of the rest."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from openred_central.directory.directory import Directory
from openred_central.directory.discovery import (
    CANDIDATES_PER_RESULT,
    COUNTED_MAX,
    WALK_STEP_MEMBERS,
    Draw,
    Found,
    Query,
)
from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.ranking import SilenceRanking, availability
from openred_central.directory.state.registry import Registry
from openred_central.directory.state.service_sets import ServiceSet, ServiceSets
from tests.support.building import (
    DAY_S,
    EPOCH_S,
    SHORT_LIFE,
    at,
    beat,
    day,
    make_directory,
    register,
    run_until,
    state_of,
)

HEALTHY = tuple(state for state in LIVE_STATES if state is not State.COMA)


def query(*names: str, max_results: int = 5, **filters: object) -> Query:
    return Query(frozenset(names), max_results=max_results, **{"states": HEALTHY, **filters})  # type: ignore[arg-type]


def finish(draw: Draw) -> Found:
    while (found := draw.step()) is None:
        pass
    return found


def discover(directory: Directory, asked: Query, now_s: float = 1_000.0) -> Found:
    return finish(directory.discover(asked, at(now_s)))


def by_silence(**options: Any) -> Directory:
    """A directory that keeps no habits."""
    return make_directory(forecast=False, **options)


def availability_of(registry: Registry, slot: int, now_s: float, tolerance_s: float) -> float:
    return SilenceRanking(registry, tolerance_s).scores([slot], now_s)[0]


def names(directory: Directory, found: Found) -> list[str]:
    return [directory.nodes.registry.node_id(slot) for slot in found.slots]


def populated(count: int, *, seed: int = 1, beaten_s: float = 990.0, forecast: bool = True) -> Directory:
    """Nodes n0, n1 …: every one offers chat, every tenth mail, every hundredth files; even ones are in eu."""
    directory = make_directory(seed=seed, forecast=forecast)
    for number in range(count):
        services = [
            "chat",
            *(["files"] if number % 100 == 0 else []),
            *(["mail"] if number % 10 == 0 else []),
        ]
        region = "us" if number % 2 else "eu"
        register(directory, f"n{number}", at(0.0), services=",".join(services), region=region)
        beat(directory, f"n{number}", at(beaten_s))
    return directory


def test_the_total_is_exact_and_max_results_is_kept() -> None:
    directory = populated(1_000)
    for asked, total in (
        (query(), 1_000),
        (query("chat"), 1_000),
        (query("mail"), 100),
        (query("nothing"), 0),
    ):
        found = discover(directory, asked)
        assert found.total == total
        assert len(set(found.slots)) == len(found.slots) == min(5, total)
        assert not found.degraded


def test_all_services_of_a_query_are_required() -> None:
    directory = populated(1_000)
    register(directory, "rare", at(0.0), services="mail,relay")
    found = discover(directory, query("mail", "relay"))
    assert (names(directory, found), found.total) == (["rare"], 1)
    both = discover(directory, query("chat", "files", max_results=20))
    assert set(names(directory, both)) == {f"n{number}" for number in range(0, 1_000, 100)}


def test_the_draw_is_fair_among_equals(seed: int) -> None:
    """A chi-squared statistic of 199 degrees of freedom is beyond 350 once in a thousand million runs."""
    directory = populated(200, seed=seed)
    drawn = Counter(
        name for _ in range(2_000) for name in names(directory, discover(directory, query("chat")))
    )
    expected = 2_000 * 5 / 200
    assert sum((drawn[f"n{number}"] - expected) ** 2 / expected for number in range(200)) < 350


def test_the_draw_is_fair_between_groups_of_very_different_size(seed: int) -> None:
    directory = populated(1_000, seed=seed)
    drawn = Counter(
        name for _ in range(1_000) for name in names(directory, discover(directory, query("chat")))
    )
    with_files = sum(drawn[f"n{number}"] for number in range(0, 1_000, 100))
    # Ten of a thousand: 50 of 5,000 draws are expected, with a deviation of seven.
    assert 15 < with_files < 85


def test_equal_nodes_come_in_any_order(seed: int) -> None:
    directory = populated(3, seed=seed)
    firsts = Counter(names(directory, discover(directory, query()))[0] for _ in range(300))
    assert min(firsts[f"n{number}"] for number in range(3)) > 50


def test_more_available_nodes_come_first() -> None:
    directory = by_silence(heartbeat_advice_s=100.0)
    for silent_s, name in ((1_000.0, "d"), (10.0, "a"), (400.0, "c"), (200.0, "b")):
        register(directory, name, at(1_000.0 - silent_s))
    found = discover(directory, query())
    assert names(directory, found) == ["a", "b", "c", "d"]
    assert found.scores == [1.0, 0.5, 0.25, 0.1]


@pytest.mark.parametrize(
    ("silent_s", "usual_gap_s", "expected"),
    [
        (0.0, 100.0, 1.0),
        (100.0, 100.0, 1.0),
        (200.0, 100.0, 0.5),
        # A node with a heartbeat every second is not away after two.
        (2.0, 1.0, 1.0),
        (120.0, 1.0, 0.5),
        (-5.0, 100.0, 1.0),
    ],
)
def test_availability_is_the_silence_against_the_usual_gap(
    silent_s: float, usual_gap_s: float, expected: float
) -> None:
    assert availability(silent_s, usual_gap_s) == expected


def test_an_absent_node_comes_last_until_it_returns() -> None:
    directory = by_silence(heartbeat_advice_s=100.0)
    register(directory, "away", at(900.0), away_until_at=EPOCH_S + 5_000.0)
    register(directory, "old", at(0.0))
    assert names(directory, discover(directory, query())) == ["old", "away"]
    slot = directory.slot("away", at(1_000.0))
    registry = directory.nodes.registry
    tolerance_s = directory.lifecycle.heartbeat_tolerance_s
    assert availability_of(registry, slot, 1_000.0, tolerance_s) == 0.0
    assert availability_of(registry, slot, 5_000.0, tolerance_s) > 0.0
    beat(directory, "away", at(1_001.0))
    assert availability_of(registry, slot, 1_001.0, tolerance_s) == 1.0


@pytest.mark.parametrize(
    ("silent_s", "state", "expected"),
    [
        (9.0, State.ACTIVE, 1.0),
        (10.5, State.PENDING_FIRST_CHECK, 10.0 / 10.5),
        (12.5, State.FAILED_FIRST_CHECK, 0.8),
        (20.0, State.RETRY_2W, 0.5),
        (25.0, State.RETRY_2M, 0.4),
        (32.0, State.COMA, 0.0),
    ],
)
def test_silence_beyond_the_tolerance_is_never_usual(silent_s: float, state: State, expected: float) -> None:
    """Also where the usual gap, in the beginning that of the advice, is longer than a whole life."""
    directory = by_silence(life=SHORT_LIFE)
    slot = register(directory, "a", at(0.0))
    run_until(directory, at(silent_s))
    registry, tolerance_s = directory.nodes.registry, directory.lifecycle.heartbeat_tolerance_s
    assert state_of(directory, "a") is state
    assert availability_of(registry, slot, silent_s, tolerance_s) == pytest.approx(expected)
    (told,) = discover(directory, query(states=LIVE_STATES), silent_s).scores
    assert told == pytest.approx(expected)


def test_a_node_that_left_is_not_available() -> None:
    directory = by_silence()
    slot = register(directory, "a", at(0.0))
    directory.leave("a", at(1.0))
    assert availability_of(directory.nodes.registry, slot, 2.0, DAY_S) == 0.0


def test_nodes_in_coma_are_ranked_by_last_sign_of_life() -> None:
    directory = make_directory(life=SHORT_LIFE)
    for number in range(6):
        register(directory, f"n{number}", at(number / 10))
    run_until(directory, at(32.0))
    found = discover(directory, query(), 32.0)
    assert found.degraded
    assert names(directory, found) == ["n5", "n4", "n3", "n2", "n1"]


def test_a_region_is_required_and_near_is_only_preferred() -> None:
    directory = populated(100)
    strict = discover(directory, query("mail", region="us"))
    assert (strict.slots, strict.total) == ([], 10)
    required = discover(directory, query(region="us", max_results=50))
    assert {int(name[1:]) % 2 for name in names(directory, required)} == {1}
    register(directory, "far", at(990.0), region="asia")
    preferred = discover(directory, query(near="asia"))
    assert names(directory, preferred)[0] == "far"
    assert len(preferred.slots) == 5


def test_near_nodes_come_before_more_available_ones() -> None:
    directory = by_silence(heartbeat_advice_s=100.0)
    register(directory, "near", at(0.0), region="eu")
    register(directory, "far", at(999.0), region="us")
    assert names(directory, discover(directory, query(near="eu"))) == ["near", "far"]


def test_nodes_not_heard_recently_are_left_out_and_counted() -> None:
    directory = populated(50, beaten_s=100.0)
    beat(directory, "n7", at(900.0))
    found = discover(directory, query(min_last_seen_at=EPOCH_S + 500.0))
    assert (names(directory, found), found.total, found.degraded) == (["n7"], 50, False)


def test_hidden_and_departed_nodes_are_never_found() -> None:
    directory = make_directory()
    register(directory, "hidden", at(0.0), discoverable=False)
    register(directory, "departed", at(0.0))
    directory.leave("departed", at(1.0))
    found = discover(directory, query(states=LIVE_STATES))
    assert found == Found([], [], 0, False)


def test_without_healthy_nodes_the_best_others_are_found() -> None:
    directory = make_directory()
    register(directory, "sleeper", at(0.0), services="chat")
    run_until(directory, day(300))
    found = finish(directory.discover(query("chat"), day(300)))
    assert (names(directory, found), found.total, found.degraded) == (["sleeper"], 0, True)
    other = finish(directory.discover(query("mail"), day(300)))
    assert (other.slots, other.degraded) == ([], False)


def test_without_recent_nodes_the_best_others_are_found() -> None:
    directory = populated(30, beaten_s=100.0)
    found = discover(directory, query(min_last_seen_at=EPOCH_S + 500.0))
    assert (len(found.slots), found.total, found.degraded) == (5, 30, True)


def test_a_region_is_required_of_the_best_others_too() -> None:
    directory = populated(30, beaten_s=100.0)
    found = discover(directory, query(min_last_seen_at=EPOCH_S + 500.0, region="us"))
    assert found.degraded
    assert {int(name[1:]) % 2 for name in names(directory, found)} == {1}


def test_discovery_works_in_a_flood_of_new_sets() -> None:
    directory = make_directory()
    directory.nodes.index.groups_max = 8
    for number in range(300):
        register(directory, f"n{number}", at(0.0), services=f"chat,s{number}", region=f"r{number % 7}")
    register(directory, "other", at(0.0), services="mail")
    found = discover(directory, query("chat"))
    assert (found.total, len(found.slots)) == (300, 5)
    assert names(directory, discover(directory, query("chat", "s250"))) == ["n250"]
    regional = discover(directory, query("chat", region="r3", max_results=100))
    assert {int(name[1:]) % 7 for name in names(directory, regional)} == {3}
    assert len(regional.slots) == len(range(3, 300, 7))
    nearby = discover(directory, query("chat", near="r5", max_results=3))
    assert len(nearby.slots) == 3


def flooded(count: int) -> Directory:
    """Very many nodes in sets of their own: all offer `chat`, every second `mail`, every third `files`."""
    directory = make_directory(nodes_max=count)
    directory.nodes.index.groups_max = 8
    for number in range(count):
        said = ["chat", *(["files"] if number % 3 == 0 else []), *(["mail"] if number % 2 == 0 else [])]
        register(directory, f"n{number}", at(0.0), services=",".join([*said, f"s{number}"]))
    return directory


def test_in_a_large_flood_several_services_are_estimated() -> None:
    directory = flooded(6 * COUNTED_MAX)
    assert discover(directory, query()).total == 6 * COUNTED_MAX
    assert discover(directory, query("mail")).total == 3 * COUNTED_MAX
    assert discover(directory, query("chat", "s77")).total == 1
    estimated = discover(directory, query("chat", "files", "mail")).total
    # A half of the 2,000 that offer files; five standard deviations of a sample.
    assert estimated != 0
    assert abs(estimated - COUNTED_MAX) < 5 * 2 * COUNTED_MAX * 0.5 / COUNTED_MAX**0.5


def test_in_a_small_flood_several_services_are_counted_exactly() -> None:
    directory = flooded(2 * COUNTED_MAX)
    assert discover(directory, query("chat", "mail", "files")).total == len(range(0, 2 * COUNTED_MAX, 6))


def test_a_node_without_a_service_is_not_found_in_a_flood() -> None:
    directory = flooded(300)
    for _ in range(20):
        found = names(directory, discover(directory, query("files", "mail", max_results=20)))
        assert len(found) == 20
        assert all(int(name[1:]) % 6 == 0 for name in found)


def test_a_step_of_a_query_is_bounded_in_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the nodes offer one service, half the other: nobody offers both, each may have to be seen."""
    directory = make_directory(nodes_max=10 * WALK_STEP_MEMBERS)
    directory.nodes.index.groups_max = 8
    for number in range(5 * WALK_STEP_MEMBERS):
        register(directory, f"n{number}", at(0.0), services=f"{'ab'[number % 2]},s{number}")
    looks = 0
    service_set_of = ServiceSets.__getitem__

    def counted(sets: ServiceSets, set_id: int) -> ServiceSet:
        nonlocal looks
        looks += 1
        return service_set_of(sets, set_id)

    monkeypatch.setattr(ServiceSets, "__getitem__", counted)
    draw = directory.discover(query("a", "b"), at(1.0))
    steps, found = 0, None
    while found is None:
        looks = 0
        found = draw.step()
        steps += 1
        assert looks <= WALK_STEP_MEMBERS + 2 * COUNTED_MAX
    assert (found.total, found.slots, steps > 2) == (0, [], True)


# The walk: where a filter rejects nearly all, every match is looked at, in steps.

MANY = 2 * WALK_STEP_MEMBERS + 500


@pytest.fixture(scope="module")
def crowd() -> Directory:
    """So many nodes that were last heard long ago that a walk takes three steps; it is only read."""
    directory = make_directory(nodes_max=2 * MANY)
    for number in range(MANY):
        register(directory, f"n{number}", at(0.0), services="chat")
    return directory


RECENT = query("chat", min_last_seen_at=EPOCH_S + 500.0, max_results=3)


def test_a_needle_is_found_by_a_walk_in_steps(crowd: Directory) -> None:
    for number in (5, MANY // 2, MANY - 1):
        slot = crowd.slot(f"n{number}", at(900.0))
        crowd.nodes.registry.last_seen_at[slot] = EPOCH_S + 900.0
        draw = crowd.discover(RECENT, at(1_000.0))
        assert draw.step() is None
        steps = 1
        while (found := draw.step()) is None:
            steps += 1
        assert (names(crowd, found), found.total, found.degraded) == ([f"n{number}"], MANY, False)
        assert steps <= 4
        crowd.nodes.registry.last_seen_at[slot] = EPOCH_S


def test_a_walk_without_results_ends_with_the_best_others(crowd: Directory) -> None:
    found = finish(crowd.discover(RECENT, at(1_000.0)))
    assert (len(found.slots), found.degraded) == (3, True)


def test_a_walk_ends_once_enough_are_found(crowd: Directory, seed: int) -> None:
    chance = random.Random(seed)
    recent = chance.sample(range(MANY), 40)
    for number in recent:
        crowd.nodes.registry.last_seen_at[number] = EPOCH_S + 900.0
    found = finish(crowd.discover(RECENT, at(1_000.0)))
    for number in recent:
        crowd.nodes.registry.last_seen_at[number] = EPOCH_S
    assert len(set(found.slots)) == 3
    assert set(found.slots) <= set(recent)


@pytest.mark.parametrize("deed", ["leave", "forget", "hide", "other services", "other region", "replaced"])
def test_a_node_that_changes_during_a_walk_is_not_found(deed: str) -> None:
    directory = make_directory(nodes_max=10 * WALK_STEP_MEMBERS)
    count = WALK_STEP_MEMBERS + 500
    for number in range(count):
        register(directory, f"n{number}", at(0.0), services="chat", region="eu")
    for number in range(count):
        directory.nodes.registry.last_seen_at[number] = EPOCH_S
    # Enough that the walk meets some in its first step, too few for it to end there.
    chosen = [f"n{number}" for number in range(0, count, count // 5)]
    for name in chosen:
        beat(directory, name, at(900.0))
    asked = query("chat", states=LIVE_STATES, min_last_seen_at=EPOCH_S + 500.0, region="eu", max_results=5)
    draw = directory.discover(asked, at(1_000.0))
    assert draw.step() is None
    assert draw.step() is None
    now = at(950.0)
    for name in chosen:
        match deed:
            case "leave":
                directory.leave(name, now)
            case "forget":
                directory.forget(name, now)
            case "hide":
                register(directory, name, now, services="chat", region="eu", discoverable=False)
            case "other services":
                register(directory, name, now, services="mail", region="eu")
            case "other region":
                register(directory, name, now, services="chat", region="us")
            case "replaced":
                directory.forget(name, now)
                register(directory, f"new {name}", now, services="mail")
    found = finish(draw)
    assert not set(names(directory, found)) & set(chosen)
    assert all("chat" in directory.nodes.registry.service_set(slot).names for slot in found.slots)


def test_a_walk_survives_the_end_of_all_nodes() -> None:
    directory = make_directory(nodes_max=10 * WALK_STEP_MEMBERS)
    for number in range(WALK_STEP_MEMBERS + 500):
        register(directory, f"n{number}", at(0.0), services="chat")
    draw = directory.discover(RECENT, at(1_000.0))
    assert draw.step() is None
    assert draw.step() is None
    for number in range(WALK_STEP_MEMBERS + 500):
        directory.forget(f"n{number}", at(1_000.0))
    assert finish(draw).slots == []


def test_more_candidates_than_results_are_drawn() -> None:
    """With one good node among twenty, drawing twice as many finds it about twice as often."""
    directory = by_silence(heartbeat_advice_s=100.0)
    for number in range(200):
        register(directory, f"n{number}", at(0.0))
        if number % 2:
            beat(directory, f"n{number}", at(999.0))
    good = sum(
        int(name[1:]) % 2 for _ in range(500) for name in names(directory, discover(directory, query()))
    )
    assert CANDIDATES_PER_RESULT == 2
    assert good > 0.75 * 500 * 5


@pytest.mark.parametrize("silent_in_ten", [0, 1, 5, 10])
def test_an_early_end_of_a_draw_changes_no_result(
    silent_in_ten: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = populated(400, forecast=False)
    for number in range(400):
        if number % 10 < silent_in_ten:
            directory.nodes.registry.usual_gap_s[number] = 300.0 + number
    now, asked = at(5_000.0), query("chat", max_results=20)

    def found() -> Found:
        ranking = directory.ranking
        return finish(Draw(directory.nodes, ranking, asked, now.attended_s, random.Random(seed).random))

    early = found()
    monkeypatch.setattr(Draw, "_count_best", lambda draw, slots: 0)
    assert early == found()


@pytest.mark.parametrize("forecast", [True, False])
def test_a_least_chance_leaves_out_others_unless_nobody_reaches_it(*, forecast: bool) -> None:
    directory = populated(2_000, forecast=forecast)
    registry = directory.nodes.registry
    for number in range(2_000):
        if number % 50:
            # Silent for a hundred times its usual gap, and in coma.
            registry.usual_gap_s[number], registry.last_seen_s[number] = 60.0, 0.0
            directory.nodes.habits.odds[number] = -100
    found = discover(directory, query("chat", max_results=20, min_score=0.5), 6_000.0)
    assert len(found.slots) == 20
    assert not found.degraded
    assert {slot % 50 for slot in found.slots} == {0}
    for number in range(0, 2_000, 50):
        directory.forget(f"n{number}", at(6_000.0))
    found = discover(directory, query("chat", max_results=20, min_score=0.5), 6_000.0)
    assert len(found.slots) == 20
    assert found.degraded


def test_results_of_a_walk_are_ranked() -> None:
    directory = make_directory(nodes_max=1_000)
    for number in range(400):
        register(directory, f"n{number}", at(0.0))
        beat(directory, f"n{number}", at(900.0 if number < 24 else 100.0))
        directory.nodes.registry.usual_gap_s[number] = 1_000.0 if number % 2 else 60.0
    for _ in range(100):
        found = discover(directory, query(min_last_seen_at=EPOCH_S + 500.0))
        assert len(found.slots) == 5
        assert found.scores == sorted(found.scores, reverse=True)
