"""Reports of a run of the load, and their warnings."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from xml.etree import ElementTree

from benchmarks.load import report
from benchmarks.load.requests import LoadOptions
from benchmarks.load.tally import Second, Tally

from .test_tally import histogram_of as of

AT = datetime(2027, 1, 15, 8, tzinfo=UTC)


def tally(*, times_us: tuple[int, ...] = (1_000, 3_000), late_us: int = 0) -> Tally:
    made = Tally(["heartbeat", "discover"])
    for time_us in times_us:
        made.times[0].add(time_us)
        made.statuses[0][200] += 1
    made.times[1].add(9_000)
    made.statuses[1][503] += 1
    made.late.add(late_us)
    made.took_s = 0.5
    return made


def test_table_has_a_row_for_each_kind_and_for_all() -> None:
    lines = [line.split() for line in report.table(tally()).splitlines()]
    assert lines[1] == ["heartbeat", "2", "4", "0", "1.003", "3.000", "3.000", "3.000", "3.000"]
    assert lines[2][:4] == ["discover", "1", "2", "1"]
    assert lines[3][:4] == ["all", "3", "6", "1"]


def test_refusals_are_reported_with_their_status() -> None:
    assert report.remarks(tally(), None) == ["discover: answered 1 times 503"]


def test_late_generator_is_reported_in_an_open_loop() -> None:
    (_, warning) = report.remarks(tally(late_us=5_000), 100.0)
    assert warning.startswith("1 % of the requests left 5.0 ms late or more: the generator was too slow")
    assert len(report.remarks(tally(late_us=5_000), None)) == 1


def test_losses_are_reported() -> None:
    broken = tally()
    broken.failed, broken.unanswered, broken.error = 3, 4, "the server closed all connections"
    assert report.remarks(broken, None)[1:] == [
        "3 requests were lost with their connections",
        "4 due requests had no answer at the end: they are timed up to then",
        "the server closed all connections",
    ]


def test_late_answers_are_timed_but_no_throughput() -> None:
    slow = tally()
    slow.overdue[0] = 1
    lines = [line.split() for line in report.table(slow).splitlines()]
    assert lines[1][:3] == ["heartbeat", "2", "2"]
    assert lines[3][:3] == ["all", "3", "4"]
    assert slow.document()["requests_per_s"] == 4
    assert report.remarks(slow, 100.0)[1] == (
        "1 answers came after the measured time: they count in the times, not in requests/s"
    )


def test_busy_generator_is_reported_in_a_closed_loop() -> None:
    busy = tally()
    busy.busy = 0.97
    assert report.remarks(busy, None)[1].startswith("the generator used 97% of its core: the server may be")
    assert len(report.remarks(busy, 100.0)) == 1
    busy.busy = 0.5
    assert len(report.remarks(busy, None)) == 1


def test_second_is_complete_once_all_generators_report_it() -> None:
    timeline = report.Timeline(2)
    assert timeline.add(Second(0, 5, 0, of([10]))) is None
    together = timeline.add(Second(0, 7, 1, of([30])))
    assert together is not None
    assert (together.answered, together.failed, together.times.longest_us) == (12, 1, 30)
    timeline.add(Second(1, 5, 0, of([10])))
    assert [each.number for each in timeline.seconds()] == [0]
    assert report.progress(together) == "    1 s         12 requests/s   p50 0.01 p99 0.03 ms, 1 failed"


def test_tallies_of_generators_add_up() -> None:
    both = tally()
    both.merge(tally(times_us=(7_000,)))
    assert (both.answered, both.refused, both.requests_per_s) == (5, 2, 10)
    assert both.all_times().count == 5


def test_json_and_chart_describe_the_run() -> None:
    options = LoadOptions("127.0.0.1", 80, {"root": 1})
    seconds = [Second(0, 3, 0, of([1_000])), Second(1, 4, 0, of([2_000]))]
    written = json.loads(json.dumps(report.document(options, tally(), seconds, AT)))
    assert written["kinds"]["discover"]["statuses"] == {"503": 1}
    assert written["options"]["port"] == 80
    assert [each["answered"] for each in written["seconds"]] == [3, 4]
    assert written["measured_at"] == "2027-01-15T08:00:00+00:00"
    chart = report.chart(options._replace(rate=2_000.0), tally(), seconds, AT)
    assert ElementTree.fromstring(chart).tag.endswith("svg")
    for words in (
        "Load: root 1",
        "open loop, 2,000 requests/s, 64 connections; 6 answers/s",
        "2027-01-15 08:00 UTC",
    ):
        assert words in chart
