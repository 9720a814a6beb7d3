"""The figures for Prometheus, as Prometheus's own parser reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from openred_central.api.caller.limiting import Refusals
from openred_central.api.feed.broadcast import Broadcast
from openred_central.api.feed.event_log import EventFeed, EventLog
from openred_central.api.wire.cluster import ROLES
from openred_central.directory.lifecycle import State
from openred_central.histogram import Histogram
from openred_central.micro_engine.engine import Engine
from openred_central.reporting import process
from openred_central.reporting.exposition import render
from openred_central.reporting.figures import Parts
from openred_central.reporting.metrics import cluster_families, metrics_text
from openred_central.reporting.process import process_figures
from openred_central.reporting.traffic import Sums, Traffic, of_worker, pack, read_traffic
from openred_central.tasks.stall_meter import StallMeter
from tests.support.cluster_figures import FOLLOWER, LEADER

from .test_figures import advance, make_parts

UNITS = ("_seconds", "_bytes", "_total", "_info", "_nodes", "_ratio", "_max")


class Scraped:
    """A scrape of `parts`, by the name of the sample and its labels."""

    def __init__(self, parts: Parts, refusals: Refusals | None = None) -> None:
        feed = EventFeed(EventLog("run"), parts.directory.nodes)
        broadcast = Broadcast(feed, dict, parts.clock.wall_s, subscribers_max=7)
        around = read_traffic(Engine(), broadcast, StallMeter(parts.clock), refusals or Refusals([]))
        traffic = around._replace(served=parts.served())
        text = metrics_text(parts, traffic, broadcast.log.last, {"saver": 0}).decode()
        self.families = {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float:
        found: list[Any] = [
            sample
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        assert len(found) == 1, (name, labels)
        return float(found[0].value)


@pytest.fixture
def parts() -> Parts:
    return make_parts()


def test_every_figure_is_there_before_anything_happened(parts: Parts) -> None:
    scraped = Scraped(parts)
    assert all(family.samples and family.documentation for family in scraped.families.values())
    for name, labels in {
        "openred_http_requests_total": {},
        "openred_task_failures_total": {"task": "saver"},
        "openred_store_failures_total": {},
        "openred_snapshots_total": {},
        "openred_store_log_bytes": {},
        "openred_events_dropped_total": {},
        "openred_log_lines_dropped_total": {},
        "openred_requests_limited_total": {"policy": "nodes-per-network"},
        "openred_proofs_failed_total": {"reason": "bad_signature"},
        "openred_tls_certificate_expiry_timestamp_seconds": {},
        "openred_transitions_total": {"from": "coma", "to": "dead", "reason": "deadline"},
        "openred_http_responses_total": {
            "method": "POST",
            "route": "/heartbeat/{node_id}",
            "status": "5xx",
        },
        "openred_http_request_duration_seconds_count": {},
        "openred_loop_stall_seconds_count": {},
        "openred_store_commit_duration_seconds_count": {},
        "openred_scheduler_lateness_seconds_count": {},
    }.items():
        assert scraped.value(name, **labels) == 0, name
    for family in scraped.families.values():
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_counts_appear_in_the_metrics(parts: Parts) -> None:
    served = parts.served()
    stats, heartbeats = served.stats, served.answers["POST /heartbeat/{node_id}"]
    stats.requests, stats.responses[2], stats.responses[4] = 12, 9, 3
    heartbeats[2], heartbeats[4] = 9, 1
    stats.latency.observe(0.004)
    parts.directory.nodes.transitions.counts[State.COMA, State.DEAD, "deadline"] = 4
    parts.saver.stats.rows = 17
    advance(parts, 2.5)
    scraped = Scraped(parts)
    assert scraped.value("openred_http_requests_total") == 12
    beat = {"method": "POST", "route": "/heartbeat/{node_id}"}
    assert scraped.value("openred_http_responses_total", **beat, status="2xx") == 9
    assert scraped.value("openred_http_responses_total", **beat, status="4xx") == 1
    assert scraped.value("openred_http_responses_total", method="none", route="none", status="4xx") == 2
    labels = {"from": "coma", "to": "dead", "reason": "deadline"}
    assert scraped.value("openred_transitions_total", **labels) == 4
    assert scraped.value("openred_http_request_duration_seconds_bucket", le="0.002") == 0
    assert scraped.value("openred_http_request_duration_seconds_bucket", le="0.005") == 1
    assert scraped.value("openred_store_rows_total") == 17
    assert scraped.value("openred_uptime_seconds") == 2.5


def test_the_state_of_the_store_is_one_of_three(parts: Parts) -> None:
    scraped = Scraped(parts)
    states = {word: scraped.value("openred_store_state", state=word) for word in ("ok", "behind", "detached")}
    assert states == {"ok": 1, "behind": 0, "detached": 0}


def test_every_possible_transition_is_there_from_the_start(parts: Parts) -> None:
    samples = Scraped(parts).families["openred_transitions"].samples
    kinds = {(one.labels["from"], one.labels["to"], one.labels["reason"]) for one in samples}
    assert ("absent", "active", "registered") in kinds
    assert ("retry_2w", "coma", "left") in kinds
    assert ("active", "active", "sign_of_life") not in kinds
    assert len(kinds) == len(samples)


def test_refusals_are_reported_by_policy_and_reason(parts: Parts) -> None:
    refusals = Refusals(["register", "heartbeat"])
    refusals.limited("heartbeat")
    refusals.unproved("signature_expired")
    refusals.unproved("too_many_proofs")
    scraped = Scraped(parts, refusals)
    limited = {
        name: scraped.value("openred_requests_limited_total", policy=name) for name in refusals.by_policy
    }
    assert limited == {"register": 0, "heartbeat": 1, "nodes-per-network": 0, "proofs": 1}
    for reason in ("signature_expired", "too_many_proofs", "replayed"):
        expected = 0 if reason == "replayed" else 1
        assert scraped.value("openred_proofs_failed_total", reason=reason) == expected


def test_process_figures_are_those_of_this_process() -> None:
    before = process_figures()
    assert before.resident_bytes is not None
    assert before.resident_bytes > 1 << 20
    assert before.processor_s > 0
    assert before.descriptors_open is not None
    assert before.descriptors_max >= before.descriptors_open
    reading, writing = os.pipe()
    try:
        assert process_figures().descriptors_open == before.descriptors_open + 2
    finally:
        os.close(reading)
        os.close(writing)


def test_figures_from_proc_are_missing_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "_STATM", tmp_path / "none")
    figures = process_figures()
    assert (figures.resident_bytes, figures.descriptors_open) == (None, None)
    assert figures.processor_s > 0


def test_figures_of_workers_are_there_with_workers_alone(parts: Parts) -> None:
    assert not [name for name in Scraped(parts).families if "worker" in name or "replication" in name]
    engine, stalls = Engine(), StallMeter(parts.clock)
    broadcast = Broadcast(
        EventFeed(EventLog("run"), parts.directory.nodes), dict, lambda: 0.0, subscribers_max=7
    )

    def traffic() -> Traffic:
        own = read_traffic(engine, broadcast, stalls, Refusals([]))
        return own._replace(forwarded={"answered": 0, "failed": 0})

    workers, lag = Sums(traffic), Histogram()
    text = metrics_text(parts, workers(), 3, {}, workers).decode()
    assert "openred_workers 0\n" in text
    assert 'openred_forwarded_requests_total{outcome="failed"} 0\n' in text
    lag.observe(0.003)
    for number in range(3):
        workers.report(number, pack(of_worker(traffic(), {"answered": 5, "failed": 0}, lag)))
    workers.ended(2)
    text = metrics_text(parts, workers(), 3, {}, workers).decode()
    for line in (
        "openred_workers 2",
        "openred_worker_restarts_total 1",
        'openred_forwarded_requests_total{outcome="answered"} 15',
        "openred_replication_lag_seconds_count 3",
        "openred_events_total 3",
        "openred_events_subscribers_max 14",
    ):
        assert f"{line}\n" in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (used,) = families["openred_workers_cpu_seconds"].samples
    (own,) = families["process_cpu_seconds"].samples
    assert used.value > own.value > 0
    assert families["openred_workers_resident_memory_bytes"].samples[0].value > 2 << 20


def test_figures_of_a_cluster_are_there_in_a_cluster_alone(parts: Parts) -> None:
    assert not [name for name in Scraped(parts).families if "cluster" in name]
    for cluster, told in (
        (LEADER, {"instances": 2, "term": 3, "seq": 17, "behind_seconds": 0, "confirmed_age_seconds": 0.25}),
        (FOLLOWER, {"instances": 0, "term": 3, "seq": 16, "behind_seconds": 0.5, "confirmed_age_seconds": 0}),
    ):
        families = text_string_to_metric_families(render(cluster_families(cluster)).decode())
        values = {family.name: family.samples for family in families}
        roles = {sample.labels["role"]: sample.value for sample in values.pop("openred_cluster_role")}
        assert roles == {role: float(role == cluster.role) for role in ROLES}
        assert {name: samples[0].value for name, samples in values.items()} == {
            f"openred_cluster_{name}": value for name, value in told.items()
        }
