"""Signatures that hold as long as either ML-DSA-65 or RSA holds: id-MLDSA65-RSA3072-PSS-SHA512.

Source: draft-ietf-lamps-pq-composite-sigs, its recommendation where RSA is required. Both signatures are over
one message representative, both must verify, and neither key is ever used alone (its section on key reuse).
ML-DSA is FIPS 204.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ... import crypto

if TYPE_CHECKING:
    from ...crypto import mldsa, padding, rsa

# The context of all signatures for OpenRed.
CONTEXT = b"openred/3"
CONTEXT_BYTES_MAX = 255

PREFIX = b"CompositeAlgorithmSignatures2025"
LABEL = b"COMPSIG-MLDSA65-RSA3072-PSS-SHA512"

MLDSA_SEED_BYTES = 32
MLDSA_PUBLIC_KEY_BYTES = 1_952
MLDSA_SIGNATURE_BYTES = 3_309
RSA_BITS = 3_072
RSA_EXPONENT = 65_537
PSS_SALT_BYTES = 32
RSA_SIGNATURE_BYTES = RSA_BITS // 8
# The DER RSAPublicKey (RFC 8017 appendix A.1.1) of such a key has one length.
RSA_PUBLIC_KEY_BYTES = 398

PUBLIC_KEY_BYTES = MLDSA_PUBLIC_KEY_BYTES + RSA_PUBLIC_KEY_BYTES
SIGNATURE_BYTES = MLDSA_SIGNATURE_BYTES + RSA_SIGNATURE_BYTES


def is_supported() -> bool:
    """Return whether this installation can make and check ML-DSA-65 signatures.

    The module came before the algorithm: it is missing in `cryptography` 46 and without effect in 47.
    """
    try:
        crypto.mldsa.MLDSA65PrivateKey.generate()
    except (ImportError, crypto.exceptions.UnsupportedAlgorithm):
        return False
    return True


def message_representative(message: bytes, context: bytes) -> bytes:
    """Return the bytes that both algorithms sign: M' of the draft. Raises `ValueError` for a long context."""
    if len(context) > CONTEXT_BYTES_MAX:
        raise ValueError(f"the context has {len(context)} bytes, allowed are {CONTEXT_BYTES_MAX}")
    return PREFIX + LABEL + bytes([len(context)]) + context + hashlib.sha512(message).digest()


class CompositePublicKey:
    """A public key, read from `encoded`: 1,952 bytes of ML-DSA-65, then 398 of a DER RSAPublicKey.

    Raises `ValueError` where it is no such key, and `UnsupportedAlgorithm` or `ImportError` where
    `is_supported` says no.
    """

    def __init__(self, encoded: bytes) -> None:
        if len(encoded) != PUBLIC_KEY_BYTES:
            raise ValueError(f"a composite key has {PUBLIC_KEY_BYTES} bytes, this one {len(encoded)}")
        self._mldsa = crypto.mldsa.MLDSA65PublicKey.from_public_bytes(encoded[:MLDSA_PUBLIC_KEY_BYTES])
        second = crypto.serialization.load_der_public_key(encoded[MLDSA_PUBLIC_KEY_BYTES:])
        if (
            not isinstance(second, crypto.rsa.RSAPublicKey)
            or second.key_size != RSA_BITS
            or second.public_numbers().e != RSA_EXPONENT
            or _rsa_public_bytes(second) != encoded[MLDSA_PUBLIC_KEY_BYTES:]
        ):
            raise ValueError("the second half of a composite key is no RSA key of 3072 bits, exponent 65537")
        self._rsa = second
        self.encoded = encoded

    def verify(self, signature: bytes, message: bytes, context: bytes = CONTEXT) -> bool:
        """Return whether both halves of `signature` are of `message`. Both are always computed."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        representative = message_representative(message, context)
        first = self._verify_mldsa(signature[:MLDSA_SIGNATURE_BYTES], representative)
        second = verify_pss(self._rsa, signature[MLDSA_SIGNATURE_BYTES:], representative)
        return first and second

    def _verify_mldsa(self, signature: bytes, representative: bytes) -> bool:
        try:
            self._mldsa.verify(signature, representative, LABEL)
        except crypto.exceptions.InvalidSignature:
            return False
        return True


class CompositePrivateKey:
    """A private key, as `generate` makes it and `decode` reads it."""

    def __init__(self, mldsa_key: mldsa.MLDSA65PrivateKey, rsa_key: rsa.RSAPrivateKey) -> None:
        self._mldsa = mldsa_key
        self._rsa = rsa_key

    @classmethod
    def generate(cls) -> CompositePrivateKey:
        """Return a new key; RSA takes a large part of a second. Raises like `CompositePublicKey`."""
        second = crypto.rsa.generate_private_key(RSA_EXPONENT, RSA_BITS)
        return cls(crypto.mldsa.MLDSA65PrivateKey.generate(), second)

    @classmethod
    def decode(cls, encoded: bytes) -> CompositePrivateKey:
        """Return the key that `encode` wrote, from a trusted source: RSA's numbers are not checked.

        Raises `ValueError` where it is no such key, and otherwise like `CompositePublicKey`.
        """
        if len(encoded) <= MLDSA_SEED_BYTES:
            raise ValueError(f"a composite private key of {len(encoded)} bytes")
        # The check is slow; a signature that verifies shows as much.
        second = crypto.serialization.load_der_private_key(
            encoded[MLDSA_SEED_BYTES:], password=None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(second, crypto.rsa.RSAPrivateKey) or second.key_size != RSA_BITS:
            raise ValueError("the second half of a composite private key is no RSA key of 3072 bits")
        return cls(crypto.mldsa.MLDSA65PrivateKey.from_seed_bytes(encoded[:MLDSA_SEED_BYTES]), second)

    def encode(self) -> bytes:
        """Return the private key of the draft: 32 bytes of ML-DSA's seed, then a DER RSAPrivateKey."""
        encodings = crypto.serialization
        return self._mldsa.private_bytes_raw() + self._rsa.private_bytes(
            encodings.Encoding.DER, encodings.PrivateFormat.TraditionalOpenSSL, encodings.NoEncryption()
        )

    def public_key(self) -> bytes:
        """Return the encoded public key, `PUBLIC_KEY_BYTES`."""
        return self._mldsa.public_key().public_bytes_raw() + _rsa_public_bytes(self._rsa.public_key())

    def sign(self, message: bytes, context: bytes = CONTEXT) -> bytes:
        """Return the signature of `message`, `SIGNATURE_BYTES`."""
        representative = message_representative(message, context)
        return self._mldsa.sign(representative, LABEL) + sign_pss(self._rsa, representative)


def sign_pss(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """Return the RSASSA-PSS signature (RFC 8017 §8.1) of `message` by a key of the directory.

    The digest is SHA-256, the salt as long as it. The signature is as long as the modulus of `key`.
    """
    return key.sign(message, _pss(), crypto.hashes.SHA256())


def verify_pss(key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> bool:
    """Return whether `signature` is by `key` and of `message`."""
    try:
        key.verify(signature, message, _pss(), crypto.hashes.SHA256())
    except crypto.exceptions.InvalidSignature:
        return False
    return True


def _pss() -> padding.PSS:
    return crypto.padding.PSS(crypto.padding.MGF1(crypto.hashes.SHA256()), PSS_SALT_BYTES)


def _rsa_public_bytes(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(crypto.serialization.Encoding.DER, crypto.serialization.PublicFormat.PKCS1)
