"""Signatures that hold as long as either ML-DSA-65 or RSA holds: id-MLDSA65-RSA3072-PSS-SHA512.

Source: draft-ietf-lamps-pq-composite-sigs, its recommendation where RSA is required. Both signatures are over
one message representative, both must verify, and neither key is ever used alone (its section on key reuse).
ML-DSA is FIPS 204. `cryptography` is imported where it is used: it costs 8 to
25 ms and 12 MB, and a server answers before it needs its first key.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .pss import sign_pss, verify_pss

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import mldsa, rsa

# Whoever signs for OpenRed signs in this context.
CONTEXT = b"openred/3"
CONTEXT_BYTES_MAX = 255

PREFIX = b"CompositeAlgorithmSignatures2025"
LABEL = b"COMPSIG-MLDSA65-RSA3072-PSS-SHA512"

MLDSA_SEED_BYTES = 32
MLDSA_PUBLIC_KEY_BYTES = 1_952
MLDSA_SIGNATURE_BYTES = 3_309
RSA_BITS = 3_072
RSA_EXPONENT = 65_537
RSA_SIGNATURE_BYTES = RSA_BITS // 8
# The DER RSAPublicKey (RFC 8017 appendix A.1.1) of such a key has one length.
RSA_PUBLIC_KEY_BYTES = 398

PUBLIC_KEY_BYTES = MLDSA_PUBLIC_KEY_BYTES + RSA_PUBLIC_KEY_BYTES
SIGNATURE_BYTES = MLDSA_SIGNATURE_BYTES + RSA_SIGNATURE_BYTES


def is_supported() -> bool:
    """Whether this installation can make and check ML-DSA-65 signatures.

    The module came before the algorithm: it is missing in `cryptography` 46 and without effect in 47.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return False
    try:
        mldsa.MLDSA65PrivateKey.generate()
    except UnsupportedAlgorithm:
        return False
    return True


def message_representative(message: bytes, context: bytes) -> bytes:
    """What both component algorithms sign: M' of the draft. Raises `ValueError` for too long a context."""
    if len(context) > CONTEXT_BYTES_MAX:
        raise ValueError(f"the context has {len(context)} bytes, allowed are {CONTEXT_BYTES_MAX}")
    return PREFIX + LABEL + bytes([len(context)]) + context + hashlib.sha512(message).digest()


class CompositePublicKey:
    """A public key, read from `encoded`: 1,952 bytes of ML-DSA-65, then 398 of a DER RSAPublicKey.

    Raises `ValueError` where it is no such key, and `UnsupportedAlgorithm` or `ImportError` where
    `is_supported` says no.
    """

    def __init__(self, encoded: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import mldsa, rsa
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        if len(encoded) != PUBLIC_KEY_BYTES:
            raise ValueError(f"a composite key has {PUBLIC_KEY_BYTES} bytes, this one {len(encoded)}")
        self._mldsa = mldsa.MLDSA65PublicKey.from_public_bytes(encoded[:MLDSA_PUBLIC_KEY_BYTES])
        second = load_der_public_key(encoded[MLDSA_PUBLIC_KEY_BYTES:])
        if (
            not isinstance(second, rsa.RSAPublicKey)
            or second.key_size != RSA_BITS
            or second.public_numbers().e != RSA_EXPONENT
            or _rsa_public_bytes(second) != encoded[MLDSA_PUBLIC_KEY_BYTES:]
        ):
            raise ValueError("the second half of a composite key is no RSA key of 3072 bits, exponent 65537")
        self._rsa = second
        self.encoded = encoded

    def verify(self, signature: bytes, message: bytes, context: bytes = CONTEXT) -> bool:
        """Whether both halves of `signature` are of `message`. Both are always computed."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        representative = message_representative(message, context)
        first = self._verify_mldsa(signature[:MLDSA_SIGNATURE_BYTES], representative)
        second = verify_pss(self._rsa, signature[MLDSA_SIGNATURE_BYTES:], representative)
        return first and second

    def _verify_mldsa(self, signature: bytes, representative: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            self._mldsa.verify(signature, representative, LABEL)
        except InvalidSignature:
            return False
        return True


class CompositePrivateKey:
    """A private key, as `generate` makes it and `decode` reads it."""

    def __init__(self, mldsa_key: mldsa.MLDSA65PrivateKey, rsa_key: rsa.RSAPrivateKey) -> None:
        self._mldsa = mldsa_key
        self._rsa = rsa_key

    @classmethod
    def generate(cls) -> CompositePrivateKey:
        """A new key: 35 to 450 ms, nearly all of it for RSA. Raises like `CompositePublicKey`."""
        from cryptography.hazmat.primitives.asymmetric import mldsa, rsa

        return cls(mldsa.MLDSA65PrivateKey.generate(), rsa.generate_private_key(RSA_EXPONENT, RSA_BITS))

    @classmethod
    def decode(cls, encoded: bytes) -> CompositePrivateKey:
        """What `encode` wrote, from a source that is trusted: RSA's numbers are not checked.

        Raises `ValueError` where it is no such key, and else like `CompositePublicKey`.
        """
        from cryptography.hazmat.primitives.asymmetric import mldsa, rsa
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        if len(encoded) <= MLDSA_SEED_BYTES:
            raise ValueError(f"a composite private key of {len(encoded)} bytes")
        # Checking takes 135 ms; a signature that verifies shows as much.
        second = load_der_private_key(
            encoded[MLDSA_SEED_BYTES:], password=None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(second, rsa.RSAPrivateKey) or second.key_size != RSA_BITS:
            raise ValueError("the second half of a composite private key is no RSA key of 3072 bits")
        return cls(mldsa.MLDSA65PrivateKey.from_seed_bytes(encoded[:MLDSA_SEED_BYTES]), second)

    def encode(self) -> bytes:
        """The private key of the draft: the seed of ML-DSA, 32 bytes, then a DER RSAPrivateKey."""
        from cryptography.hazmat.primitives import serialization

        return self._mldsa.private_bytes_raw() + self._rsa.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )

    def public_key(self) -> bytes:
        """The encoded public key, `PUBLIC_KEY_BYTES`."""
        return self._mldsa.public_key().public_bytes_raw() + _rsa_public_bytes(self._rsa.public_key())

    def sign(self, message: bytes, context: bytes = CONTEXT) -> bytes:
        """The signature of `message`, `SIGNATURE_BYTES`. Takes about 2 ms, without the interpreter's lock."""
        representative = message_representative(message, context)
        return self._mldsa.sign(representative, LABEL) + sign_pss(self._rsa, representative)


def _rsa_public_bytes(key: rsa.RSAPublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
