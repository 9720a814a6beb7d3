"""What a run of the load tells, and what it warns of."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from benchmarks.load import report
from benchmarks.load.generator import LoadOptions
from benchmarks.load.histogram import of
from benchmarks.load.tally import Second, Tally


def tally(*, times_us: tuple[int, ...] = (1_000, 3_000), late_us: int = 0) -> Tally:
    told = Tally(["heartbeat", "discover"])
    for time_us in times_us:
        told.times[0].add(time_us)
        told.statuses[0][200] += 1
    told.times[1].add(9_000)
    told.statuses[1][503] += 1
    told.late.add(late_us)
    told.took_s = 0.5
    return told


def test_the_table_has_a_row_for_each_kind_and_one_for_all() -> None:
    lines = [line.split() for line in report.table(tally()).splitlines()]
    assert lines[1] == ["heartbeat", "2", "4", "0", "1.003", "3.000", "3.000", "3.000", "3.000"]
    assert lines[2][:4] == ["discover", "1", "2", "1"]
    assert lines[3][:4] == ["all", "3", "6", "1"]


def test_refusals_are_named_with_their_status() -> None:
    assert report.remarks(tally(), None) == ["discover: answered 1 times 503"]


def test_a_generator_that_is_late_says_so_in_an_open_loop() -> None:
    (_, warning) = report.remarks(tally(late_us=5_000), 100.0)
    assert warning.startswith("1 % of the requests left 5.0 ms late or later: the generator was too slow")
    assert len(report.remarks(tally(late_us=5_000), None)) == 1


def test_what_is_lost_is_told() -> None:
    broken = tally()
    broken.failed, broken.unanswered, broken.error = 3, 4, "the server has closed all connections"
    assert report.remarks(broken, None)[1:] == [
        "3 requests were lost with their connections",
        "4 requests were due and had no answer at the end; they count with that time",
        "the server has closed all connections",
    ]


def test_a_second_is_whole_when_every_generator_has_told_it() -> None:
    timeline = report.Timeline(2)
    assert timeline.add(Second(0, 5, 0, of([10]))) is None
    together = timeline.add(Second(0, 7, 1, of([30])))
    assert together is not None
    assert (together.answered, together.failed, together.times.longest_us) == (12, 1, 30)
    timeline.add(Second(1, 5, 0, of([10])))
    assert [each.number for each in timeline.seconds()] == [0]
    assert report.progress(together) == "    1 s         12 requests/s   p50 0.01 p99 0.03 ms, 1 failed"


def test_tallies_of_several_generators_add_up() -> None:
    both = tally()
    both.merge(tally(times_us=(7_000,)))
    assert (both.answered, both.refused, both.requests_per_s) == (5, 2, 10)
    assert both.all_times().count == 5


def test_json_and_chart_hold_the_run() -> None:
    seconds = [Second(0, 3, 0, of([1_000])), Second(1, 4, 0, of([2_000]))]
    written = json.loads(
        json.dumps(report.document(LoadOptions("127.0.0.1", 80, {"root": 1}), tally(), seconds))
    )
    assert written["kinds"]["discover"]["statuses"] == {"503": 1}
    assert written["options"]["port"] == 80
    assert [each["answered"] for each in written["seconds"]] == [3, 4]
    assert ElementTree.fromstring(report.chart(tally(), seconds)).tag.endswith("svg")
