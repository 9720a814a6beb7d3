"""Secret values in a database that others can read: sealed with the key secret of the operators.

A sealed value is a byte for the version, a nonce, and ChaCha20-Poly1305 (RFC 8439) of the value under a key
that follows from the secret. The name of the value is authenticated with it: two sealed values cannot be
exchanged for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .. import crypto
from ..encoding import pre_authentication_encoding
from .key_secret import derived_key

VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12

_LABEL: Final = b"openred/3 sealed value"
_PURPOSE: Final = "sealing"


class Sealer:
    """The seal of the key secret `secret`. Values that were sealed with one of `others` open, too.

    `others` are the secrets before and after this one, while instances exchange it one after another.
    `entropy` gives random bytes. Slow: it derives a key of each secret.
    """

    def __init__(
        self, secret: bytes, others: Sequence[bytes] = (), *, entropy: Callable[[int], bytes]
    ) -> None:
        self._entropy = entropy
        self._ciphers = [
            crypto.aead.ChaCha20Poly1305(derived_key(each, _PURPOSE)) for each in (secret, *others)
        ]

    def seal(self, name: str, value: bytes) -> bytes:
        """Return `value` sealed for its `name`."""
        nonce = self._entropy(NONCE_BYTES)
        return VERSION + nonce + self._ciphers[0].encrypt(nonce, value, _covered(name))

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """Return the value that `seal` sealed for `name`.

        Raises `ValueError` for another secret, another name, any change, or another version.
        """
        return self._open(name, sealed)[0]

    def renewed(self, name: str, sealed: bytes) -> bytes | None:
        """Return the value sealed anew if another secret than the first one sealed it, else None.

        Raises what `unseal` raises.
        """
        value, is_current = self._open(name, sealed)
        return None if is_current else self.seal(name, value)

    def _open(self, name: str, sealed: bytes) -> tuple[bytes, bool]:
        """Return the value, and whether the first secret sealed it."""
        if not sealed.startswith(VERSION):
            raise ValueError(
                f"the sealed value {name} is of version {sealed[:1].hex() or 'none'}, known is "
                f"{VERSION.hex()}; a newer program wrote it, or it is damaged"
            )
        nonce, content = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        if len(nonce) == NONCE_BYTES:
            for number, cipher in enumerate(self._ciphers):
                try:
                    return cipher.decrypt(nonce, content, _covered(name)), number == 0
                except crypto.exceptions.InvalidTag:
                    continue
        raise ValueError(
            f"the sealed value {name} does not open: it was sealed with another key secret or for another "
            "name, or changed since"
        )


def _covered(name: str) -> bytes:
    return pre_authentication_encoding(_LABEL, name.encode())
