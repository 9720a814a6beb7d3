"""Bytes as text that has exactly one form, keys as text, and pieces of bytes joined unambiguously. Pure.

Keys are DER SubjectPublicKeyInfo (RFC 5280 §4.1). It begins alike for all Ed25519 keys, so that memory holds
only the 32 bytes of the key itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterable

# Begin of the DER of every Ed25519 SubjectPublicKeyInfo (RFC 8410 §4); the key's 32 bytes follow.
ED25519_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
ED25519_KEY_BYTES = 32
# The ids of keys (a SHA-256) and of tokens (128 random bits), both as `base64url`.
KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}")
TOKEN_ID = re.compile(r"[A-Za-z0-9_-]{22}")
ENTITY_TAG_BYTES = 16
_LENGTH = struct.Struct("<Q").pack
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def base64url(content: bytes) -> str:
    """Return `content` as base64url without padding (RFC 4648 §5)."""
    # Faster than `base64.urlsafe_b64encode`.
    text = binascii.b2a_base64(content, newline=False).translate(_URL_SAFE)
    return text.rstrip(b"=").decode("ascii")


def base64url_of_digests(digests: Iterable[bytes]) -> list[str]:
    """Return the `base64url` of each digest of 32 bytes: cheaper than one by one."""
    # A digest and one more byte are 44 characters of base64, the last of which comes from that byte alone.
    text = base64.urlsafe_b64encode(b"\0".join([*digests, b""])).decode("ascii")
    return [text[start : start + 43] for start in range(0, len(text), 44)]


def decode_base64url(text: str) -> bytes:
    """Decode the output of `base64url`. Raise `ValueError` for other text, such as with padding."""
    # Python's decoders ignore unknown characters and unused bits, which would give one content many forms.
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ValueError("not base64url") from None
    if base64url(content) != text:
        raise ValueError("not base64url in its one form")
    return content


def decode_base64(text: str) -> bytes:
    """Decode padded base64 (RFC 4648 §4). Raise `ValueError` for any other form."""
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ValueError("not base64") from None
    if binascii.b2a_base64(content, newline=False).decode("ascii") != text:
        raise ValueError("not base64 in its one form")
    return content


def pem_content(label: str, text: bytes) -> bytes:
    """Decode PEM (RFC 7468 §3) with the given `label`. Raise `ValueError` for other text."""
    lines = text.decode("ascii").splitlines()
    if len(lines) < 3 or lines[0] != f"-----BEGIN {label}-----" or lines[-1] != f"-----END {label}-----":
        raise ValueError(f"not a {label.lower()} in PEM")
    return base64.b64decode("".join(lines[1:-1]), validate=True)


def pre_authentication_encoding(*pieces: bytes) -> bytes:
    """Return `pieces` as one byte string that no other pieces yield.

    The count and every length precede what they count as 64-bit little-endian numbers (PASETO, "Common
    Implementation Details", PAE).
    """
    encoded = _LENGTH(len(pieces))
    for piece in pieces:
        encoded += _LENGTH(len(piece)) + piece
    return encoded


def key_text(spki: bytes) -> str:
    """Return the canonical text of a key: base64 of the 32 bytes for Ed25519, of the DER for other keys."""
    content = spki.removeprefix(ED25519_SPKI_PREFIX)
    return binascii.b2a_base64(content, newline=False).decode("ascii")


def spki_of(text: str) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a canonical text. Raise `ValueError` for other text."""
    content = decode_base64(text)
    return ED25519_SPKI_PREFIX + content if len(content) == ED25519_KEY_BYTES else content


def kept_spki(text: str) -> bytes:
    """Return the DER of a text that is known to be canonical, without the check of `spki_of`."""
    content = binascii.a2b_base64(text)
    return ED25519_SPKI_PREFIX + content if len(content) == ED25519_KEY_BYTES else content


def key_id(spki: bytes) -> str:
    """Return the name of a key (``kid``), 43 characters: base64url SHA-256 of its SubjectPublicKeyInfo."""
    return base64url(hashlib.sha256(spki).digest())


def entity_tag(content: bytes) -> str:
    """Return a strong entity tag (RFC 9110 §8.8.3) that follows from `content`."""
    return f'"{base64url(hashlib.sha256(content).digest()[:ENTITY_TAG_BYTES])}"'
