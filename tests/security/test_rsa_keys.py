"""RSA signs in one way, and keys are read in their one form."""

from __future__ import annotations

import pytest

from openred_central.encoding import ED25519_SPKI_PREFIX
from openred_central.security.rsa_keys import SALT_BYTES, is_signed_by_rsa, read_spki
from tests.support.signed_requests import ed25519_key, rsa_key


def test_rsa_signs_by_pss_with_sha_512_and_a_salt_of_64_bytes_and_no_other_way() -> None:
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.hashes import SHA256, SHA512

    key = rsa_key()
    private = key._key
    mgf1 = padding.MGF1(SHA512())
    good = private.sign(b"message", padding.PSS(mgf1, SALT_BYTES), SHA512())  # type: ignore[call-arg]
    assert is_signed_by_rsa(key.public.spki, good, b"message")
    for other, digest in (
        (padding.PSS(mgf1, 32), SHA512()),
        (padding.PSS(padding.MGF1(SHA256()), SALT_BYTES), SHA512()),
        (padding.PSS(padding.MGF1(SHA256()), 32), SHA256()),
        (padding.PKCS1v15(), SHA512()),
    ):
        assert not is_signed_by_rsa(key.public.spki, private.sign(b"message", other, digest), b"message")  # type: ignore[call-arg]


def test_a_key_is_read_with_its_numbers_and_its_one_form() -> None:
    spki = rsa_key().public.spki
    canonical, numbers, kind = read_spki(spki)
    assert (canonical, kind) == (spki, "RSA")
    assert numbers is not None
    assert (numbers.n.bit_length(), numbers.e) == (2_048, 65_537)
    assert read_spki(ed25519_key().public.spki) == (ed25519_key().public.spki, None, "Ed25519")


@pytest.mark.parametrize("der", [b"", b"\0", b"\x30\x80", bytes(300), ED25519_SPKI_PREFIX])
def test_what_is_no_key_is_a_value_error(der: bytes) -> None:
    with pytest.raises(ValueError, match="no key"):
        read_spki(der)
