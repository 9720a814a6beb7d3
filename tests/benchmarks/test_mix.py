"""A mix is read as it was meant, or refused with what is allowed."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.mix import SHARE_MAX, MixError, deal, parse

KINDS = ("heartbeat", "discover", "register")
SHARES = st.dictionaries(st.sampled_from(KINDS), st.integers(1, 100), min_size=1)


def test_shares_are_read_and_a_kind_alone_is_all() -> None:
    assert parse("heartbeat=80, discover = 15,register=5", KINDS) == {
        "heartbeat": 80,
        "discover": 15,
        "register": 5,
    }
    assert parse("discover", KINDS) == {"discover": 1}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is no kind of request; there are heartbeat, discover, register"),
        ("lunch=1", "'lunch' is no kind"),
        ("heartbeat=1,heartbeat=2", "heartbeat is there twice"),
        ("heartbeat=", "the share of heartbeat is ''"),
        ("heartbeat=0", "a whole number, 1 to 10000"),
        ("heartbeat=-1", "the share of heartbeat is '-1'"),
        ("heartbeat=1.5", "the share of heartbeat is '1.5'"),
        ("heartbeat=²", "the share of heartbeat is '²'"),
        (f"heartbeat={SHARE_MAX + 1}", "the share of heartbeat"),
    ],
)
def test_what_is_no_mix_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(MixError, match=complaint):
        parse(text, KINDS)


@given(SHARES)
def test_a_mix_that_is_written_is_read_again(shares: dict[str, int]) -> None:
    assert parse(",".join(f"{kind}={share}" for kind, share in shares.items()), KINDS) == shares


@given(SHARES, st.integers())
def test_each_round_holds_each_kind_as_often_as_its_share_says(shares: dict[str, int], chosen: int) -> None:
    assert Counter(deal(shares, random.Random(chosen))) == shares
