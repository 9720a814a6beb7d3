"""The directory's own keys, in four suites. A key's suite is part of its id, so neither can change alone.

- ``r``: RSA-2048, PSS with SHA-256 and a salt of 32 bytes. For keys that live a day.
- ``R``: RSA-3072, the same. 128 bits against classical computers.
- ``e``: Ed25519 (RFC 8032). 128 bits against classical computers.
- ``h``: ML-DSA-65 and RSA-3072 together (`composite`). Quantum-safe.

RSA checks faster than Ed25519, and many peers check one token; Ed25519 signs faster. In all suites, public
keys are DER SubjectPublicKeyInfo and private ones PKCS#8 (RFC 5958).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from ... import crypto
from ...encoding import (
    ED25519_KEY_BYTES,
    ED25519_SPKI_PREFIX,
    base64url,
    pem_content,
    pre_authentication_encoding,
)
from ..node_keys import check_point
from .composite import (
    PUBLIC_KEY_BYTES,
    RSA_EXPONENT,
    SIGNATURE_BYTES,
    CompositePrivateKey,
    CompositePublicKey,
    sign_pss,
    verify_pss,
)

if TYPE_CHECKING:
    from ...crypto import ed25519, rsa

    PrivateHalf = CompositePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

PRIVATE_KEY = "PRIVATE KEY"
# Tokens name their key by the first characters of its id: 96 bits.
SHORT_ID_CHARS = 16


class Suite(NamedTuple):
    """One way of signing: its letter in tokens, its name for people, and the bits of its RSA key, if any."""

    letter: str
    name: str
    rsa_bits: int
    signature_bytes: int
    quantum_safe: bool = False

    @property
    def signs_fast(self) -> bool:
        """True if a signature takes so little time that it needs no thread."""
        return self.rsa_bits == 0


SUITES = {
    suite.letter: suite
    for suite in (
        Suite("r", "rsa2048-pss-sha256", 2_048, 256),
        Suite("R", "rsa3072-pss-sha256", 3_072, 384),
        Suite("e", "ed25519", 0, 64),
        Suite("h", "mldsa65-rsa3072-pss-sha512", 3_072, SIGNATURE_BYTES, quantum_safe=True),
    )
}

# AlgorithmIdentifier of id-MLDSA65-RSA3072-PSS-SHA512, 1.3.6.1.5.5.7.6.41, without parameters.
_COMPOSITE_ALGORITHM = bytes.fromhex("300a06082b06010505070629")
# The bytes before the 2,350 of a composite public key in its SubjectPublicKeyInfo.
COMPOSITE_SPKI_PREFIX = bytes.fromhex("3082093f") + _COMPOSITE_ALGORITHM + bytes.fromhex("0382092f00")

_SELF_TEST = b"openred/3 self-test"


class SuiteUnsupported(ValueError):
    """The suite of a key cannot be used by this installation. The message is for people."""


def suite_of(letter: str) -> Suite:
    """Return the suite called `letter`. Raises `ValueError` where there is none."""
    if letter not in SUITES:
        raise ValueError(f"no suite is called {letter!r}; there are {', '.join(SUITES)}")
    return SUITES[letter]


def directory_key_id(suite: str, spki: bytes) -> str:
    """Return the 43 characters that name a key of the directory and its suite, even where they do not fit."""
    named = pre_authentication_encoding(b"openred/3 directory key", suite.encode(), spki)
    return base64url(hashlib.sha256(named).digest())


class VerifyingKey:
    """The public half of a directory's key: `suite` is a letter of `SUITES`, `spki` its DER.

    Raises `ValueError` for a key that is not of the suite, `SuiteUnsupported` for suite ``h`` where this
    installation has no ML-DSA.
    """

    def __init__(self, suite: str, spki: bytes) -> None:
        self.suite = suite_of(suite)
        self.spki = spki
        self._verify: Callable[[bytes, bytes], bool]
        if self.suite.quantum_safe:
            with _needing_mldsa():
                self._verify = _load_composite(spki).verify
        elif self.suite.rsa_bits:
            self._verify = partial(verify_pss, _load_rsa(spki, self.suite))
        else:
            self._verify = partial(_verify_ed25519, _load_ed25519(spki))

    def __repr__(self) -> str:
        return f"VerifyingKey({self.suite.letter!r}, {self.key_id})"

    @cached_property
    def key_id(self) -> str:
        """43 characters that name this key and its suite."""
        return directory_key_id(self.suite.letter, self.spki)

    @property
    def short_id(self) -> str:
        """The characters of the key's id that stand in tokens."""
        return self.key_id[:SHORT_ID_CHARS]

    def pem(self) -> str:
        """Return the key as PEM (RFC 7468 §13)."""
        return _pem("PUBLIC KEY", self.spki)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is by this key and of `message`."""
        return len(signature) == self.suite.signature_bytes and self._verify(signature, message)


class DirectoryKey:
    """A key with its private half, from `generate_key` or `load_key`. Others check with `public`."""

    def __init__(self, suite: str, key: PrivateHalf) -> None:
        self._key = key
        if isinstance(key, CompositePrivateKey):
            spki = COMPOSITE_SPKI_PREFIX + key.public_key()
        else:
            spki = _spki(key.public_key())
        self.public = VerifyingKey(suite, spki)

    def __repr__(self) -> str:
        return f"DirectoryKey({self.public.suite.letter!r}, {self.public.key_id})"

    def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`. Slow unless the suite `signs_fast`: call it in a thread."""
        if isinstance(self._key, crypto.rsa.RSAPrivateKey):
            return sign_pss(self._key, message)
        return self._key.sign(message)

    def pkcs8(self) -> bytes:
        """Return the private key as DER PKCS#8, not encrypted."""
        if isinstance(self._key, CompositePrivateKey):
            return _der(0x30, _der(0x02, b"\0") + _COMPOSITE_ALGORITHM + _der(0x04, self._key.encode()))
        encodings = crypto.serialization
        return self._key.private_bytes(
            encodings.Encoding.DER, encodings.PrivateFormat.PKCS8, encodings.NoEncryption()
        )


