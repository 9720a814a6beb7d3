"""Expectations of one node: words that a person would say, and what strangers are not told."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from openred_central.api.wire.forecasting import forecast_of
from openred_central.directory.octaves import code_of
from openred_central.directory.state.habits import LATE, NIBBLE_FULL, PROFILE_BYTES
from openred_central.directory.state.node import UNREMEMBERED
from tests.directory.empathy.diary import HOUR_S, Diary
from tests.support.building import DAY_S
from tests.support.world import NODE, World


class Life(NamedTuple):
    """A hand-made habit: shares, seconds, hours of the day with a high chance, and seconds of lateness."""

    days: int = 60
    on_time: float = 0.98
    obeys: float = 0.9
    absences: int = 0
    usual_s: float = 0.0
    longest_s: float = 0.0
    hours: range | None = None
    chance: int = 14
    late_s: float = 0.0


def told(life: Life, *, private: bool, flags: int = 0) -> dict[str, Any]:
    diary = Diary(HOUR_S)
    slot, habits, nodes = diary.register("a"), diary.habits, diary.directory.nodes
    diary.pass_s(1.0)
    diary.now_s = 100 * DAY_S
    habits.days[slot], habits.absences[slot] = life.days, life.absences
    habits.on_time[slot], habits.obeys[slot] = round(255 * life.on_time), round(255 * life.obeys)
    habits.usual[slot] = code_of(life.usual_s)
    likely = [life.chance if life.hours is None or hour in life.hours else 1 for hour in range(24)]
    pairs = zip(likely[::2], likely[1::2], strict=True)
    habits.profile[:PROFILE_BYTES] = bytes(even | odd << 4 for even, odd in pairs)
    assert max(likely) <= NIBBLE_FULL
    nodes.raise_longest(slot, life.longest_s)
    silent_s = life.late_s + HOUR_S if life.late_s else 600.0
    nodes.registry.last_seen_s[slot] = diary.now_s - silent_s
    habits.seen_s[slot] = int(diary.now_s - silent_s)
    habits.due_s[slot] = int(diary.now_s - life.late_s if life.late_s else diary.now_s + 1_800)
    habits.bits[slot] = LATE if life.late_s else 0
    diary.pass_s(HOUR_S / 60)
    nodes.registry.flags[slot] |= flags
    found = forecast_of(diary.directory, slot, diary.now(), private=private)
    assert found is not None
    return found


EVENING = Life(absences=60, usual_s=19 * HOUR_S, longest_s=9 * DAY_S, hours=range(18, 23), on_time=0.8)
OFFICE = Life(absences=200, usual_s=15 * HOUR_S, longest_s=16 * DAY_S, hours=range(8, 17), on_time=0.9)
NEVER = "It was never away so far."
LIVES = {
    "server": (Life(), ["at any hour", NEVER, "history of 60 days"]),
    "new": (Life(days=1), [NEVER, "on 1 day so far, so this rests on nodes like it"]),
    "evening": (EVENING, ["between 18 and 22 h UTC", "is 20 hours, its longest was 9 days", "60 times"]),
    "evening, late": (
        EVENING._replace(late_s=8 * HOUR_S),
        ["was due at 20", "within a day in", "18 and 22"],
    ),
    "office, late": (OFFICE._replace(late_s=40 * HOUR_S), ["between 8 and 16 h UTC", "longest was 16 days"]),
    "sleeper": (
        Life(days=200, absences=4, usual_s=80 * DAY_S, longest_s=120 * DAY_S, late_s=30 * DAY_S),
        ["Its usual absence is 83 days, its longest was 128 days; it came back 4 times.", "half a year in 5"],
    ),
    "hobby": (
        Life(days=90, absences=20, usual_s=5 * DAY_S, longest_s=20 * DAY_S, on_time=0.5, chance=6),
        ["Its usual absence is 5 days"],
    ),
    "ignores the advice": (
        Life(days=100, obeys=0.1, on_time=0.6, absences=255, usual_s=4 * HOUR_S, chance=7),
        ["255 or more times", "does not follow the advised pace"],
    ),
    "never away, late": (Life(days=255, late_s=3 * HOUR_S), [NEVER, "more than 254 days"]),
    "phone": (Life(days=40, on_time=0.3, absences=99, usual_s=7_200.0, chance=6), ["absence is 2 hours"]),
    "once away": (Life(absences=1, usual_s=3 * DAY_S, longest_s=3 * DAY_S), ["it came back once"]),
    "new, late": (Life(days=2, late_s=2 * DAY_S, on_time=0.4), [NEVER, "on 2 days so far"]),
}


@pytest.mark.parametrize(("life", "parts"), LIVES.values(), ids=LIVES)
def test_the_node_itself_is_told_its_habits_in_words(life: Life, parts: list[str]) -> None:
    found = told(life, private=True)
    for part in parts:
        assert part in found["words"]
    assert found["words"].startswith("It was due" if life.late_s else "It is up now with a chance of")
    assert found["late"] == bool(life.late_s)
    assert "100 %" not in found["words"]


@pytest.mark.parametrize("life", [life for life, _ in LIVES.values()], ids=LIVES)
def test_strangers_are_told_no_hours_and_no_absences(life: Life) -> None:
    found = told(life, private=False)
    assert "private" not in found
    assert all(round(chance, 1) == chance for chance in found["back_within"].values())
    for word in ("UTC", "absence", "away", "due at", "came back", "hour"):
        assert word not in found["words"].replace("its hours uncertain", "")


def test_nothing_is_told_of_a_node_of_which_nothing_is_remembered() -> None:
    found = told(Life(), private=True, flags=UNREMEMBERED)
    assert "as its owner wished" in found["words"]
    assert found["days"] == 0
    assert found["private"]["hours"] is None


def test_only_a_proof_shows_what_is_private() -> None:
    world = World()
    claim = world.register().document["claim"]
    path = f"/nodes/{NODE['node_id']}"
    assert "private" not in world.call("GET", path).document["forecast"]
    assert "private" not in world.call("GET", path, claim="A" * 22).document["forecast"]
    assert "private" in world.call("GET", path, claim=claim).document["forecast"]


@pytest.mark.parametrize("away", [None, "2027-02-01T00:00:00Z"])
@pytest.mark.parametrize("silent_s", [0.0, HOUR_S / 2, 3 * DAY_S])
def test_strangers_are_told_one_chance_in_both_places(away: str | None, silent_s: float) -> None:
    world = World()
    world.register(away_until=away)
    world.visit()
    world.wait(silent_s)
    node = world.call("GET", f"/nodes/{NODE['node_id']}").document
    assert (node["forecast"]["now"], node["forecast"]["late"]) == (node["availability"], node["late"])
    assert (node["availability"] == 0.0) == (away is not None)
    assert node["late"] == (away is None and silent_s > DAY_S)


def test_a_directory_without_habits_expects_nothing() -> None:
    world = World(forecast=False)
    world.register()
    assert "forecast" not in world.call("GET", f"/nodes/{NODE['node_id']}").document


def test_a_node_may_wish_that_nothing_is_remembered() -> None:
    world = World()
    claim = world.register(habits=False).document["claim"]
    slot = world.directory.nodes.registry.slot_of(NODE["node_id"])
    assert slot is not None
    assert world.directory.nodes.registry.flags[slot] & UNREMEMBERED
    words = world.call("GET", f"/nodes/{NODE['node_id']}").document["forecast"]["words"]
    assert "as its owner wished" in words
    assert world.register(claim=claim).status == 200
    assert not world.directory.nodes.registry.flags[slot] & UNREMEMBERED
