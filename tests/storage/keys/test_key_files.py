"""Files with secrets are for us alone; where they are not, nothing starts, and the operator is told why."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from openred_central.security.directory_keys.root import KeyOptions, QuantumPolicy, RootRefused
from openred_central.storage.keys.directory_keys import DirectoryKeys
from openred_central.storage.keys.key_files import (
    FILE_BYTES_MAX,
    KeyFileError,
    KeyFiles,
    check_keys,
    read_secret,
    read_secrets,
)
from tests.support.keys import NOW
from tests.support.options import key_options
from tests.support.project import ROOT

SECRET = b"correct horse battery staple"


def files(folder: Path, secret: bytes | None = None) -> KeyFiles:
    opened = KeyFiles(folder / "keys", random.Random(1).randbytes, secret=secret)
    opened.open()
    return opened


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_file_is_read_back_and_private(tmp_path: Path) -> None:
    keys = files(tmp_path)
    assert keys.read("root-h.key") is None
    keys.write("root-h.key", b"one")
    keys.write("root-h.key", b"two")
    assert keys.read("root-h.key") == b"two"
    assert mode(tmp_path / "keys") == 0o700
    assert mode(tmp_path / "keys" / "root-h.key") == 0o600
    assert keys.names() == ["root-h.key"]


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o660, 0o604, 0o602, 0o610])
def test_a_file_that_others_can_get_at_is_refused(tmp_path: Path, bits: int) -> None:
    keys = files(tmp_path)
    keys.write("root-h.key", b"one")
    path = tmp_path / "keys" / "root-h.key"
    path.chmod(bits)
    with pytest.raises(KeyFileError, match=rf"{path} is open to others \(mode {bits:04o}\).*chmod 0600"):
        keys.read("root-h.key")


@pytest.mark.parametrize("bits", [0o755, 0o750, 0o701, 0o770])
def test_a_folder_that_others_can_get_at_is_refused(tmp_path: Path, bits: int) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(bits)
    with pytest.raises(KeyFileError, match=rf"{folder} is open to others \(mode {bits:04o}\).*chmod 0700"):
        files(tmp_path)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = files(tmp_path)
    keys.write("root-h.key", b"one")
    path, owner = tmp_path / "keys" / "root-h.key", os.geteuid()
    found = os.stat(path)
    foreign = os.stat_result([*found[:4], 12_345, *found[5:]])
    # No longer than needed: pytest looks at its own files, too.
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda descriptor: foreign)
        with pytest.raises(
            KeyFileError, match=f"belongs to user 12345, and this server runs as user {owner}"
        ):
            keys.read("root-h.key")


@pytest.mark.parametrize(
    ("group", "bits", "accepted"), [(0, 0o440, True), (0, 0o460, False), (0, 0o444, False), (7, 0o440, False)]
)
def test_a_credential_of_systemd_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, bits: int, accepted: bool
) -> None:
    """It belongs to root; an access list, which shows as a right of the group, lets its service read it."""
    path = tmp_path / "key_secret"
    path.write_bytes(b"a secret of the operator\n")
    found = os.stat(path)
    credential = os.stat_result([0o100_000 | bits, *found[1:4], 0, group, *found[6:]])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda descriptor: credential)
        patched.setattr(os, "geteuid", lambda: 61_184)
        if accepted:
            assert read_secret(path) == b"a secret of the operator"
        else:
            with pytest.raises(KeyFileError, match="is open to others"):
                read_secret(path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    keys = files(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    elsewhere.chmod(0o600)
    (tmp_path / "keys" / "root-h.key").symlink_to(elsewhere)
    with pytest.raises(KeyFileError, match=r"cannot use .*root-h\.key"):
        keys.read("root-h.key")
    keys.write("root-h.key", b"one")
    assert elsewhere.read_bytes() == b"untouched"
    assert keys.read("root-h.key") == b"one"


def test_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    keys = files(tmp_path)
    os.mkfifo(tmp_path / "keys" / "pipe.key", 0o600)
    with pytest.raises(KeyFileError, match="is no regular file"):
        keys.read("pipe.key")


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    keys = files(tmp_path)
    keys.write("root-h.key", bytes(FILE_BYTES_MAX + 1))
    with pytest.raises(KeyFileError, match="has 65537 bytes, allowed are 65536"):
        keys.read("root-h.key")


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"")
    with pytest.raises(KeyFileError, match=r"cannot use .*keys: "):
        files(tmp_path)


def test_an_erased_file_is_overwritten_and_gone(tmp_path: Path) -> None:
    keys = files(tmp_path)
    keys.write("signing-1.key", b"secret")
    other_name = tmp_path / "other"
    os.link(tmp_path / "keys" / "signing-1.key", other_name)
    keys.erase("signing-1.key")
    assert keys.names() == []
    assert other_name.read_bytes() == bytes(6)
    keys.erase("signing-1.key")


def test_keys_are_encrypted_where_there_is_a_secret(tmp_path: Path) -> None:
    keys = files(tmp_path, SECRET)
    keys.write("root-h.key", b"the private key")
    keys.write("keyring.json", b"no secret")
    assert keys.read("root-h.key") == b"the private key"
    assert b"private" not in (tmp_path / "keys" / "root-h.key").read_bytes()
    assert (tmp_path / "keys" / "keyring.json").read_bytes() == b"no secret"
    with pytest.raises(KeyFileError, match="is encrypted; name the file with the secret"):
        files(tmp_path).read("root-h.key")
    with pytest.raises(KeyFileError, match="cannot be decrypted: it was encrypted with another secret"):
        files(tmp_path, b"another secret").read("root-h.key")


def test_encrypted_files_cannot_be_exchanged(tmp_path: Path) -> None:
    keys = files(tmp_path, SECRET)
    keys.write("root-h.key", b"one")
    (tmp_path / "keys" / "root-h.key").rename(tmp_path / "keys" / "root-R.key")
    with pytest.raises(KeyFileError, match="cannot be decrypted"):
        keys.read("root-R.key")


def test_a_plain_key_is_encrypted_when_it_is_read(tmp_path: Path) -> None:
    files(tmp_path).write("root-h.key", b"the private key")
    assert files(tmp_path, SECRET).read("root-h.key") == b"the private key"
    assert b"private" not in (tmp_path / "keys" / "root-h.key").read_bytes()


@pytest.mark.parametrize("name", ["", "../root-h.key", "/etc/passwd", ".hidden", "a b"])
def test_files_have_plain_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a file here"):
        files(tmp_path).write(name, b"one")


def test_a_secret_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\r\nanother line\n")
    path.chmod(0o400)
    assert read_secret(path) == SECRET


def test_further_lines_are_further_secrets(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for content, secrets in [
        (SECRET, [SECRET]),
        (SECRET + b"\r\n\nanother secret\n", [SECRET, b"another secret"]),
    ]:
        path.write_bytes(content)
        path.chmod(0o600)
        assert read_secrets(path) == secrets
    for content in (b"", b"\n" + SECRET, SECRET + b"\nshort"):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match="allowed are 12 or more"):
            read_secrets(path)


def test_a_secret_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(KeyFileError, match=f"{path} does not exist"):
        read_secret(path)
    path.write_bytes(b"short\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="has 5 bytes, allowed are 12 or more"):
        read_secret(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="is open to others"):
        read_secret(path)


CLASSICAL = key_options(quantum=QuantumPolicy.OFF)
SECRET = b"correct horse battery staple"


def unopened(folder: Path, secret: bytes | None = None) -> KeyFiles:
    return KeyFiles(folder / "keys", random.Random(1).randbytes, secret=secret)


def made(folder: Path, secret: bytes | None = None, options: KeyOptions = CLASSICAL) -> list[Path]:
    """The files that a first use of the keys leaves behind."""
    keys = DirectoryKeys(unopened(folder, secret), options)
    keys.open(NOW)
    keys.advance(NOW)
    return sorted((folder / "keys").iterdir())


def refused(folder: Path, options: KeyOptions = CLASSICAL) -> str:
    with pytest.raises(KeyFileError) as raised:
        check_keys(unopened(folder), options)
    return str(raised.value)


def test_a_folder_is_made_and_no_key(tmp_path: Path) -> None:
    assert check_keys(unopened(tmp_path), CLASSICAL) is None
    assert list((tmp_path / "keys").iterdir()) == []


def test_the_suite_of_the_root_key_is_known_before_opening(tmp_path: Path) -> None:
    made(tmp_path)
    assert check_keys(unopened(tmp_path), CLASSICAL) == "R"
    assert check_keys(unopened(tmp_path), key_options()) == "R"
    made(tmp_path, options=key_options(quantum=QuantumPolicy.REQUIRE))
    assert check_keys(unopened(tmp_path), CLASSICAL) == "R"
    assert check_keys(unopened(tmp_path), key_options()) == "h"


def test_keys_that_are_well_are_left_as_they_are(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in made(tmp_path)}
    check_keys(unopened(tmp_path), CLASSICAL)
    check_keys(unopened(tmp_path, SECRET), CLASSICAL)
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
    assert check_keys(unopened(tmp_path), CLASSICAL) == "R"


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"version": "1", "keys": []}', b'{"version": 1, "keys": 5}']
)
def test_a_malformed_schedule_is_reported(tmp_path: Path, content: bytes) -> None:
    made(tmp_path)
    (tmp_path / "keys" / "keyring.json").write_bytes(content)
    assert "keyring.json is damaged" in refused(tmp_path)


def test_a_missing_root_key_is_reported(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "keys" / "root-R.key").unlink()
    assert "the root key is missing" in refused(tmp_path)


def test_keys_that_are_encrypted_need_a_secret(tmp_path: Path) -> None:
    made(tmp_path, SECRET)
    assert "is encrypted; name the file with the secret" in refused(tmp_path)
    assert check_keys(unopened(tmp_path, SECRET), CLASSICAL) == "R"


def test_a_folder_for_no_key_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_keys(unopened(tmp_path), CLASSICAL)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "none can be made: it cannot be written" in refused(tmp_path)


def test_a_composite_root_key_needs_a_new_cryptography(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, options=key_options())
    monkeypatch.setattr("cryptography.__about__.__version__", "47.0.1")
    with pytest.raises(RootRefused, match="composite, but this installation has no ML-DSA-65"):
        check_keys(unopened(tmp_path), key_options())
    monkeypatch.setattr("cryptography.__about__.__version__", "48.0.0")
    assert check_keys(unopened(tmp_path), key_options()) == "h"


def test_the_check_does_without_cryptography(tmp_path: Path) -> None:
    made(tmp_path, options=key_options())
    program = f"""if True:
        import os, sys
        from pathlib import Path
        from openred_central.storage.keys.key_files import KeyFiles, check_keys
        from tests.support.options import key_options
        print(check_keys(KeyFiles(Path({str(tmp_path / "keys")!r}), os.urandom), key_options()))
        print("cryptography.hazmat" in sys.modules)
        """
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.split() == ["h", "False"]
