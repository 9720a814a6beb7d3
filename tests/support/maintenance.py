"""Commands of maintenance, run in the process of a test, and databases for them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openred_central.cli.command import CommandFailed
from openred_central.cli.main import commands
from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.node import Record, Tombstone
from openred_central.storage.copies.snapshots import Snapshot, Snapshots
from tests.support.console import Recorded
from tests.support.records import opened, record

VITALS = Vitals(attended_s=1_000.0, revision=1_000, transitions_per_h=0.25)
CLAIM_KEY = b"\0secret\xff" * 4


def at_rest(slot: int, **changes: Any) -> Record:
    """Return a record that fits to `VITALS`."""
    return record(slot, **changes)


def fill(database: Path, records: list[Record], tombstones: list[Tombstone] | None = None) -> None:
    """Write records to a database, which is made where there is none."""
    with opened(database) as store:
        store.commit(Batch(records, [], tombstones or [], [], VITALS, 1))
        store.save_secret("claim_key", CLAIM_KEY)


def take(database: Path) -> Snapshot:
    snapshots = Snapshots(database, database.parent / "snapshots")
    return snapshots.take(1_800_000_000.0, kept=24, progress=lambda done, total: None)[0]


class Outcome:
    """The exit code of a command, its lines on standard error, and its bytes on standard output."""

    def __init__(self, code: int, said: list[str], output: bytes) -> None:
        self.code = code
        self.said = said
        self.output = output


def command(
    name: str,
    database: Path | str,
    *,
    standard_input: bytes = b"",
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Outcome:
    """Run a command of maintenance. Raises the `StoreError` that it fails with."""
    given = {"without_secrets": False, "replace": False, "all": False, "url": None, **options}
    recorded = Recorded(standard_input=standard_input, environment=environment)
    run = commands([name])[name].run
    try:
        code = run(argparse.Namespace(command=name, database=str(database), **given), recorded.console)
    except CommandFailed as failed:
        raise failed.__cause__ or failed from None
    return Outcome(code, recorded.said, recorded.output.getvalue())
