"""Databases with many nodes: each is made once, and copied for every server that begins with it."""

from __future__ import annotations

import gc
import shutil
import sqlite3
from contextlib import closing
from functools import cached_property
from itertools import chain
from pathlib import Path
from time import perf_counter

from ..population import batches, filled, record, records
from ..signers import ED25519, RSA, Signers, new_signers


class Databases:
    """`folder` holds one database for each number of nodes that was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def signers(self) -> Signers:
        """The nodes whose keys we hold."""
        return new_signers("")

    def copy(self, nodes: int, to: Path, last_seen_s: float | None = None) -> None:
        """Put a database with so many nodes at `to`, all last heard at `last_seen_s` where that is given."""
        shutil.copy(self.path(nodes, last_seen_s), to)

    def path(self, nodes: int, last_seen_s: float | None = None) -> Path:
        """The database with so many nodes, which nobody may write to."""
        path = self._folder / f"nodes-{nodes}-{last_seen_s or 'usual'}.db"
        if not path.exists():
            filled(path, records(nodes, last_seen_s)).close()
        return path

    def path_with_signers(self, usual: int, signers: int) -> Path:
        """A database with so many usual nodes and, of each kind of key, so many of `signers`.

        It is for one server, which may write to it.
        """
        path = self._folder / f"nodes-{usual}-signers-{signers}.db"
        proven = (
            self.signers.record(kind, number, usual + part * signers + number)
            for part, kind in enumerate((ED25519, RSA))
            for number in range(signers)
        )
        filled(path, batches(chain(map(record, range(usual)), proven))).close()
        return path


def select_s(database: Path) -> float:
    """Seconds that SQLite alone takes to give all rows as tuples: the floor of loading them.

    Without the garbage collector, as in a server that starts.
    """
    gc.disable()
    with closing(sqlite3.connect(database)) as connection:
        began_s = perf_counter()
        kept = connection.execute("SELECT * FROM node ORDER BY slot").fetchall()
        passed_s = perf_counter() - began_s
    del kept
    gc.enable()
    return passed_s
