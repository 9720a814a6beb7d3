"""A power cut leaves any part of the log on the disk: a start finds whole commits, and no hole in them."""

from __future__ import annotations

import os
from bisect import bisect_right
from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings

from openred_central.directory.state.changes import Batch
from openred_central.storage.sqlite import sqlite
from openred_central.storage.sqlite.sqlite import SqliteStore
from tests.support.records import opened

from .model import Model, held, random_batch

COMMITS = 60
# Nothing of the log is copied into the database: that part could not be torn with it any more.
LOG_BYTES_MAX = 1 << 30
# A hundred times as many when soaking.
ROUNDS = settings().max_examples


class Recording:
    """A database and its log after some commits and checkpoints, and what it held at each size of the log."""

    def __init__(self, path: Path, seed: int, kind: type[SqliteStore] = SqliteStore) -> None:
        random, model = Random(seed), Model()
        store = kind(path)
        store.open()
        log = path.with_name(path.name + "-wal")
        self.sizes = [0]
        self.models = [deepcopy(model)]
        for number in range(1, COMMITS + 1):
            store.commit(random_batch(random, number, model))
            self.sizes.append(log.stat().st_size)
            self.models.append(deepcopy(model))
            # No reader may see how the log is copied or wiped.
            for _ in range(random.randrange(4)):
                if store.tidy_due:
                    store.tidy()
                    self.sizes.append(log.stat().st_size)
                    self.models.append(deepcopy(model))
        self.database, self.log = path.read_bytes(), log.read_bytes()
        store.close()
        assert self.sizes == sorted(self.sizes)
        assert self.sizes[-1] == len(self.log)

    def expect(self, folder: Path, log: bytes, intact_bytes: int, what: str) -> None:
        """A server that finds this log, its first bytes as they were, finds all that those say."""
        folder.mkdir()
        path = folder / "openred.db"
        path.write_bytes(self.database)
        path.with_name("openred.db-wal").write_bytes(log)
        expected = self.models[bisect_right(self.sizes, intact_bytes) - 1]
        for start in ("first", "second"):
            with opened(path) as store:
                assert held(store) == expected.contents(), f"{start} start, {what}"

    def expect_cuts(self, folder: Path, ends: list[int]) -> None:
        """Expect whole commits for a log that was cut after each number of bytes in `ends`."""
        for end in ends:
            self.expect(folder / os.urandom(8).hex(), self.log[:end], end, f"cut after {end} bytes")


@pytest.fixture
def recording(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> Recording:
    monkeypatch.setattr(sqlite, "WAL_BYTES_DUE", LOG_BYTES_MAX)
    return Recording(tmp_path / "openred.db", seed)


class Disorderly(SqliteStore):
    """Makes every other commit after the one that follows it."""

    kept: Batch | None = None

    def commit(self, batch: Batch) -> None:
        if self.kept is None:
            self.kept = batch
            return
        kept, self.kept = self.kept, None
        super().commit(batch)
        super().commit(kept)


def test_commits_out_of_order_would_be_noticed(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_BYTES_DUE", LOG_BYTES_MAX)
    recording = Recording(tmp_path / "openred.db", seed, Disorderly)
    with pytest.raises(AssertionError, match="start, cut after"):
        recording.expect_cuts(tmp_path, recording.sizes)


def test_a_cut_log_loses_only_its_end(recording: Recording, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    ends = random.sample(recording.sizes, 3)
    anywhere = (random.randrange(len(recording.log)) for _ in range(ROUNDS))
    recording.expect_cuts(tmp_path, [0, 31, 32, *ends, *anywhere])


def test_a_flipped_bit_in_the_log_loses_only_its_commits(
    recording: Recording, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    for _ in range(ROUNDS):
        bit = random.randrange(len(recording.log) * 8)
        log = bytearray(recording.log)
        log[bit // 8] ^= 1 << bit % 8
        folder = tmp_path / os.urandom(8).hex()
        recording.expect(folder, bytes(log), bit // 8, f"bit {bit} turned")


def test_a_log_without_its_end_loses_only_its_commits(
    recording: Recording, tmp_path: Path, seed: int
) -> None:
    """Blocks that were written but not yet synced may read as zeros, or as what was there before."""
    random = Random(seed)
    for _ in range(ROUNDS // 2):
        start = random.randrange(len(recording.log) // 512) * 512
        log = bytearray(recording.log)
        log[start : start + 4_096] = bytes(min(4_096, len(log) - start))
        intact = next(
            (at for at in range(start, len(log)) if log[at] != recording.log[at]),
            len(log),
        )
        folder = tmp_path / os.urandom(8).hex()
        recording.expect(folder, bytes(log), intact, f"zeros at {start}")
