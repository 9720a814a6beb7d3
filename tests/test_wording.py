"""Numbers, durations and times as text, and text made safe to print."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.wording import (
    _MINUTES_KEPT_MAX,
    WALL_S_MAX,
    _minutes,
    counted,
    parse_rfc3339,
    printable,
    rfc3339,
    rfc3339_of_many,
    span,
)

FORM = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "less than a second"),
        (0.0, "less than a second"),
        (0.99, "less than a second"),
        (1.5, "1 second"),
        (59.999, "59 seconds"),
        (60.0, "1 minute"),
        (3_725.0, "1 hour 2 minutes"),
        (86_400.0, "1 day"),
        (2 * 86_400.0 + 7_200.0 + 59.0, "2 days 2 hours"),
    ],
)
def test_a_duration_shows_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes")])
def test_only_one_of_a_thing_is_in_the_singular(number: int, text: str) -> None:
    assert counted(number, "node") == text


@pytest.mark.parametrize(
    ("text", "escaped", "shown"),
    [
        ("a b", "", "a b"),
        ("a\nb\x1b[2J", "", "a\\nb\\x1b[2J"),
        ("\u202e\u2028\ud800", "", "\\u202e\\u2028\\ud800"),
        ("a\\b", "", "a\\b"),
        ("a\\b", "\\", "a\\\\b"),
    ],
)
def test_only_printable_characters_are_left_as_they_are(text: str, escaped: str, shown: str) -> None:
    assert printable(text, escaped=escaped) == shown


@pytest.mark.parametrize(
    ("wall_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_800_000_000.25, "2027-01-15T08:00:00.250Z"),
        (1_800_000_000.9996, "2027-01-15T08:00:01.000Z"),
        (-0.5, "1969-12-31T23:59:59.500Z"),
        (951_782_400.0, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_seconds_become_utc_with_milliseconds(wall_s: float, text: str) -> None:
    assert rfc3339(wall_s) == text


@pytest.mark.parametrize("wall_s", [1e15, float("inf")])
def test_times_after_the_year_9999_are_clamped(wall_s: float) -> None:
    assert rfc3339(wall_s) == "9999-12-31T23:59:59.000Z"


@pytest.mark.parametrize("wall_s", [-1e15, float("-inf")])
def test_times_before_the_year_1_are_clamped(wall_s: float) -> None:
    assert rfc3339(wall_s) == "0001-01-01T00:00:00.000Z"


@given(st.lists(st.floats(allow_nan=False) | st.floats(-1.0, 1e10)))
def test_many_times_are_written_as_each_of_them(walls_s: list[float]) -> None:
    assert rfc3339_of_many(walls_s) == list(map(rfc3339, walls_s))


def test_the_cache_of_minutes_is_bounded() -> None:
    for minute in range(20_000):
        rfc3339(minute * 60.0)
    assert 0 < len(_minutes) <= _MINUTES_KEPT_MAX


@given(st.floats(min_value=-62_135_596_800.0, max_value=WALL_S_MAX))
def test_a_written_time_reads_back_to_the_millisecond(wall_s: float) -> None:
    text = rfc3339(wall_s)
    assert FORM.fullmatch(text)
    assert abs(parse_rfc3339(text) - wall_s) <= 0.000_6


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    st.integers(min_value=-23 * 60 - 59, max_value=23 * 60 + 59),
    st.sampled_from("Tt "),
)
def test_a_time_of_any_zone_is_the_same_moment(local: datetime, minutes: int, separator: str) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = moment.isoformat(sep=separator)
    assert parse_rfc3339(text) == (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


@pytest.mark.parametrize(
    ("text", "wall_s"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01t00:00:10z", 10.0),
        ("1970-01-01 00:00:10.5Z", 10.5),
        ("1970-01-01T00:00:10.123456789Z", 10.123456),
        ("1970-01-01T01:00:10+01:00", 10.0),
        ("1969-12-31T23:00:10-01:00", 10.0),
        ("1970-01-01T00:00:10-00:00", 10.0),
    ],
)
def test_every_form_of_rfc_3339_is_read(text: str, wall_s: float) -> None:
    assert parse_rfc3339(text) == wall_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2027-01-31",
        "2027-01-31T12:00:00",
        "2027-01-31T12:00Z",
        "2027-01-31T12:00+00:00",
        "2027-01-31T12:00:00,5Z",
        "2027-01-31T12:00:00+0100",
        "2027-01-31T12:00:00+01:00:30",
        "2027-01-31T120000+00:00",
        "20270131T120000+00:00",
        "2027-W04-7T12:00:00Z",
        "2027-031T12:00:00+00:00",
        "2027-01-31_12:00:00Z",
        "2027-01-31T12:00:00 Z",
        " 2027-01-31T12:00:00Z",
        "2027-01-31T12:00:00Z\n",
        "2027-02-29T12:00:00Z",
        "2027-13-01T12:00:00Z",
        "2027-01-31T25:00:00Z",
        "2027-01-31T12:00:61Z",
        "2027-01-31T12:00:00+24:00",
        "0000-01-01T00:00:00Z",
        "٢٠٢٧-01-31T12:00:00Z",
        "1800000000",
    ],
)
def test_other_forms_of_time_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rfc3339(text)


@given(st.text(alphabet="0123456789-:TtZz+. W,", max_size=40))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        parse_rfc3339(text)
    except ValueError:
        return
    assert FORM.fullmatch(rfc3339(parse_rfc3339(text)))


@pytest.mark.parametrize(
    ("text", "next_second"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31t23:59:60.5z", "2017-01-01T00:00:00Z"),
        ("2017-01-01T01:59:60+02:00", "2017-01-01T00:00:00Z"),
    ],
)
def test_a_leap_second_counts_as_the_next_one(text: str, next_second: str) -> None:
    assert parse_rfc3339(text) == parse_rfc3339(next_second)


@pytest.mark.parametrize(
    "text", ["2016-12-31T12:00:60Z", "2016-12-31T23:59:61Z", "2016-12-31T23:59:60+02:00"]
)
def test_sixty_seconds_at_another_time_are_no_leap_second(text: str) -> None:
    with pytest.raises(ValueError, match="second"):
        parse_rfc3339(text)
