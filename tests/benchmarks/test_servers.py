"""Memory is read when it stands still; a case is left out, aloud, where there are too few open files."""

from __future__ import annotations

import resource
from collections.abc import Callable

from benchmarks.suite import loads, machine
from benchmarks.suite.effort import WHOLE
from benchmarks.suite.servers import SETTLE_S_MAX, STILL_BYTES, STILL_S, settled


class Server:
    """Memory over time, which passes only while one waits."""

    def __init__(self, memory: Callable[[float], int]) -> None:
        self.at_s = 0.0
        self._memory = memory

    def look(self) -> int:
        return self._memory(self.at_s)

    def pause(self, seconds: float) -> None:
        self.at_s += seconds

    def settled(self) -> int:
        return settled(self.look, lambda: self.at_s, self.pause)


def test_memory_that_still_grows_is_waited_for() -> None:
    # A library of 12 MB comes while one looks.
    server = Server(lambda at_s: 20_000_000 + int(min(max(at_s - 0.3, 0), 0.5) * 24_000_000))
    assert server.settled() == 32_000_000
    assert 0.8 + STILL_S <= server.at_s < 0.8 + STILL_S + 0.2


def test_a_few_pages_more_or_less_are_still() -> None:
    server = Server(lambda at_s: 20_000_000 + int(at_s * 1_000) % 2 * STILL_BYTES)
    server.settled()
    assert server.at_s < STILL_S + 0.2


def test_what_never_stands_still_is_read_in_the_end() -> None:
    server = Server(lambda at_s: int(at_s * 1e9))
    assert server.settled() == int(server.at_s * 1e9)
    assert SETTLE_S_MAX <= server.at_s < SETTLE_S_MAX + 0.2


def test_a_case_with_more_connections_than_open_files_says_so() -> None:
    cases = {case.name: case for case in loads.cases(WHOLE)}
    case = cases[f"heartbeat of {WHOLE.usual:,}, 64 connections beside {WHOLE.idle_connections:,} idle ones"]
    needed = 10_064 + loads.FILES_BESIDES
    assert loads.shortage(case, needed) == ""
    assert "10,192 open files are needed and 1,024 allowed" in loads.shortage(case, 1_024)
    # All other cases go on.
    assert [name for name, each in cases.items() if loads.shortage(each, needed - 1)] == [case.name]


def test_a_process_has_as_many_open_files_as_it_may() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        machine.allow_open_files()
        assert machine.open_files_max() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
