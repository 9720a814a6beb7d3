"""A composite signature is as strong as its stronger half, and exactly what the draft says."""

from __future__ import annotations

import base64
import json
import random
import sys
from functools import cache
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mldsa, padding, rsa

from openred_central import crypto
from openred_central.security.directory_keys import composite
from openred_central.security.directory_keys.composite import (
    MLDSA_PUBLIC_KEY_BYTES,
    MLDSA_SIGNATURE_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    CompositePrivateKey,
    CompositePublicKey,
    sign_pss,
    verify_pss,
)

VECTORS = {
    name: base64.b64decode(value)
    for name, value in json.loads(Path(__file__).with_name("composite_vectors.json").read_text()).items()
    if name != "source"
}
MESSAGE, CONTEXT = VECTORS["message"], VECTORS["context"]


@cache
def new_key(number: int = 0) -> CompositePrivateKey:
    return CompositePrivateKey.generate()


@pytest.mark.parametrize(("name", "context"), [("signature", b""), ("signature_with_context", CONTEXT)])
def test_the_signatures_of_the_draft_verify(name: str, context: bytes) -> None:
    key = CompositePublicKey(VECTORS["public_key"])
    assert key.verify(VECTORS[name], MESSAGE, context)
    assert not key.verify(VECTORS[name], MESSAGE)
    assert not key.verify(VECTORS[name], MESSAGE + b"!", context)


def test_message_representative_follows_the_draft() -> None:
    digest = "07e547d9586f6a73f73fbac0435ed76951218fb7d0c8d788a309d785436bbb64"
    digest += "2e93a252a954f23912547d1e8a3b5ed6e1bfd7097821233fa0538f3db854fee6"
    assert composite.message_representative(b"The quick brown fox jumps over the lazy dog", b"abc") == (
        b"CompositeAlgorithmSignatures2025COMPSIG-MLDSA65-RSA3072-PSS-SHA512\x03abc" + bytes.fromhex(digest)
    )


def test_sizes_are_those_of_the_draft() -> None:
    assert (PUBLIC_KEY_BYTES, SIGNATURE_BYTES) == (2_350, 3_693)
    assert len(new_key().public_key()) == 2_350
    assert len(new_key().sign(b"message")) == 3_693


def test_a_signature_verifies_for_its_key_message_and_context_alone() -> None:
    signature = new_key().sign(b"message")
    key = CompositePublicKey(new_key().public_key())
    assert key.verify(signature, b"message")
    assert not key.verify(signature, b"massage")
    assert not key.verify(signature, b"message", b"openred/4")
    assert not CompositePublicKey(new_key(1).public_key()).verify(signature, b"message")


def test_half_a_signature_is_none() -> None:
    """Each half is replaced by one that would be right for another message, and stripped."""
    key = CompositePublicKey(new_key().public_key())
    right, other = new_key().sign(b"message"), new_key().sign(b"other")
    cut = MLDSA_SIGNATURE_BYTES
    for broken in (
        right[:cut] + other[cut:],
        other[:cut] + right[cut:],
        right[:cut],
        right[cut:],
        bytes(cut) + right[cut:],
        right[:cut] + bytes(len(right) - cut),
        right[cut:] + right[:cut],
        right + b"\0",
        right[:-1],
        b"",
    ):
        assert not key.verify(broken, b"message")


def test_any_bit_of_a_signature_counts(seed: int) -> None:
    key, draw = CompositePublicKey(new_key().public_key()), random.Random(seed)
    signature = new_key().sign(b"message")
    for _ in range(300):
        bit = draw.randrange(8 * len(signature))
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not key.verify(bytes(changed), b"message"), f"bit {bit}"


def test_mixed_composite_key_refuses_signatures_of_both_keys() -> None:
    first, second = new_key(), new_key(1)
    cut = MLDSA_PUBLIC_KEY_BYTES
    mixed = CompositePublicKey(first.public_key()[:cut] + second.public_key()[cut:])
    assert not mixed.verify(first.sign(b"message"), b"message")
    assert not mixed.verify(second.sign(b"message"), b"message")


