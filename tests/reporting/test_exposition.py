"""The text format of Prometheus, as its own parser reads it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from openred_central.histogram import Histogram
from openred_central.reporting.exposition import choice, counter, gauge, histogram, render

# The parser takes lines apart at these as well, which the format does not say.
MORE_LINE_ENDS = "\r\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e"
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters=MORE_LINE_ENDS), max_size=20)
VALUES = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(TEXTS.map(str.strip), st.dictionaries(TEXTS, VALUES, max_size=5))
def test_prometheus_reads_the_text(meaning: str, values: dict[str, float]) -> None:
    family = gauge("some_bytes", meaning, {(("label", text),): value for text, value in values.items()})
    (read,) = text_string_to_metric_families(render([family]).decode())
    assert (read.name, read.type) == ("some_bytes", "gauge")
    assert {sample.labels["label"]: sample.value for sample in read.samples} == values


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_is_cumulative_and_ends_with_all(observed: list[float]) -> None:
    made = Histogram((0.1, 1.0, 10.0))
    for value in observed:
        made.observe(value)
    (read,) = text_string_to_metric_families(render([histogram("some_seconds", "Some.", made)]).decode())
    assert read.type == "histogram"
    buckets = {s.labels["le"]: s.value for s in read.samples if s.name == "some_seconds_bucket"}
    assert buckets == {
        "0.1": sum(value <= 0.1 for value in observed),
        "1": sum(value <= 1 for value in observed),
        "10": sum(value <= 10 for value in observed),
        "+Inf": len(observed),
    }
    totals = {s.name: s.value for s in read.samples if not s.labels}
    assert totals["some_seconds_count"] == len(observed)
    assert math.isclose(totals["some_seconds_sum"], sum(observed))


def test_a_page_is_as_the_format_wants_it() -> None:
    text = render(
        [
            counter("done_total", 'With "quotes", \\ and\nlines.', 3),
            choice("mood", "How it is.", "state", ["ok", "bad"], "bad"),
            gauge("much", "Much.", 1.5),
        ]
    ).decode()
    assert text == (
        '# HELP done_total With "quotes", \\\\ and\\nlines.\n# TYPE done_total counter\ndone_total 3\n'
        '# HELP mood How it is.\n# TYPE mood gauge\nmood{state="ok"} 0\nmood{state="bad"} 1\n'
        "# HELP much Much.\n# TYPE much gauge\nmuch 1.5\n"
    )


def test_infinity_has_its_own_word() -> None:
    assert b"much +Inf\n" in render([gauge("much", "Much.", math.inf)])


def test_names_without_their_unit_are_refused() -> None:
    with pytest.raises(ValueError, match="_total"):
        counter("done", "Done.", 1)
    with pytest.raises(ValueError, match="_seconds"):
        histogram("took", "Took.", Histogram())


@pytest.mark.parametrize("names", [["a", "a"], ["A"], ["a-b"], [""]])
def test_an_invalid_or_repeated_name_is_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="no valid name of a figure, or is there twice"):
        render([gauge(name, "Some.", 1) for name in names])
