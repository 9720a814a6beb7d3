"""The file with the operators' secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from openred_central.storage.keys.admin_secret import SECRET_BYTES, SecretError, read_or_make


def zeros(count: int) -> bytes:
    return bytes(count)


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    before = os.umask(0)
    try:
        secret, open_to_others = read_or_make(path, os.urandom)
    finally:
        os.umask(before)
    assert len(secret) == 43
    assert not open_to_others
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make(path, zeros) == (secret, False)
    assert path.read_text() == f"{secret}\n"


def test_a_secret_has_32_bytes_of_chance(tmp_path: Path) -> None:
    asked = []

    def chance(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    assert read_or_make(tmp_path / "a", chance) != read_or_make(tmp_path / "b", chance)
    assert asked == [SECRET_BYTES] * 2


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_secret_that_others_may_read_is_reported(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * 43)
    path.chmod(mode)
    assert read_or_make(path, zeros) == ("x" * 43, True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short\n",
        b"x" * 42,
        b"x" * 43 + b"\nand more",
        b"\xff" * 50,
        b"x" * 30 + b" " + b"y" * 30,
    ],
)
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(SecretError, match="one line of at least 43 characters"):
        read_or_make(path, zeros)
    assert path.read_bytes() == content


def test_an_impossible_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "secret"):
        with pytest.raises(SecretError, match=r"cannot use the secret file .*; "):
            read_or_make(path, zeros)
