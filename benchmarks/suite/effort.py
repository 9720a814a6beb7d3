"""How much a run of the suite takes upon itself: `--quick`, or the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .samples import Samples
from .servers import Site


class Effort(NamedTuple):
    """Rounds, seconds of each measurement, and sizes. `large` is 0 where nothing is tried with so many."""

    rounds: int
    warm_up_s: float
    measured_s: float
    small: int = 1_000
    usual: int = 100_000
    large: int = 1_000_000
    idle_connections: int = 10_000
    subscribers: int = 1_000
    stall_s: float = 10.0
    latency_s: float = 20.0


WHOLE = Effort(rounds=5, warm_up_s=0.3, measured_s=2.0)
QUICK = Effort(
    rounds=2, warm_up_s=0.15, measured_s=0.4, large=0, idle_connections=2_000, stall_s=2.5, latency_s=3.0
)


class Bench(NamedTuple):
    """What every case is given: where servers are started, how much to do, where figures go, whom to tell."""

    site: Site
    effort: Effort
    samples: Samples
    tell: Callable[[str], None]
    seed: int
