"""Secrets at rest, encrypted with a passphrase or any other secret text: scrypt, then ChaCha20-Poly1305.

Not PKCS#8's own encryption, which derives the key with 2,048 rounds of PBKDF2. scrypt (RFC 7914) with these
parameters takes 32 MiB and much time for each guess. The name of the file is authenticated with its
content (RFC 8439), so that two files cannot be exchanged for each other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import orjson

from ... import crypto
from ...encoding import pre_authentication_encoding

FORMAT = "openred-envelope-1"
LABEL = b"openred/3 envelope"
SCRYPT_N = 2**15
SCRYPT_R = 8
SCRYPT_P = 1
SALT_BYTES = 16
NONCE_BYTES = 12
KEY_BYTES = 32

# The memory that OpenSSL may take: 128 · N · r, and a little more.
_SCRYPT_BYTES_MAX = 128 * SCRYPT_N * SCRYPT_R + 2**20
_BEGINNING = b'{"format":"openred-envelope'


def is_envelope(content: bytes) -> bool:
    """Return whether `seal` wrote `content`, in this or a later format."""
    return content.startswith(_BEGINNING)


def seal(content: bytes, secret: bytes, name: str, entropy: Callable[[int], bytes]) -> bytes:
    """Return `content` encrypted with `secret` for the file called `name`. Slow: call it in a thread.

    `entropy` gives random bytes.
    """
    salt, nonce = entropy(SALT_BYTES), entropy(NONCE_BYTES)
    sealed = crypto.aead.ChaCha20Poly1305(_key(secret, salt)).encrypt(nonce, content, _covered(name))
    pieces = {"salt": salt, "nonce": nonce, "sealed": sealed}
    encoded = {key: base64.b64encode(value).decode("ascii") for key, value in pieces.items()}
    return orjson.dumps({"format": FORMAT, **encoded}) + b"\n"


def unseal(envelope: bytes, secret: bytes, name: str) -> bytes:
    """Return the content that `seal` encrypted. Slow: call it in a thread.

    Raises `ValueError` for another secret, another name, any change, or another format.
    """
    try:
        fields = orjson.loads(envelope)
        if fields["format"] != FORMAT:
            raise ValueError(f"it is in the format {fields['format']}, known is {FORMAT}")
        salt, nonce, sealed = (
            base64.b64decode(fields[key], validate=True) for key in ("salt", "nonce", "sealed")
        )
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"its nonce has {len(nonce)} bytes")
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no envelope: {error}") from None
    try:
        return crypto.aead.ChaCha20Poly1305(_key(secret, salt)).decrypt(nonce, sealed, _covered(name))
    except crypto.exceptions.InvalidTag:
        raise ValueError("it was encrypted with another secret, or changed since") from None


def _key(secret: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(
        secret, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=_SCRYPT_BYTES_MAX, dklen=KEY_BYTES
    )


def _covered(name: str) -> bytes:
    return pre_authentication_encoding(LABEL, name.encode())
