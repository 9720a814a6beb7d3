"""Figures of all parts of a running server, for ``GET /stats`` and ``GET /events``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..api.status import dark_figures, hold_figures, mass_silence_figures
from ..clock import AttendedTime, Clock
from ..directory.directory import Directory
from ..directory.empathy.groups import is_public
from ..directory.lifecycle import LIVE_STATES
from ..histogram import quantile
from ..listening import Certificate
from ..storage.copies.restoring import Restored
from ..storage.store import Store
from ..tasks.saver import Saver
from ..tasks.scheduler import Scheduler
from ..tasks.snapshotter import Snapshotter
from ..wording import rfc3339
from .traffic import Served

# A rate over less time would follow a few requests.
RATE_S_MIN = 0.9
_HEARTBEAT = "POST /heartbeat/{node_id}"


class Parts(NamedTuple):
    """The parts that have figures. `started_s` is the monotonic time at which the start began.

    `run` is the name of this run in the store; `served` reads the figures of the public engine, or of the
    engines of all workers.
    """

    clock: Clock
    started_s: float
    directory: Directory
    attended: AttendedTime
    saver: Saver
    scheduler: Scheduler
    snapshotter: Snapshotter | None
    restored: Restored | None
    store: Store
    run: bytes
    served: Callable[[], Served]
    certificate: Certificate | None = None

    @property
    def uptime_s(self) -> float:
        return self.clock.monotonic_s() - self.started_s


def performance(parts: Parts) -> dict[str, Any]:
    """Return the figures of the parts around the directory since the start."""
    served, saver, scheduler = parts.served(), parts.saver, parts.scheduler
    counted, saved = served.stats, saver.stats
    return {
        "uptime_s": round(parts.uptime_s, 3),
        "requests": counted.requests,
        "responses": {f"{kind}xx": counted.responses[kind] for kind in range(2, 6)},
        "connections": {
            "open": served.connections_open,
            "total": counted.connections_total,
            "refused": counted.connections_refused,
        },
        "bytes": {"in": counted.bytes_in, "out": counted.bytes_out},
        "store": {
            "state": saver.state.value,
            "run": parts.run.hex(),
            "batches": saved.batches,
            "rows": saved.rows,
            "commit_ms_mean": round(saved.commit_s_total / max(saved.batches, 1) * 1_000, 3),
            "commit_ms_max": round(saved.commit_s_max * 1_000, 3),
            "failures": saver.trouble.failures,
            "restored": _describe_restored(parts.restored),
        },
        "snapshots": _describe_snapshots(parts.snapshotter),
        "scheduler": {
            "ticks": scheduler.ticks,
            "late_ms_max": round(scheduler.late_s_max * 1_000, 3),
            "clock_jumps": [
                {"at": rfc3339(jump.at_wall_s), "jump_s": jump.jump_s} for jump in parts.attended.jumps
            ],
        },
    }


class _Counts(NamedTuple):
    """Counts at a monotonic time, of which rates are computed."""

    at_s: float
    requests: int
    heartbeats: int
    transitions: int
    latency: list[int]


class LiveFigures:
    """The current public figures; rates are since the previous call."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._before = self._counts(parts.served())
        self._rates: dict[str, Any] = {
            "requests_per_s": None,
            "heartbeats_per_s": None,
            "transitions_per_s": None,
            "latency_ms": {"p50": None, "p99": None},
        }

    def __call__(self) -> dict[str, Any]:
        parts, now = self._parts, self._parts.attended.now()
        registry, served = parts.directory.nodes.registry, parts.served()
        self._renew_rates(served)
        return {
            "time": rfc3339(now.wall_s),
            "uptime_s": round(parts.uptime_s, 3),
            "attended_s": round(now.attended_s, 3),
            "nodes": len(registry),
            "by_state": {state.wire: registry.state_counts[state] for state in LIVE_STATES},
            "tombstones": len(parts.directory.nodes.tombstones),
            **self._rates,
            "connections": served.connections_open,
            "store": parts.saver.state.value,
            "mass_silence": mass_silence_figures(parts.directory),
            "holds": hold_figures(parts.directory),
            "dark": dark_figures(parts.directory, is_public),
        }

    def _counts(self, served: Served) -> _Counts:
        stats, heartbeats = served.stats, served.answers.get(_HEARTBEAT)
        return _Counts(
            self._parts.clock.monotonic_s(),
            stats.requests,
            heartbeats[2] if heartbeats else 0,
            sum(self._parts.directory.nodes.transitions.counts.values()),
            list(stats.latency.counts),
        )

    def _renew_rates(self, served: Served) -> None:
        before, now = self._before, self._counts(served)
        passed_s = now.at_s - before.at_s
        if passed_s < RATE_S_MIN:
            return
        self._before = now
        bounds = served.stats.latency.bounds
        counts = [count - earlier for count, earlier in zip(now.latency, before.latency, strict=True)]
        self._rates = {
            "requests_per_s": round((now.requests - before.requests) / passed_s, 1),
            "heartbeats_per_s": round((now.heartbeats - before.heartbeats) / passed_s, 1),
            "transitions_per_s": round((now.transitions - before.transitions) / passed_s, 1),
            "latency_ms": {
                "p50": _in_ms(quantile(bounds, counts, 0.5)),
                "p99": _in_ms(quantile(bounds, counts, 0.99)),
            },
        }


def _in_ms(duration_s: float | None) -> float | None:
    return round(duration_s * 1_000, 3) if duration_s is not None else None


def _describe_restored(restored: Restored | None) -> dict[str, Any] | None:
    """Describe the snapshot that replaced a damaged store at start. File names have no folders."""
    if restored is None:
        return None
    return {
        "snapshot": restored.snapshot,
        "taken_at": rfc3339(restored.taken_at),
        "age_s": round(restored.age_s, 3),
        "set_aside": restored.set_aside.name,
    }


def _describe_snapshots(snapshotter: Snapshotter | None) -> dict[str, Any] | None:
    if snapshotter is None:
        return None
    taken = snapshotter.stats
    return {
        "state": "ok" if snapshotter.trouble.last_error is None else "failing",
        "taken": taken.snapshots,
        "failures": snapshotter.trouble.failures,
        "last": rfc3339(taken.last_at) if taken.last_at is not None else None,
        "last_took_s": round(taken.last_took_s, 3),
        "last_bytes": taken.last_bytes,
    }
