"""The rows of days and months over restarts, crashes and jumps of the clock, and how large they become."""

from __future__ import annotations

import random
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.clock import Now
from openred_central.directory.analytics.analytics import SHARED
from openred_central.directory.analytics.calendar import (
    begin_of,
    day_at,
    month_numbered,
    months_until,
    number_of,
)
from openred_central.directory.analytics.days import DAYS, MONTHS, Day, Month, packed
from openred_central.directory.directory import Directory
from openred_central.directory.following import Following
from openred_central.directory.leading import Leading
from openred_central.directory.lifecycle import DAY_S, LIVE_STATES, TABLE, State
from openred_central.storage.frames import pack, pack_part, unpack, unpack_part
from openred_central.storage.versions import LINK_VERSION
from openred_central.wording import rfc3339
from tests.support.building import (
    HOUR_S,
    DictStore,
    at,
    beat,
    load,
    make_directory,
    register,
    restarted,
    run_until,
    save_all,
)

# The epoch of tests is at eight in the morning.
MIDNIGHT_S = 16 * HOUR_S
TEN_YEARS = 3_650


def count(directory: Directory, now: Now) -> None:
    """Let the directory count all that is due at `now`."""
    while directory.analytics.step(now) < 0.1:
        pass


def rows(directory: Directory) -> dict[str, Any]:
    return {date: orjson.loads(row) for date, row in sorted(directory.analytics.days.items())}


def test_a_day_is_complete_once_it_is_over() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    count(directory, at(0.0))
    count(directory, at(MIDNIGHT_S - 1))
    assert [row["complete"] for row in rows(directory).values()] == [False]
    register(directory, "b", at(MIDNIGHT_S - 0.5))
    count(directory, at(MIDNIGHT_S))
    first, second = rows(directory).values()
    assert (first["date"], first["complete"]) == ("2027-01-15", True)
    assert (first["registered"], first["nodes"]) == (2, 2)
    assert (second["date"], second["complete"], second["registered"]) == ("2027-01-16", False, 0)
    assert second["nodes"] == 2


def test_the_next_step_is_at_midnight_at_the_latest() -> None:
    directory = make_directory()
    count(directory, at(0.0))
    assert directory.analytics.step(at(30.0)) == 60.0
    assert directory.analytics.step(at(MIDNIGHT_S - 10.0)) < 0.1
    count(directory, at(MIDNIGHT_S - 10.0))
    assert directory.analytics.step(at(MIDNIGHT_S - 10.0)) == 10.0


def test_few_nodes_are_counted_each_minute_and_many_each_hour() -> None:
    directory = make_directory(nodes_max=10_000)
    register(directory, "first", at(0.0))
    count(directory, at(0.0))
    for number in range(5_000):
        register(directory, f"n{number}", at(1.0))
    count(directory, at(59.0))
    assert [row["nodes"] for row in rows(directory).values()] == [1]
    count(directory, at(60.0))
    assert [row["nodes"] for row in rows(directory).values()] == [5_001]
    register(directory, "last", at(60.0))
    count(directory, at(239.0))
    assert [row["nodes"] for row in rows(directory).values()] == [5_001]
    count(directory, at(241.0))
    assert [row["nodes"] for row in rows(directory).values()] == [5_002]


def test_nodes_of_many_pieces_are_counted_each_once() -> None:
    directory = make_directory()
    for number in range(1_000):
        register(directory, f"n{number}", at(0.0), discoverable=number % 4 > 0)
    steps = 0
    while directory.analytics.step(at(1.0)) < 0.1:
        steps += 1
    assert steps == 5
    (row,) = rows(directory).values()
    assert (row["nodes"], row["listed"], row["heard"]["1d"]) == (1_000, 750, 750)
    assert sum(row["availability"]) + row["late"] + row["away"] == 750


def test_transitions_and_nodes_of_a_day_fit_together_at_any_moment(seed: int) -> None:
    chance, directory, now_s = random.Random(seed), make_directory(), 0.0
    former = 0
    for _ in range(60):
        now_s += chance.random() * 30 * DAY_S
        run_until(directory, at(now_s))
        for number in chance.sample(range(40), 4):
            name = f"n{number}"
            if directory.nodes.registry.slot_of(name) is None:
                register(directory, name, at(now_s))
            else:
                beat(directory, name, at(now_s))
        count(directory, at(now_s))
        flows = [flow for row in rows(directory).values() for flow in row["flows"]]
        came = sum(flow[3] for flow in flows if flow[0] in ("absent", "dead") and flow[1] == "active")
        went = sum(flow[3] for flow in flows if flow[1] == "dead")
        assert list(rows(directory).values())[-1]["nodes"] == came - went
        former = came
    assert former


