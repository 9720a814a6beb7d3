"""Clusters for the tests of this folder: real instances on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instances import MakeCluster, clusters_in
from tests.support.postgres import PgServer


@pytest.fixture
def cluster(tmp_path: Path, postgres: PgServer) -> Iterator[MakeCluster]:
    """Yield a function that makes a `Cluster`."""
    with clusters_in(tmp_path, lambda: postgres) as make:
        yield make
