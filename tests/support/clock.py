"""The clock for tests is that of simulations."""

from __future__ import annotations

from openred_central.simulation.clock import VirtualClock

__all__ = ["VirtualClock"]
