"""Every request of a test with its answer, and judges of what must hold of them. Pure.

Each judge returns complaints, each a sentence; none is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from math import inf
from typing import NamedTuple

# Clocks and saved times are compared with such a doubt.
DOUBT_S = 0.25


class Shown(NamedTuple):
    """How a directory shows a node: `state` is "active", "coma", or "gone" for one that it does not have."""

    state: str
    key: str = ""
    port: int = 0


GONE = Shown("gone")


class Outcome(Enum):
    """The end of a change: DONE was acknowledged, REFUSED was not begun, of UNKNOWN nobody knows."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


# Answers 503 that promise: nothing was changed.
NOT_BEGUN = ("no_leader", "directory_full", "too_many_connections")


def outcome_of(status: int | None, error: str | None) -> Outcome:
    """Return what an answer says of a change; `status` is None where none came."""
    if status is None:
        return Outcome.UNKNOWN
    if 200 <= status < 300:
        return Outcome.DONE
    return Outcome.UNKNOWN if status >= 500 and error not in NOT_BEGUN else Outcome.REFUSED


class Change(NamedTuple):
    """One request that changes a node, which shall be `after` thereafter; times are those of one clock.

    `may` is false for a request that must be refused, such as one by a former key.
    """

    node_id: str
    what: str
    after: Shown
    instance: str
    sent_s: float
    answered_s: float
    status: int | None
    error: str | None = None
    seq: str | None = None
    may: bool = True

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.status, self.error)


class Beat(NamedTuple):
    """One plain heartbeat; `wall_s` is the time of day at its sending."""

    node_id: str
    instance: str
    sent_s: float
    answered_s: float
    wall_s: float
    status: int | None


class Sight(NamedTuple):
    """The row of the cluster as it was seen at `seen_s`."""

    seen_s: float
    lineage: str
    term: int
    holder: str
    renewals: int
    seq: int
    attended_s: float


