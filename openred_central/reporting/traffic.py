"""The figures of the requests that a process serves, and their sum over the workers of an owner.

A worker packs its figures, the owner adds them up: counters of a worker that ended stay in the sum, so that
no counter ever falls.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import fields
from functools import reduce
from typing import Any, Final, NamedTuple

from ..api.caller.limiting import Refusals
from ..api.feed.broadcast import Broadcast
from ..histogram import Histogram
from ..logs import lines_dropped
from ..micro_engine.engine import Engine
from ..micro_engine.shared import Stats
from ..tasks.stall_meter import StallMeter
from .process import process_figures

# Seconds that were packed are multiples of a power of two, so that their sums are exact in any order: a sum
# that is rounded would sometimes fall a little when its parts are put together in another way.
_STEPS_PER_S: Final = float(1 << 20)
_OF_STATS: Final = tuple(field.name for field in fields(Stats))


class Served(NamedTuple):
    """The figures of an engine, or of several.

    `answers` counts by method and template, such as ``GET /nodes``, and by status class like
    `Stats.responses`.
    """

    stats: Stats
    answers: dict[str, list[int]]
    connections_open: int
    connections_max: int


class Traffic(NamedTuple):
    """All figures of the requests of one process, or of several.

    `limited` and `unproved` are as in `Refusals`; `stalls` are those of the loop. The last fields are figures
    of workers alone: requests handed on to the owner by `forwarded` outcome, `lag` from the commit of a frame
    to its application, and what the system tells of the process.
    """

    served: Served
    subscribers: int
    subscribers_max: int
    subscribers_dropped: int
    subscribers_refused: int
    limited: dict[str, int]
    unproved: dict[str, int]
    log_lines_dropped: int
    stalls: Histogram
    forwarded: dict[str, int]
    lag: Histogram
    processor_s: float
    resident_bytes: int


def read_served(engine: Engine) -> Served:
    """Return the figures of `engine`; they go on counting with it."""
    answers = {f"{route.method} {route.template}": route.responses for route in engine.routes()}
    return Served(engine.stats, answers, engine.connections_open, engine.limits.connections_max)


def read_traffic(engine: Engine, broadcast: Broadcast, stalls: StallMeter, refusals: Refusals) -> Traffic:
    """Return the figures of this process, which go on counting; those of workers alone are zero."""
    return Traffic(
        served=read_served(engine),
        subscribers=broadcast.places_taken,
        subscribers_max=broadcast.subscribers_max,
        subscribers_dropped=broadcast.dropped,
        subscribers_refused=broadcast.refused,
        limited=refusals.by_policy,
        unproved=refusals.by_reason,
        log_lines_dropped=lines_dropped(),
        stalls=stalls.stalls,
        forwarded={},
        lag=Histogram(),
        processor_s=0.0,
        resident_bytes=0,
    )


def of_worker(traffic: Traffic, forwarded: dict[str, int], lag: Histogram) -> Traffic:
    """Return `traffic` of this process, which is a worker, with the figures of workers alone."""
    process = process_figures()
    return traffic._replace(
        forwarded=forwarded,
        lag=lag,
        processor_s=process.processor_s,
        resident_bytes=process.resident_bytes or 0,
    )


def pack(traffic: Traffic) -> dict[str, Any]:
    """Return `traffic` as plain data for JSON. Parts of it go on counting, so encode it at once."""
    return {name: _packed(value) for name, value in traffic._asdict().items()}


def unpack(plain: object) -> Traffic:
    """Return what `pack` packed. Raises `ValueError`."""
    traffic: Traffic = _unpacked(plain, _SHAPE, "the figures")
    return traffic


def add(one: Traffic, other: Traffic) -> Traffic:
    """Return the figures of both together."""
    return Traffic._make(map(_added, one, other))


class Sums:
    """The figures of an owner with its workers, which have names; a call returns them.

    `own` reads the traffic of the owner, whose engine serves what workers hand on. `running` is how many
    workers report; `restarts` how many ended, each of which is replaced.
    """

    def __init__(self, own: Callable[[], Traffic]) -> None:
        self._own = own
        self._reported: dict[str, Traffic] = {}
        self._ended: Traffic | None = None
        # The sum over all workers, until one reports again.
        self._sum: Traffic | None = None
        self.restarts = 0

    @property
    def running(self) -> int:
        return len(self._reported)

    def report(self, worker: str, plain: object) -> None:
        """Take what `worker` packed, in place of its last report. Raises `ValueError`."""
        self._reported[worker] = unpack(plain)
        self._sum = None

    def ended(self, worker: str) -> None:
        """Keep the counters of `worker`, which is gone. One of its name begins at zero."""
        self.restarts += 1
        last = self._reported.pop(worker, None)
        if last is not None:
            counters = _counters(last)
            self._ended = counters if self._ended is None else add(self._ended, counters)
            self._sum = None

    def __call__(self) -> Traffic:
        own = _own_share(self._own())
        if self._sum is None:
            parts = [*self._reported.values(), *([self._ended] if self._ended is not None else [])]
            self._sum = reduce(add, parts) if parts else None
        # The owner's seconds are not those that were packed, so they come last.
        return own if self._sum is None else add(self._sum, own)


def _counters(traffic: Traffic) -> Traffic:
    """Return `traffic` with all at zero that is no counter."""
    served = traffic.served._replace(connections_open=0, connections_max=0)
    return traffic._replace(served=served, subscribers=0, subscribers_max=0, resident_bytes=0)


def _own_share(own: Traffic) -> Traffic:
    """Return what no worker counts: refusals, bugs and stalls of the owner itself.

    Each request was counted by the worker that handed it on. All routes are there from the start, at zero.
    """
    answers = {name: [0] * len(counts) for name, counts in own.served.answers.items()}
    served = Served(Stats(handler_failures=own.served.stats.handler_failures), answers, 0, 0)
    return _counters(own)._replace(served=served)


_SHAPE: Final = Traffic(
    served=Served(Stats(), {"": Stats().responses}, 0, 0),
    subscribers=0,
    subscribers_max=0,
    subscribers_dropped=0,
    subscribers_refused=0,
    limited={"": 0},
    unproved={"": 0},
    log_lines_dropped=0,
    stalls=Histogram(),
    forwarded={"": 0},
    lag=Histogram(),
    processor_s=0.0,
    resident_bytes=0,
)


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of a value that has some."""
    if isinstance(value, Histogram):
        return {"counts": value.counts, "sum_s": value.sum_s}
    if isinstance(value, Stats):
        return {name: getattr(value, name) for name in _OF_STATS}
    return value._asdict() if isinstance(value, Served | Traffic) else None


