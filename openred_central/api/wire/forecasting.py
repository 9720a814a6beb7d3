"""Expectations of one node, as JSON and in words.

When somebody is at home is personal: strangers are told grades, and nothing of hours and absences. The node
itself, operators, and all where the operator chose so are told the rest.
"""

from __future__ import annotations

from typing import Any, Final

from ...clock import Now
from ...directory.directory import Directory
from ...directory.empathy.forecast import AWAY_SCORE, HORIZONS_S, LATE_FOLLOWS, TOLD, Expected, Forecast
from ...directory.lifecycle import DAY_S
from ...directory.octaves import seconds_of
from ...directory.state.habits import DAYS_KNOWN, FULL, HOURS, Habit
from ...directory.state.node import UNREMEMBERED
from ...wording import counted, rfc3339, span

HORIZON_NAMES: Final = tuple(f"{round(horizon_s / DAY_S)}d" for horizon_s in HORIZONS_S)
# Usual hours are told where they are few, and differ enough from the others.
USUAL_SHARE: Final = 0.8
USUAL_HOURS_MAX: Final = 14
USUAL_RANGE_MIN: Final = 0.3
ANY_HOUR_MIN: Final = 0.6


def forecast_of(directory: Directory, slot: int, now: Now, *, private: bool) -> dict[str, Any] | None:
    """Return what is expected of the node in `slot`; None if the directory keeps no habits.

    With `private`, nothing is held back.
    """
    forecast = directory.forecast
    if forecast is None:
        return None
    expected, habit = forecast.expected(slot, now.attended_s), directory.nodes.habits.read(slot)
    if directory.nodes.registry.flags[slot] & UNREMEMBERED:
        habit = habit._replace(days=0)
    longest_s = seconds_of(directory.nodes.registry.longest[slot])
    sentences = [_now_in_words(expected, now, private=private)]
    sentences += _habit_in_words(habit, longest_s) if private and habit.days else []
    sentences.append(_basis_in_words(directory, slot, habit))
    told = {
        "now": round(expected.now, 2) if private else _coarse(forecast, slot, now),
        "late": expected.late,
        "days": habit.days,
        "basis": "own" if habit.days >= DAYS_KNOWN else "others",
        "back_within": {
            name: round(chance, 2 if private else 1)
            for name, chance in zip(HORIZON_NAMES, expected.back_within, strict=True)
        },
        "words": " ".join(sentences),
    }
    return {**told, "private": _private(expected, habit, longest_s, now)} if private else told


def _coarse(forecast: Forecast, slot: int, now: Now) -> float:
    """Return the chance that a node is up as strangers are told it, like `availability`."""
    (score,) = forecast.scores([slot], now.attended_s)
    if score == AWAY_SCORE:
        return 0.0
    return score if score in TOLD else LATE_FOLLOWS


def _private(expected: Expected, habit: Habit, longest_s: float, now: Now) -> dict[str, Any]:
    hours = usual_hours(habit)
    return {
        "due_at": rfc3339(now.wall_at(expected.due_s)) if expected.due_s else None,
        "hours": [round(share, 2) for share in habit.profile] if habit.days else None,
        "usual_hours": "{:02d}:00-{:02d}:00Z".format(*hours) if hours else None,
        "usual_absence_s": seconds_of(habit.usual) if habit.absences else None,
        "longest_absence_s": longest_s or None,
        "absences": habit.absences,
        "follows_advice": habit.follows,
    }


def _now_in_words(expected: Expected, now: Now, *, private: bool) -> str:
    if not expected.late:
        if not private:
            return _graded(expected.now)
        return f"It is up now with a chance of {_percent(expected.now)} %."
    day, week, _, half_year = map(_percent, expected.back_within)
    was_due = f"It was due at {rfc3339(now.wall_at(expected.due_s))} and was not heard since."
    late = was_due if private and expected.due_s else "It is overdue."
    if not private:
        return late
    return (
        f"{late} Such nodes are back within a day in {day} of 100 cases, within a week in {week}, and within "
        f"half a year in {half_year}."
    )


def _graded(chance: float) -> str:
    if chance >= 0.9:
        return "It is very probably up now."
    if chance >= 0.6:
        return "It is probably up now."
    if chance >= 0.4:
        return "It may be up now, or not."
    return "It is probably not up now."


def _habit_in_words(habit: Habit, longest_s: float) -> list[str]:
    sentences = []
    hours = usual_hours(habit)
    if hours:
        sentences.append("It is usually there between {:d} and {:d} h UTC.".format(*hours))
    elif habit.days >= DAYS_KNOWN and min(habit.profile) >= ANY_HOUR_MIN:
        sentences.append("It is usually there at any hour.")
    if not habit.absences:
        sentences.append("It was never away so far.")
        return sentences
    more = "" if habit.absences < FULL else " or more"
    times = "once" if habit.absences == 1 else f"{habit.absences}{more} times"
    longest = f", its longest was {_about(longest_s)}" if longest_s else ""
    sentences.append(
        f"Its usual absence is {_about(seconds_of(habit.usual))}{longest}; it came back {times}."
    )
    return sentences


def _basis_in_words(directory: Directory, slot: int, habit: Habit) -> str:
    if directory.nodes.registry.flags[slot] & UNREMEMBERED:
        return "Nothing is remembered of it, as its owner wished."
    if habit.days < DAYS_KNOWN:
        known = counted(max(habit.days, 1), "day")
        return f"It was heard on {known} so far, so this rests on nodes like it."
    days = f"{habit.days} days" if habit.days < FULL else f"more than {FULL - 1} days"
    if not habit.follows:
        return (
            f"This rests on its own history of {days}. It does not follow the advised pace, which makes its "
            "hours uncertain."
        )
    return f"This rests on its own history of {days}."


def usual_hours(habit: Habit) -> tuple[int, int] | None:
    """Return the hours of the day, in UTC, between which a node usually is there; None without any.

    It is the shortest run of hours, round the clock, that holds most of what exceeds the mean.
    """
    profile = habit.profile
    if habit.days < DAYS_KNOWN or max(profile) - min(profile) < USUAL_RANGE_MIN:
        return None
    mean = sum(profile) / HOURS
    excess = [max(share - mean, 0.0) for share in profile]
    least = USUAL_SHARE * sum(excess)
    for length in range(1, USUAL_HOURS_MAX + 1):
        held, start = max(
            (sum(excess[(start + number) % HOURS] for number in range(length)), -start)
            for start in range(HOURS)
        )
        if held >= least:
            return -start, (-start + length) % HOURS
    return None


def _about(seconds: float) -> str:
    """Return a duration in its largest unit."""
    return " ".join(span(seconds).split(" ")[:2])


def _percent(chance: float) -> int:
    """Return a chance in whole per cent; none is certain."""
    return min(max(round(100 * chance), 1), 99)
