"""Every figure of a running server, for Prometheus. All of them are there from the start, at zero.

Names end with their unit; ``process_*`` are those that Prometheus's own libraries use.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping

from .. import __version__
from ..api.admin.exposition import Family, Labels, choice, counter, gauge, histogram, render
from ..api.caller.limiting import Refusals
from ..api.feed.broadcast import Broadcast
from ..directory.lifecycle import LIVE_STATES, TABLE
from ..logs import lines_dropped
from ..micro_engine.router import Route
from ..storage.sqlite.state import StoreState
from ..tasks.stall_meter import StallMeter
from .figures import Parts
from .process import process_figures

# Answers that no route gave: unknown paths and methods, and what is no HTTP.
NO_ROUTE = "none"
_CLASSES = (2, 3, 4, 5)


def metrics_text(
    parts: Parts,
    broadcast: Broadcast,
    stalls: StallMeter,
    refusals: Refusals,
    task_failures: Mapping[str, int],
) -> bytes:
    """The answer to ``GET /metrics``. `task_failures`: by name, how often each background task failed."""
    return render(
        [
            *_process(parts),
            *_directory(parts),
            *_requests(parts),
            *_refusals(refusals),
            *_certificate(parts),
            *_events(broadcast),
            *_store(parts),
            *_time(parts, stalls),
            counter(
                "openred_task_failures_total",
                "How often a background task failed, and went on after a pause.",
                {(("task", name),): count for name, count in sorted(task_failures.items())},
            ),
        ]
    )


def _process(parts: Parts) -> Iterator[Family]:
    build = (("version", __version__), ("python", platform.python_version()))
    yield gauge("openred_build_info", "What runs here; always 1.", {build: 1})
    yield gauge("openred_uptime_seconds", "How long the server has been up.", parts.uptime_s)
    figures = process_figures()
    yield counter("process_cpu_seconds_total", "Processor time used.", figures.processor_s)
    yield gauge("process_max_fds", "File descriptors that may be open.", figures.descriptors_max)
    if figures.resident_bytes is not None:
        yield gauge("process_resident_memory_bytes", "Memory in use.", figures.resident_bytes)
    if figures.descriptors_open is not None:
        yield gauge("process_open_fds", "File descriptors that are open.", figures.descriptors_open)
    yield counter(
        "openred_log_lines_dropped_total",
        "Lines of the log that nobody read in time, or that could not be written.",
        lines_dropped(),
    )


def _directory(parts: Parts) -> Iterator[Family]:
    directory = parts.directory
    nodes, silence = directory.nodes, directory.expiry.silence
    by_state: dict[Labels, float] = {
        (("state", state.wire),): nodes.registry.state_counts[state] for state in LIVE_STATES
    }
    yield gauge("openred_nodes", "Registered nodes by state.", by_state)
    yield gauge("openred_nodes_max", "Nodes that may be registered.", directory.options.nodes_max)
    yield gauge("openred_nodes_bytes", "Bytes of all records in memory, about.", nodes.registry.bytes_held)
    yield gauge("openred_nodes_bytes_max", "Bytes that all records may take.", directory.options.bytes_max)
    yield counter(
        "openred_nodes_bytes_refusals_total",
        "New nodes and longer records refused for want of bytes.",
        directory.bytes_refusals,
    )
    yield gauge("openred_tombstones", "Names of dead nodes that are kept.", len(nodes.tombstones))
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
        "openred_mass_silence_waiting_nodes", "Nodes that are due and held.", directory.expiry.waiting_count
    )
    yield gauge("openred_mass_silence_recent_nodes", "Nodes that fell silent within an hour.", silence.recent)
    yield gauge("openred_mass_silence_usual_nodes", "How many an hour are usual.", silence.usual_per_h)


def _requests(parts: Parts) -> Iterator[Family]:
    engine = parts.engine
    stats = engine.stats
    answers: dict[Labels, float] = {}
    unrouted = list(stats.responses)
    for route in sorted(engine.routes(), key=_name):
        for kind in _CLASSES:
            answers[_answer_labels(route.method, route.template, kind)] = route.responses[kind]
            unrouted[kind] -= route.responses[kind]
    for kind in _CLASSES:
        answers[_answer_labels(NO_ROUTE, NO_ROUTE, kind)] = unrouted[kind]
    yield counter("openred_http_responses_total", "Answers by route and class of status.", answers)
    yield counter("openred_http_requests_total", "Requests whose head was read.", stats.requests)
    yield histogram(
        "openred_http_request_duration_seconds",
        "From the head of a request to its answer, or the head of a stream.",
        stats.latency,
    )
    yield counter("openred_http_received_bytes_total", "Bytes received.", stats.bytes_in)
    yield counter("openred_http_sent_bytes_total", "Bytes sent.", stats.bytes_out)
    yield gauge("openred_http_connections", "Connections that are open.", engine.connections_open)
    yield gauge(
        "openred_http_connections_max", "Connections that may be open.", engine.limits.connections_max
    )
    yield counter("openred_http_connections_total", "Connections accepted.", stats.connections_total)
    yield counter(
        "openred_http_connections_refused_total",
        "Connections turned away by a cap.",
        stats.connections_refused,
    )
    yield counter(
        "openred_http_connections_reset_total",
        "Connections cut because the client did not read.",
        stats.connections_reset,
    )
    yield counter("openred_http_timeouts_total", "Requests that did not come in time.", stats.timeouts)
    yield counter("openred_http_failures_total", "Answers 500: our bugs.", stats.handler_failures)
    yield counter(
        "openred_http_accept_pauses_total", "Pauses for want of file descriptors.", stats.accept_pauses
    )


def _refusals(refusals: Refusals) -> Iterator[Family]:
    limited: dict[Labels, float] = {(("policy", name),): count for name, count in refusals.by_policy.items()}
    yield counter("openred_requests_limited_total", "Answers 429, by the policy violated.", limited)
    failed: dict[Labels, float] = {(("reason", name),): count for name, count in refusals.by_reason.items()}
    yield counter("openred_proofs_failed_total", "Requests not shown to come from the node.", failed)


def _certificate(parts: Parts) -> Iterator[Family]:
    yield gauge(
        "openred_tls_certificate_expiry_timestamp_seconds",
        "When the certificate of the public listener ends, in Unix time; 0 for none.",
        parts.certificate.expires_at if parts.certificate else 0,
    )


def _name(route: Route) -> tuple[str, str]:
    return route.template, route.method


def _answer_labels(method: str, template: str, kind: int) -> Labels:
    return ("method", method), ("route", template), ("status", f"{kind}xx")


def _events(broadcast: Broadcast) -> Iterator[Family]:
    yield gauge("openred_events_subscribers", "Clients that follow GET /events.", len(broadcast.readers))
    yield gauge("openred_events_subscribers_max", "Clients that may.", broadcast.readers_max)
    yield counter("openred_events_total", "Events written down, figures left out.", broadcast.log.last)
    yield counter("openred_events_dropped_total", "Clients cut off for not reading.", broadcast.dropped)
    yield counter("openred_events_refused_total", "Clients refused, there were too many.", broadcast.refused)


def _store(parts: Parts) -> Iterator[Family]:
    saver = parts.saver
    states = [state.value for state in StoreState]
    yield choice("openred_store_state", "How the store keeps up.", "state", states, saver.state.value)
    yield gauge(
        "openred_store_pending_changes", "Changes that wait to be stored.", parts.directory.saving.pending
    )
    yield histogram("openred_store_commit_duration_seconds", "How long commits took.", saver.stats.commits)
    yield counter("openred_store_rows_total", "Rows stored.", saver.stats.rows)
    yield counter("openred_store_rows_refused_total", "Rows that cannot be stored.", saver.stats.rows_refused)
    yield counter("openred_store_failures_total", "Commits that failed.", saver.stats.failures)
    yield gauge("openred_store_log_bytes", "Size of the database's write-ahead log.", parts.store.log_bytes)
    taken = parts.snapshotter.stats if parts.snapshotter is not None else None
    yield counter("openred_snapshots_total", "Snapshots taken.", taken.snapshots if taken else 0)
    yield counter("openred_snapshots_failed_total", "Snapshots that failed.", taken.failures if taken else 0)
    yield gauge(
        "openred_snapshot_last_timestamp_seconds",
        "When the last snapshot of this run was taken, in Unix time; 0 for not yet.",
        (taken.last_at or 0) if taken else 0,
    )
    yield gauge("openred_snapshot_last_bytes", "How large it was.", taken.last_bytes if taken else 0)


def _time(parts: Parts, stalls: StallMeter) -> Iterator[Family]:
    yield counter(
        "openred_attended_seconds_total",
        "The clock of the life cycle, over all runs.",
        parts.attended.now().attended_s,
    )
    yield gauge(
        "openred_attending",
        "1 while that clock runs: the store is reachable and nothing is held.",
        parts.attended.attending,
    )
    yield counter("openred_scheduler_ticks_total", "Looks for due nodes.", parts.scheduler.ticks)
    yield histogram(
        "openred_scheduler_lateness_seconds", "How late what was due was handled.", parts.scheduler.lateness
    )
    yield histogram(
        "openred_loop_stall_seconds", "How late timers fire: the wait before anything is done.", stalls.stalls
    )