def _made(like: Any, values: dict[str, Any]) -> Any:
    """Return a value of the type of `like` with these fields."""
    if isinstance(like, Histogram):
        made = Histogram(like.bounds)
        made.counts, made.sum_s = values["counts"], values["sum_s"]
        return made
    return type(like)(**values)


def _packed(value: Any) -> Any:
    if isinstance(value, int | float | list):
        return value
    of_value = _fields(value)
    return {name: _packed(each) for name, each in (value if of_value is None else of_value).items()}


def _added(one: Any, other: Any) -> Any:
    """Return the sum of two values of one kind, part by part."""
    if isinstance(one, int | float):
        return one + other
    if isinstance(one, list):
        return list(map(operator.add, one, other))
    if isinstance(one, dict):
        return {**one, **other, **{name: _added(one[name], other[name]) for name in one if name in other}}
    of_one, of_other = _fields(one) or {}, _fields(other) or {}
    return _made(one, {name: _added(value, of_other[name]) for name, value in of_one.items()})


def _unpacked(plain: Any, like: Any, name: str) -> Any:
    """Return the value that was packed as `plain`, of the kind of `like`. Raises `ValueError`."""
    if isinstance(like, int | float):
        return _number(plain, like, name)
    if isinstance(like, list):
        if not isinstance(plain, list) or len(plain) != len(like):
            raise _damaged(name, plain, f"an array of {len(like)}")
        return [_number(value, like[0], name) for value in plain]
    if not isinstance(plain, dict):
        raise _damaged(name, plain, "an object")
    if isinstance(like, dict):
        return {each: _unpacked(value, like[""], f"{name} of {each!r}") for each, value in plain.items()}
    of_like = _fields(like) or {}
    if plain.keys() != of_like.keys():
        raise _damaged(name, plain, f"an object with {', '.join(of_like)}")
    return _made(like, {each: _unpacked(plain[each], of_like[each], each) for each in of_like})


def _number(plain: Any, like: float, name: str) -> float:
    if type(plain) is int and plain >= 0:
        return plain
    if isinstance(like, float) and isinstance(plain, float) and math.isfinite(plain) and plain >= 0:
        return round(plain * _STEPS_PER_S) / _STEPS_PER_S
    raise _damaged(name, plain, "seconds from 0" if isinstance(like, float) else "a whole number from 0")


def _damaged(name: str, plain: object, allowed: str) -> ValueError:
    return ValueError(f"figures of a worker are damaged: {name} is {repr(plain)[:60]}, not {allowed}")