def generate_key(suite: str) -> DirectoryKey:
    """Return a new key of that suite. Slow: call it in a thread. Its randomness is OpenSSL's."""
    chosen = suite_of(suite)
    if chosen.quantum_safe:
        with _needing_mldsa():
            return DirectoryKey(suite, CompositePrivateKey.generate())
    if not chosen.rsa_bits:
        return DirectoryKey(suite, crypto.ed25519.Ed25519PrivateKey.generate())
    return DirectoryKey(suite, crypto.rsa.generate_private_key(RSA_EXPONENT, chosen.rsa_bits))


def load_key(suite: str, pkcs8: bytes) -> DirectoryKey:
    """Return the key that `DirectoryKey.pkcs8` wrote, from a file that only we can write.

    RSA's numbers are not checked one by one, which is slow; instead one signature must verify. Raises
    `ValueError` where it is no such key or fails that, and otherwise like `VerifyingKey`.
    """
    private: PrivateHalf
    if suite_of(suite).quantum_safe:
        with _needing_mldsa():
            private = CompositePrivateKey.decode(_composite_private_key(pkcs8))
    else:
        try:
            loaded = crypto.serialization.load_der_private_key(
                pkcs8, password=None, unsafe_skip_rsa_key_validation=True
            )
        except crypto.exceptions.UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from None
        if not isinstance(loaded, crypto.rsa.RSAPrivateKey | crypto.ed25519.Ed25519PrivateKey):
            raise ValueError("neither an RSA key nor an Ed25519 key")
        private = loaded
    key = DirectoryKey(suite, private)
    if not key.public.verify(key.sign(_SELF_TEST), _SELF_TEST):
        raise ValueError("the private key does not fit its public half: what it signs does not verify")
    return key


def private_pem(key: DirectoryKey) -> bytes:
    """Return the private key as PEM (RFC 7468 §10), not encrypted."""
    return _pem(PRIVATE_KEY, key.pkcs8()).encode()


def load_private_pem(suite: str, pem: bytes) -> DirectoryKey:
    """Return the key that `private_pem` wrote. Raises like `load_key`."""
    return load_key(suite, pem_content(PRIVATE_KEY, pem))


@contextmanager
def _needing_mldsa() -> Iterator[None]:
    """Raise `SuiteUnsupported` where the body needs ML-DSA and the installation has none."""
    try:
        yield
    except (ImportError, crypto.exceptions.UnsupportedAlgorithm) as error:
        raise SuiteUnsupported(
            f"it needs ML-DSA-65, which comes with cryptography 48 or newer: {error}"
        ) from None


def _load_composite(spki: bytes) -> CompositePublicKey:
    if (
        not spki.startswith(COMPOSITE_SPKI_PREFIX)
        or len(spki) != len(COMPOSITE_SPKI_PREFIX) + PUBLIC_KEY_BYTES
    ):
        raise ValueError("not the SubjectPublicKeyInfo of a composite key")
    return CompositePublicKey(spki.removeprefix(COMPOSITE_SPKI_PREFIX))


def _load_rsa(spki: bytes, suite: Suite) -> rsa.RSAPublicKey:
    try:
        key = crypto.serialization.load_der_public_key(spki)
    except crypto.exceptions.UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, crypto.rsa.RSAPublicKey):
        raise ValueError(f"suite {suite.letter} needs an RSA key")
    if key.key_size != suite.rsa_bits or key.public_numbers().e != RSA_EXPONENT:
        raise ValueError(f"suite {suite.letter} needs {suite.rsa_bits} bits and exponent {RSA_EXPONENT}")
    # With a second text the key would have a second id.
    if _spki(key) != spki:
        raise ValueError("not the canonical DER of the key")
    return key


def _load_ed25519(spki: bytes) -> ed25519.Ed25519PublicKey:
    point = spki.removeprefix(ED25519_SPKI_PREFIX)
    if ED25519_SPKI_PREFIX + point != spki or len(point) != ED25519_KEY_BYTES:
        raise ValueError("not the SubjectPublicKeyInfo of an Ed25519 key")
    check_point(point)
    return crypto.ed25519.Ed25519PublicKey.from_public_bytes(point)


def _verify_ed25519(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except crypto.exceptions.InvalidSignature:
        return False
    return True


def _spki(key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey) -> bytes:
    encodings = crypto.serialization
    return key.public_bytes(encodings.Encoding.DER, encodings.PublicFormat.SubjectPublicKeyInfo)


def _composite_private_key(pkcs8: bytes) -> bytes:
    """Return the content of the PKCS#8 of a composite key. Raises `ValueError` for anything else."""
    # Its header has one form for lengths of 256 to 65,535 bytes, so it is compared, not parsed.
    header = 4 + len(_der(0x02, b"\0")) + len(_COMPOSITE_ALGORITHM) + 4
    content = pkcs8[header:]
    if _der(0x30, _der(0x02, b"\0") + _COMPOSITE_ALGORITHM + _der(0x04, content)) != pkcs8:
        raise ValueError("not the PKCS#8 of a composite key")
    return content


def _der(tag: int, content: bytes) -> bytes:
    """Return `content` with its tag and length (X.690 §8.1.3), in the shortest form."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
