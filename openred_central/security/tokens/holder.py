"""Proof of possession: whoever shows a token of a pair also has the private key that the token names.

Both nodes hold both tokens of a pair. One sends a challenge of 32 random bytes; the other signs it together
with its node id and the pair, and sends the signature with its public key; then the other way round. A copied
token is of no use without the key, and no proof can be sent back to its maker or used for another pair.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from ...encoding import key_id, pre_authentication_encoding
from ..refused import Refused
from .link import Pair

LABEL = b"openred/3 pop"
CHALLENGE_BYTES = 32


class Proof(NamedTuple):
    """The answer to a challenge: the public key as DER SubjectPublicKeyInfo, and a signature by it."""

    spki: bytes
    signature: bytes


def challenge(entropy: Callable[[int], bytes]) -> bytes:
    """A challenge, to be used once. `entropy` gives random bytes."""
    return entropy(CHALLENGE_BYTES)


def message(pair: Pair, node_id: str, challenged: bytes) -> bytes:
    """What the node called `node_id` signs to answer `challenged`.

    It is the pre-authentication encoding of a label, `node_id`, the challenge, the SHA-256 of both tokens'
    text, that of the node which sorts first before the other, and the link.
    """
    if node_id not in (pair.a.node_id, pair.b.node_id):
        raise ValueError(f"{node_id} is none of the two nodes of the pair")
    sides = sorted([(pair.a.node_id, pair.text_a), (pair.b.node_id, pair.text_b)])
    digests = [hashlib.sha256(text.encode()).digest() for _, text in sides]
    return pre_authentication_encoding(
        LABEL, node_id.encode(), challenged, *digests, (pair.a.link or "").encode()
    )


def prove(pair: Pair, node_id: str, challenged: bytes, spki: bytes, sign: Callable[[bytes], bytes]) -> Proof:
    """Answer a challenge as the node called `node_id`, whose key is `spki` and signs with `sign`.

    Raises `ValueError` where the challenge has another length, or the node is none of the pair.
    """
    if len(challenged) != CHALLENGE_BYTES:
        raise ValueError(f"a challenge has {CHALLENGE_BYTES} bytes, this one {len(challenged)}")
    return Proof(spki, sign(message(pair, node_id, challenged)))


def check_holder(
    pair: Pair,
    node_id: str,
    challenged: bytes,
    proof: Proof,
    verify: Callable[[bytes, bytes, bytes], bool],
) -> None:
    """Return where `proof` shows that the sender holds the key which the token about `node_id` names.

    `challenged` is what we sent, `pair` comes from `cross_verify`; `verify` is given SPKI, signature and
    message. Raises `Refused` with the reason ``no_key``, ``wrong_key`` or ``proof``.
    """
    tokens = {token.node_id: token for token in (pair.a, pair.b)}
    named = tokens[node_id].key_id if node_id in tokens else None
    if named is None:
        raise Refused("no_key", f"the pair names no key of {node_id}: the directory has never seen it proven")
    if not hmac.compare_digest(key_id(proof.spki), named):
        raise Refused("wrong_key", f"the key shown is not the one that the token about {node_id} names")
    if not verify(proof.spki, proof.signature, message(pair, node_id, challenged)):
        raise Refused("proof", f"the signature does not show that {node_id} answered this challenge")
