"""The suite reports its figures, and for each goal whether it was reached."""

from __future__ import annotations

import pytest

from benchmarks.suite import cluster, contestants, following, loads, proving, report, workers
from benchmarks.suite.goals import goals, outcomes
from benchmarks.suite.samples import QUICK, WHOLE, Effort, Samples, Subject

CASE = loads.heartbeat_case(QUICK.usual)
MACHINE = {"processor": "one", "load_average": "0.1"}


def load_cases(effort: Effort) -> list[loads.LoadCase]:
    return [case for group in loads.GROUPS.values() for case in group(effort)]


def measured() -> Samples:
    samples = Samples()
    for name, rate, cpu_us in (
        (contestants.OURS, 300, 12.0),
        (contestants.BARE, 400, 10.0),
        (contestants.GRANIAN, 200, 48.0),
    ):
        samples.add(Subject(CASE, name), requests_per_s=rate, cpu_us=cpu_us)
    return samples


def test_case_is_a_table_with_ratios() -> None:
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
        ["Granian", "200", "48", "1.5", "4", "4.8"],
    ]


def test_variants_are_compared_with_the_first_of_their_kind() -> None:
    samples = Samples()
    for name, cpu_us in ((contestants.PROXIED, 20.0), (contestants.BARE_CLOSING, 10.0)):
        samples.add(Subject(CASE, name), requests_per_s=100, cpu_us=cpu_us)
    (section,) = report.sections(samples)
    assert section.rows == [
        ["ours, behind a proxy", "100", "20", "", "", "2"],
        ["bare uvloop, closing", "100", "10", "1", "0.5", "1"],
    ]


def test_goals_are_hit_missed_or_not_measured() -> None:
    found = {each.goal.text: each.verdict for each in outcomes(QUICK, measured())}
    assert found[f"{CASE}, CPU: × bare uvloop"] == "hit"
    assert found[f"{CASE}, requests/s: × Granian"] == "missed"
    assert found["session heartbeat, CPU: × the unproven one"] == "not measured"


def test_range_is_shown_if_rounds_differ() -> None:
    samples = measured()
    samples.add(Subject(CASE, contestants.OURS), requests_per_s=500)
    assert (
        report.shown(samples.spread(Subject(CASE, contestants.OURS), "requests_per_s")) == "400 (300 – 500)"
    )
    assert report.shown(None) == ""


def test_page_text_and_document_hold_the_same_figures() -> None:
    samples = measured()
    samples.notes["nginx is missing"] = None
    found = outcomes(QUICK, samples)
    page = report.page(samples, found, MACHINE, "python -m benchmarks suite")
    assert page.startswith(
        "# Benchmarks\n\n`python -m benchmarks suite`\n\n- processor: one\n- load average: 0.1\n"
        "- nginx is missing\n"
    )
    assert f"\n## {CASE}\n\n|  | requests/s |" in page
    assert "| Granian | 200 | 48 | 1.5 | 4 | 4.8 |\n" in page
    assert f"{CASE}\n" in report.text(samples, found, MACHINE)
    written = report.document(samples, found, MACHINE, "c", 7)
    assert (written["seed"], written["machine"]) == (7, MACHINE)
    assert written["left_out"] == ["nginx is missing"]
    assert len(written["figures"]) == 6
    assert len(written["goals"]) == len(goals(QUICK))


@pytest.mark.parametrize("effort", [QUICK, WHOLE])
def test_goals_are_about_measured_cases(effort: Effort) -> None:
    cases = {case.name for case in load_cases(effort)} | {
        proving.case(effort),
        following.CASE,
        following.WATCH_CASE,
    }
    cases |= {cluster.THROTTLED_CASE, cluster.LINK_CASE}
    for case in (workers.case, workers.throttled_case):
        cases |= {case(kind, effort.usual) for kind in workers.KINDS}
    spoken = {
        goal.subject.case
        for goal in goals(effort)
        if goal.other and goal.metric in ("cpu_us", "requests_per_s")
    }
    assert spoken <= cases


@pytest.mark.parametrize("effort", [QUICK, WHOLE])
def test_our_server_takes_part_in_every_case(effort: Effort) -> None:
    for case in load_cases(effort):
        assert case.names[0].startswith(contestants.OURS)
        assert set(case.names) <= set(contestants.CONTESTANTS)
        assert case.kind in contestants.CONTESTANTS[case.names[0]].kinds
