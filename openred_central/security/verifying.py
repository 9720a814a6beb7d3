"""Keys and signatures as the cryptography library knows them. Importing this costs 8–25 ms and 12 MB.

Everything else in this package imports it late, inside functions, so that a server answers before the first
key is needed. Keys are parsed anew for each check, at about 2 µs: parsed ones would cost 0.4–1 kB a node.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from ..encoding import ED25519_SPKI_PREFIX

# rsa-pss-sha512 of RFC 9421 §3.3.1: MGF1 with SHA-512, and a salt as long as the digest.
SALT_BYTES = 64
RSA_HASH = SHA512()
PSS = padding.PSS(mgf=padding.MGF1(RSA_HASH), salt_length=SALT_BYTES)


class RsaNumbers:
    """What makes an RSA key: the modulus `n` and the exponent `e`."""

    __slots__ = ("e", "n")

    def __init__(self, n: int, e: int) -> None:
        self.n = n
        self.e = e


def read_spki(der: bytes) -> tuple[bytes, RsaNumbers | None, str]:
    """A DER SubjectPublicKeyInfo, read: written again in its one form, its numbers if it is RSA, its type.

    The type is ``Ed25519``, ``RSA``, or what the library calls any other key, such as ``X25519``. Raises
    `ValueError` where there is no key that the library can read.
    """
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("no key that can be read") from error
    canonical = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return canonical, RsaNumbers(numbers.n, numbers.e), "RSA"
    return canonical, None, type(key).__name__.removesuffix("PublicKey")


def is_signed(spki: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is one of `message` by the key with that DER; the key alone decides how."""
    try:
        if spki.startswith(ED25519_SPKI_PREFIX):
            key = ed25519.Ed25519PublicKey.from_public_bytes(spki[len(ED25519_SPKI_PREFIX) :])
            key.verify(signature, message)
        else:
            rsa_key = load_der_public_key(spki)
            assert isinstance(rsa_key, rsa.RSAPublicKey), "only accepted keys are stored"
            rsa_key.verify(signature, message, PSS, RSA_HASH)
    except InvalidSignature:
        return False
    return True
