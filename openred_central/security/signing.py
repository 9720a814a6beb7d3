"""Private keys of nodes: made, kept as PEM, and signed with. The server has none of them; its clients do.

The header fields made here are those that `signatures` reads.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from .node_keys import RSA_BITS_MAX, RSA_BITS_MIN, NodeKey, load_node_key
from .signatures import (
    LABEL,
    NEW_LABEL,
    OLD_LABEL,
    TAG,
    WITH_BODY,
    WITHOUT_BODY,
    content_digest,
    request_base,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


class PrivateKey:
    """A node's key with its private half. `public` is what the directory is told.

    Raises `InvalidKey` for a key that no directory would accept.
    """

    def __init__(self, key: Ed25519PrivateKey | RSAPrivateKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._key = key
        self.public: NodeKey = load_node_key(pem.decode("ascii"))

    @classmethod
    def generate_ed25519(cls) -> PrivateKey:
        """A new Ed25519 key, in 0.1 ms."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def generate_rsa(cls, bits: int = RSA_BITS_MIN) -> PrivateKey:
        """A new RSA key of `bits` bits: 40–60 ms for 2,048, 0.6–1 s for 4,096. Raises `ValueError`."""
        from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

        if not RSA_BITS_MIN <= bits <= RSA_BITS_MAX:
            raise ValueError(f"{bits} bits; allowed for an RSA key are {RSA_BITS_MIN} to {RSA_BITS_MAX}")
        return cls(generate_private_key(public_exponent=65_537, key_size=bits))

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> PrivateKey:
        """The key in `pem` (PKCS#8, or an older form that OpenSSL writes).

        Raises `InvalidKey` for a key that no directory would accept, `ValueError` for anything that is no
        key or does not open with `password`.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem, password)
        except TypeError:
            need = "is encrypted: its password is needed" if password is None else "is not encrypted"
            raise ValueError(f"the private key {need}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("no private key can be read from this; allowed is PEM (PKCS#8)") from None
        if not isinstance(key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
            raise ValueError("the private key is neither Ed25519 nor RSA")
        return cls(key)

    def to_pem(self, password: bytes | None = None) -> bytes:
        """The key as PEM (PKCS#8), encrypted where a `password` is given.

        A password is stretched by the library's few rounds only (2,048 of PBKDF2): take a long random one.
        """
        from cryptography.hazmat.primitives import serialization

        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    @property
    def public_text(self) -> str:
        """What to send as ``public_key``: the canonical text of the public half."""
        return self.public.text

    @property
    def key_id(self) -> str:
        """The name of the key, 43 characters."""
        return self.public.key_id

    def sign(self, message: bytes) -> bytes:
        """A signature of `message` that `node_keys.verify` accepts: 64 bytes, or as many as an RSA key"""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        from .rsa_keys import PSS, RSA_HASH

        return self._key.sign(message, PSS, RSA_HASH)


def signed_headers(
    method: str, authority: str, path: str, body: bytes, key: PrivateKey, created: int, nonce: str
) -> list[tuple[str, str]]:
    """The header fields that sign one request with `key`.

    `authority` is the host and port of the URL, `path` its path, without a query; `body` is empty where
    there is none; `created` is now in seconds of Unix time; `nonce` is 16 to 64 characters that were never
    used with this key within a minute, such as the base64url of 16 random bytes.
    """
    return _headers(method, authority, path, body, {LABEL: key}, created, nonce)


def rotation_headers(
    authority: str, path: str, body: bytes, old: PrivateKey | None, new: PrivateKey, created: int, nonce: str
) -> list[tuple[str, str]]:
    """The header fields of a ``POST`` that exchanges the key `old` of a node for the key `new`.

    `old` is None where the key is lost and `new` is the one whose id was registered in advance. The other
    arguments are as in `signed_headers`.
    """
    keys = {NEW_LABEL: new} if old is None else {OLD_LABEL: old, NEW_LABEL: new}
    return _headers("POST", authority, path, body, keys, created, nonce)


def _headers(
    method: str,
    authority: str,
    path: str,
    body: bytes,
    keys: dict[str, PrivateKey],
    created: int,
    nonce: str,
) -> list[tuple[str, str]]:
    digest = content_digest(body) if body else ""
    inputs, signatures = [], []
    for label, key in keys.items():
        parameters = (
            f"{WITH_BODY if body else WITHOUT_BODY};created={created};"
            f'nonce="{nonce}";keyid="{key.key_id}";tag="{TAG}"'
        )
        signature = key.sign(request_base(method, authority, path, digest, parameters))
        inputs.append(f"{label}={parameters}")
        signatures.append(f"{label}=:{base64.b64encode(signature).decode('ascii')}:")
    fields = [("Signature-Input", ", ".join(inputs)), ("Signature", ", ".join(signatures))]
    return [("Content-Digest", digest), *fields] if digest else fields
