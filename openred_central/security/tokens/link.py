"""The mathematical link: it binds two tokens so that either node can check that alone, without the directory.

The directory makes two tokens at once, one about each node, for the other. The link is a hash over both
nodes, both keys, both tokens' ids and their times; it stands in both tokens. No token tells the id of its
counterpart, so the link commits to exactly these two: two tokens for the same nodes from two requests do not
fit together.

That the directory made them is shown by its signatures. The triple hash does not make collisions harder to
find than the SHA-256 around it does; what the link adds is the exact pairing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from ...encoding import base64url, pre_authentication_encoding
from ..refused import Refused
from .tokens import PeerToken, TokenKeys, new_token_id, verify_token

LABEL = b"openred/3 link"
PAIR_BYTES = 16


class Side(NamedTuple):
    """One of two nodes: its id, the id of its proven key or None, and the generation of that key."""

    node_id: str
    key_id: str | None
    generation: int


class Pair(NamedTuple):
    """Two tokens that belong together, as text and as what they say."""

    text_a: str
    text_b: str
    a: PeerToken
    b: PeerToken


class LinkResult(NamedTuple):
    """`valid`: both tokens are; `linked`: and they belong together; `reason`: why not, else empty.

    `pair` is there where they are linked.
    """

    valid: bool
    linked: bool
    reason: str
    pair: Pair | None = None


def triple_hash(data: str, salt: str) -> str:
    """64 hex digits: SHA-256 over the hex SHA-256, SHA-512 and BLAKE2b (64 bytes) of ``data:salt``.

    The three are joined with colons. `data` must have none, so that it can be told from `salt`.
    """
    content = f"{data}:{salt}".encode()
    digests = (
        hashlib.sha256(content).hexdigest(),
        hashlib.sha512(content).hexdigest(),
        hashlib.blake2b(content).hexdigest(),
    )
    return hashlib.sha256(":".join(digests).encode()).hexdigest()


def link(a: PeerToken, b: PeerToken, pair: str) -> str:
    """The link of two tokens, the same whichever comes first. `pair` is the random text that they share.

    Hashed is the pre-authentication encoding of the label, of node id, key id (empty where there is none) and
    token id of either node in the order of these three, and of the times of the tokens as decimal digits.
    """
    sides = sorted((token.node_id, token.key_id or "", token.token_id) for token in (a, b))
    pieces = [*sides[0], *sides[1], str(a.issued_at), str(a.expires_at)]
    encoded = pre_authentication_encoding(LABEL, *(piece.encode() for piece in pieces))
    return triple_hash(base64url(encoded), pair)


def new_pair(
    a: Side, b: Side, purpose: str, issued_at: int, lifetime_s: int, entropy: Callable[[int], bytes]
) -> tuple[PeerToken, PeerToken]:
    """Two tokens that belong together, still to be signed: the first about `a`, the second about `b`.

    `issued_at` is the wall time and `entropy` gives random bytes. Raises `ValueError` where `a` is `b`.
    """
    if a.node_id == b.node_id:
        raise ValueError(f"a pair needs two nodes, {a.node_id} is one")
    pair = entropy(PAIR_BYTES).hex()
    first, second = (
        PeerToken(
            token_id=new_token_id(entropy),
            node_id=mine.node_id,
            key_id=mine.key_id,
            audience=theirs.node_id,
            peer_key_id=theirs.key_id,
            issued_at=issued_at,
            expires_at=issued_at + lifetime_s,
            generation=mine.generation,
            purpose=purpose,
            pair=pair,
        )
        for mine, theirs in ((a, b), (b, a))
    )
    linked = link(first, second, pair)
    return first._replace(link=linked), second._replace(link=linked)


def cross_verify(text_a: str, text_b: str, keys: TokenKeys, now_s: float) -> LinkResult:
    """Whether two tokens are valid at wall time `now_s` and belong together. Needs no network.

    `keys` as in `verify_token`. What this cannot know: whether one was revoked since, which the directory
    tells. Whether the peer holds the key that its token names is shown by a proof of possession (`holder`).
    """
    tokens = []
    for name, text in (("a", text_a), ("b", text_b)):
        try:
            tokens.append(verify_token(text, keys, now_s))
        except Refused as refused:
            return LinkResult(False, False, f"token {name}: {refused.message}")
    a, b = tokens
    if reason := _unlinked(a, b):
        return LinkResult(True, False, reason)
    return LinkResult(True, True, "", Pair(text_a, text_b, a, b))


def _unlinked(a: PeerToken, b: PeerToken) -> str:
    """Why two valid tokens do not belong together; empty where they do."""
    if a.node_id == b.node_id:
        return "both tokens are about the same node"
    if a.node_id != b.audience or b.node_id != a.audience:
        return "the tokens are not for each other's nodes"
    if a.key_id != b.peer_key_id or b.key_id != a.peer_key_id:
        return "the tokens name different keys for the same node"
    if a.pair is None or b.pair is None or a.link is None or b.link is None:
        return "a token that was made alone has no counterpart"
    if (a.pair, a.issued_at, a.expires_at) != (b.pair, b.issued_at, b.expires_at):
        return "the tokens were not made together"
    computed = link(a, b, a.pair)
    # `&`, not `and`: how long this takes tells nothing.
    if not hmac.compare_digest(computed, a.link) & hmac.compare_digest(computed, b.link):
        return "the link in the tokens is not that of these two tokens"
    return ""
