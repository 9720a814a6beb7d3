"""Whoever proved its key or was ever heard keeps its place in a full directory."""

from __future__ import annotations

import pytest

from openred_central.directory.crowding import UNHEARD_S, is_crowded, makes_room

AT = 1_800_000_000.0


@pytest.mark.parametrize(
    ("proven", "heard", "silent_s", "expected"),
    [
        (False, False, UNHEARD_S, True),
        (False, False, UNHEARD_S - 1, False),
        (False, True, UNHEARD_S, False),
        (False, True, 1_000 * UNHEARD_S, False),
        (True, False, 1_000 * UNHEARD_S, False),
        (True, True, UNHEARD_S, False),
    ],
)
def test_only_the_unproven_who_were_never_heard_again_make_room(
    proven: bool, heard: bool, silent_s: float, expected: bool
) -> None:
    last_seen_at = AT + 60 if heard else AT
    assert expected == makes_room(
        proven=proven, registered_at=AT, last_seen_at=last_seen_at, last_seen_s=500.0, now_s=500.0 + silent_s
    )


def test_at_nine_tenths_a_directory_is_crowded() -> None:
    assert [is_crowded(nodes, 100) for nodes in (0, 89, 90, 100)] == [False, False, True, True]
