"""Databases with many nodes: each is made once, and copied for every server that starts with it."""

from __future__ import annotations

import gc
import shutil
import sqlite3
from contextlib import closing
from functools import cached_property
from itertools import chain
from pathlib import Path
from time import perf_counter

from openred_central.directory.lifecycle import State

from ..population import batches, filled, record, records
from ..signers import ED25519, RSA, Signers, new_signers


class Databases:
    """Databases in `folder`, one for each number of nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def signers(self) -> Signers:
        """Return the nodes whose keys we hold."""
        return new_signers("")

    def copy(
        self, nodes: int, to: Path, last_seen_s: float | None = None, state: State = State.ACTIVE
    ) -> None:
        """Copy a database with so many nodes to `to`, all in `state` since `last_seen_s` if that is given."""
        shutil.copy(self.path(nodes, last_seen_s, state), to)

    def path(self, nodes: int, last_seen_s: float | None = None, state: State = State.ACTIVE) -> Path:
        """Return the database with so many nodes, which is not to be changed."""
        path = self._folder / f"nodes-{nodes}-{last_seen_s or 'usual'}-{state}.db"
        if not path.exists():
            filled(path, records(nodes, last_seen_s, state)).close()
        return path

    def path_with_signers(self, usual: int, signers: int) -> Path:
        """Return a database with so many usual nodes and, for each kind of key, `signers`.

        One server after the other may change it.
        """
        path = self._folder / f"nodes-{usual}-signers-{signers}.db"
        if path.exists():
            return path
        proven = (
            self.signers.record(kind, number, usual + part * signers + number)
            for part, kind in enumerate((ED25519, RSA))
            for number in range(signers)
        )
        filled(path, batches(chain(map(record, range(usual)), proven))).close()
        return path


def select_s(database: Path) -> float:
    """Return the seconds of SQLite alone to return all rows as tuples: the floor of loading them.

    The garbage collector is off, as in a server that starts.
    """
    gc.disable()
    with closing(sqlite3.connect(database)) as connection:
        began_s = perf_counter()
        kept = connection.execute("SELECT * FROM node ORDER BY slot").fetchall()
        passed_s = perf_counter() - began_s
    del kept
    gc.enable()
    return passed_s
