"""Tables read the same on a terminal and in Markdown."""

from __future__ import annotations

from benchmarks.reports.tables import aligned, markdown

HEADING = ["case", "requests/s", "CPU µs"]
ROWS = [["ours", "1,000", "12.5"], ["a|b", "9", ""]]


def test_columns_are_as_wide_as_their_cells_and_numbers_stand_to_the_right() -> None:
    assert aligned(HEADING, ROWS) == (
        "case  requests/s  CPU µs\nours       1,000    12.5\na|b            9\n"
    )


def test_markdown_escapes_pipes_and_aligns_numbers() -> None:
    assert markdown(HEADING, ROWS) == (
        "| case | requests/s | CPU µs |\n|---|---:|---:|\n| ours | 1,000 | 12.5 |\n| a\\|b | 9 |  |\n"
    )


def test_a_table_without_rows_is_its_heading() -> None:
    assert aligned(["a", "b"], []) == "a  b\n"
    assert markdown(["a", "b"], []) == "| a | b |\n|---|---|\n"
