"""Tables and numbers are readable on a terminal and in Markdown."""

from __future__ import annotations

import pytest

from openred_central.tables import aligned, markdown, short

HEADING = ["case", "requests/s", "CPU µs"]
ROWS = [["ours", "1,000", "12.5"], ["a|b", "9", ""]]


def test_columns_fit_and_numbers_are_aligned_right() -> None:
    assert aligned(HEADING, ROWS) == (
        "case  requests/s  CPU µs\nours       1,000    12.5\na|b            9\n"
    )


def test_markdown_escapes_pipes_and_aligns_numbers() -> None:
    assert markdown(HEADING, ROWS) == (
        "| case | requests/s | CPU µs |\n|---|---:|---:|\n| ours | 1,000 | 12.5 |\n| a\\|b | 9 |  |\n"
    )


def test_table_without_rows_is_its_heading() -> None:
    assert aligned(["a", "b"], []) == "a  b\n"
    assert markdown(["a", "b"], []) == "| a | b |\n|---|---|\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (5.678, "5.68"), (123.4, "123"), (1_234_567.8, "1,234,568")],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert short(value) == text
