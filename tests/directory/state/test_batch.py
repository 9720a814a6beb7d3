"""What passes between the directory and a store."""

from __future__ import annotations

from openred_central.directory.state.batch import Batch, Vitals
from openred_central.directory.state.node import SignOfLife, Tombstone

from ..building import at, make_directory, record_of, register


def test_the_rows_of_a_batch_are_all_that_it_changes_but_the_vitals() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    batch = Batch(
        records=[record_of(directory, "a")],
        freed_slots=[1, 2],
        signs_of_life=[SignOfLife(3, 0.0, 0.0, 0.0)] * 3,
        tombstones=[Tombstone("hash", "fingerprint", 0.0, 0.0, "deadline", 1)] * 4,
        lifted_id_hashes=["hash"] * 5,
        vitals=Vitals(0.0, 0, 0.0),
        last_change=1,
    )
    assert batch.rows == 15
    assert Batch([], [], [], [], [], Vitals(0.0, 0, 0.0), 0).rows == 0
