"""Signs of life go over the link as pages, and come out as they went in."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cluster.signs import Signs, pack_signs, unpack_signs
from openred_central.directory.state.pages import PAGE_SLOTS, PageRun

TIMES = st.floats(0, 1e12)


def run_of(number: int, times: list[float]) -> PageRun:
    return PageRun(number, array("d", times), array("d", times), array("f", [1.5] * len(times)))


@given(
    through_s=TIMES,
    as_of=st.integers(0, 2**63),
    lengths=st.lists(st.integers(1, 2 * PAGE_SLOTS), max_size=4),
    is_last=st.booleans(),
)
def test_signs_of_life_survive_the_way(
    through_s: float, as_of: int, lengths: list[int], is_last: bool
) -> None:
    runs = [run_of(10 * place, [float(slot) for slot in range(n)]) for place, n in enumerate(lengths)]
    found = unpack_signs(pack_signs(through_s, as_of, runs, is_last=is_last))
    assert found._replace(pages=[]) == Signs(through_s, as_of, is_last, [])
    slots = [slot for run in runs for slot in run.slots]
    assert [slot for page in found.pages for slot in page.slots] == slots
    assert [at for page in found.pages for at in page.last_seen_s] == [
        at for run in runs for at in run.last_seen_s
    ]


@given(content=st.binary(max_size=64))
def test_other_bytes_are_refused(content: bytes) -> None:
    try:
        unpack_signs(content)
    except ValueError:
        return
    # Only a head alone has nothing in it that could be wrong.
    assert len(content) == 17


def test_a_cut_page_is_refused() -> None:
    content = pack_signs(1.0, 2, [run_of(0, [1.0, 2.0])], is_last=True)
    for length in range(17, len(content)):
        if length == 17:
            continue
        with pytest.raises(ValueError, match="bytes"):
            unpack_signs(content[:length])
