"""Errors quote input without harm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openred_central.micro_engine.wire.protocol import quoted


@given(st.text(max_size=200))
def test_input_is_quoted_short_and_in_printable_ascii(text: str) -> None:
    shown = quoted(text).removesuffix("…")
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 60 * len("\\U00000000") + 2
    assert (len(text) > 60) == quoted(text).endswith("…")
