"""How late the loop is."""

from __future__ import annotations

import asyncio

from openred_central.clock import SystemClock
from openred_central.histogram import quantile
from openred_central.tasks.stall_meter import PERIOD_S, StallMeter
from tests.support.clock import VirtualClock


def test_what_comes_late_is_counted_by_how_late_it_comes() -> None:
    clock = VirtualClock()
    meter = StallMeter(clock)
    for late_s in (0.0, 0.0, 0.3, 0.004):
        clock.advance(meter.look() + late_s)
    meter.look()
    assert meter.stalls.count == 4
    assert round(meter.stalls.sum_s, 6) == 0.304
    assert quantile(meter.stalls.bounds, meter.stalls.counts, 1.0) == 0.5


def test_a_period_that_was_as_long_as_it_should_be_is_no_stall() -> None:
    clock = VirtualClock()
    meter = StallMeter(clock)
    meter.look()
    clock.advance(PERIOD_S)
    meter.look()
    assert meter.stalls.sum_s < 1e-9


async def test_it_ends_when_it_is_told_to() -> None:
    meter = StallMeter(SystemClock())
    running = asyncio.create_task(meter.run())
    async with asyncio.timeout(20):
        while not meter.stalls.count:
            await asyncio.sleep(0.01)
        meter.stop()
        await running
