"""A directory that is visited while nodes beat, on virtual time. The seconds of all times are attended."""

from __future__ import annotations

from typing import Any

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.empathy.forecast import Forecast
from openred_central.directory.empathy.visiting import Visiting
from tests.support.building import DAY_S, at, make_directory, register

HOUR_S = 3_600.0


class Diary:
    """A directory, and the visits that it makes. `pace_s` is the only pace; without it, paces adapt."""

    def __init__(self, pace_s: float | None = DAY_S, **options: Any) -> None:
        if pace_s is not None:
            options |= {"heartbeat_advice_s": pace_s, "heartbeat_advice_min_s": pace_s}
        self.directory: Directory = make_directory(**options)
        assert self.directory.visiting is not None
        assert self.directory.forecast is not None
        self.visiting: Visiting = self.directory.visiting
        self.forecast: Forecast = self.directory.forecast
        self.habits = self.directory.nodes.habits
        self.now_s = 1_000.0
        self.visiting.resumed(self.now_s)

    def now(self) -> Now:
        return at(self.now_s)

    def register(self, node_id: str, **changed: Any) -> int:
        return register(self.directory, node_id, self.now(), **changed)

    def beat(self, slot: int) -> float:
        """Let a node send a heartbeat; the seconds to its next due."""
        self.directory.heartbeat(slot, self.now())
        return self.directory.advice_s(slot, self.now())

    def pass_s(self, seconds: float) -> None:
        """Let time pass, with all visits that are due meanwhile."""
        ends_s = self.now_s + seconds
        while (next_s := self.visiting.next_s(self.now_s)) <= ends_s:
            self.now_s = max(self.now_s, next_s)
            self.visiting.visit(self.now())
        self.now_s = ends_s

    def live(self, slot: int, days: float, *, up_hours: range | None = None, extra: int = 0) -> None:
        """Let a node follow the advice for some days; up all the time, or only in these hours of the day.

        It sends `extra` signs of life whenever it comes up.
        """
        ends_s, due_s, was_up = self.now_s + days * DAY_S, self.now_s, True
        while self.now_s < ends_s:
            is_up = up_hours is None or int(self.now().wall_s // HOUR_S % 24) in up_hours
            if is_up and not was_up:
                for _ in range(extra):
                    due_s = self.now_s + self.beat(slot)
            if is_up and self.now_s >= due_s:
                due_s = self.now_s + self.beat(slot)
            was_up = is_up
            self.pass_s(min(60.0 if is_up and due_s - self.now_s < 600.0 else 600.0, ends_s - self.now_s))
