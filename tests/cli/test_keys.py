"""`keys` shows the directory's own keys, changes them, and signs key sets."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from openred_central.cli.keys import show, sign_keyset
from openred_central.security.directory_keys.keyset import KeyStatus, PublishedKey, read_document
from openred_central.settings.config import ConfigError, Configuration
from openred_central.storage.keys.directory_keys import DirectoryKeys, KeyOptions
from openred_central.storage.keys.key_files import KeyFileError, KeyFiles
from tests.support.keys import NOW, directory_key, keyset
from tests.support.options import key_options

ENTROPY = random.Random(5).randbytes


def started(folder: Path, options: KeyOptions) -> DirectoryKeys:
    keys = DirectoryKeys(KeyFiles(folder, ENTROPY), options)
    keys.open(NOW)
    keys.advance(NOW)
    return keys


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_keys_are_listed_and_left_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys = started(folder, key_options())
    before = contents(folder)
    assert keys.served is not None
    assert keys.signing is not None
    beside = Configuration(database=str(tmp_path / "nodes.db"))
    named = Configuration(key_folder=str(folder))
    for configuration in (beside, named):
        root, signing = show(configuration, ENTROPY, NOW)
        assert root.startswith(keys.served.root_key_id)
        assert root.endswith(" root")
        assert signing.startswith(f"{keys.signing.public.key_id} rsa2048-pss-sha256 active from 2027-01-15T")
    assert contents(folder) == before


def test_a_key_set_is_carried_to_the_root_key_and_back(tmp_path: Path) -> None:
    keys = started(tmp_path / "keys", key_options("R", offline_root=True))
    elsewhere = Configuration(key_folder=str(tmp_path / "root"), classical_root=True)
    reported: list[str] = []
    request = tmp_path / "keys" / "keyset-request.json"
    document = sign_keyset(elsewhere, ENTROPY, request, reported.append, NOW)
    root_id = reported[-1].removeprefix("signed by the root key ")
    assert read_document(document.encode(), root_id, NOW).keys
    assert any(" next from " in line for line in reported)
    line, second = show(elsewhere, ENTROPY, NOW)
    assert line.startswith(root_id)
    classical_id = second.removesuffix(" rsa3072-pss-sha256 classical root")
    assert f"signed by the classical root key {classical_id}, which is not quantum-safe" in reported
    assert read_document(document.encode(), classical_id, NOW, classical=True).keys
    forgotten = Configuration(key_folder=str(tmp_path / "root"))
    assert "classical" not in orjson.loads(sign_keyset(forgotten, ENTROPY, request, reported.append, NOW))
    assert "warning: not signed by the classical root key" in reported[-2]
    KeyFiles(tmp_path / "keys", ENTROPY).write("keyset-signed.json", document.encode())
    keys.advance(NOW + 1)
    assert keys.served is not None
    assert keys.served.root_key_id == root_id


def arguments(folder: Path, **changes: Any) -> tuple[Configuration, Callable[[int], bytes], Path]:
    """Return the settings with the root key, the entropy, and a request with `changes`, for `sign_keyset`."""
    request = folder / "keyset-request.json"
    request.write_bytes(keyset(directory_key("R"), revoked=("R" * 43,))._replace(**changes).encode())
    return Configuration(key_folder=str(folder / "root")), ENTROPY, request


def test_sign_keyset_shows_what_it_signs(tmp_path: Path) -> None:
    reported: list[str] = []
    key_id = directory_key("R").public.key_id
    sign_keyset(*arguments(tmp_path, version=NOW), reported.append, NOW)
    assert reported[:3] == [
        f"version {NOW}, issued at 2027-01-15T08:00:00Z, valid until 2027-01-17T08:00:00Z",
        f"{key_id} rsa3072-pss-sha256 active from 2027-01-15T08:00:00Z to 2027-01-16T08:00:00Z",
        f"{'R' * 43} revoked",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": NOW + 3_601}, "its version is 3601 ahead of its time of issue, allowed is 3600"),
        ({"version": 2**53 - 1}, "is no request for a key set: 9007199254740991 is no whole number"),
        ({"expires_at": NOW + 200 * 365 * 86_400}, "it is valid for 6307200000 s"),
        ({"keys": (PublishedKey(directory_key("R").public, NOW, NOW + 10**9, KeyStatus.ACTIVE),)}, "its key"),
    ],
)
@pytest.mark.parametrize("any_time", [False, True])
def test_excessive_key_sets_are_never_signed(
    tmp_path: Path, changes: dict[str, Any], message: str, any_time: bool
) -> None:
    with pytest.raises(KeyFileError, match=message):
        sign_keyset(*arguments(tmp_path, **changes), print, NOW, any_time=any_time)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("now_s", [NOW - 31, NOW + 172_800])
def test_untimely_key_sets_need_accept_time(tmp_path: Path, now_s: int) -> None:
    given = arguments(tmp_path)
    with pytest.raises(
        KeyFileError, match="set the clock that is wrong, or sign it anyway with --accept-time"
    ):
        sign_keyset(*given, print, now_s)
    assert not (tmp_path / "root").exists()
    assert sign_keyset(*given, print, now_s, any_time=True)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]"])
def test_only_requests_are_signed(tmp_path: Path, content: bytes | None) -> None:
    request = tmp_path / "keyset-request.json"
    if content is not None:
        request.write_bytes(content)
    with pytest.raises(KeyFileError, match="cannot be read" if content is None else "is no request"):
        sign_keyset(Configuration(key_folder=str(tmp_path / "root")), ENTROPY, request, print, NOW)
    assert not (tmp_path / "root").exists()


def test_show_makes_no_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="a server makes them when they are needed"):
        list(show(Configuration(key_folder=str(tmp_path / "keys")), ENTROPY, NOW))
    with pytest.raises(ConfigError, match="in memory keeps no keys"):
        list(show(Configuration(database="memory:"), ENTROPY, NOW))
    assert list(tmp_path.iterdir()) == []
    shared = Configuration(database="postgresql://user@host/name", key_secret_file="secret")
    with pytest.raises(ConfigError, match="GET /security/keys of any of them lists the keys"):
        list(show(shared, ENTROPY, NOW))


@pytest.mark.parametrize("name", ["keyring.json", "root-R.key"])
def test_damaged_key_files_are_reported(tmp_path: Path, name: str) -> None:
    files = KeyFiles(tmp_path / "keys", ENTROPY)
    files.open()
    files.write(name, b"{}")
    with pytest.raises(KeyFileError, match="is damaged"):
        list(show(Configuration(key_folder=str(files.folder)), ENTROPY, NOW))
