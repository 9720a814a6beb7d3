"""The keys of instances: in the store that they share, all or none of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, current_thread

import orjson
import pytest

from openred_central.security.directory_keys.root import QuantumPolicy
from openred_central.storage.keys import stored_keys
from openred_central.storage.keys.directory_keys import DirectoryKeys
from openred_central.storage.keys.key_files import KeyFileError, check_keys
from openred_central.storage.keys.stored_keys import KEYS, StoredKeys
from openred_central.storage.store import StoreError
from tests.support.building import DictStore
from tests.support.keys import NOW
from tests.support.options import key_options

DAY_S = 86_400.0
CLASSICAL = key_options(quantum=QuantumPolicy.OFF)


class FailingStore(DictStore):
    """A store that notes which threads use it, and takes no secret while it fails."""

    location = "postgresql://host/name"

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.threads = set[str]()

    def load_secret(self, name: str) -> bytes | None:
        self.threads.add(current_thread().name)
        return super().load_secret(name)

    def save_secret(self, name: str, value: bytes) -> None:
        self.threads.add(current_thread().name)
        if self.fails:
            raise StoreError("another instance leads")
        super().save_secret(name, value)


@pytest.fixture
def writer() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer") as executor:
        yield executor


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


def opened(store: FailingStore, writer: ThreadPoolExecutor) -> StoredKeys:
    keys = StoredKeys(store, writer)
    keys.open()
    return keys


def test_files_are_read_back_by_the_next_leader(store: FailingStore, writer: ThreadPoolExecutor) -> None:
    keys = opened(store, writer)
    assert keys.names() == []
    keys.write("b.key", b"one")
    keys.write("a.json", b"{}")
    keys.write("b.key", b"two")
    for each in (keys, opened(store, writer)):
        assert each.names() == ["a.json", "b.key"]
        assert [each.read(name) for name in ("a.json", "b.key", "c")] == [b"{}", b"two", None]
    keys.erase("b.key")
    keys.erase("b.key")
    assert opened(store, writer).names() == ["a.json"]
    # The store is never used by two threads at once.
    assert store.threads == {"writer_0"}


def test_without_the_lead_nothing_changes(store: FailingStore, writer: ThreadPoolExecutor) -> None:
    keys = opened(store, writer)
    keys.write("a.key", b"one")
    store.fails = True
    for change in (lambda: keys.write("a.key", b"two"), lambda: keys.erase("a.key")):
        with pytest.raises(KeyFileError, match="postgresql://host/name: another instance leads"):
            change()
    assert keys.read("a.key") == opened(store, writer).read("a.key") == b"one"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_damage_is_told_with_advice(store: FailingStore, writer: ThreadPoolExecutor, content: bytes) -> None:
    store.save_secret(KEYS, content)
    with pytest.raises(KeyFileError, match=r"are damaged: .* bring the database back from a backup"):
        opened(store, writer)


def test_the_keys_of_a_directory_go_on_under_the_next_leader(
    store: FailingStore, writer: ThreadPoolExecutor
) -> None:
    options = replace(CLASSICAL, classical_root=True)
    assert check_keys(StoredKeys(store, writer), options) is None
    first = DirectoryKeys(StoredKeys(store, writer), options)
    first.open(NOW)
    first.advance(NOW)
    for notice in first.notices:
        assert notice.endswith("keep a copy of the key secret, without which no backup of the database opens")
    assert check_keys(StoredKeys(store, writer), options) == "R"
    second = DirectoryKeys(StoredKeys(store, writer), options)
    second.open(NOW + 60)
    second.advance(NOW + 60)
    assert first.served is not None
    assert second.served is not None
    assert first.signing is not None
    assert second.signing is not None
    assert second.served.root_key_id == first.served.root_key_id
    first_root, second_root = (
        orjson.loads(served.document)["classical"]["root"] for served in (first.served, second.served)
    )
    assert first_root == second_root
    assert second.signing.public.key_id == first.signing.public.key_id
    # It rotates them, which the first one cannot do any more.
    for hours in range(60):
        second.advance(NOW + 60 + hours * 3_600)
    assert second.signing.public.key_id != first.signing.public.key_id
    store.fails = True
    with pytest.raises(KeyFileError, match="another instance leads"):
        first.advance(NOW + 2.5 * DAY_S)


def test_a_damaged_key_in_the_store_is_told_at_the_start(
    store: FailingStore, writer: ThreadPoolExecutor
) -> None:
    opened(store, writer).write("root-R.key", b"no PEM")
    with pytest.raises(KeyFileError, match=r"root-R\.key is damaged"):
        check_keys(StoredKeys(store, writer), CLASSICAL)


def test_a_store_that_takes_long_holds_up_nothing(
    store: FailingStore, writer: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = opened(store, writer)
    monkeypatch.setattr(stored_keys, "CALL_TIMEOUT_S", 0.01)
    gate = Event()
    writer.submit(gate.wait)
    with pytest.raises(KeyFileError, match=r"it took no call for 0\.01 s"):
        keys.write("a.key", b"one")
    gate.set()
    monkeypatch.undo()
    # Nobody was told that it is there, so it is not.
    assert opened(store, writer).names() == keys.names() == []
