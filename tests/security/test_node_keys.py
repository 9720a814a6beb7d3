"""Accepted keys have one name in every form, weak keys are refused, and only their signatures verify."""

from __future__ import annotations

import base64
import random
import subprocess
import sys

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import example, given
from hypothesis import strategies as st

from openred_central.encoding import ED25519_SPKI_PREFIX, key_id, spki_of
from openred_central.security.node_keys import (
    SALT_BYTES,
    InvalidKey,
    NodeKey,
    kind_of,
    load_node_key,
    verify,
)
from tests.support.signed_requests import RFC_9421_RSA_PSS, ed25519_key, rsa_key

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
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


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def pem_of(der: bytes, label: str = "PUBLIC KEY") -> str:
    lines = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{lines}-----END {label}-----\n"


def der_of(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | x25519.X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_der(n: int, e: int = 65_537) -> bytes:
    """Return the DER of an RSA key with these numbers, even of keys that no library makes."""

    def tlv(tag: int, content: bytes) -> bytes:
        size = len(content)
        length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2)
        return bytes([tag]) + length + content

    def integer(number: int) -> bytes:
        return tlv(2, number.to_bytes(number.bit_length() // 8 + 1))

    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    key = tlv(0x30, integer(n) + integer(e))
    return tlv(0x30, algorithm + tlv(3, b"\0" + key))


def modulus() -> int:
    return rsa_private_key().public_key().public_numbers().n


def rsa_private_key() -> rsa.RSAPrivateKey:
    key = load_pem_private_key(rsa_key().to_pem(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def without_small_factors(bits: int, source: random.Random) -> int:
    """Return a number of so many bits without a small factor. It need not be a product of two primes."""
    candidate = source.getrandbits(bits) | 1 << (bits - 1) | 1
    primes = [n for n in range(3, 1_000) if all(n % d for d in range(2, n))]
    while any(candidate % prime == 0 for prime in primes):
        candidate += 2
    return candidate


def refused(text: str, *, bits_min: int = 2_048) -> str:
    with pytest.raises(InvalidKey) as caught:
        load_node_key(text, rsa_bits_min=bits_min)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_key_is_the_same_in_every_form(kind: str) -> None:
    spki = (ed25519_key() if kind == "ed25519" else rsa_key()).public.spki
    pem = pem_of(spki)
    forms = [
        pem,
        pem.replace("\n", "\r\n"),
        b64(pem.encode()),
        base64.encodebytes(pem.encode()).decode(),
        b64(spki),
    ]
    if kind == "ed25519":
        forms.append(b64(spki[len(ED25519_SPKI_PREFIX) :]))
    keys = {load_node_key(form) for form in forms}
    assert len(keys) == 1
    (key,) = keys
    assert key == NodeKey(kind, spki, key.text)  # type: ignore[arg-type]
    assert spki_of(key.text) == spki
    assert load_node_key(key.text) == key
    assert kind_of(spki) == kind
    assert key.key_id == key_id(spki)
    assert len(key.key_id) == 43


def test_a_signature_is_of_one_message_by_one_key() -> None:
    for key, other in ((ed25519_key(), rsa_key()), (rsa_key(), ed25519_key())):
        signature = key.sign(b"message")
        assert verify(key.public.spki, signature, b"message")
        assert not verify(key.public.spki, signature, b"massage")
        assert not verify(other.public.spki, signature, b"message")
        assert not verify(key.public.spki, signature[:-1], b"message")
        assert not verify(key.public.spki, b"", b"message")


def small_order_points() -> list[bytes]:
    """Every encoding of the y of a point whose order divides 8, computed from the curve itself.

    The orders 1, 2 and 4 have y = 1, -1 and 0. Doubling a point of order 8 must give y = 0, and so
    x² = -y²; the curve -x² + y² = 1 + d·x²·y² becomes d·y⁴ + 2·y² - 1 = 0.
    """
    square_root_of_minus_1 = pow(2, (P - 1) // 4, P)
    assert square_root_of_minus_1**2 % P == P - 1

    def square_roots(value: int) -> list[int]:
        candidate = pow(value, (P + 3) // 8, P)
        for factor in (1, square_root_of_minus_1):
            if (candidate * factor) ** 2 % P == value % P:
                return [candidate * factor % P, -candidate * factor % P]
        return []

    ys = {0, 1, P - 1}
    for discriminant_root in square_roots(1 + D):
        for y in square_roots((discriminant_root - 1) * pow(D, -1, P) % P):
            assert (D * y**4 + 2 * y * y - 1) % P == 0
            ys.add(y)
    encodings = ys | {y + P for y in ys if y + P < 2**255}
    return [(y | sign << 255).to_bytes(32, "little") for y in sorted(encodings) for sign in (0, 1)]


def test_there_are_fourteen_encodings_of_points_of_small_order() -> None:
    assert len(small_order_points()) == 14


@pytest.mark.parametrize("point", small_order_points(), ids=lambda point: point.hex()[:8])
def test_a_point_of_small_order_is_refused_in_every_form(point: bytes) -> None:
    spki = ED25519_SPKI_PREFIX + point
    for text in (b64(point), b64(spki), pem_of(spki), b64(pem_of(spki).encode())):
        assert "small order" in refused(text)


def test_one_signature_fits_every_message_for_small_order_points() -> None:
    """Show why such points are refused."""
    identity = ED25519_SPKI_PREFIX + (1).to_bytes(32, "little")
    constant = (1).to_bytes(32, "little") + bytes(32)
    assert all(verify(identity, constant, b"message %d" % number) for number in range(64))


@pytest.mark.parametrize("y", range(2, 19))
def test_a_second_encoding_of_a_point_is_refused(y: int) -> None:
    assert "not encoded" in refused(b64((y + P).to_bytes(32, "little")))


@pytest.mark.parametrize("e", [3, 17, 65_539, 2**32 + 1, 2**2040 + 1])
def test_an_rsa_key_has_one_exponent(e: int) -> None:
    message = refused(b64(rsa_der(modulus(), e)))
    assert "exponent" in message or "cannot be read" in message


@pytest.mark.parametrize("bits", [512, 1_023, 1_024, 2_047, 4_097, 8_192])
def test_an_rsa_key_of_another_size_is_refused(bits: int, seed: int) -> None:
    text = b64(rsa_der(without_small_factors(bits, random.Random(seed))))
    message = refused(text)
    assert f"has {bits} bits" in message or "cannot be read" in message


@pytest.mark.parametrize("bits", [2_048, 3_072, 4_096])
def test_an_rsa_key_of_an_allowed_size_is_accepted(bits: int, seed: int) -> None:
    text = b64(rsa_der(without_small_factors(bits, random.Random(seed))))
    assert load_node_key(text).kind == "rsa"


def test_the_least_size_can_be_raised() -> None:
    assert "has 2048 bits; allowed are Ed25519, and RSA of 3072" in refused(
        rsa_key().public_text, bits_min=3_072
    )
    assert load_node_key(ed25519_key().public_text, rsa_bits_min=3_072).kind == "ed25519"


@pytest.mark.parametrize("factor", [3, 5, 7, 541, 997])
def test_an_rsa_key_with_a_small_factor_is_refused(factor: int, seed: int) -> None:
    n = factor * without_small_factors(2_048, random.Random(seed))
    assert "small factor" in refused(b64(rsa_der(n)))


def test_an_even_modulus_is_refused() -> None:
    message = refused(b64(rsa_der(modulus() + 1)))
    assert "small factor" in message or "cannot be read" in message


def test_keys_of_other_kinds_are_refused() -> None:
    curve = der_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    exchange = der_of(x25519.X25519PrivateKey.generate().public_key())
    for der in (curve, exchange):
        assert "of the kind" in refused(b64(der))


@pytest.mark.parametrize("algorithm", ["300b06092a864886f70d010101", "300b06092a864886f70d01010a"])
def test_an_rsa_key_under_another_algorithm_is_refused(algorithm: str) -> None:
    """OpenSSL takes rsaEncryption without its NULL and id-RSASSA-PSS; a key would have several names."""
    content = rsa_key().public.spki[4:]
    content = content.replace(bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex(algorithm), 1)
    der = b"\x30\x82" + len(content).to_bytes(2) + content
    assert "not DER in its one form" in refused(b64(der))


def test_der_in_another_form_is_refused() -> None:
    spki = rsa_key().public.spki
    longer = spki[:1] + b"\x83\0" + spki[2:]
    for der in (longer, spki + b"\0", spki[:-1]):
        refused(b64(der))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("base64_encoded_public_key", "neither PEM nor base64"),
        ("A" * 2_049, "2049 characters"),
        ("AA==", "cannot be read"),
        (b64(bytes(31)), "cannot be read"),
        (b64(bytes(33)), "cannot be read"),
        ("ÿ" * 44, "neither PEM"),
        ("\ud800", "neither PEM"),
        (b64(bytes([9]) * 32)[:-2] + "B=", "neither PEM"),
        (b64(bytes([9]) * 32).rstrip("="), "neither PEM"),
        (base64.urlsafe_b64encode(b"\xff" * 32).decode(), "neither PEM"),
        (RFC_9421_RSA_PSS * 2, "exactly one block"),
        (RFC_9421_RSA_PSS.replace("-----\nMII", "-----\nProc-Type: 4,ENCRYPTED\n\nMII"), "exactly one block"),
        (RFC_9421_RSA_PSS.replace("PUBLIC", "RSA PUBLIC"), "holds RSA PUBLIC KEY"),
        (RFC_9421_RSA_PSS.replace("PUBLIC", "PRIVATE"), "Keep it to yourself"),
        (b64(RFC_9421_RSA_PSS.replace("PUBLIC", "PRIVATE").encode()), "Keep it to yourself"),
        (b64(b"-----BEGIN \xff"), "broken PEM"),
        (RFC_9421_RSA_PSS.replace("MIIB", "MI!B"), "exactly one block"),
        (RFC_9421_RSA_PSS.replace("MIIB", "MIIC"), "cannot be read"),
    ],
)
def test_invalid_key_is_refused_with_a_reason(text: str, says: str) -> None:
    assert says in refused(text)


@given(st.text() | st.binary().map(b64) | st.binary(max_size=600).map(pem_of))
@example("-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----")
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        key = load_node_key(text)
    except InvalidKey:
        return
    assert load_node_key(key.text) == key


def test_changed_key_is_another_key_or_refused(seed: int) -> None:
    source = random.Random(seed)
    for key in (ed25519_key().public, rsa_key().public):
        for _ in range(500):
            place = source.randrange(len(key.text))
            character = source.choice("ABCDabcd0189+/=-_ \n")
            changed = key.text[:place] + character + key.text[place + 1 :]
            try:
                loaded = load_node_key(changed)
            except InvalidKey:
                continue
            assert (loaded == key) == (changed == key.text)


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_the_examples_of_rfc_8032_hold(key: str, message: str, signature: str) -> None:
    spki = ED25519_SPKI_PREFIX + bytes.fromhex(key)
    assert verify(spki, bytes.fromhex(signature), bytes.fromhex(message))
    assert not verify(spki, bytes.fromhex(signature), bytes.fromhex(message) + b"\0")


def test_the_thousand_examples_of_the_authors_of_ed25519_hold() -> None:
    """Each line: secret and public key, public key, message, signature and message; all in hexadecimal."""
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as lines:
        cases = [[bytes.fromhex(piece) for piece in line.split(":")[:4]] for line in lines]
    assert len(cases) == 1_024
    for _, key, message, signature_and_message in cases:
        assert verify(ED25519_SPKI_PREFIX + key, signature_and_message[:64], message)
        # S + L signs the same, were it not refused (RFC 8032 §8.4).
        s = int.from_bytes(signature_and_message[32:64], "little") + ED25519_ORDER
        if s < 2**256:
            twin = signature_and_message[:32] + s.to_bytes(32, "little")
            assert not verify(ED25519_SPKI_PREFIX + key, twin, message)


def test_cryptography_is_imported_on_first_use() -> None:
    """A server answers before it needs a key; the import would take longer than the rest of its start."""
    program = f"""
import sys
import openred_central.listening
from openred_central.security import authority, node_keys, refusals, replay, sessions, signatures, signing
from openred_central.security.directory_keys import composite, envelope, keyring, keyset, root, suites
from openred_central.security.tokens import holder, link, revocations, tokens
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


def test_invalid_stored_key_verifies_nothing() -> None:
    """Only a damaged store holds such keys."""
    for spki in (
        b"",
        b"junk",
        ED25519_SPKI_PREFIX,
        ED25519_SPKI_PREFIX + bytes(31),
        ED25519_SPKI_PREFIX + bytes(99),
    ):
        assert not verify(spki, bytes(64), b"message")


def test_rsa_has_one_padding_one_hash_and_one_salt_length() -> None:
    key = rsa_key()
    private = rsa_private_key()
    mgf1 = padding.MGF1(SHA512())
    good = private.sign(b"message", padding.PSS(mgf1, SALT_BYTES), SHA512())
    assert verify(key.public.spki, good, b"message")
    for other, digest in (
        (padding.PSS(mgf1, 32), SHA512()),
        (padding.PSS(padding.MGF1(SHA256()), SALT_BYTES), SHA512()),
        (padding.PSS(padding.MGF1(SHA256()), 32), SHA256()),
        (padding.PKCS1v15(), SHA512()),
    ):
        assert not verify(key.public.spki, private.sign(b"message", other, digest), b"message")
