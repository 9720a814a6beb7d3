"""A contestant that does not start costs only its own figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.machine import Cores
from benchmarks.suite import loads
from benchmarks.suite.contestants import BARE, OURS
from benchmarks.suite.databases import Databases
from benchmarks.suite.samples import QUICK, Bench, Samples
from benchmarks.suite.servers import Running, ServerError, Site


def test_a_contestant_that_does_not_start_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Without(Site):
        @contextmanager
        def server(self, name: str, *others: Any, **more: Any) -> Iterator[Running]:
            if name != BARE:
                raise ServerError(f"{name} did not start: a long log\nand its last line\n")
            yield cast("Running", None)

    measured = []
    monkeypatch.setattr(loads, "_one", lambda bench, case, name, *others: measured.append(name))
    monkeypatch.setitem(
        loads.GROUPS, "cold", lambda effort: [loads.LoadCase("a", "heartbeat", 1, (OURS, BARE))]
    )
    site = Without(tmp_path, Databases(tmp_path), Cores(frozenset(), frozenset()))
    samples = Samples()
    loads.measure("cold", Bench(site, QUICK, samples, lambda message: None, 0))
    assert measured == [BARE] * QUICK.rounds
    assert list(samples.notes) == [f"{OURS} did not start: and its last line"]
