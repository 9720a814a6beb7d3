"""The walk-through of a cluster, as its document shows it: two instances on a real PostgreSQL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.house.test_docs import CLUSTER, programs
from tests.house.transcripts import mismatches, run, transcripts
from tests.support.project import ROOT, documents, expect_none
from tests.support.serving import lasting_port

if TYPE_CHECKING:
    from tests.support.postgres import Bench

PASSWORD = "password of the superuser"
# In the document: of the database, and of both instances for clients, operators and each other.
PORTS = ("5432", "8000", "8001", "8100", "8010", "8011", "8110")
RUN_S_MAX = 120.0


def replaced(text: str, words: dict[str, str]) -> str:
    pattern = "|".join(words)
    return re.sub(rf"(?<!\d)(?:{pattern})(?!\d)", lambda found: words[found[0]], text)


def test_the_walk_through_of_a_cluster_is_true(postgres_bench: Bench, tmp_path: Path) -> None:
    server = postgres_bench.server(password=PASSWORD)
    ports = {"5432": str(server.port), **{port: str(lasting_port()) for port in PORTS[1:]}}
    assert len(set(ports.values())) == len(PORTS)
    shown = {instead: port for port, instead in ports.items()}
    folders = (programs(tmp_path), postgres_bench.binaries, os.environ.get("PATH", ""))
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(map(str, folders)),
        "PYTHONPATH": str(ROOT),
        "PGPASSWORD": PASSWORD,
    }
    # One shell for all blocks: between them is only text.
    steps = [step for block in transcripts(documents()[CLUSTER]) for step in block]
    here = [step._replace(command=replaced(step.command, ports)) for step in steps]
    printed = run(here, tmp_path, environment, timeout_s=RUN_S_MAX)
    try:
        expect_none(
            mismatches(CLUSTER, steps, [[replaced(line, shown) for line in lines] for lines in printed])
        )
    finally:
        for log in sorted(tmp_path.glob("*.log")):
            print(f"--- {log.name}:\n{log.read_text(encoding='utf-8')}")
