"""The directory's own keys are in their folder; a directory in memory leaves no keys behind."""

from __future__ import annotations

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from openred_central.clock import SystemClock
from openred_central.server.vault import Vault, keys_folder, open_vault
from openred_central.settings.config import Configuration
from openred_central.storage.keys.key_files import KeyFileError
from openred_central.storage.postgres.leasing import RolledBack
from openred_central.storage.store import MemoryStore, NotLeading, PassingError, Store, StoreError
from openred_central.tasks import keykeeper
from tests.support.building import DictStore
from tests.support.waiting import until


async def made(configuration: Configuration, store: Store | None = None) -> str:
    """Make the keys, and return the id of the root key."""
    with ThreadPoolExecutor(max_workers=1) as writer:
        vault = Vault(configuration, SystemClock(), os.urandom, store or MemoryStore(), writer)
        try:
            await vault.keykeeper.open()
            vault.keykeeper.stop()
            await vault.keykeeper.run()
            publication = vault.keykeeper.publication
            assert publication is not None
            return str(orjson.loads(publication.document)["root"]["kid"])
        finally:
            vault.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_keys_are_beside_the_database_by_default(tmp_path: Path) -> None:
    database = str(tmp_path / "openred.db")
    await made(Configuration(database=database, pq="off"))
    assert tmp_path / "keys" == keys_folder(database)
    assert names_in(tmp_path / "keys")[:2] == ["keyring.json", "root-R.key"]
    elsewhere = tmp_path / "elsewhere"
    await made(Configuration(database=database, key_folder=str(elsewhere), pq="off"))
    assert names_in(elsewhere)[:2] == ["keyring.json", "root-R.key"]


async def test_a_directory_in_memory_leaves_no_keys_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys_folder("memory:") is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert await made(Configuration(database="memory:", pq="off"))
    assert names_in(tmp_path) == []


async def test_keys_of_instances_lie_in_the_store_that_they_share(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(os.urandom(32).hex())
    secret.chmod(0o600)
    shared = Configuration(database="postgresql://user@host/name", key_secret_file=str(secret), pq="off")
    store = DictStore()
    root_key_id = await made(shared, store)
    # The next leader goes on with them.
    assert await made(shared, store) == root_key_id
    assert await made(shared, DictStore()) != root_key_id
    folder = tmp_path / "keys"
    assert await made(replace(shared, key_folder=str(folder)), store) != root_key_id
    assert names_in(folder)[:2] == ["keyring.json", "root-R.key"]


class AwayStore(DictStore):
    """A store that cannot be reached, or is led by another process, while there is an `error`."""

    error: StoreError | None = None

    def load_secret(self, name: str) -> bytes | None:
        if self.error is not None:
            raise self.error
        return super().load_secret(name)


@pytest.mark.parametrize(
    "error", [PassingError("the connection broke"), NotLeading("b leads in term 2"), RolledBack(3, 1.0)]
)
async def test_keys_that_are_out_of_reach_end_no_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    monkeypatch.setattr(keykeeper, "TICK_S", 0.01)
    secret = tmp_path / "secret"
    secret.write_text(os.urandom(32).hex())
    secret.chmod(0o600)
    shared = Configuration(database="postgresql://user@host/name", key_secret_file=str(secret), pq="off")
    store = AwayStore()
    with ThreadPoolExecutor(max_workers=1) as writer:
        store.error = error
        with pytest.raises(PassingError, match=str(error)):
            open_vault(shared, SystemClock(), os.urandom, store, writer)
        store.error = None
        vault = open_vault(shared, SystemClock(), os.urandom, store, writer)
        store.error = error
        running = asyncio.create_task(vault.run())
        await until(lambda: vault.keykeeper.trouble.failures)
        assert vault.keykeeper.publication is None
        store.error = None
        await until(lambda: vault.keykeeper.publication is not None)
        vault.keykeeper.stop()
        await running
        vault.close()


async def test_keys_are_encrypted_by_the_secret_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    # One line without a line end.
    secret.write_text(os.urandom(32).hex())
    secret.chmod(0o600)
    database = str(tmp_path / "openred.db")
    await made(Configuration(database=database, pq="off", key_secret_file=str(secret)))
    assert b"PRIVATE KEY" not in (tmp_path / "keys" / "root-R.key").read_bytes()
    with pytest.raises(KeyFileError):
        await made(Configuration(database=database, pq="off"))
    with pytest.raises(KeyFileError):
        await made(Configuration(database=database, pq="off", key_secret_file=str(tmp_path / "none")))
