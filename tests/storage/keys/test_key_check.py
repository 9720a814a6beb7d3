"""What is wrong with the keys shows when the server starts, as far as it can without opening them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from openred_central.security.directory_keys.root import KeyOptions, QuantumPolicy, RootRefused
from openred_central.storage.keys.directory_keys import DirectoryKeys
from openred_central.storage.keys.key_check import check_keys
from openred_central.storage.keys.key_files import KeyFileError, KeyFiles

from ...security.keys import NOW

CLASSICAL = KeyOptions(quantum=QuantumPolicy.OFF)
SECRET = b"correct horse battery staple"


def files(folder: Path, secret: bytes | None = None) -> KeyFiles:
    return KeyFiles(folder / "keys", random.Random(1).randbytes, secret=secret)


def made(folder: Path, secret: bytes | None = None, options: KeyOptions = CLASSICAL) -> list[Path]:
    """The files that a first use of the keys leaves behind."""
    keys = DirectoryKeys(files(folder, secret), options)
    keys.open(NOW)
    keys.advance(NOW)
    return sorted((folder / "keys").iterdir())


def refused(folder: Path, options: KeyOptions = CLASSICAL) -> str:
    with pytest.raises(KeyFileError) as raised:
        check_keys(files(folder), options)
    return str(raised.value)


def test_a_folder_is_made_and_no_key(tmp_path: Path) -> None:
    assert check_keys(files(tmp_path), CLASSICAL) is None
    assert list((tmp_path / "keys").iterdir()) == []


def test_the_root_key_that_will_be_used_is_told(tmp_path: Path) -> None:
    made(tmp_path)
    assert check_keys(files(tmp_path), CLASSICAL) == "R"
    assert check_keys(files(tmp_path), KeyOptions()) == "R"
    made(tmp_path, options=KeyOptions(quantum=QuantumPolicy.REQUIRE))
    assert check_keys(files(tmp_path), CLASSICAL) == "R"
    assert check_keys(files(tmp_path), KeyOptions()) == "h"


def test_keys_that_are_well_are_left_as_they_are(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in made(tmp_path)}
    check_keys(files(tmp_path), CLASSICAL)
    check_keys(files(tmp_path, SECRET), CLASSICAL)
    assert {path: path.read_bytes() for path in (tmp_path / "keys").iterdir()} == before


def test_each_file_that_others_can_read_is_named(tmp_path: Path) -> None:
    for path in made(tmp_path):
        path.chmod(0o640)
        assert f"{path} is open to others" in refused(tmp_path)
        path.chmod(0o600)
    (tmp_path / "keys").chmod(0o755)
    assert "is open to others" in refused(tmp_path)


@pytest.mark.parametrize("keep_bytes", [0, 1, 40, -1, -40])
def test_each_file_that_was_cut_is_named(tmp_path: Path, keep_bytes: int) -> None:
    for path in made(tmp_path):
        content = path.read_bytes()
        # A last line without its end is none that is missing.
        cut = content[: keep_bytes - 1] if keep_bytes < 0 else content[:keep_bytes]
        path.write_bytes(cut)
        assert path.name in (told := refused(tmp_path))
        assert "damaged" in told
        path.write_bytes(content)
    assert check_keys(files(tmp_path), CLASSICAL) == "R"


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"version": "1", "keys": []}', b'{"version": 1, "keys": 5}']
)
def test_a_schedule_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    made(tmp_path)
    (tmp_path / "keys" / "keyring.json").write_bytes(content)
    assert "keyring.json is damaged" in refused(tmp_path)


def test_a_root_key_that_is_gone_is_told(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "keys" / "root-R.key").unlink()
    assert "the root key is missing" in refused(tmp_path)


def test_keys_that_are_encrypted_need_a_secret(tmp_path: Path) -> None:
    made(tmp_path, SECRET)
    assert "is encrypted; name the file with the secret" in refused(tmp_path)
    assert check_keys(files(tmp_path, SECRET), CLASSICAL) == "R"


def test_a_folder_in_which_no_key_can_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_keys(files(tmp_path), CLASSICAL)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "none can be made: it cannot be written" in refused(tmp_path)


def test_a_composite_root_key_needs_a_new_cryptography(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, options=KeyOptions())
    monkeypatch.setattr("cryptography.__about__.__version__", "47.0.1")
    with pytest.raises(RootRefused, match="composite, but this installation has no ML-DSA-65"):
        check_keys(files(tmp_path), KeyOptions())
    monkeypatch.setattr("cryptography.__about__.__version__", "48.0.0")
    assert check_keys(files(tmp_path), KeyOptions()) == "h"


def test_the_check_does_without_cryptography(tmp_path: Path) -> None:
    made(tmp_path, options=KeyOptions())
    program = f"""if True:
        import os, sys
        from pathlib import Path
        from openred_central.security.directory_keys.root import KeyOptions
        from openred_central.storage.keys.key_check import check_keys
        from openred_central.storage.keys.key_files import KeyFiles
        print(check_keys(KeyFiles(Path({str(tmp_path / "keys")!r}), os.urandom), KeyOptions()))
        print("cryptography.hazmat" in sys.modules)
        """
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["h", "False"]