def test_keys_of_any_other_form_are_refused() -> None:
    encoded = new_key().public_key()
    for wrong in (b"", encoded[:-1], encoded + b"\0", encoded[:MLDSA_PUBLIC_KEY_BYTES] + bytes(398)):
        with pytest.raises(ValueError, match=r"composite|parse|deserialize|DER|ASN\.1"):
            CompositePublicKey(wrong)


def test_an_rsa_half_of_another_exponent_is_refused() -> None:
    encoded = new_key().public_key()
    # The last three bytes are the exponent 65537; 65539 is as long.
    with pytest.raises(ValueError, match="exponent 65537"):
        CompositePublicKey(encoded[:-1] + b"\x03")


def test_a_private_key_is_read_as_it_was_written() -> None:
    again = CompositePrivateKey.decode(new_key().encode())
    assert again.public_key() == new_key().public_key()
    assert CompositePublicKey(new_key().public_key()).verify(again.sign(b"message"), b"message")


@pytest.mark.parametrize("length", [0, 32, 33, 500])
def test_a_private_key_of_another_form_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"composite|parse|deserialize|DER|ASN\.1"):
        CompositePrivateKey.decode(bytes(length))


def test_a_context_is_at_most_255_bytes() -> None:
    with pytest.raises(ValueError, match="the context has 256 bytes, allowed are 255"):
        composite.message_representative(b"", bytes(256))


def test_this_installation_can_do_it() -> None:
    assert composite.is_supported()


def known_answers(count: int) -> list[dict[str, bytes]]:
    """Return the first known answers for ML-DSA-65 (FIPS 204), by name."""
    with cryptography_vectors.open_vector_file("asymmetric/MLDSA/kat_MLDSA_65_det_pure.rsp", "r") as file:
        entries = file.read().split("count = ")[1 : count + 1]
    lines = [[line.split(" =") for line in entry.splitlines() if " =" in line] for entry in entries]
    wanted = ("xi", "pk", "msg", "sm", "ctx")
    return [{name: bytes.fromhex(value) for name, value in entry if name in wanted} for entry in lines]


def test_this_installation_computes_what_fips_204_says() -> None:
    for answer in known_answers(25):
        assert (
            mldsa.MLDSA65PrivateKey.from_seed_bytes(answer["xi"]).public_key().public_bytes_raw()
            == answer["pk"]
        )
        key, signature = (
            mldsa.MLDSA65PublicKey.from_public_bytes(answer["pk"]),
            answer["sm"][:MLDSA_SIGNATURE_BYTES],
        )
        key.verify(signature, answer["msg"], answer["ctx"])
        with pytest.raises(InvalidSignature):
            key.verify(signature, answer["msg"], answer["ctx"] + b"!")


def test_a_library_without_the_module_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    monkeypatch.delattr(crypto, "mldsa", raising=False)
    assert not composite.is_supported()


def test_library_with_a_hollow_module_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hollow:
        @staticmethod
        def generate() -> None:
            raise UnsupportedAlgorithm("ML-DSA-65 is not supported by this version of OpenSSL")

    monkeypatch.setattr(mldsa, "MLDSA65PrivateKey", Hollow)
    assert not composite.is_supported()


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


def test_a_signature_is_of_one_message_by_one_rsa_key() -> None:
    signature = sign_pss(rsa_key(), b"message")
    assert verify_pss(rsa_key().public_key(), signature, b"message")
    assert not verify_pss(rsa_key().public_key(), signature, b"another message")
    other = rsa.generate_private_key(65_537, 2_048)
    assert not verify_pss(other.public_key(), signature, b"message")


@pytest.mark.parametrize(
    ("digest", "salt_bytes"),
    [
        (hashes.SHA512(), 32),
        (hashes.SHA256(), 31),
        (hashes.SHA256(), 33),
    ],
)
def test_pss_has_one_digest_and_one_salt_length(digest: hashes.HashAlgorithm, salt_bytes: int) -> None:
    signature = rsa_key().sign(b"message", padding.PSS(padding.MGF1(digest), salt_bytes), digest)
    assert not verify_pss(rsa_key().public_key(), signature, b"message")
