"""Keys that follow from the key secret of the operators, each for one purpose.

All instances of a cluster have that secret in a file, and derive equal keys from it. scrypt (RFC 7914) makes
each guess at a weak secret expensive; its salt is fixed and public, because instances share nothing else that
could hold one. HKDF (RFC 5869) makes independent keys of the result.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from .. import crypto

KEY_BYTES: Final = 32

_SALT: Final = b"openred/3 key secret"
_SCRYPT_N: Final = 2**15
_SCRYPT_R: Final = 8
# The memory that OpenSSL may take: 128 · N · r, and a little more.
_SCRYPT_BYTES_MAX: Final = 128 * _SCRYPT_N * _SCRYPT_R + 2**20
# While the secret is exchanged, there are two.
_KEPT_MAX: Final = 4


def derived_key(secret: bytes, purpose: str) -> bytes:
    """Return the key of `KEY_BYTES` for a `purpose`. Slow with a secret for the first time."""
    hkdf = crypto.hkdf.HKDFExpand(crypto.hashes.SHA256(), KEY_BYTES, f"openred/3 {purpose}".encode())
    return hkdf.derive(_stretched(secret))


@lru_cache(_KEPT_MAX)
def _stretched(secret: bytes) -> bytes:
    return hashlib.scrypt(
        secret, salt=_SALT, n=_SCRYPT_N, r=_SCRYPT_R, p=1, maxmem=_SCRYPT_BYTES_MAX, dklen=KEY_BYTES
    )
