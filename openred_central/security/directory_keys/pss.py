"""RSASSA-PSS (RFC 8017 §8.1) as the directory's own keys sign: with SHA-256 and a salt as long as its digest.

`cryptography` is imported where it is used: it costs 8 to 25 ms, and a server answers before it needs its
first key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

SALT_BYTES = 32


def sign_pss(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """The signature of `message` by `key`, as long as its modulus."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    pss = padding.PSS(padding.MGF1(hashes.SHA256()), SALT_BYTES)
    return key.sign(message, pss, hashes.SHA256())


def verify_pss(key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is by `key` and of `message`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    pss = padding.PSS(padding.MGF1(hashes.SHA256()), SALT_BYTES)
    try:
        key.verify(signature, message, pss, hashes.SHA256())
    except InvalidSignature:
        return False
    return True
