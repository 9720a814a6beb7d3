"""The suite tells what it has measured, and of each goal whether it was reached."""

from __future__ import annotations

import pytest

from benchmarks.suite import contestants as who
from benchmarks.suite import following, loads, proving, report
from benchmarks.suite.effort import QUICK, WHOLE, Effort
from benchmarks.suite.goals import goals, outcomes
from benchmarks.suite.samples import Samples, Subject

CASE = loads.heartbeat_case(QUICK)
MACHINE = {"processor": "one", "load_average": "0.1"}


def measured() -> Samples:
    samples = Samples()
    for name, rate, cpu_us in ((who.OURS, 300, 12.0), (who.BARE, 400, 10.0), (who.AIOHTTP, 100, 48.0)):
        samples.add(Subject(CASE, name), requests_per_s=rate, cpu_us=cpu_us)
    return samples


def test_each_case_is_a_table_with_ratios_to_us_and_to_the_floor() -> None:
    (section,) = report.sections(measured())
    assert section.case == CASE
    assert section.heading == [
        "",
        "requests/s",
        "server CPU µs each",
        "ours ÷ it, requests/s",
        "it ÷ ours, CPU",
        "it ÷ bare, CPU",
    ]
    assert section.rows == [
        ["ours", "300", "12", "", "", "1.2"],
        ["bare uvloop", "400", "10", "0.75", "0.833", "1"],
        ["aiohttp", "100", "48", "3", "4", "4.8"],
    ]


def test_goals_are_hit_missed_or_not_measured() -> None:
    found = {each.goal.text: each.verdict for each in outcomes(QUICK, measured())}
    assert found["heartbeat, CPU: × bare uvloop"] == "hit"
    assert found["heartbeat, requests/s: × aiohttp"] == "missed"
    assert found["heartbeat, requests/s: × FastAPI"] == "not measured"


def test_ranges_are_told_where_rounds_differ() -> None:
    samples = measured()
    samples.add(Subject(CASE, who.OURS), requests_per_s=500)
    assert report.told(samples.spread(Subject(CASE, who.OURS), "requests_per_s")) == "400 (300 – 500)"
    assert report.told(None) == ""


def test_the_page_the_text_and_the_document_hold_the_same_figures() -> None:
    samples = measured()
    found = outcomes(QUICK, samples)
    page = report.page(samples, found, MACHINE, "python -m benchmarks suite")
    assert page.startswith(
        "# Benchmarks\n\n`python -m benchmarks suite`\n\n- processor: one\n- load average: 0.1\n"
    )
    assert f"\n## {CASE}\n\n|  | requests/s |" in page
    assert "| aiohttp | 100 | 48 | 3 | 4 | 4.8 |\n" in page
    assert f"{CASE}\n" in report.text(samples, found)
    written = report.document(samples, found, MACHINE, "c", 7)
    assert (written["seed"], written["machine"]) == (7, MACHINE)
    assert len(written["figures"]) == 6
    assert len(written["goals"]) == len(goals(QUICK))


@pytest.mark.parametrize("effort", [QUICK, WHOLE])
def test_goals_speak_of_cases_that_are_measured(effort: Effort) -> None:
    cases = {case.name for case in loads.cases(effort)} | {proving.case(effort), following.CASE}
    spoken = {
        goal.subject.case
        for goal in goals(effort)
        if goal.other and goal.metric in ("cpu_us", "requests_per_s")
    }
    assert spoken <= cases


@pytest.mark.parametrize("effort", [QUICK, WHOLE])
def test_contestants_are_asked_only_what_they_know(effort: Effort) -> None:
    for case in loads.cases(effort):
        assert case.who[0] == who.OURS
        assert set(case.who) <= set(who.CONTESTANTS)
        assert case.kind in who.CONTESTANTS[who.OURS].kinds
