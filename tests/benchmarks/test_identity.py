"""The benchmark of identity runs from end to end, and tells every cost that it promises."""

from __future__ import annotations

import subprocess
import sys

from tests.house.project import ROOT

ROWS = (
    "heartbeat, unproven",
    "heartbeat, by session",
    "heartbeat, signed by RSA-2048",
    "heartbeat, signed by Ed25519",
    "pair of tokens, by session",
    "check of a pair of tokens, offline",
)


def test_every_cost_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks", "identity", "--nodes", "3", "--rounds", "1", "--no-stalls"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    told = [line.strip() for line in ended.stdout.splitlines()]
    assert sum(", of which " in line for line in told) == 4
    assert [row for row in ROWS if sum(line.startswith(row) for line in told) != 1] == []
