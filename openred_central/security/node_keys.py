"""The keys of nodes: which are accepted, in which forms they may come, and what they have signed.

A node's key is Ed25519 (RFC 8032), or RSA of 2,048 to 4,096 bits with the exponent 65,537. It is kept as DER
SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) in every case, whose SHA-256 is its name.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from .. import crypto
from ..encoding import ED25519_KEY_BYTES, ED25519_SPKI_PREFIX, decode_base64, key_id, key_text

if TYPE_CHECKING:
    from ..crypto import padding

Kind = Literal["ed25519", "rsa"]

# The one algorithm of each kind of key, by its name in the registry of RFC 9421 §6.2.
ALGORITHMS: dict[Kind, str] = {"ed25519": "ed25519", "rsa": "rsa-pss-sha512"}

# An RSA-4096 key takes 1,080 characters as base64 of PEM.
KEY_TEXT_CHARACTERS_MAX = 2_048
RSA_BITS_MIN = 2_048
# OpenSSL takes larger moduli and exponents, with which one check costs many times as much.
RSA_BITS_MAX = 4_096
RSA_EXPONENT = 65_537
# rsa-pss-sha512 of RFC 9421 §3.3.1: MGF1 with SHA-512, and a salt as long as the digest.
SALT_BYTES = 64
_SMALL_FACTORS_BELOW = 1_000

# The field of Curve25519. A point is encoded as y, with the sign of x in the highest bit (RFC 8032 §5.1.2).
_P = 2**255 - 19
_SIGN_BIT = 1 << 255
# The y of the points whose order divides 8. With such a key one constant signature fits every message, so
# it proves nothing; OpenSSL loads these keys nevertheless. p and p+1 are other ways to write 0 and 1.
_SMALL_ORDER_Y = frozenset(
    {0, 1, _P - 1, _P, _P + 1}
    | {
        int.from_bytes(bytes.fromhex(encoded), "little")
        for encoded in (
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        )
    }
)

_PEM = re.compile(r"\s*-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----\s*", re.ASCII)
_PEM_BEGIN = "-----BEGIN "
_WHITESPACE = re.compile(r"[ \t\r\n]+")

_FORMS = (
    "allowed are PEM that begins with -----BEGIN PUBLIC KEY-----, base64 of such PEM, base64 of the DER "
    "SubjectPublicKeyInfo, and base64 of the 32 bytes of an Ed25519 key"
)
_KINDS = "allowed are Ed25519, and RSA of {} to {} bits with the exponent 65537"


class InvalidKey(ValueError):
    """A public key that is not accepted. The message says what is wrong and what is allowed."""


class RefusedKey(InvalidKey):
    """A readable key that is refused: it is weak, expensive to check, of another kind, or private."""


class NodeKey(NamedTuple):
    """An accepted key: its `kind`, its DER `spki`, its canonical `text`."""

    kind: Kind
    spki: bytes
    text: str

    @property
    def key_id(self) -> str:
        """The name of the key, 43 characters; most registrations never need it."""
        return key_id(self.spki)


def load_node_key(text: str, *, rsa_bits_min: int = RSA_BITS_MIN) -> NodeKey:
    """Return the key in `text`: PEM, base64 of PEM, base64 of DER, or base64 of 32 raw bytes (Ed25519).

    Raises `InvalidKey` for any other text, and its subclass `RefusedKey` for keys that are weak, expensive to
    check, or of another kind. An RSA key must have at least `rsa_bits_min` bits.
    """
    if len(text) > KEY_TEXT_CHARACTERS_MAX:
        raise InvalidKey(f"The key has {len(text)} characters, allowed are {KEY_TEXT_CHARACTERS_MAX}.")
    der = _der_of(text)
    if len(der) == ED25519_KEY_BYTES:
        der = ED25519_SPKI_PREFIX + der
    if der.startswith(ED25519_SPKI_PREFIX) and len(der) == len(ED25519_SPKI_PREFIX) + ED25519_KEY_BYTES:
        check_point(der[len(ED25519_SPKI_PREFIX) :])
        return NodeKey("ed25519", der, key_text(der))
    _check_rsa(der, rsa_bits_min)
    return NodeKey("rsa", der, key_text(der))


def kind_of(spki: bytes) -> Kind:
    return "ed25519" if spki.startswith(ED25519_SPKI_PREFIX) else "rsa"


def verify(spki: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether `signature` is one of `message` by the accepted key `spki`.

    The key alone decides the algorithm: Ed25519 (RFC 8032 §5.1.7), or RSA-PSS with SHA-512, MGF1 with
    SHA-512 and a salt of 64 bytes (RFC 9421 §3.3.1). Bytes that are no such key verify nothing: a damaged
    store may hold them.
    """
    if not spki.startswith(ED25519_SPKI_PREFIX):
        return _verify_rsa(spki, signature, message)
    try:
        key = crypto.ed25519.Ed25519PublicKey.from_public_bytes(spki[len(ED25519_SPKI_PREFIX) :])
        key.verify(signature, message)
    except (crypto.exceptions.InvalidSignature, ValueError):
        return False
    return True


