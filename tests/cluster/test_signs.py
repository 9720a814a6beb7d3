"""Signs of life come out of the link as they went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cluster.signs import Signs, pack_signs, unpack_signs
from openred_central.directory.state.signs import SignColumns

TIMES = st.floats(0, 1e12)
HEAD_BYTES = 17
# The number of rows follows the head.
EMPTY_BYTES = HEAD_BYTES + 4


@given(
    through_s=TIMES,
    as_of=st.integers(0, 2**63),
    rows=st.lists(st.tuples(st.integers(0, 2**31), TIMES, TIMES, st.floats(0, 1e9, width=32)), max_size=9),
    is_last=st.booleans(),
)
def test_signs_of_life_survive_the_way(
    through_s: float, as_of: int, rows: list[tuple[int, float, float, float]], is_last: bool
) -> None:
    heard = SignColumns._make(map(list, zip(*rows, strict=True))) if rows else SignColumns([], [], [], [])
    signs = Signs(through_s, as_of, is_last, heard)
    assert unpack_signs(pack_signs(signs)) == signs


def test_some_of_them_go_on() -> None:
    signs = SignColumns([1, 5, 9], [1.0, 5.0, 9.0], [0.1, 0.5, 0.9], [60.0, 61.0, 62.0])
    assert signs.only([9, 1]) == SignColumns([1, 9], [1.0, 9.0], [0.1, 0.9], [60.0, 62.0])
    assert list(signs.parts(2)) == [signs.only([1, 5]), signs.only([9])]


@given(content=st.binary(max_size=64))
def test_other_bytes_are_refused(content: bytes) -> None:
    try:
        signs = unpack_signs(content)
    except ValueError:
        return
    assert len(content) == EMPTY_BYTES + 24 * len(signs.heard.slots)


def test_cut_signs_are_refused() -> None:
    content = pack_signs(Signs(1.0, 2, True, SignColumns([0, 1], [1.0, 2.0], [1.0, 2.0], [60.0, 60.0])))
    for length in range(len(content)):
        with pytest.raises(ValueError, match="byte"):
            unpack_signs(content[:length])