def test_a_restart_goes_on_with_the_day() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "a", at(0.0))
    count(directory, at(0.0))
    register(directory, "b", at(600.0))
    directory.analytics.stop(at(600.0))
    save_all(directory, store, at(600.0))
    again = restarted(store)
    # It was away for an hour, which is no attended time.
    later = at(600.0, wall_shift_s=HOUR_S)
    register(again, "c", later)
    count(again, later)
    (row,) = rows(again).values()
    assert (row["registered"], row["nodes"], row["attended_s"]) == (3, 3, 600.0)
    assert rows(again) == {"2027-01-15": row}
    month = orjson.loads(again.analytics.months["2027-01"])
    assert (month["registered"], month["here"]) == (3, {"2027-01": [3, 3]})


def test_the_census_that_ends_a_month_counts_for_the_next_one_too() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    for day in range(20):
        count(directory, at(day * DAY_S))
        month = orjson.loads(directory.analytics.months[day_at(at(day * DAY_S).wall_s)[:7]])
        assert month["here"] == {"2027-01": [1, 1]}
    assert list(directory.analytics.months) == ["2027-01", "2027-02"]


def test_a_crash_loses_no_more_than_a_minute() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "a", at(0.0))
    count(directory, at(0.0))
    register(directory, "b", at(60.0))
    count(directory, at(60.0))
    save_all(directory, store, at(61.0))
    register(directory, "c", at(70.0))
    save_all(directory, store, at(71.0))
    again = restarted(store)
    count(again, at(71.0, wall_shift_s=9 * HOUR_S))
    (row,) = rows(again).values()
    assert (row["registered"], row["nodes"]) == (2, 3)


def test_a_stop_over_midnights_ends_the_day_and_leaves_the_others_out() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "a", at(0.0))
    count(directory, at(0.0))
    directory.analytics.stop(at(10.0))
    save_all(directory, store, at(10.0))
    again = restarted(store)
    count(again, at(10.0, wall_shift_s=3 * DAY_S))
    found = rows(again)
    assert {date: row["complete"] for date, row in found.items()} == {
        "2027-01-15": True,
        "2027-01-18": False,
    }
    assert found["2027-01-15"]["registered"] == 1


@pytest.mark.parametrize("jump_s", [-7 * HOUR_S, -2 * 365 * DAY_S])
def test_a_clock_that_goes_back_continues_days_that_are_there(jump_s: float) -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    count(directory, at(0.0))
    count(directory, at(MIDNIGHT_S + HOUR_S))
    register(directory, "b", at(MIDNIGHT_S + HOUR_S))
    count(directory, at(MIDNIGHT_S + 2 * HOUR_S, wall_shift_s=jump_s))
    register(directory, "c", at(MIDNIGHT_S + 2 * HOUR_S, wall_shift_s=jump_s))
    count(directory, at(MIDNIGHT_S + 4 * HOUR_S, wall_shift_s=jump_s))
    found = rows(directory)
    back = day_at(at(MIDNIGHT_S + 4 * HOUR_S, wall_shift_s=jump_s).wall_s)
    assert {date for date, row in found.items() if not row["complete"]} == {back}
    assert sum(row["registered"] for row in found.values()) == 3
    assert found["2027-01-16"]["registered"] == 1
    assert found["2027-01-15"]["registered"] == (2 if back == "2027-01-15" else 1)
    # The clock is set right again.
    count(directory, at(MIDNIGHT_S + 5 * HOUR_S))
    assert rows(directory)["2027-01-16"]["registered"] == 1
    assert not rows(directory)["2027-01-16"]["complete"]


