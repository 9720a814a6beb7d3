"""Policies: how a directory judges silence. Each is the real directory, with some parts switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from ..clock import AttendedTime, Clock, ClockJump, Now
from ..directory.directory import Directory
from ..settings.config import Configuration


class Policy(NamedTuple):
    """A policy, with its meaning in words.

    With `by_wall`, nodes age by the wall clock; if `guarded`, mass silence holds transitions; an `adaptive`
    directory has forecasts and patience, and its clock stands while nobody is heard.
    """

    name: str
    meaning: str
    by_wall: bool = False
    guarded: bool = True
    adaptive: bool = False


WALL: Final = Policy("wall", "nodes age by the wall clock", by_wall=True, guarded=False)
LIFECYCLE: Final = Policy("lifecycle", "nodes age by attended time; mass silence is doubted")
ADAPTIVE: Final = Policy("adaptive", "also forecasts, patience, and doubts if nobody is heard", adaptive=True)
POLICIES: Final = {policy.name: policy for policy in (WALL, LIFECYCLE, ADAPTIVE)}


class WallTime(AttendedTime):
    """The clock of a directory that ages its nodes by the wall clock: the latest wall time so far.

    It counts from wall time `began_at` on, and is not behind `attended_s`.
    """

    def __init__(self, clock: Clock, began_at: float, attended_s: float) -> None:
        super().__init__(clock)
        self._began_at = began_at
        self._latest_s = attended_s

    def now(self) -> Now:
        """Return this moment."""
        now = super().now()
        passed_s = now.wall_s - self._began_at
        # It stands until the wall clock is where it was once.
        self.attending = passed_s >= self._latest_s
        self._latest_s = max(self._latest_s, passed_s)
        return now._replace(attended_s=self._latest_s)

    def tick(self, *, attending: bool) -> ClockJump | None:
        """Do nothing: this clock follows jumps, and asks nobody whether to run."""
        return None


def make_directory(
    policy: Policy,
    settings: Configuration,
    *,
    nodes_max: int,
    paces_s: tuple[float, float],
    random: Callable[[], float],
) -> Directory:
    """Return a directory that advises paces within `paces_s`; all else is as in the settings."""
    options = replace(
        settings.directory(),
        nodes_max=nodes_max,
        nodes_bytes_max=0,
        heartbeat_advice_min_s=paces_s[0],
        heartbeat_advice_s=paces_s[1],
        forecast=policy.adaptive,
        probing=False,
    )
    silence = settings.mass_silence()
    if not policy.guarded:
        silence = silence._replace(share=1.0)
    if not policy.adaptive:
        options = replace(options, patience_factor_max=1.0)
        silence = silence._replace(all_silent_s=0.0)
    return Directory(options, settings.lifecycle(), silence, random)
