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
    """Yield a function that starts a server, given flags, variables and the name of a `database` file.

    `ready=False` does not wait until it listens. The output of the servers is shown if the test fails.
    """
    with servers_in(tmp_path) as run:
        yield run


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate for this machine, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
