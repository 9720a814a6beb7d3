"""`keygen` makes keys for nodes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from openred_central.cli.command import CommandFailed
from openred_central.cli.keygen import keygen
from openred_central.security.node_keys import load_node_key
from openred_central.security.signing import PrivateKey


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", None), ("rsa", None), ("rsa", 3_072)])
def test_only_the_owner_can_read_a_new_key(tmp_path: Path, kind: str, bits: int | None) -> None:
    path = tmp_path / "node.pem"
    before = os.umask(0)
    try:
        made = keygen(str(path), kind, bits)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = PrivateKey.from_pem(path.read_bytes())
    assert (made.public_key, made.key_id) == (key.public_text, key.key_id)
    assert made.node_id == f"k-{key.key_id}"
    assert load_node_key(made.public_key).kind == kind


def test_no_file_is_overwritten_and_no_link_followed(tmp_path: Path) -> None:
    path, link = tmp_path / "node.pem", tmp_path / "link.pem"
    path.write_text("precious")
    link.symlink_to(tmp_path / "elsewhere.pem")
    for taken in (path, link):
        with pytest.raises(CommandFailed, match="exists already, and no key is ever overwritten"):
            keygen(str(taken), "ed25519", None)
    assert path.read_text() == "precious"
    assert not (tmp_path / "elsewhere.pem").exists()


@pytest.mark.parametrize(
    ("kind", "bits", "complaint"),
    [("rsa", 1_024, "allowed for an RSA key are 2048 to 4096"), ("ed25519", 2_048, "--bits is for RSA keys")],
)
def test_an_impossible_key_leaves_no_file(tmp_path: Path, kind: str, bits: int, complaint: str) -> None:
    with pytest.raises(CommandFailed, match=complaint):
        keygen(str(tmp_path / "node.pem"), kind, bits)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"cannot write .*missing/node\.pem: No such file"):
        keygen(str(tmp_path / "missing" / "node.pem"), "ed25519", None)
