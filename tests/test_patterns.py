"""Late patterns match as compiled ones do, and are compiled once."""

from __future__ import annotations

import re

import pytest

from openred_central.patterns import METHODS, late

TEXT = "one, two and 3"


@pytest.mark.parametrize("method", METHODS)
def test_each_method_does_what_that_of_a_compiled_pattern_does(method: str) -> None:
    pattern, compiled = late("[a-z]+", re.ASCII), re.compile("[a-z]+", re.ASCII)
    # `sub` is given a replacement first.
    given = ("-", TEXT) if method == "sub" else (TEXT,)
    first, again, expected = (getattr(each, method)(*given) for each in (pattern, pattern, compiled))
    assert spans(first) == spans(again) == spans(expected)


def spans(found: object) -> object:
    """What was found, so that it can be compared."""
    return found.span() if isinstance(found, re.Match) else found


def test_it_is_compiled_when_it_is_first_used_and_not_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_now = re.compile

    def watched(pattern: str, flags: int) -> re.Pattern[str]:
        compiled.append(pattern)
        return compile_now(pattern, flags)

    monkeypatch.setattr(re, "compile", watched)
    pattern = late("(?P<first>[a-z])+")
    assert (pattern.pattern, compiled) == ("(?P<first>[a-z])+", [])
    assert pattern.fullmatch("one")
    assert pattern.match("two")
    assert pattern.groupindex == {"first": 1}
    assert len(compiled) == 2


def test_bytes_are_matched_too() -> None:
    assert late(rb"[a-z]+").fullmatch(b"one")


def test_what_is_no_pattern_is_told_at_the_first_use() -> None:
    pattern = late("(")
    with pytest.raises(re.error):
        pattern.match("")
