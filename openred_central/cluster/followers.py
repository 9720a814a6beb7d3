"""The followers of a leader, also those that are away: up to when their signs of life are here. Pure.

All times are attended seconds. A follower that delivers nothing for a while is *missing*: time goes on
without it, but no node is buried, since the follower may have heard it. A sign of life that comes late
revives a node from every state but death.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

import orjson

# An instance that is cut off may take a session for valid for so long: it lasts five minutes, and clocks
# differ.
SESSIONS_S: Final = 360.0
# Times of two followers differ by less.
DOUBT_S: Final = 2.0
# For so long, all that happens by time waits for a follower that delivers nothing.
GRACE_S: Final = 15.0


class Absent(NamedTuple):
    """A missing follower: its name, and since when it is missing."""

    name: str
    since_s: float


@dataclass(slots=True)
class _Known:
    """A follower that hears signs of life: all up to `through_s` are here, as of `advanced_s`.

    `is_twin`: another one of its name was alive at one time with it.
    """

    name: str
    through_s: float
    advanced_s: float
    first_s: float
    is_twin: bool = False

    def is_missing(self, now_s: float) -> bool:
        return now_s - self.advanced_s > GRACE_S


class Followers:
    """The followers of the run `run`, which leads and is an instance named `name`.

    Each is known by its run, since names are not unique. No burial waits for a follower that has been missing
    for `missing_s_max`. `changed` is called when `packed` has changed.
    """

    def __init__(self, run: str, name: str, *, missing_s_max: float, changed: Callable[[], None]) -> None:
        self._run = run
        self._name = name
        self._missing_s_max = missing_s_max
        self._changed = changed
        self._ended = False
        # Runs with a link, with their names, in the order in which they joined.
        self._joined: dict[str, str] = {}
        self._known: dict[str, _Known] = {}
        self._missing = frozenset[str]()

    def restore(self, packed: bytes, now_s: float) -> None:
        """Wait for those that a former leader knew. Raises `ValueError` or `TypeError` for other bytes.

        Former runs of this instance are gone for good.
        """
        for run, name, since_s in orjson.loads(packed):
            if run != self._run and name != self._name:
                # One that is not missing has delivered all but the last moments.
                advanced_s = now_s if since_s is None else min(float(since_s), now_s)
                through_s = advanced_s - GRACE_S
                self._known[str(run)] = _Known(str(name), through_s, advanced_s, through_s)

    def packed(self) -> bytes:
        """Return what the next leader has to know, this run included, which hears signs of life as well."""
        known = [
            (run, each.name, each.advanced_s if run in self._missing else None)
            for run, each in self._known.items()
        ]
        return orjson.dumps(known if self._ended else [(self._run, self._name, None), *known])

    def joined(self, run: str, name: str) -> float | None:
        """Note that a follower has a link; return up to when its signs of life are here, None if unknown."""
        self._joined[run] = name
        self._drop_former()
        known = self._known.get(run)
        return None if known is None else known.through_s

    def heard(self, run: str, through_s: float, now_s: float) -> bool:
        """Note that all signs of life of a follower up to `through_s` are here.

        Return whether that shows for the first time that it has its name in common with another one.
        """
        known = self._known.get(run)
        if known is None:
            self._known[run] = _Known(self._joined[run], through_s, now_s, through_s)
            self._changed()
        elif through_s > known.through_s:
            known.through_s, known.advanced_s = through_s, now_s
            return self._found_twin(known)
        return False

    def _found_twin(self, known: _Known) -> bool:
        """Note those that began with the name of `known` while that one lived; return whether any is new."""
        twins = [
            each
            for each in self._known.values()
            if each.name == known.name and known.first_s < each.first_s < known.through_s - DOUBT_S
        ]
        is_new = not all(each.is_twin for each in twins)
        for each in (known, *twins) if twins else ():
            each.is_twin = True
        return is_new

    def parted(self, run: str, *, has_drained: bool) -> None:
        """Note that the link of a follower ended; `has_drained`: it stopped, and nothing of it is left."""
        self._joined.pop(run, None)
        if has_drained:
            self._drop(lambda known, _: known == run)
        self._drop_former()

    def forget(self, name: str) -> bool:
        """Wait no more for any that have the name and no link. Return whether there were some."""
        return self._drop(lambda run, each: each.name == name and run not in self._joined)

    def end(self) -> None:
        """Note that this run stops to lead in good order: nothing of it is left."""
        self._ended = True
        self._changed()

    def horizon_s(self, now_s: float) -> float:
        """Return the time up to which all signs of life are here, but for those of the missing."""
        kept_s = max(self._missing_s_max, SESSIONS_S) + GRACE_S
        self._drop(lambda _, each: now_s - each.advanced_s > kept_s)
        missing = frozenset(run for run, each in self._known.items() if each.is_missing(now_s))
        if missing != self._missing:
            self._missing = missing
            self._changed()
        return min(
            now_s,
            min((each.through_s for run, each in self._known.items() if run not in missing), default=inf),
        )

    def may_bury(self, now_s: float) -> bool:
        """Return whether no follower is missing."""
        return not self.missing(now_s)

    def all_linked(self, now_s: float) -> bool:
        """Return whether all have a link, but for those that were away so long that no session is left."""
        return all(
            run in self._joined or now_s - each.advanced_s > SESSIONS_S for run, each in self._known.items()
        )

    def missing(self, now_s: float) -> list[Absent]:
        """Return those that are missing, and that burials wait for."""
        since_s = now_s - self._missing_s_max - GRACE_S
        return [
            Absent(each.name, each.advanced_s)
            for each in self._known.values()
            if each.is_missing(now_s) and each.advanced_s >= since_s
        ]

    def _drop_former(self) -> None:
        """Drop runs without a link whose name a newer run serves: their processes are gone.

        One of several that live with one name may come back.
        """
        names = set(self._joined.values())
        self._drop(lambda run, each: run not in self._joined and each.name in names and not each.is_twin)

    def _drop(self, is_gone: Callable[[str, _Known], bool]) -> bool:
        gone = [run for run, each in self._known.items() if is_gone(run, each)]
        for run in gone:
            del self._known[run]
        if gone:
            self._changed()
        return bool(gone)
