"""Figures of several processes as one: nothing is counted twice, and no counter falls when a worker ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.caller.limiting import Refusals
from openred_central.api.feed.broadcast import Broadcast
from openred_central.api.feed.event_log import EventFeed, EventLog
from openred_central.histogram import Histogram
from openred_central.micro_engine.engine import Engine
from openred_central.reporting.figures import LiveFigures, Parts, performance
from openred_central.reporting.traffic import Sums, Traffic, of_worker, pack, read_traffic, unpack
from openred_central.tasks.stall_meter import StallMeter

from .test_figures import advance, make_parts

BEAT = "POST /heartbeat/{node_id}"
OUTCOMES = ("answered", "failed")
# All that an ended worker takes with it.
LEVELS = {
    "served.connections_open",
    "served.connections_max",
    "subscribers",
    "subscribers_max",
    "resident_bytes",
}


class Process:
    """The parts of one process that are counted."""

    def __init__(self, *routes: str) -> None:
        self.engine = Engine()
        self.parts = make_parts(self.engine)

        async def answer(request: Any) -> None: ...

        for route in routes:
            self.engine.route(route)(answer)
        feed = EventFeed(EventLog("run"), self.parts.directory.nodes)
        self.broadcast = Broadcast(feed, dict, lambda: 0.0, subscribers_max=7)
        self.stalls = StallMeter(self.parts.clock)
        self.refusals = Refusals(["register", "discover"])
        self.forwarded = dict.fromkeys(OUTCOMES, 0)
        self.lag = Histogram()

    def traffic(self) -> Traffic:
        return read_traffic(self.engine, self.broadcast, self.stalls, self.refusals)

    def report(self) -> Any:
        """Return the figures as they come over the link from a worker."""
        return orjson.loads(orjson.dumps(pack(of_worker(self.traffic(), self.forwarded, self.lag))))

    def serve(self, count: int, seconds: float = 0.001) -> None:
        """Answer beats, refuse some, and be late."""
        stats = self.engine.stats
        stats.requests += count
        stats.responses[2] += count
        stats.bytes_in += 3 * count
        next(self.engine.routes()).responses[2] += count
        stats.latency.observe(seconds, count)
        self.stalls.stalls.observe(seconds)
        self.lag.observe(seconds)
        self.refusals.limited("discover")
        self.forwarded["answered"] += count
        self.broadcast.dropped += 1


def flat(plain: Mapping[str, Any], beginning: str = "") -> Iterator[tuple[str, float]]:
    """Yield each number of packed figures with the path to it."""
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{beginning}{name}.")
        elif isinstance(value, list):
            yield from ((f"{beginning}{name}.{place}", number) for place, number in enumerate(value))
        else:
            yield f"{beginning}{name}", value


def exact(number: float) -> float:
    """Return a number as it is after it was packed."""
    return number if isinstance(number, int) else round(number * 2**20) / 2**20


class Oracle:
    """The sums, reckoned anew each time from the last report of each life of a worker."""

    def __init__(self) -> None:
        self.lives: list[dict[str, float]] = []
        self.running: dict[int, int] = {}

    def report(self, worker: int, plain: Mapping[str, Any]) -> None:
        if worker not in self.running:
            self.running[worker] = len(self.lives)
            self.lives.append({})
        self.lives[self.running[worker]] = dict(flat(plain))

    def total(self, own: Mapping[str, float]) -> dict[str, float]:
        total = dict(own)
        for path in {path for life in self.lives for path in life}:
            counted = self.running.values() if path in LEVELS else range(len(self.lives))
            total[path] = math.fsum(exact(self.lives[life].get(path, 0)) for life in counted)
            total[path] += own.get(path, 0)
        return total


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["serve", "report", "report", "end"]),
        st.integers(0, 2),
        st.integers(0, 1_000),
        st.floats(0, 100),
    ),
    max_size=40,
)


@given(STEPS)
def test_sums_are_those_of_all_lives_and_no_counter_falls(steps: list[tuple[str, int, int, float]]) -> None:
    own = Process()
    sums, oracle = Sums(own.traffic), Oracle()
    workers = {worker: Process(f"/only-{worker}") for worker in range(3)}
    before = dict(flat(pack(sums())))
    ended = 0
    for step, worker, count, seconds in steps:
        if step == "serve":
            workers[worker].serve(count, seconds)
            workers[worker].broadcast.subscribers_max = count
            own.stalls.stalls.observe(seconds)
        elif step == "report":
            plain = workers[worker].report()
            sums.report(worker, plain)
            oracle.report(worker, plain)
        else:
            sums.ended(worker)
            oracle.running.pop(worker, None)
            workers[worker] = Process(f"/only-{worker}")
            ended += 1
        now = dict(flat(pack(sums())))
        own_share = {path: value for path, value in flat(pack(own.traffic())) if path.startswith("stalls.")}
        expected = oracle.total(own_share)
        assert all(now[path] == value for path, value in expected.items())
        assert not any(value for path, value in now.items() if path not in expected)
        assert all(now[path] >= value for path, value in before.items() if path not in LEVELS)
        assert (sums.running, sums.restarts) == (len(oracle.running), ended)
        before = now


def test_a_request_that_is_passed_on_is_counted_once() -> None:
    owner, worker = Process(), Process()
    sums = Sums(owner.traffic)
    for process in (owner, worker):
        process.serve(5)
    owner.engine.stats.connections_total = 3
    sums.report(1, worker.report())
    served = sums().served
    assert (served.stats.requests, served.stats.latency.count, served.answers[BEAT][2]) == (5, 5, 5)
    assert served.stats.connections_total == 0
    assert sums().subscribers_max == 7


def test_refusals_bugs_and_stalls_of_the_owner_count() -> None:
    owner, worker = Process(), Process()
    sums = Sums(owner.traffic)
    owner.refusals.limited("register")
    owner.refusals.unproved("replayed")
    owner.engine.stats.handler_failures = 2
    for process in (owner, worker):
        process.stalls.stalls.observe(0.5)
    worker.refusals.limited("discover")
    worker.engine.stats.handler_failures = 1
    sums.report(1, worker.report())
    traffic = sums()
    assert (traffic.limited["register"], traffic.limited["discover"], traffic.unproved["replayed"]) == (
        1,
        1,
        1,
    )
    assert traffic.served.stats.handler_failures == 3
    assert traffic.stalls.count == 2


def test_every_route_is_there_before_a_worker_reports() -> None:
    owner = Process("/nodes")
    answers = Sums(owner.traffic)().served.answers
    assert answers == {BEAT: [0] * 6, "GET /nodes": [0] * 6}


def test_figures_arrive_as_they_were_packed() -> None:
    worker = Process("/nodes")
    worker.serve(7, 0.25)
    plain = worker.report()
    arrived = unpack(plain)
    assert pack(arrived)["served"] == plain["served"]
    assert arrived.forwarded == {"answered": 7, "failed": 0}
    assert (arrived.lag.count, arrived.lag.sum_s) == (1, 0.25)
    assert arrived.processor_s > 0
    assert arrived.resident_bytes > 1 << 20


def _set(path: str, value: object) -> Callable[[Any], None]:
    def damage(plain: Any) -> None:
        *places, last = path.split("/")
        for place in places:
            plain = plain[place]
        plain[last] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_set("subscribers", -1), "subscribers is -1, not a whole number from 0"),
        (_set("subscribers", 1.5), "subscribers is 1.5, not a whole number from 0"),
        (_set("subscribers", True), "subscribers is True, not a whole number from 0"),
        (_set("subscribers", None), "subscribers is None, not a whole number from 0"),
        (_set("processor_s", -0.5), "processor_s is -0.5, not seconds from 0"),
        (_set("processor_s", math.nan), "processor_s is nan, not seconds from 0"),
        (_set("processor_s", "1"), "processor_s is '1', not seconds from 0"),
        (_set("served/stats/responses", [1, 2]), "responses is [1, 2], not an array of 6"),
        (_set("served/stats/latency/counts", "x" * 20), "not an array of 20"),
        (_set("served/stats/more", 1), "not an object with accept_pauses, bytes_in"),
        (_set("served/answers", []), "answers is [], not an object"),
        (_set("served/answers", {"a\nb": [0, 0, 0, 0, 0, -1]}), "is -1, not a whole number"),
        (_set("lag", None), "lag is None, not an object"),
    ],
)
def test_damaged_figures_are_refused_in_one_line(damage: Callable[[Any], None], complaint: str) -> None:
    owner, worker = Process(), Process()
    sums = Sums(owner.traffic)
    worker.serve(3)
    sums.report(1, worker.report())
    plain = worker.report()
    damage(plain)
    with pytest.raises(ValueError, match=r"^figures of a worker are damaged: ") as caught:
        sums.report(1, plain)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sums().served.stats.requests == 3


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_anything_else_is_refused(plain: object) -> None:
    with pytest.raises(ValueError, match="figures of a worker are damaged"):
        unpack(plain)


def test_live_figures_are_those_of_all_workers() -> None:
    sums = Sums(Process().traffic)
    parts: Parts = make_parts()._replace(served=lambda: sums().served)
    workers = Process(), Process()
    live = LiveFigures(parts)
    for number, worker in enumerate(workers):
        worker.serve(10)
        sums.report(number, worker.report())
    advance(parts, 2.0)
    assert (live()["requests_per_s"], live()["heartbeats_per_s"]) == (10.0, 10.0)
    sums.ended(0)
    advance(parts, 2.0)
    assert (live()["requests_per_s"], live()["heartbeats_per_s"]) == (0.0, 0.0)
    assert performance(parts)["requests"] == 20