class History:
    """All requests of a test. All changes of one name come from one client, one after the other."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.beats: list[Beat] = []

    @property
    def acknowledged(self) -> int:
        """How many changes were acknowledged so far."""
        return sum(change.outcome is Outcome.DONE for change in list(self.changes))

    def acknowledged_since(self, since_s: float) -> list[Change]:
        """Return the changes that were sent at `since_s` or later and acknowledged."""
        return [one for one in list(self.changes) if one.sent_s >= since_s and one.outcome is Outcome.DONE]

    def possible(self) -> dict[str, set[Shown]]:
        """Return for each name how its node may be shown at rest."""
        found: dict[str, set[Shown]] = {}
        for change in list(self.changes):
            now = found.setdefault(change.node_id, {GONE})
            if change.outcome is Outcome.DONE:
                found[change.node_id] = {change.after}
            elif change.outcome is Outcome.UNKNOWN:
                now.add(change.after)
        return found


def lost(history: History, shown: Mapping[str, Shown], where: str) -> list[str]:
    """Judge A: what was acknowledged is there, and what was refused is not. `shown` lacks what is gone."""
    return [
        f"{where} shows {node_id} as {shown.get(node_id, GONE)}, and not as any of {sorted(possible)}"
        for node_id, possible in history.possible().items()
        if shown.get(node_id, GONE) not in possible
    ]


def granted(history: History) -> list[str]:
    """Judge B: no change was made by who no longer may, and none that may was refused for good."""
    found = []
    for change in list(history.changes):
        done = change.outcome is Outcome.DONE
        if (done and not change.may) or (change.may and change.outcome is Outcome.REFUSED and _final(change)):
            found.append(f"{change} was answered {change.status}")
    return found


def _final(change: Change) -> bool:
    return change.status is not None and change.status < 500


def disordered(history: History) -> list[str]:
    """Judge D of answers: a change that began after another was answered has no lower number of a commit."""
    done = [change for change in list(history.changes) if change.outcome is Outcome.DONE and change.seq]
    ends = sorted(done, key=lambda change: change.answered_s)
    found, highest, earlier = [], -1, 0
    for change in sorted(done, key=lambda change: change.sent_s):
        while ends[earlier].answered_s < change.sent_s:
            highest = max(highest, _number(ends[earlier]))
            earlier += 1
        if _number(change) < highest:
            found.append(f"{change} came after commit {highest} was told")
    return found


def _number(change: Change) -> int:
    assert change.seq is not None
    return int(change.seq.rpartition("-")[2])


def backwards(sights: Iterable[Sight]) -> list[str]:
    """Judge D of the row: terms, commits and attended time never fall, and time never outruns the clock.

    One term has one holder.
    """
    found: list[str] = []
    holders: dict[int, str] = {}
    last: Sight | None = None
    for sight in sights:
        if sight.holder and holders.setdefault(sight.term, sight.holder) != sight.holder:
            found.append(f"term {sight.term} was held by {holders[sight.term]} and by {sight.holder}")
        if last is not None:
            found += _between(last, sight)
        last = sight
    return found


def _between(last: Sight, sight: Sight) -> Iterator[str]:
    for name in ("term", "seq", "attended_s"):
        if getattr(sight, name) < getattr(last, name):
            yield f"{name} fell from {last} to {sight}"
    if sight.lineage != last.lineage:
        yield f"lineage changed from {last} to {sight}"


def outrun(sights: Iterable[Sight]) -> list[str]:
    """Judge D of time: the attended time grew by no more than the clock."""
    grown_s, passed_s = _spans_s(sights)
    return [f"{grown_s:.1f} s were attended within {passed_s:.1f} s"] if grown_s > passed_s + 2.0 else []


def stood_s(sights: Iterable[Sight]) -> float:
    """Return for how long attended time stood still, as in all time in which nobody led."""
    grown_s, passed_s = _spans_s(sights)
    return max(0.0, passed_s - grown_s)


def _spans_s(sights: Iterable[Sight]) -> tuple[float, float]:
    """Return by how much attended time grew under watch, and how long that took.

    The row is written now and then, so the first sight tells of any moment before it. The next row was
    written after the sight before it.
    """
    seen = list(sights)
    changed = (n for n, sight in enumerate(seen) if sight.attended_s != seen[0].attended_s)
    if (first := next(changed, None)) is None:
        return 0.0, seen[-1].seen_s - seen[0].seen_s if seen else 0.0
    grown_s = seen[-1].attended_s - seen[first].attended_s
    return grown_s, seen[-1].seen_s - seen[first - 1].seen_s


def unheard(history: History, last_seen: Mapping[str, float], forgiven_s: float = 0.0) -> list[str]:
    """Judge E: each node that is there was seen when its last acknowledged heartbeat was sent, or later.

    `forgiven_s` is what a kill may cost: a flush interval of the instance that heard it.
    """
    latest: dict[str, Beat] = {}
    for beat in list(history.beats):
        if beat.status == 200 and beat.wall_s >= getattr(latest.get(beat.node_id), "wall_s", 0.0):
            latest[beat.node_id] = beat
    return [
        f"{node_id} was last seen {beat.wall_s - last_seen[node_id]:.2f} s before {beat}"
        for node_id, beat in latest.items()
        if node_id in last_seen and last_seen[node_id] < beat.wall_s - DOUBT_S - forgiven_s
    ]


def longest_silence_s(history: History, node_id: str) -> float:
    """Return how long, at most, a node was silent between two heartbeats that were taken.

    A client on a busy machine may itself take longer than a tolerance.
    """
    taken = [beat for beat in list(history.beats) if beat.node_id == node_id and beat.status == 200]
    taken.sort(key=lambda beat: beat.sent_s)
    return max((later.answered_s - one.sent_s for one, later in pairwise(taken)), default=inf)


def failed_beats(history: History, but: Iterable[str] = ()) -> list[str]:
    """Judge of availability: each plain heartbeat of an active node was taken, `but` at these instances."""
    spared = set(but)
    return [
        f"{beat} failed" for beat in list(history.beats) if beat.status != 200 and beat.instance not in spared
    ]


def gap_s(history: History, since_s: float) -> float:
    """Return how long after `since_s` the first change was acknowledged that was sent after it."""
    return min(
        (change.answered_s - since_s for change in history.acknowledged_since(since_s)), default=float("inf")
    )