def test_the_oldest_days_are_removed_and_months_stay() -> None:
    directory, store = make_directory(analytics_days=40), DictStore()
    register(directory, "a", at(0.0))
    for day in range(100):
        count(directory, at(day * DAY_S))
        save_all(directory, store, at(day * DAY_S))
    # A clock that is wrong by 50 years removes no more than its own days.
    count(directory, at(100 * DAY_S, wall_shift_s=50 * 365 * DAY_S))
    save_all(directory, store, at(100 * DAY_S))
    assert len(directory.analytics.days) == 40
    assert {name for name in store.kept if name.startswith(DAYS)} == {
        f"{DAYS}/{date}" for date in directory.analytics.days
    }
    assert {f"{MONTHS}/2027-01", f"{MONTHS}/2027-03"} <= store.kept.keys()


def test_time_that_stands_still_is_told() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    count(directory, at(0.0))
    for now in (at(0.0), at(40 * DAY_S)):
        directory.expiry.attend(now)
    held = at(40 * DAY_S)
    count(directory, held)
    later = held._replace(wall_s=held.wall_s + 30.0, monotonic_s=held.monotonic_s + 30.0)
    directory.analytics.step(later)
    row = list(rows(directory).values())[-1]
    assert row["held_s"] == 30.0
    (hold,) = row["holds"]
    assert (hold["kind"], hold["since"]) == ("onset", rfc3339(held.wall_s))


def test_damaged_rows_keep_no_day_from_being_counted() -> None:
    directory = make_directory()
    assert (
        len(
            directory.restore_kept(
                [
                    (f"{DAYS}/2027-01-14", b"no row"),
                    (f"{DAYS}/2027-01-15", packed(b'{"date":"2027-01-14"}')),
                    (f"{DAYS}/2027-01-13", packed(b'{"date":"2027-01-13","nodes":1}')[:-3]),
                    (f"{DAYS}/2027-01-12", packed(b" " * 10_000_000)),
                    (f"{MONTHS}/2027-01", packed(b"[]")),
                ]
            )
        )
        == 5
    )
    assert (
        directory.restore_kept([(f"{DAYS}/2027-01-15", packed(b'{"date":"2027-01-15","complete":false}'))])
        == []
    )
    register(directory, "a", at(0.0))
    count(directory, at(0.0))
    assert rows(directory)["2027-01-15"]["registered"] == 1


def busiest_day(chance: random.Random, date: str) -> Day:
    """Return a day of a directory of a million nodes on which everything happens."""
    day = Day(date, forecast=True)
    day.complete, day.attended_s, day.held_s = True, 86_399.873, 12.125
    for (state, event), following in TABLE.items():
        if state is not following and chance.random() < 0.8:
            day.flows[state, following, event.value] = chance.randrange(100_000)
    day.dues, day.expected, day.returned = 24_000_000, 31_234.567, chance.randrange(40_000)
    counts = [chance.randrange(1_000_000) for _ in range(60)]
    day.stock = {
        "counted_at": f"{date}T00:00:00.{chance.randrange(1000):03d}Z",
        "nodes": counts[0],
        "by_state": {state.wire: chance.randrange(1_000_000) for state in LIVE_STATES},
        "listed": counts[1],
        "heard": {"1d": counts[2], "7d": counts[3], "30d": counts[4]},
        "away": counts[5],
        "late": counts[6],
        "became_late": counts[7],
        "known": counts[8],
        "availability": counts[9:17],
        "services": [[f"{chance.getrandbits(64):x}-service", each] for each in counts[17:37]],
        "brier": round(chance.random(), 4),
        "calibration_error": round(chance.random(), 4),
        "dark": 12,
    }
    return day


def test_ten_years_take_five_megabytes(seed: int) -> None:
    chance = random.Random(seed)
    days = [busiest_day(chance, day_at(number * DAY_S)) for number in range(200)]
    of_day = sum(len(packed(day.row())) for day in days) / len(days)
    month = Month("2036-11")
    for name in months_until("2036-11", 120):
        month.here[name] = [chance.randrange(1_000_000), chance.randrange(1_000_000)]
    # The rows of months grow with the months before them.
    of_months = sum(len(packed(month.row())) for _ in range(120)) / 2
    assert TEN_YEARS * of_day + of_months <= 5_000_000


