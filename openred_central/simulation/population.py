"""Generated populations: nodes of named classes that are up and down by the laws of their class.

Everything is drawn from one `random.Random`. On the scale of hours, nodes follow the time of day. On that
of months, they sleep for weeks or longer, and some never return.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import NamedTuple

from ..directory.lifecycle import DAY_S

HOUR_S = 3_600.0
YEAR_S = 365 * DAY_S
# The time of a trace begins on a Monday at 0 h.
MONDAY_S = 4 * DAY_S

Span = tuple[float, float]


class Presence(NamedTuple):
    """One node: the spans in which it was `up`, and those in which it was `observed`, both in order.

    `kind` is its class in a generated population.
    """

    name: str
    up: list[Span]
    observed: list[Span]
    kind: str = ""


Draw = Callable[[Random], float]
Life = Callable[[Random, float], Iterator[Span]]


def lognormal(median_s: float, sigma: float) -> Draw:
    mu = math.log(median_s)
    return lambda chance: chance.lognormvariate(mu, sigma)


def weibull(scale_s: float, shape: float) -> Draw:
    return lambda chance: chance.weibullvariate(scale_s, shape)


def mostly(draws: list[Draw], odds: list[float]) -> Draw:
    return lambda chance: chance.choices(draws, odds)[0](chance)


def _alternating(
    up: Draw, down: Draw, quits_per_year: float, chance: Random, length_s: float
) -> Iterator[Span]:
    """Yield spans of a node that alternates; it never returns after a time with the given rate."""
    ends_s = chance.expovariate(quits_per_year / YEAR_S) if quits_per_year else math.inf
    # Some nodes begin in the middle of a pause.
    at = chance.random() * min(down(chance), length_s / 4)
    while at < length_s:
        end = at + up(chance)
        if end >= ends_s:
            yield at, max(at + HOUR_S, ends_s)
            return
        yield at, end
        at = end + down(chance)


def _zone_s(chance: Random) -> float:
    return chance.random() * DAY_S


def _days(length_s: float, zone_s: float) -> Iterator[tuple[int, float]]:
    """Yield the weekday, 0 for Monday, and the begin of each day of a node whose clock is `zone_s` ahead."""
    for day in range(-1, int(length_s / DAY_S) + 2):
        yield day % 7, day * DAY_S - zone_s


def _evening(quits_after: bool, chance: Random, length_s: float) -> Iterator[Span]:
    """Yield evenings from 18 to 23 h; with `quits_after`, until a day on which they end for ever."""
    zone_s, noise = _zone_s(chance), partial(chance.gauss, 0.0, 0.7 * HOUR_S)
    stops_s = chance.uniform(0.15, 0.9) * length_s if quits_after else math.inf
    for _, midnight in _days(length_s, zone_s):
        start, end = midnight + 18 * HOUR_S + noise(), midnight + 23 * HOUR_S + noise()
        if chance.random() >= 0.12 and start < stops_s and end > start:
            yield start, end


def _office_hours(chance: Random, length_s: float) -> Iterator[Span]:
    zone_s, noise = _zone_s(chance), partial(chance.gauss, 0.0, 0.4 * HOUR_S)
    for weekday, midnight in _days(length_s, zone_s):
        if weekday < 5 and chance.random() >= 0.06:
            yield midnight + 8 * HOUR_S + noise(), midnight + 17.5 * HOUR_S + noise()


def _bursts_by_day(chance: Random, length_s: float) -> Iterator[Span]:
    """Yield bursts of a laptop between 9 and 23 h."""
    zone_s = _zone_s(chance)
    up, pause = lognormal(0.6 * HOUR_S, 1.0), lognormal(1.2 * HOUR_S, 1.0)
    for _, midnight in _days(length_s, zone_s):
        at, end = midnight + 9 * HOUR_S + pause(chance), midnight + 23 * HOUR_S
        while at < end:
            stop = at + up(chance)
            yield at, min(stop, end)
            at = stop + pause(chance)


def _phone(chance: Random, length_s: float) -> Iterator[Span]:
    """Yield short spans with short pauses, which are much longer at night."""
    zone_s = _zone_s(chance)
    up, pause = lognormal(0.2 * HOUR_S, 1.2), lognormal(0.7 * HOUR_S, 1.2)
    at = pause(chance)
    while at < length_s:
        stop = at + up(chance)
        yield at, stop
        hour = (stop + zone_s) % DAY_S / HOUR_S
        at = stop + pause(chance) * (1 / 0.15 if hour < 7 or hour >= 23 else 1.0)


def _handset(chance: Random, length_s: float) -> Iterator[Span]:
    """Yield spans of a node that is up while it charges, at a pace of its own and mostly in the evening."""
    zone_s = _zone_s(chance)
    up = lognormal(HOUR_S * math.exp(chance.uniform(-1.2, 1.1)), 1.0)
    pause = lognormal(HOUR_S * math.exp(chance.uniform(0.4, 2.4)), 0.9)
    at = pause(chance)
    while at < length_s:
        stop = at + up(chance)
        yield at, stop
        hour = (stop + zone_s) % DAY_S / HOUR_S
        at = stop + pause(chance) * (3.0 if hour < 15 else 1.0)


def _season(chance: Random, length_s: float) -> Iterator[Span]:
    up = lambda chance: chance.uniform(60, 150) * DAY_S  # noqa: E731
    down = lambda chance: chance.uniform(150, 260) * DAY_S  # noqa: E731
    yield from _alternating(up, down, 0.08, chance, length_s)


def _one_shot(chance: Random, length_s: float) -> Iterator[Span]:
    start = chance.random() * length_s * 0.9
    yield start, start + max(HOUR_S, chance.weibullvariate(1.0 * DAY_S, 0.7))


_DAYS_OFF = mostly(
    [lognormal(days * DAY_S, 0.1) for days in (1.7, 2.7, 9, 16, 23)], [0.3, 0.45, 0.1, 0.1, 0.05]
)

# Hour scale.
LIVES: dict[str, Life] = {
    "server": partial(_alternating, weibull(30 * DAY_S, 0.8), lognormal(0.5 * HOUR_S, 1.5), 0.0),
    "long": partial(_alternating, lognormal(2.5 * DAY_S, 0.8), lognormal(3 * DAY_S, 0.9), 0.0),
    "evening": partial(_evening, False),
    "dying": partial(_evening, True),
    "office": _office_hours,
    "laptop": _bursts_by_day,
    "phone": _phone,
    "handset": _handset,
    # Month scale.
    "server_m": partial(_alternating, weibull(60 * DAY_S, 0.8), lognormal(0.08 * DAY_S, 1.5), 0.08),
    "laptop_m": partial(_alternating, weibull(6 * DAY_S, 0.7), lognormal(1.2 * DAY_S, 1.3), 0.25),
    "hobby_m": partial(_alternating, weibull(20 * DAY_S, 0.7), lognormal(5 * DAY_S, 1.6), 0.6),
    "office_m": partial(_alternating, lambda chance: chance.uniform(4, 9) * DAY_S, _DAYS_OFF, 0.12),
    "weekly_m": partial(_alternating, weibull(60 * DAY_S, 0.9), lognormal(6 * DAY_S, 1.2), 0.15),
    "sleeper_m": partial(_alternating, weibull(45 * DAY_S, 1.2), lognormal(95 * DAY_S, 0.45), 0.10),
    "season_m": _season,
    "oneshot_m": _one_shot,
}

MIXES: dict[str, dict[str, float]] = {
    "hours": {
        "server": 0.25,
        "long": 0.15,
        "evening": 0.2,
        "dying": 0.05,
        "office": 0.15,
        "laptop": 0.1,
        "phone": 0.1,
    },
    "phones": {"phone": 0.3, "handset": 0.6, "laptop": 0.1},
    "home": {
        "server_m": 0.15,
        "office_m": 0.1,
        "laptop_m": 0.3,
        "weekly_m": 0.05,
        "sleeper_m": 0.08,
        "season_m": 0.04,
        "hobby_m": 0.13,
        "oneshot_m": 0.15,
    },
    "servers": {"server_m": 0.8, "laptop_m": 0.05, "hobby_m": 0.1, "oneshot_m": 0.05},
    "sleepers": {"server_m": 0.1, "laptop_m": 0.1, "sleeper_m": 0.4, "season_m": 0.2, "hobby_m": 0.2},
}


# Mixes on the scale of hours; the others are on that of months.
HOUR_MIXES = ("hours", "phones")


def generated(mix: str, nodes: int, length_s: float, chance: Random) -> list[Presence]:
    """Return `nodes` nodes of one of `MIXES` for so many seconds, without those that are never up."""
    found = []
    for number, (name, spans) in enumerate(lives(mix, nodes, length_s, chance)):
        up = [(MONDAY_S + start, MONDAY_S + end) for start, end in spans]
        if up:
            kind = name.removesuffix("_m")
            found.append(Presence(f"{kind}-{number}", up, [(MONDAY_S, MONDAY_S + length_s)], kind))
    return found


def lives(mix: str, nodes: int, length_s: float, chance: Random) -> Iterator[tuple[str, Iterator[Span]]]:
    """Yield the class of each of `nodes` nodes, in shares as exact as can be, and when it is up.

    Its spans are in order, do not overlap, and lie between 0, on a Monday at 0 h, and `length_s`.
    """
    shares = MIXES[mix]
    classes: list[str] = []
    for name, share in shares.items():
        classes += [name] * round(share * nodes)
    classes = (classes + chance.choices(list(shares), list(shares.values()), k=nodes))[:nodes]
    chance.shuffle(classes)
    for name in classes:
        own = Random(chance.getrandbits(64))
        yield name, _tidy(LIVES[name](own, length_s), length_s)


def _tidy(spans: Iterator[Span], length_s: float) -> Iterator[Span]:
    """Yield spans in order that do not overlap, within the length."""
    last = 0.0
    for start, end in spans:
        # Comparisons, because `min` and `max` are slower.
        if start < last:
            start = last
        if end > length_s:
            end = length_s
        if end > start:
            yield start, end
            last = end + 1.0
