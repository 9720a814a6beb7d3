"""The directory's own keys are in their folder; a directory in memory leaves no keys behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openred_central.clock import SystemClock
from openred_central.server.vault import Vault, keys_folder
from openred_central.settings.config import Configuration
from openred_central.storage.keys.key_files import KeyFileError


async def made_in(configuration: Configuration) -> tuple[Path, list[str], str | None]:
    """Open the keys once. Return their folder, the files in it, and the letter of the root key's suite."""
    vault = Vault(configuration, SystemClock(), os.urandom)
    try:
        await vault.keykeeper.open()
        vault.keykeeper.stop()
        await vault.keykeeper.run()
        folder = vault.folder
        return folder, sorted(path.name for path in folder.iterdir()), vault.keykeeper.root_suite
    finally:
        vault.close()


async def test_keys_are_beside_the_database_by_default(tmp_path: Path) -> None:
    database = str(tmp_path / "openred.db")
    folder, names, suite = await made_in(Configuration(database=database, pq="off"))
    assert folder == tmp_path / "keys" == keys_folder(database)
    assert (names[0], names[1], suite) == ("keyring.json", "root-R.key", "R")
    elsewhere = tmp_path / "elsewhere"
    folder, _, _ = await made_in(Configuration(database=database, key_folder=str(elsewhere), pq="off"))
    assert folder == elsewhere


async def test_a_directory_in_memory_leaves_no_keys_behind() -> None:
    assert keys_folder("memory:") is None
    folder, names, _ = await made_in(Configuration(database="memory:", pq="off"))
    assert "root-R.key" in names
    assert not folder.exists()


async def test_keys_are_encrypted_by_the_secret_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    # One line without a line end.
    secret.write_text(os.urandom(32).hex())
    secret.chmod(0o600)
    database = str(tmp_path / "openred.db")
    folder, _, _ = await made_in(Configuration(database=database, pq="off", key_secret_file=str(secret)))
    assert b"PRIVATE KEY" not in (folder / "root-R.key").read_bytes()
    with pytest.raises(KeyFileError):
        await made_in(Configuration(database=database, pq="off"))
    with pytest.raises(KeyFileError):
        await made_in(Configuration(database=database, pq="off", key_secret_file=str(tmp_path / "none")))