def test_a_replica_has_the_rows_of_its_leader() -> None:
    directory, store = make_directory(), DictStore()
    leading = Leading(directory)
    for day in range(50):
        register(directory, f"n{day}", at(day * DAY_S))
        count(directory, at(day * DAY_S))
    following = Following(make_directory())
    load(following, [unpack_part(pack_part(part, LINK_VERSION)) for part in leading.load()])
    assert following.directory.analytics.days == directory.analytics.days
    assert following.directory.analytics.months == directory.analytics.months

    def commit(now: Now) -> None:
        while (batch := directory.saving.take_changes(1_000, now)) is not None:
            store.commit(batch)
            frame = unpack(pack(leading.frame(batch, now), LINK_VERSION))
            assert {name.partition("/")[0] for name, _ in frame.batch.kept} <= SHARED
            for _ in following.apply(frame):
                pass

    visiting = directory.visiting
    assert visiting is not None
    visiting.calibration.add(0, 0.9, happened=True)
    for day in range(50, 60):
        register(directory, f"n{day}", at(day * DAY_S))
        count(directory, at(day * DAY_S))
        commit(at(day * DAY_S))
    assert following.directory.analytics.days == directory.analytics.days
    followed = following.directory.visiting
    assert followed is not None
    assert followed.calibration.bins == visiting.calibration.bins
    # Another leader removed a day while the link was down.
    directory.nodes.kept.note(f"{DAYS}/2027-01-15", lambda: None)
    commit(at(60 * DAY_S))
    assert "2027-01-15" not in following.directory.analytics.days
    # Or the replica missed the frame that removed it.
    del directory.analytics.days["2027-01-16"]
    for _ in following.resync(leading.load()):
        pass
    assert following.directory.analytics.days == directory.analytics.days


def test_what_was_learned_of_the_chances_survives_a_restart() -> None:
    directory, store = make_directory(), DictStore()
    visiting = directory.visiting
    assert visiting is not None
    for number in range(30):
        visiting.calibration.add(number % 8, number / 30, happened=number % 3 > 0)
    visiting.note_all()
    save_all(directory, store, at(1.0))
    again = restarted(store).visiting
    assert again is not None
    assert again.calibration.bins == visiting.calibration.bins
    assert again.calibration.samples == 0


def test_services_are_counted_among_grouped_and_ungrouped_nodes() -> None:
    directory = make_directory()
    index = directory.nodes.index
    index.groups_max = 3
    for number in range(30):
        services = ("chat", "chat,files", f"one-{number}", f"chat,two-{number}")[number % 4]
        register(directory, f"n{number}", at(0.0), services=services)
    offered = dict(index.offered(20, 1))
    assert offered["chat"] == sum(number % 4 in (0, 1, 3) for number in range(30))
    assert offered["files"] == sum(number % 4 == 1 for number in range(30))
    assert list(dict(index.offered(1, 5))) == ["chat"]
    assert index.offered(20, 24) == []
    (row,) = rows_of_now(directory)
    assert row["services"] == [["chat", 23], ["files", 8]]


def rows_of_now(directory: Directory) -> list[dict[str, Any]]:
    count(directory, at(0.0))
    return list(rows(directory).values())


@given(st.floats(-6e10, 2.5e11, allow_nan=False))
def test_months_follow_each_other(wall_s: float) -> None:
    month = day_at(wall_s)[:7]
    assert month_numbered(number_of(month)) == month
    begin_s = begin_of(month)
    assert begin_s <= round(wall_s, 3) < begin_s + 31 * DAY_S
    before = months_until(month, 14)
    assert before == sorted(before)
    assert before[-1] == month


flows = st.dictionaries(
    st.tuples(st.sampled_from(State), st.sampled_from(State), st.text(min_size=1)), st.integers(1, 10**9)
)


@given(flows, st.integers(0, 10**9), st.floats(0, 1e9), st.booleans())
def test_a_day_goes_on_from_its_row(
    happened: dict[tuple[State, State, str], int], dues: int, expected: float, forecast: bool
) -> None:
    day = Day("2027-01-15", forecast=forecast)
    day.flows.update(happened)
    day.stock = {"nodes": 3, "services": [["a", 1]]}
    if forecast:
        day.dues, day.expected = dues, round(expected, 3)
    day.note_hold("onset", "2027-01-15T00:00:00.000Z", 'a "complete":false reason')
    assert b'"complete":false' in day.row()
    again = Day.of(day.row(), forecast=forecast)
    assert again.row() == day.row()
    again.complete = True
    assert b'"complete":false' not in again.row()


def test_rows_are_compressed_json() -> None:
    assert zlib.decompress(packed(Month("2027-01").row())) == Month("2027-01").row()
