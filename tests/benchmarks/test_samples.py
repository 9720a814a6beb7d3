"""Ratios are taken within a round, so that a slow round counts for both sides."""

from __future__ import annotations

from benchmarks.suite.samples import Samples, Spread, Subject

OURS, THEIRS = Subject("heartbeat", "ours"), Subject("heartbeat", "theirs")


def measured() -> Samples:
    samples = Samples()
    # The machine drifts by a factor of ten; we are always twice as fast.
    for pace in (1.0, 10.0, 3.0):
        samples.add(OURS, requests_per_s=200 * pace, cpu_us=5)
        samples.add(THEIRS, requests_per_s=100 * pace)
    return samples


def test_median_has_a_range() -> None:
    assert measured().spread(OURS, "requests_per_s") == Spread(600, 200, 2_000)


def test_drift_of_the_machine_does_not_change_a_ratio() -> None:
    assert measured().ratio(OURS, THEIRS, "requests_per_s") == Spread(2, 2, 2)


def test_unmeasured_subject_has_no_figures() -> None:
    samples = measured()
    absent = Subject("heartbeat", "nobody")
    assert samples.spread(absent, "cpu_us") is None
    assert samples.ratio(OURS, absent, "requests_per_s") is None
    assert samples.ratio(OURS, THEIRS, "cpu_us") is None
    assert samples.metrics(absent) == []


def test_only_rounds_of_both_are_compared() -> None:
    samples = measured()
    samples.add(OURS, requests_per_s=1e9)
    assert samples.ratio(OURS, THEIRS, "requests_per_s") == Spread(2, 2, 2)


def test_document_holds_every_round() -> None:
    (first, *_) = measured().document()
    assert first == {
        "case": "heartbeat",
        "name": "ours",
        "metric": "requests_per_s",
        "rounds": [200, 2_000, 600],
        "median": 600,
        "low": 200,
        "high": 2_000,
    }
