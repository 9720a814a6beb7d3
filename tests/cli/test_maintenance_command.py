"""The commands that work on files say what they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.storage.store import StoreError
from tests.support.maintenance import command


@pytest.mark.parametrize("name", ["snapshot", "export", "verify"])
def test_commands_that_read_need_a_database(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        command(name, tmp_path / "openred.db", file="-")
    assert list(tmp_path.iterdir()) == []
