"""Every figure of a running server, for Prometheus. All of them are there from the start, at zero.

Names end with their unit; ``process_*`` are the names of Prometheus's own libraries.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping

from .. import __version__
from ..api.wire.cluster import ROLES, ClusterFigures
from ..directory.directory import Directory
from ..directory.empathy.visiting import Visiting
from ..directory.lifecycle import LIVE_STATES, TABLE
from ..directory.state.blocks import Kind
from ..histogram import Histogram
from ..listening import Certificate
from ..storage.store import StoreState
from .exposition import Family, Labels, choice, counter, gauge, histogram, render
from .figures import Parts
from .process import process_figures
from .traffic import Served, Sums, Traffic

# Answers without a route: unknown paths and methods, and invalid HTTP.
NO_ROUTE = "none"
STALLS = ("openred_loop_stall_seconds", "Delay of timers: the wait for the event loop.")
_CLASSES = (2, 3, 4, 5)


def metrics_text(
    parts: Parts,
    traffic: Traffic,
    events: int,
    task_failures: Mapping[str, int],
    workers: Sums | None = None,
    cluster: ClusterFigures | None = None,
) -> bytes:
    """Return the answer to ``GET /metrics``.

    `events` is how many events were written; `task_failures` counts failures of background tasks by name.
    With `workers`, `traffic` is what they returned. `cluster` is None if this server is in none.
    """
    return render(
        [
            *_process(parts.uptime_s, traffic),
            *_directory(parts.directory),
            *_requests(traffic.served),
            *_refusals(traffic),
            _certificate(parts.certificate),
            *_events(traffic, events),
            *_store(parts),
            *_time(parts, traffic.stalls),
            counter(
                "openred_task_failures_total",
                "Failures of background tasks, which restart after a pause.",
                {(("task", name),): count for name, count in sorted(task_failures.items())},
            ),
            *(_workers(traffic, workers) if workers is not None else ()),
            *(cluster_families(cluster) if cluster is not None else ()),
        ]
    )


def follower_metrics_text(
    directory: Directory,
    traffic: Traffic,
    uptime_s: float,
    certificate: Certificate | None,
    cluster: ClusterFigures,
) -> bytes:
    """Return the answer of an instance that follows: its own figures, and its copy of the directory.

    Figures of the store, the life cycle and the tasks are those of the leader.
    """
    return render(
        [
            *_process(uptime_s, traffic),
            *_directory(directory),
            *_requests(traffic.served),
            *_refusals(traffic),
            _certificate(certificate),
            histogram(*STALLS, traffic.stalls),
            *_forwarding(traffic),
            *cluster_families(cluster),
        ]
    )


def _certificate(certificate: Certificate | None) -> Family:
    return gauge(
        "openred_tls_certificate_expiry_timestamp_seconds",
        "End of the public listener's certificate, in Unix time; 0 for none.",
        certificate.expires_at if certificate else 0,
    )


def _process(uptime_s: float, traffic: Traffic) -> Iterator[Family]:
    build = (("version", __version__), ("python", platform.python_version()))
    yield gauge("openred_build_info", "The version that runs; always 1.", {build: 1})
    yield gauge("openred_uptime_seconds", "Time since the start of the server.", uptime_s)
    figures = process_figures()
    yield counter("process_cpu_seconds_total", "Processor time used.", figures.processor_s)
    yield gauge("process_max_fds", "Limit of open file descriptors.", figures.descriptors_max)
    if figures.resident_bytes is not None:
        yield gauge("process_resident_memory_bytes", "Memory in use.", figures.resident_bytes)
    if figures.descriptors_open is not None:
        yield gauge("process_open_fds", "Open file descriptors.", figures.descriptors_open)
    yield counter(
        "openred_log_lines_dropped_total",
        "Log lines dropped: not read in time, or not writable.",
        traffic.log_lines_dropped,
    )


def _directory(directory: Directory) -> Iterator[Family]:
    nodes, silence = directory.nodes, directory.expiry.silence
    by_state: dict[Labels, float] = {
        (("state", state.wire),): nodes.registry.state_counts[state] for state in LIVE_STATES
    }
    yield gauge("openred_nodes", "Registered nodes by state.", by_state)
    yield gauge("openred_nodes_max", "Limit of registered nodes.", directory.options.nodes_max)
    yield gauge(
        "openred_nodes_bytes", "Approximate bytes of all records in memory.", nodes.registry.bytes_held
    )
    yield gauge("openred_nodes_bytes_max", "Limit of the bytes of all records.", directory.options.bytes_max)
    yield counter(
        "openred_nodes_bytes_refusals_total",
        "New nodes and longer records refused at the limit of bytes.",
        directory.bytes_refusals,
    )
    yield gauge("openred_tombstones", "Tombstones kept of dead nodes.", len(nodes.tombstones))
    blocks = directory.blocking.blocks
    by_kind: dict[Labels, float] = {(("kind", kind.value),): blocks.count(kind) for kind in Kind}
    yield gauge("openred_blocks", "Blocks by what they keep out.", by_kind)
    kinds = {(before, after, event.value) for (before, event), after in TABLE.items() if after is not before}
    transitions: dict[Labels, float] = {
        (("from", before.wire), ("to", after.wire), ("reason", reason)): nodes.transitions.counts[
            before, after, reason
        ]
        for before, after, reason in sorted(kinds)
    }
    yield counter("openred_transitions_total", "Changes of state.", transitions)
    yield gauge("openred_nodes_set_aside", "Nodes whose transition failed.", len(directory.expiry.set_aside))
    yield gauge(
        "openred_mass_silence_held",
        "1 while mass silence holds transitions.",
        silence.hold is not None,
    )
    yield gauge(
        "openred_all_silent_held",
        "1 while attended time stands still because nobody is heard.",
        directory.expiry.attendance.hold is not None,
    )
    watch = directory.watch
    yield gauge(
        "openred_watched_groups",
        "Networks and regions that are watched for falling silent as a whole.",
        watch.watched if watch is not None else 0,
    )
    yield gauge(
        "openred_dark_groups",
        "Networks and regions that fell silent as a whole.",
        len(watch.dark) if watch is not None else 0,
    )
    if directory.visiting is not None:
        yield from _forecast(directory.visiting)
    yield gauge(
        "openred_mass_silence_waiting_nodes",
        "Nodes whose transitions mass silence holds.",
        len(directory.expiry.waiting),
    )
    yield gauge(
        "openred_mass_silence_recent_nodes", "Nodes that became silent within an hour.", silence.recent
    )
    yield gauge(
        "openred_mass_silence_usual_nodes",
        "The usual number of nodes that become silent within an hour.",
        silence.usual_per_h,
    )


def _forecast(visiting: Visiting) -> Iterator[Family]:
    quality = visiting.calibration.quality()
    yield gauge("openred_nodes_late", "Nodes whose sign of life is overdue.", visiting.late)
    yield gauge("openred_nodes_obeying", "Nodes that follow the advised pace.", visiting.obeying)
    yield counter("openred_visits_total", "Visits of a chunk of nodes.", visiting.visits)
    yield gauge(
        "openred_advised_heartbeats_per_second", "Heartbeats that nodes are advised.", visiting.advised_per_s
    )
    yield counter("openred_dues_total", "Dues compared with what was expected.", visiting.calibration.samples)
    yield gauge("openred_forecast_brier", "Mean squared error of the chances.", quality.brier or 0.0)
    yield gauge(
        "openred_forecast_calibration_error",
        "Expected calibration error of the chances.",
        quality.error or 0.0,
    )


def _requests(served: Served) -> Iterator[Family]:
    stats = served.stats
    answers: dict[Labels, float] = {}
    unrouted = list(stats.responses)
    for name, counts in sorted(served.answers.items(), key=lambda item: item[0].partition(" ")[::-1]):
        method, _, template = name.partition(" ")
        for kind in _CLASSES:
            answers[_answer_labels(method, template, kind)] = counts[kind]
            unrouted[kind] -= counts[kind]
    for kind in _CLASSES:
        answers[_answer_labels(NO_ROUTE, NO_ROUTE, kind)] = unrouted[kind]
    yield counter("openred_http_responses_total", "Answers by route and class of status.", answers)
    yield counter("openred_http_requests_total", "Requests with a complete head.", stats.requests)
    yield histogram(
        "openred_http_request_duration_seconds",
        "Time from the head of a request to its answer, or to the head of a stream.",
        stats.latency,
    )
    yield counter("openred_http_received_bytes_total", "Bytes received.", stats.bytes_in)
    yield counter("openred_http_sent_bytes_total", "Bytes sent.", stats.bytes_out)
    yield gauge("openred_http_connections", "Open connections.", served.connections_open)
    yield gauge("openred_http_connections_max", "Limit of open connections.", served.connections_max)
    yield counter("openred_http_connections_total", "Connections accepted.", stats.connections_total)
    yield counter(
        "openred_http_connections_refused_total",
        "Connections refused at a limit.",
        stats.connections_refused,
    )
    yield counter(
        "openred_http_connections_reset_total",
        "Connections reset because the client did not read.",
        stats.connections_reset,
    )
    yield counter("openred_http_timeouts_total", "Requests that did not arrive in time.", stats.timeouts)
    yield counter("openred_http_failures_total", "Answers 500: bugs of the server.", stats.handler_failures)
    yield counter(
        "openred_http_accept_pauses_total",
        "Pauses in accepting for lack of file descriptors.",
        stats.accept_pauses,
    )


def _refusals(traffic: Traffic) -> Iterator[Family]:
    limited: dict[Labels, float] = {(("policy", name),): count for name, count in traffic.limited.items()}
    yield counter("openred_requests_limited_total", "Answers 429, by the policy violated.", limited)
    failed: dict[Labels, float] = {(("reason", name),): count for name, count in traffic.unproved.items()}
    yield counter("openred_proofs_failed_total", "Requests whose proof failed, by reason.", failed)


def _answer_labels(method: str, template: str, kind: int) -> Labels:
    return ("method", method), ("route", template), ("status", f"{kind}xx")


def _events(traffic: Traffic, events: int) -> Iterator[Family]:
    yield gauge("openred_events_subscribers", "Subscribers of GET /events.", traffic.subscribers)
    yield gauge("openred_events_subscribers_max", "Limit of subscribers.", traffic.subscribers_max)
    yield counter("openred_events_total", "Events written, without figures.", events)
    yield counter(
        "openred_events_dropped_total",
        "Subscribers disconnected because they did not read.",
        traffic.subscribers_dropped,
    )
    yield counter(
        "openred_events_refused_total", "Subscribers refused at the limit.", traffic.subscribers_refused
    )


def _store(parts: Parts) -> Iterator[Family]:
    saver = parts.saver
    states = [state.value for state in StoreState]
    yield choice("openred_store_state", "State of the store.", "state", states, saver.state.value)
    yield gauge(
        "openred_store_pending_changes",
        "Changes waiting for the store; all signs of life of a page are one.",
        parts.directory.saving.pending,
    )
    yield histogram("openred_store_commit_duration_seconds", "Time that commits took.", saver.stats.commits)
    yield counter(
        "openred_store_rows_total", "Rows stored; all signs of life of a page are one.", saver.stats.rows
    )
    yield counter("openred_store_rows_refused_total", "Rows that cannot be stored.", saver.stats.rows_refused)
    yield counter("openred_store_failures_total", "Commits that failed.", saver.trouble.failures)
    yield gauge("openred_store_log_bytes", "Size of the database's write-ahead log.", parts.store.log_bytes)
    taken = parts.snapshotter.stats if parts.snapshotter is not None else None
    yield counter("openred_snapshots_total", "Snapshots taken.", taken.snapshots if taken else 0)
    failures = parts.snapshotter.trouble.failures if parts.snapshotter is not None else 0
    yield counter("openred_snapshots_failed_total", "Snapshots that failed.", failures)
    yield gauge(
        "openred_snapshot_last_timestamp_seconds",
        "Time of the last snapshot of this run, in Unix time; 0 before the first.",
        (taken.last_at or 0) if taken else 0,
    )
    yield gauge("openred_snapshot_last_bytes", "Size of the last snapshot.", taken.last_bytes if taken else 0)


def _time(parts: Parts, stalls: Histogram) -> Iterator[Family]:
    yield counter(
        "openred_attended_seconds_total",
        "The clock of the life cycle, over all runs.",
        parts.attended.now().attended_s,
    )
    yield gauge(
        "openred_attending",
        "1 while that clock runs: the store is reachable and no transition is held.",
        parts.attended.attending,
    )
    yield counter("openred_scheduler_ticks_total", "Ticks of the scheduler.", parts.scheduler.ticks)
    yield histogram(
        "openred_scheduler_lateness_seconds",
        "Delay between a deadline and its handling.",
        parts.scheduler.lateness,
    )
    yield histogram(*STALLS, stalls)


def _workers(traffic: Traffic, workers: Sums) -> Iterator[Family]:
    yield gauge("openred_workers", "Worker processes that report.", workers.running)
    yield counter("openred_worker_restarts_total", "Workers that ended and were replaced.", workers.restarts)
    yield counter(
        "openred_workers_cpu_seconds_total", "Processor time used by all workers.", traffic.processor_s
    )
    yield gauge(
        "openred_workers_resident_memory_bytes", "Memory in use by all workers.", traffic.resident_bytes
    )
    yield from _forwarding(traffic)


def _forwarding(traffic: Traffic) -> Iterator[Family]:
    outcomes: dict[Labels, float] = {(("outcome", name),): count for name, count in traffic.forwarded.items()}
    yield counter(
        "openred_forwarded_requests_total", "Requests that followers handed on to the leader.", outcomes
    )
    yield histogram(
        "openred_replication_lag_seconds",
        "Time from the commit of a change to its application by a follower.",
        traffic.lag,
    )


def cluster_families(cluster: ClusterFigures) -> Iterator[Family]:
    """Yield what an instance tells of its cluster."""
    yield choice("openred_cluster_role", "What this instance is.", "role", ROLES, cluster.role)
    yield gauge("openred_cluster_term", "The term of the leader; each has a higher one.", cluster.term)
    yield gauge("openred_cluster_seq", "Number of the last commit that is known here.", cluster.seq)
    yield gauge(
        "openred_cluster_behind_seconds",
        "Time since this copy of the directory was surely up to date.",
        cluster.behind_s,
    )
    yield gauge(
        "openred_cluster_instances",
        "Instances that the leader knows, itself included; 0 at others.",
        len(cluster.instances),
    )
    yield gauge(
        "openred_cluster_confirmed_age_seconds",
        "Time since the leader asked the database what it has answered; 0 at others.",
        cluster.confirmed_s or 0.0,
    )
