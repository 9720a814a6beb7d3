"""The interface of every store, and the report of refused rows."""

from __future__ import annotations

from openred_central.storage.store import MemoryStore, Store
from tests.support.records import batch, record


def test_memory_keeps_nothing_and_says_so() -> None:
    store: Store = MemoryStore()
    store.open()
    store.commit(batch(record(1)))
    store.save_secret("key", b"secret")
    store.save_revocations({"token": 1.0})
    store.look(0.0)
    store.tidy()
    assert (store.find_loss(), store.log_bytes) == (None, 0)
    assert not store.durable
    assert not store.tidy_due
    assert "nothing is kept" in store.location
    assert store.load_vitals() is None
    assert store.load_secret("key") is None
    assert store.load_revocations() == []
    assert list(store.load_records(10)) == []
    assert list(store.load_columns(10)) == []
    store.leave_alone([1])
    assert list(store.load_tombstones(10)) == []
    store.close()
    store.close()
