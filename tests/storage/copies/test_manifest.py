"""A manifest is read as it was written, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from openred_central.directory.state.changes import Vitals
from openred_central.storage.copies.manifest import Manifest

MANIFEST = Manifest("openred.db", 1_800_000_000.25, 1, 4_096, "00ff", 3, 2, Vitals(1.5, 7, 0.25))


@pytest.mark.parametrize("vitals", [MANIFEST.vitals, None])
def test_a_manifest_is_read_as_it_was_written(vitals: Vitals | None) -> None:
    manifest = MANIFEST._replace(vitals=vitals)
    assert Manifest.decode(manifest.encode()) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"records": None},
        {"records": "3"},
        {"taken_at": "now"},
        {"vitals": {"attended_s": 1.0}},
        {"vitals": 3},
        {"more": 1},
    ],
)
def test_a_manifest_with_other_values_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Manifest.decode(orjson.dumps(orjson.loads(MANIFEST.encode()) | change))


@pytest.mark.parametrize("written", [b"", b"[]", b"{", b"{}", MANIFEST.encode()[:-20]])
def test_what_is_no_manifest_is_refused(written: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whatever is wrong with it)
        Manifest.decode(written)
