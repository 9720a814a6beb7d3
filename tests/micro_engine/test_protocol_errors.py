"""Errors that close the connection say so, and quote what came in without harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.micro_engine.wire.protocol import (
    ProtocolError,
    bad_request,
    bare_line_break,
    content_too_large,
    ended_early,
    header_fields_too_large,
    quoted,
)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ProtocolError(501, "not_implemented", "No.", "Do not."), 501, "not_implemented"),
        (bad_request("No.", "Do not."), 400, "bad_request"),
        (bare_line_break("trailer section"), 400, "bad_request"),
        (ended_early("body"), 400, "bad_request"),
        (header_fields_too_large("No."), 431, "header_fields_too_large"),
        (content_too_large(10), 413, "content_too_large"),
    ],
)
def test_a_protocol_error_closes_and_tells_what_to_do(error: ProtocolError, status: int, code: str) -> None:
    assert (error.status, error.code, error.close) == (status, code, True)
    assert error.suggestion
    assert error.problem()["detail"] == error.message


def test_an_error_names_its_place_or_its_limit() -> None:
    assert "trailer section" in bare_line_break("trailer section").message
    assert "body" in ended_early("body").message
    assert "10 bytes" in content_too_large(10).message


@given(st.text(max_size=200))
def test_what_came_in_is_quoted_short_and_in_printable_ascii(text: str) -> None:
    shown = quoted(text).removesuffix("…")
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 60 * len("\\U00000000") + 2
    assert (len(text) > 60) == quoted(text).endswith("…")
