"""Goals, and whether a run reaches them. A goal is a figure to look at, not a test."""

from __future__ import annotations

from typing import NamedTuple

from . import (
    cluster,
    contestants,
    following,
    holding,
    latency,
    loads,
    proving,
    registering,
    stalls,
    starting,
    workers,
)
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
    return [
        *_load_goals(effort),
        *_proof_goals(effort),
        *_other_goals(effort),
        *_worker_goals(effort.usual),
        *_cluster_goals(effort.usual),
    ]


def _load_goals(effort: Effort) -> list[Goal]:
    small, usual = effort.small, effort.usual
    found = []
    for nodes, cpu_times in ((small, 1.6), (usual, 1.8)):
        case = loads.heartbeat_case(nodes)
        ours, bare = Subject(case, contestants.OURS), Subject(case, contestants.BARE)
        granian = ours._replace(name=contestants.GRANIAN)
        found += [
            Goal(f"{case}, CPU: × bare uvloop", cpu_times, "cpu_us", ours, bare),
            Goal(f"{case}, requests/s: × Granian", 1.8, "requests_per_s", ours, granian, True),
        ]
    for case, name, other, times in (
        (loads.logged_case(usual), contestants.LOGGED, contestants.OURS, 1.15),
        (loads.proxied_case(usual), contestants.PROXIED, contestants.BARE, 2.5),
        (loads.cold_case(usual), contestants.OURS, contestants.BARE_CLOSING, 1.6),
        (loads.tls_case(usual), contestants.OURS_TLS, contestants.NGINX_TLS, 3),
        (loads.varied_case(usual), contestants.OURS, contestants.BARE, 25),
    ):
        text = f"{case}, CPU: × {other}"
        found.append(Goal(text, times, "cpu_us", Subject(case, name), Subject(case, other)))
    if effort.large:
        large, least = (Subject(loads.varied_case(n), contestants.OURS) for n in (effort.large, small))
        found.append(Goal(f"{large.case}, CPU: × among {small:,}", 1.25, "cpu_us", large, least))
    for case, name in (
        (following.CASE, following.followed(effort)),
        (following.WATCH_CASE, following.watched(effort)),
    ):
        unfollowed = Subject(case, following.UNFOLLOWED)
        found.append(
            Goal(f"heartbeat, CPU: × without {name}", 1.1, "cpu_us", Subject(case, name), unfollowed)
        )
    return found


def _proof_goals(effort: Effort) -> list[Goal]:
    proofs = proving.case(effort)
    session, unproven = Subject(proofs, proving.SESSION), Subject(proofs, proving.UNPROVEN)
    cold, durable = Subject(proving.cold_case(effort), proving.ABOVE), registering.case(64)
    return [
        Goal("session heartbeat, CPU: × the unproven one", 1.5, "cpu_us", session, unproven),
        Goal("cold signed heartbeat, CPU above the cold one and the bare check, µs", 60, "cpu_us", cold),
        Goal(f"{durable}, CPU, µs", 80, "cpu_us", Subject(durable, contestants.OURS)),
    ]


def _other_goals(effort: Effort) -> list[Goal]:
    usual = effort.usual
    crowd = Subject(f"{effort.large or usual:,} {stalls.DEADLINES_CASE}", stalls.ALONE)
    deaths = Subject(stalls.deaths_case(effort), contestants.OURS)
    found = [
        Goal(f"{latency.case(mix)}: {name}", bound, metric, Subject(latency.case(mix), contestants.OURS))
        for mix in latency.MIXES
        for name, metric, bound in (("p99 ms", "p99_ms", 1.0), ("p99.9 ms", "p999_ms", 5.0))
    ]
    idle, registered = holding.IDLE_CASE, holding.registered_case(effort.registered)
    start, imported = (Subject(starting.CASE, name) for name in (contestants.OURS, starting.IMPORT))
    found += [
        Goal("start to the first answer: × import uvloop", 2.2, "seconds", start, imported),
        Goal("idle memory above import uvloop, MB", 12.0, "mb", Subject(idle, holding.OPENED)),
        Goal("idle memory before the first cryptographic use, MB", 5.0, "mb", Subject(idle, holding.FRESH)),
        Goal("memory of an idle connection, bytes", 4_096, "bytes_each",
             Subject(holding.CONNECTION_CASE, contestants.OURS)),
        Goal(f"{registered}, bytes", 550, "bytes_each", Subject(registered, contestants.OURS)),
        Goal(f"{crowd.case}: transitions/s", 200_000, "transitions_per_s", crowd, at_least=True),
        Goal(f"{deaths.case}: the longest stall, ms", 5.0, "max_ms", deaths),
        Goal(f"{deaths.case}: the slowest registration, ms", 100.0, "slowest_ms", deaths),
    ]  # fmt: skip
    for nodes, bound_s in ((usual, 0.7), (effort.large, 6.0)):
        if nodes:
            case = starting.restore_case(nodes)
            found.append(Goal(f"{case}, s", bound_s, "seconds", Subject(case, contestants.OURS)))
    return found


def _worker_goals(nodes: int) -> list[Goal]:
    """Return the goals of two workers: 1.8 times the answers, if a request costs 2 ÷ 1.8 of the CPU."""
    found = []
    for kind in workers.KINDS:
        for case, text, bound, metric in (
            (workers.case(kind, nodes), "CPU: × one process", 2 / 1.8, "cpu_us"),
            (workers.throttled_case(kind, nodes), "requests/s: × one process", 1.8, "requests_per_s"),
        ):
            two, one = (Subject(case, name) for name in (contestants.WORKERS, contestants.OURS))
            found.append(Goal(f"{case}, {text}", bound, metric, two, one, metric != "cpu_us"))
    lag, replaced = workers.CHANGES_CASE, workers.replaced_case(nodes)
    return [
        *found,
        Goal(f"{lag}: lag p99, ms", 20.0, "lag_p99_ms", Subject(lag, contestants.WORKERS)),
        Goal(f"{replaced}, s", 1.0, "seconds", Subject(replaced, contestants.WORKERS)),
    ]


def _cluster_goals(nodes: int) -> list[Goal]:
    killed, silent, stopped, lag = (
        Subject(case, cluster.TWO)
        for case in (cluster.KILLED, cluster.SILENT, cluster.STOPPED, cluster.CHANGES_CASE)
    )
    near, far = (Subject(cluster.LINK_CASE, name) for name in (cluster.NEAR, cluster.FAR))
    one, *more = (Subject(cluster.THROTTLED_CASE, name) for name in cluster.SIZES.values())
    loaded = cluster.load_case(nodes)
    return [
        Goal(f"{killed.case}, s", 3.5, "seconds", killed),
        *(Goal(f"{each.case}, the longest, s", bound_s, "longest_s", each)
          for each, bound_s in ((killed, 5.0), (silent, 5.0), (stopped, 0.5))),
        *(Goal(f"{each.case}: heartbeats that failed", 0.0, "heartbeats_failed", each)
          for each in (killed, silent, stopped)),
        Goal(f"{lag.case}: lag p99, ms", 20.0, "lag_p99_ms", lag),
        *(Goal(f"{each.case}, {each.name}, requests/s: × one", 0.85, "requests_per_s", each, one, True)
          for each in more),
        Goal(f"{far.case}, {far.name}, requests/s: × without", 0.97, "requests_per_s", far, near, True),
        *(Goal(f"{loaded}: {name}, s", 1.0, "seconds", Subject(loaded, name))
          for name in (cluster.PROMOTED, cluster.JOINED)),
    ]  # fmt: skip


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
