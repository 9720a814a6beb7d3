"""Habits, visits and returns against oracles: float models, exact clients, and sums that must be kept."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from openred_central.directory.discovery import Query
from openred_central.directory.empathy import visiting
from openred_central.directory.empathy.on_time import FOLLOWS, SMOOTHING, logit, steady_odds
from openred_central.directory.empathy.returns import EDGES_S, Returns
from openred_central.directory.life.pace import CELL, Pace
from openred_central.directory.lifecycle import State
from openred_central.directory.octaves import seconds_of
from openred_central.directory.state.habits import (
    FULL,
    HOURS,
    ON_TIME_FIRST,
    ON_TIME_WEIGHT,
    PROFILE_BYTES,
    PROFILE_WEIGHT,
    USUAL_WEIGHT,
    Habits,
    Noise,
)
from tests.directory.empathy.diary import HOUR_S, Diary
from tests.support.building import DAY_S


def test_bytes_follow_a_model_in_floats(seed: int) -> None:
    """Over many nodes, rounding adds no bias, and little noise to each."""
    chance = random.Random(seed)
    errors, on_time_errors, octaves = [], [], []
    for node in range(40):
        habits = Habits()
        habits.make_room(1)
        habits.begin(0, f"n{node}", 1)
        profile, on_time, usual = [1 / 3] * HOURS, ON_TIME_FIRST / FULL, 0.0
        for second in range(400):
            noise, hour = Noise(node, second), chance.randrange(HOURS)
            if chance.random() < 0.7:
                habits.was_up(0, hour, 1.0, noise)
                profile[hour] += PROFILE_WEIGHT * (1 - profile[hour])
                habits.met(0, noise)
                on_time += ON_TIME_WEIGHT * (1 - on_time)
            else:
                hours = chance.randrange(1, 60)
                habits.was_down(0, hour, hours, noise)
                for number in range(hours):
                    profile[(hour + number) % HOURS] *= 1 - PROFILE_WEIGHT
                habits.missed(0, noise)
                on_time *= 1 - ON_TIME_WEIGHT
                absence_s = chance.lognormvariate(math.log(DAY_S), 1.0)
                habits.came_back(0, absence_s, noise)
                code = next(code for code in range(256) if seconds_of(code) >= absence_s)
                usual = code if not usual else usual + USUAL_WEIGHT * (code - usual)
        habit = habits.read(0)
        errors += [share - model for share, model in zip(habit.profile, profile, strict=True)]
        on_time_errors.append(habit.on_time - on_time)
        octaves.append(habit.usual - usual)
    assert abs(sum(errors) / len(errors)) < 0.02
    assert sum(map(abs, errors)) / len(errors) < 0.1
    assert max(map(abs, on_time_errors)) < 0.05
    assert abs(sum(octaves) / len(octaves)) < 1.0


@pytest.mark.parametrize("days", [0, 1, 3, 23])
def test_an_absence_over_midnight_counts_for_its_hours_alone(days: int) -> None:
    first_hour, rest, nodes = 22, 5, 2_000
    means = [0.0] * HOURS
    for node in range(nodes):
        habits = Habits()
        habits.make_room(1)
        habits.begin(0, f"n{node}", 1)
        habits.was_down(0, first_hour, days * HOURS + rest, Noise(node, node))
        means = [mean + share / nodes for mean, share in zip(means, habits.read(0).profile, strict=True)]
    down = {(first_hour + number) % HOURS for number in range(rest)}
    expected = [(1 - PROFILE_WEIGHT) ** (days + (hour in down)) / 3 for hour in range(HOURS)]
    assert means == pytest.approx(expected, abs=0.003)


def test_hours_around_count_by_their_weights(seed: int) -> None:
    chance, habits = random.Random(seed), Habits()
    habits.make_room(1)
    for hour in range(HOURS):
        habits.profile[:PROFILE_BYTES] = chance.randbytes(PROFILE_BYTES)
        profile = habits.read(0).profile
        total = sum(weight for _, weight in SMOOTHING)
        smooth = sum(weight * profile[(hour + offset) % HOURS] for offset, weight in SMOOTHING) / total
        first, at_hour, on_time, mean = FOLLOWS
        expected = first + at_hour * logit(smooth) + on_time * logit(0) + mean * logit(sum(profile) / HOURS)
        assert steady_odds(habits, 0, hour, obeys=True) == pytest.approx(expected)


@pytest.mark.parametrize("pace_s", [HOUR_S, DAY_S])
def test_an_exact_client_meets_one_due_in_each_cell(pace_s: float) -> None:
    pace, beats = Pace(pace_s), 20_000
    for slot in (0, 1, 77, 123_456):
        now_s = 12_345.0
        for _ in range(beats):
            now_s += pace.advice_s(slot, now_s)
        assert abs((now_s - 12_345.0) / (pace_s * CELL) - beats) <= 1.5


def test_a_beat_before_the_due_moves_no_later_one() -> None:
    pace, chance = Pace(DAY_S), random.Random(3)
    for slot in range(200):
        now_s = chance.uniform(0, 1e7)
        due_s = now_s + pace.advice_s(slot, now_s)
        early_s = chance.uniform(now_s, due_s)
        told_s = early_s + pace.advice_s(slot, early_s)
        if due_s - early_s > 0.15 * DAY_S * CELL + 1:
            assert abs(told_s - due_s) <= 1.0
        else:
            assert told_s > due_s


@pytest.mark.parametrize("piece", [1, 16, 128])
def test_a_visit_learns_as_much_in_any_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def learned() -> bytes:
        diary, chance = Diary(HOUR_S), random.Random(1)
        slots = [diary.register(f"n{number}") for number in range(150)]
        for _ in range(60):
            diary.now_s += HOUR_S
            for slot in slots:
                if chance.random() < 0.8:
                    diary.beat(slot)
            for _ in range(len(diary.habits.paces) // visiting.PIECE_SLOTS):
                diary.visiting.visit(diary.now())
        return b"".join(diary.habits.pack(chunk, 0.0) for chunk in range(diary.habits.chunks))

    monkeypatch.setattr(visiting, "PIECE_SLOTS", 32)
    expected = learned()
    monkeypatch.setattr(visiting, "PIECE_SLOTS", piece)
    assert learned() == expected


def test_the_time_of_lateness_is_counted_once(seed: int) -> None:
    diary, chance = Diary(DAY_S), random.Random(seed)
    slot, late_s = diary.register("a"), 0.0
    diary.pass_s(2 * HOUR_S)
    for _ in range(20):
        due_s = diary.now_s + diary.beat(slot)
        diary.pass_s(due_s - diary.now_s + chance.uniform(1.5, 40) * DAY_S)
        late_s += diary.now_s - due_s
        diary.beat(slot)
        diary.pass_s(chance.uniform(1.1, 2) * HOUR_S)
    exposed_s = sum(map(sum, diary.forecast.returns.exposure_s))
    # Old counts weigh a little less, and only one return of a day counts.
    assert 0.6 * late_s < exposed_s <= 1.01 * late_s


def test_returns_agree_with_the_share_that_came_back(seed: int) -> None:
    chance, returns = random.Random(seed), Returns()
    absences_s = [chance.lognormvariate(math.log(2 * DAY_S), 1.2) for _ in range(4_000)]
    censored_s = 30 * DAY_S
    for absence_s in absences_s:
        returns.expose(5, 0.0, min(absence_s, censored_s), returned=absence_s <= censored_s)
    returns.refresh()
    for edge_s in EDGES_S[4:]:
        if edge_s < censored_s:
            share = sum(absence_s <= edge_s for absence_s in absences_s) / len(absences_s)
            error = math.sqrt(max(share * (1 - share), 0.001) / len(absences_s))
            assert abs(returns.chance(5, 0.0, edge_s) - share) < 4 * error + 0.005


def test_returns_are_expected_by_the_chances_that_are_told(seed: int) -> None:
    chance, returns = random.Random(seed), Returns()
    for _ in range(200):
        from_s, to_s = sorted(chance.lognormvariate(math.log(DAY_S), 2.0) for _ in range(2))
        before = returns.expected
        returns.expose(5, from_s, to_s, returned=False)
        told = returns.chance(5, from_s, to_s - from_s)
        assert returns.expected - before == pytest.approx(-math.log1p(-told), abs=1e-6)


def test_the_draw_is_fair_within_a_grade() -> None:
    diary = Diary(DAY_S)
    slots = [diary.register(f"n{number}", services="chat") for number in range(60)]
    diary.pass_s(2 * HOUR_S)
    for slot in slots:
        diary.habits.odds[slot] = 100 if slot % 2 else -40
        diary.habits.due_s[slot] = int(diary.now_s + DAY_S)
        diary.directory.nodes.registry.last_seen_s[slot] = diary.now_s - 6 * HOUR_S
    diary.forecast.usual_score = 0.9
    drawn: Counter[int] = Counter()
    for _ in range(3_000):
        draw = diary.directory.discover(
            Query(frozenset({"chat"}), (State.ACTIVE,), max_results=5), diary.now()
        )
        found = draw.step()
        assert found is not None
        drawn.update(found.slots)
    likely = [drawn[slot] for slot in slots if slot % 2]
    mean = sum(likely) / len(likely)
    assert sum((count - mean) ** 2 / mean for count in likely) < 62
    # At most twice the fair share.
    assert sum(likely) <= 2 * 3_000 * 5 / 2
    assert sum(likely) > 0.85 * 3_000 * 5
