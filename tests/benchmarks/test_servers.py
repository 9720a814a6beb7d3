"""Memory is read once it is settled; cases with too few open files, and missing peers, have a reason."""

from __future__ import annotations

import importlib.util
import resource
import shutil
from collections.abc import Callable

import pytest

from benchmarks import machine
from benchmarks.suite import contestants, loads
from benchmarks.suite.samples import WHOLE
from benchmarks.suite.servers import SETTLE_S_MAX, STILL_BYTES, STILL_S, settled


class Server:
    """Memory over a time that passes only in `pause`."""

    def __init__(self, memory: Callable[[float], int]) -> None:
        self.at_s = 0.0
        self._memory = memory

    def look(self) -> int:
        return self._memory(self.at_s)

    def pause(self, seconds: float) -> None:
        self.at_s += seconds

    def settled(self) -> int:
        return settled(self.look, lambda: self.at_s, self.pause)


def test_growing_memory_is_awaited() -> None:
    # A library of 12 MB is loaded meanwhile.
    server = Server(lambda at_s: 20_000_000 + int(min(max(at_s - 0.3, 0), 0.5) * 24_000_000))
    assert server.settled() == 32_000_000
    assert 0.8 + STILL_S <= server.at_s < 0.8 + STILL_S + 0.2


def test_change_of_a_few_pages_counts_as_settled() -> None:
    server = Server(lambda at_s: 20_000_000 + int(at_s * 1_000) % 2 * STILL_BYTES)
    server.settled()
    assert server.at_s < STILL_S + 0.2


def test_memory_that_never_settles_is_read_in_the_end() -> None:
    server = Server(lambda at_s: int(at_s * 1e9))
    assert server.settled() == int(server.at_s * 1e9)
    assert SETTLE_S_MAX <= server.at_s < SETTLE_S_MAX + 0.2


def test_case_with_too_few_open_files_is_left_out() -> None:
    cases = {case.name: case for case in loads.cases(WHOLE)}
    case = cases[f"heartbeat of {WHOLE.usual:,}, 64 connections beside {WHOLE.idle_connections:,} idle ones"]
    needed = 10_064 + loads.FILES_BESIDES
    assert loads.shortage(case, needed) == ""
    assert "it needs 10,192 open files, allowed are 1,024" in loads.shortage(case, 1_024)
    # All other cases remain.
    assert [name for name, each in cases.items() if loads.shortage(each, needed - 1)] == [case.name]


def test_limit_of_open_files_is_raised_to_its_maximum() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        machine.allow_open_files()
        assert machine.open_files_max() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("built", "optimised"),
    [
        ({"CONFIG_ARGS": "'--enable-optimizations'", "PGO_PROF_USE_FLAG": "-fprofile-use"}, True),
        ({"CONFIG_ARGS": "'--enable-shared'", "PGO_PROF_USE_FLAG": "-fprofile-use"}, False),
        ({"CONFIG_ARGS": "'--without-ensurepip'", "PGO_PROF_USE_FLAG": ""}, True),
        ({}, False),
    ],
)
def test_interpreter_says_whether_it_was_built_with_profiles(
    built: dict[str, object], optimised: bool
) -> None:
    assert machine.is_optimised(built) is optimised


def test_peer_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    reasons = {name: each.missing() for name, each in contestants.CONTESTANTS.items()}
    assert "libev-dev" in reasons[contestants.BJOERN]
    assert "apt install nginx" in reasons[contestants.NGINX_TLS]
    assert {name for name, reason in reasons.items() if not reason} == {
        contestants.ENGINE,
        *(name for name in reasons if name.startswith((contestants.OURS, contestants.BARE))),
    }
