"""The analyst: nodes are counted also while attended time stands still, and all is noted at the end."""

from __future__ import annotations

import asyncio

import orjson

from openred_central.clock import AttendedTime
from openred_central.tasks.analyst import Analyst
from tests.support.building import make_directory, register
from tests.support.clock import VirtualClock


def test_nodes_are_counted_by_the_clock() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=60.0)
    directory = make_directory()
    analyst = Analyst(directory.analytics, attended)
    register(directory, "a", attended.now())

    def wait(minutes: int) -> None:
        for _ in range(minutes):
            clock.advance(60.0)
            attended.tick(attending=attended.attending)
            while asyncio.run(analyst.work()) < 0.1:
                pass

    def row() -> dict[str, object]:
        found: dict[str, object] = orjson.loads(list(directory.analytics.days.values())[-1])
        return found

    wait(1)
    assert row()["nodes"] == 1
    register(directory, "b", attended.now())
    wait(1)
    assert (row()["registered"], row()["nodes"]) == (2, 2)
    attended.tick(attending=False)
    wait(60)
    assert row()["nodes"] == 2
    assert row()["held_s"] == 3_600.0
    register(directory, "c", attended.now())
    analyst.stop()
    assert row()["registered"] == 3
    assert any(name.startswith("day/") for name, _ in directory.nodes.kept.take(16))
