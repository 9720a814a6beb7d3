"""Signatures are judged as those who published the algorithms judge them."""

from __future__ import annotations

import subprocess
import sys

import cryptography_vectors
import pytest

from openred_central.encoding import ED25519_SPKI_PREFIX
from openred_central.security.verifying import is_signed
from tests.support.signed_requests import ed25519_key, rsa_key

# RFC 8032 §7.1, tests 1 to 3: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_the_examples_of_rfc_8032_hold(key: str, message: str, signature: str) -> None:
    spki = ED25519_SPKI_PREFIX + bytes.fromhex(key)
    assert is_signed(spki, bytes.fromhex(signature), bytes.fromhex(message))
    assert not is_signed(spki, bytes.fromhex(signature), bytes.fromhex(message) + b"\0")


def test_the_thousand_examples_of_the_authors_of_ed25519_hold() -> None:
    """Each line: secret and public key, public key, message, signature and message; all in hexadecimal."""
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as lines:
        cases = [[bytes.fromhex(piece) for piece in line.split(":")[:4]] for line in lines]
    assert len(cases) == 1_024
    for _, key, message, signature_and_message in cases:
        assert is_signed(ED25519_SPKI_PREFIX + key, signature_and_message[:64], message)
        # S + L signs the same, were it not refused (RFC 8032 §8.4).
        s = int.from_bytes(signature_and_message[32:64], "little") + ED25519_ORDER
        if s < 2**256:
            twin = signature_and_message[:32] + s.to_bytes(32, "little")
            assert not is_signed(ED25519_SPKI_PREFIX + key, twin, message)


def test_the_library_is_imported_with_the_first_key_and_not_before() -> None:
    """A server answers before it needs a key; the import would take longer than the rest of its start."""
    modules = "authority, claims, example, node_keys, proof_errors, replay, sessions, signatures, signing"
    program = f"""
import sys
from openred_central.security import {modules}
assert not any(name.partition(".")[0] == "cryptography" for name in sys.modules)
node_keys.load_node_key({ed25519_key().public_text!r})
assert not any(name.partition(".")[0] == "cryptography" for name in sys.modules)
assert not node_keys.verify({ed25519_key().public.spki!r}, bytes(64), b"")
assert "cryptography" in sys.modules
# What RSA needs and Ed25519 does not.
assert "cryptography.hazmat.primitives.serialization" not in sys.modules
node_keys.load_node_key({rsa_key().public_text!r})
assert "cryptography.hazmat.primitives.serialization" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nobody_has_signed_with_what_is_no_key() -> None:
    """Only a damaged store holds such keys."""
    for spki in (
        b"",
        b"junk",
        ED25519_SPKI_PREFIX,
        ED25519_SPKI_PREFIX + bytes(31),
        ED25519_SPKI_PREFIX + bytes(99),
    ):
        assert not is_signed(spki, bytes(64), b"message")