@functools.cache
def rsa_padding() -> padding.PSS:
    """Return the one padding by which the RSA keys of nodes sign."""
    return crypto.padding.PSS(mgf=crypto.padding.MGF1(crypto.hashes.SHA512()), salt_length=SALT_BYTES)


def _verify_rsa(spki: bytes, signature: bytes, message: bytes) -> bool:
    try:
        # Parsed for each check: to keep parsed keys would cost more memory than a node.
        key = crypto.serialization.load_der_public_key(spki)
        if not isinstance(key, crypto.rsa.RSAPublicKey):
            return False
        key.verify(signature, message, rsa_padding(), crypto.hashes.SHA512())
    except (crypto.exceptions.InvalidSignature, ValueError, crypto.exceptions.UnsupportedAlgorithm):
        return False
    return True


def _der_of(text: str) -> bytes:
    if _PEM_BEGIN in text:
        return _der_of_pem(text)
    content = _decode(_WHITESPACE.sub("", text))
    if content.startswith(_PEM_BEGIN.encode()):
        try:
            return _der_of_pem(content.decode("ascii"))
        except UnicodeDecodeError:
            raise InvalidKey(f"The key is base64 of broken PEM; {_FORMS}.") from None
    return content


def _der_of_pem(text: str) -> bytes:
    block = _PEM.fullmatch(text)
    if block is None:
        raise InvalidKey("The key is broken PEM; allowed is exactly one block of PEM, without header lines.")
    label = block[1]
    if "PRIVATE" in label:
        raise RefusedKey(
            "This is a private key. Keep it to yourself, and send the public key that belongs to it."
        )
    if label != "PUBLIC KEY":
        raise InvalidKey(
            f"The PEM holds {label}, allowed is PUBLIC KEY; "
            "`openssl pkey -pubout` writes it from a private key."
        )
    return _decode(_WHITESPACE.sub("", block[2]))


def _decode(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise InvalidKey(f"The key is neither PEM nor base64 with padding; {_FORMS}.") from None


def check_point(encoded: bytes) -> None:
    """Raise `RefusedKey` unless the 32 bytes are an Ed25519 key in its one form by which signatures prove."""
    y = int.from_bytes(encoded, "little") & ~_SIGN_BIT
    if y in _SMALL_ORDER_Y:
        raise RefusedKey(
            "The Ed25519 key is a point of small order: anybody could sign for it. Generate a new key."
        )
    if y >= _P:
        raise RefusedKey("The Ed25519 key is not encoded as RFC 8032 says: it has a second, shorter form.")


def _check_rsa(der: bytes, bits_min: int) -> None:
    kinds = _KINDS.format(bits_min, RSA_BITS_MAX)
    try:
        key = crypto.serialization.load_der_public_key(der)
    except (ValueError, crypto.exceptions.UnsupportedAlgorithm):
        raise InvalidKey(f"The key cannot be read as a DER SubjectPublicKeyInfo; {_FORMS}.") from None
    if not isinstance(key, crypto.rsa.RSAPublicKey):
        kind = type(key).__name__.removesuffix("PublicKey")
        raise RefusedKey(f"The key is of the kind {kind}; {kinds}.")
    numbers, encodings = key.public_numbers(), crypto.serialization
    if key.public_bytes(encodings.Encoding.DER, encodings.PublicFormat.SubjectPublicKeyInfo) != der:
        raise RefusedKey(
            "The RSA key is not DER in its one form, that of rsaEncryption with NULL parameters."
        )
    bits = numbers.n.bit_length()
    if not bits_min <= bits <= RSA_BITS_MAX:
        raise RefusedKey(f"The RSA key has {bits} bits; {kinds}.")
    if numbers.e != RSA_EXPONENT:
        raise RefusedKey(f"The RSA key has another exponent than 65537; {kinds}.")
    if math.gcd(numbers.n, _small_primes_product()) != 1:
        raise RefusedKey(
            "The modulus of the RSA key has a small factor: it protects nothing. Generate a new key."
        )


@functools.cache
def _small_primes_product() -> int:
    """Return the product of all primes below 1,000: one gcd with it finds any small factor."""
    numbers = range(2, _SMALL_FACTORS_BELOW)
    return math.prod(n for n in numbers if all(n % d for d in range(2, math.isqrt(n) + 1)))
