"""The figures of a running server, without a server; tests/e2e compares them with a real one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from openred_central.clock import AttendedTime
from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import State
from openred_central.micro_engine.engine import Engine
from openred_central.reporting.figures import LiveFigures, Parts, performance
from openred_central.reporting.traffic import read_served
from openred_central.storage.store import MemoryStore
from openred_central.tasks.prober import Submission
from openred_central.tasks.saver import Saver
from openred_central.tasks.scheduler import Scheduler
from tests.support.clock import VirtualClock
from tests.support.options import directory_options, lifecycle_options, mass_silence_options, saver_options


def make_parts(engine: Engine | None = None) -> Parts:
    """Make the parts of a server that does not run, on a virtual clock."""
    clock = VirtualClock()
    attended = AttendedTime(clock)
    directory = Directory(directory_options(), lifecycle_options(), mass_silence_options(), lambda: 0.5)
    writer = ThreadPoolExecutor(max_workers=1)
    saver = Saver(directory.saving, MemoryStore(), writer, attended.now, saver_options())
    scheduler = Scheduler(
        directory,
        attended,
        tick_s=1.0,
        store_reachable=lambda: True,
        submit_probe=lambda request: Submission.REFUSED,
    )
    engine = engine or Engine()

    async def beat(request: Any, node_id: str) -> None: ...

    engine.route("/heartbeat/{node_id}", ["POST"])(beat)
    return Parts(
        clock,
        clock.monotonic_s(),
        directory,
        attended,
        saver,
        scheduler,
        None,
        None,
        MemoryStore(),
        b"\1\2",
        partial(read_served, engine),
    )


@pytest.fixture
def parts() -> Parts:
    return make_parts()


def advance(parts: Parts, seconds: float) -> None:
    assert isinstance(parts.clock, VirtualClock)
    parts.clock.advance(seconds)


def test_the_first_figures_have_no_rates(parts: Parts) -> None:
    figures = LiveFigures(parts)()
    assert figures["requests_per_s"] is None
    assert figures["latency_ms"] == {"p50": None, "p99": None}
    assert figures["by_state"]["active"] == 0
    assert figures["store"] == "ok"
    assert figures["mass_silence"]["held"] is False


def test_rates_are_those_since_the_last_figures(parts: Parts) -> None:
    live = LiveFigures(parts)
    stats, heartbeats = parts.served().stats, parts.served().answers["POST /heartbeat/{node_id}"]
    for times in (1, 2):
        advance(parts, 2.0)
        stats.requests += 100 * times
        heartbeats[2] += 60 * times
        parts.directory.nodes.transitions.counts[State.COMA, State.DEAD, "deadline"] += 10 * times
        for _ in range(100):
            stats.latency.observe(0.001 * times)
        figures = live()
        assert figures["requests_per_s"] == 50.0 * times
        assert figures["heartbeats_per_s"] == 30.0 * times
        assert figures["transitions_per_s"] == 5.0 * times
        assert 0.5 * times <= figures["latency_ms"]["p50"] <= 1.0 * times


def test_figures_asked_for_again_at_once_keep_their_rates(parts: Parts) -> None:
    live = LiveFigures(parts)
    advance(parts, 1.0)
    parts.served().stats.requests += 10
    assert live()["requests_per_s"] == 10.0
    advance(parts, 0.01)
    parts.served().stats.requests += 1
    assert live()["requests_per_s"] == 10.0
    advance(parts, 0.99)
    assert live()["requests_per_s"] == 1.0


def test_performance_has_all_counts(parts: Parts) -> None:
    parts.served().stats.requests = 7
    parts.served().stats.responses[4] = 3
    advance(parts, 5.0)
    told = performance(parts)
    assert (told["requests"], told["responses"]["4xx"], told["uptime_s"]) == (7, 3, 5.0)
    assert told["snapshots"] is None
    assert told["store"]["restored"] is None
    assert told["store"]["run"] == "0102"
