"""Nodes whose keys the load holds, for signed heartbeats, sessions and tokens.

A node may sign sixteen times a minute, so there are many of them. Each Ed25519 node has its own key, derived
from a secret and its number. RSA nodes share a few keys, because making one takes long.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import sha256
from time import time
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openred_central.directory.state.node import KEYED, PROVEN, Record
from openred_central.security.signing import PrivateKey, signed_headers

from . import population

ED25519, RSA = "ed25519", "rsa"
RSA_KEYS = 8
SECRET_BYTES = 32
KEYS_KEPT_MAX = 65_536


class Signers(NamedTuple):
    """Any number of such nodes with each kind of key; their ids begin with `prefix`."""

    prefix: str
    secret: bytes
    rsa_pems: tuple[bytes, ...] = ()

    def node_id(self, kind: str, number: int) -> str:
        """Return the id of a node: 15 characters if `prefix` is empty."""
        return f"{self.prefix}{kind}-{number:0{14 - len(kind)}d}"

    def key(self, kind: str, number: int) -> PrivateKey:
        """Return the key of a node."""
        if kind == RSA:
            return _rsa_key(self.rsa_pems[number % len(self.rsa_pems)])
        return _ed25519_key(self.secret, number)

    def document(self, kind: str, number: int) -> dict[str, Any]:
        """Return the registration of a node: that of the population, with its own key."""
        usual = population.document(number, self.node_id(kind, number))
        return {**usual, "public_key": self.key(kind, number).public_text}

    def record(self, kind: str, number: int, slot: int) -> Record:
        """Return the stored record of a node that has signed."""
        usual = population.record(slot)
        profile = population.profile(slot, self.key(kind, number).public_text)
        flags = usual.flags | KEYED | PROVEN
        return usual._replace(node_id=self.node_id(kind, number), flags=flags, profile=profile.encode())

    def signed(self, kind: str, number: int, authority: str, path: str, body: bytes = b"") -> str:
        """Return the header lines, each with its line ending, that sign a POST by a node now."""
        key, nonce = self.key(kind, number), os.urandom(16).hex()
        fields = signed_headers("POST", authority, path, body, key, int(time()), nonce)
        return "".join(f"{name}: {value}\r\n" for name, value in fields)


def new_signers(prefix: str, *, rsa: bool = True) -> Signers:
    """Return signers with new keys."""
    pems = tuple(PrivateKey.generate_rsa().to_pem() for _ in range(RSA_KEYS * rsa))
    return Signers(prefix, os.urandom(SECRET_BYTES), pems)


@lru_cache(KEYS_KEPT_MAX)
def _ed25519_key(secret: bytes, number: int) -> PrivateKey:
    seed = sha256(b"%b/%d" % (secret, number)).digest()
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(seed))


@lru_cache
def _rsa_key(pem: bytes) -> PrivateKey:
    return PrivateKey.from_pem(pem)
