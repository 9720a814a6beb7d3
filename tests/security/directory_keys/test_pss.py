"""RSASSA-PSS as the directory's keys sign. That other programs agree is shown in test_interoperability.py."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from openred_central.security.directory_keys.pss import SALT_BYTES, sign_pss, verify_pss


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


def test_a_signature_is_of_one_message_by_one_key() -> None:
    signature = sign_pss(key(), b"message")
    assert verify_pss(key().public_key(), signature, b"message")
    assert not verify_pss(key().public_key(), signature, b"another message")
    other = rsa.generate_private_key(65_537, 2_048)
    assert not verify_pss(other.public_key(), signature, b"message")


@pytest.mark.parametrize(
    ("digest", "salt_bytes"),
    [(hashes.SHA512(), SALT_BYTES), (hashes.SHA256(), SALT_BYTES - 1), (hashes.SHA256(), SALT_BYTES + 1)],
)
def test_there_is_one_digest_and_one_length_of_the_salt(
    digest: hashes.HashAlgorithm, salt_bytes: int
) -> None:
    signature = key().sign(b"message", padding.PSS(padding.MGF1(digest), salt_bytes), digest)
    assert not verify_pss(key().public_key(), signature, b"message")
