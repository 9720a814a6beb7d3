"""Nodes whose keys the load holds: what signs heartbeats, has sessions and asks for tokens.

A node signs sixteen times a minute at most, so there are many of them. Each Ed25519 node has a key of its
own, made of a secret and its number; RSA nodes share a few, for one takes 80 ms to make.
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
# As many as a run of the load may speak of.
KEYS_KEPT_MAX = 65_536


class Signers(NamedTuple):
    """Such nodes of both kinds, as many as one likes: their names begin with `prefix`."""

    prefix: str
    secret: bytes
    rsa_pems: tuple[bytes, ...] = ()

    def node_id(self, kind: str, number: int) -> str:
        """The name of a node: 15 characters where `prefix` is empty."""
        return f"{self.prefix}{kind}-{number:0{14 - len(kind)}d}"

    def key(self, kind: str, number: int) -> PrivateKey:
        """The key of a node."""
        if kind == RSA:
            return _rsa_key(self.rsa_pems[number % len(self.rsa_pems)])
        return _ed25519_key(self.secret, number)

    def document(self, kind: str, number: int) -> dict[str, Any]:
        """What such a node registers with: what others do, but for its key."""
        told = population.document(number, self.node_id(kind, number))
        return {**told, "public_key": self.key(kind, number).public_text}

    def record(self, kind: str, number: int, slot: int) -> Record:
        """Its record once it has signed, as a store has it."""
        usual = population.record(slot)
        told = population.profile(slot, self.key(kind, number).public_text)
        flags = usual.flags | KEYED | PROVEN
        return usual._replace(node_id=self.node_id(kind, number), flags=flags, profile=told.encode())

    def signed(self, kind: str, number: int, authority: str, path: str, body: bytes = b"") -> str:
        """The header fields, each with its line ending, that sign a POST by a node now."""
        key, nonce = self.key(kind, number), os.urandom(16).hex()
        fields = signed_headers("POST", authority, path, body, key, int(time()), nonce)
        return "".join(f"{name}: {value}\r\n" for name, value in fields)


def new_signers(prefix: str, *, rsa: bool = True) -> Signers:
    """Signers with new keys; those with RSA take half a second."""
    pems = tuple(PrivateKey.generate_rsa().to_pem() for _ in range(RSA_KEYS * rsa))
    return Signers(prefix, os.urandom(SECRET_BYTES), pems)


@lru_cache(KEYS_KEPT_MAX)
def _ed25519_key(secret: bytes, number: int) -> PrivateKey:
    seed = sha256(b"%b/%d" % (secret, number)).digest()
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(seed))


@lru_cache
def _rsa_key(pem: bytes) -> PrivateKey:
    return PrivateKey.from_pem(pem)
