"""The forecaster: visits in time, none while attended time stands still, and all is noted at the end."""

from __future__ import annotations

import asyncio

from openred_central.clock import AttendedTime
from openred_central.directory.empathy.visiting import RETURNS
from openred_central.tasks.forecaster import PAUSE_S_MAX, Forecaster
from tests.support.building import make_directory, register
from tests.support.clock import VirtualClock


def test_visits_follow_attended_time() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, attended_s=500.0)
    directory = make_directory()
    visiting = directory.visiting
    assert visiting is not None
    forecaster = Forecaster(visiting, attended)
    register(directory, "a", attended.now())

    def wait(seconds: int) -> None:
        for _ in range(seconds):
            clock.advance(1.0)
            attended.tick(attending=attended.attending)
            asyncio.run(forecaster.work())

    wait(2)
    assert directory.nodes.habits.seen_s[0]
    wait(7_200)
    assert visiting.visits == 2
    attended.tick(attending=False)
    wait(4_000)
    assert visiting.visits == 2
    assert asyncio.run(forecaster.work()) == PAUSE_S_MAX
    attended.tick(attending=True)
    wait(3_600)
    assert visiting.visits == 3
    forecaster.stop()
    assert RETURNS in dict(directory.nodes.kept.take(16))
