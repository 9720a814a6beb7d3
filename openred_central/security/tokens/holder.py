"""Proof of possession: the node that shows a token of a pair has the private key that the token names.

Both nodes hold both tokens of a pair. One sends a challenge of 32 random bytes; the other signs it together
with its node id and the pair, and sends the signature with its public key; then they change roles. A copied
token is useless without the key, and a proof cannot be sent back to its maker or used for another pair.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from ...encoding import key_id, pre_authentication_encoding
from ..refusals import VerificationError
from .link import Pair

LABEL = b"openred/3 pop"
CHALLENGE_BYTES = 32


class PossessionProof(NamedTuple):
    """The answer to a challenge: the public key as DER SubjectPublicKeyInfo, and a signature by it."""

    spki: bytes
    signature: bytes


def challenge(entropy: Callable[[int], bytes]) -> bytes:
    """Return a challenge, to be used once. `entropy` gives random bytes."""
    return entropy(CHALLENGE_BYTES)


def message(pair: Pair, node_id: str, challenged: bytes) -> bytes:
    """Return what the node called `node_id` signs to answer `challenged`.

    It is the pre-authentication encoding of a label, `node_id`, the challenge, the SHA-256 of both tokens'
    text in the order of their node ids, and the link. Raises `ValueError` where the node is not of the pair.
    """
    if node_id not in (pair.a.node_id, pair.b.node_id):
        raise ValueError(f"{node_id} is none of the two nodes of the pair")
    sides = sorted([(pair.a.node_id, pair.text_a), (pair.b.node_id, pair.text_b)])
    digests = [hashlib.sha256(text.encode()).digest() for _, text in sides]
    return pre_authentication_encoding(
        LABEL, node_id.encode(), challenged, *digests, (pair.a.link or "").encode()
    )


def prove(
    pair: Pair, node_id: str, challenged: bytes, spki: bytes, sign: Callable[[bytes], bytes]
) -> PossessionProof:
    """Answer a challenge as the node called `node_id`, whose key is `spki` and signs with `sign`.

    Raises `ValueError` where the challenge has another length, or the node is not of the pair.
    """
    if len(challenged) != CHALLENGE_BYTES:
        raise ValueError(f"a challenge has {CHALLENGE_BYTES} bytes, this one {len(challenged)}")
    return PossessionProof(spki, sign(message(pair, node_id, challenged)))


def check_holder(
    pair: Pair,
    node_id: str,
    challenged: bytes,
    proof: PossessionProof,
    verify: Callable[[bytes, bytes, bytes], bool],
) -> None:
    """Raise unless `proof` shows that the sender holds the key which the token about `node_id` names.

    `challenged` is the challenge that was sent, `pair` comes from `cross_verify`; `verify` takes SPKI,
    signature and message. Raises `VerificationError` with the reason ``no_key``, ``wrong_key`` or ``proof``.
    """
    tokens = {token.node_id: token for token in (pair.a, pair.b)}
    named = tokens[node_id].key_id if node_id in tokens else None
    if named is None:
        raise VerificationError(
            "no_key",
            f"the pair names no key of {node_id}, because {node_id} has proven none to the directory",
        )
    if not hmac.compare_digest(key_id(proof.spki), named):
        raise VerificationError(
            "wrong_key", f"the key shown is not the one that the token about {node_id} names"
        )
    if not verify(proof.spki, proof.signature, message(pair, node_id, challenged)):
        raise VerificationError(
            "proof", f"the signature does not show that {node_id} answered this challenge"
        )
