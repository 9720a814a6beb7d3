"""The stall meter counts how late the event loop is."""

from __future__ import annotations

from openred_central.histogram import quantile
from openred_central.tasks.stall_meter import PERIOD_S, StallMeter
from tests.support.clock import VirtualClock


async def test_lateness_is_counted() -> None:
    clock = VirtualClock()
    meter = StallMeter(clock)
    for late_s in (0.0, 0.0, 0.3, 0.004):
        clock.advance(await meter.work() + late_s)
    await meter.work()
    assert meter.stalls.count == 4
    assert round(meter.stalls.sum_s, 6) == 0.304
    assert quantile(meter.stalls.bounds, meter.stalls.counts, 1.0) == 0.5


async def test_a_punctual_call_is_no_stall() -> None:
    clock = VirtualClock()
    meter = StallMeter(clock)
    await meter.work()
    clock.advance(PERIOD_S)
    await meter.work()
    assert meter.stalls.sum_s < 1e-9
