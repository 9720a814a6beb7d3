"""Goals, and whether a run reaches them. A goal is a figure to look at, not a test."""

from __future__ import annotations

from typing import NamedTuple

from . import contestants, following, holding, latency, loads, proving, stalls, starting
from .samples import Effort, Samples, Spread, Subject


class Goal(NamedTuple):
    """A bound, at most or at least, of `metric` of `subject`, or of its ratio to that of `other`."""

    text: str
    bound: float
    metric: str
    subject: Subject
    other: Subject | None = None
    at_least: bool = False


class Outcome(NamedTuple):
    """A goal with its figure; None if it was not measured."""

    goal: Goal
    measured: Spread | None

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        value, bound = self.measured.median, self.goal.bound
        return "hit" if (value >= bound if self.goal.at_least else value <= bound) else "missed"


def goals(effort: Effort) -> list[Goal]:
    """Return all goals of a run of this size."""
    return [*_load_goals(effort), *_other_goals(effort)]


def _load_goals(effort: Effort) -> list[Goal]:
    heartbeat, usual = loads.heartbeat_case(effort), effort.usual
    ours = Subject(heartbeat, contestants.OURS)
    found = [
        Goal("heartbeat, CPU: × bare uvloop", 1.5, "cpu_us", ours, Subject(heartbeat, contestants.BARE)),
        *(
            Goal(
                f"heartbeat, requests/s: × {name}",
                times,
                "requests_per_s",
                ours,
                Subject(heartbeat, name),
                True,
            )
            for name, times in ((contestants.GRANIAN, 2), (contestants.AIOHTTP, 4), (contestants.FASTAPI, 10))
        ),
    ]
    proofs = proving.case(effort)
    session, unproven = Subject(proofs, proving.SESSION), Subject(proofs, proving.UNPROVEN)
    found.append(Goal("session heartbeat, CPU: × the unproven one", 1.5, "cpu_us", session, unproven))
    followed = Subject(following.CASE, f"{effort.subscribers:,} subscribers")
    unfollowed = Subject(following.CASE, following.UNFOLLOWED)
    text = f"heartbeat, CPU: × without {effort.subscribers:,} event subscribers"
    found.append(Goal(text, 1.1, "cpu_us", followed, unfollowed))
    for services in (loads.ONE_SERVICE, loads.TWO_SERVICES):
        case = loads.discover_case(usual, services)
        mine = Subject(case, contestants.OURS)
        found += [
            Goal(f"{case}, requests/s: × {name}", times, "requests_per_s", mine, Subject(case, name), True)
            for name, times in ((contestants.AIOHTTP, 4), (contestants.FASTAPI, 30))
        ]
        if effort.large:
            large, small = (loads.discover_case(nodes, services) for nodes in (effort.large, effort.small))
            text = f"{large}, CPU: × among {effort.small:,}"
            found.append(
                Goal(text, 1.2, "cpu_us", Subject(large, contestants.OURS), Subject(small, contestants.OURS))
            )
    return found


def _other_goals(effort: Effort) -> list[Goal]:
    crowd = effort.large or effort.usual
    alone = Subject(f"{crowd:,} {stalls.DEADLINES_CASE}", stalls.ALONE)
    served = alone._replace(name=stalls.SERVED)
    found = [
        Goal(f"{latency.case(mix)}: {name}", bound, metric, Subject(latency.case(mix), contestants.OURS))
        for mix in latency.MIXES
        for name, metric, bound in (("p99 ms", "p99_ms", 1.0), ("p99.9 ms", "p999_ms", 5.0))
    ]
    start, idle = starting.CASE, holding.IDLE_CASE
    found += [
        Goal("start to the first answer: × import uvloop", 2.2, "seconds", Subject(start, contestants.OURS),
             Subject(start, starting.IMPORT)),
        Goal("idle memory above import uvloop, MB", 12.0, "mb", Subject(idle, holding.OPENED)),
        Goal("idle memory before the first cryptographic use, MB", 5.0, "mb", Subject(idle, holding.FRESH)),
        Goal("memory of an idle connection, bytes", 4_096, "bytes_each",
             Subject(holding.CONNECTION_CASE, contestants.OURS)),
        Goal(f"{alone.case}: transitions/s", 200_000, "transitions_per_s", alone, at_least=True),
        Goal(f"{alone.case}: the longest stall, ms", 5.0, "max_ms", served),
    ]  # fmt: skip
    if effort.large:
        held = Subject(holding.node_case(effort.large), holding.ALONE)
        found.append(Goal(f"memory of a node among {effort.large:,}, bytes", 450, "bytes_each", held))
    return found


def outcomes(effort: Effort, samples: Samples) -> list[Outcome]:
    """Return each goal with its figure."""
    return [
        Outcome(
            goal,
            samples.ratio(goal.subject, goal.other, goal.metric)
            if goal.other
            else samples.spread(goal.subject, goal.metric),
        )
        for goal in goals(effort)
    ]
