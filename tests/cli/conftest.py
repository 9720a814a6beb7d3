"""The key of a node, in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.signed_requests import ed25519_key


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "node.pem"
    path.write_bytes(ed25519_key().to_pem())
    return str(path)
