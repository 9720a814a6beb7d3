"""Servers and a browser for the tests of this folder. Each server has to end well when its test ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import certificate as make_certificate
from tests.support.running import Start, servers_in

from .browser import browser, chrome  # noqa: F401


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server: flags as arguments, variables as keywords; `database` is its file's name.

    `ready=False` does not wait until it listens. Whatever the servers wrote is shown where the test fails.
    """
    with servers_in(tmp_path) as run:
        yield run


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
