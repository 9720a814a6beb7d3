"""The alert rules for operators ask for figures, labels and values that the server has."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from openred_central.api.caller.limiting import Refusals
from openred_central.api.feed.broadcast import Broadcast
from openred_central.api.feed.event_log import EventFeed, EventLog
from openred_central.micro_engine.engine import Engine
from openred_central.reporting.metrics import metrics_text
from openred_central.reporting.traffic import Sums, Traffic, read_traffic
from openred_central.tasks.stall_meter import StallMeter
from tests.support.cluster_figures import LEADER
from tests.support.deployment import ALERTS, alerts
from tests.support.project import PACKAGE, expect_none

from .test_figures import make_parts

RUNBOOK = PACKAGE / "docs" / "runbook.md"
# Labels that Prometheus adds: what it scrapes, and the bounds of a histogram.
ADDED = {"instance", "job"}
_FIGURE = re.compile(r"\b((?:openred|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:!=|=~|!~|=)"([^"]*)"')


def samples() -> dict[str, list[dict[str, str]]]:
    """Return the labels of all samples of a server, by their name: what workers and clusters add, too."""
    parts = make_parts()
    feed = EventFeed(EventLog("run"), parts.directory.nodes)
    broadcast = Broadcast(feed, dict, parts.clock.wall_s, subscribers_max=7)

    def traffic() -> Traffic:
        own = read_traffic(Engine(), broadcast, StallMeter(parts.clock), Refusals([]))
        return own._replace(forwarded={"answered": 0})

    workers = Sums(traffic)
    text = metrics_text(parts, workers(), 0, {"saver": 0}, workers, LEADER).decode()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def gaps(rule: dict[str, Any], known: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return a complaint for each figure, label and value in the expression of `rule` that there is not."""
    found = []
    for name, matchers in _FIGURE.findall(rule["expr"]):
        if name not in known:
            found.append(f"{rule['alert']} asks for {name}, which /metrics does not tell")
            continue
        for label, value in _MATCHER.findall(matchers):
            if value not in {labels.get(label) for labels in known[name]}:
                found.append(f"{rule['alert']} asks for {name} with {label} {value}, which there is not")
    return found


def test_alerts_ask_for_figures_that_there_are() -> None:
    known = samples()
    expect_none(gap for rule in alerts() for gap in gaps(rule, known))


def test_alerts_explain_themselves_by_labels_that_there_are() -> None:
    known = samples()
    for rule in alerts():
        labels = {label for name, _ in _FIGURE.findall(rule["expr"]) for label in _labels(known, name)}
        written = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", written)) <= labels | ADDED, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def _labels(known: dict[str, list[dict[str, str]]], name: str) -> set[str]:
    return {label for labels in known[name] for label in labels}


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"OpenRed[A-Za-z]+", name)] == []


def test_gaps_are_found() -> None:
    known = {"openred_nodes": [{"state": "active"}, {"state": "coma"}]}
    rule = {"alert": "A", "expr": 'sum(openred_nodes{state="comma"}) > openred_odes and openred_nodes > 0'}
    assert gaps(rule, known) == [
        "A asks for openred_nodes with state comma, which there is not",
        "A asks for openred_odes, which /metrics does not tell",
    ]


def test_prometheus_accepts_the_alerts() -> None:
    """Where Prometheus is installed, it has the last word; few machines have it."""
    if promtool := shutil.which("promtool"):
        command = [promtool, "check", "rules", ALERTS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alarm_has_its_entry_in_the_runbook() -> None:
    """An entry says what the alarm means, and then what to do, step by step."""
    entries = re.split(r"^### ", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    parts = [entry.partition("\n## ")[0].partition("\n") for entry in entries]
    assert [name for name, _, _ in parts] == [rule["alert"] for rule in alerts()]
    form = re.compile(r"\n\*\*Means:\*\* (?:.+\n)+\n1\. ")
    assert [name for name, _, body in parts if not form.match(body)] == []
