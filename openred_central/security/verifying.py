"""Signatures by the keys of nodes, as the cryptography library checks them. To import this costs 8 ms, 7 MB.

Everything else in this package imports it late, inside functions, so that a server answers before the first
key is needed; and this imports what RSA needs as late, which is another 12 ms and 2 MB.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..encoding import ED25519_SPKI_PREFIX


def is_signed(spki: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is one of `message` by the key with that DER; the key alone decides how."""
    if not spki.startswith(ED25519_SPKI_PREFIX):
        from .rsa_keys import is_signed_by_rsa

        return is_signed_by_rsa(spki, signature, message)
    try:
        Ed25519PublicKey.from_public_bytes(spki[len(ED25519_SPKI_PREFIX) :]).verify(signature, message)
    except (InvalidSignature, ValueError):
        # Bytes that are no key of this kind can only come of a damaged store.
        return False
    return True
